//! What budgets, teams and keys say together.

use crate::cluster::{Cluster, account, condition};
use crate::scenarios::{KEY, PLATFORM};
use tollgate_domain::account::AccountKind::{Key, Tag, Team};
use tollgate_domain::account::AccountName;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::RateKind;
use tollgate_operator::plan::{Action, Kind};

fn dollars(text: &str) -> Nanodollars {
    text.parse().unwrap()
}

fn budget(name: &str, namespace: &str, spec: &str) -> String {
    format!("kind: Budget\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n")
}

#[test]
fn several_budgets_on_one_target_all_apply() {
    let mut cluster = Cluster::with(&format!("{PLATFORM}---{KEY}"));
    let team = "targetRef: {kind: Team, name: payments}";
    cluster.apply(&budget(
        "lower",
        "tollgate",
        &format!("{{{team}, limits: [{{amount: \"800\", period: Month}}]}}"),
    ));
    cluster.apply(&budget(
        "daily",
        "tollgate",
        &format!("{{{team}, limits: [{{amount: \"90\", period: Day}}]}}"),
    ));
    cluster.settle();
    let amounts: Vec<_> =
        cluster.held(Team, "tollgate/payments").unwrap().limits.iter().map(|limit| limit.amount).collect();
    assert_eq!(amounts, [dollars("90"), dollars("800")]);
    // Each shows its own amount against what is spent together.
    cluster.spend(&account(Team, "tollgate/payments"), "400");
    cluster.settle();
    let shown = |name: &str| {
        let limit = cluster.budget_status(&format!("tollgate/{name}")).tightest.unwrap();
        (limit.amount, limit.available.unwrap(), limit.used_percent.unwrap())
    };
    assert_eq!(shown("payments"), ("1000".into(), "600".into(), 40));
    assert_eq!(shown("lower"), ("800".into(), "400".into(), 50));
    assert_eq!(shown("daily"), ("90".into(), "-310".into(), 444));
}

#[test]
fn a_key_has_what_its_team_gives_each_key_and_can_only_narrow_it() {
    let manifests = r#"
kind: Team
metadata: {name: core, namespace: platform}
spec:
  perKey:
    limits: [{amount: "100", period: Month, timeZone: Europe/Vienna}]
    rates: {requestsPerMinute: 60, parallelRequests: 2}
    models: ["anthropic/*", gpt-5]
---
kind: VirtualKey
metadata: {name: agent, namespace: platform}
spec:
  teamRef: {name: core}
  rates: {requestsPerMinute: 600, tokensPerDay: 5, parallelRequests: 1}
  models: [gpt-5, gpt-5-mini]
---
kind: Budget
metadata: {name: agent, namespace: platform}
spec: {targetRef: {kind: VirtualKey, name: agent}, limits: [{amount: "20", period: Month, timeZone: Europe/Vienna}]}
"#;
    let cluster = Cluster::with(manifests);
    let key = cluster.key("platform/agent");
    assert_eq!(key.models, ["gpt-5"]);
    let rates: Vec<_> = key.rates.iter().map(|rate| (rate.kind, rate.limit)).collect();
    assert_eq!(
        rates,
        [(RateKind::RequestsPerMinute, 60), (RateKind::TokensPerDay, 5), (RateKind::Parallel, 1)]
    );
    let amounts: Vec<_> = key.limits.iter().map(|limit| limit.amount).collect();
    assert_eq!(amounts, [dollars("20")]);
}

#[test]
fn a_key_whose_models_are_none_of_the_teams_is_not_programmed() {
    let cluster = Cluster::with(
        r#"
kind: Team
metadata: {name: core, namespace: platform}
spec: {perKey: {models: [gpt-5]}}
---
kind: VirtualKey
metadata: {name: agent, namespace: platform}
spec: {teamRef: {name: core}, models: [claude-opus-4-1]}
"#,
    );
    let status = cluster.key_status("platform/agent");
    assert_eq!(condition(&status.conditions, "Accepted"), "False ModelsNotAllowed");
    assert!(cluster.held(Key, "platform/agent").is_none());
}

fn on_sessions(pattern: &str, amount: &str) -> String {
    format!(
        "{{targetRef: {{kind: Session, name: \"{pattern}\"}}, limits: [{{amount: \"{amount}\", period: Lifetime}}]}}"
    )
}

