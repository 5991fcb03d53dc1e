//! Limits of one model, and limits that only warn or watch.

use crate::world::{
    Backend, DAY_MS, World, capped, digest, key, limit, limits, money, new_limits, over, settle, settlement,
    usage,
};
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::{DenialReason, Event, HoldAsk, Settlement};
use tollgate_domain::ids::{HoldId, ModelName};
use tollgate_domain::policy::Amounts;
use tollgate_ledger::store::{Found, LimitSpec, Settings, Store};

fn of_model(model: &str, limit: LimitSpec) -> LimitSpec {
    LimitSpec { model: Some(model.into()), ..limit }
}

async fn ask_dear<B: Backend>(world: &World<B>, key: u8, input: u64) -> HoldAsk {
    HoldAsk { model: ModelName::new("dear"), ..world.ask(key, input).await }
}

pub(crate) async fn a_limit_of_a_model_counts_only_that_model<B: Backend>(world: &mut World<B>) {
    let limits = vec![of_model("m", over(5_000, "calendar/day/utc")), limit(100_000, "1mo")];
    world.make_key(1, capped(limits)).await;
    let dear = ask_dear(world, 1, 5).await;
    let dear = world.hold_ask(dear).await;
    world.report(dear, 1, settle(5, 0)).await;
    assert_eq!(world.window(key(1), 0).await, (0, 0));
    let hold = world.hold(1, 5).await;
    let denied = world.refused(1, 1).await;
    assert_eq!(denied.reason, DenialReason::BudgetTooSmall);
    assert_eq!(denied.account.unwrap().kind, AccountKind::Key);
    let amounts =
        Amounts { limit: money(5_000), posted: money(0), pending: money(5_000), requested: money(1_000) };
    assert_eq!(denied.amounts, Some(amounts));
    world.report(hold, 1, settle(5, 0)).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
    assert_eq!(world.window(key(1), 0).await, (5_000, 0));
    assert_eq!(world.window(key(1), 1).await, (55_000, 0), "all models");
    let found = world.store().lookup(digest(1), Vec::new()).await.unwrap();
    assert!(matches!(found, Found::Known { exhausted: None, .. }), "other models go on");
    let dear = ask_dear(world, 1, 1).await;
    world.hold_ask(dear).await;
    world.advance(DAY_MS);
    world.hold(1, 5).await;
}

pub(crate) async fn an_alias_names_the_same_model<B: Backend>(world: &mut World<B>) {
    world.make_key(1, capped(vec![of_model("em", limit(5_000, "1d"))])).await;
    world.spend(4).await;
    assert_eq!(world.refused(1, 2).await.reason, DenialReason::BudgetTooSmall);
    // By its name from now on: nothing is counted twice, and nothing begins anew.
    world.change(key(1), new_limits(vec![of_model("m", limit(5_000, "1d"))])).await;
    assert_eq!(world.window(key(1), 0).await, (4_000, 0));
    world.spend(1).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
}

/// What was asked for decides: a limit cannot wait for the answer's model.
pub(crate) async fn the_model_that_was_asked_for_is_charged<B: Backend>(world: &mut World<B>) {
    let limits = vec![of_model("m", limit(50_000, "1d")), of_model("dear", limit(50_000, "1d"))];
    world.make_key(1, capped(limits)).await;
    let hold = world.hold(1, 5).await;
    let other = Settlement { model: Some("dear".into()), usage: Some(usage(2, 0)), ..settlement(0, 0) };
    world.report(hold, 1, Event::Settle(other)).await;
    assert_eq!(world.window(key(1), 0).await, (20_000, 0));
    assert_eq!(world.window(key(1), 1).await, (0, 0));
}

