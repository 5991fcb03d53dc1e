use crate::api::Api;
use serde_json::{Value, json};
use tollgate_domain::bounds::Bounds;
use tollgate_domain::catalogue::Provider;
use tollgate_domain::hold::{End, Event, HoldAsk, Outcome, Report, Settlement, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest, ModelName};
use tollgate_domain::key;
use tollgate_domain::price::Modifiers;
use tollgate_domain::usage::Usage;
use tollgate_ledger::store::Store;

pub(crate) const MODEL: &str = "claude-sonnet-4-20250514";

pub(crate) fn ask(id: u8, key: KeyDigest, tags: &[&str]) -> HoldAsk {
    HoldAsk {
        id: HoldId::new([id; 16]),
        key,
        policy_version: Vec::new(),
        model: ModelName::new(MODEL),
        provider: Provider::Anthropic,
        api: tollgate_domain::api::Api::Messages,
        bounds: Bounds { input: 1000, input_per_call: 1000, output: 1000, ..Bounds::default() },
        modifiers: Modifiers::default(),
        fallback_models: Vec::new(),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        session: Some("session-1".into()),
        end_user: None,
        client: Some("claude-cli".into()),
        catalogue_revision: 0,
    }
}

/// Holds money for a request; the first answer is the policy that the ask must name.
pub(crate) async fn hold(api: &Api, mut ask: HoldAsk) -> Verdict {
    let (verdict, _) = api.store.hold(ask.clone(), Vec::new()).await.unwrap();
    let Verdict::Stale(policy, _) = verdict else { return verdict };
    ask.policy_version = policy.version;
    api.store.hold(ask, Vec::new()).await.unwrap().0
}

/// Three input tokens and one of output: 3 x 3,000 + 15,000 nano-dollars.
pub(crate) async fn settle(api: &Api, id: u8, key: KeyDigest) {
    let settlement = Settlement {
        usage: Some(Usage { input: 3, output: 1, ..Usage::default() }),
        estimated: false,
        end: End::Complete,
        model: None,
        modifiers: Modifiers::default(),
        extra: Vec::new(),
        status: 200,
        duration_ms: 1500,
        first_byte_ms: 200,
    };
    let report = Report { hold: HoldId::new([id; 16]), key, sequence: 1, event: Event::Settle(settlement) };
    assert_eq!(api.store.report(vec![report]).await.unwrap(), [Outcome::Applied]);
}

