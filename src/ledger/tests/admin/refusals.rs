use crate::api::{Api, MASTER};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;

const GET_ROUTES: [&str; 14] = [
    "/key/info",
    "/key/list",
    "/team/info",
    "/team/list",
    "/organization/info",
    "/organization/list",
    "/user/info",
    "/tag/list",
    "/tag/summary",
    "/budget/events",
    "/spend/logs",
    "/spend/tags",
    "/v1/models",
    "/models",
];
const POST_ROUTES: [&str; 18] = [
    "/spend/correct",
    "/key/generate",
    "/key/update",
    "/key/delete",
    "/key/block",
    "/key/unblock",
    "/team/new",
    "/team/update",
    "/team/delete",
    "/team/block",
    "/team/unblock",
    "/organization/new",
    "/organization/info",
    "/user/new",
    "/tag/new",
    "/tag/update",
    "/tag/info",
    "/tag/delete",
];

#[tokio::test]
async fn without_the_master_key_every_door_is_shut() {
    let api = Api::new();
    let routes = GET_ROUTES.map(|path| (Method::GET, path)).into_iter();
    for (method, path) in routes.chain(POST_ROUTES.map(|path| (Method::POST, path))) {
        // Even a body that is wrong: nobody without a key learns what a right one is.
        for body in ["{}", "no JSON"] {
            let none = api.call(method.clone(), path, None, body).await.error();
            assert_eq!((none.0, none.1.as_str()), (401, "auth_error"), "{path}");
            let well_formed = "sk-tg-000000000000000000000000000000000000000000000000";
            for guess in ["sk-maste", "sk-master2", "x", well_formed] {
                let wrong = api.call(method.clone(), path, Some(guess), body).await.error();
                let (kind, message) =
                    ("token_not_found_in_db", "Authentication Error, the key is not valid here.");
                assert_eq!(
                    (wrong.0, wrong.1.as_str(), wrong.3.as_str()),
                    (401, kind, message),
                    "{path} {guess}"
                );
            }
        }
    }
}

#[tokio::test]
async fn two_different_keys_are_none() {
    let api = Api::new();
    let list = |bearer: &str, plain: &str| {
        let request = Request::get("/key/list").header("authorization", format!("Bearer {bearer}"));
        request.header("x-api-key", plain).body(Body::empty()).unwrap()
    };
    assert_eq!(api.send(list(MASTER, MASTER)).await.status, 200);
    assert_eq!(api.send(list(MASTER, "sk-other")).await.status, 401);
    let plain = Request::get("/key/list").header("x-api-key", MASTER).body(Body::empty()).unwrap();
    assert_eq!(api.send(plain).await.status, 200);
}

#[tokio::test]
async fn what_is_not_served_is_not_found() {
    let api = Api::new();
    let table = [
        (Method::GET, "/"),
        (Method::GET, "/key/generate"),
        (Method::POST, "/key/info"),
        (Method::DELETE, "/team/delete"),
        (Method::POST, "/key/generate/"),
        (Method::GET, "/KEY/list"),
        (Method::POST, "/v1/messages"),
    ];
    for (method, path) in table {
        let (status, kind, ..) = api.call(method, path, Some(MASTER), "").await.error();
        assert_eq!((status, kind.as_str()), (404, "not_found_error"), "{path}");
    }
}

#[tokio::test]
async fn probes_need_no_key() {
    let api = Api::new();
    for path in ["/health/liveliness", "/health/liveness"] {
        assert_eq!(api.call(Method::GET, path, None, "").await.ok(), json!("I'm alive!"));
    }
    let ready = api.call(Method::GET, "/health/readiness", None, "").await.ok();
    assert_eq!(ready, json!({"status": "healthy", "db": "connected"}));
}

