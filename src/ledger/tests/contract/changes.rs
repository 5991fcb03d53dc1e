//! What an admin changes while money is held and spent.

use crate::world::{
    Backend, DAY_MS, HOUR_MS, World, at, capped, digest, key, limit, limits, money, new_limits, organization,
    over, settle, team,
};
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::{DenialReason, Event, Outcome};
use tollgate_domain::time::Timestamp;
use tollgate_ledger::store::{AccountChange, AccountRef, AccountSpec, Owners, Store};

const MINUTE_MS: i64 = 60_000;

fn other_team() -> AccountRef {
    AccountRef::Id(AccountKind::Team, "other".into())
}

fn owned_by(team: &str) -> AccountChange {
    let owners = Owners { team: Some(team.into()), ..Owners::default() };
    AccountChange { owners: Some(owners), ..AccountChange::default() }
}

pub(crate) async fn a_limit_changes_for_the_next_hold<B: Backend>(world: &mut World<B>) {
    use DenialReason::{BudgetSpent as Spent, BudgetTooSmall as Small};
    world.lone_key(1_000_000).await;
    world.spend(3).await;
    let open = world.hold(1, 2).await;
    // (limits then, what is said to 1,000 more)
    let table: [(&[(i64, &str)], Option<DenialReason>); 11] = [
        (&[(6_000, "")], None),
        (&[(5_999, "")], Some(Small)),
        (&[(5_000, "")], Some(Small)),
        (&[(3_001, "")], Some(Small)),
        (&[(3_000, "")], Some(Spent)),
        (&[(1, "")], Some(Spent)),
        (&[(0, "")], Some(Spent)),
        (&[(6_000, ""), (5_000, "1d")], Some(Small)),
        (&[(6_000, ""), (3_000, "1h")], Some(Spent)),
        (&[], None),
        (&[(6_000, "1d")], None),
    ];
    for (specs, expected) in table {
        world.set_limits(key(1), specs).await;
        match expected {
            Some(reason) => assert_eq!(world.refused(1, 1).await.reason, reason, "{specs:?}"),
            None => {
                let fits = world.hold(1, 1).await;
                world.report(fits, 1, crate::world::VOID).await;
            }
        }
        assert_eq!(world.balance(key(1)).await, (3_000, 2_000), "a change moves no money");
    }
    world.set_limits(key(1), &[(1_000, "")]).await;
    assert_eq!(world.report(open, 1, settle(2, 0)).await, Outcome::Applied, "what runs may end");
    assert_eq!(world.balance(key(1)).await, (5_000, 0));
    assert_eq!(world.log(open).await.overrun, money(0), "a lowered limit is no overrun");
}

/// Spends on several days, so that most of it stands in the sums of its hours; some of it expired, some still open.
struct Past {
    /// When each hold was made, and what it cost or holds.
    posted: Vec<(Timestamp, i64)>,
    open: tollgate_domain::ids::HoldId,
    open_at: Timestamp,
    expired: tollgate_domain::ids::HoldId,
}

impl Past {
    fn since(&self, from: Timestamp) -> i64 {
        self.posted.iter().filter(|(made, _)| *made >= from).map(|(_, cost)| cost).sum()
    }
}

async fn some_past<B: Backend>(world: &mut World<B>) -> Past {
    let mut posted = Vec::new();
    // Nothing expires right after a start, and a start is at this time.
    world.clock.set(at("2026-11-09T14:10:20.123Z"));
    world.restart().await;
    for cost in [1_i64, 2, 4, 8, 16, 32] {
        posted.push((world.clock.now(), 1_000 * cost));
        world.spend(cost.cast_unsigned()).await;
        world.advance(5 * HOUR_MS);
        world.tick().await;
        world.advance(13 * HOUR_MS);
    }
    let expired = world.hold(1, 64).await;
    posted.push((world.clock.now(), 64_000));
    world.advance(30 * MINUTE_MS);
    world.tick().await;
    let (open, open_at) = (world.hold(1, 128).await, world.clock.now());
    // It is kept alive for longer than it takes to be summed.
    for sequence in 1..=12 {
        world.advance(10 * MINUTE_MS);
        world.report(open, sequence, Event::Adjust { usage: None, output_seen: 0 }).await;
    }
    posted.push((world.clock.now(), 256_000));
    world.spend(256).await;
    Past { posted, open, open_at, expired }
}

