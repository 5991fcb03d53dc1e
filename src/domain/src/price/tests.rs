use super::*;
use crate::catalogue::Mode;
use chrono::NaiveDate;

const BOOK: &str = r#"{
  "format": "tollgate-price-book/1",
  "models": [{
    "name": "claude-x", "provider": "anthropic", "mode": "chat", "aliases": ["x"],
    "context_window": 1000000, "max_output": 64000,
    "rates": [
      {"tier": "standard", "above": 0, "input": "3", "cache_read": "0.3", "cache_write_5m": "3.75", "cache_write_1h": "6", "output": "15"},
      {"tier": "standard", "above": 200000, "input": "6", "cache_read": "0.6", "cache_write_5m": "7.5", "cache_write_1h": "12", "output": "22.5"},
      {"tier": "batch", "above": 0, "input": "1.5", "output": "7.5"}
    ],
    "multipliers": {"speed:fast": "2", "inference_geo:us": "1.1"},
    "web_search": "0.01"
  }, {
    "name": "plain", "provider": "openai", "mode": "chat", "context_window": 1000, "max_output": 100,
    "rates": [{"tier": "standard", "above": 0, "input": "2", "output": "8"}]
  }]
}"#;

fn book() -> PriceBook {
    PriceBook::parse(BOOK).unwrap()
}

fn modifiers(tier: &str, speed: &str, geo: &str) -> Modifiers {
    let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
    Modifiers { service_tier: text(tier), speed: text(speed), inference_geo: text(geo) }
}

#[test]
fn usage_is_priced_by_class_tier_size_and_modifier() {
    let usage = |input, cache_read, w5, w1, output, web_searches| Usage {
        input,
        cache_read,
        cache_write_5m: w5,
        cache_write_1h: w1,
        output,
        web_searches,
    };
    // (usage, modifiers, nano-dollars), each by hand.
    let table = [
        (usage(0, 0, 0, 0, 0, 0), modifiers("", "", ""), 0),
        (usage(1, 0, 0, 0, 0, 0), modifiers("", "", ""), 3_000),
        (usage(10, 10, 10, 10, 10, 0), modifiers("", "", ""), 30_000 + 3_000 + 37_500 + 60_000 + 150_000),
        (usage(10, 0, 0, 0, 10, 0), modifiers("auto", "", ""), 180_000),
        (usage(10, 0, 0, 0, 10, 0), modifiers("batch", "", ""), 90_000),
        (usage(0, 10, 10, 10, 0, 0), modifiers("batch", "", ""), 45_000),
        (usage(10, 0, 0, 0, 10, 0), modifiers("unheard-of", "", ""), 180_000),
        (usage(200_000, 0, 0, 0, 1, 0), modifiers("", "", ""), 600_015_000),
        (usage(1, 200_000, 0, 0, 1, 0), modifiers("", "", ""), 6_000 + 120_000_000 + 22_500),
        (usage(10, 0, 0, 0, 0, 0), modifiers("", "fast", ""), 60_000),
        (usage(10, 0, 0, 0, 0, 2), modifiers("", "fast", "us"), 66_000 + 20_000_000),
        (usage(0, 1, 0, 0, 0, 0), modifiers("", "", "us"), 330),
    ];
    for (usage, modifiers, expected) in table {
        let cost = book().cost(&ModelName::new("claude-x"), &usage, &modifiers);
        assert_eq!(cost, Ok(Nanodollars::new(expected)), "{usage:?} {modifiers:?}");
    }
}

#[test]
fn unknown_is_an_error_never_zero() {
    let none = Modifiers::default();
    let searched = Usage { web_searches: 1, ..Usage::default() };
    let cost = |name: &str, usage: &Usage| book().cost(&ModelName::new(name), usage, &none);
    assert_eq!(cost("gpt-unheard-of", &Usage::default()), Err(PriceError::UnknownModel));
    assert_eq!(cost("x", &Usage::default()), Err(PriceError::UnknownModel), "an alias is resolved before");
    assert_eq!(cost("plain", &searched), Err(PriceError::NoWebSearchPrice));
    let absurd = Usage { input: u64::MAX, ..Usage::default() };
    assert_eq!(cost("plain", &absurd), Err(PriceError::Overflow(Overflow)));
    let more = Usage { cache_read: 1, ..absurd };
    assert_eq!(cost("plain", &more), Err(PriceError::Overflow(Overflow)));
}

