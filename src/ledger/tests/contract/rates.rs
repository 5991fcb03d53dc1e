//! Rates: requests, tokens, and requests at once.

use crate::world::{
    Backend, HOUR_MS, VOID, World, capped, key, limits, money, organization, settle, settlement, team, user,
};
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::{DenialReason, Event, HoldAsk, Outcome, Settlement, Verdict};
use tollgate_domain::ids::ModelName;
use tollgate_domain::rate::{Rate, RateKind, RateNow};
use tollgate_domain::usage::Usage;
use tollgate_ledger::store::{AccountChange, AccountRef, AccountSpec, RateSpec, Settings, Store};

use RateKind::{Parallel, RequestsPerMinute, TokensPerDay, TokensPerMinute};

const MINUTE_MS: i64 = 60_000;

fn rate(kind: RateKind, limit: u64) -> RateSpec {
    RateSpec { rate: Rate { kind, limit }, model: None, observe: false }
}

fn rated(rates: Vec<RateSpec>) -> AccountSpec {
    AccountSpec { rates, ..AccountSpec::default() }
}

fn new_rates(rates: Vec<RateSpec>) -> AccountChange {
    AccountChange { rates: Some(rates), ..AccountChange::default() }
}

/// What would pass at once of the account's rate at `index`.
async fn remaining<B: Backend>(world: &World<B>, account: AccountRef, index: usize) -> u64 {
    world.record(account).await.rates[index].remaining
}

/// Tries to hold, which must be refused for a rate: whose, and for how many milliseconds.
async fn too_fast<B: Backend>(world: &World<B>, number: u8, input: u64) -> (AccountKind, u64) {
    let denied = world.refused(number, input).await;
    assert_eq!(denied.reason, DenialReason::RateLimited);
    assert_eq!((denied.amounts, denied.resets_at), (None, None));
    (denied.account.unwrap().kind, denied.retry_after_ms.unwrap())
}

/// An ask of `input` bytes counts as a third of it in tokens.
pub(crate) async fn each_rate_binds_on_each_account<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    let accounts: [(AccountKind, fn() -> AccountRef); 4] = [
        (AccountKind::Organization, organization),
        (AccountKind::Team, team),
        (AccountKind::User, user),
        (AccountKind::Key, || key(1)),
    ];
    // (kind, limit, input of two asks that fit, how long to wait for a third)
    let table = [
        (RequestsPerMinute, 2, 1, 30_000),
        (TokensPerMinute, 20, 30, 30_000),
        (TokensPerDay, 20, 30, 12 * HOUR_MS as u64),
        (Parallel, 2, 1, 1_000),
    ];
    for (kind, account) in accounts {
        for (what, limit, input, retry_ms) in table {
            world.change(account(), new_rates(vec![rate(what, limit)])).await;
            let holds = [world.hold(1, input).await, world.hold(1, input).await];
            let before = world.balance(key(1)).await;
            assert_eq!(too_fast(world, 1, input).await, (kind, retry_ms), "{what:?}");
            assert_eq!(world.balance(key(1)).await, before, "refused for a rate, it takes no money");
            if what == Parallel {
                world.report(holds[0], 1, VOID).await;
            } else {
                world.advance(i64::try_from(retry_ms).unwrap() - 1);
                assert_eq!(too_fast(world, 1, input).await, (kind, 1), "{what:?}");
                world.advance(1);
            }
            let third = world.hold(1, input).await;
            for hold in holds.into_iter().chain([third]) {
                world.report(hold, 9, settle(0, 0)).await;
            }
            world.change(account(), new_rates(Vec::new())).await;
        }
    }
}

pub(crate) async fn a_rate_of_a_model_counts_only_that_model<B: Backend>(world: &mut World<B>) {
    let of = |model: &str, limit| RateSpec { model: Some(model.into()), ..rate(RequestsPerMinute, limit) };
    world.make_key(1, rated(vec![of("em", 1), of("dear", 2), rate(RequestsPerMinute, 3)])).await;
    let dear = async |world: &World<B>| HoldAsk { model: ModelName::new("dear"), ..world.ask(1, 1).await };
    world.hold(1, 1).await;
    too_fast(world, 1, 1).await;
    let first = dear(world).await;
    world.hold_ask(first).await;
    let second = dear(world).await;
    world.hold_ask(second).await;
    let third = dear(world).await;
    assert_eq!(world.refused_ask(third).await.reason, DenialReason::RateLimited);
    assert_eq!(remaining(world, key(1), 0).await, 0, "the rate of all models");
    world.advance(20_000);
    assert_eq!(
        too_fast(world, 1, 1).await,
        (AccountKind::Key, 40_000),
        "its own has room, the model's has not"
    );
}

