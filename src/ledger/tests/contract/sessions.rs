//! A budget for each session of an agent.

use crate::world::{Backend, DAY_MS, World, key, money, organization, settle, team, user};
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::{DenialReason, HoldAsk, HoldDenied, Verdict};
use tollgate_domain::ids::HoldId;
use tollgate_ledger::store::{AccountChange, AccountFilter, AccountSpec, Owners, Page, Store};

fn cap(amount: i64) -> AccountChange {
    AccountChange { session_limit: Some(Some(money(amount))), ..AccountChange::default() }
}

fn no_cap() -> AccountChange {
    AccountChange { session_limit: Some(None), ..AccountChange::default() }
}

async fn of<B: Backend>(world: &World<B>, number: u8, session: &str, input: u64) -> HoldAsk {
    HoldAsk { session: Some(session.into()), ..world.ask(number, input).await }
}

async fn hold<B: Backend>(world: &World<B>, session: &str, input: u64) -> HoldId {
    let ask = of(world, 1, session, input).await;
    world.hold_ask(ask).await
}

async fn spend<B: Backend>(world: &World<B>, session: &str, input: u64) {
    let hold = hold(world, session, input).await;
    world.report(hold, 1, settle(input, 0)).await;
}

/// Refused, and by the session's cap.
async fn refused<B: Backend>(world: &World<B>, session: &str, input: u64) -> HoldDenied {
    let ask = of(world, 1, session, input).await;
    let denied = world.refused_ask(ask).await;
    assert_eq!(denied.account.as_ref().unwrap().kind, AccountKind::Session);
    assert_eq!(denied.resets_at, None);
    denied
}

/// What each living session has spent and holds, by its id.
async fn sessions<B: Backend>(world: &World<B>) -> Vec<(String, i64, i64)> {
    let filter =
        AccountFilter { kind: AccountKind::Session, owners: Owners::default(), alias: None, digest: None };
    let (records, _) = world.store().accounts(filter, Page { offset: 0, limit: 100 }).await.unwrap();
    records.into_iter().map(|record| (record.id, record.posted.get(), record.pending.get())).collect()
}

pub(crate) async fn a_session_has_a_budget_of_its_own<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    hold(world, "before", 100).await;
    assert_eq!(sessions(world).await, [], "a row only where a limit exists");
    world.change(key(1), cap(5_000)).await;
    let first = hold(world, "s", 5).await;
    assert_eq!(refused(world, "s", 1).await.reason, DenialReason::BudgetTooSmall);
    hold(world, "t", 5).await;
    world.hold(1, 9).await;
    assert_eq!(sessions(world).await, [("s".into(), 0, 5_000), ("t".into(), 0, 5_000)]);
    world.report(first, 1, settle(5, 0)).await;
    let denied = refused(world, "s", 1).await;
    let amounts = denied.amounts.unwrap();
    assert_eq!(
        (denied.reason, amounts.limit.get(), amounts.posted.get()),
        (DenialReason::BudgetSpent, 5_000, 5_000)
    );
    world.restart().await;
    assert_eq!(refused(world, "s", 1).await.reason, DenialReason::BudgetSpent);
    world.change(key(1), no_cap()).await;
    hold(world, "s", 100).await;
}

pub(crate) async fn the_smallest_cap_counts_at_once<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.change(organization(), cap(9_000)).await;
    hold(world, "s", 1).await;
    // (whose cap, its amount, and the smallest then)
    let table =
        [(team(), 8_000, 8_000), (user(), 9_500, 8_000), (key(1), 7_000, 7_000), (user(), 3_000, 3_000)];
    for (level, amount, smallest) in table {
        world.change(level, cap(amount)).await;
        assert_eq!(refused(world, "s", 10).await.amounts.unwrap().limit.get(), smallest);
        assert_eq!(refused(world, "new", 10).await.amounts.unwrap().limit.get(), smallest);
    }
    spend(world, "s", 2).await;
    world.change(team(), cap(1_000)).await;
    assert_eq!(refused(world, "s", 1).await.reason, DenialReason::BudgetSpent, "lowered below what is spent");
    for level in [team(), user(), key(1)] {
        world.change(level, no_cap()).await;
    }
    hold(world, "s", 6).await;
    assert_eq!(
        refused(world, "s", 1).await.amounts.unwrap().limit.get(),
        9_000,
        "what was spent is not forgotten"
    );
}

