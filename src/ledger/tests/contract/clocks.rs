//! Clocks that jump. No window opens early, and nothing is given back.

use crate::world::{Backend, DAY_MS, HOUR_MS, NOON, World, capped, key, limit, over, settle};
use tollgate_domain::hold::{DenialReason, Outcome};

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