pub(crate) async fn a_hold_takes_all_of_its_rates_and_money_or_nothing<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 5_000).await;
    world.change(organization(), new_rates(vec![rate(RequestsPerMinute, 3), rate(Parallel, 9)])).await;
    world.change(key(1), new_rates(vec![rate(RequestsPerMinute, 2), rate(TokensPerMinute, 100)])).await;
    let standing = async |world: &World<B>| {
        let mut all = Vec::new();
        for (account, index) in [(organization(), 0), (organization(), 1), (key(1), 0), (key(1), 1)] {
            all.push(remaining(world, account, index).await);
        }
        all
    };
    assert_eq!(world.refused(1, 6).await.reason, DenialReason::BudgetTooSmall);
    assert_eq!(standing(world).await, [3, 9, 2, 100], "refused for money, it takes no rate");
    world.hold(1, 2).await;
    world.hold(1, 1).await;
    assert_eq!(standing(world).await, [1, 7, 0, 98]);
    assert_eq!(too_fast(world, 1, 1).await, (AccountKind::Key, 30_000));
    assert_eq!(standing(world).await, [1, 7, 0, 98], "nor what was taken before the rate that refused");
    assert_eq!(world.balance(organization()).await, (0, 3_000));
    world.advance(30_000);
    let denied = world.refused(1, 3).await;
    assert_eq!(denied.reason, DenialReason::BudgetTooSmall, "rates come first, then money");
    world.hold(1, 2).await;
}

pub(crate) async fn tokens_are_corrected_at_the_end<B: Backend>(world: &mut World<B>) {
    // A token comes back in an hour.
    world.make_key(1, rated(vec![rate(TokensPerDay, 24), rate(RequestsPerMinute, 100)])).await;
    let tokens = async |world: &World<B>| remaining(world, key(1), 0).await;
    // Each holds 10: what it ends with, and what is left of 24 then.
    let cached = Usage { cache_read: 3, cache_write_5m: 2, ..Usage::default() };
    let all = Settlement { usage: Some(cached), ..settlement(0, 0) };
    let unknown = Settlement { usage: None, ..settlement(0, 0) };
    let table = [
        (settle(10, 0), 14),
        (settle(3, 1), 20),
        (settle(0, 0), 24),
        (settle(20, 3), 1),
        (settle(30, 10), 0),
        (Event::Settle(all), 19),
        (Event::Settle(unknown), 14),
        (VOID, 24),
    ];
    for (end, left) in table {
        world.advance(3 * 24 * HOUR_MS);
        assert_eq!(tokens(world).await, 24);
        let requests = remaining(world, key(1), 1).await;
        let hold = world.hold(1, 30).await;
        assert_eq!(tokens(world).await, 14);
        for outcome in [Outcome::Applied, Outcome::Duplicate] {
            assert_eq!(world.report(hold, 1, end.clone()).await, outcome);
            assert_eq!(tokens(world).await, left, "{end:?}");
        }
        assert_eq!(remaining(world, key(1), 1).await, requests - 1, "a request that ended was one");
    }
}

pub(crate) async fn tokens_of_an_expired_hold_are_corrected_when_it_settles<B: Backend>(
    world: &mut World<B>,
) {
    world.make_key(1, rated(vec![rate(TokensPerDay, 24)])).await;
    world.advance(HOUR_MS);
    let (late, voided) = (world.hold(1, 30).await, world.hold(1, 30).await);
    assert_eq!(remaining(world, key(1), 0).await, 4);
    world.advance(16 * MINUTE_MS);
    world.tick().await;
    assert_eq!(remaining(world, key(1), 0).await, 4, "it counts as what it held");
    assert_eq!(world.report(late, 1, settle(4, 0)).await, Outcome::Applied);
    assert_eq!(remaining(world, key(1), 0).await, 10);
    assert_eq!(world.report(voided, 1, VOID).await, Outcome::Applied);
    assert_eq!(remaining(world, key(1), 0).await, 20);
}

