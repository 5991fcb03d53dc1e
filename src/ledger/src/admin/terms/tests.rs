use super::*;
use crate::store::{LimitRecord, LimitSpec, RateSpec};
use serde_json::json;
use tollgate_domain::rate::{Rate, RateKind};
use tollgate_domain::window::{Period, Window};

const NOW: Timestamp = Timestamp::new(1_796_083_200_000);

fn read(kind: AccountKind, body: &str) -> Result<Terms, ApiError> {
    Terms::read(Fields::parse(body.as_bytes()).unwrap(), kind)
}

fn spec(body: &str) -> AccountSpec {
    read(AccountKind::Key, body).unwrap().into_spec(NOW).unwrap()
}

fn why(body: &str) -> String {
    let spec = read(AccountKind::Key, body).and_then(|terms| terms.into_spec(NOW));
    spec.unwrap_err().to_string()
}

fn change(record: &AccountRecord, body: &str) -> AccountChange {
    read(AccountKind::Key, body).unwrap().into_change(record, NOW).unwrap()
}

/// A key of these terms, as a store would hold it.
fn record(body: &str) -> AccountRecord {
    let spec = spec(body);
    let period = Period { start: NOW, end: None };
    let (posted, pending) = (Nanodollars::ZERO, Nanodollars::ZERO);
    let limits = spec.limits.iter().cloned();
    let limits = limits.map(|spec| LimitRecord { spec, period, posted, pending }).collect();
    AccountRecord {
        kind: AccountKind::Key,
        id: "key-1".into(),
        namespace: None,
        spec,
        credential: None,
        limits,
        rates: Vec::new(),
        posted,
        pending,
        main: None,
        created_by: "admin".into(),
        created_at: NOW,
        updated_at: NOW,
        last_active_at: None,
    }
}

/// Each limit as `(nano-dollars, duration, main)`.
fn shape(limits: &[LimitSpec]) -> Vec<(i64, Option<&str>, bool)> {
    limits.iter().map(|limit| (limit.amount.get(), limit.duration.as_deref(), limit.main)).collect()
}

