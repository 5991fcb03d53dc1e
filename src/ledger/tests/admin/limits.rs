use crate::api::Api;
use crate::spend::{MODEL, ask, hold, settle};
use serde_json::{Value, json};

use tollgate_domain::hold::{DenialReason, HoldAsk, Verdict};
use tollgate_domain::key;

const FIELDS: &str = r#""max_budget": 100, "budget_duration": "1mo", "budget_time_zone": "Asia/Tokyo", "budget_billing_day": 15,
    "soft_budget": 80, "alert_thresholds": [90], "rpm_limit": 5, "tpm_limit": 6000, "tpd_limit": 7000, "max_parallel_requests": 3,
    "model_rpm_limit": {"gpt-4.1": 2}, "model_tpm_limit": {"gpt-4.1": 200}, "model_max_budget": {"gpt-4.1": {"max_budget": 1.5,
    "budget_duration": "1d"}}, "budget_limits": [{"max_budget": 10, "budget_duration": "24h", "rolling": true}]"#;

fn check(account: &Value) {
    let expected = json!({
        "max_budget": 100, "budget_duration": "1mo", "budget_time_zone": "Asia/Tokyo", "budget_billing_day": 15,
        "budget_rolling": false, "soft_budget": 80, "alert_thresholds": [90], "rpm_limit": 5, "tpm_limit": 6000,
        "tpd_limit": 7000, "max_parallel_requests": 3, "model_rpm_limit": {"gpt-4.1": 2},
        "model_tpm_limit": {"gpt-4.1": 200}, "observe_rates": false, "warnings": null,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&account[name], value, "{name}");
    }
    let reset_at = account["budget_reset_at"].as_str().unwrap();
    assert!(reset_at.ends_with("-14T15:00:00Z"), "the fifteenth begins in Tokyo: {reset_at}");
    assert_eq!(account["model_max_budget"]["gpt-4.1"]["max_budget"], json!(1.5));
    let rolling = &account["budget_limits"][0];
    assert_eq!((&rolling["rolling"], &rolling["thresholds"]), (&json!(true), &json!([90])));
    let rates = account["rates"].as_array().unwrap();
    let rates: Vec<_> =
        rates.iter().map(|rate| (rate["name"].as_str().unwrap(), &rate["remaining"])).collect();
    let all = [("rpm_limit", 5), ("tpm_limit", 6000), ("tpd_limit", 7000), ("max_parallel_requests", 3)];
    assert_eq!(
        rates,
        all.map(|(name, left)| (name, json!(left))).each_ref().map(|(name, left)| (*name, left))
    );
}

