//! Allow-lists: which models an account may use.

use crate::account::AccountKind;
use crate::catalogue::{Catalogue, Model};
use crate::glob;

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// Every model: `*`, or LiteLLM's `all-proxy-models`.
    Any,
    /// No model: LiteLLM's `no-default-models`.
    None,
    /// By who serves it: `anthropic/*`.
    Provider(String),
    /// A name with `*` in it, matched against the model's own name.
    Glob(String),
    /// A name, alias or `provider/name`.
    Exact(String),
}

/// The models that one account allows. An empty list restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    patterns: Vec<Pattern>,
}

impl AllowList {
    /// A list of these patterns, as the admin API takes them.
    pub fn new<T: AsRef<str>>(patterns: impl IntoIterator<Item = T>) -> Self {
        let patterns = patterns.into_iter().filter_map(|text| Pattern::parse(text.as_ref())).collect();
        Self { patterns }
    }

    /// Whether the list restricts nothing.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether the list allows the model. Both sides are compared after aliases are resolved, on exact bytes.
    pub fn allows(&self, model: &Model, catalogue: &Catalogue) -> bool {
        self.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(model, catalogue))
    }
}

impl Pattern {
    /// `None` for LiteLLM's `all-team-models`, which restricts nothing at the key's level: the team's list rules.
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "all-team-models" => return None,
            "*" | "all-proxy-models" => Self::Any,
            "no-default-models" => Self::None,
            _ => match text.strip_suffix("/*") {
                Some(provider) if !provider.contains(['*', '/']) => Self::Provider(provider.to_owned()),
                _ if text.contains('*') => Self::Glob(text.to_owned()),
                _ => Self::Exact(text.to_owned()),
            },
        })
    }

    fn matches(&self, model: &Model, catalogue: &Catalogue) -> bool {
        match self {
            Self::Any => true,
            Self::None => false,
            Self::Provider(provider) => model.provider.as_str() == provider,
            Self::Glob(glob) => {
                let by_provider = format!("{}/{}", model.provider, model.name);
                glob::matches(glob, model.name.as_str()) || glob::matches(glob, &by_provider)
            }
            Self::Exact(name) => catalogue.resolve(name).is_some_and(|named| named.name == model.name),
        }
    }
}

/// The list of one level of a key's accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelList {
    /// Whose list it is.
    pub level: AccountKind,
    /// The list.
    pub list: AllowList,
    /// The patterns as they were written, for messages and the wire.
    pub patterns: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Mode, Provider};
    use crate::ids::ModelName;

    fn catalogue() -> Catalogue {
        let model = |name: &str, provider, alias: &str| Model {
            name: ModelName::new(name),
            provider,
            mode: Mode::Chat,
            aliases: vec![alias.to_owned()],
            context_window: 1,
            max_output: 1,
            retired: None,
        };
        let models = vec![
            model("claude-sonnet-4-20250514", Provider::Anthropic, "claude-sonnet-4"),
            model("gpt-4.1", Provider::OpenAi, "four"),
        ];
        Catalogue::new(1, models).unwrap()
    }

    #[test]
    fn lists_allow_by_name_alias_and_wildcard() {
        let (claude, gpt) = (true, true);
        let table: [(&[&str], (bool, bool)); 16] = [
            (&[], (claude, gpt)),
            (&["*"], (claude, gpt)),
            (&["all-proxy-models"], (claude, gpt)),
            (&["all-team-models"], (claude, gpt)),
            (&["no-default-models"], (false, false)),
            (&["gpt-4.1"], (false, gpt)),
            (&["four"], (false, gpt)),
            (&["claude-sonnet-4"], (claude, false)),
            (&["claude-*"], (claude, false)),
            (&["anthropic/*"], (claude, false)),
            (&["openai/gpt-*"], (false, gpt)),
            (&["openai/gpt-4.1"], (false, gpt)),
            (&["claude-*", "gpt-4.1"], (claude, gpt)),
            (&["GPT-4.1"], (false, false)),
            (&["gpt-4"], (false, false)),
            (&["four*"], (false, false)),
        ];
        let catalogue = catalogue();
        for (patterns, expected) in table {
            let list = AllowList::new(patterns);
            let allows = |name| list.allows(catalogue.resolve(name).unwrap(), &catalogue);
            assert_eq!((allows("claude-sonnet-4"), allows("gpt-4.1")), expected, "{patterns:?}");
        }
    }
}