#[test]
fn a_body_becomes_an_account() {
    let spec = spec(
        r#"{"key_alias": "dev-key", "team_id": "t", "user_id": "u", "organization_id": "", "max_budget": 100,
            "budget_duration": "1mo", "budget_limits": [{"budget_duration": "1d", "max_budget": "10.5"}],
            "models": ["claude-*"], "tags": ["a", "b", "a"], "rpm_limit": 100, "tpm_limit": null, "duration": "1h",
            "soft_budget": 80.1, "metadata": {"note": "x", "tags": ["c"]}, "agent_id": "g", "blocked": true}"#,
    );
    assert_eq!(spec.alias.as_deref(), Some("dev-key"));
    let owners = Owners { organization: None, team: Some("t".into()), user: Some("u".into()) };
    assert_eq!(spec.owners, owners);
    let soft = (80_100_000_000, Some("1mo"), false);
    let limits = [(100_000_000_000, Some("1mo"), true), soft, (10_500_000_000, Some("1d"), false)];
    assert_eq!(shape(&spec.limits), limits);
    assert_eq!(spec.limits.iter().map(|limit| limit.soft).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(spec.budget_duration.as_deref(), Some("1mo"));
    assert_eq!(spec.models, ["claude-*"]);
    assert_eq!(spec.tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(spec.rates, [rate(RateKind::RequestsPerMinute, 100, None)]);
    assert_eq!(spec.expires_at, Some(NOW.plus_ms(3_600_000)));
    assert!(spec.blocked);
    let kept = json!({"note": "x", "agent_id": "g"});
    assert_eq!(Value::Object(spec.metadata), kept);
}

#[test]
fn an_empty_body_restricts_nothing() {
    assert_eq!(spec("{}"), AccountSpec::default());
    assert_eq!(
        spec(r#"{"max_budget": null, "models": null, "tags": [], "metadata": null}"#),
        AccountSpec::default()
    );
    assert_eq!(spec(r#"{"budget_duration": "1mo"}"#).budget_duration.as_deref(), Some("1mo"));
    let spec = spec(r#"{"max_budget": 0}"#);
    assert_eq!(shape(&spec.limits), [(0, None, true)], "zero allows nothing, and is not no limit");
    assert_eq!(spec.limits[0].window, Window::Lifetime);
}

#[test]
fn wrong_terms_name_their_field() {
    let duration = "must be like 30s, 30m, 24h, 7d, 1w, 1mo, or hourly, daily, weekly, monthly";
    let table = [
        (r#"{"max_budget": -1}"#, "max_budget must not be negative".to_owned()),
        (r#"{"max_budget": 1e400}"#, "max_budget is out of range".into()),
        (r#"{"soft_budget": "abc"}"#, "soft_budget is not a decimal number".into()),
        (r#"{"budget_duration": "fortnight"}"#, format!("budget_duration {duration}")),
        (r#"{"budget_duration": 30}"#, "budget_duration must be a text".into()),
        (
            r#"{"budget_duration": "0d"}"#,
            "budget_duration must be more than nothing and at most ten years".into(),
        ),
        (r#"{"duration": "soon"}"#, format!("duration {duration}")),
        (r#"{"budget_limits": 5}"#, "budget_limits must be a list of objects".into()),
        (r#"{"budget_limits": [5]}"#, "budget_limits must be a JSON object.".into()),
        (
            r#"{"budget_limits": [{"budget_duration": "1d"}]}"#,
            "budget_limits has an entry whose max_budget is missing".into(),
        ),
        (
            r#"{"budget_limits": [{"max_budget": 1}]}"#,
            "budget_limits has an entry whose budget_duration is missing".into(),
        ),
        (
            r#"{"budget_limits": [{"budget_duration": "1d", "max_budget": -1}]}"#,
            "budget_limits has an entry whose max_budget must not be negative".into(),
        ),
        (
            r#"{"budget_limits": [{"budget_duration": "1d", "max_budget": 1, "models": []}]}"#,
            "budget_limits has an entry whose models is not a field of this request".into(),
        ),
        (
            r#"{"max_budget": 5, "budget_duration": "30d", "budget_limits": [{"budget_duration": "1mo", "max_budget": 1}]}"#,
            "budget_limits limits the same window twice: 1mo".into(),
        ),
        (r#"{"models": "claude-*"}"#, "models must be a list of texts that are not empty".into()),
        (r#"{"models": [""]}"#, "models must be a list of texts that are not empty".into()),
        (r#"{"blocked": "yes"}"#, "blocked must be true or false".into()),
        (
            r#"{"tags": ["a b"]}"#,
            "tags holds \"a b\": a tag may contain only letters, digits and : . _ / -".into(),
        ),
        (
            r#"{"metadata": {"tags": ["a b"]}}"#,
            "tags holds \"a b\": a tag may contain only letters, digits and : . _ / -".into(),
        ),
        (r#"{"metadata": {"tags": "a"}}"#, "metadata.tags must be a list of texts that are not empty".into()),
        (r#"{"metadata": []}"#, "metadata must be an object".into()),
        (r#"{"rpm_limit": 1.5}"#, "rpm_limit must be a whole number, not negative".into()),
        (r#"{"tpm_limit": -1}"#, "tpm_limit must be a whole number, not negative".into()),
        (
            r#"{"max_parallel_requests": -5}"#,
            "max_parallel_requests must be a whole number, not negative".into(),
        ),
    ];
    for (body, expected) in table {
        assert_eq!(why(body), expected, "{body}");
    }
    let many: Vec<_> = (0..17).map(|n| format!("tag-{n}")).collect();
    assert_eq!(why(&json!({ "tags": many }).to_string()), "tags holds more than 16 tags");
    let many: Vec<_> =
        (1..10).map(|n| json!({"budget_duration": format!("{n}s"), "max_budget": 1})).collect();
    assert_eq!(why(&json!({ "budget_limits": many }).to_string()), "budget_limits makes more than 8 limits");
}

#[test]
fn only_a_key_expires_or_has_a_team() {
    let refused = read(AccountKind::Team, r#"{"duration": "1d"}"#).unwrap_err().to_string();
    assert_eq!(refused, "duration is not enforced here, so it is refused");
    let team = read(AccountKind::Team, r#"{"team_alias": "x", "organization_id": "o"}"#).unwrap();
    assert_eq!((team.alias, team.organization), (Some(Some("x".into())), Some(Some("o".into()))));
}

#[test]
fn a_change_says_only_what_the_body_says() {
    let record = record(r#"{"max_budget": 100, "budget_duration": "1mo", "team_id": "t", "user_id": "u"}"#);
    assert_eq!(change(&record, "{}"), AccountChange::default());
    assert_eq!(change(&record, r#"{"models": null}"#).models, Some(Vec::new()));
    assert_eq!(change(&record, r#"{"key_alias": null}"#).alias, Some(None));
    assert_eq!(change(&record, r#"{"key_alias": ""}"#).alias, None);
    assert_eq!(change(&record, r#"{"rpm_limit": null}"#).rates, Some(Vec::new()));
    assert_eq!(change(&record, r#"{"duration": "1h"}"#).expires_at, Some(Some(NOW.plus_ms(3_600_000))));
    assert_eq!(change(&record, r#"{"duration": null}"#).expires_at, Some(None));
    assert_eq!(change(&record, r#"{"duration": "-1"}"#).expires_at, Some(None));
    let moved = Owners { organization: None, team: Some("other".into()), user: Some("u".into()) };
    assert_eq!(change(&record, r#"{"team_id": "other"}"#).owners, Some(moved));
}

#[test]
fn limits_change_one_part_at_a_time() {
    let record = record(
        r#"{"max_budget": 100, "budget_duration": "1mo", "budget_limits": [{"budget_duration": "1d", "max_budget": 10}]}"#,
    );
    let (month, day) = ((100_000_000_000, Some("1mo"), true), (10_000_000_000, Some("1d"), false));
    let table = [
        (r#"{"max_budget": 200}"#, vec![(200_000_000_000, Some("1mo"), true), day], None),
        (r#"{"max_budget": null}"#, vec![day], None),
        (r#"{"budget_duration": "1w"}"#, vec![(100_000_000_000, Some("1w"), true), day], Some(Some("1w"))),
        (r#"{"budget_duration": null}"#, vec![(100_000_000_000, None, true), day], Some(None)),
        (r#"{"budget_limits": null}"#, vec![month], None),
        (r#"{"budget_limits": []}"#, vec![month], None),
        (
            r#"{"max_budget": 7, "budget_duration": "1h", "budget_limits": []}"#,
            vec![(7_000_000_000, Some("1h"), true)],
            Some(Some("1h")),
        ),
    ];
    for (body, limits, duration) in table {
        let change = change(&record, body);
        assert_eq!(shape(change.limits.as_deref().unwrap()), limits, "{body}");
        assert_eq!(change.budget_duration.as_ref().map(Option::as_deref), duration, "{body}");
    }
    let twice = read(AccountKind::Key, r#"{"budget_duration": "24h"}"#).unwrap().into_change(&record, NOW);
    assert_eq!(twice.unwrap_err().to_string(), "budget_limits limits the same window twice: 1d");
}

#[test]
fn metadata_is_replaced_and_other_fields_are_laid_over_it() {
    let record = record(r#"{"metadata": {"a": 1, "b": 2}, "user_email": "e"}"#);
    let metadata = |body: &str| change(&record, body).metadata.map(Value::Object);
    assert_eq!(metadata(r#"{"metadata": {"c": 3}}"#), Some(json!({"c": 3, "user_email": "e"})));
    assert_eq!(metadata(r#"{"metadata": null}"#), Some(json!({"user_email": "e"})));
    assert_eq!(
        metadata(r#"{"agent_id": "g"}"#),
        Some(json!({"a": 1, "b": 2, "agent_id": "g", "user_email": "e"}))
    );
    assert_eq!(metadata(r#"{"user_email": null, "a": null}"#), Some(json!({"b": 2})));
    assert_eq!(metadata(r#"{"max_budget": 5}"#), None);
}

fn rate(kind: RateKind, limit: u64, model: Option<&str>) -> RateSpec {
    RateSpec { rate: Rate { kind, limit }, model: model.map(str::to_owned), observe: false }
}

#[test]
fn each_rate_has_a_field() {
    use RateKind::{Parallel, RequestsPerMinute, TokensPerDay, TokensPerMinute};
    let table = [
        (r#"{"rpm_limit": 5}"#, rate(RequestsPerMinute, 5, None)),
        (r#"{"tpm_limit": "5"}"#, rate(TokensPerMinute, 5, None)),
        (r#"{"tpd_limit": 5.0}"#, rate(TokensPerDay, 5, None)),
        (r#"{"max_parallel_requests": 0}"#, rate(Parallel, 0, None)),
        (r#"{"model_rpm_limit": {"m": 5}}"#, rate(RequestsPerMinute, 5, Some("m"))),
        (r#"{"model_tpm_limit": {"m": 5}}"#, rate(TokensPerMinute, 5, Some("m"))),
        (r#"{"metadata": {"model_tpm_limit": {"m": 5}}}"#, rate(TokensPerMinute, 5, Some("m"))),
        (
            r#"{"tpd_limit": 5, "observe_rates": true}"#,
            RateSpec { observe: true, ..rate(TokensPerDay, 5, None) },
        ),
    ];
    for (body, expected) in table {
        let spec = spec(body);
        assert_eq!((spec.rates, spec.metadata.len()), (vec![expected], 0), "{body}");
    }
}

#[test]
fn rates_change_one_kind_at_a_time() {
    use RateKind::{RequestsPerMinute, TokensPerMinute};
    let record = record(r#"{"rpm_limit": 5, "tpm_limit": 6, "model_rpm_limit": {"a": 7, "b": 8}}"#);
    let (rpm, tpm) = (rate(RequestsPerMinute, 5, None), rate(TokensPerMinute, 6, None));
    let (a, b) = (rate(RequestsPerMinute, 7, Some("a")), rate(RequestsPerMinute, 8, Some("b")));
    let table = [
        (r#"{"max_budget": 1}"#, None),
        (
            r#"{"rpm_limit": 9}"#,
            Some(vec![tpm.clone(), a.clone(), b.clone(), rate(RequestsPerMinute, 9, None)]),
        ),
        (r#"{"tpm_limit": null}"#, Some(vec![rpm.clone(), a.clone(), b.clone()])),
        (r#"{"model_rpm_limit": null}"#, Some(vec![rpm.clone(), tpm.clone()])),
        (r#"{"model_rpm_limit": {}}"#, Some(vec![rpm.clone(), tpm.clone()])),
        (
            r#"{"model_rpm_limit": {"c": 1}}"#,
            Some(vec![rpm.clone(), tpm.clone(), rate(RequestsPerMinute, 1, Some("c"))]),
        ),
        (r#"{"metadata": {"x": 1}}"#, None),
    ];
    for (body, expected) in table {
        assert_eq!(change(&record, body).rates, expected, "{body}");
    }
    let observed = change(&record, r#"{"observe_rates": true}"#).rates.unwrap();
    assert!(observed.len() == 4 && observed.iter().all(|spec| spec.observe));
}

#[test]
fn every_limit_has_a_window_and_thresholds() {
    let one = |body: &str| spec(body).limits.remove(0);
    let table = [
        (r#"{"max_budget": 5}"#, "lifetime", vec![50, 80, 100]),
        (
            r#"{"max_budget": 5, "budget_duration": "1d", "budget_time_zone": "Asia/Tokyo"}"#,
            "calendar/day/Asia/Tokyo",
            vec![50, 80, 100],
        ),
        (r#"{"max_budget": 5, "budget_billing_day": 15}"#, "anchored/15/utc", vec![50, 80, 100]),
        (
            r#"{"max_budget": 5, "budget_duration": "30d", "budget_billing_day": 31, "budget_time_zone": "Asia/Tokyo"}"#,
            "anchored/31/Asia/Tokyo",
            vec![50, 80, 100],
        ),
        (
            r#"{"max_budget": 5, "budget_duration": "24h", "budget_rolling": true, "alert_thresholds": [90, 20, 90]}"#,
            "rolling/86400",
            vec![20, 90],
        ),
        (r#"{"soft_budget": 5, "budget_duration": "1w"}"#, "calendar/week/utc", vec![100]),
        (r#"{"budget_limits": [{"max_budget": 5, "billing_day": 2}]}"#, "anchored/2/utc", vec![50, 80, 100]),
        (
            r#"{"budget_limits": [{"max_budget": 5, "budget_duration": "1h", "rolling": true, "thresholds": []}]}"#,
            "rolling/3600",
            vec![],
        ),
        (
            r#"{"budget_limits": [{"max_budget": 5, "budget_duration": "1d", "time_zone": "Asia/Tokyo"}],
                "alert_thresholds": [7]}"#,
            "calendar/day/Asia/Tokyo",
            vec![7],
        ),
        (r#"{"model_max_budget": {"m": 5}}"#, "lifetime", vec![50, 80, 100]),
        (
            r#"{"model_max_budget": {"m": {"budget_limit": "5", "time_period": "1d"}}}"#,
            "calendar/day/utc",
            vec![50, 80, 100],
        ),
        (
            r#"{"metadata": {"model_max_budget": {"m": {"max_budget": 5, "budget_duration": "1mo", "thresholds": [1]}}}}"#,
            "calendar/month:1/utc",
            vec![1],
        ),
    ];
    for (body, window, thresholds) in table {
        let limit = one(body);
        assert_eq!((limit.window.to_string().as_str(), limit.thresholds), (window, thresholds), "{body}");
        assert_eq!(limit.amount, Nanodollars::new(5_000_000_000), "{body}");
        assert_eq!(limit.model.is_some(), body.contains("model_max_budget"), "{body}");
        assert_eq!(limit.soft, body.contains("soft_budget"), "{body}");
    }
    assert_eq!(
        spec(r#"{"max_budget": 5, "budget_billing_day": 15}"#).budget_duration.as_deref(),
        Some("1mo")
    );
}

#[test]
fn wrong_windows_rates_and_thresholds_name_their_field() {
    let table = [
        (
            r#"{"max_budget": 1, "budget_duration": "1d", "budget_time_zone": "CEST"}"#,
            "budget_time_zone is not a time zone",
        ),
        (r#"{"budget_duration": "1d", "budget_time_zone": "UTC"}"#, "budget_time_zone needs a max_budget"),
        (r#"{"max_budget": 1, "budget_time_zone": "UTC"}"#, "budget_time_zone needs a budget_duration"),
        (
            r#"{"max_budget": 1, "budget_duration": "48h", "budget_time_zone": "UTC"}"#,
            "budget_time_zone has no meaning for 48h",
        ),
        (r#"{"max_budget": 1, "budget_billing_day": 32}"#, "budget_billing_day must be a day of the month"),
        (r#"{"max_budget": 1, "budget_billing_day": 0}"#, "budget_billing_day must be a day of the month"),
        (r#"{"max_budget": 1, "budget_billing_day": 257}"#, "budget_billing_day must be a day of the month"),
        (
            r#"{"max_budget": 1, "budget_duration": "1w", "budget_billing_day": 1}"#,
            "budget_billing_day goes with a budget_duration of 1mo only",
        ),
        (r#"{"max_budget": 1, "budget_rolling": true}"#, "budget_rolling needs a budget_duration"),
        (
            r#"{"max_budget": 1, "budget_duration": "30s", "budget_rolling": true}"#,
            "budget_duration must be at least 60s for a rolling window",
        ),
        (
            r#"{"max_budget": 1, "budget_duration": "1mo", "budget_rolling": true, "budget_billing_day": 1}"#,
            "budget_billing_day has no meaning for a window that rolls",
        ),
        (
            r#"{"max_budget": 1, "alert_thresholds": 5}"#,
            "alert_thresholds must be a list of whole percents, 1 to 1000",
        ),
        (r#"{"max_budget": 1, "alert_thresholds": [0]}"#, "alert_thresholds must be a list"),
        (r#"{"max_budget": 1, "alert_thresholds": [1001]}"#, "alert_thresholds must be a list"),
        (r#"{"max_budget": 1, "alert_thresholds": [0.5]}"#, "alert_thresholds must be a list"),
        (
            r#"{"max_budget": 1, "alert_thresholds": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}"#,
            "alert_thresholds holds more than 16",
        ),
        (r#"{"alert_thresholds": [5]}"#, "alert_thresholds needs a max_budget"),
        (r#"{"soft_budget": 1, "alert_thresholds": [5]}"#, "alert_thresholds needs a max_budget"),
        (
            r#"{"budget_limits": [{"max_budget": 1, "budget_duration": "1d", "time_zone": "x"}]}"#,
            "budget_limits has an entry whose time_zone is not a time zone",
        ),
        (
            r#"{"budget_limits": [{"max_budget": 1, "budget_duration": "1d", "billing_day": 1}]}"#,
            "budget_limits has an entry whose billing_day goes with",
        ),
        (
            r#"{"budget_limits": [{"max_budget": 1, "budget_duration": "1d", "thresholds": "x"}]}"#,
            "budget_limits has an entry whose thresholds must be",
        ),
        (r#"{"model_max_budget": 5}"#, "model_max_budget must be an object"),
        (
            r#"{"model_max_budget": {"m": -1}}"#,
            "model_max_budget has for \"m\" an entry whose max_budget must not be negative",
        ),
        (
            r#"{"model_max_budget": {"m": {}}}"#,
            "model_max_budget has for \"m\" an entry whose max_budget is missing",
        ),
        (
            r#"{"model_max_budget": {"m": {"max_budget": 1, "tpm_limit": 5}}}"#,
            "model_max_budget has for \"m\" an entry whose tpm_limit is not a field",
        ),
        (
            r#"{"model_max_budget": {"m": {"max_budget": 1, "budget_limit": 5}}}"#,
            "model_max_budget has for \"m\" an entry whose budget_limit says the same as max_budget",
        ),
        (r#"{"model_max_budget": {"m": 1, "m": 2}}"#, "model_max_budget has \"m\" twice"),
        (
            r#"{"model_max_budget": {"m": 1}, "metadata": {"model_max_budget": {"m": 2}}}"#,
            "model_max_budget stands in the metadata, too",
        ),
        (r#"{"model_rpm_limit": 5}"#, "model_rpm_limit must be an object"),
        (r#"{"model_rpm_limit": {"m": 1.5}}"#, "model_rpm_limit has for \"m\" no whole number"),
        (r#"{"metadata": {"model_tpm_limit": {"m": -1}}}"#, "model_tpm_limit has for \"m\" no whole number"),
        (r#"{"observe_rates": true}"#, "observe_rates needs a rate"),
        (r#"{"max_session_budget": -1}"#, "max_session_budget must not be negative"),
        (r#"{"client_tags_bind": 1}"#, "client_tags_bind must be true or false"),
        (r#"{"metadata": {"a": 1, "a": 2}}"#, "metadata has \"a\" twice"),
    ];
    for (body, expected) in table {
        let why = why(body);
        assert!(why.starts_with(expected), "{body}: {why}");
    }
    let many: Map<_, _> = (0..65).map(|n| (format!("m{n}"), json!(1))).collect();
    for name in ["model_max_budget", "model_rpm_limit"] {
        let why = why(&json!({ name: many }).to_string());
        assert_eq!(why, format!("{name} names more than 64 models"));
    }
}

#[test]
fn a_window_keeps_what_has_a_use_in_the_new_one() {
    let record = record(
        r#"{"max_budget": 100, "soft_budget": 50, "budget_duration": "1mo", "budget_time_zone": "Asia/Tokyo",
            "budget_billing_day": 15, "alert_thresholds": [90],
            "budget_limits": [{"budget_duration": "1d", "max_budget": 10, "thresholds": [33]}]}"#,
    );
    let table = [
        (r#"{"max_budget": 200}"#, "anchored/15/Asia/Tokyo", None),
        (r#"{"budget_duration": "1w"}"#, "calendar/week/Asia/Tokyo", Some(Some("1w"))),
        (r#"{"budget_duration": "48h"}"#, "fixed/172800", Some(Some("48h"))),
        (r#"{"budget_duration": null}"#, "lifetime", Some(None)),
        (r#"{"budget_billing_day": null}"#, "calendar/month:1/Asia/Tokyo", None),
        (r#"{"budget_time_zone": null}"#, "anchored/15/utc", None),
        (r#"{"budget_rolling": true}"#, "rolling/2592000", None),
    ];
    for (body, window, duration) in table {
        let change = change(&record, body);
        let limits = change.limits.unwrap();
        assert_eq!(limits[0].window.to_string(), window, "{body}");
        assert_eq!((limits[1].window, limits[1].soft), (limits[0].window, true), "{body}");
        let thresholds: Vec<_> = limits.iter().map(|limit| limit.thresholds.clone()).collect();
        assert_eq!(thresholds, [vec![90], vec![100], vec![33]], "{body}");
        assert_eq!(change.budget_duration.as_ref().map(Option::as_deref), duration, "{body}");
    }
    let thresholds = |body: &str| -> Vec<Vec<u16>> {
        change(&record, body).limits.unwrap().into_iter().map(|limit| limit.thresholds).collect()
    };
    assert_eq!(thresholds(r#"{"alert_thresholds": [10]}"#), [vec![10], vec![100], vec![10]]);
    assert_eq!(
        thresholds(r#"{"budget_limits": [{"budget_duration": "1d", "max_budget": 7}]}"#),
        [vec![90], vec![100], vec![33]]
    );
    assert_eq!(thresholds(r#"{"soft_budget": null}"#), [vec![90], vec![33]]);
    let rolling = record_of_rolling();
    let calendar = change(&rolling, r#"{"budget_time_zone": "Asia/Tokyo"}"#).limits.unwrap().remove(0);
    assert_eq!(calendar.window.to_string(), "calendar/day/Asia/Tokyo");
}

fn record_of_rolling() -> AccountRecord {
    record(r#"{"max_budget": 1, "budget_duration": "1d", "budget_rolling": true}"#)
}

#[test]
fn a_tag_enforces_less() {
    let kept = r#"{"max_budget": 5, "rpm_limit": 3, "models": [], "blocked": false}"#;
    let spec = read(AccountKind::Tag, kept).unwrap().into_spec(NOW).unwrap();
    assert_eq!((spec.limits.len(), spec.rates.len(), spec.metadata.len()), (1, 1, 0));
    for (name, value) in [
        ("models", r#"["m"]"#),
        ("blocked", "true"),
        ("tags", r#"["a"]"#),
        ("required_tags", r#"["a"]"#),
        ("forbidden_extras", r#"["fast_mode"]"#),
        ("max_session_budget", "5"),
        ("client_tags_bind", "true"),
    ] {
        let why = read(AccountKind::Tag, &format!("{{\"{name}\": {value}}}")).unwrap_err().to_string();
        assert_eq!(why, format!("{name} is not enforced on tags, so it is refused"));
    }
}
