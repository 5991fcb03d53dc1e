//! Parts of limits that are spent: one event for each, in the transaction that crosses it.

use crate::world::{
    Backend, DAY_MS, HOUR_MS, NOON, VOID, World, capped, key, limit, money, new_limits, organization, over,
    settle, team,
};
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::Outcome;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Period;
use tollgate_ledger::store::{Crossing, LimitSpec, Store, StoreError};

const MINUTE_MS: i64 = 60_000;

fn watched(thresholds: &[u16], limit: LimitSpec) -> LimitSpec {
    LimitSpec { thresholds: thresholds.to_vec(), ..limit }
}

/// All events so far. Where several ledgers write, an event is shown when it is a minute old.
async fn events<B: Backend>(world: &World<B>) -> Vec<Crossing> {
    world.advance(MINUTE_MS);
    world.store().crossings(0, 1_000).await.unwrap()
}

/// The threshold and what was spent, of each event so far.
async fn parts<B: Backend>(world: &World<B>) -> Vec<(u16, i64)> {
    events(world).await.iter().map(|event| (event.threshold, event.posted.get())).collect()
}

async fn watched_key<B: Backend>(world: &World<B>, thresholds: &[u16]) {
    world.make_key(1, capped(vec![watched(thresholds, limit(10_000, "1d"))])).await;
}

pub(crate) async fn each_part_of_a_limit_is_recorded_once_and_in_order<B: Backend>(world: &mut World<B>) {
    watched_key(world, &[50, 80, 100]).await;
    world.spend(4).await;
    let open = world.hold(1, 5).await;
    assert_eq!(parts(world).await, [], "what is held is not spent");
    world.report(open, 1, settle(1, 0)).await;
    world.report(open, 1, settle(1, 0)).await;
    assert_eq!(parts(world).await, [(50, 5_000)], "exactly on it");
    world.spend(2).await;
    assert_eq!(parts(world).await, [(50, 5_000)]);
    world.spend(3).await;
    assert_eq!(parts(world).await, [(50, 5_000), (80, 10_000), (100, 10_000)], "two by one settle");
    world.restart().await;
    let events = events(world).await;
    assert_eq!(events.len(), 3);
    assert!(events.is_sorted_by(|one, next| one.number < next.number && one.at <= next.at));
    let event = &events[0];
    assert_eq!((event.kind, event.id.as_str(), event.soft), (AccountKind::Key, "key-1", false));
    assert_eq!((event.limit, event.model.as_deref()), (money(10_000), None));
    let midnight = NOON.plus_ms(12 * HOUR_MS);
    assert_eq!(event.period, Period { start: midnight.plus_ms(-DAY_MS), end: Some(midnight) });
}

pub(crate) async fn every_account_of_a_request_has_its_own_events<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.change(organization(), new_limits(vec![watched(&[10], limit(20_000, "1mo"))])).await;
    world.change(team(), new_limits(vec![watched(&[50], limit(4_000, "1d")), limit(9_000, "1mo")])).await;
    let of_model = LimitSpec { model: Some("m".into()), ..watched(&[90], limit(2_000, "1d")) };
    let other = LimitSpec { model: Some("dear".into()), ..of_model.clone() };
    world.change(key(1), new_limits(vec![of_model, other])).await;
    world.spend(2).await;
    let events = events(world).await;
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event.kind, event.alias.as_deref(), event.threshold, event.model.as_deref()))
        .collect();
    let expected = [
        (AccountKind::Organization, None, 10, None),
        (AccountKind::Team, Some("engineering"), 50, None),
        (AccountKind::Key, None, 90, Some("m")),
    ];
    assert_eq!(seen, expected);
}

pub(crate) async fn a_correction_down_and_up_again_records_nothing_twice<B: Backend>(world: &mut World<B>) {
    watched_key(world, &[50, 80]).await;
    let hold = world.spend(6).await;
    world.store().correct(hold, money(1_000)).await.unwrap();
    world.spend(5).await;
    world.store().correct(hold, money(2_000)).await.unwrap();
    assert_eq!(parts(world).await, [(50, 6_000)]);
    world.store().correct(hold, money(9_000)).await.unwrap();
    assert_eq!(parts(world).await, [(50, 6_000), (80, 14_000)]);
}

pub(crate) async fn an_expired_hold_crosses_and_its_correction_does_not_again<B: Backend>(
    world: &mut World<B>,
) {
    watched_key(world, &[50]).await;
    let [late, void] = [world.hold(1, 4).await, world.hold(1, 2).await];
    world.advance(HOUR_MS);
    world.tick().await;
    assert_eq!(parts(world).await, [(50, 6_000)]);
    world.report(void, 1, VOID).await;
    world.report(late, 1, settle(9, 0)).await;
    assert_eq!(parts(world).await, [(50, 6_000)]);
}

pub(crate) async fn a_new_window_has_new_events<B: Backend>(world: &mut World<B>) {
    watched_key(world, &[50]).await;
    world.spend(6).await;
    let midnight = NOON.plus_ms(12 * HOUR_MS);
    world.clock.set(midnight.plus_ms(-1));
    let yesterday = world.hold(1, 3).await;
    world.clock.set(midnight);
    world.spend(5).await;
    world.change(key(1), new_limits(vec![watched(&[50, 80], limit(10_000, "1d"))])).await;
    world.report(yesterday, 1, settle(3, 0)).await;
    let seen: Vec<(u16, i64, Timestamp)> = events(world)
        .await
        .iter()
        .map(|event| (event.threshold, event.posted.get(), event.period.start))
        .collect();
    let before = midnight.plus_ms(-DAY_MS);
    let expected = [(50, 6_000, before), (50, 5_000, midnight), (80, 9_000, before)];
    assert_eq!(seen, expected, "what settles late counts in the window of its making");
}

