use crate::api::Api;
use axum::http::Method;
use serde_json::{Value, json};

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

#[tokio::test]
async fn a_team_is_made_changed_blocked_and_deleted_with_its_keys() {
    let api = Api::new();
    let body = r#"{"team_alias": "engineering", "max_budget": 5000, "budget_duration": "1mo", "models": ["claude-*"],
        "tags": ["team:backend"], "members_with_roles": [{"role": "admin", "user_id": "ada"}], "metadata": {"cost_centre": 7}}"#;
    let team = api.post("/team/new", body).await.ok();
    let id = text(&team["team_id"]);
    assert_eq!(team["members_with_roles"], json!([{"role": "admin", "user_id": "ada"}]));
    assert_eq!(team["metadata"], json!({"cost_centre": 7, "tags": ["team:backend"]}));
    assert_eq!((&team["admins"], &team["members"]), (&json!([]), &json!([])));
    assert_eq!(api.post("/team/new", &json!({ "team_id": id }).to_string()).await.error().0, 400);
    let key = api.key(&json!({ "team_id": id }).to_string()).await;

    let info = api.get(&format!("/team/info?team_id={id}")).await.ok();
    assert_eq!((&info["team_id"], &info["team_info"]["team_alias"]), (&json!(id), &json!("engineering")));
    assert_eq!((info["keys"].as_array().unwrap().len(), &info["team_memberships"]), (1, &json!([])));
    assert_eq!(info["keys"][0]["team_id"], json!(id));

    let update = json!({"team_id": id, "max_budget": 6000.5}).to_string();
    let updated = api.post("/team/update", &update).await;
    assert!(updated.text.contains(r#""max_budget":6000.5,"#), "{}", updated.text);
    let updated = updated.ok();
    assert_eq!((&updated["team_id"], &updated["data"]["budget_duration"]), (&json!(id), &json!("1mo")));
    assert_eq!(updated["data"]["members_with_roles"], team["members_with_roles"]);

    for (path, blocked) in [("/team/block", true), ("/team/unblock", false)] {
        let answer = api.post(path, &json!({ "team_id": id }).to_string()).await.ok();
        assert_eq!(answer["blocked"], json!(blocked));
    }
    let deleted = api.post("/team/delete", &json!({"team_ids": [id]}).to_string()).await.ok();
    assert_eq!(deleted, json!({"deleted_teams": [id]}));
    assert_eq!(api.get(&format!("/key/info?key={key}")).await.status, 404);
    assert_eq!(api.get("/team/list").await.ok(), json!([]));
}

#[tokio::test]
async fn an_organization_has_teams_and_keys_through_them() {
    let api = Api::new();
    let body = r#"{"organization_alias": "acme", "max_budget": 0.000000001, "budget_duration": "1mo", "soft_budget": 1}"#;
    let made = api.post("/organization/new", body).await;
    assert_eq!(made.text.matches(r#""max_budget":0.000000001,"#).count(), 2, "{}", made.text);
    let organization = made.ok();
    let id = text(&organization["organization_id"]);
    assert_eq!(organization["litellm_budget_table"]["budget_duration"], json!("1mo"));
    let other = api
        .post("/organization/new", r#"{"organization_id": "other", "organization_alias": "o"}"#)
        .await
        .ok();
    assert_eq!(other["organization_id"], json!("other"));

    let team = json!({"team_id": "t", "team_alias": "x", "organization_id": id}).to_string();
    api.post("/team/new", &team).await.ok();
    let info = api.get(&format!("/organization/info?organization_id={id}")).await.ok();
    assert_eq!((&info["organization_alias"], &info["teams"][0]["team_id"]), (&json!("acme"), &json!("t")));
    let older =
        api.post("/organization/info", &json!({"organizations": [id, "other"]}).to_string()).await.ok();
    assert_eq!((older.as_array().unwrap().len(), &older[0]), (2, &info));
    assert_eq!(api.get("/organization/list").await.ok().as_array().unwrap().len(), 2);
    let teams = async |organization: &str| {
        let teams = api.get(&format!("/team/list?organization_id={organization}")).await.ok();
        teams.as_array().unwrap().len()
    };
    assert_eq!((teams(&id).await, teams("other").await), (1, 0));

    let key = api.post("/key/generate", r#"{"team_id": "t"}"#).await.ok();
    assert_eq!(key["organization_id"], json!(id), "the team's organization counts");
    let foreign = r#"{"team_id": "t", "organization_id": "other", "user_id": "nobody"}"#;
    let moved = json!({"key": key["token"], "organization_id": "other"}).to_string();
    let lone = api.post("/key/generate", r#"{"organization_id": "other"}"#).await.ok();
    let joins = json!({"key": lone["token"], "team_id": "t"}).to_string();
    for (path, body) in [("/key/generate", foreign), ("/key/update", &moved), ("/key/update", &joins)] {
        let refused = api.post(path, body).await.error();
        assert_eq!((refused.0, refused.2.as_deref()), (400, Some("organization_id")), "{path} {body}");
        let names = [format!("organization {id},"), "not to other".to_owned()];
        assert!(names.iter().all(|name| refused.3.contains(name)), "{}", refused.3);
    }
    assert_eq!(api.get("/user/info?user_id=nobody").await.status, 404, "nothing was made for it");

    // Told which, a key changes from the one to the other.
    let joins = json!({"key": lone["token"], "team_id": "t", "organization_id": null}).to_string();
    assert_eq!(api.post("/key/update", &joins).await.ok()["organization_id"], json!(id));
    let named = json!({"team_id": "t", "organization_id": id}).to_string();
    let named = api.post("/key/generate", &named).await.ok();

    // Its team moves, and all of its keys with it.
    api.post("/team/update", r#"{"team_id": "t", "organization_id": "other"}"#).await.ok();
    for key in [&key, &lone, &named] {
        assert_eq!(api.info(&text(&key["key"])).await["organization_id"], json!("other"));
    }
    let keys = async |organization: &str| {
        let list = api.get(&format!("/key/list?organization_id={organization}")).await.ok();
        list["total_count"].as_u64().unwrap()
    };
    assert_eq!((keys(&id).await, keys("other").await), (0, 3));
}

#[tokio::test]
async fn a_user_comes_with_a_key_unless_told_otherwise() {
    let api = Api::new();
    let body = r#"{"user_id": "ada", "user_email": "ada@example.com", "user_alias": "Ada", "user_role": "internal_user",
        "max_budget": 25, "budget_duration": "1mo", "key_alias": "adas-key", "duration": "30d"}"#;
    let made = api.post("/user/new", body).await.ok();
    let key = text(&made["key"]);
    let expected = json!({
        "user_id": "ada", "user_email": "ada@example.com", "user_alias": "Ada", "user_role": "internal_user", "teams": [],
        "max_budget": 25, "key_alias": "adas-key", "metadata": {},
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    let own = api.call(Method::GET, "/key/info", Some(&key), "").await.ok();
    let (user, budget) = (&own["info"]["user_id"], &own["info"]["max_budget"]);
    assert_eq!((user, budget), (&json!("ada"), &Value::Null), "the budget is the user's");
    assert!(own["info"]["expires"].is_string());

    let alone = api.post("/user/new", r#"{"user_id": "bob", "auto_create_key": false}"#).await.ok();
    assert_eq!((&alone["user_id"], alone.get("key")), (&json!("bob"), None));
    assert_eq!(api.post("/user/new", r#"{"user_id": "bob"}"#).await.error().0, 400);

    api.post("/team/new", r#"{"team_id": "t"}"#).await.ok();
    api.key(r#"{"user_id": "ada", "team_id": "t"}"#).await;
    let info = api.get("/user/info?user_id=ada").await.ok();
    assert_eq!(
        (&info["user_id"], &info["user_info"]["user_email"]),
        (&json!("ada"), &json!("ada@example.com"))
    );
    assert_eq!(info["keys"].as_array().unwrap().len(), 2);
    assert_eq!(info["teams"][0]["team_id"], json!("t"));
}

#[tokio::test]
async fn a_user_without_its_key_is_not_left_behind() {
    let api = Api::new();
    api.key(r#"{"key_alias": "taken"}"#).await;
    assert_eq!(api.post("/user/new", r#"{"user_id": "ada", "key_alias": "taken"}"#).await.error().0, 400);
    assert_eq!(api.get("/user/info?user_id=ada").await.status, 404);
    api.post("/user/new", r#"{"user_id": "ada", "key_alias": "free"}"#).await.ok();
}

#[tokio::test]
async fn a_key_of_an_unknown_user_makes_the_user() {
    let api = Api::new();
    for _ in 0..2 {
        api.key(r#"{"user_id": "grace"}"#).await;
    }
    let info = api.get("/user/info?user_id=grace").await.ok();
    assert_eq!(info["keys"].as_array().unwrap().len(), 2);
    assert_eq!(info["user_info"]["max_budget"], Value::Null);
}

#[tokio::test]
async fn the_master_key_sees_every_model() {
    let api = Api::new();
    for path in ["/v1/models", "/models"] {
        let list = api.get(path).await.ok();
        let models = list["data"].as_array().unwrap();
        assert!(models.iter().any(|model| model["id"] == "claude-sonnet-4-20250514"), "{path}");
        assert!(models.iter().all(|model| model["object"] == "model"));
    }
}
