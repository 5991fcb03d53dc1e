//! What a request costs: the amount that its hold needs while it runs, and the charge at its end.

use tollgate_domain::api::Api;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::hold::Settlement;
use tollgate_domain::ids::ModelName;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::{CHEAPER_TIERS, Modifiers, Part, PriceBook, PriceError};
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
pub fn charge(book: &PriceBook, terms: &Terms, api: Api, settlement: &Settlement) -> Charge {
    let in_full = || Charge { cost: terms.amount, estimated: true, model: terms.model.clone() };
    let Some(usage) = &settlement.usage else {
        return in_full();
    };
    let usage = &with_untold_searches(*usage, terms, api);
    let resolve = |name: &str| book.catalogue().resolve(name).map(|model| &model.name);
    let model = settlement.model.as_deref().map_or(Some(&terms.model), resolve);
    let modifiers = answered(book, model.unwrap_or(&terms.model), &terms.modifiers, &settlement.modifiers);
    let extra: Option<Vec<_>> =
        settlement.extra.iter().map(|(name, usage)| Some((resolve(name)?, usage))).collect();
    let known = model.zip(extra).filter(|(model, _)| modifiers.iter().all(|one| book.knows(model, one)));
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

/// Chat completions search when they are asked to, and their usage does not tell.
fn with_untold_searches(usage: Usage, terms: &Terms, api: Api) -> Usage {
    match api {
        Api::ChatCompletions => {
            Usage { web_searches: usage.web_searches.max(terms.bounds.web_searches), ..usage }
        }
        _ => usage,
    }
}

/// The dearest of what the modifiers may be.
fn price(
    book: &PriceBook,
    parts: &[(&ModelName, &Usage)],
    modifiers: &[Modifiers],
) -> Result<Nanodollars, PriceError> {
    let mut dearest = Nanodollars::ZERO;
    for modifiers in modifiers {
        let parts: Vec<_> = parts.iter().map(|&(model, usage)| Part { model, usage, modifiers }).collect();
        dearest = dearest.max(book.cost_of_parts(&parts)?);
    }
    Ok(dearest)
}

/// What the answer said. Where it is silent on the tier, it was what was asked for or the standard one: nobody saves money by
/// asking alone.
fn answered(book: &PriceBook, model: &ModelName, asked: &Modifiers, answer: &Modifiers) -> Vec<Modifiers> {
    let with_tier = |service_tier: Option<String>| Modifiers {
        service_tier,
        speed: answer.speed.clone().or_else(|| asked.speed.clone()),
        inference_geo: answer.inference_geo.clone().or_else(|| asked.inference_geo.clone()),
    };
    match (&answer.service_tier, &asked.service_tier) {
        (None, Some(tier)) if CHEAPER_TIERS.contains(&tier.as_str()) => vec![with_tier(None)],
        (None, Some(_)) if !book.has_tier(model, asked.tier()) => vec![with_tier(None)],
        (None, Some(tier)) => vec![with_tier(None), with_tier(Some(tier.clone()))],
        (answered, _) => vec![with_tier(answered.clone())],
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
            price(book, &[(model, &usage)], &answered(book, model, &terms.modifiers, &Modifiers::default()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_domain::hold::End;

    /// `m` costs 1,000 nano-dollars a token in and 2,000 out, half of it in batches, three times as much with
    /// priority; `dear` ten times that, and has web searches.
    const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [
        {"name": "m", "aliases": ["em"], "provider": "openai", "mode": "chat", "context_window": 1000, "max_output": 100,
         "rates": [{"tier": "standard", "above": 0, "input": "1", "cache_read": "0.1", "output": "2"},
                   {"tier": "batch", "above": 0, "input": "0.5", "output": "1"},
                   {"tier": "priority", "above": 0, "input": "3", "output": "6"}]},
        {"name": "dear", "provider": "openai", "mode": "chat", "context_window": 1000, "max_output": 100,
         "rates": [{"tier": "standard", "above": 0, "input": "10", "output": "20"}], "web_search": "0.01"}]}"#;

    fn book() -> PriceBook {
        PriceBook::parse(BOOK).unwrap()
    }

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input, output, ..Usage::default() }
    }

    /// A hold of 10,000.
    fn terms() -> Terms {
        Terms {
            model: ModelName::new("m"),
            fallback_models: Vec::new(),
            bounds: Bounds { input: 4, input_per_call: 4, output: 3, ..Bounds::default() },
            modifiers: Modifiers::default(),
            amount: Nanodollars::new(10_000),
        }
    }

    fn settlement() -> Settlement {
        Settlement {
            usage: Some(usage(2, 1)),
            estimated: false,
            end: End::Complete,
            model: None,
            modifiers: Modifiers::default(),
            extra: Vec::new(),
            status: 200,
            duration_ms: 0,
            first_byte_ms: 0,
        }
    }

    #[test]
    fn what_has_no_price_costs_no_less() {
        let named = |model: &str| Settlement { model: Some(model.into()), ..settlement() };
        let tier = |tier: &str| Settlement {
            modifiers: Modifiers { service_tier: Some(tier.into()), ..Modifiers::default() },
            ..settlement()
        };
        let extra = |model: &str, usage| Settlement { extra: vec![(model.into(), usage)], ..settlement() };
        let searched = Usage { web_searches: 1, ..usage(2, 1) };
        let absurd = usage(1 << 62, 1 << 62);
        // (settlement, cost, estimated, model)
        let table = [
            (settlement(), 4_000, false, "m"),
            (named("em"), 4_000, false, "m"),
            (named("dear"), 40_000, false, "dear"),
            (named("new"), 10_000, true, "m"),
            (Settlement { usage: Some(usage(9, 1)), ..named("new") }, 11_000, true, "m"),
            (Settlement { usage: None, ..named("dear") }, 10_000, true, "m"),
            (Settlement { estimated: true, ..settlement() }, 4_000, true, "m"),
            (tier("batch"), 2_000, false, "m"),
            (tier("auto"), 4_000, false, "m"),
            (tier("new"), 10_000, true, "m"),
            (extra("dear", usage(1, 0)), 14_000, false, "m"),
            (extra("new", usage(1, 0)), 10_000, true, "m"),
            (extra("new", usage(9, 0)), 13_000, true, "m"),
            (Settlement { usage: Some(searched), ..named("dear") }, 10_040_000, false, "dear"),
            (Settlement { usage: Some(searched), ..settlement() }, 10_000, true, "m"),
            (Settlement { usage: Some(absurd), ..settlement() }, 10_000, true, "m"),
        ];
        for (settlement, cost, estimated, model) in table {
            let row = format!("{settlement:?}");
            let charge = charge(&book(), &terms(), Api::Responses, &settlement);
            let seen = (charge.cost.get(), charge.estimated, charge.model.as_str());
            assert_eq!(seen, (cost, estimated, model), "{row}");
        }
    }

    #[test]
    fn nobody_saves_money_by_asking_for_a_tier_alone() {
        let tier = |tier: &str| Modifiers { service_tier: Some(tier.into()), ..Modifiers::default() };
        // (asked, answered, cost)
        let table = [
            (None, None, 4_000),
            (Some("batch"), None, 4_000),
            (Some("batch"), Some("batch"), 2_000),
            (Some("batch"), Some("standard"), 4_000),
            (Some("flex"), None, 4_000),
            (Some("priority"), None, 12_000),
            (Some("priority"), Some("default"), 4_000),
            (None, Some("priority"), 12_000),
        ];
        for (asked, answered, expected) in table {
            let terms = Terms { modifiers: asked.map(tier).unwrap_or_default(), ..terms() };
            let settlement = Settlement { modifiers: answered.map(tier).unwrap_or_default(), ..settlement() };
            let charge = charge(&book(), &terms, Api::ChatCompletions, &settlement);
            assert_eq!((charge.cost.get(), charge.estimated), (expected, false), "{asked:?} {answered:?}");
        }
    }

    #[test]
    fn a_chat_completion_pays_for_the_search_that_its_usage_does_not_tell() {
        let asked = Terms {
            model: ModelName::new("dear"),
            bounds: Bounds { web_searches: 1, ..terms().bounds },
            ..terms()
        };
        let cost = |api| charge(&book(), &asked, api, &settlement()).cost.get();
        assert_eq!(cost(Api::ChatCompletions), 10_040_000);
        assert_eq!(cost(Api::Responses), 40_000, "there the usage tells");
    }

    #[test]
    fn a_hold_is_resized_to_exact_input_and_the_bound_of_the_output() {
        let dear = Terms { fallback_models: vec![ModelName::new("dear")], ..terms() };
        let several = |bounds| Terms { bounds, ..terms() };
        let calls = several(Bounds { input: 40, ..terms().bounds });
        // (terms, known usage, output seen, amount)
        let table = [
            (terms(), Some(usage(2, 0)), 0, 8_000),
            (terms(), Some(usage(2, 1)), 1, 8_000),
            (terms(), Some(usage(2, 0)), 5, 12_000),
            (terms(), Some(usage(2, 7)), 0, 16_000),
            (terms(), Some(Usage { cache_read: 10, ..usage(2, 0) }), 0, 9_000),
            (terms(), Some(usage(50, 0)), 0, 56_000),
            (terms(), None, 3, 10_000),
            (terms(), None, 4, 12_000),
            (dear, Some(usage(2, 0)), 0, 80_000),
            (calls.clone(), Some(usage(2, 0)), 0, 10_000),
            (calls, Some(usage(20, 0)), 0, 26_000),
            (terms(), Some(usage(u64::MAX, u64::MAX)), 0, 10_000),
        ];
        for (terms, known, output_seen, expected) in table {
            let amount = resize(&book(), &terms, known.as_ref(), output_seen);
            assert_eq!(amount, Nanodollars::new(expected), "{known:?} {output_seen}");
        }
    }
}