/// Patterns at several levels, and the cap of every session: a session has the smallest that its name matches.
pub(crate) async fn a_cap_by_pattern_counts_for_the_sessions_that_it_names<B: Backend>(world: &mut World<B>) {
    let caps = |caps: &[(&str, i64)]| AccountChange {
        session_limits: Some(
            caps.iter().map(|(pattern, amount)| (pattern.parse().unwrap(), money(*amount))).collect(),
        ),
        ..AccountChange::default()
    };
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.change(team(), caps(&[("ci-*", 5_000)])).await;
    world.change(key(1), caps(&[("*-nightly", 3_000), ("ci-*", 8_000)])).await;
    hold(world, "elsewhere", 100).await;
    assert_eq!(sessions(world).await, [], "a row only where a limit exists");
    let limits = [("ci-1", 5_000), ("ci-1-nightly", 3_000), ("a-nightly", 3_000)];
    for restarted in [false, true] {
        for (session, limit) in limits {
            let limit_said = refused(world, session, 10).await.amounts.unwrap().limit.get();
            assert_eq!(limit_said, limit, "{session}, {restarted}");
        }
        world.restart().await;
    }
    spend(world, "ci-1", 4).await;
    assert_eq!(refused(world, "ci-1", 2).await.reason, DenialReason::BudgetTooSmall);
    hold(world, "ci-2", 5).await;
    world.change(organization(), cap(4_000)).await;
    assert_eq!(refused(world, "ci-1", 1).await.reason, DenialReason::BudgetSpent, "every session's, too");
    assert_eq!(refused(world, "elsewhere", 5).await.amounts.unwrap().limit.get(), 4_000);
    world.change(organization(), no_cap()).await;
    world.change(team(), caps(&[])).await;
    hold(world, "ci-1", 4).await;
    assert_eq!(refused(world, "ci-1", 1).await.amounts.unwrap().limit.get(), 8_000, "nothing is forgotten");
    world.change(key(1), caps(&[])).await;
    hold(world, "ci-1", 100).await;
    let living: Vec<_> = sessions(world).await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(living, ["ci-1", "ci-2"]);
}

/// Names of sessions are the client's: whoever only asks fills no table with them.
pub(crate) async fn asking_in_vain_makes_no_session<B: Backend>(world: &mut World<B>) {
    world.lone_key(7_000).await;
    world.change(key(1), cap(5_000)).await;
    assert_eq!(refused(world, "too much for a session", 6).await.reason, DenialReason::BudgetTooSmall);
    let ask = of(world, 1, "too much for the key", 8).await;
    let denied = world.refused_ask(ask).await;
    assert_eq!(denied.account.unwrap().kind, AccountKind::Key);
    let known = HoldAsk { policy_version: vec![1], ..of(world, 1, "on an old policy", 1).await };
    assert!(matches!(world.ask_for(known).await, Verdict::Stale(..)));
    assert_eq!(sessions(world).await, []);
    hold(world, "s", 1).await;
    assert_eq!(sessions(world).await, [("s".into(), 0, 1_000)]);
}

pub(crate) async fn a_session_belongs_to_its_key<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.change(team(), cap(3_000)).await;
    let owners = Owners { team: Some("team".into()), ..Owners::default() };
    world.make_key(2, AccountSpec { owners, ..AccountSpec::default() }).await;
    for number in [1, 2] {
        let ask = of(world, number, "s", 3).await;
        world.hold_ask(ask).await;
        let ask = of(world, number, "s", 1).await;
        assert_eq!(world.refused_ask(ask).await.reason, DenialReason::BudgetTooSmall);
    }
    assert_eq!(sessions(world).await, [("s".into(), 0, 3_000), ("s".into(), 0, 3_000)]);
}

pub(crate) async fn a_silent_session_ends_and_goes_on_where_it_was<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    world.change(key(1), cap(5_000)).await;
    spend(world, "s", 3).await;
    // Whatever looks for ended sessions does so every hour.
    for (passed_ms, lives) in [(0, true), (30 * DAY_MS - 1, true), (DAY_MS, false)] {
        world.advance(passed_ms);
        world.tick().await;
        assert_eq!(!sessions(world).await.is_empty(), lives, "{passed_ms} ms later");
    }
    assert_eq!(refused(world, "s", 3).await.reason, DenialReason::BudgetTooSmall);
    hold(world, "s", 2).await;
    assert_eq!(sessions(world).await, [("s".into(), 3_000, 2_000)], "no fresh money");
    world.advance(29 * DAY_MS);
    world.tick().await;
    assert_eq!(sessions(world).await.len(), 1);
}
