//! Budgets of tags.

use crate::world::{
    Backend, DAY_MS, VOID, World, capped, digest, key, limits, money, organization, settle, tag, team, user,
};
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::{DenialReason, HoldAsk, Outcome};
use tollgate_ledger::store::{
    AccountChange, AccountName, AccountRef, AccountSpec, Credential, DesiredAccount, DesiredCredential,
    Manager, Operated, Owners, SpendFilter, Store, StoreError, TagScope,
};

fn tag_account(organization: Option<&str>, tag: &str) -> AccountRef {
    AccountRef::Tag { scope: TagScope::of_organization(organization.map(str::to_owned)), tag: tag.to_owned() }
}

/// A budget for a tag, of the organization or of the whole installation.
async fn make_tag<B: Backend>(world: &World<B>, organization: Option<&str>, tag: &str, amount: i64) {
    let owners = Owners { organization: organization.map(str::to_owned), ..Owners::default() };
    let spec = AccountSpec { owners, ..capped(limits(&[(amount, "1mo")])) };
    world.make(AccountKind::Tag, tag, spec).await;
}

/// The tag `t` of the keys of a namespace.
fn tag_of(home: &str) -> AccountRef {
    AccountRef::Tag { scope: TagScope::Namespace(home.parse().unwrap()), tag: "t".into() }
}

/// What an operator says: whose it is, how it is called there, and the rest.
fn operated(kind: AccountKind, scope: &str, id: &str, owner: &str, spec: AccountSpec) -> DesiredAccount {
    DesiredAccount {
        name: AccountName { kind, scope: scope.into(), id: id.into() },
        manager: Manager { name: "kubernetes".into(), scope: owner.into() },
        adopt: false,
        spec,
        blocked: None,
        credentials: Vec::new(),
    }
}

/// A budget for the tag `t` of a namespace's keys.
pub(crate) fn tag_budget(home: &str, amount: i64) -> DesiredAccount {
    let (cluster, _) = home.split_once('/').unwrap();
    let (scope, owner) = (format!("namespace {home}"), format!("Tag {cluster}/t"));
    operated(AccountKind::Tag, &scope, "t", &owner, capped(limits(&[(amount, "1mo")])))
}

/// A key that a VirtualKey in this namespace has made.
pub(crate) fn key_of(home: &str, number: u8, spec: AccountSpec) -> DesiredAccount {
    let (_, namespace) = home.split_once('/').unwrap();
    let (id, owner) = (format!("{home}/key-{number}"), format!("VirtualKey {namespace}/key-{number}"));
    let credential = Credential { digest: digest(number), name: format!("sk-...{number:04}") };
    let credentials = vec![DesiredCredential { credential, expires_at: None }];
    DesiredAccount { credentials, ..operated(AccountKind::Key, "", &id, &owner, spec) }
}

async fn apply<B: Backend>(world: &World<B>, accounts: impl IntoIterator<Item = DesiredAccount>) {
    for outcome in world.store().apply(accounts.into_iter().collect()).await.unwrap() {
        outcome.unwrap();
    }
}

pub(crate) fn with_tag() -> AccountSpec {
    AccountSpec { tags: vec![tag("t")], ..AccountSpec::default() }
}

fn pin(tags: &[&str]) -> AccountChange {
    AccountChange { tags: Some(tags.iter().map(|text| tag(text)).collect()), ..AccountChange::default() }
}

async fn tagged<B: Backend>(world: &World<B>, number: u8, input: u64, tags: &[&str]) -> HoldAsk {
    HoldAsk { tags: tags.iter().map(|text| tag(text)).collect(), ..world.ask(number, input).await }
}

