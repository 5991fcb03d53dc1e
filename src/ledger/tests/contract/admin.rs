//! Accounts, and lists of what they spent.

use crate::world::{
    Backend, NOON, World, digest, key, limit, limits, money, organization, settle, team, user,
};
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::{DenialReason, HoldAsk, Verdict};
use tollgate_domain::rate::{Rate, RateKind};
use tollgate_domain::time::Timestamp;
use tollgate_ledger::store::{
    AccountChange, AccountFilter, AccountRef, AccountSpec, Credential, Found, LimitSpec, NewAccount, Owners,
    Page, RateSpec, SpendFilter, Store, StoreError, TagSpend,
};

const ALL: Page = Page { offset: 0, limit: 100 };

fn of(kind: AccountKind) -> AccountFilter {
    AccountFilter { kind, owners: Owners::default(), alias: None, digest: None }
}

pub(crate) async fn accounts_are_made_changed_listed_and_deleted<B: Backend>(world: &mut World<B>) {
    world.family(1_000, 2_000, 3_000, 4_000).await;
    let serde_json::Value::Object(metadata) = serde_json::json!({"a": {"b": [1, 0.1]}}) else {
        unreachable!()
    };
    let main = LimitSpec { main: true, ..limit(7_000, "1mo") };
    let spec = AccountSpec {
        alias: Some("two".into()),
        owners: Owners { team: Some("team".into()), ..Owners::default() },
        models: vec!["m".into(), "claude-*".into()],
        limits: vec![main.clone(), limit(500, "1d")],
        budget_duration: Some("1mo".into()),
        blocked: false,
        tags: vec!["project:x".parse().unwrap()],
        forbidden: vec![tollgate_domain::extra::Extra::FastMode],
        required_tags: vec!["project".parse().unwrap()],
        expires_at: Some(NOON.plus_ms(5)),
        rates: vec![
            RateSpec {
                rate: Rate { kind: RateKind::RequestsPerMinute, limit: 100 },
                model: None,
                observe: false,
            },
            RateSpec {
                rate: Rate { kind: RateKind::TokensPerDay, limit: 5 },
                model: Some("m".into()),
                observe: true,
            },
        ],
        session_limit: Some(money(77)),
        session_limits: [("ci-*".parse().unwrap(), money(7))].into_iter().collect(),
        client_tags_bind: true,
        metadata,
    };
    let made = world.make_key(2, spec.clone()).await;
    assert_eq!(made.spec, spec);
    assert_eq!(made.credential, Some(Credential { digest: digest(2), name: "sk-...0002".into() }));
    assert_eq!((made.created_at, made.created_by.as_str(), made.last_active_at), (NOON, "admin", None));
    assert_eq!(made.limits.iter().map(|limit| limit.spec.clone()).collect::<Vec<_>>(), spec.limits);
    assert_eq!(made.main.unwrap().0, main.window.period_at(NOON).unwrap());
    for name in [key(2), AccountRef::KeyAlias("two".into()), AccountRef::Id(AccountKind::Key, "key-2".into())]
    {
        assert_eq!(world.record(name).await, made);
    }

    world.advance(10);
    let change = AccountChange { alias: Some(None), tags: Some(vec![]), ..AccountChange::default() };
    let changed = world.change(key(2), change).await;
    assert_eq!(changed.spec, AccountSpec { alias: None, tags: vec![], ..spec });
    assert_eq!((changed.created_at, changed.updated_at), (NOON, NOON.plus_ms(10)));

    let list = async |filter: AccountFilter| {
        let (records, total) = world.store().accounts(filter, ALL).await.unwrap();
        assert_eq!(records.len() as u64, total);
        records.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    let owned = |owners| AccountFilter { owners, ..of(AccountKind::Key) };
    let team_of = |id: &str| owned(Owners { team: Some(id.into()), ..Owners::default() });
    assert_eq!(list(of(AccountKind::Key)).await, ["key-1", "key-2"]);
    assert_eq!(list(team_of("team")).await, ["key-1", "key-2"]);
    assert_eq!(list(team_of("nobody")).await, [""; 0]);
    assert_eq!(list(owned(Owners { user: Some("user".into()), ..Owners::default() })).await, ["key-1"]);
    assert_eq!(list(AccountFilter { digest: Some(digest(2)), ..of(AccountKind::Key) }).await, ["key-2"]);
    assert_eq!(
        list(AccountFilter { alias: Some("engineering".into()), ..of(AccountKind::Team) }).await,
        ["team"]
    );
    let (page, total) =
        world.store().accounts(of(AccountKind::Key), Page { offset: 1, limit: 5 }).await.unwrap();
    assert_eq!((page.len(), page[0].id.as_str(), total), (1, "key-2", 2));

    assert_eq!(world.store().delete(vec![key(2)]).await.unwrap()[0].id, "key-2");
    assert_eq!(world.store().account(key(2)).await.unwrap(), None);
    assert_eq!(list(of(AccountKind::Key)).await, ["key-1"]);
}

pub(crate) async fn names_are_taken_once<B: Backend>(world: &mut World<B>) {
    let named = |alias: &str| AccountSpec { alias: Some(alias.into()), ..AccountSpec::default() };
    world.make(AccountKind::Team, "team", AccountSpec::default()).await;
    world.make_key(1, named("one")).await;
    world.make_key(2, named("two")).await;
    let same_key = NewAccount { id: "other".into(), ..World::<B>::new_key(1, AccountSpec::default()) };
    let same_id = NewAccount { id: "key-1".into(), ..World::<B>::new_key(3, AccountSpec::default()) };
    let table = [
        World::<B>::new_account(AccountKind::Team, "team", AccountSpec::default()),
        same_key,
        same_id,
        World::<B>::new_key(3, named("one")),
    ];
    for new in table {
        let row = format!("{new:?}");
        assert!(matches!(world.store().create(new).await, Err(StoreError::Conflict(_))), "{row}");
    }
    let rename = AccountChange { alias: Some(Some("one".into())), ..AccountChange::default() };
    assert!(matches!(world.store().update(key(2), rename.clone()).await, Err(StoreError::Conflict(_))));
    assert!(world.store().update(key(1), rename).await.is_ok(), "its own alias is no conflict");
    world.make(AccountKind::User, "team", AccountSpec::default()).await;
}

pub(crate) async fn owners_must_exist<B: Backend>(world: &mut World<B>) {
    let owners = |organization: &str, team: &str, user: &str| {
        let id = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Owners { organization: id(organization), team: id(team), user: id(user) }
    };
    for owners in [owners("x", "", ""), owners("", "x", ""), owners("", "", "x")] {
        let spec = AccountSpec { owners: owners.clone(), ..AccountSpec::default() };
        let made = world.store().create(World::<B>::new_key(1, spec)).await;
        assert!(matches!(made, Err(StoreError::NotFound(_))), "{owners:?}");
        let change = AccountChange { owners: Some(owners), ..AccountChange::default() };
        world.store().create(World::<B>::new_key(2, AccountSpec::default())).await.ok();
        assert!(matches!(world.store().update(key(2), change).await, Err(StoreError::NotFound(_))));
    }
    let gone = world.store().update(key(1), AccountChange::default()).await.unwrap_err();
    assert_eq!(gone.to_string(), "the key does not exist");
    let gone = world.store().delete(vec![key(2), team()]).await.unwrap_err();
    assert_eq!(gone.to_string(), "team team does not exist");
    assert!(world.store().account(key(2)).await.unwrap().is_some(), "all are deleted, or none");
}

pub(crate) async fn remaking_opens_no_fresh_money<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 5_000, 1_000_000, 4_000).await;
    let hold = world.hold(1, 3).await;
    world.report(hold, 1, settle(3, 0)).await;
    let spent = world.record(key(1)).await;
    world.store().delete(vec![key(1)]).await.unwrap();
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::KeyUnknown);
    assert_eq!(world.store().lookup(digest(1), vec![]).await.unwrap(), Found::Unknown);
    assert_eq!(world.balance(team()).await, (3_000, 0), "what it spent stays with the team");

    // The same key under another id is the same account, and counts what it spent in a window that it did not have.
    let again = NewAccount {
        id: "another".into(),
        ..World::<B>::new_key(1, AccountSpec { limits: limits(&[(4_000, "1d")]), ..AccountSpec::default() })
    };
    let remade = world.store().create(again).await.unwrap();
    assert_eq!((remade.id, remade.posted), (spent.id, spent.posted));
    assert_eq!(world.window(key(1), 0).await, (3_000, 0));
    world.hold(1, 1).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall);

    world.store().delete(vec![team()]).await.unwrap();
    let spec = AccountSpec { limits: limits(&[(5_000, "")]), ..AccountSpec::default() };
    let remade = world.make(AccountKind::Team, "team", spec).await;
    assert_eq!(remade.posted, money(3_000));
}

