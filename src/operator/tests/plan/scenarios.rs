//! What goes wrong in a cluster's life, by name. Each ends in the same state as if it had not.

use crate::cluster::{Cluster, HOUR_MS, START, account, condition, name};
use tollgate_domain::account::AccountKind::{Key, Organization, Tag, Team, User};
use tollgate_operator::plan::{Action, Kind, Ledger};
use tollgate_operator::resources::FINALIZER;

/// A platform with two teams, one of which lets every namespace in.
pub(crate) const PLATFORM: &str = r#"
kind: Organization
metadata: {name: acme, namespace: tollgate}
spec: {displayName: Acme}
---
kind: Team
metadata: {name: payments, namespace: tollgate}
spec:
  organizationRef: {name: acme}
  allowedNamespaces: {from: All}
  perKey: {limits: [{amount: "100", period: Month}]}
---
kind: User
metadata: {name: alice, namespace: tollgate}
spec: {organizationRef: {name: acme}, allowedNamespaces: {from: All}}
---
kind: Budget
metadata: {name: payments, namespace: tollgate}
spec:
  targetRef: {kind: Team, name: payments}
  limits: [{amount: "1000", period: Month}]
  alerts: [{percent: 50}, {percent: 80}]
"#;

/// A key of another namespace.
pub(crate) const KEY: &str = r#"
kind: VirtualKey
metadata: {name: agent, namespace: payments}
spec:
  teamRef: {name: payments, namespace: tollgate}
  userRef: {name: alice, namespace: tollgate}
"#;

pub(crate) fn platform_with_key() -> Cluster {
    Cluster::with(&format!("{PLATFORM}---{KEY}"))
}

#[test]
fn what_is_applied_is_in_the_ledger() {
    let cluster = platform_with_key();
    let key = cluster.key("payments/agent");
    assert_eq!(key.team.as_deref(), Some("kubernetes/tollgate/payments"));
    assert_eq!(key.user.as_deref(), Some("kubernetes/tollgate/alice"));
    assert_eq!(key.owner_scope, "VirtualKey payments/agent");
    assert_eq!(key.alias, "payments/agent");
    assert_eq!(key.limits.len(), 1);
    let team = cluster.held(Team, "tollgate/payments").unwrap();
    assert_eq!(team.organization.as_deref(), Some("kubernetes/tollgate/acme"));
    assert_eq!(team.limits[0].thresholds_percent, [50, 80]);
    assert_eq!(cluster.works("payments/agent"), [cluster.in_secret("payments/agent")].into());
    let status = cluster.key_status("payments/agent");
    assert_eq!(condition(&status.conditions, "Ready"), "True Ready");
    assert_eq!(status.secret_name.as_deref(), Some("agent"));
    assert_eq!(cluster.heard("KeyIssued"), 1);
}

#[test]
fn the_ledger_hears_of_a_key_before_its_secret_is_written() {
    let cluster = platform_with_key();
    let of = |wanted: fn(&Action) -> bool| cluster.carried_out.iter().position(wanted).unwrap();
    let finalized = of(|action| matches!(action, Action::AddFinalizer(of) if of.kind == Kind::VirtualKey));
    let issued = of(|action| matches!(action, Action::Issue(_)));
    assert!(finalized < issued);
    let Action::Issue(issue) = &cluster.carried_out[issued] else { unreachable!() };
    assert_eq!(issue.secret_uid, None);
}

#[test]
fn restart_with_an_empty_memory_changes_nothing() {
    let mut cluster = platform_with_key();
    let (ledger, secrets) = (format!("{:?}", cluster.ledger), cluster.secrets.clone());
    let events = cluster.events.len();
    cluster.restart_operator();
    cluster.settle();
    assert_eq!(format!("{:?}", cluster.ledger), ledger);
    assert_eq!(cluster.secrets, secrets);
    assert_eq!(cluster.events.len(), events, "nothing is said twice");
    let wrote = |action: &Action| matches!(action, Action::SetStatus { .. });
    assert!(!cluster.carried_out.iter().any(wrote), "{:#?}", cluster.carried_out);
}

