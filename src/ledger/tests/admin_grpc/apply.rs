//! Apply and Delete: what each does, and that doing it again does nothing.

use crate::world::{NOON, World, calendar, key, lifetime, limit, named, session_limit, team};
use tollgate_domain::account::AccountKind;
use tollgate_domain::money::Nanodollars;
use tollgate_ledger::store::{AccountChange, AccountRef, AccountSpec, NewAccount, Store, StoreError};
use tollgate_proto::v1;
use tollgate_proto::v1::ApplyResult::{Changed, Created, Unchanged};
use tollgate_proto::v1::RefusalReason::{Conflict, NotFound};
use tollgate_proto::v1::delete_outcome::Outcome as Deleted;

fn full() -> v1::DesiredAccount {
    let rate = v1::DesiredRate {
        kind: v1::RateKind::RequestsPerMinute.into(),
        limit: 60,
        ..v1::DesiredRate::default()
    };
    v1::DesiredAccount {
        alias: "alice".into(),
        team: "team".into(),
        models: vec!["m".into(), "anthropic/*".into()],
        limits: vec![
            v1::DesiredLimit {
                thresholds_percent: vec![90, 50],
                ..limit(1_000_000, calendar(v1::CalendarUnit::Month, "Europe/Berlin"))
            },
            limit(5_000, v1::window::Kind::RollingSeconds(3_600)),
        ],
        rates: vec![rate.clone(), v1::DesiredRate { model: "m".into(), ..rate }],
        session_limit: Some(500),
        session_limits: vec![session_limit("*-nightly", 7), session_limit("ci-*", 400)],
        tags: vec!["project:x".into()],
        required_tags: vec!["owner".into()],
        client_tags_bind: true,
        forbidden: vec!["fast_mode".into()],
        expires_at_unix_ms: Some(NOON.unix_ms() + 1_000_000),
        ..key("alice", &[1])
    }
}

pub(crate) async fn each_outcome_has_its_name(world: World) {
    assert_eq!(world.refused(full()).await.reason(), NotFound);
    assert_eq!(world.refused(full()).await.field, "team");
    let (result, first) = world.applied(team("team")).await;
    assert_eq!(result, Created);
    assert_eq!(world.applied(team("team")).await, (Unchanged, first));
    let (result, revision) = world.applied(full()).await;
    assert_eq!(result, Created);
    assert_eq!(world.applied(full()).await, (Unchanged, revision));

    type Change = fn(&mut v1::DesiredAccount);
    let changes: [Change; 16] = [
        |account| account.alias.clear(),
        |account| account.team.clear(),
        |account| account.models.truncate(1),
        |account| account.limits[0].amount += 1,
        |account| account.limits[0].observe = true,
        |account| account.limits[0].thresholds_percent = vec![50],
        |account| account.rates[1].limit = 61,
        |account| account.session_limit = None,
        |account| account.session_limits[1].amount = 401,
        |account| account.session_limits[1].pattern = "ci-?".into(),
        |account| account.tags.clear(),
        |account| account.client_tags_bind = false,
        |account| account.forbidden.clear(),
        |account| account.expires_at_unix_ms = None,
        |account| account.blocked = Some(true),
        |account| account.credentials[0].name = "sk-...new".into(),
    ];
    let mut desired = full();
    for (index, change) in changes.iter().enumerate() {
        let revision = world.applied(desired.clone()).await.1;
        change(&mut desired);
        assert_eq!(world.applied(desired.clone()).await, (Changed, revision + 1), "{index}");
        assert_eq!(world.applied(desired.clone()).await, (Unchanged, revision + 1), "{index}");
    }

    // What other accounts have.
    world.applied(key("bob", &[2])).await;
    let stolen = world.refused(key("carol", &[3, 2])).await;
    assert_eq!((stolen.reason(), stolen.field.as_str()), (Conflict, "credentials[1].digest"));
    assert!(stolen.message.contains("key bob"), "{}", stolen.message);
    world.applied(v1::DesiredAccount { alias: "b".into(), ..key("bob", &[2]) }).await;
    let taken = world.refused(v1::DesiredAccount { alias: "b".into(), ..key("carol", &[3]) }).await;
    assert_eq!((taken.reason(), taken.field.as_str()), (Conflict, "alias"));
    assert!(!world.works(3).await, "nothing of what was refused is there");

    // One that is refused does not hinder the others, and one may belong to another of its message.
    let of_new = v1::DesiredAccount { team: "new".into(), ..key("dave", &[4]) };
    let accounts = vec![team("new"), key("erin", &[2]), of_new];
    let request = v1::ApplyRequest { managed_by: "kubernetes".into(), accounts };
    let outcomes = world.client().apply(request).await.unwrap().into_inner().outcomes;
    let is_applied =
        |outcome: &v1::ApplyOutcome| matches!(outcome.outcome, Some(v1::apply_outcome::Outcome::Applied(_)));
    assert_eq!(outcomes.iter().map(is_applied).collect::<Vec<_>>(), [true, false, true]);
}

