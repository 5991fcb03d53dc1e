//! Making holds.

use crate::world::{Backend, NOON, VOID, World, digest, key, money, organization, settle, team, user};
use std::sync::Arc;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::hold::{DenialReason, Outcome, Verdict};
use tollgate_domain::ids::{HoldId, ModelName};
use tollgate_ledger::store::{BooksStore, HoldState, Page, SpendFilter, Store, StoreError};

pub(crate) async fn a_hold_charges_every_account_or_none<B: Backend>(world: &mut World<B>) {
    world.family(9_000, 9_000, 5_000, 9_000).await;
    let everyone = [organization, team, user, || key(1)];
    world.hold(1, 3).await;
    for account in everyone {
        assert_eq!(world.balance(account()).await, (0, 3_000));
    }
    let denied = world.refused(1, 3).await;
    assert_eq!(denied.reason, DenialReason::BudgetTooSmall);
    for account in everyone {
        assert_eq!(world.balance(account()).await, (0, 3_000), "a refused hold changes no counter");
    }
    world.hold(1, 2).await;
    for account in everyone {
        assert_eq!(world.balance(account()).await, (0, 5_000));
    }
    assert_eq!(world.record(team()).await.last_active_at, Some(NOON));
}

pub(crate) async fn the_same_hold_gets_the_same_answer<B: Backend>(world: &mut World<B>) {
    world.lone_key(10_000).await;
    let ask = world.ask(1, 4).await;
    let first = world.ask_for(ask.clone()).await;
    world.advance(1_000);
    world.set_limits(key(1), &[(1, "")]).await;
    for _ in 0..3 {
        assert_eq!(world.ask_for(ask.clone()).await, first, "whatever has changed since");
    }
    assert_eq!(world.balance(key(1)).await, (0, 4_000));
}

pub(crate) async fn another_request_with_the_same_id_is_an_error_that_changes_nothing<B: Backend>(
    world: &mut World<B>,
) {
    world.lone_key(10_000).await;
    let before = world.hold(1, 1).await;
    let ask = world.ask(1, 4).await;
    world.ask_for(ask.clone()).await;
    let mut larger = ask.clone();
    larger.bounds.input = 5;
    let mut other_key = ask.clone();
    other_key.key = digest(2);
    let mut other_model = ask.clone();
    other_model.model = ModelName::new("dear");
    for other in [larger, other_key, other_model] {
        let along = vec![World::<B>::news(before, 1, settle(1, 0))];
        let error = world.store().hold(other, along).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid(_)));
        assert_eq!(world.balance(key(1)).await, (0, 5_000), "the reports that came along, too");
    }
}

pub(crate) async fn reports_that_come_along_are_applied_first<B: Backend>(world: &mut World<B>) {
    world.lone_key(5_000).await;
    let before = world.hold(1, 4).await;
    let ask = world.ask(1, 4).await;
    let along = vec![
        World::<B>::news(before, 1, settle(1, 0)),
        World::<B>::news(HoldId::new([9; 16]), 1, settle(1, 0)),
        World::<B>::news(before, 2, VOID),
    ];
    let (verdict, outcomes) = world.store().hold(ask, along).await.unwrap();
    assert!(matches!(verdict, Verdict::Held { amount, .. } if amount == money(4_000)));
    assert_eq!(outcomes[0], Outcome::Applied);
    assert!(matches!(outcomes[1], Outcome::Rejected("unknown hold")));
    assert!(matches!(outcomes[2], Outcome::Rejected(_)));
    assert_eq!(world.balance(key(1)).await, (1_000, 4_000));

    let ask = world.ask(1, 4).await;
    let own_void = vec![World::<B>::news(ask.id, 1, VOID)];
    let (verdict, outcomes) = world.store().hold(ask, own_void).await.unwrap();
    assert_eq!(outcomes, [Outcome::Tombstone]);
    assert!(matches!(verdict, Verdict::Denied(denied) if denied.reason == DenialReason::HoldEnded));
}

pub(crate) async fn racing_holds_admit_exactly_what_fits<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 31_900, 1_000_000, 1_000_000).await;
    world.hold(1, 1).await;
    let mut racers = Vec::new();
    for _ in 0..64 {
        let (store, ask) = (world.store(), world.ask(1, 3).await);
        racers.push(tokio::spawn(async move { store.hold(ask, Vec::new()).await.unwrap().0 }));
    }
    let mut held = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Verdict::Held { .. } => held += 1,
            Verdict::Denied(denied) => assert_eq!(denied.reason, DenialReason::BudgetTooSmall),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(held, (31_900 - 1_000) / 3_000);
    assert_eq!(world.balance(team()).await, (0, 1_000 + held * 3_000));
}

pub(crate) async fn the_dearest_fallback_sizes_the_hold<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    let mut ask = world.ask(1, 3).await;
    ask.bounds = Bounds { output: 2, ..ask.bounds };
    ask.fallback_models = vec![ModelName::new("dear")];
    let verdict = world.ask_for(ask).await;
    assert!(matches!(verdict, Verdict::Held { amount, .. } if amount == money(3 * 10_000 + 2 * 20_000)));
    let mut ask = world.ask(1, 3).await;
    ask.fallback_models = vec![ModelName::new("c")];
    let verdict = world.ask_for(ask).await;
    let unknown = "a fallback of another provider is none";
    assert!(
        matches!(verdict, Verdict::Denied(denied) if denied.reason == DenialReason::ModelUnknown),
        "{unknown}"
    );
}

pub(crate) async fn a_restart_keeps_everything<B: Backend>(world: &mut World<B>) {
    world.family(100_000, 100_000, 100_000, 100_000).await;
    let open = world.ask(1, 4).await;
    let answer = world.ask_for(open.clone()).await;
    let settled = world.hold(1, 5).await;
    world.report(settled, 1, settle(2, 1)).await;
    let voided = HoldId::new([7; 16]);
    assert_eq!(world.report(voided, 1, VOID).await, Outcome::Tombstone);
    let version = world.policy(1).await.version;
    world.restart().await;
    assert_eq!(world.balance(organization()).await, (4_000, 4_000));
    assert_eq!(world.policy(1).await.version, version, "a restart makes no policy old");
    assert_eq!(world.ask_for(open.clone()).await, answer);
    assert_eq!(world.report(settled, 1, settle(2, 1)).await, Outcome::Duplicate);
    let mut late = world.ask(1, 1).await;
    late.id = voided;
    let verdict = world.ask_for(late).await;
    assert!(matches!(verdict, Verdict::Denied(denied) if denied.reason == DenialReason::HoldEnded));
    assert_eq!(world.report(open.id, 1, settle(1, 0)).await, Outcome::Applied);
    let store: Arc<BooksStore> = world.store();
    let logs = store.spend_logs(SpendFilter::default(), Page { offset: 0, limit: 10 }).await.unwrap();
    assert_eq!(logs.len(), 2);
    assert!(logs.iter().all(|log| log.state == HoldState::Settled));
}