pub(crate) async fn a_tag_budget_binds_pinned_tags_of_every_level<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    make_tag(world, Some("org"), "project:x", 3_000).await;
    let account = || tag_account(Some("org"), "project:x");
    let mut spent = 0;
    for level in [organization(), team(), user(), key(1)] {
        world.hold(1, 1).await;
        assert_eq!(world.balance(account()).await, (spent, 0), "it is not on the request");
        world.change(level.clone(), pin(&["project:x"])).await;
        let hold = world.hold(1, 3).await;
        let denied = world.refused(1, 1).await;
        assert_eq!(denied.reason, DenialReason::BudgetTooSmall);
        let label = denied.account.unwrap();
        assert_eq!((label.kind, label.alias.as_str()), (AccountKind::Tag, "project:x"));
        assert_eq!(denied.amounts.unwrap().limit, money(3_000));
        assert_eq!(world.balance(account()).await, (spent, 3_000));
        world.report(hold, 1, settle(3, 0)).await;
        spent += 3_000;
        assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
        world.change(level, pin(&[])).await;
        world.advance(31 * DAY_MS);
    }
}

pub(crate) async fn tags_of_clients_bind_only_where_a_policy_says_so<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    make_tag(world, Some("org"), "a", 2_000).await;
    let bind = |bind| AccountChange { client_tags_bind: Some(bind), ..AccountChange::default() };
    for level in [organization(), team(), user(), key(1)] {
        let free = tagged(world, 1, 5, &["a"]).await;
        let free = world.hold_ask(free).await;
        assert_eq!(world.balance(tag_account(Some("org"), "a")).await, (0, 0), "only a label");
        assert_eq!(world.log(free).await.tags, [tag("a")]);
        world.change(level.clone(), bind(true)).await;
        let large = tagged(world, 1, 3, &["b", "a"]).await;
        assert_eq!(world.refused_ask(large).await.account.unwrap().kind, AccountKind::Tag);
        let twice = tagged(world, 1, 2, &["a", "a", "b"]).await;
        let twice = world.hold_ask(twice).await;
        assert_eq!(world.balance(tag_account(Some("org"), "a")).await, (0, 2_000), "charged once");
        world.hold(1, 9).await;
        for hold in [free, twice] {
            world.report(hold, 1, VOID).await;
        }
        world.change(level, bind(false)).await;
    }
}

pub(crate) async fn a_tag_is_of_its_organization_or_of_all<B: Backend>(world: &mut World<B>) {
    for (number, name) in [(1, "one"), (2, "two")] {
        world.make(AccountKind::Organization, name, AccountSpec::default()).await;
        let owners = Owners { organization: Some(name.into()), ..Owners::default() };
        world.make_key(number, AccountSpec { owners, tags: vec![tag("t")], ..AccountSpec::default() }).await;
    }
    world.make_key(3, AccountSpec { tags: vec![tag("t")], ..AccountSpec::default() }).await;
    make_tag(world, Some("one"), "t", 5_000).await;
    make_tag(world, None, "t", 12_000).await;
    world.spend_by(1, 5).await;
    world.spend_by(2, 4).await;
    world.spend_by(3, 2).await;
    assert_eq!(world.balance(tag_account(Some("one"), "t")).await, (5_000, 0));
    assert_eq!(world.balance(tag_account(None, "t")).await, (11_000, 0), "everywhere");
    assert_eq!(world.refused(1, 1).await.amounts.unwrap().limit, money(5_000));
    for number in [2, 3] {
        assert_eq!(world.refused(number, 2).await.amounts.unwrap().limit, money(12_000));
    }
    make_tag(world, Some("two"), "t", 4_000).await;
    assert_eq!(
        world.refused(2, 1).await.amounts.unwrap().limit,
        money(4_000),
        "each organization has its own"
    );
}