#[tokio::test]
async fn every_kind_of_account_has_every_limit() {
    let api = Api::new();
    check(&api.info(&api.key(&format!("{{{FIELDS}}}")).await).await);
    check(&api.post("/team/new", &format!("{{{FIELDS}}}")).await.ok());
    check(&api.post("/user/new", &format!(r#"{{"user_id": "ada", {FIELDS}}}"#)).await.ok());
    let organization = format!(r#"{{"organization_alias": "acme", {FIELDS}}}"#);
    check(&api.post("/organization/new", &organization).await.ok());
    check(&api.post("/tag/new", &format!(r#"{{"name": "t", {FIELDS}}}"#)).await.ok()["tag"]);
}

#[tokio::test]
async fn what_an_answer_shows_may_come_back() {
    let api = Api::new();
    let key = api.key(&format!("{{{FIELDS}}}")).await;
    let shown = api.info(&key).await;
    let names = [
        "max_budget",
        "budget_duration",
        "budget_time_zone",
        "budget_billing_day",
        "budget_rolling",
        "soft_budget",
        "budget_limits",
        "model_max_budget",
        "alert_thresholds",
        "rpm_limit",
        "tpm_limit",
        "tpd_limit",
        "max_parallel_requests",
        "model_rpm_limit",
        "model_tpm_limit",
        "observe_rates",
        "max_session_budget",
        "session_budgets",
        "client_tags_bind",
    ];
    let mut body = json!({ "key": key });
    body.as_object_mut().unwrap().extend(names.map(|name| (name.to_owned(), shown[name].clone())));
    let updated = api.post("/key/update", &body.to_string()).await.ok();
    for name in names {
        assert_eq!(updated[name], shown[name], "{name}");
    }
}

#[tokio::test]
async fn a_limit_of_a_model_that_nobody_can_ask_for_is_refused() {
    let api = Api::new();
    let key = api.key("{}").await;
    for name in ["model_max_budget", "model_rpm_limit", "model_tpm_limit"] {
        let limit = json!({name: {"gpt-nobody": 5}});
        let mut update = json!({ "key": key });
        update.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
        for (path, body) in [
            ("/key/generate", limit.clone()),
            ("/key/update", update),
            ("/team/new", limit.clone()),
            ("/user/new", limit),
            ("/organization/new", json!({"organization_alias": "a", name: {"gpt-nobody": 5}})),
            ("/tag/new", json!({"name": "t", name: {"gpt-nobody": 5}})),
        ] {
            let (status, _, param, message) = api.post(path, &body.to_string()).await.error();
            assert_eq!((status, param.as_deref()), (400, Some(name)), "{path}");
            assert!(message.ends_with(r#"names "gpt-nobody", which has no price here"#), "{message}");
        }
    }
}

#[tokio::test]
async fn a_session_has_a_budget_and_an_update_takes_it_away() {
    let api = Api::new();
    let secret = api.key(r#"{"max_session_budget": 0.000000001, "client_tags_bind": true}"#).await;
    let digest = key::digest(secret.as_bytes());
    let info = api.info(&secret).await;
    assert_eq!((&info["max_session_budget"], &info["client_tags_bind"]), (&json!(1e-9), &json!(true)));
    let Verdict::Denied(denial) = hold(&api, ask(1, digest, &[])).await else { panic!("held") };
    assert_eq!(denial.reason, DenialReason::BudgetTooSmall);
    api.post("/key/update", &json!({"key": secret, "max_session_budget": null}).to_string()).await.ok();
    assert!(matches!(hold(&api, ask(2, digest, &[])).await, Verdict::Held { .. }));
    assert_eq!(api.info(&secret).await["max_session_budget"], Value::Null);
}

#[tokio::test]
async fn sessions_of_some_names_have_budgets_and_an_update_takes_them_away() {
    let api = Api::new();
    let secret = api.key(r#"{"session_budgets": {"ci-*": 0.000000001, "nightly": "2.50"}}"#).await;
    let digest = key::digest(secret.as_bytes());
    let info = api.info(&secret).await;
    assert_eq!(info["session_budgets"], json!({"ci-*": 1e-9, "nightly": 2.5}));
    let of = |number, session: &str| HoldAsk { session: Some(session.into()), ..ask(number, digest, &[]) };
    assert!(matches!(hold(&api, of(1, "mine")).await, Verdict::Held { .. }));
    let Verdict::Denied(denial) = hold(&api, of(2, "ci-7")).await else { panic!("held") };
    assert_eq!(denial.reason, DenialReason::BudgetTooSmall);
    for (nothing, left) in [(json!({"nightly": 1}), json!({"nightly": 1})), (Value::Null, json!({}))] {
        let update = json!({"key": secret, "session_budgets": nothing}).to_string();
        api.post("/key/update", &update).await.ok();
        assert_eq!(api.info(&secret).await["session_budgets"], left);
    }
    assert!(matches!(hold(&api, of(3, "ci-7")).await, Verdict::Held { .. }));
}

#[tokio::test]
async fn spend_is_that_of_the_main_window_in_its_zone() {
    let api = Api::new();
    let body = r#"{"max_budget": 100, "budget_duration": "1d", "budget_time_zone": "Pacific/Kiritimati"}"#;
    let secret = api.key(body).await;
    let digest = key::digest(secret.as_bytes());
    assert!(matches!(hold(&api, ask(1, digest, &[])).await, Verdict::Held { .. }));
    settle(&api, 1, digest).await;
    let info = api.info(&secret).await;
    assert_eq!(info["spend"], json!(0.000_024));
    assert!(info["budget_reset_at"].as_str().unwrap().ends_with("T10:00:00Z"), "{info}");
    api.post("/key/update", &json!({"key": secret, "budget_rolling": true}).to_string()).await.ok();
    let rolling = api.info(&secret).await;
    assert_eq!((&rolling["spend"], &rolling["budget_reset_at"]), (&json!(0.000_024), &Value::Null));
}

#[tokio::test]
async fn parts_that_were_spent_are_told_once() {
    let api = Api::new();
    let body = json!({
        "key_alias": "dev", "max_budget": "0.00003", "budget_duration": "1d", "soft_budget": "0.00002", "observe": true,
        "model_max_budget": {MODEL: {"max_budget": "0.000024", "thresholds": [100], "observe": true}},
    });
    let made = api.post("/key/generate", &body.to_string()).await.ok();
    let digest = key::digest(made["key"].as_str().unwrap().as_bytes());
    assert_eq!(api.get("/budget/events").await.ok(), json!({"events": [], "last": 0}));
    for id in [1, 2] {
        hold(&api, ask(id, digest, &[])).await;
    }
    settle(&api, 1, digest).await;
    let answer = api.get("/budget/events").await;
    assert!(answer.text.contains(r#""max_budget":0.00003,"spend":0.000024,"#), "{}", answer.text);
    let answer = answer.ok();
    let events = answer["events"].as_array().unwrap();
    let mut seen: Vec<_> = events
        .iter()
        .map(|event| {
            assert_eq!((&event["event_group"], &event["id"]), (&json!("key"), &made["token"]));
            assert_eq!(event["alias"], json!("dev"));
            (event["event"].as_str().unwrap(), event["threshold"].as_u64().unwrap(), event["model"].as_str())
        })
        .collect();
    seen.sort_unstable();
    let expected = [
        ("budget_crossed", 100, Some(MODEL)),
        ("soft_budget_crossed", 100, None),
        ("threshold_crossed", 50, None),
        ("threshold_crossed", 80, None),
    ];
    assert_eq!(seen, expected);
    let last = answer["last"].as_i64().unwrap();
    assert_eq!(events.last().unwrap()["number"], json!(last));
    let after = api.get(&format!("/budget/events?after={last}")).await.ok();
    assert_eq!(after, json!({"events": [], "last": last}));
    let first = api.get("/budget/events?limit=1").await.ok();
    assert_eq!(first["events"], json!([events[0]]));
    assert_eq!(first["last"], events[0]["number"]);
}