#[test]
fn plans_that_are_carried_out_one_action_at_a_time_come_to_the_same_end() {
    let keys: Vec<String> = (0..5).map(|n| KEY.replace("name: agent", &format!("name: agent-{n}"))).collect();
    let all = format!("{PLATFORM}---{}", keys.join("---"));
    let mut slow = Cluster::new();
    slow.apply(&all);
    for _ in 0..200 {
        let Some(first) = slow.plan().actions.into_iter().next() else { break };
        slow.carry_out(first);
    }
    assert_eq!(slow.plan().actions, [], "it comes to an end");
    assert_eq!(slow.heard("KeyIssued"), 5);
    let quick = Cluster::with(&all);
    assert_eq!(slow.ledger.keys().collect::<Vec<_>>(), quick.ledger.keys().collect::<Vec<_>>());
    assert_eq!(slow.events.len(), quick.events.len());
}

#[test]
fn two_operators_plan_the_same() {
    let mut cluster = Cluster::new();
    cluster.apply(&format!("{PLATFORM}---{KEY}"));
    for _ in 0..5 {
        let plan = cluster.plan();
        assert_eq!(plan, cluster.clone().plan());
        plan.actions.into_iter().for_each(|action| cluster.carry_out(action));
    }
}

#[test]
fn a_plan_that_is_carried_out_twice_changes_nothing_more() {
    let mut cluster = Cluster::new();
    cluster.apply(&format!("{PLATFORM}---{KEY}"));
    for _ in 0..6 {
        let actions = cluster.plan().actions;
        // A second operator that has seen the same; of a key, the first to write the Secret wins.
        for action in actions.iter().chain(&actions).cloned() {
            cluster.carry_out(action);
        }
    }
    cluster.settle();
    assert_eq!(cluster.works("payments/agent"), [cluster.in_secret("payments/agent")].into());
    assert_eq!(cluster.secrets.len(), 1);
    assert_eq!(cluster.heard("KeyIssued"), 1);
}

#[test]
fn a_crash_between_ledger_and_secret_leaves_no_key_that_works_and_nobody_holds() {
    let mut cluster = Cluster::new();
    cluster.apply(&format!("{PLATFORM}---{KEY}"));
    while !cluster.plan().actions.iter().any(|action| matches!(action, Action::Issue(_))) {
        cluster.plan().actions.into_iter().for_each(|action| cluster.carry_out(action));
    }
    cluster.plan().actions.into_iter().for_each(|action| cluster.carry_out(action));
    let lost = cluster.in_secret("payments/agent");
    cluster.delete_secret("payments/agent");
    cluster.restart_operator();
    cluster.settle();
    assert!(!cluster.works("payments/agent").contains(&lost));
    assert_eq!(cluster.works("payments/agent"), [cluster.in_secret("payments/agent")].into());
}