pub(crate) async fn a_new_tag_account_counts_what_bound_before<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.make_key(2, AccountSpec { tags: vec![tag("t")], ..AccountSpec::default() }).await;
    world.change(team(), pin(&["t", "u"])).await;
    // Days of it are summed by the hour.
    for _ in 0..3 {
        world.spend(1).await;
        world.spend_by(2, 10).await;
        let label = tagged(world, 1, 100, &["v"]).await;
        let label = world.hold_ask(label).await;
        world.report(label, 1, settle(100, 0)).await;
        world.advance(DAY_MS);
        world.tick().await;
    }
    let open = world.hold(1, 7).await;
    let expired = world.hold(1, 5).await;
    world.report(expired, 1, VOID).await;
    make_tag(world, Some("org"), "t", 1_000_000).await;
    make_tag(world, None, "t", 1_000_000).await;
    make_tag(world, Some("org"), "v", 1_000_000).await;
    assert_eq!(world.window(tag_account(Some("org"), "t"), 0).await, (303_000, 7_000));
    assert_eq!(world.window(tag_account(None, "t"), 0).await, (333_000, 7_000));
    assert_eq!(world.balance(tag_account(None, "t")).await, (333_000, 7_000), "over its life, too");
    assert_eq!(world.balance(tag_account(Some("org"), "v")).await, (0, 0), "a label that did not bind");
    world.report(open, 1, settle(2, 0)).await;
    assert_eq!(world.window(tag_account(Some("org"), "t"), 0).await, (305_000, 0));
    assert_eq!(world.window(tag_account(None, "t"), 0).await, (335_000, 0));
}

pub(crate) async fn a_tag_of_a_namespace_counts_its_own_keys<B: Backend>(world: &mut World<B>) {
    world.make(AccountKind::Organization, "org", AccountSpec::default()).await;
    let owners = Owners { organization: Some("org".into()), ..Owners::default() };
    world.make(AccountKind::Team, "team", AccountSpec { owners, ..with_tag() }).await;
    let in_team = Owners { team: Some("team".into()), ..Owners::default() };
    let mut adopted = key_of("kubernetes/a", 3, with_tag());
    adopted.name.id = "of the API".into();
    adopted.manager.scope = "VirtualKey a/key-3@kubernetes".into();
    let all = [
        key_of("kubernetes/a", 1, with_tag()),
        key_of("kubernetes/a", 2, AccountSpec { owners: in_team, ..AccountSpec::default() }),
        adopted,
        key_of("kubernetes/b", 4, with_tag()),
        key_of("other/a", 5, with_tag()),
    ];
    apply(world, all).await;
    world.make_key(6, with_tag()).await;
    make_tag(world, None, "t", 100_000).await;
    make_tag(world, Some("org"), "t", 100_000).await;
    apply(world, [tag_budget("kubernetes/a", 6_000)]).await;
    for number in 1..=6 {
        world.spend_by(number, 2).await;
    }
    assert_eq!(world.balance(tag_of("kubernetes/a")).await, (6_000, 0));
    assert_eq!(world.balance(tag_account(Some("org"), "t")).await, (2_000, 0));
    assert_eq!(world.balance(tag_account(None, "t")).await, (12_000, 0));
    for number in 1..=3 {
        let denied = world.refused(number, 1).await;
        assert_eq!(denied.reason, DenialReason::BudgetSpent);
        assert_eq!(denied.amounts.unwrap().limit, money(6_000));
    }
    for number in 4..=6 {
        world.spend_by(number, 1).await;
    }
    apply(world, [tag_budget("other/a", 4_000), tag_budget("kubernetes/b", 3_000)]).await;
    assert_eq!(world.refused(5, 2).await.amounts.unwrap().limit, money(4_000), "each cluster has its own");
    assert_eq!(world.refused(4, 1).await.amounts.unwrap().limit, money(3_000));
    world.set_limits(tag_account(None, "t"), &[(15_000, "1mo")]).await;
    for number in [5, 6] {
        assert_eq!(world.refused(number, 1).await.amounts.unwrap().limit, money(15_000), "all or nothing");
    }
    assert_eq!(world.balance(tag_of("other/a")).await, (3_000, 0));
}

