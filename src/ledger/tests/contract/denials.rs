//! Refusing holds.

use crate::world::{
    Backend, HOUR_MS, NOON, World, digest, key, limit, limits, money, new_limits, organization, settle, tag,
    team, user,
};
use tollgate_domain::account::AccountKind;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::catalogue::Provider;
use tollgate_domain::extra::Extra;
use tollgate_domain::hold::{DenialReason, HoldAsk, Verdict};
use tollgate_domain::ids::ModelName;
use tollgate_domain::policy::{Amounts, Policy};
use tollgate_domain::time::Timestamp;
use tollgate_ledger::store::{AccountChange, AccountRef, AccountSpec, Found, LimitSpec, Store, TagScope};

pub(crate) async fn each_refusal_has_its_name<B: Backend>(world: &mut World<B>) {
    use DenialReason::*;
    world.make_key(1, AccountSpec { models: vec!["m".into()], ..AccountSpec::default() }).await;
    world.make_key(2, AccountSpec { blocked: true, expires_at: Some(NOON), ..AccountSpec::default() }).await;
    world.make_key(3, AccountSpec { expires_at: Some(NOON), ..AccountSpec::default() }).await;
    world.make_key(4, AccountSpec { limits: limits(&[(0, "")]), ..AccountSpec::default() }).await;
    world.make_key(5, AccountSpec { limits: limits(&[(999, "")]), ..AccountSpec::default() }).await;
    let forbids = AccountSpec { forbidden: vec![Extra::LongContext], ..AccountSpec::default() };
    world.make_key(6, forbids).await;
    let requires = || vec!["project".parse().unwrap()];
    world.make_key(7, AccountSpec { required_tags: requires(), ..AccountSpec::default() }).await;
    let searches = |ask: &mut HoldAsk| ask.bounds = Bounds { web_searches: 1, ..ask.bounds };
    type Spoil = Box<dyn Fn(&mut HoldAsk)>;
    let model = |name: &'static str| -> Spoil { Box::new(move |ask| ask.model = ModelName::new(name)) };
    let fallback = |name: &'static str| -> Spoil {
        Box::new(move |ask| ask.fallback_models = vec![ModelName::new(name)])
    };
    let table: Vec<(u8, Spoil, DenialReason)> = vec![
        (99, Box::new(|_| {}), KeyUnknown),
        (2, Box::new(|_| {}), KeyBlocked),
        (3, Box::new(|_| {}), KeyExpired),
        (3, model("nonsense"), KeyExpired),
        (1, model("nonsense"), ModelUnknown),
        (1, model("em"), ModelUnknown),
        (1, Box::new(|ask| ask.provider = Provider::Gemini), ModelUnknown),
        (1, fallback("nonsense"), ModelUnknown),
        (1, Box::new(searches), ModelUnpriced),
        (1, model("dear"), ModelNotAllowed),
        (1, fallback("dear"), ModelNotAllowed),
        (4, model("dear"), BudgetSpent),
        (5, Box::new(|_| {}), BudgetTooSmall),
        (6, Box::new(|ask| ask.bounds.input_per_call = 200_001), ExtraForbidden),
        (1, Box::new(|ask| ask.modifiers.speed = Some("fast".into())), ModelUnpriced),
        (7, Box::new(|_| {}), TagMissing),
        (7, Box::new(|ask| ask.tags = vec!["projects:a".parse().unwrap()]), TagMissing),
    ];
    for (row, (key, spoil, expected)) in table.into_iter().enumerate() {
        let mut ask = world.ask(key, 1).await;
        spoil(&mut ask);
        match world.ask_for(ask).await {
            Verdict::Denied(denied) => assert_eq!(denied.reason, expected, "row {row}"),
            other => panic!("row {row}: {other:?}"),
        }
    }
    world.hold(1, 1).await;
    world.hold(6, 1).await;
    let tagged = HoldAsk { tags: vec!["project:a".parse().unwrap()], ..world.ask(7, 1).await };
    assert!(matches!(world.ask_for(tagged).await, Verdict::Held { .. }));
    let pins = AccountSpec {
        tags: vec!["project:b".parse().unwrap()],
        required_tags: requires(),
        ..AccountSpec::default()
    };
    world.make_key(8, pins).await;
    world.hold(8, 1).await;
}