#[test]
fn a_hold_takes_the_dearest_class_and_size() {
    let bounds = Bounds {
        input: 1000,
        input_per_call: 1000,
        cache_write_5m: 0,
        cache_write_1h: 0,
        output: 10,
        web_searches: 0,
    };
    let table = [
        (bounds, 3_000_000 + 150_000),
        (Bounds { cache_write_5m: 400, ..bounds }, 400 * 3_750 + 600 * 3_000 + 150_000),
        (Bounds { cache_write_5m: 1000, cache_write_1h: 1000, ..bounds }, 6_000_000 + 150_000),
        (Bounds { input: 200_001, input_per_call: 200_001, ..bounds }, 200_001 * 6_000 + 225_000),
        (Bounds { input: 400_000, input_per_call: 200_000, ..bounds }, 400_000 * 3_000 + 150_000),
        (Bounds { web_searches: 3, ..bounds }, 3_150_000 + 30_000_000),
    ];
    for (bounds, expected) in table {
        let hold = book().cost_max(&ModelName::new("claude-x"), &bounds, &Modifiers::default());
        assert_eq!(hold, Ok(Nanodollars::new(expected)), "{bounds:?}");
    }
}

#[test]
fn a_book_with_a_fault_is_refused_by_name() {
    let faults = [
        (BOOK.replace("price-book/1", "price-book/9"), "unknown format"),
        (BOOK.replace("\"3.75\"", "\"three\""), "price of claude-x: cache_write_5m is not a decimal number"),
        (BOOK.replace("\"3.75\"", "3.75"), "invalid type: floating point"),
        (BOOK.replace("\"1.1\"", "\"1.00001\""), "price of claude-x: multipliers has more decimal places"),
        (
            BOOK.replace(
                "\"tier\": \"standard\", \"above\": 0, \"input\": \"2\"",
                "\"tier\": \"flex\", \"above\": 0, \"input\": \"2\"",
            ),
            "plain has no standard rate",
        ),
        (BOOK.replace("\"plain\"", "\"claude-x\""), "claude-x is named twice"),
        (BOOK.replace("\"plain\"", "\"x\""), "x is named twice"),
        (BOOK.replace("\"web_search\"", "\"web_serch\""), "unknown field"),
    ];
    for (json, expected) in faults {
        let error = PriceBook::parse(&json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_built_in_book_prices_what_people_name() {
    let book = PriceBook::parse(BUILT_IN).unwrap();
    for name in ["claude-sonnet-4", "claude-opus-4", "gpt-4.1", "gpt-4.1-mini"] {
        let model = book.catalogue().resolve(name).unwrap();
        let one = Usage { input: 1, output: 1, ..Usage::default() };
        assert!(book.cost(&model.name, &one, &Modifiers::default()).unwrap() > Nanodollars::ZERO, "{name}");
    }
}

#[test]
fn the_built_in_book_has_the_providers_own_prices() {
    let book = PriceBook::parse(BUILT_IN).unwrap();
    // (model, dollars per million tokens of: input, cache read, write 5 min, write 1 h, output), from the price pages
    // of Anthropic, OpenAI and Google.
    let table = [
        ("claude-sonnet-4-20250514", ["3", "0.3", "3.75", "6", "15"]),
        ("claude-opus-4-20250514", ["15", "1.5", "18.75", "30", "75"]),
        ("claude-haiku-4-5-20251001", ["1", "0.1", "1.25", "2", "5"]),
        ("claude-haiku-5-5", ["0.1", "0.01", "0.125", "0.2", "0.5"]),
        ("claude-opus-4-8", ["5", "0.5", "6.25", "10", "25"]),
        ("claude-opus-5-5", ["4", "0.2", "5", "8", "20"]),
        ("claude-sonnet-5-5", ["2", "0.1", "2.5", "4", "10"]),
        ("claude-fable-5-1", ["10", "0.25", "12.5", "20", "50"]),
        ("gpt-4.1", ["2", "0.5", "2", "2", "8"]),
        ("gpt-4.1-mini", ["0.4", "0.1", "0.4", "0.4", "1.6"]),
        ("gpt-5", ["1.25", "0.125", "1.25", "1.25", "10"]),
        ("gpt-5.2-codex", ["1.75", "0.175", "1.75", "1.75", "14"]),
        ("gpt-5.6", ["4", "0.4", "5", "10", "20"]),
        ("gemini-2.5-pro", ["1.25", "0.125", "1.25", "1.25", "10"]),
        ("gemini-3.1-pro-preview", ["2", "0.2", "2", "2", "12"]),
        ("gemini-3.8-flash", ["0.75", "0.075", "0.75", "0.75", "3.75"]),
        ("text-embedding-3-small", ["0.02", "0.02", "0.02", "0.02", "0"]),
    ];
    for (name, prices) in table {
        let model = book.catalogue().resolve(name).unwrap();
        assert_eq!(model.name.as_str(), name);
        let classes = [
            Usage { input: 1000, ..Usage::default() },
            Usage { cache_read: 1000, ..Usage::default() },
            Usage { cache_write_5m: 1000, ..Usage::default() },
            Usage { cache_write_1h: 1000, ..Usage::default() },
            Usage { output: 1000, ..Usage::default() },
        ];
        for (usage, price) in classes.iter().zip(prices) {
            let expected = Price::from_dollars_per_million(price).unwrap().times(1000).round_up().unwrap();
            let cost = book.cost(&model.name, usage, &Modifiers::default());
            assert_eq!(cost, Ok(expected), "{name} {usage:?}");
        }
    }
}

#[test]
fn every_model_of_the_built_in_book_can_be_held_and_settled() {
    let book = PriceBook::parse(BUILT_IN).unwrap();
    let models = book.catalogue().models();
    assert!(models.len() >= 140, "{}", models.len());
    for model in models {
        assert!(model.context_window > 0, "{}", model.name);
        assert!(model.max_output > 0 || model.mode == Mode::Embedding, "{}", model.name);
        let largest = Usage { input: model.context_window, output: model.max_output, ..Usage::default() };
        let bounds = Bounds {
            input: largest.input,
            input_per_call: largest.input,
            output: largest.output,
            ..Bounds::default()
        };
        for tier in ["standard", "batch", "flex", "priority", "ultrafast"] {
            let cost = book.cost(&model.name, &largest, &modifiers(tier, "", "")).unwrap();
            let hold = book.cost_max(&model.name, &bounds, &modifiers(tier, "", "")).unwrap();
            assert!(Nanodollars::ZERO < cost && cost <= hold, "{} {tier}", model.name);
        }
    }
}

#[test]
fn names_without_a_date_reach_the_model_that_anthropic_serves() {
    let book = PriceBook::parse(BUILT_IN).unwrap();
    for (name, served) in [
        ("claude-sonnet-4", "claude-sonnet-4-20250514"),
        ("claude-opus-4-0", "claude-opus-4-20250514"),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("claude-opus-4-6-20260205", "claude-opus-4-6"),
        ("anthropic/claude-opus-4-20250514", "claude-opus-4-20250514"),
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini-2025-04-14"),
        ("gemini/gemini-2.5-flash", "gemini-2.5-flash"),
    ] {
        assert_eq!(book.catalogue().resolve(name).map(|m| m.name.as_str()), Some(served), "{name}");
    }
    let retired = |name: &str| book.catalogue().resolve(name).unwrap().retired;
    assert_eq!(retired("claude-sonnet-4"), NaiveDate::from_ymd_opt(2026, 10, 14));
    assert_eq!(retired("claude-opus-4"), NaiveDate::from_ymd_opt(2026, 10, 14));
    assert_eq!(retired("claude-sonnet-5-5"), None);
    assert!(book.catalogue().resolve("gemini-exp-1114").is_none(), "a price of zero is no price");
    assert!(book.catalogue().resolve("gpt-5.5-cyber").is_none(), "a model without a size has no bound");
}

#[test]
fn parts_are_summed_before_they_are_rounded() {
    let book = PriceBook::parse(
        r#"{"format": "tollgate-price-book/1", "models": [
            {"name": "cheap", "provider": "openai", "mode": "chat", "context_window": 1000, "max_output": 100,
             "rates": [{"tier": "standard", "above": 0, "input": "0.0001", "output": "0.0001"}],
             "multipliers": {"speed:fast": "1.5"}},
            {"name": "dear", "provider": "openai", "mode": "chat", "context_window": 1000, "max_output": 100,
             "rates": [{"tier": "standard", "above": 0, "input": "2", "output": "8"}]}]}"#,
    )
    .unwrap();
    let (cheap, dear) = (ModelName::new("cheap"), ModelName::new("dear"));
    let (plain, fast) = (modifiers("", "", ""), modifiers("", "fast", ""));
    let usage = |input| Usage { input, ..Usage::default() };
    // 100 pico-dollars a token: (model, tokens, modifiers) of each part, and nano-dollars together.
    type Row<'a> = (&'a [(&'a ModelName, u64, &'a Modifiers)], i64);
    let table: [Row<'_>; 6] = [
        (&[], 0),
        (&[(&cheap, 1, &plain)], 1),
        (&[(&cheap, 5, &plain), (&cheap, 5, &plain)], 1),
        (&[(&cheap, 5, &plain), (&cheap, 6, &plain)], 2),
        (&[(&cheap, 4, &fast), (&cheap, 4, &plain)], 1),
        (&[(&dear, 1, &plain), (&cheap, 1, &fast)], 2_001),
    ];
    for (parts, expected) in table {
        let usages: Vec<Usage> = parts.iter().map(|(_, tokens, _)| usage(*tokens)).collect();
        let parts = parts.iter().zip(&usages);
        let parts: Vec<_> =
            parts.map(|((model, _, modifiers), usage)| Part { model, usage, modifiers }).collect();
        assert_eq!(book.cost_of_parts(&parts), Ok(Nanodollars::new(expected)), "{parts:?}");
    }
    let missing = ModelName::new("missing");
    let parts = [Part { model: &missing, usage: &usage(1), modifiers: &plain }];
    assert_eq!(book.cost_of_parts(&parts), Err(PriceError::UnknownModel));
}