#[tokio::test]
async fn spend_shows_on_every_account_and_under_every_tag() {
    let api = Api::new();
    api.post(
        "/organization/new",
        r#"{"organization_id": "o", "organization_alias": "acme", "budget_duration": "1mo"}"#,
    )
    .await
    .ok();
    api.post("/team/new", r#"{"team_id": "t", "organization_id": "o", "max_budget": 10}"#).await.ok();
    let body = r#"{"team_id": "t", "user_id": "ada", "max_budget": 5, "budget_duration": "1mo",
        "budget_limits": [{"budget_duration": "1d", "max_budget": 1}]}"#;
    let secret = api.key(body).await;
    let key = key::digest(secret.as_bytes());
    let tags = ["project:payments-refactor", "team:backend"];
    let Verdict::Held { amount, .. } = hold(&api, ask(1, key, &tags)).await else { panic!("not held") };

    let info = api.info(&secret).await;
    assert_eq!((info["spend"].to_string(), info["pending"].to_string()), ("0".into(), amount.to_string()));
    assert_eq!(info["budget_limits"][0]["pending"], info["pending"]);
    settle(&api, 1, key).await;

    let spent = 0.000_024;
    let info = api.info(&secret).await;
    assert_eq!((&info["spend"], &info["pending"]), (&json!(spent), &json!(0)));
    assert_eq!(info["budget_limits"][0]["spend"], json!(spent));
    assert!(info["last_active"].is_string());
    for (path, pointer) in [
        ("/team/info?team_id=t", "/team_info/spend"),
        ("/organization/info?organization_id=o", "/spend"),
        ("/user/info?user_id=ada", "/user_info/spend"),
    ] {
        let info = api.get(path).await;
        assert!(info.text.contains(r#""spend":0.000024,"#), "{path}: {}", info.text);
        assert_eq!(info.json().pointer(pointer), Some(&json!(spent)), "{path}");
    }
    let mut rows = api.get("/spend/tags").await.ok();
    rows.as_array_mut().unwrap().sort_by_key(|row| row["individual_request_tag"].to_string());
    let row = |tag: &str| json!({"individual_request_tag": tag, "log_count": 1, "total_spend": spent});
    assert_eq!(rows, json!(tags.map(row)));
}

#[tokio::test]
async fn logs_have_a_row_for_each_request() {
    let api = Api::new();
    api.post("/team/new", r#"{"team_id": "t"}"#).await.ok();
    let (in_team, alone) = (api.key(r#"{"team_id": "t", "user_id": "ada"}"#).await, api.key("{}").await);
    let digests = [&in_team, &alone].map(|secret| key::digest(secret.as_bytes()));
    for (id, digest) in [(1, digests[0]), (2, digests[1])] {
        assert!(matches!(hold(&api, ask(id, digest, &["a"])).await, Verdict::Held { .. }));
        settle(&api, id, digest).await;
    }
    let rows = async |query: &str| match api.get(&format!("/spend/logs{query}")).await.ok() {
        Value::Array(rows) => rows,
        other => panic!("no list: {other}"),
    };
    let all = rows("").await;
    assert_eq!(all.len(), 2);
    let row = all.iter().find(|row| row["team_id"] == "t").unwrap();
    let expected = json!({
        "request_id": "01".repeat(16), "call_type": "anthropic_messages", "api_key": digests[0].to_string(),
        "spend": 0.000_024, "prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "model": MODEL,
        "custom_llm_provider": "anthropic", "user": "ada", "team_id": "t", "end_user": null, "request_tags": ["a"],
        "session_id": "session-1", "status": "success", "state": "settled", "cache_hit": "False",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&row[name], value, "{name}");
    }
    assert_eq!(
        (&row["metadata"]["client"], &row["metadata"]["end"]),
        (&json!("claude-cli"), &json!("complete"))
    );
    assert_eq!(row["metadata"]["usage"]["input"], json!(3));
    let today = &row["startTime"].as_str().unwrap()[..10];
    let table = [
        (format!("?api_key={in_team}"), 1),
        (format!("?api_key={}", digests[1]), 1),
        ("?user_id=ada".into(), 1),
        ("?team_id=t".into(), 1),
        ("?team_id=nobody".into(), 0),
        (format!("?request_id={}", "02".repeat(16)), 1),
        (format!("?request_id={}", "03".repeat(16)), 0),
        (format!("?start_date={today}&end_date={today}&summarize=false"), 2),
        ("?end_date=2020-01-01".into(), 0),
        ("?start_date=2999-01-01".into(), 0),
        ("?size=1".into(), 1),
        ("?size=1&page=2".into(), 1),
        ("?size=1&page=3".into(), 0),
    ];
    for (query, count) in table {
        assert_eq!(rows(&query).await.len(), count, "{query}");
    }
    assert_eq!(api.get("/spend/tags?end_date=2020-01-01").await.ok(), json!([]));
}

#[tokio::test]
async fn an_ended_request_can_be_corrected() {
    let api = Api::new();
    let secret = api.key(r#"{"max_budget": 5}"#).await;
    let digest = key::digest(secret.as_bytes());
    hold(&api, ask(1, digest, &[])).await;
    let id = HoldId::new([1; 16]).to_string();
    let correction = |spend: &str| format!(r#"{{"request_id": "{id}", "spend": {spend}}}"#);
    let open = api.post("/spend/correct", &correction("0")).await.error();
    assert_eq!(open.0, 400, "{}", open.3);
    settle(&api, 1, digest).await;
    let corrected = api.post("/spend/correct", &correction("0.000000007")).await;
    let told = r#""spend_before":0.000024,"spend":0.000000007,"changed":true"#;
    assert!(corrected.text.contains(told), "{}", corrected.text);
    let again = api.post("/spend/correct", &correction("0.000000007")).await;
    let told = r#""spend_before":0.000000007,"spend":0.000000007,"changed":false"#;
    assert!(again.text.contains(told), "{}", again.text);
    assert_eq!(api.info(&secret).await["spend"], json!(7e-9));
    for (body, param) in [
        (r#"{"spend": 1}"#.to_owned(), "request_id"),
        (r#"{"request_id": "x", "spend": 1}"#.to_owned(), "request_id"),
        (correction("-1"), "spend"),
        (r#"{"request_id": "00", "spend": 1, "why": ""}"#.to_owned(), "request_id"),
    ] {
        let error = api.post("/spend/correct", &body).await.error();
        assert_eq!((error.0, error.2.as_deref()), (400, Some(param)), "{body}");
    }
    let unknown = format!(r#"{{"request_id": "{}", "spend": 1}}"#, "ab".repeat(16));
    assert_eq!(api.post("/spend/correct", &unknown).await.error().0, 404);
}