pub(crate) async fn deleting_a_team_takes_its_keys<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    let open = world.hold(1, 3).await;
    world.make_key(2, AccountSpec::default()).await;
    world.store().delete(vec![team()]).await.unwrap();
    assert_eq!(world.store().account(key(1)).await.unwrap(), None);
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::KeyUnknown);
    world.hold(2, 1).await;
    world.report(open, 1, settle(2, 0)).await;
    assert_eq!(world.balance(organization()).await, (2_000, 0), "what was open is still paid for");
    assert_eq!(world.balance(user()).await, (2_000, 0));
    world.store().delete(vec![organization()]).await.unwrap();
}

pub(crate) async fn a_refused_change_changes_nothing<B: Backend>(world: &mut World<B>) {
    let hold = {
        world.lone_key(9_000).await;
        world.hold(1, 1).await
    };
    let before = world.record(key(1)).await;
    let version = world.policy(1).await.version;
    let twice = AccountChange { limits: Some(limits(&[(1, "1d"), (2, "24h")])), ..AccountChange::default() };
    let mains = [limit(1, "1d"), limit(2, "1mo")].map(|limit| LimitSpec { main: true, ..limit });
    let two_mains = AccountChange { limits: Some(mains.to_vec()), ..AccountChange::default() };
    let negative = AccountChange { limits: Some(limits(&[(-1, "1d")])), ..AccountChange::default() };
    let no_duration =
        AccountChange { budget_duration: Some(Some("soon".into())), ..AccountChange::default() };
    for change in [twice, two_mains, negative, no_duration] {
        let row = format!("{change:?}");
        // Beside a hold in the same batch, which must not suffer.
        let ask = world.ask(1, 1).await;
        let (store, other) = (world.store(), world.store());
        let (changed, held) = tokio::join!(store.update(key(1), change), other.hold(ask.clone(), Vec::new()));
        assert!(matches!(changed, Err(StoreError::Invalid(_))), "{row}");
        assert!(matches!(held.unwrap().0, Verdict::Held { .. }));
        world.report(ask.id, 1, crate::world::VOID).await;
    }
    assert_eq!(world.policy(1).await.version, version);
    let after = world.record(key(1)).await;
    assert_eq!((after.spec, after.limits, after.updated_at), (before.spec, before.limits, before.updated_at));
    world.report(hold, 1, settle(1, 0)).await;
    assert_eq!(world.balance(key(1)).await, (1_000, 0));
}

