//! The price book: what a token costs, by model, service tier, size of the request and modifiers.
//!
//! The ledger owns it and prices both ends of a request with it: the hold from bounds, the settle from usage. A model
//! that is not in it has no price and is refused; nothing here falls back to zero.

mod discount;
mod file;
mod overlay;

pub use discount::{Discount, NoDiscount};
pub use file::BookError;
pub use overlay::{
    Discounted, NewAlias, Overlay, OwnModel, OwnPrice, Sheet, SheetError, SheetErrorKind, SheetFault,
};

use crate::bounds::Bounds;
use crate::catalogue::Catalogue;
use crate::ids::ModelName;
use crate::money::{Multiplier, Nanodollars, Overflow, Picodollars, Price, Scaled};
use crate::usage::Usage;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The price book that ships with Tollgate, as JSON.
pub const BUILT_IN: &str = include_str!("../data/price-book.json");

/// The service tier of a rate where none is named.
pub const STANDARD: &str = "standard";

/// Service tiers that are asked for and billed as the standard one.
const STANDARD_BY_OTHER_NAMES: [&str; 4] = ["auto", "default", "standard_only", "on_demand"];

/// Service tiers that cost less than the standard one wherever they exist; a provider that does not have one for a model
/// serves it as standard.
pub const CHEAPER_TIERS: [&str; 2] = ["batch", "flex"];

/// What the rates of one model are, for one service tier from one size of request on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rate {
    tier: String,
    above_tokens: u64,
    input: Price,
    cache_read: Price,
    cache_write_5m: Price,
    cache_write_1h: Price,
    output: Price,
}

/// The prices of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPrices {
    rates: Vec<Rate>,
    multipliers: BTreeMap<String, Multiplier>,
    web_search: Option<Price>,
}

/// What changes the price of a request beside its usage. Empty texts are never stored: unset is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modifiers {
    /// The service tier: `standard`, `batch`, `flex`, `priority`, ... Unset, `auto` and `default` are standard.
    pub service_tier: Option<String>,
    /// `fast`, where the provider has it.
    pub speed: Option<String>,
    /// Where inference runs, such as `us`.
    pub inference_geo: Option<String>,
}

/// One part of a request's bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The model that it is billed as.
    pub model: &'a ModelName,
    /// What was used of it.
    pub usage: &'a Usage,
    /// What changes its price.
    pub modifiers: &'a Modifiers,
}

/// Why there is no price.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// The model is not in the book.
    #[error("the model has no price")]
    UnknownModel,
    /// The request asks for a service tier, a speed or a region that the model has no price for.
    #[error("the model has no price for this service tier, speed or region")]
    UnknownModifier,
    /// Web searches were used, or may be, and the model has no price for them.
    #[error("the model has no price for web searches")]
    NoWebSearchPrice,
    /// The cost does not fit an amount.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

/// Every model that has a price, and its price.
#[derive(Clone, Debug)]
pub struct PriceBook {
    source: String,
    /// Every service tier that some model has.
    tiers: BTreeSet<String>,
    catalogue: Catalogue,
    prices: BTreeMap<ModelName, ModelPrices>,
}

impl PriceBook {
    /// Reads a book of the format `tollgate-price-book/1`. Its revision is a digest of the text.
    ///
    /// # Errors
    /// [`BookError`] names the model and the field.
    pub fn parse(json: &str) -> Result<Self, BookError> {
        let file = file::BookFile::parse(json)?;
        let mut models = Vec::new();
        let mut prices = BTreeMap::new();
        for entry in file.models {
            let model_prices = entry.prices()?;
            let model = entry.into_model();
            if prices.insert(model.name.clone(), model_prices).is_some() {
                return Err(BookError::Ambiguous(model.name.to_string()));
            }
            models.push(model);
        }
        let catalogue = Catalogue::new(revision(json), models).map_err(|e| BookError::Ambiguous(e.0))?;
        let rates = prices.values().flat_map(|prices: &ModelPrices| &prices.rates);
        let tiers = rates.map(|rate| rate.tier.clone()).collect();
        Ok(Self { source: json.to_owned(), tiers, catalogue, prices })
    }

