//! Windows, and time.

use crate::world::{Backend, DAY_MS, HOUR_MS, NOON, World, key, limits, settle, team};
use tollgate_domain::hold::{DenialReason, Outcome};
use tollgate_domain::time::Timestamp;
use tollgate_ledger::store::{AccountChange, AccountSpec};

/// Midnight after [`NOON`].
const MIDNIGHT: Timestamp = NOON.plus_ms(12 * HOUR_MS);

async fn daily_key<B: Backend>(world: &World<B>) {
    let spec = AccountSpec { limits: limits(&[(5_000, "1d")]), ..AccountSpec::default() };
    world.make_key(1, spec).await;
}

pub(crate) async fn a_window_rolls_exactly_at_its_boundary<B: Backend>(world: &mut World<B>) {
    daily_key(world).await;
    world.clock.set(MIDNIGHT.plus_ms(-2));
    let hold = world.hold(1, 5).await;
    world.report(hold, 1, settle(5, 0)).await;
    world.clock.set(MIDNIGHT.plus_ms(-1));
    let denied = world.refused(1, 1).await;
    assert_eq!((denied.reason, denied.resets_at), (DenialReason::BudgetSpent, Some(MIDNIGHT)));
    assert_eq!(world.window(key(1), 0).await, (5_000, 0));
    world.clock.set(MIDNIGHT);
    assert_eq!(world.window(key(1), 0).await, (0, 0));
    world.hold(1, 5).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall);
    assert_eq!(world.window(key(1), 0).await, (0, 5_000));
    assert_eq!(world.balance(key(1)).await, (5_000, 5_000));
}

pub(crate) async fn a_hold_settles_in_the_window_of_its_making<B: Backend>(world: &mut World<B>) {
    daily_key(world).await;
    world.clock.set(MIDNIGHT.plus_ms(-1));
    let yesterday = world.hold(1, 5).await;
    world.clock.set(MIDNIGHT);
    let today = world.hold(1, 5).await;
    assert_eq!(world.report(yesterday, 1, settle(4, 0)).await, Outcome::Applied);
    assert_eq!(world.window(key(1), 0).await, (0, 5_000));
    assert_eq!(world.report(today, 1, settle(3, 0)).await, Outcome::Applied);
    assert_eq!(world.window(key(1), 0).await, (3_000, 0));
    assert_eq!(world.balance(key(1)).await, (7_000, 0));
}

pub(crate) async fn a_new_limit_counts_the_past_of_its_window<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.make_key(2, AccountSpec::default()).await;
    world.advance(-DAY_MS);
    let earlier = world.hold(1, 100).await;
    world.report(earlier, 1, settle(64, 0)).await;
    world.hold(2, 50).await;
    world.clock.set(NOON);
    let settled = world.hold(1, 8).await;
    world.report(settled, 1, settle(2, 0)).await;
    let expired = world.hold(1, 16).await;
    world.advance(20 * 60_000);
    world.tick().await;
    let open = world.hold(1, 4).await;

    world.set_limits(team(), &[(30_000, "1d"), (1_000_000, "1mo"), (1_000_000, "")]).await;
    assert_eq!(world.window(team(), 0).await, (2_000 + 16_000, 4_000), "today");
    assert_eq!(world.window(team(), 1).await, (64_000 + 18_000, 4_000), "this month");
    assert_eq!(world.window(team(), 2).await, (64_000 + 18_000, 4_000), "its life");
    assert_eq!(world.refused(1, 9).await.reason, DenialReason::BudgetTooSmall);
    assert_eq!(world.report(open, 1, settle(1, 0)).await, Outcome::Applied);
    assert_eq!(world.report(expired, 1, settle(5, 0)).await, Outcome::Applied);
    assert_eq!(world.window(team(), 0).await, (2_000 + 5_000 + 1_000, 0), "what was open ends there, too");

    let daily = AccountChange { budget_duration: Some(Some("1d".into())), ..AccountChange::default() };
    let record = world.change(key(1), daily).await;
    let (period, posted, pending) = record.main.unwrap();
    assert_eq!((posted.get(), pending.get()), (8_000, 0), "shown without a limit");
    assert_eq!(period.end, Some(MIDNIGHT));
}

pub(crate) async fn a_limit_that_comes_back_counts_what_it_missed<B: Backend>(world: &mut World<B>) {
    daily_key(world).await;
    let before = world.hold(1, 1).await;
    world.report(before, 1, settle(1, 0)).await;
    let open = world.hold(1, 1).await;
    world.set_limits(key(1), &[]).await;
    let meanwhile = world.hold(1, 2).await;
    world.report(meanwhile, 1, settle(2, 0)).await;
    world.report(open, 1, settle(1, 0)).await;
    world.set_limits(key(1), &[(5_000, "1d")]).await;
    assert_eq!(world.window(key(1), 0).await, (4_000, 0));
    world.hold(1, 1).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall);
    world.set_limits(key(1), &[(6_000, "1d")]).await;
    assert_eq!(world.window(key(1), 0).await, (4_000, 1_000), "a raise counts nothing twice");
}

pub(crate) async fn time_never_moves_a_window_back<B: Backend>(world: &mut World<B>) {
    daily_key(world).await;
    world.clock.set(MIDNIGHT);
    let hold = world.hold(1, 5).await;
    world.report(hold, 1, settle(5, 0)).await;
    world.clock.set(NOON);
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
    world.restart().await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
    assert_eq!(world.window(key(1), 0).await, (5_000, 0));
}