pub(crate) async fn the_outermost_limit_that_refuses_is_named<B: Backend>(world: &mut World<B>) {
    world.family(2_000, 2_000, 2_000, 2_000).await;
    world.set_limits(team(), &[(1_000, "1d"), (5_000, "1mo")]).await;
    let denied = world.refused(1, 2).await;
    let account = denied.account.unwrap();
    assert_eq!((account.kind, account.alias.as_str()), (AccountKind::Team, "engineering"));
    assert_eq!(denied.resets_at, Some(NOON.plus_ms(12 * HOUR_MS)));
    let amounts =
        Amounts { limit: money(1_000), posted: money(0), pending: money(0), requested: money(2_000) };
    assert_eq!(denied.amounts, Some(amounts));
    let denied = world.refused(1, 3).await;
    assert_eq!(denied.account.unwrap().kind, AccountKind::Organization);
    assert_eq!(denied.resets_at, None, "a limit for life never resets");

    let hold = world.hold(1, 1).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall, "something is only held");
    world.report(hold, 1, settle(1, 0)).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
}

pub(crate) async fn a_limit_that_observes_refuses_nothing<B: Backend>(world: &mut World<B>) {
    let observe: Vec<LimitSpec> =
        limits(&[(1_000, "1d")]).into_iter().map(|limit| LimitSpec { observe: true, ..limit }).collect();
    world.make_key(1, AccountSpec { limits: observe, ..AccountSpec::default() }).await;
    let hold = world.hold(1, 5).await;
    world.report(hold, 1, settle(5, 0)).await;
    world.hold(1, 1).await;
    assert_eq!(world.window(key(1), 0).await, (5_000, 1_000));
    let found = world.store().lookup(digest(1), Vec::new()).await.unwrap();
    assert!(matches!(found, Found::Known { exhausted: None, .. }));
}

/// Holds on the policy that was right before `change`, and gives back the one that is sent instead.
async fn stale<B: Backend>(world: &World<B>, account: AccountRef, change: AccountChange) -> Policy {
    let ask = world.ask(1, 1).await;
    world.change(account, change).await;
    let answer = world.ask_for(HoldAsk { id: world.fresh_id(), ..ask.clone() }).await;
    let Verdict::Stale(policy, catalogue) = answer else { panic!("not stale: {answer:?}") };
    assert_eq!(catalogue, None, "the filter has it");
    assert_eq!(*policy, world.policy(1).await);
    let answer = world.ask_for(HoldAsk { id: world.fresh_id(), catalogue_revision: 1, ..ask }).await;
    let Verdict::Stale(_, catalogue) = answer else { panic!("not stale: {answer:?}") };
    assert_eq!(catalogue.unwrap().revision(), World::<B>::book().revision());
    *policy
}

pub(crate) async fn a_decision_on_an_old_policy_is_made_again<B: Backend>(world: &mut World<B>) {
    world.family(9_000, 9_000, 9_000, 9_000).await;
    let none = AccountChange::default;
    let blocked = |blocked| AccountChange { blocked: Some(blocked), ..none() };
    let capped = |amount| AccountChange { limits: Some(limits(&[(amount, "")])), ..none() };
    let models = |models: &[&str]| AccountChange {
        models: Some(models.iter().map(|m| (*m).to_owned()).collect()),
        ..none()
    };
    for account in [organization, team, user, || key(1)] {
        let policy = stale(world, account(), blocked(true)).await;
        assert!(policy.blocked.is_some());
        assert_eq!(world.refused(1, 1).await.reason, DenialReason::KeyBlocked);
        assert_eq!(stale(world, account(), blocked(false)).await.blocked, None);

        stale(world, account(), capped(0)).await;
        assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
        stale(world, account(), capped(9_000)).await;

        let policy = stale(world, account(), models(&["dear"])).await;
        assert_eq!(policy.allow_lists.len(), 1);
        assert_eq!(world.refused(1, 1).await.reason, DenialReason::ModelNotAllowed);
        stale(world, account(), models(&["dear", "em"])).await;
        world.hold(1, 1).await;
        stale(world, account(), models(&[])).await;
    }
    let expired = AccountChange { expires_at: Some(Some(Timestamp::new(0))), ..none() };
    stale(world, key(1), expired).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::KeyExpired);
}

