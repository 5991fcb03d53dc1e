//! Whose a key is: its organization is that of its team.

use crate::world::{Backend, World, key, organization, settle, tag, team};
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::Outcome;
use tollgate_ledger::store::{
    AccountChange, AccountFilter, AccountRef, AccountSpec, Owners, Page, Store, StoreError, TagScope,
};

fn other() -> AccountRef {
    AccountRef::Id(AccountKind::Organization, "other".into())
}

fn of(organization: Option<&str>, team: Option<&str>) -> Owners {
    Owners { organization: organization.map(str::to_owned), team: team.map(str::to_owned), user: None }
}

fn moved(owners: Owners) -> AccountChange {
    AccountChange { owners: Some(owners), ..AccountChange::default() }
}

/// Two organizations, and a team of the first one with key 1.
async fn begin<B: Backend>(world: &World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.make(AccountKind::Organization, "other", AccountSpec::default()).await;
}

/// What the two organizations have pending.
async fn pending<B: Backend>(world: &World<B>) -> (i64, i64) {
    (world.balance(organization()).await.1, world.balance(other()).await.1)
}

/// How many keys belong to the organization.
async fn keys_of<B: Backend>(world: &World<B>, organization: &str) -> u64 {
    let filter = AccountFilter {
        kind: AccountKind::Key,
        owners: of(Some(organization), None),
        alias: None,
        digest: None,
    };
    world.store().accounts(filter, Page { offset: 0, limit: 10 }).await.unwrap().1
}

pub(crate) async fn a_key_has_the_organization_of_its_team<B: Backend>(world: &mut World<B>) {
    begin(world).await;
    let spec = |owners| AccountSpec { owners, ..AccountSpec::default() };
    world.make_key(2, spec(of(Some("org"), Some("team")))).await;
    world.make_key(3, spec(of(Some("other"), None))).await;
    let foreign = of(Some("other"), Some("team"));
    let refused = [
        world.store().create(World::<B>::new_key(4, spec(foreign.clone()))).await,
        world.store().update(key(2), moved(foreign.clone())).await,
        world.store().update(key(3), moved(foreign)).await,
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(matches!(error, StoreError::Foreign(_)), "{error:?}");
        let said = error.to_string();
        assert!(
            ["team team", "organization org,", "to other"].iter().all(|part| said.contains(part)),
            "{said}"
        );
    }
    assert!(world.store().account(key(4)).await.unwrap().is_none());
    assert_eq!((keys_of(world, "org").await, keys_of(world, "other").await), (2, 1));

    world.hold(2, 2).await;
    world.hold(3, 3).await;
    assert_eq!(pending(world).await, (2_000, 3_000));
    world.change(key(3), moved(of(None, Some("team")))).await;
    world.hold(3, 4).await;
    assert_eq!(pending(world).await, (6_000, 3_000));
    world.change(key(3), moved(of(Some("other"), None))).await;
    world.hold(3, 5).await;
    assert_eq!(pending(world).await, (6_000, 8_000));
}

pub(crate) async fn a_team_that_moves_takes_along_what_its_keys_charge<B: Backend>(world: &mut World<B>) {
    begin(world).await;
    let spec = AccountSpec { owners: of(Some("org"), Some("team")), ..AccountSpec::default() };
    world.make_key(2, AccountSpec { tags: vec![tag("t")], ..spec }).await;
    let owners = of(Some("other"), None);
    world.make(AccountKind::Tag, "t", AccountSpec { owners, ..AccountSpec::default() }).await;
    let before = world.hold(1, 1).await;
    world.hold(2, 2).await;
    world.change(team(), moved(of(Some("other"), None))).await;
    world.hold(1, 3).await;
    world.hold(2, 4).await;
    assert_eq!(pending(world).await, (3_000, 7_000));
    let tagged = AccountRef::Tag { scope: TagScope::Organization("other".into()), tag: "t".into() };
    assert_eq!(world.balance(tagged).await, (0, 4_000), "and what its tags charge");
    assert_eq!((keys_of(world, "org").await, keys_of(world, "other").await), (0, 2));
    assert_eq!(world.report(before, 1, settle(1, 0)).await, Outcome::Applied);
    assert_eq!(world.balance(organization()).await, (1_000, 2_000), "a hold ends where it was made");

    // The organization that they have left is not theirs to go with.
    world.store().delete(vec![organization()]).await.unwrap();
    world.hold(1, 1).await;
    world.hold(2, 1).await;
}

pub(crate) async fn a_team_that_gets_an_organization_gives_it_to_its_keys<B: Backend>(world: &mut World<B>) {
    begin(world).await;
    world.change(team(), moved(of(None, None))).await;
    let owners = of(Some("org"), Some("team"));
    world.make_key(2, AccountSpec { owners, ..AccountSpec::default() }).await;
    world.hold(1, 1).await;
    world.hold(2, 2).await;
    assert_eq!(pending(world).await, (2_000, 0), "where the team has none, the key may have one");
    assert_eq!(keys_of(world, "org").await, 1);
    world.change(team(), moved(of(Some("other"), None))).await;
    world.hold(2, 3).await;
    assert_eq!(pending(world).await, (2_000, 3_000));
    assert_eq!((keys_of(world, "org").await, keys_of(world, "other").await), (0, 2));
    world.store().delete(vec![organization()]).await.unwrap();
    world.hold(2, 1).await;
}
