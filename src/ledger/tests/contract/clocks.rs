//! Clocks that jump. No window opens early, and nothing is given back.

use crate::world::{Backend, DAY_MS, HOUR_MS, NOON, World, capped, key, limit, over, settle};
use tollgate_domain::hold::{DenialReason, Outcome};
use tollgate_domain::rate::{Rate, RateKind};
use tollgate_ledger::store::{AccountSpec, RateSpec};

const YEAR_MS: i64 = 365 * DAY_MS;

async fn spent_key<B: Backend>(world: &World<B>) {
    let limits = vec![limit(5_000, "1d"), limit(50_000, "1mo"), over(5_000, "rolling/86400")];
    world.make_key(1, capped(limits)).await;
    world.spend(5).await;
}

pub(crate) async fn a_start_judges_the_clock_by_the_journal<B: Backend>(world: &mut World<B>) {
    spent_key(world).await;
    // (how far the clock is off, what is said to it)
    let table = [
        (0, None),
        (-1_000, None),
        (-1_001, Some("is later")),
        (-YEAR_MS, Some("is later")),
        (31 * DAY_MS, None),
        (31 * DAY_MS + 1, Some("more than 31 days earlier")),
        (YEAR_MS, Some("more than 31 days earlier")),
    ];
    for (off_ms, refusal) in table {
        world.clock.set(NOON.plus_ms(off_ms));
        match (world.starts_unaccepted().await, refusal) {
            (Ok(()), None) => {}
            (Err(said), Some(part)) => {
                assert!(said.contains(part) && said.contains("--accept-clock"), "{off_ms}: {said}");
            }
            (started, _) => panic!("{off_ms}: {started:?}"),
        }
        assert_eq!(world.balance(key(1)).await, (5_000, 0), "nothing is given back");
    }
}

pub(crate) async fn a_clock_that_goes_back_opens_nothing_twice<B: Backend>(world: &mut World<B>) {
    spent_key(world).await;
    let open_at = NOON.plus_ms(12 * HOUR_MS);
    for back_ms in [1, HOUR_MS, 13 * HOUR_MS, 40 * DAY_MS, YEAR_MS] {
        for restarts in [false, true] {
            world.clock.set(NOON.plus_ms(-back_ms));
            if restarts {
                world.restart().await;
            }
            let denied = world.refused(1, 1).await;
            assert_eq!(denied.reason, DenialReason::BudgetSpent, "{back_ms} ms back");
            assert_eq!(denied.resets_at, Some(open_at), "by the day that was reached");
            assert_eq!(world.window(key(1), 0).await, (5_000, 0));
        }
    }
    world.clock.set(NOON.plus_ms(DAY_MS + HOUR_MS));
    world.hold(1, 5).await;
}

pub(crate) async fn a_clock_that_stands_still_opens_nothing<B: Backend>(world: &mut World<B>) {
    spent_key(world).await;
    for _ in 0..3 {
        world.restart().await;
        assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
    }
    assert_eq!(world.window(key(1), 0).await, (5_000, 0));
    assert_eq!(world.window(key(1), 2).await, (5_000, 0));
}

/// Somebody said that the year is right: then its windows are open, and stay the present ones when the clock is set back.
pub(crate) async fn a_year_that_was_accepted_is_not_taken_back<B: Backend>(world: &mut World<B>) {
    spent_key(world).await;
    let later = NOON.plus_ms(YEAR_MS);
    world.clock.set(later);
    world.restart().await;
    assert_eq!(world.window(key(1), 0).await, (0, 0));
    let hold = world.hold(1, 5).await;
    world.clock.set(NOON.plus_ms(HOUR_MS));
    for restarts in [false, true] {
        if restarts {
            world.restart().await;
        }
        assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall);
        assert_eq!(world.window(key(1), 0).await, (0, 5_000));
    }
    assert_eq!(world.report(hold, 1, settle(5, 0)).await, Outcome::Applied);
    assert_eq!(world.window(key(1), 0).await, (5_000, 0));
    assert_eq!(world.balance(key(1)).await, (10_000, 0));
    world.clock.set(later.plus_ms(DAY_MS));
    world.restart().await;
    assert_eq!(world.window(key(1), 0).await, (0, 0));
}

/// A hold that a clock ahead made old is charged when it expires, and corrected when it ends.
pub(crate) async fn a_clock_that_jumps_gives_no_hold_back<B: Backend>(world: &mut World<B>) {
    spent_key(world).await;
    world.advance(2 * DAY_MS);
    let hold = world.hold(1, 5).await;
    for off_ms in [YEAR_MS, -YEAR_MS, 0] {
        world.clock.set(NOON.plus_ms(2 * DAY_MS + off_ms));
        world.restart().await;
        assert_eq!(world.balance(key(1)).await, (5_000, 5_000), "{off_ms}");
    }
    world.advance(HOUR_MS);
    world.tick().await;
    assert_eq!(world.balance(key(1)).await, (10_000, 0));
    assert_eq!(world.report(hold, 1, settle(2, 0)).await, Outcome::Applied);
    assert_eq!(world.window(key(1), 0).await, (2_000, 0));
}

const MINUTE_MS: i64 = 60_000;
const MONTH_MS: i64 = 30 * DAY_MS;

/// A clock that was a month ahead while key 1 spent, and then is an hour after noon, and is said to be right.
async fn set_back<B: Backend>(world: &mut World<B>) {
    world.clock.set(NOON.plus_ms(HOUR_MS));
    world.restart().await;
}

