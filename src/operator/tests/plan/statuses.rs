//! What people read, and what they hear.

use crate::cluster::{Cluster, HOUR_MS, START, account, condition};
use crate::scenarios::{PLATFORM, platform_with_key};
use tollgate_domain::account::AccountKind::{Key, Team};
use tollgate_operator::plan::{Action, Status};

#[test]
fn money_in_status_is_exact() {
    let mut cluster = platform_with_key();
    cluster.spend(&account(Key, "payments/agent"), "0.100000001");
    cluster.settle();
    let status = cluster.key_status("payments/agent");
    assert_eq!(status.spending.spend.as_deref(), Some("0.100000001"));
    assert_eq!(status.limits[0].available.as_deref(), Some("99.899999999"));
    assert!(status.spending.last_used_at.is_some());
}

#[test]
fn thresholds_are_told_once_in_each_window() {
    let mut cluster = platform_with_key();
    let team = account(Team, "tollgate/payments");
    for (spent, heard) in [("499.999999999", 0), ("500", 1), ("600", 1), ("900", 2), ("900", 2)] {
        cluster.spend(&team, spent);
        cluster.settle();
        assert_eq!(cluster.heard("ThresholdCrossed"), heard, "{spent}");
    }
    cluster.restart_operator();
    cluster.settle();
    assert_eq!(cluster.heard("ThresholdCrossed"), 2);
    assert_eq!(cluster.budget_status("tollgate/payments").limits[0].alerted_percents, [50, 80]);
    // A month later.
    cluster.now = START.plus_ms(31 * 24 * HOUR_MS);
    cluster.spend(&team, "0");
    cluster.settle();
    assert_eq!(cluster.budget_status("tollgate/payments").limits[0].alerted_percents, [0; 0]);
    cluster.spend(&team, "500");
    cluster.settle();
    assert_eq!(cluster.heard("ThresholdCrossed"), 3);
}

#[test]
fn exhausted_is_told_once_and_ends_when_the_budget_is_raised() {
    let mut cluster = platform_with_key();
    cluster.spend(&account(Team, "tollgate/payments"), "1000");
    cluster.settle();
    let status = cluster.budget_status("tollgate/payments");
    assert_eq!(condition(&status.conditions, "Exhausted"), "True Exhausted");
    assert_eq!(condition(&status.conditions, "Ready"), "True Ready", "it is as it is written");
    assert_eq!(cluster.heard("Exhausted"), 1);
    cluster.restart_operator();
    cluster.settle();
    assert_eq!(cluster.heard("Exhausted"), 1);
    cluster.apply(&PLATFORM.replace("\"1000\"", "\"2000\""));
    cluster.settle();
    let status = cluster.budget_status("tollgate/payments");
    assert_eq!(condition(&status.conditions, "Exhausted"), "False Available");
    assert_eq!(status.tightest.unwrap().used_percent, Some(50));
}

#[test]
fn a_budget_that_observes_refuses_nothing_and_tells_all_the_same() {
    let mut cluster =
        Cluster::with(&PLATFORM.replace("alerts: [{percent: 50}, {percent: 80}]", "mode: Observe"));
    assert!(cluster.held(Team, "tollgate/payments").unwrap().limits[0].observe);
    cluster.spend(&account(Team, "tollgate/payments"), "1500");
    cluster.settle();
    let status = cluster.budget_status("tollgate/payments");
    assert_eq!(condition(&status.conditions, "Exhausted"), "True Observed");
}

#[test]
fn an_account_that_spends_changes_nothing_but_its_own_status() {
    let mut cluster = platform_with_key();
    cluster.spend(&account(Key, "payments/agent"), "1");
    let actions = cluster.plan().actions;
    let [Action::SetStatus { object, status: Status::VirtualKey(_), .. }] = actions.as_slice() else {
        panic!("{actions:#?}")
    };
    assert_eq!(object.name.name, "agent");
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let mut cluster = platform_with_key();
    let times = |cluster: &Cluster| -> Vec<_> {
        let conditions = cluster.key_status("payments/agent").conditions;
        conditions.into_iter().map(|one| (one.type_, one.last_transition_time)).collect()
    };
    let before = times(&cluster);
    cluster.now = START.plus_ms(HOUR_MS);
    cluster.spend(&account(Key, "payments/agent"), "1");
    cluster.settle();
    assert_eq!(times(&cluster), before);
    cluster.spend(&account(Key, "payments/agent"), "100");
    cluster.settle();
    let changed: Vec<_> = times(&cluster)
        .into_iter()
        .zip(before)
        .filter(|(now, before)| now != before)
        .map(|(now, _)| now.0)
        .collect();
    assert_eq!(changed, ["Exhausted"]);
}

#[test]
fn each_generation_is_observed() {
    let mut cluster = platform_with_key();
    cluster.apply(&PLATFORM.replace("\"1000\"", "\"900\""));
    cluster.settle();
    let status = cluster.budget_status("tollgate/payments");
    assert_eq!(status.observed_generation, Some(2));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(2)));
}
