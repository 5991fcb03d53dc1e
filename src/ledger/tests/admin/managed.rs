//! What an operator manages is changed there.

use crate::api::Api;
use serde_json::json;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::KeyDigest;
use tollgate_ledger::store::{
    AccountName, AccountSpec, Credential, DesiredAccount, DesiredCredential, Manager, Operated,
};

fn desired(kind: AccountKind, id: &str, resource: &str) -> DesiredAccount {
    let credential = Credential { digest: KeyDigest::new([7; 32]), name: "sk-...seven".into() };
    let credentials = match kind {
        AccountKind::Key => vec![DesiredCredential { credential, expires_at: None }],
        _ => Vec::new(),
    };
    DesiredAccount {
        name: AccountName { kind, scope: String::new(), id: id.into() },
        manager: Manager { name: "kubernetes".into(), scope: format!("{resource} agents/{id}") },
        adopt: false,
        spec: AccountSpec::default(),
        blocked: None,
        credentials,
    }
}

#[tokio::test]
async fn what_a_custom_resource_manages_is_a_conflict_that_names_it() {
    let api = Api::new();
    let accounts = vec![
        desired(AccountKind::Organization, "o", "Organization"),
        desired(AccountKind::Team, "t", "Team"),
        desired(AccountKind::Key, "k", "VirtualKey"),
        desired(AccountKind::Tag, "g", "Budget"),
    ];
    let applied = api.store.apply(accounts).await.unwrap();
    assert!(applied.iter().all(Result::is_ok), "{applied:?}");
    let key = "07".repeat(32);
    let table = [
        ("/team/update", r#"{"team_id": "t", "max_budget": 5}"#.to_owned(), "Team agents/t"),
        ("/team/delete", r#"{"team_ids": ["t"]}"#.to_owned(), "Team agents/t"),
        ("/key/update", format!(r#"{{"key": "{key}", "max_budget": 5}}"#), "VirtualKey agents/k"),
        ("/key/delete", format!(r#"{{"keys": ["{key}"]}}"#), "VirtualKey agents/k"),
        ("/tag/update", r#"{"name": "g", "max_budget": 5}"#.to_owned(), "Budget agents/g"),
        ("/tag/delete", r#"{"name": "g"}"#.to_owned(), "Budget agents/g"),
    ];
    for (path, body, resource) in table {
        let (status, kind, _, message) = api.post(path, &body).await.error();
        assert_eq!((status, kind.as_str()), (409, "conflict_error"), "{path}: {message}");
        let manager = format!("managed by kubernetes ({resource})");
        assert!(message.contains(&manager), "{path}: {message}");
    }
    // To block it in an emergency is for anybody.
    api.post("/team/block", r#"{"team_id": "t"}"#).await.ok();
    // A name that is taken is answered as LiteLLM does, whoever has it.
    assert_eq!(api.post("/team/new", r#"{"team_id": "t"}"#).await.error().0, 400);
}

#[tokio::test]
async fn a_tag_of_a_namespace_is_shown_and_is_not_the_installations() {
    let api = Api::new();
    api.post("/tag/new", r#"{"name": "g", "max_budget": 1}"#).await.ok();
    let mut of_namespace = desired(AccountKind::Tag, "g", "Tag");
    of_namespace.name.scope = "namespace kubernetes/agents".into();
    api.store.apply(vec![of_namespace]).await.unwrap().remove(0).unwrap();
    let listed = api.get("/tag/list").await.ok();
    let namespaces: Vec<_> = listed.as_array().unwrap().iter().map(|tag| &tag["namespace"]).collect();
    assert_eq!(namespaces, [&json!(null), &json!("kubernetes/agents")]);
    let named = |more: &str| format!(r#"{{"name": "g", "namespace": "kubernetes/agents"{more}}}"#);
    for (path, body) in [("/tag/update", named(r#", "max_budget": 5"#)), ("/tag/delete", named(""))] {
        let (status, _, _, message) = api.post(path, &body).await.error();
        assert_eq!(status, 409, "{path}: {message}");
    }
    let table = [
        (
            r#""namespace": "kubernetes/other""#,
            404,
            "names: tag \"g\" of namespace kubernetes/other does not exist",
        ),
        (r#""namespace": "agents""#, 400, "namespace must be CLUSTER/NAMESPACE, such as kubernetes/payments"),
        (r#""namespace": "a/b", "organization_id": "o""#, 400, "namespace is for a tag of no organization"),
    ];
    for (body, status, why) in table {
        let answer = api.post("/tag/info", &format!(r#"{{"names": ["g"], {body}}}"#)).await.error();
        assert_eq!((answer.0, answer.3.as_str()), (status, why), "{body}");
    }
    api.post("/tag/update", r#"{"name": "g", "max_budget": 2}"#).await.ok();
    let info = async |body: &str| api.post("/tag/info", body).await.ok()["g"]["max_budget"].clone();
    assert_eq!(info(r#"{"names": ["g"]}"#).await, json!(2));
    assert_eq!(info(r#"{"names": ["g"], "namespace": "kubernetes/agents"}"#).await, json!(null));
    api.post("/tag/delete", r#"{"name": "g"}"#).await.ok();
    assert_eq!(api.get("/tag/list").await.ok()[0]["namespace"], json!("kubernetes/agents"));
}
