use super::*;
use crate::bounds::Bounds;
use crate::ids::ModelName;
use crate::money::Nanodollars;
use crate::price::{BUILT_IN, Modifiers};
use crate::usage::Usage;
use proptest::prelude::*;

const BOOK: &str = r#"{
  "format": "tollgate-price-book/1",
  "models": [{
    "name": "claude-x", "provider": "anthropic", "mode": "chat", "aliases": ["x"],
    "context_window": 1000000, "max_output": 64000, "retired": "2027-01-01",
    "rates": [
      {"tier": "standard", "above": 0, "input": "3", "cache_read": "0.3", "cache_write_5m": "3.75", "cache_write_1h": "6", "output": "15"},
      {"tier": "standard", "above": 200000, "input": "6", "output": "22.5"},
      {"tier": "batch", "above": 0, "input": "1.5", "output": "7.5"}
    ],
    "multipliers": {"speed:fast": "2"},
    "web_search": "0.01"
  }, {
    "name": "plain", "provider": "openai", "mode": "chat", "context_window": 1000, "max_output": 100,
    "rates": [{"tier": "standard", "above": 0, "input": "2", "output": "8"}]
  }]
}"#;

fn book() -> PriceBook {
    PriceBook::parse(BOOK).unwrap()
}

/// A sheet of this name, as JSON without its braces.
fn sheet(name: &str, lines: &str) -> Sheet {
    serde_json::from_str(&format!("{{\"name\": \"{name}\", {lines}}}")).unwrap()
}

fn merged(lines: &str) -> PriceBook {
    book().under([&sheet("a", lines)]).unwrap()
}

/// `field: sentence` of each fault of one sheet.
fn faults(lines: &str) -> Vec<String> {
    let faults = book().under([&sheet("a", lines)]).map(|_| ()).unwrap_err();
    faults.iter().map(|fault| format!("{}: {}", fault.field, fault.error)).collect()
}

fn cost(book: &PriceBook, model: &str, usage: &Usage, tier: &str) -> i64 {
    let modifiers = Modifiers { service_tier: Some(tier.to_owned()), ..Modifiers::default() };
    let model = &book.catalogue().resolve(model).unwrap().name;
    book.cost(model, usage, &modifiers).unwrap().get()
}

#[test]
fn a_discount_is_off_every_class_tier_and_extra() {
    let book = merged(r#""discounts": [{"model": "x", "percent": "10"}]"#);
    let one = |usage: Usage, tier: &str| cost(&book, "claude-x", &usage, tier);
    let none = Usage::default();
    // By hand, from the book: nano-dollars.
    assert_eq!(one(Usage { input: 1, ..none }, "standard"), 2_700);
    assert_eq!(one(Usage { cache_read: 1, ..none }, "standard"), 270);
    assert_eq!(one(Usage { cache_write_5m: 1, ..none }, "standard"), 3_375);
    assert_eq!(one(Usage { cache_write_1h: 1, ..none }, "standard"), 5_400);
    assert_eq!(one(Usage { output: 1, ..none }, "standard"), 13_500);
    assert_eq!(one(Usage { input: 1, ..none }, "batch"), 1_350);
    assert_eq!(one(Usage { input: 200_001, ..none }, "standard"), 200_001 * 5_400);
    assert_eq!(one(Usage { cache_read: 200_001, ..none }, "standard"), 200_001 * 5_400, "as input");
    assert_eq!(one(Usage { web_searches: 1, ..none }, "standard"), 9_000_000);
    let fast = Modifiers { speed: Some("fast".into()), ..Modifiers::default() };
    let usage = Usage { input: 1, ..none };
    assert_eq!(book.cost(&ModelName::new("claude-x"), &usage, &fast), Ok(Nanodollars::new(5_400)));
    assert_eq!(cost(&book, "plain", &usage, ""), 2_000, "another model's price is as it was");
}

#[test]
fn a_discount_of_a_model_counts_instead_of_its_providers() {
    let lines = r#""discounts": [{"provider": "anthropic", "percent": "50"}, {"model": "claude-x", "percent": "10"}]"#;
    let input = Usage { input: 1, ..Usage::default() };
    assert_eq!(cost(&merged(lines), "x", &input, ""), 2_700);
    let lines = r#""discounts": [{"provider": "anthropic", "percent": "50"}]"#;
    assert_eq!(cost(&merged(lines), "x", &input, ""), 1_500);
    assert_eq!(cost(&merged(lines), "plain", &input, ""), 2_000);
}

#[test]
fn an_own_price_is_final_and_the_rest_is_as_the_book_has_it() {
    let lines = r#""models": [{"name": "anthropic/claude-x", "prices": [
        {"input": "1", "output": "2"}, {"aboveTokens": 200000, "input": "4", "cacheRead": "0.5", "output": "5"}]}],
        "discounts": [{"provider": "anthropic", "percent": "50"}]"#;
    let book = merged(lines);
    let none = Usage::default();
    assert_eq!(cost(&book, "x", &Usage { input: 1, output: 1, ..none }, ""), 3_000);
    assert_eq!(cost(&book, "x", &Usage { cache_write_1h: 1, ..none }, ""), 1_000, "as input");
    assert_eq!(cost(&book, "x", &Usage { cache_read: 200_001, ..none }, ""), 200_001 * 500);
    assert_eq!(cost(&book, "x", &Usage { input: 1, ..none }, "batch"), 1_000, "as standard");
    assert_eq!(cost(&book, "x", &Usage { web_searches: 1, ..none }, ""), 10_000_000);
    let model = book.catalogue().resolve("x").unwrap();
    assert_eq!((model.context_window, model.max_output), (1_000_000, 64_000));
    assert!(model.retired.is_some());
}