pub(crate) async fn a_new_limit_counts_days_of_past<B: Backend>(world: &mut World<B>) {
    world.family(10_000_000, 10_000_000, 10_000_000, 10_000_000).await;
    world.make_key(2, AccountSpec::default()).await;
    let mut past = some_past(world).await;
    world.spend_by(2, 1_000).await;
    // (window, its beginning)
    let table = [
        ("calendar/day/utc", "2026-11-14T00:00:00Z"),
        ("calendar/day/Asia/Kathmandu", "2026-11-13T18:15:00Z"),
        ("calendar/week/utc", "2026-11-09T00:00:00Z"),
        ("calendar/month:1/utc", "2026-11-01T00:00:00Z"),
        ("anchored/11/America/Bogota", "2026-11-11T05:00:00Z"),
        ("fixed/172800", "2026-11-13T00:00:00Z"),
        // Buckets of 4,320 and of 2,880 seconds.
        ("rolling/259200", "2026-11-11T03:36:00Z"),
        ("rolling/172800", "2026-11-12T04:00:00Z"),
        ("lifetime", "1970-01-01T00:00:00Z"),
    ];
    let all: Vec<_> = table.iter().map(|(window, _)| over(10_000_000, window)).collect();
    for account in [organization(), team(), key(1)] {
        world.change(account.clone(), new_limits(all.clone())).await;
        for (index, (window, from)) in table.iter().enumerate() {
            let expected = (past.since(at(from)), if past.open_at >= at(from) { 128_000 } else { 0 });
            assert_eq!(world.window(account.clone(), index).await, expected, "{window}");
        }
    }
    // What can still change changes there, too.
    world.report(past.open, 99, settle(100, 0)).await;
    world.report(past.expired, 99, settle(60, 0)).await;
    past.posted[6].1 = 60_000;
    past.posted.push((past.open_at, 100_000));
    for again in ["as they are", "taken away and given back"] {
        for (index, (window, from)) in table.iter().enumerate() {
            assert_eq!(world.window(team(), index).await, (past.since(at(from)), 0), "{window}, {again}");
        }
        world.change(team(), new_limits(Vec::new())).await;
        world.change(team(), new_limits(all.clone())).await;
    }
}

/// A rolling window that counts its past frees it bucket by bucket, as if it had been there all the time.
pub(crate) async fn a_new_rolling_limit_frees_its_past_bucket_by_bucket<B: Backend>(world: &mut World<B>) {
    const SPAN_MS: i64 = 5 * DAY_MS;
    /// A sixtieth of it: two hours.
    const BUCKET_MS: i64 = SPAN_MS / 60;
    world.lone_key(10_000_000).await;
    let mut past = some_past(world).await;
    world.report(past.open, 99, settle(128, 0)).await;
    past.posted.push((past.open_at, 128_000));
    world.change(key(1), new_limits(vec![over(10_000_000, "rolling/432000")])).await;
    let bucket = |made: Timestamp| made.unix_ms() - made.unix_ms() % BUCKET_MS;
    for _ in 0..70 {
        let now = world.clock.now().unix_ms();
        let counted = past
            .posted
            .iter()
            .filter(|(made, _)| bucket(*made) + BUCKET_MS > now - SPAN_MS)
            .map(|(_, cost)| cost);
        assert_eq!(world.window(key(1), 0).await, (counted.sum(), 0), "{now}");
        world.advance(BUCKET_MS);
    }
    assert_eq!(world.window(key(1), 0).await, (0, 0));
}

pub(crate) async fn a_window_that_moves_counts_what_lies_in_it<B: Backend>(world: &mut World<B>) {
    world.make_key(1, capped(vec![over(9_000, "calendar/day/utc")])).await;
    world.spend(1).await;
    world.advance(7 * HOUR_MS);
    world.spend(2).await;
    // Midnight in Kathmandu was at 18:15, in Bogota at 05:00.
    for (window, posted, resets_at) in [
        ("calendar/day/Asia/Kathmandu", 2_000, "2026-11-25T18:15:00Z"),
        ("calendar/day/America/Bogota", 3_000, "2026-11-25T05:00:00Z"),
        ("calendar/hour/utc", 2_000, "2026-11-24T20:00:00Z"),
        ("calendar/month:1/utc", 3_000, "2026-12-01T00:00:00Z"),
        ("calendar/day/utc", 3_000, "2026-11-25T00:00:00Z"),
    ] {
        world.change(key(1), new_limits(vec![over(9_000, window)])).await;
        assert_eq!(world.window(key(1), 0).await, (posted, 0), "{window}");
        let denied = world.refused(1, 9).await;
        assert_eq!(denied.amounts.unwrap().posted, money(posted), "{window}");
        assert_eq!(denied.resets_at, Some(at(resets_at)), "{window}");
    }
}