#[test]
fn the_book_says_whether_it_knows_a_tier() {
    let book = book();
    let (x, plain) = (ModelName::new("claude-x"), ModelName::new("plain"));
    assert!(book.knows(&x, &modifiers("", "", "")) && book.knows(&x, &modifiers("batch", "", "")));
    assert!(book.knows(&plain, &modifiers("auto", "", "")));
    assert!(!book.knows(&plain, &modifiers("batch", "", "")));
    assert!(!book.knows(&ModelName::new("missing"), &modifiers("", "", "")));
}

#[test]
fn a_hold_is_never_smaller_for_what_is_only_asked_for() {
    let bounds = Bounds { input: 1000, input_per_call: 1000, output: 10, ..Bounds::default() };
    let hold = |tier: Option<&str>, speed: Option<&str>, geo: Option<&str>| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let modifiers = Modifiers { service_tier: own(tier), speed: own(speed), inference_geo: own(geo) };
        book().cost_max(&ModelName::new("claude-x"), &bounds, &modifiers)
    };
    let standard = hold(None, None, None);
    assert!(standard.is_ok());
    for tier in ["auto", "standard_only", "batch", "flex"] {
        assert_eq!(hold(Some(tier), Some("standard"), Some("global")), standard, "{tier}");
    }
    for (tier, speed, geo) in
        [(Some("unheard_of"), None, None), (None, Some("unheard_of"), None), (None, None, Some("unheard_of"))]
    {
        assert_eq!(hold(tier, speed, geo), Err(PriceError::UnknownModifier), "{tier:?} {speed:?} {geo:?}");
    }
}