pub(crate) async fn a_request_runs_until_it_ends_and_ends_once<B: Backend>(world: &mut World<B>) {
    world.make_key(1, rated(vec![rate(Parallel, 2)])).await;
    let free = async |world: &World<B>| remaining(world, key(1), 0).await;
    for end in [settle(1, 0), VOID] {
        let (open, ended) = (world.hold(1, 1).await, world.hold(1, 1).await);
        assert_eq!(too_fast(world, 1, 1).await, (AccountKind::Key, 1_000));
        for _ in 0..2 {
            world.report(ended, 1, end.clone()).await;
            assert_eq!(free(world).await, 1);
        }
        world.report(open, 1, VOID).await;
        assert_eq!(free(world).await, 2);
    }
    world.advance(3 * MINUTE_MS);
    let expired = [world.hold(1, 1).await, world.hold(1, 1).await];
    world.advance(16 * MINUTE_MS);
    world.tick().await;
    assert_eq!(free(world).await, 2, "what has expired does not run");
    world.hold(1, 1).await;
    world.hold(1, 1).await;
    for (hold, end) in expired.into_iter().zip([settle(1, 0), VOID]) {
        assert_eq!(world.report(hold, 1, end).await, Outcome::Applied);
        assert_eq!(free(world).await, 0, "and does not end twice");
    }
}

pub(crate) async fn a_rate_that_observes_refuses_nothing<B: Backend>(world: &mut World<B>) {
    let observe = RateSpec { observe: true, ..rate(RequestsPerMinute, 1) };
    world.make_key(1, rated(vec![observe, rate(Parallel, 3)])).await;
    let (first, second) = (world.hold(1, 1).await, world.hold(1, 1).await);
    assert_eq!(world.log(first).await.would_deny, None);
    assert_eq!(world.log(second).await.would_deny.as_deref(), Some("rate_limited"));
    world.advance(MINUTE_MS);
    let third = world.hold(1, 1).await;
    let would_deny = world.log(third).await.would_deny;
    assert_eq!(would_deny.as_deref(), Some("rate_limited"), "what it let through counts");
    too_fast(world, 1, 1).await;

    let settings = World::<B>::settings(World::<B>::book(), &world.clock);
    world.restart_as(Settings { observe: true, ..settings }).await;
    let fourth = world.hold(1, 1).await;
    assert_eq!(world.log(fourth).await.would_deny.as_deref(), Some("rate_limited"), "so for all of them");
}

pub(crate) async fn a_changed_rate_keeps_what_was_used<B: Backend>(world: &mut World<B>) {
    world.make_key(1, rated(vec![rate(RequestsPerMinute, 10), rate(Parallel, 10)])).await;
    let mut holds = Vec::new();
    for _ in 0..6 {
        holds.push(world.hold(1, 1).await);
    }
    // (limit, remaining)
    for (limit, left) in [(10, 4), (20, 14), (8, 2), (6, 0), (4, 0), (7, 1)] {
        let rates = vec![rate(Parallel, limit), rate(RequestsPerMinute, limit)];
        let record = world.change(key(1), new_rates(rates)).await;
        let seen: Vec<u64> = record.rates.iter().map(|rate| rate.remaining).collect();
        assert_eq!(seen, [left, left], "{limit}");
    }
    world.hold(1, 1).await;
    too_fast(world, 1, 1).await;
    world.change(key(1), new_rates(vec![rate(RequestsPerMinute, 0)])).await;
    assert_eq!(too_fast(world, 1, 1).await, (AccountKind::Key, 60_000), "zero allows nothing");
    world.change(key(1), new_rates(Vec::new())).await;
    world.hold(1, 1).await;
    for hold in holds {
        world.report(hold, 1, settle(1, 0)).await;
    }
    world.change(key(1), new_rates(vec![rate(RequestsPerMinute, 1)])).await;
    world.hold(1, 1).await;
    too_fast(world, 1, 1).await;
}

