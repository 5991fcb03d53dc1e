//! Accounts of the HTTP API that an operator takes over.

use crate::world::{NOON, World, calendar, key, lifetime, limit, named, session_limit, team};
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::window::{CalendarUnit, Window, Zone};
use tollgate_ledger::store::{
    AccountChange, AccountRef, AccountSpec, Credential, LimitSpec, NewAccount, Owners, Store, StoreError,
};
use tollgate_proto::v1;
use tollgate_proto::v1::ApplyResult::{Changed, Created, Unchanged};
use tollgate_proto::v1::RefusalReason::{Conflict, NotFound};

const DAY: Window = Window::Calendar(CalendarUnit::Day, Zone::UTC);

/// As the HTTP API makes it.
pub(crate) fn by_api(kind: AccountKind, id: &str, spec: AccountSpec) -> NewAccount {
    let credential = Credential { digest: KeyDigest::new([1; 32]), name: "sk-...held".into() };
    let credential = (kind == AccountKind::Key).then_some(credential);
    NewAccount { kind, id: id.into(), spec, credential, created_by: "admin".into() }
}

fn capped(amount: i64) -> AccountSpec {
    let main = LimitSpec { main: true, ..LimitSpec::new(Nanodollars::new(amount), DAY, Some("1d".into())) };
    AccountSpec { limits: vec![main], budget_duration: Some("1d".into()), ..AccountSpec::default() }
}

/// A team and a key in it, which has spent 40.
async fn books(world: &World) {
    world.store().create(by_api(AccountKind::Team, "t", capped(100_000))).await.unwrap();
    let mut spec = capped(60_000);
    spec.owners = Owners { team: Some("t".into()), ..Owners::default() };
    spec.metadata.insert("cost_center".into(), "7".into());
    world.store().create(by_api(AccountKind::Key, "k", spec)).await.unwrap();
    world.spend(1, 40).await;
}

fn adopted_team(amount: i64) -> v1::DesiredAccount {
    let limits = vec![limit(amount, calendar(v1::CalendarUnit::Day, ""))];
    v1::DesiredAccount { adopt: true, limits, owner_scope: "Team ns/payments@kubernetes".into(), ..team("t") }
}

fn adopted_key() -> v1::DesiredAccount {
    v1::DesiredAccount {
        adopt: true,
        team: "t".into(),
        limits: vec![limit(60_000, calendar(v1::CalendarUnit::Day, ""))],
        owner_scope: "VirtualKey ns/alice@kubernetes".into(),
        ..key("k", &[])
    }
}

pub(crate) async fn an_account_that_caps_sessions_is_adopted_by_what_caps_them_too(world: World) {
    let change = |every: Option<i64>, some: &[(&str, i64)]| AccountChange {
        session_limit: Some(every.map(Nanodollars::new)),
        session_limits: Some(
            some.iter()
                .map(|(pattern, amount)| (pattern.parse().unwrap(), Nanodollars::new(*amount)))
                .collect(),
        ),
        ..AccountChange::default()
    };
    let desired = |every: Option<i64>, some: &[(&str, i64)]| v1::DesiredAccount {
        session_limit: every,
        session_limits: some.iter().map(|(pattern, amount)| session_limit(pattern, *amount)).collect(),
        ..adopted_key()
    };
    books(&world).await;
    let key = AccountRef::Id(AccountKind::Key, "k".into());
    // (what it caps, what takes it over, whether that is refused)
    let ci: &[(&str, i64)] = &[("ci-*", 5)];
    let table = [
        ((Some(5), ci), (None, ci), true),
        ((None, ci), (None, &[][..]), true),
        ((None, ci), (None, &[("ci", 5)][..]), true),
        ((Some(5), ci), (Some(9), &[][..]), false),
    ];
    for ((every, some), (desired_every, desired_some), is_refused) in table {
        world.store().update(key.clone(), change(every, some)).await.unwrap();
        let desired = desired(desired_every, desired_some);
        if is_refused {
            let refusal = world.refused(desired).await;
            assert_eq!((refusal.reason(), refusal.field.as_str()), (Conflict, "session_limits"));
        } else {
            assert_eq!(world.applied(desired).await.0, Changed);
        }
    }
}