#[tokio::test]
async fn a_wrong_field_is_named() {
    let api = Api::new();
    let table = [
        (r#"{"max_budget": -1}"#, "max_budget", "must not be negative"),
        (r#"{"max_budget": NaN}"#, "max_budget", "is not a JSON value"),
        (r#"{"max_budget": "NaN"}"#, "max_budget", "is not a decimal number"),
        (r#"{"max_budget": Infinity}"#, "max_budget", "is not a JSON value"),
        (r#"{"max_budget": "abc"}"#, "max_budget", "is not a decimal number"),
        (r#"{"max_budget": 1e400}"#, "max_budget", "is out of range"),
        (r#"{"max_budget": 0.0000000001}"#, "max_budget", "has more decimal places than the smallest unit"),
        (r#"{"max_budget": 9223372036.854775808}"#, "max_budget", "is out of range"),
        (r#"{"max_budget": ""}"#, "max_budget", "is not a decimal number"),
        (r#"{"max_budget": []}"#, "max_budget", "must be a number"),
        (r#"{"max_budget": 1, "max_budget": 2}"#, "max_budget", "is given twice"),
        (r#"{"soft_budget": -1}"#, "soft_budget", "must not be negative"),
        (r#"{"budget_duration": "fortnight"}"#, "budget_duration", "must be like"),
        (r#"{"budget_duration": "0d"}"#, "budget_duration", "must be more than nothing"),
        (r#"{"budget_duration": 30}"#, "budget_duration", "must be a text"),
        (
            r#"{"budget_limits": [{"budget_duration": "1d", "max_budget": -1}]}"#,
            "budget_limits",
            "must not be negative",
        ),
        (r#"{"duration": "1y"}"#, "duration", "must be like"),
        (r#"{"rpm_limit": -1}"#, "rpm_limit", "must be a whole number"),
        (r#"{"tpm_limit": 1.5}"#, "tpm_limit", "must be a whole number"),
        (r#"{"models": "gpt-4.1"}"#, "models", "must be a list of texts"),
        (r#"{"models": [""]}"#, "models", "must be a list of texts"),
        (r#"{"tags": ["ok", "not ok"]}"#, "tags", "holds \"not ok\""),
        (r#"{"required_tags": ["not ok"]}"#, "required_tags", "holds \"not ok\""),
        (r#"{"forbidden_extras": ["fast"]}"#, "forbidden_extras", "holds \"fast\""),
        (r#"{"observe": "yes"}"#, "observe", "true or false"),
        (r#"{"blocked": 1}"#, "blocked", "must be true or false"),
        (r#"{"key_alias": 5}"#, "key_alias", "must be a text"),
        (r#"{"metadata": "x"}"#, "metadata", "must be an object"),
        (r#"{"metadata": {"tag_rpm_limit": {"a": 1}}}"#, "metadata.tag_rpm_limit", "is not enforced here"),
        (r#"{"metadata": {"model_rpm_limit": {"a": -1}}}"#, "model_rpm_limit", "no whole number"),
        (r#"{"model_tpm_limit": {"gpt-nobody": 1}}"#, "model_tpm_limit", "has no price here"),
        (
            r#"{"model_max_budget": {"gpt-4.1": {"max_budget": 1, "rpm_limit": 1}}}"#,
            "model_max_budget",
            "is not a field",
        ),
        (r#"{"max_parallel_requests": -1}"#, "max_parallel_requests", "must be a whole number"),
        (r#"{"tpd_limit": "many"}"#, "tpd_limit", "must be a whole number"),
        (r#"{"max_session_budget": "NaN"}"#, "max_session_budget", "is not a decimal number"),
        (r#"{"session_budgets": ["ci-*"]}"#, "session_budgets", "must be an object"),
        (r#"{"session_budgets": {"ci-*": -1}}"#, r#"session_budgets["ci-*"]"#, "must not be negative"),
        (
            r#"{"session_budgets": {"c i": 1}}"#,
            "session_budgets",
            r#"has the pattern "c i", which must have"#,
        ),
        (r#"{"session_budgets": {"a": 1, "a": 2}}"#, "session_budgets", r#"has "a" twice"#),
        (r#"{"client_tags_bind": "yes"}"#, "client_tags_bind", "true or false"),
        (r#"{"observe_rates": 1}"#, "observe_rates", "true or false"),
        (r#"{"max_budget": 1, "alert_thresholds": [0]}"#, "alert_thresholds", "whole percents"),
        (
            r#"{"max_budget": 1, "budget_duration": "1d", "budget_time_zone": "CET/x"}"#,
            "budget_time_zone",
            "is not a time zone",
        ),
        (r#"{"max_budget": 1, "budget_billing_day": 0}"#, "budget_billing_day", "must be a day of the month"),
        (r#"{"max_budget": 1, "budget_rolling": true}"#, "budget_rolling", "needs a budget_duration"),
        (r#"{"budget_id": "b"}"#, "budget_id", "is not enforced here"),
        (r#"{"allowed_routes": ["/v1/messages"]}"#, "allowed_routes", "is not enforced here"),
        (r#"{"hourly_request_limit": 1}"#, "hourly_request_limit", "is not enforced here"),
        (r#"{"key": "sk-1234"}"#, "key", "must have at least 32 random characters"),
        (r#"{"key": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#, "key", "does not look random"),
        (r#"{"key": ""}"#, "key", "must have at least 32 random characters"),
        (r#"{"key": 5}"#, "key", "must be a text"),
    ];
    for (body, param, why) in table {
        let (status, kind, named, message) = api.post("/key/generate", body).await.error();
        assert_eq!(
            (status, kind.as_str(), named.as_deref()),
            (400, "bad_request_error", Some(param)),
            "{body}"
        );
        assert!(message.starts_with(param) && message.contains(why), "{body}: {message}");
    }
    assert_eq!(api.get("/key/list").await.ok()["total_count"], json!(0), "none of them made a key");
}

#[tokio::test]
async fn a_body_must_be_an_object_of_at_most_a_megabyte() {
    let api = Api::new();
    for body in ["[]", "null", "max_budget=5", "{\"max_budget\": 5", "{} {}"] {
        assert_eq!(api.post("/key/generate", body).await.error().0, 400, "{body}");
    }
    let large = format!(r#"{{"metadata": {{"x": "{}"}}}}"#, "x".repeat(1 << 20));
    assert_eq!(api.post("/key/generate", &large).await.error().0, 413);
    let deep = format!(r#"{{"metadata": {}1{}}}"#, "[".repeat(500), "]".repeat(500));
    assert_eq!(api.post("/key/generate", &deep).await.error().2.as_deref(), Some("metadata"));
}

#[tokio::test]
async fn a_missing_name_is_named() {
    let api = Api::new();
    let table = [
        ("/key/update", "{}", 400, "key"),
        ("/key/update", r#"{"key": "sk-nobody"}"#, 404, "key"),
        ("/key/update", r#"{"key_alias": "nobody"}"#, 404, "key_alias"),
        ("/key/delete", "{}", 400, "keys"),
        ("/key/delete", r#"{"keys": [], "key_aliases": []}"#, 400, "keys"),
        ("/key/delete", r#"{"keys": "sk-a"}"#, 400, "keys"),
        ("/key/delete", r#"{"keys": ["sk-a"], "dry_run": true}"#, 400, "dry_run"),
        ("/key/block", "{}", 400, "key"),
        ("/key/block", r#"{"key": "sk-nobody"}"#, 404, "key"),
        ("/key/unblock", r#"{"key": "sk-nobody"}"#, 404, "key"),
        ("/key/generate", r#"{"team_id": "nobody"}"#, 404, "team_id"),
        ("/key/generate", r#"{"organization_id": "nobody"}"#, 404, "organization_id"),
        ("/team/new", r#"{"organization_id": "nobody"}"#, 404, "organization_id"),
        ("/team/new", r#"{"duration": "1d"}"#, 400, "duration"),
        ("/team/new", r#"{"team_member_budget": 5}"#, 400, "team_member_budget"),
        ("/team/update", "{}", 400, "team_id"),
        ("/team/update", r#"{"team_id": "nobody"}"#, 404, "team_id"),
        ("/team/block", r#"{"team_id": "nobody"}"#, 404, "team_id"),
        ("/team/delete", r#"{"team_ids": ["nobody"]}"#, 404, "team_ids"),
        ("/team/delete", r#"{"team_ids": []}"#, 400, "team_ids"),
        ("/organization/new", "{}", 400, "organization_alias"),
        ("/organization/info", r#"{"organizations": ["nobody"]}"#, 404, "organizations"),
        ("/tag/new", "{}", 400, "name"),
        ("/tag/new", r#"{"name": "not ok"}"#, 400, "name"),
        ("/tag/new", r#"{"name": "t", "models": ["gpt-4.1"]}"#, 400, "models"),
        ("/tag/new", r#"{"name": "t", "budget_id": "b"}"#, 400, "budget_id"),
        ("/tag/new", r#"{"name": "t", "organization_id": "nobody"}"#, 404, "organization_id"),
        ("/tag/update", r#"{"name": "nobody"}"#, 404, "name"),
        ("/tag/update", r#"{"name": "t", "spend": 5}"#, 400, "spend"),
        ("/tag/info", "{}", 400, "names"),
        ("/tag/info", r#"{"names": ["nobody"]}"#, 404, "names"),
        ("/tag/delete", r#"{"name": "nobody"}"#, 404, "name"),
        ("/tag/delete", r#"{"name": "t", "force": true}"#, 400, "force"),
        ("/user/new", r#"{"user_role": "king"}"#, 400, "user_role"),
        ("/user/new", r#"{"password": "p"}"#, 400, "password"),
        (
            "/user/new",
            r#"{"teams": [{"team_id": "t", "max_budget_in_team": 1}]}"#,
            400,
            "teams.max_budget_in_team",
        ),
        ("/user/new", r#"{"team_id": "nobody"}"#, 404, "team_id"),
    ];
    for (path, body, status, param) in table {
        let error = api.post(path, body).await.error();
        assert_eq!((error.0, error.2.as_deref()), (status, Some(param)), "{path} {body}: {}", error.3);
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let api = Api::new();
    let table = [
        ("/key/info", 400, "key"),
        ("/key/info?key=sk-nobody", 404, "key"),
        ("/key/list?size=0", 400, "size"),
        ("/key/list?size=101", 400, "size"),
        ("/key/list?size=many", 400, "size"),
        ("/key/list?page=0", 400, "page"),
        ("/key/list?page=-1", 400, "page"),
        ("/key/list?page=18446744073709551615&size=100", 400, "page"),
        ("/key/list?page=1&page=2", 400, "page"),
        ("/key/list?return_full_object=maybe", 400, "return_full_object"),
        ("/key/list?sort_by=spend", 400, "sort_by"),
        ("/key/list?status=deleted", 400, "status"),
        ("/team/info", 400, "team_id"),
        ("/team/info?team_id=nobody", 404, "team_id"),
        ("/organization/info?organization_id=nobody", 404, "organization_id"),
        ("/user/info?user_id=nobody", 404, "user_id"),
        ("/spend/logs?start_date=yesterday", 400, "start_date"),
        ("/spend/logs?start_date=2026-1-5", 400, "start_date"),
        ("/spend/logs?start_date=2026-11-24&end_date=2026-11-23", 400, "end_date"),
        ("/spend/logs?request_id=abc", 400, "request_id"),
        ("/spend/logs?size=1001", 400, "size"),
        ("/spend/logs?summarize=true", 400, "summarize"),
        ("/spend/tags?end_date=2026-02-30", 400, "end_date"),
        ("/spend/tags?team=x", 400, "team"),
        ("/tag/summary?tag_filters=a", 400, "tag_filters"),
        ("/tag/list?start_date=2026-11-24", 400, "start_date"),
        ("/budget/events?after=-1", 400, "after"),
        ("/budget/events?after=x", 400, "after"),
        ("/budget/events?limit=0", 400, "limit"),
        ("/budget/events?limit=1001", 400, "limit"),
    ];
    for (path, status, param) in table {
        let error = api.get(path).await.error();
        assert_eq!((error.0, error.2.as_deref()), (status, Some(param)), "{path}: {}", error.3);
    }
}

#[test]
fn the_reference_names_every_route() {
    let reference = include_str!("../../../../docs/admin-api.md");
    for path in GET_ROUTES.iter().chain(&POST_ROUTES) {
        assert!(reference.contains(&format!("{path}`")), "{path}");
    }
}
