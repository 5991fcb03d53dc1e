//! What an operator manages is changed there.

use crate::api::Api;
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
