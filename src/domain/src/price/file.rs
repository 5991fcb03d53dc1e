//! The format of price books, as text.

use super::{ModelPrices, Rate, STANDARD};
use crate::catalogue::{Mode, Model, Provider};
use crate::ids::ModelName;
use crate::money::{DecimalError, Price};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const FORMAT: &str = "tollgate-price-book/1";

/// Why a text is not a price book: which model, which field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// Not JSON of the right shape.
    #[error("the price book cannot be read: {0}")]
    Format(String),
    /// A price that is no price.
    #[error("price of {model}: {field} {error}")]
    Decimal {
        /// The model.
        model: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        error: DecimalError,
    },
    /// A model with no standard rate from zero tokens on.
    #[error("{0} has no standard rate that begins at 0 tokens")]
    NoBaseRate(String),
    /// A name or alias that stands twice.
    #[error("{0} is named twice")]
    Ambiguous(String),
}

/// A book.
#[derive(Deserialize, Serialize)]
pub(super) struct BookFile {
    format: String,
    pub(super) models: Vec<ModelEntry>,
}

impl BookFile {
    pub(super) fn parse(json: &str) -> Result<Self, BookError> {
        let file: Self = serde_json::from_str(json).map_err(|e| BookError::Format(e.to_string()))?;
        if file.format != FORMAT {
            return Err(BookError::Format(format!("unknown format {:?}", file.format)));
        }
        Ok(file)
    }

    /// The same content has the same text.
    pub(super) fn to_text(&self) -> Result<String, BookError> {
        serde_json::to_string(self).map_err(|e| BookError::Format(e.to_string()))
    }
}

/// A model of a book.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelEntry {
    pub(super) name: String,
    pub(super) provider: Provider,
    pub(super) mode: Mode,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<String>,
    pub(super) context_window: u64,
    pub(super) max_output: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retired: Option<NaiveDate>,
    pub(super) rates: Vec<RateEntry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) multipliers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) web_search: Option<String>,
}

/// A rate of a model.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateEntry {
    pub(super) tier: String,
    pub(super) above: u64,
    pub(super) input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_read: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_write_5m: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_write_1h: Option<String>,
    pub(super) output: String,
}

impl ModelEntry {
    pub(super) fn prices(&self) -> Result<ModelPrices, BookError> {
        let rates: Vec<Rate> =
            self.rates.iter().map(|rate| rate.parse(&self.name)).collect::<Result<_, _>>()?;
        if !rates.iter().any(|rate| rate.tier == STANDARD && rate.above_tokens == 0) {
            return Err(BookError::NoBaseRate(self.name.clone()));
        }
        let decimal = |field| move |error| BookError::Decimal { model: self.name.clone(), field, error };
        let mut multipliers = BTreeMap::new();
        for (key, text) in &self.multipliers {
            multipliers.insert(key.clone(), text.parse().map_err(decimal("multipliers"))?);
        }
        let web_search = self.web_search.as_deref().map(Price::from_dollars).transpose();
        Ok(ModelPrices { rates, multipliers, web_search: web_search.map_err(decimal("web_search"))? })
    }

    pub(super) fn into_model(self) -> Model {
        Model {
            name: ModelName::new(self.name),
            provider: self.provider,
            mode: self.mode,
            aliases: self.aliases,
            context_window: self.context_window,
            max_output: self.max_output,
            retired: self.retired,
        }
    }
}

impl RateEntry {
    fn parse(&self, model: &str) -> Result<Rate, BookError> {
        let price = |field, text: &str| {
            Price::from_dollars_per_million(text).map_err(|error| BookError::Decimal {
                model: model.to_owned(),
                field,
                error,
            })
        };
        let input = price("input", &self.input)?;
        // A class without a price of its own costs what input costs; the longer write at least what the shorter does.
        let or =
            |field, text: &Option<String>, default| text.as_deref().map_or(Ok(default), |t| price(field, t));
        let cache_write_5m = or("cache_write_5m", &self.cache_write_5m, input)?;
        Ok(Rate {
            tier: self.tier.clone(),
            above_tokens: self.above,
            input,
            cache_read: or("cache_read", &self.cache_read, input)?,
            cache_write_5m,
            cache_write_1h: or("cache_write_1h", &self.cache_write_1h, cache_write_5m)?,
            output: price("output", &self.output)?,
        })
    }
}
