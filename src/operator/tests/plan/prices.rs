//! Price books: what they say counts together, and what is wrong with one is said on it.

use crate::cluster::{Cluster, HOUR_MS, condition};
use tollgate_domain::ids::ModelName;
use tollgate_domain::price::Modifiers;
use tollgate_domain::usage::Usage;
use tollgate_operator::plan::{Action, Kind};

const DISCOUNT: &str = r#"
kind: PriceBook
metadata: {name: discounts, namespace: platform}
spec: {discounts: [{provider: anthropic, percent: "12.5"}]}
"#;

const ALIASES: &str = r#"
kind: PriceBook
metadata: {name: aliases, namespace: tollgate}
spec:
  models: [{name: openai/own, contextWindow: 1000, maxOutput: 10, aliases: [mine], prices: [{input: "7", output: "9"}]}]
  aliases: [{alias: fast, model: claude-x}, {alias: cheap, model: plain}]
"#;

/// What a million tokens of input cost, in dollars.
fn price(cluster: &Cluster, name: &str) -> Option<String> {
    let book = cluster.prices();
    let model: ModelName = book.catalogue().resolve(name)?.name.clone();
    let usage = Usage { input: 1_000_000, ..Usage::default() };
    Some(book.cost(&model, &usage, &Modifiers::default()).unwrap().to_string())
}

fn is(cluster: &Cluster, object: &str, kind: &str) -> String {
    condition(&cluster.price_book_status(object).conditions, kind)
}

fn message(cluster: &Cluster, object: &str, kind: &str) -> String {
    let conditions = cluster.price_book_status(object).conditions;
    conditions.into_iter().find(|one| one.type_ == kind).unwrap().message
}

fn asked(cluster: &Cluster) -> usize {
    cluster.carried_out.iter().filter(|action| matches!(action, Action::SetPrices { .. })).count()
}

#[test]
fn all_price_books_count_together_in_one_message() {
    let mut cluster = Cluster::with(&format!("{DISCOUNT}---{ALIASES}"));
    assert_eq!(asked(&cluster), 1);
    for (name, dollars) in [("claude-x", "1.75"), ("fast", "1.75"), ("cheap", "1"), ("mine", "7")] {
        assert_eq!(price(&cluster, name).as_deref(), Some(dollars), "{name}");
    }
    for (object, counts) in [("platform/discounts", [0, 1, 0]), ("tollgate/aliases", [1, 0, 3])] {
        let status = cluster.price_book_status(object);
        assert_eq!(condition(&status.conditions, "Ready"), "True Ready");
        assert_eq!(condition(&status.conditions, "Programmed"), "True Programmed");
        let [models, discounts, aliases] = counts.map(Some);
        assert_eq!((status.models, status.discounts, status.aliases), (models, discounts, aliases));
        assert_eq!(status.observed_generation, Some(1));
    }
    cluster.settle();
    assert_eq!(cluster.carried_out, [], "at rest, nothing is asked");
}

#[test]
fn a_changed_price_book_counts_and_the_last_one_leaves_the_prices_as_they_were() {
    let mut cluster = Cluster::with(&format!("{DISCOUNT}---{ALIASES}"));
    cluster.apply(&DISCOUNT.replace("12.5", "50"));
    cluster.settle();
    assert_eq!(price(&cluster, "fast").as_deref(), Some("1"));
    cluster.delete(Kind::PriceBook, "tollgate/aliases");
    cluster.settle();
    assert_eq!(price(&cluster, "fast"), None);
    cluster.delete(Kind::PriceBook, "platform/discounts");
    cluster.settle();
    assert_eq!(price(&cluster, "claude-x").as_deref(), Some("2"));
    assert!(cluster.overlays.is_empty());
}

#[test]
fn a_price_book_of_anybody_counts_nothing() {
    let cluster = Cluster::with(&DISCOUNT.replace("platform", "payments"));
    assert_eq!(is(&cluster, "payments/discounts", "Accepted"), "False NamespaceNotListed");
    assert_eq!(is(&cluster, "payments/discounts", "Programmed"), "False NotAccepted");
    assert_eq!(price(&cluster, "claude-x").as_deref(), Some("2"));
}

#[test]
fn a_fault_is_said_on_its_price_book_and_the_prices_stay_as_they_were() {
    let mut cluster = Cluster::with(&format!("{DISCOUNT}---{ALIASES}"));
    cluster.apply(
        &DISCOUNT.replace("provider: anthropic, percent: \"12.5\"", "model: nonsense, percent: \"50\""),
    );
    cluster.apply(&ALIASES.replace("cheap", "cheaper"));
    cluster.settle();
    assert_eq!(is(&cluster, "platform/discounts", "Ready"), "False ModelNotFound");
    assert_eq!(
        message(&cluster, "platform/discounts", "Accepted"),
        "spec.discounts[0].model: no model is called nonsense: write a name from the list of models"
    );
    assert_eq!(is(&cluster, "tollgate/aliases", "Accepted"), "True Accepted");
    assert_eq!(is(&cluster, "tollgate/aliases", "Programmed"), "False OthersRefused");
    assert!(message(&cluster, "tollgate/aliases", "Programmed").contains("PriceBook platform/discounts"));
    assert_eq!(price(&cluster, "claude-x").as_deref(), Some("1.75"), "as it was");
    assert_eq!((price(&cluster, "cheap").is_some(), price(&cluster, "cheaper").is_some()), (true, false));
    cluster.apply(DISCOUNT);
    cluster.settle();
    assert_eq!(is(&cluster, "platform/discounts", "Ready"), "True Ready");
    assert_eq!(is(&cluster, "tollgate/aliases", "Ready"), "True Ready");
    assert_eq!(price(&cluster, "cheaper").as_deref(), Some("1"));
}

