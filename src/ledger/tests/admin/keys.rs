use crate::api::{Api, MASTER};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use tollgate_domain::key;
use tollgate_domain::time::Timestamp;
use tollgate_ledger::store::{AccountChange, AccountRef, Store};

/// Long and random enough to be brought along.
const OWN: &str = "sk-9fQ2mVx7LrT4bKzWc8HdYp3NsJg6RuEa";

fn hash(key: &str) -> String {
    key::digest(key.as_bytes()).to_string()
}

#[tokio::test]
async fn the_tutorial_makes_a_team_and_a_key_in_it() {
    let api = Api::new();
    let team = r#"{"team_alias": "engineering", "max_budget": 5000, "budget_duration": "1mo"}"#;
    let team = api.post("/team/new", team).await;
    assert!(team.text.contains(r#""max_budget":5000,"#), "{}", team.text);
    let team_id = team.ok()["team_id"].as_str().unwrap().to_owned();
    let body =
        json!({"team_id": team_id, "key_alias": "dev-key", "max_budget": 100, "budget_duration": "1mo"});
    let made = api.post("/key/generate", &body.to_string()).await.ok();
    let key = made["key"].as_str().unwrap();
    assert!(key::is_well_formed(key));
    assert_eq!(made["token"], json!(hash(key)));
    assert_eq!(made["token_id"], made["token"]);
    assert_eq!(made["key_name"], json!(format!("sk-...{}", &key[key.len() - 4..])));
    let expected = json!({
        "team_id": team_id, "key_alias": "dev-key", "max_budget": 100, "budget_duration": "1mo", "spend": 0, "pending": 0,
        "user_id": null, "organization_id": null, "expires": null, "models": [], "tags": [], "forbidden_extras": [], "required_tags": [], "observe": false, "metadata": {}, "blocked": false,
        "rpm_limit": null, "tpm_limit": null, "soft_budget": null, "budget_limits": [], "created_by": "default_user_id",
        "last_active": null,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    assert!(made["budget_reset_at"].as_str().unwrap().ends_with("-01T00:00:00Z"), "{made}");
    assert!(made["created_at"].is_string() && made["created_at"] == made["updated_at"]);
    assert_eq!(made.get("warnings"), None);
}

#[tokio::test]
async fn rates_change_without_warnings() {
    let api = Api::new();
    let body =
        r#"{"models": ["claude-sonnet-4-20250514", "gpt-4.1-mini"], "tpm_limit": 1000000, "rpm_limit": 100}"#;
    let made = api.post("/key/generate", body).await.ok();
    assert_eq!(made["warnings"], Value::Null);
    let info = api.info(made["key"].as_str().unwrap()).await;
    assert_eq!((&info["tpm_limit"], &info["rpm_limit"]), (&json!(1_000_000), &json!(100)));
    assert_eq!(info["models"], json!(["claude-sonnet-4-20250514", "gpt-4.1-mini"]));
    let body = json!({"key": made["token"], "rpm_limit": 5, "tpm_limit": null}).to_string();
    let updated = api.post("/key/update", &body).await.ok();
    assert_eq!((&updated["rpm_limit"], &updated["tpm_limit"]), (&json!(5), &Value::Null));
}

#[tokio::test]
async fn amounts_come_back_digit_for_digit() {
    let api = Api::new();
    let table = [
        ("0.000000001", "0.000000001"),
        ("9007199254.740993001", "9007199254.740993001"),
        ("0.1", "0.1"),
        ("100.10", "100.1"),
        ("5e3", "5000"),
        ("\"5000\"", "5000"),
        ("5000.0", "5000"),
        ("0", "0"),
    ];
    for (sent, shown) in table {
        let body = format!(
            r#"{{"max_budget": {sent}, "soft_budget": {sent}, "budget_limits": [{{"budget_duration": "1d", "max_budget": {sent}}}]}}"#
        );
        let made = api.post("/key/generate", &body).await;
        let answers =
            [api.get(&format!("/key/info?key={}", made.json()["token"].as_str().unwrap())).await, made];
        for answer in answers {
            assert_eq!(
                answer.text.matches(&format!(r#""max_budget":{shown},"#)).count(),
                2,
                "{sent}: {}",
                answer.text
            );
            assert!(answer.text.contains(&format!(r#""soft_budget":{shown},"#)), "{sent}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn several_limits_hold_at_once() {
    let api = Api::new();
    let body = r#"{"max_budget": 100, "budget_duration": "1mo",
        "budget_limits": [{"budget_duration": "24h", "max_budget": 10}, {"budget_duration": "30m", "max_budget": 1.5}]}"#;
    let info = api.info(&api.key(body).await).await;
    let limits = info["budget_limits"].as_array().unwrap();
    let shown: Vec<_> =
        limits.iter().map(|limit| (&limit["budget_duration"], limit["max_budget"].to_string())).collect();
    assert_eq!(shown, [(&json!("24h"), "10".to_owned()), (&json!("30m"), "1.5".to_owned())]);
    for limit in limits {
        assert_eq!((&limit["spend"], &limit["pending"]), (&json!(0), &json!(0)));
        assert!(limit["reset_at"].as_str().unwrap().ends_with('Z'));
    }
    let duration_alone = api.info(&api.key(r#"{"budget_duration": "1w"}"#).await).await;
    assert_eq!(
        (&duration_alone["max_budget"], &duration_alone["budget_duration"]),
        (&Value::Null, &json!("1w"))
    );
    assert!(duration_alone["budget_reset_at"].is_string());
}

#[tokio::test]
async fn an_own_key_is_taken_once_and_never_shown_again() {
    let api = Api::new();
    let body = json!({"key": OWN, "key_alias": "moved"}).to_string();
    let made = api.post("/key/generate", &body).await.ok();
    assert_eq!((&made["key"], &made["token"]), (&json!(OWN), &json!(hash(OWN))));
    assert_eq!(api.post("/key/generate", &body).await.status, 400);
    let token = hash(OWN);
    let (by_key, by_hash) = (json!({"key": OWN}).to_string(), json!({"key": token}).to_string());
    let answers = [
        api.get(&format!("/key/info?key={OWN}")).await,
        api.get(&format!("/key/info?key={token}")).await,
        api.call(Method::GET, "/key/info", Some(OWN), "").await,
        api.post("/key/update", &by_key).await,
        api.post("/key/block", &by_hash).await,
        api.post("/key/unblock", &by_key).await,
        api.get("/key/list?return_full_object=true").await,
        api.post("/key/delete", &json!({"keys": [OWN]}).to_string()).await,
        api.post("/key/block", &by_key).await,
    ];
    for answer in &answers {
        assert!(!answer.text.contains(OWN) && !answer.text.contains(MASTER), "{}", answer.text);
    }
    assert!(answers[..8].iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(answers[7].json(), json!({"deleted_keys": [token]}));
    assert_eq!(answers[8].error().0, 404);
}

#[tokio::test]
async fn a_key_reads_about_itself_only() {
    let api = Api::new();
    let (own, other) = (api.key(r#"{"key_alias": "own"}"#).await, api.key("{}").await);
    let get = async |path: String, key: &str| api.call(Method::GET, &path, Some(key), "").await;
    for path in
        ["/key/info".to_owned(), format!("/key/info?key={own}"), format!("/key/info?key={}", hash(&own))]
    {
        assert_eq!(get(path, &own).await.ok()["info"]["key_alias"], json!("own"));
    }
    let by_header = Request::get("/key/info").header("x-api-key", &own).body(Body::empty()).unwrap();
    assert_eq!(api.send(by_header).await.status, 200);
    for path in [format!("/key/info?key={other}"), "/key/info?key=sk-nobody".to_owned()] {
        let (status, kind, _, message) = get(path, &own).await.error();
        assert_eq!((status, kind.as_str()), (403, "auth_error"));
        assert_eq!(message, "A virtual key may read about itself only.");
    }
    for path in ["/key/list", "/team/list", "/spend/logs", "/spend/tags", "/v1/models"] {
        assert_eq!(get(path.to_owned(), &own).await.status, 401, "{path}");
    }
    api.post("/key/block", &json!({ "key": own }).to_string()).await.ok();
    assert_eq!(get("/key/info".to_owned(), &own).await.error().1, "auth_error");
    api.post("/key/delete", &json!({"keys": [own]}).to_string()).await.ok();
    assert_eq!(get("/key/info".to_owned(), &own).await.error().1, "token_not_found_in_db");
}

#[tokio::test]
async fn an_update_leaves_what_it_does_not_name() {
    let api = Api::new();
    let body = r#"{"key_alias": "a", "max_budget": 100, "budget_duration": "1mo", "models": ["gpt-4.1"], "metadata": {"x": 1},
        "tags": ["team:backend"], "agent_id": "g"}"#;
    let key = api.key(body).await;
    let before = api.info(&key).await;
    let update = async |fields: Value| {
        let mut body = json!({ "key": key });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        api.post("/key/update", &body.to_string()).await.ok()
    };
    let answer = update(json!({})).await;
    assert_eq!(answer["key"], json!(hash(&key)));
    for name in ["key_alias", "max_budget", "budget_duration", "models", "metadata", "tags", "blocked"] {
        assert_eq!(answer[name], before[name], "{name}");
    }
    assert_eq!(update(json!({"max_budget": 200})).await["budget_duration"], json!("1mo"));
    assert_eq!(update(json!({"budget_duration": "1d"})).await["max_budget"].to_string(), "200");
    assert_eq!(update(json!({"max_budget": null})).await["max_budget"], Value::Null);
    assert_eq!(api.info(&key).await["budget_duration"], json!("1d"));
    assert_eq!(update(json!({"key_alias": null})).await["key_alias"], Value::Null);
    assert_eq!(update(json!({"models": []})).await["models"], json!([]));
    let metadata = json!({"y": 2, "tags": ["team:backend"]});
    assert_eq!(update(json!({"metadata": {"y": 2}})).await["metadata"], metadata);
    let expires = update(json!({"duration": "30d"})).await["expires"].clone();
    assert!(expires.as_str().unwrap().ends_with('Z'));
    assert_eq!(update(json!({"duration": "-1"})).await["expires"], Value::Null);
    assert_eq!(update(json!({"blocked": true})).await["blocked"], json!(true));
    api.key(r#"{"key_alias": "b"}"#).await;
    let by_alias = api.post("/key/update", r#"{"key_alias": "b", "max_budget": 7}"#).await.ok();
    assert_eq!((&by_alias["key_alias"], by_alias["max_budget"].to_string()), (&json!("b"), "7".to_owned()));
}

#[tokio::test]
async fn keys_are_blocked_and_deleted() {
    let api = Api::new();
    let key = api.key(r#"{"key_alias": "a"}"#).await;
    for (path, blocked) in [("/key/block", true), ("/key/block", true), ("/key/unblock", false)] {
        let answer = api.post(path, &json!({ "key": key }).to_string()).await.ok();
        assert_eq!((&answer["blocked"], &answer["token"]), (&json!(blocked), &json!(hash(&key))));
        assert_eq!(api.info(&key).await["blocked"], json!(blocked));
    }
    let missing = json!({"keys": [key, "sk-nobody"]}).to_string();
    assert_eq!(api.post("/key/delete", &missing).await.status, 404);
    api.info(&key).await;
    assert_eq!(
        api.post("/key/delete", r#"{"key_aliases": ["a"]}"#).await.ok(),
        json!({"deleted_keys": ["a"]})
    );
    assert_eq!(api.get(&format!("/key/info?key={key}")).await.error().0, 404);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let api = Api::new();
    let team = api.post("/team/new", r#"{"team_id": "t"}"#).await.ok();
    assert_eq!(team["team_id"], json!("t"));
    let mut hashes = Vec::new();
    for n in 0..5 {
        let owner = if n < 2 { json!({"team_id": "t"}) } else { json!({"user_id": "u"}) };
        hashes.push(hash(&api.key(&owner.to_string()).await));
    }
    let page = async |query: &str| api.get(&format!("/key/list?{query}")).await.ok();
    let all = json!({"keys": hashes, "total_count": 5, "current_page": 1, "total_pages": 1});
    assert_eq!(page("").await, all);
    assert_eq!(page("team_id=&sort_by=created_at&sort_order=asc").await, all);
    let second = json!({"keys": hashes[2..4], "total_count": 5, "current_page": 2, "total_pages": 3});
    assert_eq!(page("page=2&size=2").await, second);
    assert_eq!(page("page=4&size=2").await["keys"], json!([]));
    assert_eq!(page("team_id=t").await["keys"], json!(hashes[..2]));
    assert_eq!(page("user_id=u").await["total_count"], json!(3));
    assert_eq!(page("team_id=nobody").await["total_count"], json!(0));
    assert_eq!(page(&format!("key_hash={}", hashes[3])).await["keys"], json!(hashes[3..4]));
    let whole = page("return_full_object=true&size=1").await;
    assert_eq!((&whole["keys"][0]["token"], &whole["keys"][0]["team_id"]), (&json!(hashes[0]), &json!("t")));
    assert_eq!(whole["total_pages"], json!(5));
}

#[tokio::test]
async fn two_updates_at_once_lose_nothing() {
    let api = Api::new();
    let key = api.key(r#"{"max_budget": 1, "budget_duration": "1mo"}"#).await;
    for round in 2..22 {
        let day = json!([{"budget_duration": "1d", "max_budget": round}]);
        let update = async |fields: Value| {
            let mut body = json!({ "key": key });
            body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            api.post("/key/update", &body.to_string()).await.status
        };
        let answers = tokio::join!(
            update(json!({"max_budget": round})),
            update(json!({ "budget_limits": day })),
            update(json!({"note": round})),
        );
        assert_eq!(answers, (200, 200, 200));
        let info = api.info(&key).await;
        assert_eq!((&info["max_budget"], &info["metadata"]["note"]), (&json!(round), &json!(round)));
        assert_eq!(info["budget_limits"][0]["max_budget"], json!(round));
    }
}

#[tokio::test]
async fn an_expired_key_reads_nothing() {
    let api = Api::new();
    let key = api.key(r#"{"duration": "1h"}"#).await;
    assert_eq!(api.call(Method::GET, "/key/info", Some(&key), "").await.status, 200);
    let change = AccountChange { expires_at: Some(Some(Timestamp::new(0))), ..AccountChange::default() };
    api.store.update(AccountRef::Key(key::digest(key.as_bytes())), change).await.unwrap();
    let (status, kind, ..) = api.call(Method::GET, "/key/info", Some(&key), "").await.error();
    assert_eq!((status, kind.as_str()), (401, "expired_key"));
    assert_eq!(api.info(&key).await["expires"], json!("1970-01-01T00:00:00Z"));
}

#[tokio::test]
async fn extras_tags_and_observation_are_kept_shown_and_changed() {
    let api = Api::new();
    let body = r#"{"max_budget": 1, "observe": true, "forbidden_extras": ["fast_mode", "long_context"],
        "required_tags": ["project"], "budget_limits": [{"budget_duration": "1d", "max_budget": 2, "observe": true}]}"#;
    let made = api.post("/key/generate", body).await.ok();
    let shown = |key: &serde_json::Value| {
        let names = ["observe", "forbidden_extras", "required_tags"];
        names.map(|name| key[name].clone())
    };
    let expected = [json!(true), json!(["fast_mode", "long_context"]), json!(["project"])];
    assert_eq!(shown(&made), expected);
    assert_eq!(made["budget_limits"][0]["observe"], true);
    let update = json!({"key": made["token"], "observe": false, "required_tags": []}).to_string();
    api.post("/key/update", &update).await.ok();
    let info = api.info(made["token"].as_str().unwrap()).await;
    assert_eq!(shown(&info), [json!(false), json!(["fast_mode", "long_context"]), json!([])]);
    assert_eq!(info["max_budget"], 1);
}