pub(crate) async fn the_order_of_limits_and_rates_means_nothing(world: World) {
    world.applied(team("team")).await;
    let (_, revision) = world.applied(full()).await;
    let mut turned = full();
    turned.limits.reverse();
    turned.rates.reverse();
    turned.limits[1].thresholds_percent.reverse();
    assert_eq!(world.applied(turned).await, (Unchanged, revision));
}

pub(crate) async fn what_a_manager_made_only_it_changes(world: World) {
    world.applied(team("team")).await;
    world.applied(v1::DesiredAccount { team: "team".into(), ..key("alice", &[1]) }).await;

    // The HTTP API works on the same store.
    let store = world.store();
    let id = |kind, id: &str| AccountRef::Id(kind, id.into());
    let alias = AccountChange { alias: Some(Some("mine".into())), ..AccountChange::default() };
    let refused = store.update(id(AccountKind::Team, "team"), alias).await.unwrap_err();
    assert_eq!(refused.to_string(), "team team is managed by kubernetes (Team ns/team): change it there");
    assert!(matches!(refused, StoreError::Managed(_)));
    let refused = store.delete(vec![id(AccountKind::Key, "alice")]).await.unwrap_err();
    assert!(refused.to_string().contains("VirtualKey ns/alice"), "{refused}");

    // Nor does it take a managed key away with a team of its own.
    let own = NewAccount {
        kind: AccountKind::Team,
        id: "own".into(),
        spec: AccountSpec::default(),
        credential: None,
        created_by: "admin".into(),
    };
    store.create(own).await.unwrap();
    world.applied(v1::DesiredAccount { team: "own".into(), ..key("bob", &[2]) }).await;
    let refused = store.delete(vec![id(AccountKind::Team, "own")]).await.unwrap_err();
    assert!(refused.to_string().contains("VirtualKey ns/bob"), "{refused}");
    assert!(world.works(2).await);

    // One custom resource does not take over another's account, and one of the HTTP API only when told to.
    let other = v1::DesiredAccount { owner_scope: "VirtualKey evil/alice".into(), ..key("alice", &[1]) };
    let refused = world.refused(v1::DesiredAccount { adopt: true, ..other }).await;
    assert_eq!((refused.reason(), refused.field.as_str()), (Conflict, "name"));
    assert_eq!(world.refused(team("own")).await.reason(), Conflict);
    assert_eq!(world.applied(v1::DesiredAccount { adopt: true, ..team("own") }).await.0, Changed);
    assert_eq!(world.applied(team("own")).await.0, Unchanged);
}