#[test]
fn an_own_price_by_an_alias_is_the_price_of_its_model() {
    let own = |name: &str, aliases: &str| {
        format!(
            r#""models": [{{"name": "{name}", "contextWindow": 500000, "maxOutput": 9, "aliases": [{aliases}], "prices": [
            {{"input": "1", "output": "2"}}, {{"aboveTokens": 200000, "input": "4", "output": "5"}}]}}]"#
        )
    };
    let base = book;
    let book = merged(&own("anthropic/x", r#""mine""#));
    for name in ["x", "claude-x", "anthropic/claude-x", "mine"] {
        assert_eq!(cost(&book, name, &Usage { input: 1, ..Usage::default() }, ""), 1_000, "{name}");
    }
    assert_eq!(book.catalogue().models().len(), 2);
    assert_eq!(book.source(), merged(&own("anthropic/claude-x", r#""mine""#)).source());
    // By either name it is the same model: said twice, and contradicted.
    let (real, alias) = (own("anthropic/claude-x", ""), own("anthropic/x", ""));
    let both = base().under([&sheet("a", &real), &sheet("b", &alias)]).unwrap();
    assert_eq!(both.source(), merged(&real).source());
    let other = alias.replace("\"5\"", "\"6\"");
    let faults = base().under([&sheet("a", &real), &sheet("b", &other)]).map(|_| ()).unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "b: models[0].name: a says something else of claude-x: say it in one place"
    );
    let built_in = PriceBook::parse(BUILT_IN).unwrap();
    let lines =
        r#""models": [{"name": "anthropic/claude-opus-4-5", "prices": [{"input": "1", "output": "2"}]}]"#;
    let book = built_in.under([&sheet("a", lines)]).unwrap();
    assert_eq!(cost(&book, "claude-opus-4-5-20251101", &Usage { output: 1, ..Usage::default() }, ""), 2_000);
}

/// Each row is two sheets that contradict each other: first the fault when the second sheet is the later one, then when the first is.
#[test]
fn the_later_sheet_is_to_blame_whatever_the_two_say_it_with() {
    let own = |name: &str, aliases: &str| {
        format!(
            r#""models": [{{"name": "openai/{name}", "contextWindow": 10, "maxOutput": 1, "aliases": [{aliases}],
            "prices": [{{"input": "1", "output": "1"}}]}}]"#
        )
    };
    let alias = |name: &str| format!(r#""aliases": [{{"alias": "{name}", "model": "x"}}]"#);
    let discount = r#""discounts": [{"model": "plain", "percent": "1"}]"#.to_owned();
    let table = [
        (
            own("new", r#""fast""#),
            alias("fast"),
            "aliases[0].alias: fast is already a name of new in one: write another",
            "models[0].aliases[0]: fast is already a name of claude-x in other: write another",
        ),
        (
            own("new", ""),
            alias("new"),
            "aliases[0].alias: new is already a name of new in one: write another",
            "models[0].name: new is already a name of claude-x in other: write another",
        ),
        (
            own("new", ""),
            alias("openai/new"),
            "aliases[0].alias: openai/new is already a name of new in one: write another",
            "models[0].name: openai/new is already a name of claude-x in other: write another",
        ),
        (
            own("new", ""),
            own("own", r#""new""#),
            "models[0].aliases[0]: new is already a name of new in one: write another",
            "models[0].name: new is already a name of own in other: write another",
        ),
        (
            own("plain", ""),
            discount,
            "discounts[0].model: plain has a price of its own in one, which is final: write the discounted one there",
            "models[0].name: plain has a discount in other, and a price of its own is final: say one of the two",
        ),
    ];
    for (one, other, second, first) in table {
        let (one, other) = (sheet("one", &one), sheet("other", &other));
        for (sheets, expected) in
            [([&one, &other], format!("other: {second}")), ([&other, &one], format!("one: {first}"))]
        {
            let faults = book().under(sheets).map(|_| ()).unwrap_err();
            let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
            assert_eq!(said, [expected]);
            assert_eq!(faults[0].error.kind(), SheetErrorKind::Conflict);
        }
    }
}

#[test]
fn the_sheet_of_another_owner_is_told_by_its_owner() {
    let lines = |percent: &str| format!(r#""discounts": [{{"provider": "openai", "percent": "{percent}"}}]"#);
    let other = Overlay::new(vec![sheet("PriceBook p/a", &lines("1"))]).of_owner("kubernetes/eu");
    let own = sheet("PriceBook p/a", &lines("2"));
    let faults = book().under(other.sheets.iter().chain([&own])).map(|_| ()).unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "PriceBook p/a: discounts[0]: PriceBook p/a of kubernetes/eu says something else of openai: say it in one place"
    );
}

#[test]
fn a_model_of_ones_own_is_there_under_all_of_its_names() {
    let lines = r#""models": [{"name": "openai/ft:plain:acme::1", "mode": "embedding", "contextWindow": 10, "maxOutput": 5,
        "aliases": ["acme"], "prices": [{"input": "7", "output": "9"}], "webSearch": "0.5"}],
        "aliases": [{"alias": "acme/best", "model": "ft:plain:acme::1"}, {"alias": "cheap", "model": "openai/plain"}]"#;
    let book = merged(lines);
    for name in ["ft:plain:acme::1", "openai/ft:plain:acme::1", "acme", "acme/best"] {
        let model = book.catalogue().resolve(name).unwrap();
        assert_eq!((model.name.as_str(), model.mode), ("ft:plain:acme::1", Mode::Embedding), "{name}");
    }
    assert_eq!(book.catalogue().resolve("cheap").unwrap().name.as_str(), "plain");
    assert_eq!(
        cost(&book, "acme", &Usage { input: 1, web_searches: 1, ..Usage::default() }, ""),
        500_007_000
    );
}

#[test]
fn every_fault_names_its_line_and_says_what_to_write() {
    let own = |fields: &str| format!(r#""models": [{{"name": "openai/new", {fields}}}]"#);
    let priced =
        |prices: &str| own(&format!(r#""contextWindow": 1000, "maxOutput": 10, "prices": [{prices}]"#));
    let table = [
        (
            r#""discounts": [{"model": "y", "percent": "1"}]"#.to_owned(),
            "discounts[0].model: no model is called y",
        ),
        (
            r#""discounts": [{"provider": "acme", "percent": "1"}]"#.into(),
            "discounts[0].provider: \"acme\" is no provider",
        ),
        (
            r#""discounts": [{"model": "x", "percent": "100"}]"#.into(),
            "discounts[0].percent: \"100\" is no discount: write",
        ),
        (
            r#""discounts": [{"percent": "1"}]"#.into(),
            "discounts[0]: a discount is on a provider or on a model",
        ),
        (
            r#""discounts": [{"model": "x", "provider": "anthropic", "percent": "1"}]"#.into(),
            "discounts[0]: a discount is on a provider or on a model",
        ),
        (
            r#""discounts": [{"model": "x", "percent": "1"}, {"model": "claude-x", "percent": "2"}]"#.into(),
            "discounts[1]: a says something else of claude-x",
        ),
        (r#""aliases": [{"alias": "y", "model": "z"}]"#.into(), "aliases[0].model: no model is called z"),
        (
            r#""aliases": [{"alias": "x", "model": "plain"}]"#.into(),
            "aliases[0].alias: x is already a name of claude-x",
        ),
        (
            r#""aliases": [{"alias": "anthropic/claude-x", "model": "plain"}]"#.into(),
            "aliases[0].alias: anthropic/claude-x is already a name of claude-x",
        ),
        (r#""aliases": [{"alias": "a*", "model": "x"}]"#.into(), "aliases[0].alias: \"a*\" is no name"),
        (
            r#""aliases": [{"alias": "b", "model": "x"}, {"alias": "c", "model": "b"}]"#.into(),
            "aliases[1].model: no model is called b",
        ),
        (
            r#""models": [{"name": "new", "prices": []}]"#.into(),
            "models[0].name: \"new\" is no model of a provider",
        ),
        (
            r#""models": [{"name": "acme/new", "prices": []}]"#.into(),
            "models[0].name: \"acme/new\" is no model of a provider",
        ),
        (
            r#""models": [{"name": "gemini/x", "prices": [{"input": "1", "output": "1"}]}]"#.into(),
            "models[0].name: the price book has x of another provider: write anthropic/x",
        ),
        (
            r#""models": [{"name": "openai/anthropic/claude-x", "prices": [{"input": "1", "output": "1"}]}]"#.into(),
            "models[0].name: the price book has anthropic/claude-x of another provider",
        ),
        (
            r#""models": [{"name": "anthropic/x", "prices": [{"input": "1", "output": "1"}]}]"#.into(),
            "models[0].prices: the price book has a price of its own for tier standard above 200000 tokens",
        ),
        (
            r#""models": [{"name": "openai/new", "contextWindow": 1, "maxOutput": 1, "prices": [{"input": "1", "output": "1"}]}],
               "aliases": [{"alias": "openai/new", "model": "plain"}]"#
                .into(),
            "aliases[0].alias: openai/new is already a name of new in a",
        ),
        (
            r#""models": [{"name": "gemini/plain", "prices": [{"input": "1", "output": "1"}]}]"#.into(),
            "models[0].name: the price book has plain of another provider: write openai/plain",
        ),
        (priced(""), "models[0].prices: no price is for requests of every size"),
        (
            priced(r#"{"aboveTokens": 5, "input": "1", "output": "1"}"#),
            "models[0].prices: no price is for requests of every size",
        ),
        (
            priced(r#"{"input": "one", "output": "1"}"#),
            "models[0].prices[0].input: it is not a decimal number",
        ),
        (
            priced(r#"{"input": "1", "cacheWrite1h": "-1", "output": "1"}"#),
            "models[0].prices[0].cacheWrite1h: it",
        ),
        (
            priced(r#"{"input": "0", "output": "0.0"}"#),
            "models[0].prices[0]: input and output both cost nothing",
        ),
        (
            priced(r#"{"input": "1", "output": "1"}, {"tier": "standard", "input": "2", "output": "2"}"#),
            "models[0].prices[1]: two prices are for tier standard above 0 tokens",
        ),
        (
            priced(r#"{"input": "1", "output": "1"}, {"tier": "auto", "input": "2", "output": "2"}"#),
            "models[0].prices[1].tier: requests of tier auto are billed as standard: leave tier out",
        ),
        (
            priced(r#"{"input": "1", "output": "1"}, {"tier": "default", "input": "2", "output": "2"}"#),
            "models[0].prices[1].tier: requests of tier default are billed",
        ),
        (
            priced(r#"{"input": "1", "output": "1"}, {"tier": "standard_only", "input": "2", "output": "2"}"#),
            "models[0].prices[1].tier: requests of tier standard_only are billed",
        ),
        (
            priced(r#"{"input": "1", "output": "1"}, {"tier": "on_demand", "input": "2", "output": "2"}"#),
            "models[0].prices[1].tier: requests of tier on_demand are billed",
        ),
        (priced(r#"{"input": "18446744073710", "output": "1"}"#), "models[0].prices[0].input: it"),
        (
            priced(r#"{"input": "18446744073709", "output": "1"}"#),
            "models[0].prices: a request of the largest size would cost more",
        ),
        (
            own(r#""prices": [{"input": "1", "output": "1"}]"#),
            "models[0].contextWindow: the price book does not have this model",
        ),
        (
            r#""models": [{"name": "anthropic/claude-x", "prices": [{"input": "1", "output": "1"}]}]"#.into(),
            "models[0].prices: the price book has a price of its own for tier standard above 200000 tokens",
        ),
        (
            r#""models": [{"name": "openai/plain", "prices": [{"input": "1", "output": "1"}]}],
               "discounts": [{"model": "plain", "percent": "1"}]"#
                .into(),
            "discounts[0].model: plain has a price of its own in a, which is final",
        ),
    ];
    for (lines, expected) in table {
        let faults = faults(&lines);
        assert!(faults.len() == 1 && faults[0].starts_with(expected), "{lines}: {faults:?}");
    }
    let all =
        faults(r#""discounts": [{"model": "y", "percent": "1"}], "aliases": [{"alias": "y", "model": "z"}]"#);
    assert_eq!(all.len(), 2, "all are named at once: {all:?}");
}

#[test]
fn sheets_that_agree_are_one_and_the_later_of_those_that_do_not_is_to_blame() {
    let own = |price: &str| {
        format!(
            r#""models": [{{"name": "openai/plain", "prices": [{{"input": "{price}", "output": "1"}}]}}]"#
        )
    };
    let table = [
        (own("1"), own("2"), "models[0].name: a says something else of plain"),
        (
            r#""discounts": [{"provider": "openai", "percent": "1"}]"#.into(),
            r#""discounts": [{"provider": "openai", "percent": "2"}]"#.into(),
            "discounts[0]: a says something else of openai",
        ),
        (
            r#""aliases": [{"alias": "fast", "model": "plain"}]"#.into(),
            r#""aliases": [{"alias": "fast", "model": "x"}]"#.into(),
            "aliases[0].alias: fast is already a name of plain",
        ),
    ];
    for (one, other, expected) in table {
        let same = [&sheet("a", &one), &sheet("b", &one)];
        assert_eq!(book().under(same).unwrap().source(), merged(&one).source());
        let faults = book().under([&sheet("a", &one), &sheet("b", &other)]).map(|_| ()).unwrap_err();
        let [fault] = faults.as_slice() else { panic!("{faults:?}") };
        assert_eq!(fault.sheet, "b");
        assert!(format!("{}: {}", fault.field, fault.error).starts_with(expected), "{fault}");
        assert_eq!(fault.error.kind(), SheetErrorKind::Conflict);
    }
}

#[test]
fn nothing_said_is_the_book_itself() {
    assert_eq!(book().under([]).unwrap().revision(), book().revision());
    assert_eq!(book().under([&Sheet::default()]).unwrap().revision(), book().revision());
}

#[test]
fn an_overlay_survives_its_text() {
    let sheet = sheet("a", r#""discounts": [{"provider": "openai", "percent": "1"}]"#);
    let overlay = Overlay::new(vec![sheet, Sheet::default()]);
    assert_eq!(Overlay::parse(&overlay.to_text().unwrap()).unwrap(), overlay);
    for wrong in ["", "{}", r#"{"format": "tollgate-price-overlay/9", "sheets": []}"#] {
        assert!(matches!(Overlay::parse(wrong), Err(BookError::Format(_))), "{wrong}");
    }
}

/// Lines that do not contradict each other, to be spread over sheets.
const LINES: [&str; 4] = [
    r#""discounts": [{"provider": "anthropic", "percent": "12.3456"}]"#,
    r#""discounts": [{"model": "claude-opus-4", "percent": "33.3333"}]"#,
    r#""aliases": [{"alias": "zz", "model": "claude-opus-4"}, {"alias": "aa", "model": "claude-opus-4"}]"#,
    r#""models": [{"name": "openai/acme", "contextWindow": 1000, "maxOutput": 10, "prices": [{"input": "1", "output": "1"}]}]"#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_order_of_sheets_means_nothing(order in Just(LINES.to_vec()).prop_shuffle()) {
        let built_in = PriceBook::parse(BUILT_IN).unwrap();
        let text = |lines: &[&str]| {
            let sheets: Vec<Sheet> = lines.iter().map(|lines| sheet("s", lines)).collect();
            built_in.under(&sheets).unwrap().source().to_owned()
        };
        prop_assert_eq!(text(&order), text(&LINES));
    }

    /// No discount makes a model free, and none makes it dearer.
    #[test]
    fn a_discounted_model_costs_something_and_not_more(parts in 1..1_000_000_u32) {
        let percent = format!("{}.{:04}", parts / 10_000, parts % 10_000);
        let lines = format!(r#""discounts": [{{"provider": "openai", "percent": "{percent}"}}, {{"provider": "anthropic", "percent": "{percent}"}}]"#);
        let built_in = PriceBook::parse(BUILT_IN).unwrap();
        let merged = built_in.under([&sheet("s", &lines)]).unwrap();
        for model in built_in.catalogue().models() {
            let bounds = Bounds { input: 1000, input_per_call: 1000, output: 10, ..Bounds::default() };
            let hold = |book: &PriceBook| book.cost_max(&model.name, &bounds, &Modifiers::default()).unwrap();
            prop_assert!(Nanodollars::ZERO < hold(&merged) && hold(&merged) <= hold(&built_in), "{}", model.name);
        }
    }
}
