//! What a request costs: the amount that its hold needs while it runs, and the charge at its end.

use tollgate_domain::bounds::Bounds;
use tollgate_domain::hold::Settlement;
use tollgate_domain::ids::ModelName;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::{Modifiers, Part, PriceBook, PriceError};
use tollgate_domain::usage::Usage;

/// What a hold was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The model that was asked for.
    pub model: ModelName,
    /// What the provider may answer with instead.
    pub fallback_models: Vec<ModelName>,
    /// The most that it can use.
    pub bounds: Bounds,
    /// What was asked for beside tokens.
    pub modifiers: Modifiers,
    /// What is held.
    pub amount: Nanodollars,
}

/// What a request is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// How much.
    pub cost: Nanodollars,
    /// Not what the provider will bill to the cent.
    pub estimated: bool,
    /// The model that was priced.
    pub model: ModelName,
}

/// The charge for a settlement. What the book cannot price costs the dearer of the requested model and the hold, and
/// is marked; nothing costs less because it is not known.
pub fn charge(book: &PriceBook, terms: &Terms, settlement: &Settlement) -> Charge {
    let in_full = || Charge { cost: terms.amount, estimated: true, model: terms.model.clone() };
    let Some(usage) = &settlement.usage else {
        return in_full();
    };
    let modifiers = answered(&terms.modifiers, &settlement.modifiers);
    let resolve = |name: &str| book.catalogue().resolve(name).map(|model| &model.name);
    let model = settlement.model.as_deref().map_or(Some(&terms.model), resolve);
    let extra: Option<Vec<_>> =
        settlement.extra.iter().map(|(name, usage)| Some((resolve(name)?, usage))).collect();
    let known = model.zip(extra).filter(|(model, _)| book.knows(model, &modifiers));
    let parts = known.map(|(model, extra)| [(model, usage)].into_iter().chain(extra).collect::<Vec<_>>());
    match parts.and_then(|parts| price(book, &parts, &modifiers).ok().zip(model)) {
        Some((cost, model)) => Charge { cost, estimated: settlement.estimated, model: model.clone() },
        None => {
            let extra = settlement.extra.iter().map(|(_, usage)| (&terms.model, usage));
            let requested: Vec<_> = [(&terms.model, usage)].into_iter().chain(extra).collect();
            let requested = price(book, &requested, &modifiers);
            let dearer = requested.map_or(terms.amount, |cost| cost.max(terms.amount));
            Charge { cost: dearer, ..in_full() }
        }
    }
}

fn price(
    book: &PriceBook,
    parts: &[(&ModelName, &Usage)],
    modifiers: &Modifiers,
) -> Result<Nanodollars, PriceError> {
    let parts: Vec<_> = parts.iter().map(|&(model, usage)| Part { model, usage, modifiers }).collect();
    book.cost_of_parts(&parts)
}

/// What the answer said, and where it is silent what was asked for.
fn answered(asked: &Modifiers, answer: &Modifiers) -> Modifiers {
    Modifiers {
        service_tier: answer.service_tier.clone().or_else(|| asked.service_tier.clone()),
        speed: answer.speed.clone().or_else(|| asked.speed.clone()),
        inference_geo: answer.inference_geo.clone().or_else(|| asked.inference_geo.clone()),
    }
}

/// What an open hold needs, now that `known` is used, and `output_seen` tokens at least have come out. Where the provider may
/// be called again for the same request, the first call's input is no bound, and the hold does not shrink.
pub fn resize(book: &PriceBook, terms: &Terms, known: Option<&Usage>, output_seen: u64) -> Nanodollars {
    let bounds = Bounds { output: terms.bounds.output.max(output_seen), ..terms.bounds };
    let cost = |model: &ModelName| match known {
        Some(usage) => {
            let web_searches = usage.web_searches.max(bounds.web_searches);
            let usage = Usage { output: bounds.output.max(usage.output), web_searches, ..*usage };
            book.cost(model, &usage, &terms.modifiers)
        }
        None => book.cost_max(model, &bounds, &terms.modifiers),
    };
    let models = [&terms.model].into_iter().chain(&terms.fallback_models);
    let costs: Result<Vec<_>, _> = models.map(cost).collect();
    let Some(needed) = costs.ok().and_then(|costs| costs.into_iter().max()) else {
        return terms.amount;
    };
    let may_shrink = known.is_some() && bounds.input <= bounds.input_per_call;
    if may_shrink { needed } else { needed.max(terms.amount) }
}