#[test]
fn a_ledger_that_takes_no_such_message_is_told_in_every_status() {
    let mut cluster = Cluster::with(ALIASES);
    cluster.no_prices = Some("overlay: unknown field `next`".into());
    cluster.apply(DISCOUNT);
    cluster.settle();
    for object in ["platform/discounts", "tollgate/aliases"] {
        assert_eq!(is(&cluster, object, "Accepted"), "True Accepted");
        assert_eq!(is(&cluster, object, "Programmed"), "False RefusedByLedger");
        assert_eq!(
            message(&cluster, object, "Programmed"),
            "The ledger does not take the price books, which count together: overlay: unknown field `next`. \
             What was in force before stays so."
        );
    }
    assert_eq!(price(&cluster, "fast").as_deref(), Some("2"), "as it was");
    cluster.settle();
    assert_eq!(asked(&cluster), 0, "not at once");
    // The ledger is renewed.
    cluster.no_prices = None;
    cluster.pass(cluster.now.plus_ms(HOUR_MS));
    assert_eq!(is(&cluster, "platform/discounts", "Ready"), "True Ready");
}

#[test]
fn of_two_that_contradict_each_other_the_younger_is_to_blame() {
    let mut cluster = Cluster::with(DISCOUNT);
    cluster.now = cluster.now.plus_ms(HOUR_MS);
    // Earlier in the alphabet, and later in time.
    cluster.apply(&DISCOUNT.replace("discounts, ", "another, ").replace("12.5", "30"));
    cluster.settle();
    assert_eq!(is(&cluster, "platform/discounts", "Accepted"), "True Accepted");
    assert_eq!(is(&cluster, "platform/another", "Accepted"), "False Conflict");
    assert!(
        message(&cluster, "platform/another", "Accepted")
            .contains("PriceBook platform/discounts says something else of anthropic")
    );
    assert_eq!(price(&cluster, "claude-x").as_deref(), Some("1.75"));
    // One that says the same is no contradiction.
    cluster.apply(&DISCOUNT.replace("discounts, ", "another, "));
    cluster.settle();
    assert_eq!(is(&cluster, "platform/another", "Ready"), "True Ready");
}

#[test]
fn what_was_refused_is_asked_again_because_the_ledger_may_have_changed() {
    let bad = DISCOUNT.replace("provider: anthropic", "model: fast");
    let mut cluster = Cluster::with(&bad);
    assert_eq!(is(&cluster, "platform/discounts", "Ready"), "False ModelNotFound");
    cluster.settle();
    assert_eq!(asked(&cluster), 0, "not at once");
    // Another cluster's operator brings the name.
    let mut other = Cluster::with(ALIASES);
    cluster.overlays.insert("other".into(), other.overlays.remove("kubernetes").unwrap());
    cluster.pass(cluster.now.plus_ms(HOUR_MS));
    assert_eq!(is(&cluster, "platform/discounts", "Ready"), "True Ready");
    assert_eq!(cluster.overlays.len(), 2, "and its own stands beside");
}

#[test]
fn a_restart_and_a_lost_ledger_end_in_the_same_prices() {
    let mut cluster = Cluster::with(&format!("{DISCOUNT}---{ALIASES}"));
    let before = cluster.prices().revision();
    cluster.restart_operator();
    cluster.settle();
    assert_eq!(
        (cluster.prices().revision(), asked(&cluster)),
        (before, 1),
        "asked once, because it may have changed"
    );
    let wrote = |action: &Action| matches!(action, Action::SetStatus { .. });
    assert!(!cluster.carried_out.iter().any(wrote), "{:#?}", cluster.carried_out);
    // Restored from before there were any.
    cluster.overlays.clear();
    cluster.hear_everything();
    cluster.settle();
    assert_eq!(cluster.prices().revision(), before);
    // The last one goes while nobody looks.
    cluster.world.price_books.clear();
    cluster.restart_operator();
    cluster.settle();
    assert!(cluster.overlays.is_empty());
}

#[test]
fn while_the_ledger_is_away_the_last_word_stands() {
    let mut cluster = Cluster::with(DISCOUNT);
    cluster.world.ledger.lose(cluster.now);
    cluster.settle();
    assert_eq!(is(&cluster, "platform/discounts", "Ready"), "True Ready", "for a moment");
    cluster.pass(cluster.now.plus_ms(60_000));
    assert_eq!(is(&cluster, "platform/discounts", "Programmed"), "Unknown LedgerUnavailable");
    assert_eq!(is(&cluster, "platform/discounts", "Accepted"), "True Accepted");
    cluster.world.ledger.sync();
    cluster.settle();
    assert_eq!(is(&cluster, "platform/discounts", "Ready"), "True Ready");
}

#[test]
fn two_operators_plan_the_same_prices() {
    let mut cluster = Cluster::new();
    cluster.apply(&format!("{ALIASES}---{DISCOUNT}"));
    for _ in 0..4 {
        let plan = cluster.plan();
        assert_eq!(plan, cluster.clone().plan());
        // And what both do, each of them twice, comes to the same.
        let twice: Vec<_> = plan.actions.iter().chain(&plan.actions).cloned().collect();
        twice.into_iter().for_each(|action| cluster.carry_out(action));
    }
    assert_eq!(is(&cluster, "platform/discounts", "Ready"), "True Ready");
    assert_eq!(cluster.plan().actions, []);
}