#[test]
fn a_budget_on_sessions_caps_each_session_of_the_keys_that_it_concerns() {
    let mut cluster = Cluster::with(&format!("{PLATFORM}---{KEY}"));
    cluster.apply(&budget("all", "tollgate", &on_sessions("*", "5")));
    cluster.settle();
    assert_eq!(cluster.key("payments/agent").session_limit, Some(dollars("5")));
    assert_eq!(condition(&cluster.budget_status("tollgate/all").conditions, "Ready"), "True Ready");
    // Another platform namespace speaks for its own keys.
    cluster.apply(&budget("own", "platform", &on_sessions("*", "1")));
    cluster.settle();
    assert_eq!(cluster.key("payments/agent").session_limit, Some(dollars("5")));
    cluster.settings.platform_namespaces.insert("payments".into());
    cluster.apply(&budget("own", "payments", &on_sessions("*", "2")));
    cluster.settle();
    assert_eq!(cluster.key("payments/agent").session_limit, Some(dollars("2")));
    cluster.apply(&budget("own", "payments", &on_sessions("*", "9")));
    cluster.settle();
    assert_eq!(cluster.key("payments/agent").session_limit, Some(dollars("5")), "the lowest");
}

#[test]
fn a_budget_on_sessions_of_some_names_caps_those_alone() {
    let mut cluster = Cluster::with(&format!("{PLATFORM}---{KEY}"));
    let limits = |cluster: &Cluster| {
        let key = cluster.key("payments/agent");
        let all = key.session_limits.iter();
        (key.session_limit, all.map(|(pattern, amount)| (pattern.to_string(), amount)).collect::<Vec<_>>())
    };
    cluster.settings.platform_namespaces.insert("payments".into());
    cluster.apply(&budget("ci", "tollgate", &on_sessions("ci-*", "5")));
    cluster.apply(&budget("night", "payments", &on_sessions("*-nightly", "3")));
    cluster.apply(&budget("ci", "payments", &on_sessions("ci-*", "4")));
    cluster.apply(&budget("ci", "platform", &on_sessions("ci-*", "1")));
    cluster.settle();
    assert_eq!(
        limits(&cluster),
        (None, vec![("*-nightly".into(), dollars("3")), ("ci-*".into(), dollars("4"))])
    );
    assert_eq!(cluster.budget_status("payments/night").target.as_deref(), Some("Session/*-nightly"));
    cluster.apply(&budget("all", "tollgate", &on_sessions("*", "9")));
    cluster.delete(Kind::Budget, "payments/ci");
    cluster.settle();
    let left = vec![("*-nightly".into(), dollars("3")), ("ci-*".into(), dollars("5"))];
    assert_eq!(limits(&cluster), (Some(dollars("9")), left));
    // It is programmed with the keys that it concerns, and not before.
    let is_ready = |cluster: &Cluster, name: &str| {
        condition(&cluster.budget_status(name).conditions, "Ready") == "True Ready"
    };
    cluster.apply(&budget("more", "tollgate", &on_sessions("more-*", "1")));
    cluster.apply(&budget("more", "platform", &on_sessions("more-*", "1")));
    let written = |cluster: &Cluster| {
        let statuses = cluster.plan().actions.into_iter().filter_map(|action| match action {
            Action::SetStatus { object, .. } => Some(object.name.to_string()),
            _ => None,
        });
        statuses.collect::<Vec<_>>()
    };
    assert_eq!(written(&cluster), ["platform/more"], "there is no key");
    cluster.settle();
    assert!(is_ready(&cluster, "tollgate/more") && is_ready(&cluster, "platform/more"));
    // A key that does not come into being has nothing that could escape.
    cluster.no_secrets = Some("exceeded quota".into());
    cluster.apply(&KEY.replace("agent", "late"));
    cluster.apply(&budget("yet", "tollgate", &on_sessions("yet-*", "1")));
    cluster.settle();
    assert!(is_ready(&cluster, "tollgate/yet"));
    cluster.no_secrets = None;
    // What the schema would not let pass caps nothing, and says so.
    cluster.apply(&budget("none", "tollgate", &on_sessions("c i", "1")));
    cluster.settle();
    let conditions = &cluster.budget_status("tollgate/none").conditions;
    assert_eq!(condition(conditions, "Accepted"), "False InvalidTarget");
    assert_eq!(cluster.key("payments/agent").session_limits.iter().count(), 4);
}