pub(crate) async fn a_new_tag_of_a_namespace_counts_what_its_keys_spent<B: Backend>(world: &mut World<B>) {
    let gone = key_of("kubernetes/a", 2, with_tag());
    let all = [
        key_of("kubernetes/a", 1, with_tag()),
        gone.clone(),
        key_of("kubernetes/b", 3, with_tag()),
        key_of("other/a", 4, with_tag()),
        key_of("kubernetes/a", 5, AccountSpec::default()),
    ];
    apply(world, all).await;
    // Days of it are summed by the hour, and the last is not.
    for _ in 0..3 {
        for number in 1..=5 {
            world.spend_by(number, u64::from(number)).await;
        }
        world.advance(DAY_MS);
        world.tick().await;
    }
    let corrected = world.spend_by(1, 1).await;
    world.spend_by(3, 7).await;
    world.store().remove(gone.name, gone.manager).await.unwrap().unwrap();
    let open = world.hold(1, 6).await;
    apply(world, [tag_budget("kubernetes/a", 100_000)]).await;
    assert_eq!(world.window(tag_of("kubernetes/a"), 0).await, (10_000, 6_000));
    assert_eq!(world.balance(tag_of("kubernetes/a")).await, (10_000, 6_000), "over its life, too");
    world.store().correct(corrected, money(5_000)).await.unwrap();
    world.report(open, 1, settle(2, 0)).await;
    assert_eq!(world.window(tag_of("kubernetes/a"), 0).await, (16_000, 0));
    let budget = tag_budget("kubernetes/a", 100_000);
    world.store().remove(budget.name.clone(), budget.manager.clone()).await.unwrap().unwrap();
    world.spend_by(1, 4).await;
    apply(world, [budget]).await;
    assert_eq!(
        world.window(tag_of("kubernetes/a"), 0).await,
        (20_000, 0),
        "it was on the requests all the time"
    );
}

pub(crate) async fn no_organization_is_called_as_the_tags_of_a_namespace<B: Backend>(world: &mut World<B>) {
    let named = |id: &str| World::<B>::new_account(AccountKind::Organization, id, AccountSpec::default());
    let refused = world.store().create(named("namespace kubernetes/a")).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    for id in ["namespace", "namespace a", "kubernetes/a", "namespace kubernetes/a/b"] {
        world.store().create(named(id)).await.unwrap();
    }
}

pub(crate) async fn a_deleted_tag_account_binds_nothing<B: Backend>(world: &mut World<B>) {
    world.make_key(1, AccountSpec { tags: vec![tag("t")], ..AccountSpec::default() }).await;
    make_tag(world, None, "t", 3_000).await;
    world.spend(3).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent);
    world.store().delete(vec![tag_account(None, "t")]).await.unwrap();
    let open = world.hold(1, 9).await;
    make_tag(world, None, "t", 13_000).await;
    assert_eq!(
        world.window(tag_account(None, "t"), 0).await,
        (3_000, 9_000),
        "it was on the requests all the time"
    );
    world.hold(1, 1).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall);
    assert_eq!(world.report(open, 1, settle(1, 0)).await, Outcome::Applied);
    assert_eq!(world.window(tag_account(None, "t"), 0).await, (4_000, 1_000));
}

/// A tag that is pinned later is charged from then on: what came before did not carry it.
pub(crate) async fn a_tag_pinned_later_counts_from_then_on<B: Backend>(world: &mut World<B>) {
    world.make_key(1, AccountSpec::default()).await;
    make_tag(world, None, "t", 5_000).await;
    let before = world.hold(1, 4).await;
    world.change(key(1), pin(&["t"])).await;
    let after = world.hold(1, 5).await;
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall);
    world.change(key(1), pin(&[])).await;
    world.hold(1, 1).await;
    world.report(before, 1, settle(4, 0)).await;
    world.report(after, 1, settle(3, 0)).await;
    assert_eq!(world.balance(tag_account(None, "t")).await, (3_000, 0), "it ends where it was made");
}