    /// The text that it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The models, without their prices.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Names this content of the book. Never zero.
    pub fn revision(&self) -> u64 {
        self.catalogue.revision()
    }

    /// Whether the other book has the same models at the same prices, however it is written.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.catalogue.models() == other.catalogue.models() && self.prices == other.prices
    }

    fn prices_of(&self, model: &ModelName) -> Result<&ModelPrices, PriceError> {
        self.prices.get(model).ok_or(PriceError::UnknownModel)
    }

    /// What `usage` costs.
    ///
    /// # Errors
    /// [`PriceError`].
    pub fn cost(
        &self,
        model: &ModelName,
        usage: &Usage,
        modifiers: &Modifiers,
    ) -> Result<Nanodollars, PriceError> {
        self.cost_of_parts(&[Part { model, usage, modifiers }])
    }

    /// What a request costs that was billed in parts: their exact sum, rounded up once.
    ///
    /// # Errors
    /// [`PriceError`] of the first part without a price.
    pub fn cost_of_parts(&self, parts: &[Part<'_>]) -> Result<Nanodollars, PriceError> {
        let mut sum = Scaled::ZERO;
        for part in parts {
            sum = sum.plus_scaled(self.unrounded(part)?)?;
        }
        Ok(sum.round_up()?)
    }

    fn unrounded(&self, part: &Part<'_>) -> Result<Scaled, PriceError> {
        let prices = self.prices_of(part.model)?;
        let input_total = part.usage.input_total().ok_or(Overflow)?;
        let rate = prices.rate(part.modifiers.tier(), input_total)?;
        let tokens = rate.cost(part.usage)?;
        prices.total(tokens, part.usage.web_searches, &prices.factors(part.modifiers))
    }

    /// Whether the book has rates of its own for this service tier of the model.
    pub fn has_tier(&self, model: &ModelName, tier: &str) -> bool {
        self.prices.get(model).is_some_and(|prices| prices.has_tier(tier))
    }

    /// Whether the book has a price of its own for the model and everything that is named beside it, instead of the standard one.
    pub fn knows(&self, model: &ModelName, modifiers: &Modifiers) -> bool {
        let tier = modifiers.tier();
        self.prices.get(model).is_some_and(|prices| prices.has_tier(tier) && prices.has_factors(modifiers))
    }

    /// The most that a request within `bounds` can cost: every token at the dearest class that it can fall into, at the
    /// dearest size tier that it can reach. A cheaper service tier than the standard one is only asked for: the provider may
    /// not grant it.
    ///
    /// # Errors
    /// [`PriceError`].
    pub fn cost_max(
        &self,
        model: &ModelName,
        bounds: &Bounds,
        modifiers: &Modifiers,
    ) -> Result<Nanodollars, PriceError> {
        let prices = self.prices_of(model)?;
        let tier = modifiers.tier();
        // A tier that other models have is served as standard where this one has none; the answer will tell.
        if !(self.tiers.contains(tier) || CHEAPER_TIERS.contains(&tier)) || !prices.has_factors(modifiers) {
            return Err(PriceError::UnknownModifier);
        }
        let mut tokens = Picodollars::ZERO;
        for tier in [STANDARD, tier] {
            for rate in prices.rates_up_to(tier, bounds.input_per_call)? {
                tokens = tokens.max(rate.cost_max(bounds)?);
            }
        }
        Ok(prices.total(tokens, bounds.web_searches, &prices.factors(modifiers))?.round_up()?)
    }
}

impl Modifiers {
    /// The service tier, by the price book's name.
    pub fn tier(&self) -> &str {
        match self.service_tier.as_deref() {
            Some(tier) if !STANDARD_BY_OTHER_NAMES.contains(&tier) => tier,
            _ => STANDARD,
        }
    }
}

impl ModelPrices {
    fn has_tier(&self, tier: &str) -> bool {
        self.rates.iter().any(|rate| rate.tier == tier)
    }

