//! What operators say of prices: own prices, discounts and aliases over the price book.

use crate::world::{Backend, World, key, money, settle};
use std::sync::Arc;
use tollgate_domain::hold::Verdict;
use tollgate_domain::ids::ModelName;
use tollgate_domain::price::{Discounted, NewAlias, Overlay, PriceBook, Sheet, SheetError};
use tollgate_ledger::store::{Applied, BooksStore, Manager, Operated, PricesSet, Store};

pub(crate) fn operator(scope: &str) -> Manager {
    Manager { name: "kubernetes".into(), scope: scope.into() }
}

pub(crate) fn discount(provider: &str, percent: &str) -> Sheet {
    let discount = Discounted { provider: Some(provider.into()), model: None, percent: percent.into() };
    Sheet { name: "discounts".into(), discounts: vec![discount], ..Sheet::default() }
}

fn alias(alias: &str, model: &str) -> Sheet {
    let alias = NewAlias { alias: alias.into(), model: model.into() };
    Sheet { name: "aliases".into(), aliases: vec![alias], ..Sheet::default() }
}

async fn set<const N: usize>(store: &BooksStore, scope: &str, sheets: [Sheet; N]) -> PricesSet {
    store.set_prices(operator(scope), Overlay::new(sheets.into())).await.unwrap()
}

fn model_of(store: &BooksStore, name: &str) -> Option<String> {
    store.prices().catalogue().resolve(name).map(|model| model.name.to_string())
}

/// What ten tokens of `m` hold, in nano-dollars.
async fn held<B: Backend>(world: &World<B>) -> i64 {
    match world.ask_for(world.ask(1, 10).await).await {
        Verdict::Held { amount, .. } => amount.get(),
        other => panic!("not held: {other:?}"),
    }
}

pub(crate) async fn what_an_operator_says_of_prices_counts_for_the_next_hold<B: Backend>(
    world: &mut World<B>,
) {
    world.lone_key(1_000_000).await;
    let before = world.policy(1).await.version;
    // What is remembered of the key is of the old prices.
    assert_eq!(held(world).await, 10_000);
    let store = world.store();
    let done = set(&store, "c", [discount("openai", "12.5"), alias("fast", "dear")]).await;
    assert_eq!(done.outcome, Ok(Applied::Created));
    assert_eq!(done.revision, store.prices().revision());
    assert_ne!(done.revision, World::<B>::book().revision());
    assert_ne!(world.policy(1).await.version, before, "filters hear of it");
    assert_eq!(model_of(&store, "fast").as_deref(), Some("dear"));
    assert_eq!(held(world).await, 8_750);
    // A decision on the policy of before is made again.
    let mut ask = world.ask(1, 10).await;
    ask.policy_version = before;
    assert!(matches!(world.ask_for(ask).await, Verdict::Stale { .. }));
    let mut ask = world.ask(1, 1).await;
    ask.model = ModelName::new("dear");
    let hold = world.hold_ask(ask).await;
    world.report(hold, 1, settle(1, 1)).await;
    assert_eq!(world.log(hold).await.cost, money(8_750 + 17_500));
}

pub(crate) async fn open_holds_end_by_the_prices_that_they_were_made_by<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    let old = world.hold(1, 10).await;
    let store = world.store();
    set(&store, "c", [discount("openai", "50")]).await;
    let ask = world.ask(1, 10).await;
    let new = world.hold_ask(ask).await;
    set(&store, "c", []).await;
    world.report(old, 1, settle(10, 0)).await;
    world.report(new, 1, settle(10, 0)).await;
    assert_eq!(world.log(old).await.cost, money(10_000));
    assert_eq!(world.log(new).await.cost, money(5_000));
    assert_eq!(world.balance(key(1)).await, (15_000, 0));
}

pub(crate) async fn the_same_again_changes_nothing_and_nothing_clears_it<B: Backend>(world: &mut World<B>) {
    let store = world.store();
    let base = store.prices().revision();
    assert_eq!(set(&store, "c", []).await, PricesSet { outcome: Ok(Applied::Unchanged), revision: base });
    let sheets = || [discount("openai", "10"), alias("fast", "m")];
    let first = set(&store, "c", sheets()).await;
    let again = set(&store, "c", sheets()).await;
    assert_eq!(again, PricesSet { outcome: Ok(Applied::Unchanged), ..first.clone() });
    // Another order, the same prices.
    let [one, other] = sheets();
    let swapped = set(&store, "c", [other, one]).await;
    assert_eq!(swapped, PricesSet { outcome: Ok(Applied::Changed), ..first });
    assert_eq!(set(&store, "c", []).await, PricesSet { outcome: Ok(Applied::Changed), revision: base });
    assert_eq!(model_of(&store, "fast"), None);
}