/// What measures spans goes on: no rate stands still until the clock is where it was, and none is full again at once.
pub(crate) async fn rates_refill_after_the_clock_was_set_back<B: Backend>(world: &mut World<B>) {
    let rate = |kind, limit| RateSpec { rate: Rate { kind, limit }, model: None, observe: false };
    let rates = || vec![rate(RateKind::RequestsPerMinute, 2), rate(RateKind::TokensPerDay, 24)];
    for number in [1, 2] {
        world.make_key(number, AccountSpec { rates: rates(), ..AccountSpec::default() }).await;
    }
    world.clock.set(NOON.plus_ms(MONTH_MS));
    // A request counts a third of its bytes: 12 tokens, of which one comes back in an hour.
    for _ in 0..2 {
        world.hold(1, 36).await;
    }
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::RateLimited);
    let retry = async |world: &World<B>| {
        let denied = world.refused(1, 3).await;
        assert_eq!(denied.reason, DenialReason::RateLimited);
        denied.retry_after_ms.unwrap().cast_signed()
    };
    set_back(world).await;
    let [rpm, tpd] = [0, 1].map(async |index| world.record(key(1)).await.rates[index].remaining);
    assert_eq!((rpm.await, tpd.await), (0, 0), "nothing is given back");
    assert_eq!(retry(world).await, MINUTE_MS / 2);
    world.hold(2, 3).await;
    world.advance(MINUTE_MS / 2);
    assert_eq!(retry(world).await, HOUR_MS - MINUTE_MS / 2);
    world.advance(HOUR_MS - MINUTE_MS / 2);
    world.hold(1, 3).await;
    assert_eq!(retry(world).await, HOUR_MS);
}

/// An open hold lives as long as it had left, and its end is booked in the window that it was made in.
pub(crate) async fn holds_expire_after_the_clock_was_set_back<B: Backend>(world: &mut World<B>) {
    spent_key(world).await;
    world.clock.set(NOON.plus_ms(MONTH_MS));
    let [silent, alive] = [world.hold(1, 2).await, world.hold(1, 1).await];
    world.advance(5 * MINUTE_MS);
    world.spend(1).await;
    set_back(world).await;
    world.advance(10 * MINUTE_MS - 1);
    let heartbeat = tollgate_domain::hold::Event::Adjust { usage: None, output_seen: 0 };
    assert_eq!(world.report(alive, 1, heartbeat).await, Outcome::Applied);
    assert_eq!(world.window(key(1), 0).await, (1_000, 3_000));
    world.advance(2_000);
    world.tick().await;
    assert_eq!(world.window(key(1), 0).await, (3_000, 1_000));
    world.advance(15 * MINUTE_MS);
    world.tick().await;
    assert_eq!(world.window(key(1), 0).await, (4_000, 0));
    assert_eq!(world.report(silent, 1, settle(1, 0)).await, Outcome::Applied);
    assert_eq!(world.balance(key(1)).await, (8_000, 0));
}

/// Only the accounts that spent ahead of the clock stay in the windows that they had reached.
pub(crate) async fn accounts_that_spent_nothing_ahead_go_by_the_clock<B: Backend>(world: &mut World<B>) {
    spent_key(world).await;
    world.make_key(2, capped(vec![limit(5_000, "1d")])).await;
    world.spend_by(2, 2).await;
    world.clock.set(NOON.plus_ms(MONTH_MS));
    world.spend(5).await;
    set_back(world).await;
    let midnight = NOON.plus_ms(12 * HOUR_MS);
    assert_eq!(world.window(key(2), 0).await, (2_000, 0), "its day goes on");
    let denied = world.refused(2, 4).await;
    assert_eq!((denied.reason, denied.resets_at), (DenialReason::BudgetTooSmall, Some(midnight)));
    let denied = world.refused(1, 1).await;
    let reached = midnight.plus_ms(MONTH_MS);
    assert_eq!(
        (denied.reason, denied.resets_at),
        (DenialReason::BudgetSpent, Some(reached)),
        "opened nothing twice"
    );
    world.clock.set(midnight);
    world.spend_by(2, 5).await;
    assert_eq!(world.refused(1, 1).await.resets_at, Some(reached));
    world.clock.set(reached.plus_ms(DAY_MS));
    world.spend(5).await;
}

/// It is judged by what came since, so that the next start needs nobody to say it again.
pub(crate) async fn a_clock_that_was_accepted_is_not_asked_for_again<B: Backend>(world: &mut World<B>) {
    spent_key(world).await;
    world.clock.set(NOON.plus_ms(MONTH_MS));
    world.spend(4).await;
    set_back(world).await;
    assert_eq!(world.starts_unaccepted().await, Ok(()));
    world.spend(1).await;
    assert_eq!(world.starts_unaccepted().await, Ok(()));
    world.advance(-HOUR_MS);
    assert!(world.starts_unaccepted().await.unwrap_err().contains("is later"));
}

/// A limit that was added ahead of the clock has counted a window in which nothing was spent: it counts the present one, too.
pub(crate) async fn a_limit_added_ahead_of_the_clock_counts_the_present_window<B: Backend>(
    world: &mut World<B>,
) {
    world.make_key(1, AccountSpec::default()).await;
    world.spend(5).await;
    world.clock.set(NOON.plus_ms(MONTH_MS));
    let limits = vec![limit(5_000, "1d"), limit(50_000, "1mo"), over(5_000, "rolling/86400")];
    world.change(key(1), crate::world::new_limits(limits)).await;
    assert_eq!(world.window(key(1), 0).await, (0, 0));
    world.clock.set(NOON.plus_ms(HOUR_MS));
    world.restart().await;
    for index in 0..3 {
        assert_eq!(world.window(key(1), index).await, (5_000, 0), "limit {index}");
    }
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
}