/// The end of a hold corrects the rates that it took, and none that came after one of them was taken away.
pub(crate) async fn a_new_rate_is_not_one_that_was_taken_away<B: Backend>(world: &mut World<B>) {
    world.make_key(1, rated(vec![rate(RequestsPerMinute, 3)])).await;
    world.make_key(2, rated(Vec::new())).await;
    let hold = world.hold(1, 1).await;
    world.change(key(1), new_rates(Vec::new())).await;
    world.change(key(2), new_rates(vec![rate(TokensPerDay, 20)])).await;
    assert_eq!(world.report(hold, 1, settle(9, 0)).await, Outcome::Applied);
    assert_eq!(world.record(key(2)).await.rates[0].remaining, 20);
}

pub(crate) async fn the_tightest_rate_of_each_kind_is_told<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    let [of_org, of_team, of_key] = [
        vec![rate(RequestsPerMinute, 5), rate(TokensPerMinute, 90)],
        vec![rate(RequestsPerMinute, 3), RateSpec { observe: true, ..rate(TokensPerMinute, 1) }],
        vec![rate(RequestsPerMinute, 4), rate(Parallel, 7)],
    ];
    for (account, rates) in [(organization(), of_org), (team(), of_team), (key(1), of_key)] {
        world.change(account, new_rates(rates)).await;
    }
    let ask = world.ask(1, 30).await;
    let Verdict::Held { rates, .. } = world.ask_for(ask.clone()).await else { panic!("not held") };
    let told: Vec<_> = rates
        .iter()
        .map(|RateNow { account, rate, remaining, resets_at }| {
            (account.kind, rate.kind, rate.limit, *remaining, resets_at.since_ms(world.clock.now()))
        })
        .collect();
    let expected = [
        (AccountKind::Team, RequestsPerMinute, 3, 2, 20_000),
        (AccountKind::Organization, TokensPerMinute, 90, 80, 6_667),
        (AccountKind::Key, Parallel, 7, 6, 0),
    ];
    assert_eq!(told, expected);
    assert!(matches!(world.ask_for(ask).await, Verdict::Held { .. }));
    assert_eq!(remaining(world, team(), 0).await, 2, "the same hold again takes nothing");
}

pub(crate) async fn rates_survive_a_restart_and_a_remaking<B: Backend>(world: &mut World<B>) {
    let rates = || vec![rate(RequestsPerMinute, 2), rate(TokensPerDay, 100), rate(Parallel, 2)];
    world.make_key(1, rated(rates())).await;
    let (first, _second) = (world.hold(1, 30).await, world.hold(1, 30).await);
    let standing = world.record(key(1)).await.rates;
    assert_eq!(standing.iter().map(|rate| rate.remaining).collect::<Vec<_>>(), [0, 80, 0]);
    world.restart().await;
    assert_eq!(world.record(key(1)).await.rates, standing);
    too_fast(world, 1, 1).await;
    world.store().delete(vec![key(1)]).await.unwrap();
    world.make_key(1, rated(rates())).await;
    assert_eq!(world.record(key(1)).await.rates, standing, "a key made anew is not faster");
    world.report(first, 1, settle(20, 0)).await;
    let standing = world.record(key(1)).await.rates;
    assert_eq!(standing.iter().map(|rate| rate.remaining).collect::<Vec<_>>(), [0, 70, 1]);
}

pub(crate) async fn racing_holds_keep_to_the_rate<B: Backend>(world: &mut World<B>) {
    let spec = AccountSpec { rates: vec![rate(RequestsPerMinute, 7)], ..capped(limits(&[(1_000_000, "")])) };
    world.make_key(1, spec).await;
    let mut racers = Vec::new();
    for _ in 0..32 {
        let (store, ask) = (world.store(), world.ask(1, 3).await);
        racers.push(tokio::spawn(async move { store.hold(ask, Vec::new()).await.unwrap().0 }));
    }
    let mut held = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Verdict::Held { .. } => held += 1,
            Verdict::Denied(denied) => assert_eq!(denied.reason, DenialReason::RateLimited),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(held, 7);
    assert_eq!(world.record(key(1)).await.pending, money(21_000));
}
