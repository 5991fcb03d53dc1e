//! List: every account with all that is said of it.

use crate::adopt::by_api;
use crate::world::{NOON, World, key, lifetime, limit, named, session_limit, team};
use tollgate_domain::account::AccountKind;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::window::{CalendarUnit, Window, Zone};
use tollgate_ledger::store::{AccountRef, AccountSpec, LimitSpec, Store};
use tollgate_proto::v1;
use tonic::Code;

async fn list(world: &World, cursor: Vec<u8>, at_most: u32) -> v1::ListResponse {
    world.client().list(v1::ListRequest { cursor, at_most }).await.unwrap().into_inner()
}

async fn all(world: &World, at_most: u32) -> Vec<v1::ListedAccount> {
    let (mut accounts, mut cursor) = (Vec::new(), Vec::new());
    loop {
        let answer = list(world, cursor, at_most).await;
        assert!(answer.accounts.len() <= at_most as usize);
        accounts.extend(answer.accounts);
        cursor = answer.cursor;
        if cursor.is_empty() {
            return accounts;
        }
    }
}

fn ids(accounts: &[v1::ListedAccount]) -> Vec<&str> {
    accounts.iter().map(|one| one.account.as_ref().unwrap().name.as_ref().unwrap().id.as_str()).collect()
}

pub(crate) async fn all_that_is_said_is_listed(world: World) {
    let rate = v1::DesiredRate {
        kind: v1::RateKind::TokensPerDay.into(),
        limit: 60,
        model: "m".into(),
        observe: true,
    };
    let said = v1::DesiredAccount {
        alias: "alice".into(),
        team: "team".into(),
        models: vec!["m".into(), "anthropic/*".into()],
        limits: vec![
            v1::DesiredLimit {
                thresholds_percent: vec![50, 90],
                model: "m".into(),
                observe: true,
                ..limit(1_000_000_001, v1::window::Kind::RollingSeconds(3_600))
            },
            v1::DesiredLimit { soft: true, ..limit(5_000, v1::window::Kind::FixedSeconds(18_000)) },
        ],
        rates: vec![rate],
        session_limit: Some(500),
        session_limits: vec![session_limit("*-nightly", 7), session_limit("ci-*", 400)],
        tags: vec!["project:x".into()],
        required_tags: vec!["owner".into()],
        client_tags_bind: true,
        forbidden: vec!["fast_mode".into()],
        blocked: Some(true),
        expires_at_unix_ms: Some(NOON.unix_ms() + 1_000_000),
        ..key("alice", &[1])
    };
    world.applied(team("team")).await;
    world.applied(said.clone()).await;
    let mut spec = AccountSpec {
        limits: vec![LimitSpec::new(
            Nanodollars::new(7),
            Window::Calendar(CalendarUnit::Months(2), Zone::UTC),
            Some("2mo".into()),
        )],
        ..AccountSpec::default()
    };
    spec.metadata.insert("cost_center".into(), "7".into());
    world.store().create(by_api(AccountKind::Team, "own", spec)).await.unwrap();
    let listed = all(&world, 10).await;
    assert_eq!(ids(&listed), ["team", "alice", "own"]);
    assert_eq!(listed[1].account.as_ref(), Some(&said), "as one would apply it");
    assert_eq!((listed[1].managed_by.as_str(), listed[2].managed_by.as_str()), ("kubernetes", "api"));
    assert_eq!(listed[2].metadata, ["cost_center"]);
    let limit = &listed[2].account.as_ref().unwrap().limits[0];
    assert_eq!(
        (limit.amount, limit.window.clone()),
        (7, Some(v1::Window { kind: None })),
        "no operator can say it"
    );
}

pub(crate) async fn a_long_list_comes_in_parts(world: World) {
    for number in 0..7 {
        world.applied(team(&format!("t{number}"))).await;
    }
    for at_most in [1, 2, 6, 7, 8] {
        assert_eq!(ids(&all(&world, at_most).await), ["t0", "t1", "t2", "t3", "t4", "t5", "t6"], "{at_most}");
    }
    // What is made meanwhile comes last.
    let first = list(&world, Vec::new(), 7).await;
    world.applied(team("t7")).await;
    assert_eq!(ids(&list(&world, first.cursor, 7).await.accounts), ["t7"]);
}

pub(crate) async fn only_what_there_is_is_listed(world: World) {
    assert_eq!(list(&world, Vec::new(), 0).await, v1::ListResponse::default());
    let store = world.store();
    store.create(by_api(AccountKind::Key, "k", AccountSpec::default())).await.unwrap();
    world.spend(1, 10).await;
    store.create(by_api(AccountKind::Team, "gone", AccountSpec::default())).await.unwrap();
    store.delete(vec![AccountRef::Id(AccountKind::Team, "gone".into())]).await.unwrap();
    let mut rotating = key("rotated", &[2, 3]);
    rotating.credentials[0].expires_at_unix_ms = Some(NOON.unix_ms() + 1);
    world.applied(rotating).await;
    world.advance(1);
    let listed = all(&world, 10).await;
    assert_eq!(ids(&listed), ["k", "rotated"]);
    let rotated = listed[1].account.as_ref().unwrap();
    assert_eq!(rotated.credentials, key("rotated", &[3]).credentials, "those that work");
    // A tag is named by its scope, and says no organization beside.
    let organization = by_api(AccountKind::Organization, "o", AccountSpec::default());
    store.create(organization).await.unwrap();
    let scoped = v1::AccountName { scope: "o".into(), ..named(v1::AccountKind::Tag, "x") };
    let tag = v1::DesiredAccount {
        name: Some(scoped.clone()),
        owner_scope: "Tag kubernetes/x".into(),
        limits: vec![limit(1, lifetime())],
        ..v1::DesiredAccount::default()
    };
    world.applied(tag).await;
    let tag = all(&world, 10).await.pop().unwrap().account.unwrap();
    assert_eq!((tag.name, tag.organization.as_str()), (Some(scoped), ""));
}

pub(crate) async fn an_absurd_question_is_refused(world: World) {
    for (cursor, at_most, code) in [
        (vec![], 501, Code::InvalidArgument),
        (vec![1], 1, Code::InvalidArgument),
        (vec![9; 16], 1, Code::Aborted),
    ] {
        let refused = world.client().list(v1::ListRequest { cursor, at_most }).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
}