#[test]
fn ledger_restored_from_an_older_backup_gets_everything_again_with_the_same_keys() {
    let mut cluster = platform_with_key();
    let digest = cluster.in_secret("payments/agent");
    cluster.ledger.clear();
    cluster.hear_everything();
    cluster.settle();
    assert_eq!(cluster.works("payments/agent"), [digest].into());
    assert!(cluster.held(Organization, "tollgate/acme").is_some());
    assert!(cluster.held(User, "tollgate/alice").is_some());
    let applied = cluster.carried_out.iter().find_map(|action| match action {
        Action::Apply(accounts) => Some(accounts.iter().map(|account| account.name.kind).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(applied, Some(vec![Organization, Team, User, Key]), "owners first");
}

#[test]
fn an_account_that_somebody_changed_is_asked_for_again() {
    let mut cluster = platform_with_key();
    let team = account(Team, "tollgate/payments");
    let held = cluster.ledger.get_mut(&team).unwrap();
    held.account.limits.clear();
    held.revision += 100;
    cluster.tell(&team);
    cluster.settle();
    assert_eq!(cluster.held(Team, "tollgate/payments").unwrap().limits.len(), 1);
}

#[test]
fn virtual_key_deleted_is_refused_first_and_gone_then() {
    let mut cluster = platform_with_key();
    cluster.spend(&account(Key, "payments/agent"), "7");
    cluster.delete(Kind::VirtualKey, "payments/agent");
    cluster.settle();
    assert!(cluster.works("payments/agent").is_empty());
    assert!(cluster.world.virtual_keys.is_empty());
    assert!(cluster.secrets.is_empty());
    let of = |wanted: fn(&Action) -> bool| cluster.carried_out.iter().position(wanted).unwrap();
    let deleted = of(|action| matches!(action, Action::Delete(_)));
    let secret = of(|action| matches!(action, Action::DeleteSecret { .. }));
    let released = of(|action| matches!(action, Action::RemoveFinalizer(_)));
    assert!(deleted < secret && secret < released);
    let held = &cluster.ledger[&account(Key, "payments/agent")];
    assert_eq!(held.posted.to_string(), "7", "what was spent stays");
}

#[test]
fn a_key_that_is_made_again_goes_on_with_its_spend_and_another_key() {
    let mut cluster = platform_with_key();
    let before = cluster.in_secret("payments/agent");
    cluster.spend(&account(Key, "payments/agent"), "7");
    cluster.delete(Kind::VirtualKey, "payments/agent");
    cluster.settle();
    cluster.apply(KEY);
    cluster.settle();
    assert_ne!(cluster.in_secret("payments/agent"), before);
    assert_eq!(cluster.key_status("payments/agent").spending.spend.as_deref(), Some("7"));
}

#[test]
fn team_deleted_under_its_keys_takes_them_out_and_leaves_their_secrets() {
    let mut cluster = platform_with_key();
    let digest = cluster.in_secret("payments/agent");
    cluster.delete(Kind::Team, "tollgate/payments");
    cluster.settle();
    assert!(cluster.works("payments/agent").is_empty());
    assert!(cluster.world.teams.is_empty());
    let status = cluster.key_status("payments/agent");
    assert_eq!(condition(&status.conditions, "ResolvedRefs"), "False RefNotFound");
    assert_eq!(condition(&status.conditions, "Programmed"), "False UnresolvedRefs");
    assert_eq!(cluster.in_secret("payments/agent"), digest);
    // When the team is back, the very key works again.
    cluster.apply(PLATFORM);
    cluster.settle();
    assert_eq!(cluster.works("payments/agent"), [digest].into());
}

#[test]
fn keys_go_before_their_team_and_the_team_before_its_organization() {
    let mut cluster = platform_with_key();
    for (kind, object) in [
        (Kind::Organization, "tollgate/acme"),
        (Kind::Team, "tollgate/payments"),
        (Kind::VirtualKey, "payments/agent"),
    ] {
        cluster.delete(kind, object);
    }
    cluster.settle();
    let deleted = cluster.carried_out.iter().find_map(|action| match action {
        Action::Delete(accounts) => Some(accounts.iter().map(|(name, _)| name.kind).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(deleted, Some(vec![Key, User, Team, Organization]));
    let left: Vec<_> = cluster.world.users.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["tollgate/alice"], "who stands alone waits for its organization");
}

#[test]
fn a_missing_finalizer_comes_back_and_nothing_is_deleted() {
    let mut cluster = platform_with_key();
    cluster.meta(Kind::Team, &name("tollgate/payments")).unwrap().finalizers = None;
    cluster.settle();
    assert!(!cluster.carried_out.iter().any(|action| matches!(action, Action::Delete(_))));
    let meta = cluster.meta(Kind::Team, &name("tollgate/payments")).unwrap();
    assert_eq!(meta.finalizers.as_deref(), Some(&[FINALIZER.to_owned()][..]));
}

#[test]
fn an_object_that_was_torn_out_leaves_no_account_behind() {
    let mut cluster = platform_with_key();
    cluster.world.virtual_keys.clear();
    cluster.restart_operator();
    cluster.settle();
    assert!(cluster.works("payments/agent").is_empty());
}

#[test]
fn accounts_of_others_are_left_alone() {
    let mut cluster = platform_with_key();
    for (id, managed_by) in [("made-by-hand", "api"), ("other-cluster/tollgate/payments", "kubernetes")] {
        let mut other = cluster.ledger[&account(Team, "tollgate/payments")].clone();
        other.account.name.id = id.into();
        let name = other.account.name.clone();
        cluster.ledger.insert(name.clone(), other);
        cluster.tell(&name);
        cluster.world.ledger.standings.get_mut(&name).unwrap().managed_by = managed_by.into();
    }
    assert_eq!(cluster.plan().actions, []);
}

#[test]
fn a_tag_has_an_account_as_long_as_a_budget_is_on_it() {
    let mut cluster = Cluster::with(
        r#"
kind: Budget
metadata: {name: refactor, namespace: tollgate}
spec:
  targetRef: {kind: Tag, name: "project:refactor"}
  limits: [{amount: "50", period: Lifetime}]
"#,
    );
    let tag = tollgate_domain::account::AccountName {
        kind: Tag,
        scope: String::new(),
        id: "project:refactor".into(),
    };
    assert_eq!(cluster.ledger[&tag].account.owner_scope, "Tag kubernetes/project:refactor");
    assert_eq!(condition(&cluster.budget_status("tollgate/refactor").conditions, "Ready"), "True Ready");
    cluster.delete(Kind::Budget, "tollgate/refactor");
    cluster.settle();
    assert!(cluster.ledger[&tag].deleted);
}

#[test]
fn while_the_ledger_is_away_nothing_is_claimed_and_money_stays() {
    let mut cluster = platform_with_key();
    cluster.spend(&account(Key, "payments/agent"), "7");
    cluster.settle();
    let before = cluster.key_status("payments/agent");
    cluster.world.ledger.lose(cluster.now);
    // A short absence is none.
    assert_eq!(cluster.plan().actions, []);
    let told_at = cluster.plan().wake_at.unwrap();
    assert_eq!(told_at.since_ms(cluster.now), 30_000);
    cluster.now = told_at;
    cluster.settle();
    let status = cluster.key_status("payments/agent");
    assert_eq!(condition(&status.conditions, "Programmed"), "Unknown LedgerUnavailable");
    assert_eq!(condition(&status.conditions, "Ready"), "Unknown LedgerUnavailable");
    assert_eq!((&status.spending.spend, &status.limits), (&before.spending.spend, &before.limits));
    // A deletion waits, and says why.
    cluster.delete(Kind::VirtualKey, "payments/agent");
    cluster.settle();
    assert!(cluster.world.virtual_keys.contains_key(&name("payments/agent")));
    // It is back.
    cluster.world.ledger.sync();
    cluster.settle();
    assert!(cluster.world.virtual_keys.is_empty());
    assert_eq!(condition(&cluster.budget_status("tollgate/payments").conditions, "Ready"), "True Ready");
}

/// The next release of it may know fields that this one passed over.
#[test]
fn a_ledger_that_was_away_is_asked_for_everything_once_more() {
    let mut cluster = platform_with_key();
    cluster.settle();
    assert_eq!(cluster.plan().actions, []);
    cluster.world.ledger.lose(cluster.now);
    cluster.world.ledger.sync();
    let asked = cluster.plan().actions;
    let [Action::SetPrices { .. }, Action::Apply(accounts)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(accounts.len(), cluster.ledger.len());
    cluster.settle();
    assert_eq!(cluster.plan().actions, []);
}

#[test]
fn an_operator_that_never_heard_the_ledger_says_so_after_a_while() {
    let mut cluster = Cluster::new();
    cluster.world.ledger = Ledger::default();
    cluster.world.ledger.lose(START);
    cluster.apply(&format!("{PLATFORM}---{KEY}"));
    cluster.settle();
    assert!(cluster.secrets.is_empty());
    assert_eq!(cluster.key_status("payments/agent").conditions, []);
    cluster.now = START.plus_ms(HOUR_MS);
    cluster.settle();
    let status = cluster.key_status("payments/agent");
    assert_eq!(condition(&status.conditions, "Accepted"), "True Accepted");
    assert_eq!(condition(&status.conditions, "Programmed"), "Unknown LedgerUnavailable");
    cluster.world.ledger.sync();
    cluster.settle();
    assert_eq!(condition(&cluster.key_status("payments/agent").conditions, "Ready"), "True Ready");
}

#[test]
fn what_the_ledger_refuses_is_told_and_asked_for_again_more_and_more_seldom() {
    let mut cluster = platform_with_key();
    // Somebody has a key of that name.
    cluster.hold_key("made-by-hand", "Bob");
    cluster.apply(
        r#"
kind: VirtualKey
metadata: {name: bob, namespace: payments}
spec: {displayName: Bob, teamRef: {name: payments, namespace: tollgate}}
"#,
    );
    cluster.settle();
    let status = cluster.key_status("payments/bob");
    assert_eq!(condition(&status.conditions, "Programmed"), "False RefusedByLedger");
    assert_eq!(cluster.heard("RefusedByLedger"), 1);
    assert!(!cluster.secrets.contains_key(&name("payments/bob")));
    let mut pauses = vec![];
    for _ in 0..4 {
        let wake_at = cluster.plan().wake_at.unwrap();
        pauses.push(wake_at.since_ms(cluster.now));
        cluster.now = wake_at;
        cluster.settle();
    }
    assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000]);
    assert_eq!(cluster.heard("RefusedByLedger"), 1, "once");
    cluster.ledger.retain(|name, _| name.id != "made-by-hand");
    cluster.pass(cluster.now.plus_ms(HOUR_MS));
    assert_eq!(condition(&cluster.key_status("payments/bob").conditions, "Ready"), "True Ready");
}