pub(crate) async fn a_limit_lowered_onto_what_is_spent_is_crossed_then<B: Backend>(world: &mut World<B>) {
    watched_key(world, &[80]).await;
    world.spend(5).await;
    let lower = |amount| new_limits(vec![watched(&[80], limit(amount, "1d"))]);
    world.change(key(1), lower(6_251)).await;
    assert_eq!(parts(world).await, []);
    world.change(key(1), lower(6_250)).await;
    assert_eq!(parts(world).await, [(80, 5_000)]);
    world.change(key(1), lower(2_000)).await;
    assert_eq!(parts(world).await, [(80, 5_000)], "once in a window");
    let more = watched(&[80, 100], limit(2_000, "1d"));
    world.change(key(1), new_limits(vec![more.clone()])).await;
    assert_eq!(parts(world).await, [(80, 5_000), (100, 5_000)], "a new threshold");
    world.change(key(1), new_limits(vec![more, watched(&[10], limit(9_000, "1mo"))])).await;
    assert_eq!(
        parts(world).await,
        [(80, 5_000), (100, 5_000), (10, 5_000)],
        "a new limit finds its part spent"
    );
}

pub(crate) async fn soft_limits_and_observing_ones_have_events<B: Backend>(world: &mut World<B>) {
    let soft = LimitSpec { soft: true, ..watched(&[100], limit(2_000, "1d")) };
    let observe = LimitSpec { observe: true, ..watched(&[100, 150], limit(4_000, "1d")) };
    world.make_key(1, capped(vec![soft, observe])).await;
    world.spend(2).await;
    world.spend(5).await;
    let seen: Vec<_> =
        events(world).await.iter().map(|event| (event.soft, event.threshold, event.limit.get())).collect();
    assert_eq!(seen, [(true, 100, 2_000), (false, 100, 4_000), (false, 150, 4_000)]);
}

/// A rolling window has no beginning: it is crossed again when it was below for a while.
pub(crate) async fn a_rolling_window_is_crossed_each_time_it_fills<B: Backend>(world: &mut World<B>) {
    world.make_key(1, capped(vec![watched(&[50], over(10_000, "rolling/3600"))])).await;
    world.spend(4).await;
    world.advance(30 * MINUTE_MS);
    world.spend(1).await;
    world.spend(2).await;
    assert_eq!(parts(world).await, [(50, 5_000)]);
    world.advance(32 * MINUTE_MS);
    world.spend(1).await;
    assert_eq!(parts(world).await, [(50, 5_000)], "4,000 are left of it");
    world.spend(1).await;
    assert_eq!(parts(world).await, [(50, 5_000), (50, 5_000)]);
}

/// What has left the window says nothing about what is in it, whenever it is posted.
pub(crate) async fn what_is_posted_to_a_part_that_has_left_crosses_and_overruns_nothing<B: Backend>(
    world: &mut World<B>,
) {
    world.make_key(1, capped(vec![watched(&[50], over(10_000, "rolling/3600"))])).await;
    let early = world.hold(1, 9).await;
    world.advance(62 * MINUTE_MS);
    let present = world.hold(1, 9).await;
    world.report(present, 1, settle(12, 0)).await;
    assert_eq!(world.log(present).await.overrun, money(2_000));
    assert_eq!(parts(world).await, [(50, 12_000)]);
    // Nobody was heard of for an hour: it was charged in full by now, and costs more in the end.
    assert_eq!(world.report(early, 1, settle(30, 0)).await, Outcome::Applied);
    assert_eq!(world.balance(key(1)).await, (42_000, 0));
    assert_eq!(world.window(key(1), 0).await, (12_000, 0), "only what is in the window");
    assert_eq!(world.log(early).await.overrun, money(0), "what is in the window is another's");
    assert_eq!(parts(world).await, [(50, 12_000)]);
}

/// However many parts of its span it finds spent.
pub(crate) async fn a_rolling_limit_that_is_added_is_crossed_once<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    for _ in 0..4 {
        world.spend(2).await;
        world.advance(5 * MINUTE_MS);
    }
    let rolling = watched(&[20, 80, 100], over(10_000, "rolling/3600"));
    world.change(key(1), new_limits(vec![rolling])).await;
    assert_eq!(parts(world).await, [(20, 8_000), (80, 8_000)]);
}

pub(crate) async fn a_cursor_reads_every_event_once<B: Backend>(world: &mut World<B>) {
    watched_key(world, &[10, 20, 30, 40, 50]).await;
    world.spend(2).await;
    world.spend(3).await;
    world.advance(MINUTE_MS);
    let (mut cursor, mut seen) = (0, Vec::new());
    for count in [2, 2, 1, 0] {
        let events = world.store().crossings(cursor, 2).await.unwrap();
        assert_eq!(events.len(), count);
        cursor = events.last().map_or(cursor, |last| last.number);
        seen.extend(events.iter().map(|event| event.threshold));
    }
    assert_eq!(seen, [10, 20, 30, 40, 50]);
    world.spend(1).await;
    assert_eq!(world.store().crossings(cursor, 9).await.unwrap(), []);
}

pub(crate) async fn a_threshold_is_a_part_of_a_limit<B: Backend>(world: &mut World<B>) {
    for (percent, fits) in [(0, false), (1, true), (1_000, true), (1_001, false)] {
        let new = World::<B>::new_key(1, capped(vec![watched(&[percent], limit(1, "1d"))]));
        let made = world.store().create(new).await;
        assert_eq!(made.is_ok(), fits, "{percent}");
        if fits {
            world.store().delete(vec![key(1)]).await.unwrap();
        } else {
            assert!(matches!(made, Err(StoreError::Invalid(_))));
        }
    }
}