#[test]
fn a_budget_on_sessions_says_which_key_goes_on_without_it_and_is_not_ready_where_that_is_its_own() {
    let mut cluster = Cluster::with(&format!("{PLATFORM}---{KEY}"));
    cluster.apply(&KEY.replace("agent", "other"));
    cluster.settle();
    cluster.hold_key("made-by-hand", "Taken");
    cluster.apply(&format!("{KEY}  displayName: Taken\n"));
    cluster.apply(&budget("all", "tollgate", &on_sessions("*", "5")));
    cluster.settle();
    assert_eq!(cluster.key("payments/agent").session_limit, None);
    assert_eq!(cluster.key("payments/other").session_limit, Some(dollars("5")));
    let programmed = |cluster: &Cluster, name: &str| {
        let conditions = cluster.budget_status(name).conditions;
        let programmed = condition(&conditions, "Programmed");
        assert_eq!(condition(&conditions, "Ready"), programmed.replace("True Programmed", "True Ready"));
        // Of what holds only its own condition says more.
        let kind = if programmed.starts_with("True") { "Programmed" } else { "Ready" };
        let word = conditions.iter().find(|one| one.type_ == kind).unwrap();
        (programmed, word.message.contains("VirtualKey payments/agent"))
    };
    // It counts for all others, and nobody elsewhere can change that.
    assert_eq!(programmed(&cluster, "tollgate/all"), ("True Programmed".into(), true));
    cluster.settings.platform_namespaces.insert("payments".into());
    cluster.apply(&budget("own", "payments", &on_sessions("*", "4")));
    cluster.settle();
    assert_eq!(programmed(&cluster, "payments/own"), ("False TargetNotProgrammed".into(), true));
    assert_eq!(programmed(&cluster, "tollgate/all"), ("True Programmed".into(), true));
    // Those of a namespace that does not speak for the key are none of this.
    cluster.apply(&budget("all", "platform", &on_sessions("*", "5")));
    cluster.settle();
    assert_eq!(programmed(&cluster, "platform/all"), ("True Programmed".into(), false));
    cluster.apply(KEY);
    cluster.settle();
    assert_eq!(cluster.key("payments/agent").session_limit, Some(dollars("4")));
    for name in ["tollgate/all", "payments/own"] {
        assert_eq!(programmed(&cluster, name), ("True Programmed".into(), false));
    }
}

#[test]
fn of_too_many_patterns_the_oldest_count_and_no_key_is_refused() {
    let mut cluster = Cluster::with(&format!("{PLATFORM}---{KEY}"));
    for number in 0..32 {
        cluster.now = cluster.now.plus_ms(1_000);
        cluster.apply(&budget(&format!("z{number}"), "tollgate", &on_sessions(&format!("z{number}-*"), "1")));
    }
    cluster.now = cluster.now.plus_ms(1_000);
    cluster.apply(&budget("a", "tollgate", &on_sessions("a-*", "1")));
    cluster.apply(&budget("again", "tollgate", &on_sessions("z7-*", "1")));
    cluster.settle();
    let accepted =
        |cluster: &Cluster, name: &str| condition(&cluster.budget_status(name).conditions, "Accepted");
    assert_eq!(accepted(&cluster, "tollgate/a"), "False TooManyPatterns");
    assert_eq!(
        accepted(&cluster, "tollgate/again"),
        "True Accepted",
        "the same pattern once more is none more"
    );
    assert_eq!(cluster.key("payments/agent").session_limits.iter().len(), 32);
    assert_eq!(condition(&cluster.key_status("payments/agent").conditions, "Ready"), "True Ready");
    cluster.delete(Kind::Budget, "tollgate/z3");
    cluster.settle();
    assert_eq!(accepted(&cluster, "tollgate/a"), "True Accepted");
}

fn tag(namespace: &str) -> AccountName {
    let scope =
        if namespace == "tollgate" { String::new() } else { format!("namespace kubernetes/{namespace}") };
    AccountName { kind: Tag, scope, id: "project".into() }
}

