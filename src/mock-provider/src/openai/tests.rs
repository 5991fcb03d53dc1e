use crate::check::Keys;
use crate::serve::tests::{ask, ask_with};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const KEY: (&str, &str) = ("authorization", "Bearer k");
const CHAT_BODY: &str = r#"{"model":"gpt-4.1","messages":[{"role":"user","content":"hello there"}]}"#;

fn with(extra: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&[KEY], extra].concat()
}

fn and(body: &str, members: &str) -> String {
    body.replacen('{', &format!("{{{members},"), 1)
}

#[test]
fn refuses_what_openai_refuses() {
    type Headers = &'static [(&'static str, &'static str)];
    let table: [(Headers, String, u16, Value); 12] = [
        (&[], CHAT_BODY.to_owned(), 401, json!("invalid_api_key")),
        (&[("authorization", "Basic k")], CHAT_BODY.to_owned(), 401, json!("invalid_api_key")),
        (&[("authorization", "Bearer sk-tg-abc")], CHAT_BODY.to_owned(), 401, json!("invalid_api_key")),
        (&[KEY, ("x-other", "sk-tg-abc")], CHAT_BODY.to_owned(), 401, json!("invalid_api_key")),
        (&[KEY], and(CHAT_BODY, "\"tags\":[\"a\"]"), 400, json!("unknown_parameter")),
        (&[KEY], and(CHAT_BODY, "\"litellm_metadata\":{}"), 400, json!("unknown_parameter")),
        (&[KEY], and(CHAT_BODY, "\"metadata\":{\"tags\":[\"a\"]}"), 400, json!("invalid_type")),
        (&[KEY], and(CHAT_BODY, "\"metadata\":\"a\""), 400, json!("invalid_type")),
        (&[KEY], and(CHAT_BODY, "\"stream_options\":{\"include_usage\":true}"), 400, json!(null)),
        (&[KEY], "{\"model\":\"m\"}".to_owned(), 400, json!("missing_required_parameter")),
        (&[KEY], "{\"messages\":[]}".to_owned(), 400, json!(null)),
        (&[KEY], "not json".to_owned(), 400, json!(null)),
    ];
    for (headers, body, status, code) in table {
        let answer = ask(CHAT, headers, &body);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &code), "{headers:?} {body}");
    }
    assert_eq!(ask(CHAT, &[KEY], &and(CHAT_BODY, "\"metadata\":{\"a\":\"b\"}")).status, 200);
    assert_eq!(ask(RESPONSES, &[KEY], r#"{"model":"m","input":"a","tags":[]}"#).status, 400);
    assert_eq!(ask(RESPONSES, &[KEY], r#"{"model":"m","input":"a","user":"u"}"#).status, 200);
    let extra = r#"{"model":"m","messages":[],"extra_body":{}}"#;
    assert_eq!(ask(CHAT, &[KEY], extra).status, 400);
    assert_eq!(ask("/v1beta/openai/chat/completions", &[KEY], extra).status, 200);
    assert_eq!(ask("/v1/embeddings", &[KEY], r#"{"model":"m","input":"a","metadata":{}}"#).status, 400);
    assert_eq!(ask("/v1/completions", &[KEY], r#"{"model":"m","prompt":"a","metadata":{}}"#).status, 400);
}

#[test]
fn each_provider_serves_its_own_models() {
    let keys =
        Keys { anthropic: Some("a".to_owned()), openai: Some("o".to_owned()), gemini: Some("g".to_owned()) };
    let google = "/v1beta/openai/chat/completions";
    let table = [
        (CHAT, "Bearer o", "gpt-4.1", 200),
        (CHAT, "Bearer o", "unheard-of", 200),
        (CHAT, "Bearer o", "claude-x", 404),
        (CHAT, "Bearer a", "claude-x", 200),
        (CHAT, "Bearer a", "gpt-4.1", 404),
        (CHAT, "Bearer g", "gpt-4.1", 401),
        (CHAT, "Bearer g", "claude-x", 401),
        (google, "Bearer g", "gemini-2.5-pro", 200),
        (google, "Bearer o", "gemini-2.5-pro", 401),
        (google, "Bearer g", "gpt-4.1", 404),
        (RESPONSES, "Bearer o", "gpt-4.1", 200),
        (RESPONSES, "Bearer a", "gpt-4.1", 401),
    ];
    for (path, key, model, status) in table {
        let body = if path == RESPONSES { "\"input\":\"a\"" } else { "\"messages\":[]" };
        let body = format!("{{\"model\":\"{model}\",{body}}}");
        assert_eq!(
            ask_with(&keys, path, &[("authorization", key)], &body).status,
            status,
            "{path} {key} {model}"
        );
    }
}

#[test]
fn anthropics_chat_passes_over_what_it_does_not_know() {
    let body = r#"{"model":"claude-x","messages":[],"metadata":{"tags":["a"]},"logit_bias":{}}"#;
    let answer = ask(CHAT, &[KEY], body);
    assert_eq!((answer.status, &answer.json()["object"]), (200, &json!("chat.completion")));
    assert_eq!(ask(CHAT, &[("x-api-key", "k")], body).status, 200);
    assert_eq!(ask(CHAT, &[("x-api-key", "sk-tg-k")], body).status, 401);
}

#[test]
fn only_openai_names_the_service_tier() {
    let google = "/v1beta/openai/chat/completions";
    let table = [
        (CHAT, "gpt-4.1", "", None, json!("default")),
        (CHAT, "gpt-4.1", "\"service_tier\":\"auto\",", None, json!("default")),
        (CHAT, "gpt-4.1", "\"service_tier\":\"batch\",", None, json!("default")),
        (CHAT, "gpt-4.1", "\"service_tier\":\"flex\",", None, json!("flex")),
        (CHAT, "gpt-4.1", "\"service_tier\":\"priority\",", None, json!("priority")),
        (CHAT, "gpt-4.1", "\"service_tier\":\"flex\",", Some("default"), json!("default")),
        (CHAT, "claude-x", "", None, json!(null)),
        (CHAT, "claude-x", "\"service_tier\":\"priority\",", None, json!(null)),
        (CHAT, "claude-x", "", Some("batch"), json!("batch")),
        (google, "gemini-x", "\"service_tier\":\"flex\",", None, json!(null)),
        (google, "gemini-x", "", Some("flex"), json!("flex")),
        (RESPONSES, "gpt-4.1", "", None, json!("default")),
        (RESPONSES, "gpt-4.1", "\"service_tier\":\"flex\",", None, json!("flex")),
    ];
    for (path, model, asked, told, named) in table {
        let input = if path == RESPONSES { "input" } else { "messages" };
        let body = format!("{{{asked}\"model\":\"{model}\",\"{input}\":[]}}");
        let headers: Vec<_> = told.map(|tier| ("x-mock-tier", tier)).into_iter().collect();
        let answer = ask(path, &with(&headers), &body);
        assert_eq!(answer.json()["service_tier"], named, "{path} {body} {told:?}");
    }
}

#[test]
fn a_chat_answer_counts_the_cache_as_input() {
    let headers =
        with(&[("x-mock-cache-read", "6"), ("x-mock-cache-write-5m", "2"), ("x-mock-reasoning", "4")]);
    let body = ask(CHAT, &headers, &and(CHAT_BODY, "\"max_tokens\":8")).json();
    let usage = &body["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&json!(12), &json!(8), &json!(20))
    );
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 6);
    assert_eq!(usage["prompt_tokens_details"]["cache_write_tokens"], 2);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 4);
    assert_eq!(body["choices"][0]["message"]["content"].as_str().unwrap().len(), 16);
    assert_eq!(ask(CHAT, &[KEY], &and(CHAT_BODY, "\"n\":3")).json()["choices"].as_array().unwrap().len(), 3);
}

#[test]
fn a_chat_stream_has_usage_only_if_asked() {
    let plain = ask(CHAT, &[KEY], &and(CHAT_BODY, "\"stream\":true")).events();
    assert!(plain.iter().all(|chunk| chunk.get("usage").is_none()));
    assert_eq!(plain.last().unwrap(), "[DONE]");
    let asked = and(CHAT_BODY, "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    let with_usage = ask(CHAT, &[KEY], &asked).events();
    let [.., usage, done] = with_usage.as_slice() else { panic!("too short") };
    assert_eq!(
        (&usage["choices"], &usage["usage"]["completion_tokens"], done),
        (&json!([]), &json!(20), &json!("[DONE]"))
    );
    assert!(with_usage.iter().rev().skip(2).all(|chunk| chunk["usage"].is_null()));
    let omitted = ask(CHAT, &with(&[("x-mock-omit-usage", "true")]), &asked).events();
    assert!(omitted.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[test]
fn tool_calls_and_decoys() {
    for scenario in ["tool_use", "decoy"] {
        let headers = with(&[("x-mock-scenario", scenario), ("x-mock-output", "5")]);
        let whole = ask(CHAT, &headers, CHAT_BODY).json();
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(whole["usage"]["completion_tokens"], 5);
        let arguments =
            whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
        let events = ask(CHAT, &headers, &and(CHAT_BODY, "\"stream\":true")).events();
        let pieces = events
            .iter()
            .filter_map(|chunk| chunk.pointer("/choices/0/delta/tool_calls/0/function/arguments")?.as_str());
        assert_eq!(pieces.collect::<String>(), arguments);
        assert_eq!(arguments.contains("987654"), scenario == "decoy");
    }
}

#[test]
fn errors_have_each_providers_shape() {
    let headers = with(&[("x-mock-status", "429"), ("x-mock-retry-after", "9")]);
    let answer = ask(CHAT, &headers, CHAT_BODY);
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    assert_eq!(answer.headers, [("retry-after", "9".to_owned())]);
    let google = ask("/v1beta/openai/chat/completions", &headers, r#"{"model":"gemini-x","messages":[]}"#);
    assert_eq!(google.json()[0]["error"]["status"], "RESOURCE_EXHAUSTED");
    let server = ask(CHAT, &with(&[("x-mock-status", "500")]), CHAT_BODY);
    assert_eq!(server.json()["error"]["type"], "server_error");
}

#[test]
fn responses_in_json_and_events_agree() {
    let headers =
        with(&[("x-mock-web-searches", "2"), ("x-mock-scenario", "decoy"), ("x-mock-cache-read", "4")]);
    let body = r#"{"model":"gpt-4.1","input":"hello","max_output_tokens":7,"metadata":{"a":"b"}}"#;
    let whole = ask(RESPONSES, &headers, body).json();
    assert_eq!((&whole["status"], &whole["usage"]["output_tokens"]), (&json!("completed"), &json!(7)));
    assert_eq!(whole["usage"]["input_tokens_details"]["cached_tokens"], 4);
    assert_eq!(whole["metadata"]["model"], "decoy-model");
    let searches =
        whole["output"].as_array().unwrap().iter().filter(|item| item["type"] == "web_search_call");
    assert_eq!(searches.count(), 2);
    let events = ask(RESPONSES, &headers, &and(body, "\"stream\":true")).events();
    assert_eq!(events[0]["type"], "response.created");
    assert_eq!(events[0]["response"]["usage"], Value::Null);
    assert_eq!(events.last().unwrap()["type"], "response.completed");
    assert_eq!(events.last().unwrap()["response"], whole);
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().enumerate().all(|(index, number)| *number == index as u64));
}

#[test]
fn a_responses_stream_can_fail() {
    let headers = with(&[("x-mock-error-event", "1")]);
    let events = ask(RESPONSES, &headers, r#"{"model":"gpt-4.1","input":"a","stream":true}"#).events();
    assert_eq!((events.len(), &events[1]["type"]), (2, &json!("error")));
}

#[test]
fn embeddings_and_completions() {
    let body =
        ask("/v1/embeddings", &[KEY], r#"{"model":"text-embedding-3-small","input":["abcd","efgh"]}"#).json();
    assert_eq!((body["data"].as_array().unwrap().len(), &body["usage"]["total_tokens"]), (2, &json!(2)));
    let google =
        ask("/v1beta/openai/embeddings", &[KEY], r#"{"model":"gemini-embedding-001","input":"abcd"}"#);
    assert_eq!(google.json()["usage"]["prompt_tokens"], 1);
    let prompt = r#"{"model":"gpt-3.5-turbo-instruct","prompt":"abcd","max_tokens":4}"#;
    let body = ask("/v1/completions", &[KEY], prompt).json();
    assert_eq!(
        (&body["object"], &body["usage"]["completion_tokens"]),
        (&json!("text_completion"), &json!(4))
    );
    let asked = and(prompt, "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    let events = ask("/v1/completions", &[KEY], &asked).events();
    assert_eq!(events[events.len() - 2]["usage"]["completion_tokens"], 4);
}