pub(crate) async fn spend_is_listed_by_request_and_by_tag<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    let tags = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let pin = AccountChange { tags: Some(tags(&["pinned"])), ..AccountChange::default() };
    world.change(team(), pin).await;
    world.make_key(2, AccountSpec::default()).await;
    let mut made = Vec::new();
    // (key, tags, input)
    let table: [(u8, &[&str], u64); 4] =
        [(1, &["a", "b"], 1), (1, &["b", "b"], 2), (2, &["b"], 4), (2, &[], 8)];
    for (owner, labels, input) in table {
        let ask = HoldAsk {
            tags: tags(labels),
            session: Some("s".into()),
            end_user: Some("e".into()),
            client: Some("claude-cli".into()),
            ..world.ask(owner, input).await
        };
        made.push((owner, ask.id, input));
        world.ask_for(ask).await;
        world.advance(1_000);
    }
    let nothing = world.store().spend_by_tag(SpendFilter::default()).await.unwrap();
    assert_eq!(nothing, [], "what is held is not spent");
    for (owner, id, input) in &made {
        let news = tollgate_domain::hold::Report {
            key: digest(*owner),
            ..World::<B>::news(*id, 1, settle(*input, 0))
        };
        world.store().report(vec![news]).await.unwrap();
    }
    let voided = world.hold(1, 1).await;
    world.report(voided, 1, crate::world::VOID).await;

    let spend = |tag: &str, requests, spent| TagSpend { tag: tag.into(), requests, spent: money(spent) };
    let by_tag = world.store().spend_by_tag(SpendFilter::default()).await.unwrap();
    assert_eq!(by_tag, [spend("a", 1, 1_000), spend("b", 3, 7_000), spend("pinned", 2, 3_000)]);
    let second = NOON.plus_ms(1_000);
    let of_key = SpendFilter { key: Some(digest(1)), from: Some(second), ..SpendFilter::default() };
    let by_tag = world.store().spend_by_tag(of_key).await.unwrap();
    assert_eq!(by_tag, [spend("b", 1, 2_000), spend("pinned", 1, 2_000)]);

    let store = world.store();
    let log = async |filter: SpendFilter, page: Page| {
        let records = store.spend_logs(filter, page).await.unwrap();
        records.into_iter().map(|record| record.cost.get() / 1_000).collect::<Vec<_>>()
    };
    let none = SpendFilter::default;
    let user = |id: &str| SpendFilter { user: Some(id.into()), ..none() };
    let at = |seconds: i64| Some(Timestamp::new(NOON.unix_ms() + seconds * 1_000));
    assert_eq!(log(none(), ALL).await, [8, 4, 2, 1], "newest first");
    assert_eq!(log(none(), Page { offset: 1, limit: 2 }).await, [4, 2]);
    assert_eq!(log(SpendFilter { key: Some(digest(2)), ..none() }, ALL).await, [8, 4]);
    assert_eq!(log(user("user"), ALL).await, [2, 1]);
    assert_eq!(log(user("nobody"), ALL).await, [0; 0]);
    assert_eq!(log(SpendFilter { team: Some("team".into()), ..none() }, ALL).await, [2, 1]);
    assert_eq!(log(SpendFilter { from: at(1), to: at(3), ..none() }, ALL).await, [4, 2]);
    assert_eq!(log(SpendFilter { request: Some(made[0].1), ..none() }, ALL).await, [1]);
    let first = SpendFilter { request: Some(made[0].1), ..none() };
    let record = world.store().spend_logs(first, ALL).await.unwrap().remove(0);
    assert_eq!(record.tags, tags(&["pinned", "a", "b"]));
    assert_eq!(record.session.as_deref(), Some("s"));
    assert_eq!((record.end_user.as_deref(), record.client.as_deref()), (Some("e"), Some("claude-cli")));
}
