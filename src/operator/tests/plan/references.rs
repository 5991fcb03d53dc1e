//! Who may use whose money.

use crate::cluster::{Cluster, condition, name};
use crate::scenarios::{PLATFORM, platform_with_key};
use tollgate_domain::account::AccountKind::Key;

fn team(allowed: &str) -> String {
    format!(
        "kind: Team\nmetadata: {{name: core, namespace: platform}}\nspec: {{allowedNamespaces: {allowed}}}\n"
    )
}

fn key(namespace: &str, team: &str) -> String {
    format!(
        "kind: VirtualKey\nmetadata: {{name: agent, namespace: {namespace}}}\nspec: {{teamRef: {team}}}\n"
    )
}

#[test]
fn a_team_says_from_where_it_may_be_used() {
    let labelled = "{from: Selector, selector: {matchLabels: {llm: allowed}}}";
    let there = "{name: core, namespace: platform}";
    let rows = [
        ("{}", "payments", there, "False RefNotPermitted"),
        ("{from: Same}", "payments", there, "False RefNotPermitted"),
        ("{from: Same}", "platform", "{name: core}", "True ResolvedRefs"),
        ("{from: All}", "payments", there, "True ResolvedRefs"),
        (labelled, "payments", there, "True ResolvedRefs"),
        (labelled, "search", there, "False RefNotPermitted"),
        // Its own namespace has not the label, and needs none.
        (labelled, "platform", "{name: core}", "True ResolvedRefs"),
        ("{from: All}", "payments", "{name: nobody, namespace: platform}", "False RefNotFound"),
        ("{from: All}", "platform", "{name: nobody}", "False RefNotFound"),
    ];
    for (allowed, namespace, reference, expected) in rows {
        let mut cluster = Cluster::new();
        cluster.label("payments", &[("llm", "allowed")]);
        cluster.apply(&format!("{}---\n{}", team(allowed), key(namespace, reference)));
        cluster.settle();
        let object = format!("{namespace}/agent");
        let what = format!("{allowed} {namespace} {reference}");
        assert_eq!(condition(&cluster.key_status(&object).conditions, "ResolvedRefs"), expected, "{what}");
        let resolved = expected.starts_with("True");
        assert_eq!(cluster.secrets.contains_key(&name(&object)), resolved, "{what}");
        assert_eq!(cluster.held(Key, &object).is_some(), resolved, "{what}");
    }
}

#[test]
fn namespace_label_removed_takes_the_key_out_and_put_back_lets_it_work_again() {
    let mut cluster = Cluster::new();
    cluster.label("payments", &[("llm", "allowed")]);
    let allowed = "{from: Selector, selector: {matchLabels: {llm: allowed}}}";
    cluster.apply(&format!("{}---\n{}", team(allowed), key("payments", "{name: core, namespace: platform}")));
    cluster.settle();
    let digest = cluster.in_secret("payments/agent");
    cluster.label("payments", &[]);
    cluster.settle();
    assert!(cluster.works("payments/agent").is_empty());
    assert_eq!(cluster.in_secret("payments/agent"), digest, "the Secret stays");
    cluster.label("payments", &[("llm", "allowed")]);
    cluster.settle();
    assert_eq!(cluster.works("payments/agent"), [digest].into());
}