    /// Whether speed and region are the usual ones, or have a factor.
    fn has_factors(&self, modifiers: &Modifiers) -> bool {
        let named = |name: &str, value: &Option<String>, usual: &[&str]| {
            value.as_deref().is_none_or(|value| {
                usual.contains(&value) || self.multipliers.contains_key(&format!("{name}:{value}"))
            })
        };
        named("speed", &modifiers.speed, &["standard"])
            && named("inference_geo", &modifiers.inference_geo, &["global", "not_available"])
    }

    /// The rates of the tier, or the standard ones where the model has none for it, smallest threshold first.
    fn tier_rates(&self, tier: &str) -> impl Iterator<Item = &Rate> {
        let tier = if self.has_tier(tier) { tier } else { STANDARD };
        let tier = tier.to_owned();
        self.rates.iter().filter(move |rate| rate.tier == tier)
    }

    fn rates_up_to(&self, tier: &str, input: u64) -> Result<Vec<&Rate>, PriceError> {
        let reached = |rate: &&Rate| rate.above_tokens == 0 || rate.above_tokens < input;
        let rates: Vec<&Rate> = self.tier_rates(tier).filter(reached).collect();
        if rates.is_empty() { Err(PriceError::UnknownModel) } else { Ok(rates) }
    }

    /// Beyond a threshold the whole request is priced at that tier.
    fn rate(&self, tier: &str, input: u64) -> Result<&Rate, PriceError> {
        let rates = self.rates_up_to(tier, input)?;
        rates.into_iter().max_by_key(|rate| rate.above_tokens).ok_or(PriceError::UnknownModel)
    }

    fn factors(&self, modifiers: &Modifiers) -> Vec<Multiplier> {
        let named = [("speed", &modifiers.speed), ("inference_geo", &modifiers.inference_geo)];
        let key =
            |(name, value): (&str, &Option<String>)| value.as_ref().map(|value| format!("{name}:{value}"));
        named.into_iter().filter_map(key).filter_map(|key| self.multipliers.get(&key).copied()).collect()
    }

    fn total(
        &self,
        tokens: Picodollars,
        web_searches: u64,
        factors: &[Multiplier],
    ) -> Result<Scaled, PriceError> {
        let searches = match (web_searches, self.web_search) {
            (0, _) => Picodollars::ZERO,
            (count, Some(price)) => price.times(count),
            (_, None) => return Err(PriceError::NoWebSearchPrice),
        };
        Ok(tokens.scaled(factors)?.plus(searches)?)
    }
}

impl Rate {
    fn cost(&self, usage: &Usage) -> Result<Picodollars, Overflow> {
        let parts = [
            (self.input, usage.input),
            (self.cache_read, usage.cache_read),
            (self.cache_write_5m, usage.cache_write_5m),
            (self.cache_write_1h, usage.cache_write_1h),
            (self.output, usage.output),
        ];
        let mut sum = Picodollars::ZERO;
        for (price, tokens) in parts {
            sum = sum.plus(price.times(tokens))?;
        }
        Ok(sum)
    }

    /// Fills the dearest class first: at most `cache_write_*` of the input tokens can be writes, all of them can be
    /// plain input or reads.
    fn cost_max(&self, bounds: &Bounds) -> Result<Picodollars, Overflow> {
        let mut classes = [
            (self.cache_write_1h, bounds.cache_write_1h),
            (self.cache_write_5m, bounds.cache_write_5m),
            (self.input, bounds.input),
            (self.cache_read, bounds.input),
        ];
        classes.sort_by_key(|(price, _)| std::cmp::Reverse(*price));
        let mut left = bounds.input;
        let mut sum = self.output.times(bounds.output);
        for (price, at_most) in classes {
            let tokens = at_most.min(left);
            left = left.saturating_sub(tokens);
            sum = sum.plus(price.times(tokens))?;
        }
        Ok(sum)
    }
}

/// The first 8 bytes of the text's SHA-256; never zero, which stands for "none".
fn revision(json: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(json.as_bytes()).into();
    u64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default()).max(1)
}

#[cfg(test)]
mod tests;