pub(crate) async fn a_key_has_the_organization_of_its_team(world: World) {
    let organization = |id: &str| v1::DesiredAccount {
        name: Some(named(v1::AccountKind::Organization, id)),
        owner_scope: format!("Organization ns/{id}"),
        ..v1::DesiredAccount::default()
    };
    let team_of = |id: &str| v1::DesiredAccount { organization: id.into(), ..team("team") };
    let key_of =
        |id: &str| v1::DesiredAccount { organization: id.into(), team: "team".into(), ..key("alice", &[1]) };
    for account in [organization("one"), organization("two"), team_of("one")] {
        world.applied(account).await;
    }
    let refused = world.refused(key_of("two")).await;
    assert_eq!((refused.reason(), refused.field.as_str()), (Conflict, "organization"));
    assert!(["organization one", "to two"].iter().all(|part| refused.message.contains(part)), "{refused:?}");
    let (result, revision) = world.applied(key_of("one")).await;
    assert_eq!(result, Created);
    assert_eq!(world.applied(key_of("one")).await, (Unchanged, revision));
    assert_eq!(world.applied(key_of("")).await, (Unchanged, revision), "it is the same");

    world.spend(1, 10).await;
    world.applied(team_of("two")).await;
    world.spend(1, 20).await;
    let posted = async |id: &str| world.record(&organization(id)).await.posted.get();
    assert_eq!((posted("one").await, posted("two").await), (10_000, 20_000));
    assert_eq!(world.applied(key_of("")).await, (Unchanged, revision));
    assert_eq!(world.refused(key_of("one")).await.field, "organization", "it says what is not so any more");
    assert_eq!(world.applied(key_of("two")).await, (Unchanged, revision));
}

pub(crate) async fn a_block_in_an_emergency_stays(world: World) {
    world.applied(key("alice", &[1])).await;
    let blocked = |blocked| AccountChange { blocked: Some(blocked), ..AccountChange::default() };
    let alice = AccountRef::Id(AccountKind::Key, "alice".into());
    world.store().update(alice.clone(), blocked(true)).await.unwrap();
    assert!(!world.works(1).await);
    assert_eq!(world.applied(key("alice", &[1])).await.0, Unchanged);
    assert!(!world.works(1).await);
    world.applied(v1::DesiredAccount { alias: "a".into(), ..key("alice", &[1]) }).await;
    assert!(!world.works(1).await);
    world.applied(v1::DesiredAccount { blocked: Some(false), ..key("alice", &[1]) }).await;
    assert!(world.works(1).await);
}

pub(crate) async fn a_rotation_overlaps(world: World) {
    world.applied(key("alice", &[1])).await;
    world.spend(1, 10).await;
    let mut rotating = key("alice", &[1, 2]);
    rotating.credentials[0].expires_at_unix_ms = Some(NOON.unix_ms() + 60_000);
    let (result, revision) = world.applied(rotating.clone()).await;
    assert_eq!(result, Changed);
    assert!(world.works(1).await && world.works(2).await);
    assert_eq!(world.applied(rotating.clone()).await, (Unchanged, revision));
    world.spend(1, 10).await;
    world.spend(2, 10).await;
    world.advance(59_999);
    assert!(world.works(1).await);
    world.advance(1);
    assert!(!world.works(1).await && world.works(2).await);
    // What was to end has ended, so nothing changes; nor is there anything left to take away.
    assert_eq!(world.applied(rotating).await, (Unchanged, revision));
    assert_eq!(world.applied(key("alice", &[2])).await, (Unchanged, revision));
    world.applied(key("alice", &[3])).await;
    assert!(!world.works(2).await && world.works(3).await);
    assert_eq!(world.record(&key("alice", &[])).await.posted, Nanodollars::new(30_000));

    // Nobody makes a key account of its own out of a key that was rotated out.
    let refused = world.refused(key("mallory", &[2])).await;
    assert_eq!(refused.reason(), Conflict);
    let new = NewAccount {
        kind: AccountKind::Key,
        id: "mallory".into(),
        spec: AccountSpec::default(),
        credential: Some(tollgate_ledger::store::Credential {
            digest: tollgate_domain::ids::KeyDigest::new([2; 32]),
            name: "sk-...".into(),
        }),
        created_by: "admin".into(),
    };
    assert!(matches!(world.store().create(new).await, Err(StoreError::Conflict(_))));
    assert!(world.works(3).await);
}

