use crate::api::Api;
use crate::spend::{ask, hold, settle};
use serde_json::{Value, json};
use tollgate_domain::hold::Verdict;
use tollgate_domain::key;

#[tokio::test]
async fn a_tag_is_made_changed_shown_and_deleted() {
    let api = Api::new();
    let body = r#"{"name": "project:atlas", "description": "the atlas", "max_budget": 5, "budget_duration": "1mo", "rpm_limit": 7}"#;
    let made = api.post("/tag/new", body).await.ok();
    assert_eq!(made["message"], json!("Tag project:atlas created successfully"));
    let tag = &made["tag"];
    assert_eq!((&tag["name"], &tag["description"]), (&json!("project:atlas"), &json!("the atlas")));
    assert_eq!((&tag["models"], &tag["model_info"], &tag["metadata"]), (&json!([]), &json!({}), &json!({})));
    let table = &tag["litellm_budget_table"];
    assert_eq!((&table["max_budget"], &table["rpm_limit"]), (&json!(5), &json!(7)));
    assert_eq!(api.post("/tag/new", body).await.error().0, 400);

    let update = r#"{"name": "project:atlas", "max_budget": 6.5, "description": null}"#;
    let updated = api.post("/tag/update", update).await.ok();
    assert_eq!(updated["message"], json!("Tag project:atlas updated successfully"));
    assert_eq!((&updated["tag"]["max_budget"], &updated["tag"]["description"]), (&json!(6.5), &Value::Null));
    assert_eq!(updated["tag"]["budget_duration"], json!("1mo"));

    let info = api.post("/tag/info", r#"{"names": ["project:atlas"]}"#).await.ok();
    assert_eq!(info["project:atlas"]["max_budget"], json!(6.5));
    assert_eq!(api.get("/tag/list").await.ok()[0]["name"], json!("project:atlas"));
    let deleted = api.post("/tag/delete", r#"{"name": "project:atlas"}"#).await.ok();
    assert_eq!(deleted, json!({"message": "Tag project:atlas deleted successfully"}));
    assert_eq!(api.get("/tag/list").await.ok(), json!([]));
}

#[tokio::test]
async fn each_organization_has_its_own() {
    let api = Api::new();
    api.post("/organization/new", r#"{"organization_id": "o", "organization_alias": "o"}"#).await.ok();
    api.post("/tag/new", r#"{"name": "t", "max_budget": 1}"#).await.ok();
    api.post("/tag/new", r#"{"name": "t", "organization_id": "o", "max_budget": 2}"#).await.ok();
    let max_budget = async |body: &str| api.post("/tag/info", body).await.ok()["t"]["max_budget"].clone();
    assert_eq!(max_budget(r#"{"names": ["t"]}"#).await, json!(1));
    assert_eq!(max_budget(r#"{"names": ["t"], "organization_id": "o"}"#).await, json!(2));
    api.post("/tag/update", r#"{"name": "t", "organization_id": "o", "max_budget": 3}"#).await.ok();
    assert_eq!(max_budget(r#"{"names": ["t"]}"#).await, json!(1));
    let listed = api.get("/tag/list?organization_id=o").await.ok();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["organization_id"]), (1, &json!("o")));
    api.post("/tag/delete", r#"{"name": "t", "organization_id": "o"}"#).await.ok();
    assert_eq!(api.get("/tag/list").await.ok().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_spent_tag_refuses_pinned_tags_and_those_of_clients_that_bind() {
    let api = Api::new();
    api.post("/tag/new", r#"{"name": "t", "max_budget": 0}"#).await.ok();
    let verdict = async |id: u8, body: &str, tags: &[&str]| {
        let secret = api.key(body).await;
        hold(&api, ask(id, key::digest(secret.as_bytes()), tags)).await
    };
    assert!(matches!(verdict(1, "{}", &["t"]).await, Verdict::Held { .. }));
    assert!(matches!(verdict(2, r#"{"tags": ["t"]}"#, &[]).await, Verdict::Denied(_)));
    assert!(matches!(verdict(3, r#"{"client_tags_bind": true}"#, &["t"]).await, Verdict::Denied(_)));
}

#[tokio::test]
async fn a_summary_counts_requests_under_each_tag() {
    let api = Api::new();
    let secret = api.key("{}").await;
    let digest = key::digest(secret.as_bytes());
    hold(&api, ask(1, digest, &["a", "b"])).await;
    settle(&api, 1, digest).await;
    let summary = async |query: &str| api.get(&format!("/tag/summary{query}")).await.ok()["results"].clone();
    let row = |tag: &str| {
        json!({
            "tag": tag, "total_requests": 1, "total_spend": 0.000_024, "total_tokens": null, "unique_users": null,
            "successful_requests": null, "failed_requests": null,
        })
    };
    assert_eq!(summary("").await, json!([row("a"), row("b")]));
    assert_eq!(summary("?tag_filter=b&start_date=2020-01-01").await, json!([row("b")]));
    assert_eq!(summary("?end_date=2020-01-01").await, json!([]));
}