pub(crate) async fn a_key_that_moves_takes_no_hold_along<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 5_000, 1_000_000, 1_000_000).await;
    world.make(AccountKind::Team, "other", capped(limits(&[(3_000, "1mo")]))).await;
    world.spend(1).await;
    let open = world.hold(1, 4).await;
    let expiring = world.hold(1, 0).await;
    world.change(key(1), owned_by("other")).await;
    assert_eq!(world.balance(other_team()).await, (0, 0), "its past stays with the team that it was made in");
    let new = world.hold(1, 3).await;
    assert_eq!(world.balance(team()).await, (1_000, 4_000));
    assert_eq!(world.balance(other_team()).await, (0, 3_000));
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall);
    world.report(open, 1, settle(2, 0)).await;
    world.report(new, 1, settle(3, 0)).await;
    world.report(expiring, 1, settle(1, 0)).await;
    assert_eq!(world.balance(team()).await, (4_000, 0));
    assert_eq!(world.balance(other_team()).await, (3_000, 0));
    // And a limit that is made later counts them where they were.
    world.set_limits(team(), &[(9_000, "1d")]).await;
    world.set_limits(other_team(), &[(9_000, "1d")]).await;
    assert_eq!(world.window(team(), 0).await, (4_000, 0));
    assert_eq!(world.window(other_team(), 0).await, (3_000, 0));
    assert_eq!(world.log(open).await.owners.team.as_deref(), Some("team"));
    assert_eq!(world.log(new).await.owners.team.as_deref(), Some("other"));
    world.change(key(1), owned_by("team")).await;
    world.hold(1, 5).await;
}

pub(crate) async fn what_is_blocked_runs_on_and_what_is_remade_has_spent<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 6_000, 1_000_000, 5_000).await;
    let blocked = |blocked| AccountChange { blocked: Some(blocked), ..AccountChange::default() };
    let open = world.hold(1, 3).await;
    world.change(team(), blocked(true)).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::KeyBlocked);
    let adjust = Event::Adjust { usage: None, output_seen: 1 };
    assert_eq!(world.report(open, 1, adjust).await, Outcome::Applied);
    assert_eq!(world.report(open, 2, settle(2, 0)).await, Outcome::Applied);
    world.change(team(), blocked(false)).await;
    let open = world.hold(1, 3).await;
    world.store().delete(vec![key(1)]).await.unwrap();
    let owners = Owners { team: Some("team".into()), ..Owners::default() };
    world.make_key(1, AccountSpec { owners, ..capped(vec![limit(5_000, "1d"), limit(9_000, "")]) }).await;
    assert_eq!(world.window(key(1), 0).await, (2_000, 3_000), "what is open counts, too");
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall);
    assert_eq!(world.report(open, 1, settle(1, 0)).await, Outcome::Applied);
    assert_eq!(world.window(key(1), 0).await, (3_000, 0));
    world.hold(1, 2).await;
    let found = world.store().lookup(digest(1), Vec::new()).await.unwrap();
    assert!(matches!(found, tollgate_ledger::store::Found::Known { .. }));
}

/// A limit counts what its window's holds were charged, also when they are charged otherwise later.
pub(crate) async fn a_correction_reaches_limits_that_came_later<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    let hold = world.spend(5).await;
    world.set_limits(key(1), &[(9_000, "1d"), (1_000_000, "")]).await;
    assert_eq!(world.window(key(1), 0).await, (5_000, 0));
    world.store().correct(hold, money(1_000)).await.unwrap();
    assert_eq!(world.window(key(1), 1).await, (1_000, 0));
    assert_eq!(world.window(key(1), 0).await, (1_000, 0));
}
