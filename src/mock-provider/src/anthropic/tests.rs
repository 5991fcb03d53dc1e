use crate::check::Keys;
use crate::serve::tests::{ask, ask_with};
use serde_json::{Value, json};

const PATH: &str = "/v1/messages";
const HEADERS: [(&str, &str); 2] = [("x-api-key", "k"), ("anthropic-version", "2023-06-01")];
const VERSION: [(&str, &str); 1] = [("anthropic-version", "2023-06-01")];
const BODY: &str =
    r#"{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"hello there"}]}"#;

fn with(extra: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&HEADERS, extra].concat()
}

fn streaming(body: &str) -> String {
    body.replacen('{', "{\"stream\":true,", 1)
}

#[test]
fn refuses_what_anthropic_refuses() {
    let body = |members: &str| format!("{{\"model\":\"claude-x\",\"messages\":[]{members}}}");
    type Headers = &'static [(&'static str, &'static str)];
    let table: [(Headers, String, u16, &str); 14] = [
        (&VERSION, body(",\"max_tokens\":1"), 401, "x-api-key header is required"),
        (&[("x-api-key", ""), VERSION[0]], body(",\"max_tokens\":1"), 401, "x-api-key header is required"),
        (&[("x-api-key", "sk-tg-abc"), VERSION[0]], body(",\"max_tokens\":1"), 401, "invalid x-api-key"),
        (
            &[("authorization", "Bearer sk-tg-a"), VERSION[0]],
            body(",\"max_tokens\":1"),
            401,
            "invalid x-api-key",
        ),
        (
            &[("x-api-key", "k"), ("authorization", "Bearer sk-tg-a"), VERSION[0]],
            body(",\"max_tokens\":1"),
            401,
            "invalid x-api-key",
        ),
        (&[("x-api-key", "k")], body(",\"max_tokens\":1"), 400, "anthropic-version: header is required"),
        (
            &[("x-api-key", "k"), ("anthropic-version", "2024-01-01")],
            body(",\"max_tokens\":1"),
            400,
            "anthropic-version: \"2024-01-01\" is not a valid version",
        ),
        (&HEADERS, body(""), 400, "max_tokens: Field required"),
        (&HEADERS, body(",\"max_tokens\":0"), 400, "max_tokens: Input should be a valid positive integer"),
        (&HEADERS, body(",\"max_tokens\":1,\"tags\":[]"), 400, "tags: Extra inputs are not permitted"),
        (
            &HEADERS,
            body(",\"max_tokens\":1,\"metadata\":{\"user_id\":\"a\",\"tags\":[]}"),
            400,
            "metadata.tags: Extra inputs are not permitted",
        ),
        (&HEADERS, "{\"max_tokens\":1,\"messages\":[]}".to_owned(), 400, "model: Field required"),
        (&HEADERS, "{\"max_tokens\":1,\"model\":\"m\"}".to_owned(), 400, "messages: Field required"),
        (&HEADERS, "{\"max_tokens\":1".to_owned(), 400, "The request body is not valid JSON"),
    ];
    for (headers, body, status, message) in table {
        let answer = ask(PATH, headers, &body);
        let error = answer.json();
        assert_eq!((answer.status, &error["error"]["message"]), (status, &json!(message)), "{body}");
        assert_eq!(error["type"], "error");
    }
}

#[test]
fn takes_only_its_own_key_where_one_is_set() {
    let keys = Keys { anthropic: Some("right".to_owned()), ..Keys::default() };
    for (header, status) in
        [(("x-api-key", "right"), 200), (("authorization", "Bearer right"), 200), (("x-api-key", "k"), 401)]
    {
        assert_eq!(ask_with(&keys, PATH, &[header, HEADERS[1]], BODY).status, status, "{header:?}");
    }
}

#[test]
fn an_answer_in_json() {
    let cache = [("x-mock-cache-read", "3"), ("x-mock-cache-write-5m", "2"), ("x-mock-cache-write-1h", "1")];
    let message = ask(PATH, &with(&cache), BODY).json();
    assert_eq!(message["type"], "message");
    assert_eq!(message["model"], "claude-x");
    assert_eq!(message["content"][0]["text"].as_str().unwrap().len(), 36);
    assert_eq!(message["stop_reason"], "max_tokens");
    let expected = json!({
        "input_tokens": 4, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 3,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 1},
        "output_tokens": 9, "service_tier": "standard",
    });
    assert_eq!(message["usage"], expected);
}