pub(crate) async fn more_accounts_than_one_request_may_charge_are_refused<B: Backend>(world: &mut World<B>) {
    let names: Vec<String> = (0..16).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        make_tag(world, None, name, 1_000_000).await;
    }
    world.make_key(1, AccountSpec { client_tags_bind: true, ..AccountSpec::default() }).await;
    let most = tagged(world, 1, 1, &names[..15]).await;
    world.hold_ask(most).await;
    let beyond = tagged(world, 1, 1, &names).await;
    let refused = world.store().hold(beyond, Vec::new()).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    assert_eq!(world.balance(tag_account(None, "t15")).await, (0, 0));
    assert_eq!(world.balance(key(1)).await, (0, 1_000), "an error changes nothing");
}

pub(crate) async fn an_ask_that_is_an_error_brings_no_reports_along<B: Backend>(world: &mut World<B>) {
    let names: Vec<String> = (0..16).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        make_tag(world, None, name, 1_000_000).await;
    }
    world.make_key(1, AccountSpec { client_tags_bind: true, ..AccountSpec::default() }).await;
    let before = world.hold(1, 1).await;
    let beyond = tagged(world, 1, 1, &names).await;
    let along = vec![World::<B>::news(before, 1, settle(1, 0))];
    let refused = world.store().hold(beyond, along).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    assert_eq!(world.balance(key(1)).await, (0, 1_000), "an error changes nothing");
}

pub(crate) async fn a_correction_reaches_what_came_after_the_request<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.change(team(), pin(&["t"])).await;
    let spent = world.hold(1, 5).await;
    world.report(spent, 1, settle(5, 0)).await;
    make_tag(world, Some("org"), "t", 1_000_000).await;
    world.store().correct(spent, money(9_000)).await.unwrap();
    assert_eq!(world.window(tag_account(Some("org"), "t"), 0).await, (9_000, 0), "a tag's account");

    world.advance(DAY_MS);
    let free = world.hold(1, 5).await;
    world.report(free, 1, settle(0, 0)).await;
    world.set_limits(key(1), &[(1_000_000, "1d")]).await;
    world.store().correct(free, money(29_000)).await.unwrap();
    assert_eq!(world.window(key(1), 0).await, (29_000, 0), "a limit of a day in which nothing was spent");
}

/// Eighty of the longest: more than an index of any database takes.
pub(crate) async fn as_many_and_as_long_tags_as_there_can_be_are_summed<B: Backend>(world: &mut World<B>) {
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    // Without a pattern by which they could be made shorter.
    let long = |level: u64| -> Vec<String> {
        let word = |number: u64| format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let tag = |tag: u64| (0..4).map(|part| word(1 + level * 1_000 + tag * 10 + part)).collect();
        (0..16).map(tag).collect()
    };
    let texts = |tags: &[String]| tags.iter().map(|text| tag(text)).collect::<Vec<_>>();
    for (level, account) in (0..).zip([organization(), team(), user(), key(1)]) {
        let tags = Some(texts(&long(level)));
        world.change(account, AccountChange { tags, ..AccountChange::default() }).await;
    }
    for _ in 0..2 {
        let mut ask = world.ask(1, 3).await;
        ask.tags = texts(&long(4));
        let hold = world.hold_ask(ask).await;
        world.report(hold, 1, settle(3, 0)).await;
    }
    for when in ["one by one", "summed"] {
        let spent = world.store().spend_by_tag(SpendFilter::default()).await.unwrap();
        assert_eq!(spent.len(), 80, "{when}");
        assert!(spent.iter().all(|tag| (tag.requests, tag.spent) == (2, money(6_000))), "{when}: {spent:?}");
        world.advance(DAY_MS);
        world.tick().await;
    }
}
