use super::*;
use crate::store::LimitRecord;
use serde_json::json;
use tollgate_domain::window::Period;

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
        spec,
        credential: None,
        limits,
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
    let limits = [(100_000_000_000, Some("1mo"), true), (10_500_000_000, Some("1d"), false)];
    assert_eq!(shape(&spec.limits), limits);
    assert_eq!(spec.budget_duration.as_deref(), Some("1mo"));
    assert_eq!(spec.models, ["claude-*"]);
    assert_eq!(spec.tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!((spec.rpm_limit, spec.tpm_limit), (Some(100), None));
    assert_eq!(spec.expires_at, Some(NOW.plus_ms(3_600_000)));
    assert!(spec.blocked);
    let kept = json!({"note": "x", "soft_budget": "80.1", "agent_id": "g"});
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
        (r#"{"metadata": {"tags": "a"}}"#, "metadata.tags must be a list of texts".into()),
        (r#"{"metadata": []}"#, "metadata must be an object".into()),
        (r#"{"rpm_limit": 1.5}"#, "rpm_limit must be a whole number, not negative".into()),
        (r#"{"tpm_limit": -1}"#, "tpm_limit must be a whole number, not negative".into()),
        (
            r#"{"max_parallel_requests": 5}"#,
            "max_parallel_requests is not enforced here, so it is refused".into(),
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
    assert_eq!(change(&record, r#"{"rpm_limit": null}"#).rpm_limit, Some(None));
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
    let record = record(r#"{"metadata": {"a": 1, "b": 2}, "soft_budget": 5}"#);
    let metadata = |body: &str| change(&record, body).metadata.map(Value::Object);
    assert_eq!(metadata(r#"{"metadata": {"c": 3}}"#), Some(json!({"c": 3, "soft_budget": "5"})));
    assert_eq!(metadata(r#"{"metadata": null}"#), Some(json!({"soft_budget": "5"})));
    assert_eq!(
        metadata(r#"{"agent_id": "g"}"#),
        Some(json!({"a": 1, "b": 2, "agent_id": "g", "soft_budget": "5"}))
    );
    assert_eq!(metadata(r#"{"soft_budget": null, "a": null}"#), Some(json!({"b": 2})));
    assert_eq!(metadata(r#"{"max_budget": 5}"#), None);
}
