//! What an operator says of prices: own models and own prices, discounts and aliases, laid over the price book.
//!
//! It comes in sheets, each by a name of its own, so that a fault names the sheet. The same sheets over the same book are the same book
//! in any order; it says only who is to blame where two contradict each other: the later one. All of them count, or none.

use super::{BookError, PriceBook};
use crate::catalogue::Mode;
use serde::{Deserialize, Serialize};

mod fault;
mod merge;

pub use fault::{SheetError, SheetErrorKind, SheetFault};

const FORMAT: &str = "tollgate-price-overlay/1";

/// All sheets of one operator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    format: String,
    /// The sheets.
    pub sheets: Vec<Sheet>,
}

/// What is said in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sheet {
    /// Of what whoever wrote it calls it, such as `PriceBook platform/prices`.
    pub name: String,
    /// Models that the book does not have, and others whose prices it has not right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<OwnModel>,
    /// Parts off the book's prices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<Discounted>,
    /// More names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<NewAlias>,
}

/// A model with prices of its own. They are final: no discount applies to them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnModel {
    /// `provider/model`, by the provider's own name of it or an alias that the book has of it.
    pub name: String,
    /// What it is for; unset: as the book has it, else [`Mode::Chat`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Tokens of input and output together that fit one call; unset: as the book has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// Output tokens of one call at most; unset: as the book has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// More names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// All of its prices, instead of the book's.
    pub prices: Vec<OwnPrice>,
    /// US dollars for a web search; unset: as the book has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_search: Option<String>,
}

/// Prices of one service tier from one size of request on, in US dollars per million tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnPrice {
    /// The service tier; unset: [`STANDARD`](super::STANDARD), whose other names (`auto`, `default`, ...) are not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// For requests with more input tokens than this; unset: for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above_tokens: Option<u64>,
    /// Of input.
    pub input: String,
    /// Of input that was read from the cache; unset: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<String>,
    /// Of input that was written to the cache for five minutes; unset: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<String>,
    /// Of input that was written to the cache for an hour; unset: as for five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<String>,
    /// Of output.
    pub output: String,
}

/// So much off the prices of a provider's models, or of one: off every class of tokens, every tier, and web searches. What is said of a model
/// counts instead of what is said of its provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Discounted {
    /// A provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Or a model, by any of its names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Such as `15` or `12.5`.
    pub percent: String,
}

/// Another name of a model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewAlias {
    /// The name.
    pub alias: String,
    /// The model, by a name that it has without aliases of overlays.
    pub model: String,
}

impl Overlay {
    /// These sheets.
    pub fn new(sheets: Vec<Sheet>) -> Self {
        Self { format: FORMAT.to_owned(), sheets }
    }

    /// Reads an overlay of the format `tollgate-price-overlay/1`.
    ///
    /// # Errors
    /// [`BookError::Format`].
    pub fn parse(json: &str) -> Result<Self, BookError> {
        let overlay: Self = serde_json::from_str(json).map_err(|e| BookError::Format(e.to_string()))?;
        if overlay.format != FORMAT {
            return Err(BookError::Format(format!("unknown format {:?}", overlay.format)));
        }
        Ok(overlay)
    }

    /// The same, with the owner in the name of each sheet: two owners may call theirs alike.
    #[must_use]
    pub fn of_owner(mut self, owner: &str) -> Self {
        for sheet in &mut self.sheets {
            sheet.name = format!("{} of {owner}", sheet.name);
        }
        self
    }

    /// Undoes [`parse`](Self::parse).
    ///
    /// # Errors
    /// Never: it is plain data.
    pub fn to_text(&self) -> Result<String, BookError> {
        serde_json::to_string(self).map_err(|e| BookError::Format(e.to_string()))
    }
}

impl Sheet {
    fn says_nothing(&self) -> bool {
        self.models.is_empty() && self.discounts.is_empty() && self.aliases.is_empty()
    }
}

impl PriceBook {
    /// The book under these sheets, the oldest first. Where two contradict each other, the fault is the later one's, whatever they say
    /// it with: a model, an alias or a discount.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn under<'a>(&self, sheets: impl IntoIterator<Item = &'a Sheet>) -> Result<Self, Vec<SheetFault>> {
        let sheets: Vec<&Sheet> = sheets.into_iter().filter(|sheet| !sheet.says_nothing()).collect();
        if sheets.is_empty() {
            return Ok(self.clone());
        }
        merge::merge(self, &sheets)
    }
}

#[cfg(test)]
mod tests;