#[test]
fn a_budget_on_a_tag_is_of_its_namespaces_keys_and_in_the_release_of_all() {
    let on_tag = |amount: &str, more: &str| {
        format!(
            "{{targetRef: {{kind: Tag, name: project}}, {more}limits: [{{amount: \"{amount}\", period: Day}}]}}"
        )
    };
    let mut cluster = Cluster::with(&budget("all", "tollgate", &on_tag("9", "")));
    cluster.settings.platform_namespaces.insert("payments".into());
    cluster.apply(&budget("own", "platform", &on_tag("5", "")));
    cluster.apply(&budget("more", "platform", &on_tag("6", "")));
    cluster.apply(&budget("own", "payments", &on_tag("7", "")));
    cluster.settle();
    let amounts = |cluster: &Cluster, namespace: &str| {
        let held = cluster.ledger.get(&tag(namespace)).filter(|held| !held.deleted);
        held.map(|held| held.account.limits.iter().map(|limit| limit.amount).collect::<Vec<_>>())
    };
    assert_eq!(amounts(&cluster, "tollgate"), Some(vec![dollars("9")]));
    assert_eq!(amounts(&cluster, "platform"), Some(vec![dollars("5")]), "both apply: the lower refuses");
    assert_eq!(amounts(&cluster, "payments"), Some(vec![dollars("7")]));
    assert_eq!(cluster.ledger[&tag("platform")].account.owner_scope, "Tag kubernetes/project");
    // Each shows what its own namespace's keys have spent.
    cluster.spend(&tag("platform"), "4");
    cluster.settle();
    let shown = |cluster: &Cluster, name: &str| {
        let status = cluster.budget_status(name);
        assert_eq!(condition(&status.conditions, "Ready"), "True Ready", "{name}");
        status.tightest.unwrap().available.unwrap()
    };
    for (name, available) in
        [("tollgate/all", "9"), ("platform/own", "1"), ("platform/more", "2"), ("payments/own", "7")]
    {
        assert_eq!(shown(&cluster, name), available, "{name}");
    }
    cluster.delete(Kind::Budget, "payments/own");
    cluster.apply(&budget("more", "platform", &on_tag("1", "adopt: project, ")));
    cluster.settle();
    assert_eq!(amounts(&cluster, "payments"), None);
    let status = cluster.budget_status("platform/more");
    assert_eq!(condition(&status.conditions, "Accepted"), "False AdoptionNotPermitted");
    assert_eq!(amounts(&cluster, "platform"), Some(vec![dollars("5")]));
    cluster.settings.platform_namespaces.remove("platform");
    cluster.settle();
    assert_eq!(amounts(&cluster, "platform"), None);
    let status = cluster.budget_status("platform/own");
    assert_eq!(condition(&status.conditions, "Accepted"), "False NamespaceNotListed");
}

#[test]
fn a_budget_without_a_target_waits_for_it() {
    let mut cluster = Cluster::with(&budget(
        "core",
        "platform",
        "{targetRef: {kind: Team, name: core}, limits: [{amount: \"5\", period: Day}]}",
    ));
    let status = cluster.budget_status("platform/core");
    assert_eq!(condition(&status.conditions, "ResolvedRefs"), "False RefNotFound");
    cluster.apply("kind: Team\nmetadata: {name: core, namespace: platform}\nspec: {}\n");
    cluster.settle();
    assert_eq!(condition(&cluster.budget_status("platform/core").conditions, "Ready"), "True Ready");
    assert_eq!(cluster.held(Team, "platform/core").unwrap().limits.len(), 1);
}

#[test]
fn a_budget_that_is_deleted_or_edited_changes_its_target() {
    let mut cluster = Cluster::with(PLATFORM);
    let amounts = |cluster: &Cluster| -> Vec<Nanodollars> {
        cluster.held(Team, "tollgate/payments").unwrap().limits.iter().map(|limit| limit.amount).collect()
    };
    let lowered =
        "{targetRef: {kind: Team, name: payments}, limits: [{amount: \"0.000000001\", period: Month}]}";
    cluster.apply(&budget("payments", "tollgate", lowered));
    cluster.settle();
    assert_eq!(amounts(&cluster), [Nanodollars::new(1)]);
    cluster.delete(tollgate_operator::plan::Kind::Budget, "tollgate/payments");
    cluster.settle();
    assert_eq!(amounts(&cluster), []);
}

#[test]
fn a_time_zone_that_nobody_knows_is_told_and_the_limit_holds() {
    let cluster = Cluster::with(&format!(
        "{PLATFORM}---\n{}",
        budget(
            "payments",
            "tollgate",
            "{targetRef: {kind: Team, name: payments}, limits: [{amount: \"10\", period: Month, timeZone: Europe/Wien}]}"
        )
    ));
    let status = cluster.budget_status("tollgate/payments");
    assert_eq!(condition(&status.conditions, "Accepted"), "False UnknownTimeZone");
    assert_eq!(condition(&status.conditions, "Programmed"), "True Programmed");
    assert_eq!(cluster.held(Team, "tollgate/payments").unwrap().limits[0].amount, dollars("10"));
}