pub(crate) async fn look_ups_say_what_is_exhausted<B: Backend>(world: &mut World<B>) {
    world.family(9_000, 2_000, 9_000, 9_000).await;
    world.set_limits(team(), &[(2_000, "1d")]).await;
    assert_eq!(world.store().lookup(digest(9), Vec::new()).await.unwrap(), Found::Unknown);
    let version = world.policy(1).await.version;
    let known = |exhausted| Found::Known { policy: None, exhausted };
    let look_up = || async { world.store().lookup(digest(1), version.clone()).await.unwrap() };
    assert_eq!(look_up().await, known(None));
    let hold = world.hold(1, 2).await;
    assert_eq!(look_up().await, known(None), "what is held may come back");
    world.report(hold, 1, settle(2, 0)).await;
    let Found::Known { policy: None, exhausted: Some(exhausted) } = look_up().await else {
        panic!("not exhausted")
    };
    assert_eq!(exhausted.account.kind, AccountKind::Team);
    assert_eq!(exhausted.resets_at, Some(NOON.plus_ms(12 * HOUR_MS)));
    assert_eq!((exhausted.amounts.limit, exhausted.amounts.posted), (money(2_000), money(2_000)));
    world.advance(12 * HOUR_MS);
    assert_eq!(look_up().await, known(None));
}

/// Both kinds of 402, by every kind of account.
pub(crate) async fn every_account_that_refuses_is_named_with_its_amounts<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    let pinned = AccountChange { tags: Some(vec![tag("project:x")]), ..AccountChange::default() };
    world.change(key(1), pinned).await;
    world.make(AccountKind::Tag, "project:x", AccountSpec::default()).await;
    let tag_account = || AccountRef::Tag { scope: TagScope::Installation, tag: "project:x".into() };
    let of_model = || LimitSpec { model: Some("m".into()), ..limit(2_000, "1d") };
    let daily = || limits(&[(2_000, "1d")]);
    // (whose, what is changed there, how it is called)
    type Row = (AccountRef, AccountChange, AccountKind, &'static str);
    let table: [Row; 7] = [
        (organization(), new_limits(daily()), AccountKind::Organization, ""),
        (team(), new_limits(daily()), AccountKind::Team, "engineering"),
        (user(), new_limits(daily()), AccountKind::User, ""),
        (key(1), new_limits(daily()), AccountKind::Key, ""),
        (key(1), new_limits(vec![of_model()]), AccountKind::Key, ""),
        (tag_account(), new_limits(daily()), AccountKind::Tag, "project:x"),
        (
            key(1),
            AccountChange { session_limit: Some(Some(money(2_000))), ..AccountChange::default() },
            AccountKind::Session,
            "",
        ),
    ];
    for (day, (account, change, kind, alias)) in (0..).zip(table) {
        world.clock.set(NOON.plus_ms(day * 24 * HOUR_MS));
        world.change(account.clone(), change).await;
        let ask = async |world: &World<B>| HoldAsk { session: Some("s".into()), ..world.ask(1, 2).await };
        let resets_at = (kind != AccountKind::Session).then(|| NOON.plus_ms((24 * day + 12) * HOUR_MS));
        let first = ask(world).await;
        let hold = world.hold_ask(first).await;
        // (reason, posted, pending)
        let said = [(DenialReason::BudgetTooSmall, 0, 2_000), (DenialReason::BudgetSpent, 2_000, 0)];
        for (reason, posted, pending) in said {
            let next = ask(world).await;
            let denied = world.refused_ask(next).await;
            let label = denied.account.unwrap();
            assert_eq!((denied.reason, label.kind, label.alias.as_str()), (reason, kind, alias));
            let [limit, posted, pending] = [2_000, posted, pending].map(money);
            let amounts = Amounts { limit, posted, pending, requested: money(2_000) };
            assert_eq!((denied.amounts, denied.resets_at), (Some(amounts), resets_at), "{kind}");
            assert_eq!(denied.retry_after_ms, None);
            world.report(hold, 1, settle(2, 0)).await;
        }
        world.change(account, new_limits(Vec::new())).await;
    }
}