pub(crate) async fn an_adopted_account_keeps_what_it_spent_and_its_windows(world: World) {
    books(&world).await;
    let not_asked = v1::DesiredAccount { adopt: false, ..adopted_team(100_000) };
    assert_eq!(world.refused(not_asked).await.reason(), Conflict);
    let (result, revision) = world.applied(adopted_team(100_000)).await;
    assert_eq!(result, Changed);
    assert_eq!(world.applied(adopted_team(100_000)).await, (Unchanged, revision));
    let record = world.record(&adopted_team(0)).await;
    assert_eq!((record.posted.get(), record.limits[0].posted.get()), (40_000, 40_000));
    // Another one does not take it over in turn, and the HTTP API does not change it any more.
    let other = v1::DesiredAccount { owner_scope: "Team ns/other@kubernetes".into(), ..adopted_team(1) };
    let refused = world.refused(other).await;
    assert_eq!((refused.reason(), refused.field.as_str()), (Conflict, "name"));
    assert!(refused.message.contains("Team ns/payments@kubernetes"), "{}", refused.message);
    let refused =
        world.store().delete(vec![AccountRef::Id(AccountKind::Team, "t".into())]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Managed(_)), "{refused}");
    // What is left of the day is what was left.
    world.spend(1, 20).await;
    assert_eq!(world.record(&adopted_team(0)).await.limits[0].posted.get(), 60_000);
}

pub(crate) async fn an_adopted_key_keeps_the_keys_that_people_hold(world: World) {
    books(&world).await;
    let (result, revision) = world.applied(adopted_key()).await;
    assert_eq!(result, Changed);
    assert!(world.works(1).await);
    assert_eq!(world.applied(adopted_key()).await, (Unchanged, revision));
    let record = world.record(&adopted_key()).await;
    assert_eq!((record.posted.get(), record.limits[0].posted.get()), (40_000, 40_000));
    assert_eq!(record.spec.metadata["cost_center"], "7", "what only the HTTP API knows stays");
    // Its stream says by which keys it is used.
    let mut stream = world.changes(&[]).await;
    let told = crate::world::next(&mut stream).await;
    let told = told.accounts.iter().find(|one| one.name.as_ref().unwrap().id == "k").unwrap();
    assert_eq!(
        told.credentials,
        [v1::DesiredCredential { name: "sk-...held".into(), ..key("k", &[1]).credentials[0].clone() }]
    );
    world.spend(1, 10).await;
    // Whoever does not adopt says its keys.
    let refused = world.refused(v1::DesiredAccount { adopt: false, ..adopted_key() }).await;
    assert_eq!(refused.field, "credentials");
}

pub(crate) async fn a_rotation_of_an_adopted_key_says_its_keys(world: World) {
    books(&world).await;
    world.applied(adopted_key()).await;
    let mut rotating = v1::DesiredAccount { credentials: key("k", &[1, 2]).credentials, ..adopted_key() };
    rotating.credentials[0].expires_at_unix_ms = Some(NOON.unix_ms() + 60_000);
    assert_eq!(world.applied(rotating.clone()).await.0, Changed);
    assert!(world.works(1).await && world.works(2).await);
    world.advance(60_000);
    assert!(!world.works(1).await && world.works(2).await);
    // Who says none now keeps the one that works; the one that ended does not come back.
    let (result, _) = world.applied(adopted_key()).await;
    assert_eq!(result, Unchanged);
    assert!(!world.works(1).await && world.works(2).await);
}

pub(crate) async fn what_never_was_is_not_adopted(world: World) {
    let refused = world.refused(adopted_team(1)).await;
    assert_eq!((refused.reason(), refused.field.as_str()), (NotFound, "name"));
    assert_eq!(refused.message, "team t does not exist");
    assert!(world.store().account(AccountRef::Id(AccountKind::Team, "t".into())).await.unwrap().is_none());
}

pub(crate) async fn a_deleted_account_is_adopted_again_with_its_past(world: World) {
    books(&world).await;
    world.store().delete(vec![AccountRef::Id(AccountKind::Key, "k".into())]).await.unwrap();
    // Its keys are refused, and none of them comes back by itself.
    let refused = world.refused(adopted_key()).await;
    assert_eq!((refused.reason(), refused.field.as_str()), (NotFound, "credentials"));
    let with_key = v1::DesiredAccount { credentials: key("k", &[2]).credentials, ..adopted_key() };
    assert_eq!(world.applied(with_key).await.0, Created);
    assert!(!world.works(1).await && world.works(2).await);
    assert_eq!(world.record(&adopted_key()).await.limits[0].posted.get(), 40_000);
}

pub(crate) async fn tags_are_adopted_by_their_own_names(world: World) {
    world.store().create(by_api(AccountKind::Tag, "project:X_1", capped(100_000))).await.unwrap();
    let tag = |adopt| v1::DesiredAccount {
        name: Some(named(v1::AccountKind::Tag, "project:X_1")),
        owner_scope: "Tag kubernetes/project:X_1".into(),
        adopt,
        limits: vec![limit(5, lifetime())],
        ..v1::DesiredAccount::default()
    };
    assert_eq!(world.refused(tag(false)).await.reason(), Conflict);
    assert_eq!(world.applied(tag(true)).await.0, Changed);
    assert_eq!(world.applied(tag(false)).await.0, Unchanged);
}
