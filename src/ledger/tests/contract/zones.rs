//! Windows of every kind, at their edges.

use crate::world::{Backend, HOUR_MS, NOON, World, at, capped, digest, key, money, over, settle};
use tollgate_domain::hold::{DenialReason, Outcome};
use tollgate_domain::policy::Amounts;
use tollgate_domain::window::Period;
use tollgate_ledger::store::{Found, LimitSpec, Store};

const MINUTE_MS: i64 = 60_000;

/// Windows with an edge that is easily got wrong, in the order of time.
const EDGES: [(&str, &str, &str); 11] = [
    // No midnight, and two of them.
    ("calendar/day/America/Havana", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z"),
    ("calendar/day/Africa/Cairo", "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z"),
    ("calendar/day/America/Santiago", "2024-09-08T04:00:00Z", "2024-09-09T03:00:00Z"),
    ("calendar/day/America/Havana", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
    ("calendar/day/Asia/Kathmandu", "2026-11-24T18:15:00Z", "2026-11-25T18:15:00Z"),
    ("calendar/hour/Asia/Kathmandu", "2026-11-26T11:15:00Z", "2026-11-26T12:15:00Z"),
    // Week 53.
    ("calendar/week/Europe/Berlin", "2026-12-27T23:00:00Z", "2027-01-03T23:00:00Z"),
    // Day 31, in months without and with it, and in a leap year.
    ("anchored/31/utc", "2027-02-28T00:00:00Z", "2027-03-31T00:00:00Z"),
    ("anchored/30/utc", "2028-02-29T00:00:00Z", "2028-03-30T00:00:00Z"),
    ("calendar/month:3/America/New_York", "2028-04-01T04:00:00Z", "2028-07-01T04:00:00Z"),
    ("calendar/month:12/Pacific/Auckland", "2028-12-31T11:00:00Z", "2029-12-31T11:00:00Z"),
];

pub(crate) async fn windows_of_every_zone_roll_to_the_millisecond<B: Backend>(world: &mut World<B>) {
    for (number, (window, start, end)) in (1..).zip(EDGES) {
        let (start, end) = (at(start), at(end));
        world.clock.set(start.plus_ms(-1));
        world.make_key(number, capped(vec![over(5_000, window)])).await;
        world.spend_by(number, 5).await;
        let denied = world.refused(number, 1).await;
        assert_eq!((denied.reason, denied.resets_at), (DenialReason::BudgetSpent, Some(start)), "{window}");

        world.clock.set(start);
        world.spend_by(number, 2).await;
        let limit = world.record(key(number)).await.limits.remove(0);
        assert_eq!(limit.period, Period { start, end: Some(end) }, "{window}");
        world.clock.set(end.plus_ms(-1));
        let last = world.hold(number, 3).await;
        let denied = world.refused(number, 1).await;
        assert_eq!((denied.reason, denied.resets_at), (DenialReason::BudgetTooSmall, Some(end)), "{window}");

        world.clock.set(end);
        world.hold(number, 5).await;
        assert_eq!(world.report_by(number, last, 1, settle(3, 0)).await, Outcome::Applied);
        assert_eq!(world.window(key(number), 0).await, (0, 5_000), "{window}: it settles where it was made");
    }
}

pub(crate) async fn several_windows_of_one_account_all_bind<B: Backend>(world: &mut World<B>) {
    let limits = vec![
        over(5_000, "calendar/day/utc"),
        over(8_000, "calendar/month:1/utc"),
        over(9_000, "anchored/15/utc"),
        over(10_000, "lifetime"),
    ];
    world.make_key(1, capped(limits)).await;
    // (when, all that is left, which amount is left in whose window, when it ends)
    let table = [
        ("2026-11-24T12:00:00Z", 5, 5_000, 0, Some("2026-11-25T00:00:00Z")),
        ("2026-11-25T00:00:00Z", 3, 8_000, 5_000, Some("2026-12-01T00:00:00Z")),
        ("2026-12-01T00:00:00Z", 1, 9_000, 8_000, Some("2026-12-15T00:00:00Z")),
        ("2026-12-15T00:00:00Z", 1, 10_000, 9_000, None),
    ];
    for (now, left, limit, posted, resets_at) in table {
        world.clock.set(at(now));
        let named = |posted, pending, requested| {
            let [limit, posted, pending, requested] = [limit, posted, pending, requested].map(money);
            (Some(Amounts { limit, posted, pending, requested }), resets_at.map(at))
        };
        let hold = world.hold(1, left).await;
        let held = 1_000 * i64::try_from(left).unwrap();
        let denied = world.refused(1, 1).await;
        assert_eq!(denied.reason, DenialReason::BudgetTooSmall, "{now}");
        assert_eq!((denied.amounts, denied.resets_at), named(posted, held, 1_000), "{now}");
        world.report(hold, 1, settle(left, 0)).await;
        let denied = world.refused(1, 1).await;
        assert_eq!(denied.reason, DenialReason::BudgetSpent, "{now}");
        assert_eq!((denied.amounts, denied.resets_at), named(posted + held, 0, 1_000), "{now}");
    }
    world.clock.set(at("2030-01-01T00:00:00Z"));
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent, "a life has no end");
}

/// An hour in buckets of a minute.
pub(crate) async fn a_rolling_window_frees_nothing_early<B: Backend>(world: &mut World<B>) {
    world.make_key(1, capped(vec![over(5_000, "rolling/3600")])).await;
    let after = |ms| NOON.plus_ms(ms);
    world.clock.set(after(MINUTE_MS - 1));
    world.spend(2).await;
    world.clock.set(after(MINUTE_MS));
    world.spend(3).await;
    let first_leaves = after(MINUTE_MS + HOUR_MS);
    for now in [after(MINUTE_MS), after(HOUR_MS - 1), after(HOUR_MS), first_leaves.plus_ms(-1)] {
        world.clock.set(now);
        let denied = world.refused(1, 1).await;
        assert_eq!((denied.reason, denied.resets_at), (DenialReason::BudgetSpent, Some(first_leaves)));
        assert_eq!(world.window(key(1), 0).await, (5_000, 0));
        let found = world.store().lookup(digest(1), Vec::new()).await.unwrap();
        let Found::Known { exhausted: Some(exhausted), .. } = found else {
            panic!("not exhausted at {now:?}")
        };
        assert_eq!(exhausted.resets_at, Some(first_leaves));
    }
    world.clock.set(first_leaves);
    assert_eq!(world.window(key(1), 0).await, (3_000, 0));
    let found = world.store().lookup(digest(1), Vec::new()).await.unwrap();
    assert!(matches!(found, Found::Known { exhausted: None, .. }));
    let denied = world.refused(1, 3).await;
    assert_eq!(denied.reason, DenialReason::BudgetTooSmall);
    assert_eq!(denied.resets_at, Some(first_leaves.plus_ms(MINUTE_MS)));
    let amounts =
        Amounts { limit: money(5_000), posted: money(3_000), pending: money(0), requested: money(3_000) };
    assert_eq!(denied.amounts, Some(amounts));
    world.hold(1, 2).await;
    world.restart().await;
    assert_eq!(world.window(key(1), 0).await, (3_000, 2_000));
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall, "after a restart, too");
}