pub(crate) async fn deleting_is_idempotent_and_keeps_what_was_spent(world: World) {
    let mut alice = key("alice", &[1]);
    alice.limits = vec![limit(100_000, lifetime())];
    world.applied(alice.clone()).await;
    world.spend(1, 70).await;
    let gone = |owner_scope: &str| v1::DeletedAccount {
        name: Some(named(v1::AccountKind::Key, "alice")),
        owner_scope: owner_scope.into(),
    };
    match world.delete(gone("VirtualKey evil/alice")).await {
        Deleted::Refused(refused) => assert_eq!(refused.reason(), Conflict),
        other => panic!("{other:?}"),
    }
    for expected in [v1::DeleteResult::Deleted, v1::DeleteResult::Absent, v1::DeleteResult::Absent] {
        match world.delete(gone("VirtualKey ns/alice")).await {
            Deleted::Deleted(deleted) => assert_eq!(deleted.result(), expected),
            other => panic!("{other:?}"),
        }
        assert!(!world.works(1).await);
    }
    // Remade, with another key: it goes on from where it was.
    alice.credentials = key("alice", &[2]).credentials;
    assert_eq!(world.applied(alice.clone()).await.0, Created);
    let record = world.record(&alice).await;
    assert_eq!(record.limits[0].posted, Nanodollars::new(70_000));
    assert!(world.works(2).await && !world.works(1).await);
}

pub(crate) async fn a_tag_of_a_namespace_is_not_the_installations(world: World) {
    let tag = |scope: &str, amount| v1::DesiredAccount {
        name: Some(v1::AccountName { scope: scope.into(), ..named(v1::AccountKind::Tag, "t") }),
        owner_scope: "Tag kubernetes/t".into(),
        limits: vec![limit(amount, lifetime())],
        ..v1::DesiredAccount::default()
    };
    let scopes = ["", "namespace kubernetes/a", "namespace kubernetes/b", "namespace other/a"];
    for (scope, amount) in scopes.into_iter().zip(1..) {
        assert_eq!(world.applied(tag(scope, amount)).await.0, Created, "{scope:?}");
        assert_eq!(world.applied(tag(scope, amount)).await.0, Unchanged, "{scope:?}");
    }
    assert_eq!(world.applied(tag(scopes[1], 9)).await.0, Changed);
    let asked = v1::ListRequest { cursor: Vec::new(), at_most: 9 };
    let listed = world.client().list(asked).await.unwrap().into_inner().accounts;
    let said = listed.into_iter().map(|one| one.account.unwrap());
    let said: Vec<_> =
        said.map(|one| (one.name.unwrap().scope, one.organization, one.limits[0].amount)).collect();
    let expected = scopes.into_iter().zip([1, 9, 3, 4]);
    assert_eq!(
        said,
        expected.map(|(scope, amount)| (scope.to_owned(), String::new(), amount)).collect::<Vec<_>>()
    );
    // Whatever has not this form is an organization's id.
    for scope in ["namespace kubernetes", "namespace kubernetes/A", "kubernetes/a"] {
        let refused = world.refused(tag(scope, 1)).await;
        assert_eq!((refused.reason(), refused.field.as_str()), (NotFound, "name.scope"), "{scope:?}");
    }
    let gone = v1::DeletedAccount { name: tag(scopes[1], 9).name, owner_scope: "Tag kubernetes/t".into() };
    world.delete(gone).await;
    assert_eq!(world.applied(tag("", 1)).await.0, Unchanged);
    assert_eq!(world.applied(tag(scopes[1], 9)).await.0, Created);
}