#[test]
fn money_counts_only_where_the_platform_says_so() {
    let mut cluster = Cluster::with(
        r#"
kind: Organization
metadata: {name: mine, namespace: payments}
spec: {}
---
kind: Team
metadata: {name: mine, namespace: payments}
spec: {}
---
kind: User
metadata: {name: mine, namespace: payments}
spec: {}
---
kind: VirtualKey
metadata: {name: mine, namespace: payments}
spec: {teamRef: {name: mine}}
---
kind: Budget
metadata: {name: mine, namespace: payments}
spec: {targetRef: {kind: Team, name: mine}, limits: [{amount: "1000000", period: Day}]}
"#,
    );
    assert!(cluster.ledger.is_empty());
    assert!(cluster.secrets.is_empty());
    let world = &cluster.world;
    let mine = name("payments/mine");
    for conditions in [
        &world.organizations[&mine].status.as_ref().unwrap().conditions,
        &world.teams[&mine].status.as_ref().unwrap().conditions,
        &world.users[&mine].status.as_ref().unwrap().conditions,
        &world.budgets[&mine].status.as_ref().unwrap().conditions,
    ] {
        assert_eq!(condition(conditions, "Accepted"), "False NamespaceNotListed");
        assert_eq!(condition(conditions, "Ready"), "False NamespaceNotListed");
    }
    let status = cluster.key_status("payments/mine");
    assert_eq!(condition(&status.conditions, "ResolvedRefs"), "False RefNotAccepted");
    // The platform lists the namespace.
    cluster.settings.platform_namespaces.insert("payments".into());
    cluster.settle();
    assert_eq!(condition(&cluster.key_status("payments/mine").conditions, "Ready"), "True Ready");
}

#[test]
fn a_break_anywhere_in_the_chain_takes_the_key_out() {
    let mut cluster = platform_with_key();
    let digest = cluster.in_secret("payments/agent");
    cluster.apply(
        "kind: User\nmetadata: {name: alice, namespace: tollgate}\nspec: {organizationRef: {name: acme}}\n",
    );
    cluster.settle();
    let status = cluster.key_status("payments/agent");
    assert_eq!(condition(&status.conditions, "ResolvedRefs"), "False RefNotPermitted");
    assert!(cluster.works("payments/agent").is_empty());
    cluster.apply(PLATFORM);
    cluster.settle();
    assert_eq!(cluster.works("payments/agent"), [digest].into());
}

#[test]
fn of_too_many_keys_the_oldest_count() {
    let mut cluster = Cluster::new();
    cluster.apply("kind: Team\nmetadata: {name: core, namespace: platform}\nspec: {maxKeys: 2}\n");
    for (key, minute) in [("young", 3), ("old", 1), ("middle", 2)] {
        cluster.apply(&format!(
            "kind: VirtualKey\nmetadata: {{name: {key}, namespace: platform, \
             creationTimestamp: \"2026-11-30T00:0{minute}:00Z\"}}\nspec: {{teamRef: {{name: core}}}}\n"
        ));
    }
    cluster.settle();
    let accepted = |cluster: &Cluster, key: &str| {
        condition(&cluster.key_status(&format!("platform/{key}")).conditions, "Accepted")
    };
    assert_eq!(accepted(&cluster, "old"), "True Accepted");
    assert_eq!(accepted(&cluster, "middle"), "True Accepted");
    assert_eq!(accepted(&cluster, "young"), "False TooManyKeys");
    cluster.delete(tollgate_operator::plan::Kind::VirtualKey, "platform/old");
    cluster.settle();
    assert_eq!(accepted(&cluster, "young"), "True Accepted");
    assert!(cluster.held(Key, "platform/young").is_some());
}

#[test]
fn of_two_keys_that_want_the_same_the_older_has_it() {
    let rows = [
        ("secret: {name: shared}", "secret: {name: shared}", "False SecretConflict"),
        ("secret: {name: younger}", "blocked: false", "False SecretConflict"),
        ("displayName: Agent", "displayName: Agent", "False NameTaken"),
        ("displayName: Agent", "displayName: Other", "True Accepted"),
    ];
    for (older, younger, expected) in rows {
        let mut cluster = Cluster::with(PLATFORM);
        for (name, spec, hour) in [("older", older, 1), ("younger", younger, 2)] {
            cluster.apply(&format!(
                "kind: VirtualKey\nmetadata: {{name: {name}, namespace: payments, \
                 creationTimestamp: \"2026-11-30T0{hour}:00:00Z\"}}\n\
                 spec: {{teamRef: {{name: payments, namespace: tollgate}}, {spec}}}\n"
            ));
        }
        cluster.settle();
        let accepted = |key| condition(&cluster.key_status(key).conditions, "Accepted");
        assert_eq!(accepted("payments/older"), "True Accepted", "{older}");
        assert_eq!(accepted("payments/younger"), expected, "{younger}");
    }
}
