//! The catalogue: which models exist, under which names, and how large they are. No prices: the filter holds it.

use crate::ids::ModelName;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Who serves a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// api.anthropic.com
    Anthropic,
    /// api.openai.com
    OpenAi,
    /// generativelanguage.googleapis.com, by its OpenAI-compatible paths
    Gemini,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 3] = [Self::Anthropic, Self::OpenAi, Self::Gemini];

    /// The word for it: in allow-lists (`anthropic/*`), in Envoy's cluster names, in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a model is for: which operations serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Conversations, on every conversation API of its provider.
    Chat,
    /// Only `/v1/responses`.
    Responses,
    /// Only `/v1/embeddings`.
    Embedding,
    /// Only `/v1/completions`.
    Completion,
}

/// A model that has a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The provider's own name.
    pub name: ModelName,
    /// Who serves it.
    pub provider: Provider,
    /// What it is for.
    pub mode: Mode,
    /// Other names that people use.
    pub aliases: Vec<String>,
    /// Tokens of input and output together that fit one call.
    pub context_window: u64,
    /// Output tokens of one call at most.
    pub max_output: u64,
    /// The day from which the provider refuses it, where one is announced.
    pub retired: Option<NaiveDate>,
}

/// A name that two models claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguous(pub String);

/// Every model that has a price, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    revision: u64,
    models: Vec<Model>,
    /// From name, alias and `provider/name` to the place in `models`.
    by_name: BTreeMap<String, usize>,
}

impl Catalogue {
    /// A catalogue of these models; `revision` names this content of it.
    ///
    /// # Errors
    /// [`Ambiguous`] names what stands twice.
    pub fn new(revision: u64, models: Vec<Model>) -> Result<Self, Ambiguous> {
        let mut by_name = BTreeMap::new();
        for (index, model) in models.iter().enumerate() {
            let names = model.aliases.iter().map(String::as_str).chain([model.name.as_str()]);
            for name in names {
                if by_name.insert(name.to_owned(), index).is_some_and(|other| other != index) {
                    return Err(Ambiguous(name.to_owned()));
                }
            }
        }
        for (index, model) in models.iter().enumerate() {
            by_name.entry(format!("{}/{}", model.provider, model.name)).or_insert(index);
        }
        Ok(Self { revision, models, by_name })
    }

    /// Names this content.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Every model, in the book's order.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model of this name, alias or `provider/name`, compared on exact bytes.
    pub fn resolve(&self, name: &str) -> Option<&Model> {
        self.by_name.get(name).and_then(|index| self.models.get(*index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, aliases: &[&str]) -> Model {
        Model {
            name: ModelName::new(name),
            provider: Provider::Gemini,
            mode: Mode::Chat,
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
            context_window: 1,
            max_output: 1,
            retired: None,
        }
    }

    #[test]
    fn names_aliases_and_provider_names_resolve_on_exact_bytes() {
        let catalogue =
            Catalogue::new(1, vec![model("g-2", &["g", "gemini/g-2"]), model("g-3", &[])]).unwrap();
        for (name, expected) in [
            ("g-2", Some("g-2")),
            ("g", Some("g-2")),
            ("gemini/g-2", Some("g-2")),
            ("gemini/g-3", Some("g-3")),
            ("G-2", None),
            ("g-2 ", None),
            ("openai/g-3", None),
            ("", None),
        ] {
            assert_eq!(catalogue.resolve(name).map(|m| m.name.as_str()), expected, "{name}");
        }
    }

    #[test]
    fn a_name_belongs_to_one_model() {
        assert_eq!(
            Catalogue::new(1, vec![model("a", &["c"]), model("b", &["c"])]),
            Err(Ambiguous("c".into()))
        );
        assert_eq!(Catalogue::new(1, vec![model("a", &[]), model("b", &["a"])]), Err(Ambiguous("a".into())));
    }
}
