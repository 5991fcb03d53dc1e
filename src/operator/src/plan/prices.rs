//! What all price books say together: one overlay, which the ledger takes as a whole or not at all.
//!
//! It goes to the ledger in one message and not book by book, so that a model can move from one book to another, and so that prices
//! never are those of half a change.

use super::program::retry_at;
use super::verdict::{Verdicts, is_alive, oldest_first};
use super::{Action, Kind, Ledger, ObjectName, PriceFault, PricesAsked, PricesOutcome, Settings, World};
use crate::resources::{ModelMode, PriceBookSpec, PricedModel, ProviderName, TokenPrices};
use tollgate_domain::catalogue::{Mode, Provider};
use tollgate_domain::price::{Discounted, NewAlias, Overlay, OwnModel, OwnPrice, Sheet};
use tollgate_domain::time::Timestamp;

/// What another operator or the ledger's own book contradicts may be put right there.
const RETRY_LAST_MS: i64 = 5 * 60_000;

/// How the price books stand, all together.
pub(super) struct Prices {
    overlay: Overlay,
    scope: String,
    pub(super) state: PricesState,
    pub(super) wake_at: Option<Timestamp>,
}

/// How what they say stands with the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PricesState {
    /// It is in force.
    Programmed,
    /// This plan asks for it.
    Asked,
    /// The ledger goes on by what it had.
    Refused(Vec<PriceFault>),
    /// The ledger is away.
    Away,
}

impl Prices {
    pub(super) fn new(world: &World, settings: &Settings, verdicts: &Verdicts<'_>, now: Timestamp) -> Self {
        let overlay = Overlay::new(sheets(world, verdicts));
        let (state, wake_at) = state(&world.ledger, &overlay, now);
        Self { overlay, scope: settings.cluster.clone(), state, wake_at }
    }

    pub(super) fn action(&self) -> Option<Action> {
        let set = || Action::SetPrices { scope: self.scope.clone(), overlay: self.overlay.clone() };
        (self.state == PricesState::Asked).then(set)
    }
}

fn state(ledger: &Ledger, overlay: &Overlay, now: Timestamp) -> (PricesState, Option<Timestamp>) {
    match &ledger.prices {
        _ if !ledger.synced => (PricesState::Away, None),
        Some(PricesAsked { overlay: asked, outcome }) if asked == overlay => match outcome {
            PricesOutcome::Taken => (PricesState::Programmed, None),
            PricesOutcome::Refused { faults, at, attempts } => {
                let retry_at = retry_at(*at, *attempts, RETRY_LAST_MS);
                if retry_at <= now {
                    (PricesState::Asked, None)
                } else {
                    (PricesState::Refused(faults.clone()), Some(retry_at))
                }
            }
        },
        _ => (PricesState::Asked, None),
    }
}

/// The name of the sheet of a price book.
pub(super) fn sheet_name(name: &ObjectName) -> String {
    format!("{} {name}", Kind::PriceBook)
}

/// Of the price books that count, the oldest first: where two contradict each other, the younger is to blame.
fn sheets(world: &World, verdicts: &Verdicts<'_>) -> Vec<Sheet> {
    let counts = |name: &ObjectName| verdicts.price_books.get(name).is_some_and(|verdict| verdict.counts);
    let all = oldest_first(&world.price_books).into_iter();
    let living = all.filter(|(name, one)| counts(name) && is_alive(&one.metadata));
    living.map(|(name, one)| sheet(name, &one.spec)).collect()
}

fn sheet(name: &ObjectName, spec: &PriceBookSpec) -> Sheet {
    let discount = |one: &crate::resources::PriceDiscount| Discounted {
        provider: one.provider.map(|provider| provider_of(provider).as_str().to_owned()),
        model: one.model.clone(),
        percent: one.percent.clone(),
    };
    let alias =
        |one: &crate::resources::ModelAlias| NewAlias { alias: one.alias.clone(), model: one.model.clone() };
    Sheet {
        name: sheet_name(name),
        models: spec.models.iter().map(model).collect(),
        discounts: spec.discounts.iter().map(discount).collect(),
        aliases: spec.aliases.iter().map(alias).collect(),
    }
}

fn model(model: &PricedModel) -> OwnModel {
    OwnModel {
        name: model.name.clone(),
        mode: model.mode.map(|mode| match mode {
            ModelMode::Chat => Mode::Chat,
            ModelMode::Responses => Mode::Responses,
            ModelMode::Embedding => Mode::Embedding,
            ModelMode::Completion => Mode::Completion,
        }),
        context_window: tokens(model.context_window),
        max_output: tokens(model.max_output),
        aliases: model.aliases.clone(),
        prices: model.prices.iter().map(prices).collect(),
        web_search: model.web_search.clone(),
    }
}

fn prices(prices: &TokenPrices) -> OwnPrice {
    OwnPrice {
        tier: prices.tier.clone(),
        above_tokens: tokens(prices.above_tokens),
        input: prices.input.clone(),
        cache_read: prices.cache_read.clone(),
        cache_write_5m: prices.cache_write5m.clone(),
        cache_write_1h: prices.cache_write1h.clone(),
        output: prices.output.clone(),
    }
}

/// Below zero the API server has refused it.
fn tokens(count: Option<i64>) -> Option<u64> {
    count.and_then(|count| u64::try_from(count).ok())
}

fn provider_of(name: ProviderName) -> Provider {
    match name {
        ProviderName::Anthropic => Provider::Anthropic,
        ProviderName::OpenAi => Provider::OpenAi,
        ProviderName::Gemini => Provider::Gemini,
    }
}