/// Each minute of an hour spends something: all of it counts, and it leaves in the order in which it came.
pub(crate) async fn sixty_buckets_count_together<B: Backend>(world: &mut World<B>) {
    world.make_key(1, capped(vec![over(61_000, "rolling/3600")])).await;
    for _ in 0..60 {
        world.spend(1).await;
        world.advance(MINUTE_MS);
    }
    assert_eq!(world.window(key(1), 0).await, (60_000, 0));
    assert_eq!(world.refused(1, 2).await.reason, DenialReason::BudgetTooSmall);
    for left in (0..60).rev() {
        world.advance(MINUTE_MS);
        assert_eq!(world.window(key(1), 0).await, (1_000 * left, 0));
    }
    world.hold(1, 61).await;
}

pub(crate) async fn a_hold_leaves_a_rolling_window_with_its_bucket<B: Backend>(world: &mut World<B>) {
    world.make_key(1, capped(vec![over(5_000, "rolling/600")])).await;
    let old = world.hold(1, 5).await;
    world.advance(10 * MINUTE_MS);
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall);
    world.advance(10_000);
    world.hold(1, 4).await;
    world.report(old, 1, settle(5, 0)).await;
    assert_eq!(world.window(key(1), 0).await, (0, 4_000), "it settles where it was made");
    assert_eq!(world.balance(key(1)).await, (5_000, 4_000));
    world.hold(1, 1).await;
}

/// Both kinds of refusal of a limit are by what is there to the last nano-dollar.
pub(crate) async fn a_limit_is_exact<B: Backend>(world: &mut World<B>) {
    // (limit, fits) for a request of 1,000 after 4,000 were spent
    let table = [(4_999, false), (5_000, true), (5_001, true)];
    for (number, (amount, fits)) in (1..).zip(table) {
        for (other, window) in
            (0..).zip(["calendar/day/utc", "anchored/7/Asia/Tokyo", "rolling/86400", "fixed/5", "lifetime"])
        {
            let number = 10 * number + other;
            world.make_key(number, capped(vec![LimitSpec { main: true, ..over(amount, window) }])).await;
            world.spend_by(number, 4).await;
            if fits {
                world.spend_by(number, 1).await;
            }
            let reason = world.refused(number, 1).await.reason;
            let expected = match amount {
                5_000 => DenialReason::BudgetSpent,
                _ => DenialReason::BudgetTooSmall,
            };
            assert_eq!(reason, expected, "{amount} over {window}");
        }
    }
}