pub(crate) async fn a_fault_is_named_and_changes_nothing<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    let store = world.store();
    let before = set(&store, "c", [discount("openai", "50")]).await;
    let refused =
        set(&store, "c", [discount("openai", "10"), alias("fast", "nonsense"), alias("m", "dear")]).await;
    let faults = refused.outcome.unwrap_err();
    let said: Vec<_> = faults.iter().map(|fault| (fault.field.as_str(), &fault.error)).collect();
    let unknown = SheetError::UnknownModel("nonsense".into());
    let taken = SheetError::NameTaken("m".into(), "m".into());
    assert_eq!(said, [("aliases[0].model", &unknown), ("aliases[0].alias", &taken)]);
    assert_eq!(refused.revision, before.revision);
    assert_eq!(held(world).await, 5_000);
    drop(store);
    world.restart().await;
    assert_eq!(held(world).await, 5_000);
}

pub(crate) async fn each_operator_has_its_own_word<B: Backend>(world: &mut World<B>) {
    let store = world.store();
    assert!(set(&store, "z", [alias("fast", "m")]).await.outcome.is_ok());
    assert!(set(&store, "a", [alias("cheap", "m")]).await.outcome.is_ok());
    // Whoever speaks later is to blame, whatever its name.
    let faults = set(&store, "a", [alias("fast", "dear")]).await.outcome.unwrap_err();
    // Both call their sheets alike: the owner tells them apart.
    let taken = SheetError::NameTakenIn("fast".into(), "m".into(), "aliases of kubernetes/z".into());
    assert_eq!((faults[0].sheet.as_str(), &faults[0].error), ("aliases", &taken));
    assert!(set(&store, "a", []).await.outcome.is_ok());
    assert_eq!((model_of(&store, "fast").is_some(), model_of(&store, "cheap")), (true, None));
}

pub(crate) async fn prices_survive_a_restart_and_another_book<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    let before = set(&world.store(), "c", [discount("openai", "50"), alias("fast", "m")]).await;
    world.restart().await;
    assert_eq!(world.store().prices().revision(), before.revision);
    assert_eq!(held(world).await, 5_000);
    // Every price of `m` is doubled there.
    world.restart_with(World::<B>::dearer_book()).await;
    assert_eq!(held(world).await, 10_000);
    assert_eq!(model_of(&world.store(), "fast").as_deref(), Some("m"));
    assert_eq!(world.store().prices_held_back(), None);
    let cleared = set(&world.store(), "c", []).await;
    assert_eq!(cleared.revision, World::<B>::dearer_book().revision());
    assert_eq!(held(world).await, 20_000);
}

/// The prices that were in force go on, all of them, until somebody has looked.
pub(crate) async fn a_book_that_does_not_fit_is_held_back<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    let before = set(&world.store(), "c", [discount("openai", "50"), alias("fast", "m")]).await;
    // It names another model `fast`.
    let text = World::<B>::dearer_book().source().replace(r#""name": "dear""#, r#""name": "fast""#);
    let newer = Arc::new(PriceBook::parse(&text).unwrap());
    for _ in 0..2 {
        world.restart_with(newer.clone()).await;
        let store = world.store();
        assert_eq!(store.prices().revision(), before.revision);
        let why = store.prices_held_back().unwrap();
        assert!(why.contains("aliases: aliases[0].alias: fast is already a name of fast"), "{why}");
        assert_eq!(held(world).await, 5_000);
        world.check().await;
    }
    // The operator hears of it when it says the same again.
    let faults =
        set(&world.store(), "c", [discount("openai", "50"), alias("fast", "m")]).await.outcome.unwrap_err();
    assert_eq!(faults[0].error, SheetError::NameTaken("fast".into(), "fast".into()));
    assert_eq!(held(world).await, 5_000);
    assert!(set(&world.store(), "c", [discount("openai", "50")]).await.outcome.is_ok());
    assert_eq!(world.store().prices_held_back(), None);
    assert_eq!(model_of(&world.store(), "fast").as_deref(), Some("fast"));
    assert_eq!(held(world).await, 10_000);
}