#[test]
fn an_answer_in_events() {
    let events =
        ask(PATH, &with(&[("x-mock-scenario", "thinking"), ("x-mock-events", "1")]), &streaming(BODY))
            .events();
    let types: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    let expected = [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(types, expected);
    assert_eq!(events[0]["message"]["usage"]["output_tokens"], 1);
    assert_eq!(events[3]["delta"]["type"], "thinking_delta");
    assert_eq!(events[4]["delta"]["type"], "signature_delta");
    assert_eq!(events[9]["usage"]["output_tokens"], 9);
}

#[test]
fn tool_use_tells_its_input_in_pieces() {
    let headers = with(&[("x-mock-scenario", "tool_use")]);
    let whole = ask(PATH, &headers, BODY).json();
    assert_eq!(
        (&whole["content"][1]["type"], &whole["stop_reason"]),
        (&json!("tool_use"), &json!("tool_use"))
    );
    let events = ask(PATH, &headers, &streaming(BODY)).events();
    let pieces = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str());
    let input: Value = serde_json::from_str(&pieces.collect::<String>()).unwrap();
    assert_eq!(input, whole["content"][1]["input"]);
}

#[test]
fn decoys_leave_the_usage_true() {
    let headers = with(&[("x-mock-scenario", "decoy"), ("x-mock-output", "5")]);
    let message = ask(PATH, &headers, BODY).json();
    assert_eq!(message["content"][1]["input"]["usage"]["output_tokens"], 987_654);
    assert_eq!(message["usage"]["output_tokens"], 5);
    let events = ask(PATH, &headers, &streaming(BODY)).events();
    assert!(
        events
            .iter()
            .any(|event| event["delta"]["text"].as_str().is_some_and(|text| text.contains("987654")))
    );
}

#[test]
fn usage_can_be_left_out_and_names_replaced() {
    let headers = with(&[("x-mock-omit-usage", "true"), ("x-mock-model", "claude-y")]);
    let answer = ask(PATH, &headers, BODY);
    assert_eq!((answer.json().get("usage"), answer.tokens), (None, None));
    assert_eq!(answer.json()["model"], "claude-y");
    assert!(ask(PATH, &headers, &streaming(BODY)).events().iter().all(|event| event.get("usage").is_none()));
    let names = with(&[("x-mock-tier", "priority"), ("x-mock-speed", "fast"), ("x-mock-geo", "us")]);
    let usage = ask(PATH, &names, BODY).json()["usage"].clone();
    assert_eq!(
        (&usage["service_tier"], &usage["speed"], &usage["inference_geo"]),
        (&json!("priority"), &json!("fast"), &json!("us"))
    );
}

#[test]
fn errors_have_anthropics_shape() {
    for (status, kind) in [
        ("429", "rate_limit_error"),
        ("500", "api_error"),
        ("529", "overloaded_error"),
        ("401", "authentication_error"),
    ] {
        let answer = ask(PATH, &with(&[("x-mock-status", status)]), BODY);
        assert_eq!(answer.status.to_string(), status);
        assert_eq!(answer.json()["error"]["type"], kind);
        let waits = answer.headers.iter().any(|(name, _)| *name == "retry-after");
        assert_eq!(waits, matches!(status, "429" | "529"), "{status}");
    }
}

#[test]
fn an_error_can_end_a_stream() {
    let events = ask(PATH, &with(&[("x-mock-error-event", "2")]), &streaming(BODY)).events();
    assert_eq!(events.len(), 3);
    assert_eq!(events[2]["error"]["type"], "overloaded_error");
}

#[test]
fn tokens_are_counted_for_free() {
    let path = "/v1/messages/count_tokens";
    let body = r#"{"model":"claude-x","messages":[{"role":"user","content":"hello there"}]}"#;
    assert_eq!(ask(path, &HEADERS, body).json(), json!({"input_tokens": 4}));
    assert_eq!(ask(path, &HEADERS[..1], body).status, 400);
    assert_eq!(ask(path, &HEADERS[1..], body).status, 401);
    let tagged = body.replacen('{', "{\"metadata\":{},", 1);
    assert_eq!(
        ask(path, &HEADERS, &tagged).json()["error"]["message"],
        "metadata: Extra inputs are not permitted"
    );
}