pub(crate) async fn a_new_limit_of_a_model_counts_its_past<B: Backend>(world: &mut World<B>) {
    world.make_key(1, capped(Vec::new())).await;
    for _ in 0..3 {
        world.spend(2).await;
        let dear = ask_dear(world, 1, 1).await;
        let dear = world.hold_ask(dear).await;
        world.report(dear, 1, settle(1, 0)).await;
        // Long enough to be summed.
        world.advance(DAY_MS);
        world.tick().await;
    }
    let open = world.hold(1, 3).await;
    let limits =
        vec![of_model("m", limit(10_000, "1mo")), of_model("dear", limit(30_000, "1mo")), limit(0, "1mo")];
    world.change(key(1), new_limits(limits)).await;
    assert_eq!(world.window(key(1), 0).await, (6_000, 3_000));
    assert_eq!(world.window(key(1), 1).await, (30_000, 0));
    assert_eq!(world.window(key(1), 2).await, (36_000, 3_000));
    world.report(open, 1, settle(1, 0)).await;
    assert_eq!(world.window(key(1), 0).await, (7_000, 0));
}

async fn would_deny<B: Backend>(world: &World<B>, hold: HoldId) -> Option<String> {
    world.log(hold).await.would_deny
}

pub(crate) async fn a_soft_limit_refuses_nothing<B: Backend>(world: &mut World<B>) {
    let soft = LimitSpec { soft: true, ..limit(1_000, "1d") };
    world.make_key(1, capped(vec![soft, limit(5_000, "1d")])).await;
    let hold = world.spend(3).await;
    assert_eq!(would_deny(world, hold).await, None, "it only warns");
    let found = world.store().lookup(digest(1), Vec::new()).await.unwrap();
    assert!(matches!(found, Found::Known { exhausted: None, .. }));
    let hold = world.hold(1, 2).await;
    assert_eq!(would_deny(world, hold).await, None);
    world.report(hold, 1, settle(2, 0)).await;
    assert_eq!(world.log(hold).await.overrun, money(0), "a warning is no limit");
    assert_eq!(world.window(key(1), 0).await, (5_000, 0));
    let denied = world.refused(1, 1).await;
    assert_eq!(denied.amounts.unwrap().limit, money(5_000), "the hard one refuses");
}

pub(crate) async fn an_observing_limit_says_what_it_would_have<B: Backend>(world: &mut World<B>) {
    let observe = LimitSpec { observe: true, ..limit(3_000, "1d") };
    world.make_key(1, capped(vec![observe, limit(9_000, "")])).await;
    let fits = world.hold(1, 3).await;
    let small = world.hold(1, 1).await;
    world.report(fits, 1, settle(3, 0)).await;
    let spent = world.hold(1, 1).await;
    for (hold, expected) in [(fits, None), (small, Some("budget_too_small")), (spent, Some("budget_spent"))] {
        assert_eq!(would_deny(world, hold).await.as_deref(), expected);
    }
    assert_eq!(world.window(key(1), 0).await, (3_000, 2_000));
    assert_eq!(world.refused(1, 5).await.amounts.unwrap().limit, money(9_000), "the other one refuses");
}

pub(crate) async fn an_installation_that_observes_refuses_no_money<B: Backend>(world: &mut World<B>) {
    world.make_key(1, capped(limits(&[(1_000, "1d")]))).await;
    world.spend(1).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
    let settings = World::<B>::settings(World::<B>::book(), &world.clock);
    world.restart_as(Settings { observe: true, ..settings }).await;
    let hold = world.hold(1, 1).await;
    assert_eq!(would_deny(world, hold).await.as_deref(), Some("budget_spent"));
    let found = world.store().lookup(digest(1), Vec::new()).await.unwrap();
    assert!(matches!(found, Found::Known { exhausted: None, .. }));
    world.restart().await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
}

pub(crate) async fn an_alias_shows_what_its_model_spent<B: Backend>(world: &mut World<B>) {
    world.make_key(1, capped(vec![of_model("em", limit(5_000, "1d"))])).await;
    world.spend(4).await;
    assert_eq!(world.window(key(1), 0).await, (4_000, 0));
}
