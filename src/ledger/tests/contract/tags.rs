//! Budgets of tags.

use crate::world::{
    Backend, DAY_MS, VOID, World, capped, key, limits, money, organization, settle, tag, team, user,
};
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::{DenialReason, HoldAsk, Outcome};
use tollgate_ledger::store::{
    AccountChange, AccountRef, AccountSpec, Owners, SpendFilter, Store, StoreError,
};

fn tag_account(organization: Option<&str>, tag: &str) -> AccountRef {
    AccountRef::Tag { organization: organization.map(str::to_owned), tag: tag.to_owned() }
}

/// A budget for a tag, of the organization or of the whole installation.
async fn make_tag<B: Backend>(world: &World<B>, organization: Option<&str>, tag: &str, amount: i64) {
    let owners = Owners { organization: organization.map(str::to_owned), ..Owners::default() };
    let spec = AccountSpec { owners, ..capped(limits(&[(amount, "1mo")])) };
    world.make(AccountKind::Tag, tag, spec).await;
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
