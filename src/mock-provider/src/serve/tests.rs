use super::*;
use http_body_util::BodyExt;
use serde_json::json;
use tollgate_domain::api::Api;
use tollgate_domain::meter::{Meter, Reading};
use tollgate_domain::usage::Usage;
use tower::ServiceExt;

/// Asks for an answer without a server; the tests of every API use it.
pub(crate) fn ask(path: &str, headers: &[(&'static str, &str)], body: &str) -> Answer {
    ask_with(&Keys::default(), path, headers, body)
}

pub(crate) fn ask_with(keys: &Keys, path: &str, headers: &[(&'static str, &str)], body: &str) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    let script = Script::parse(&map, &[]).unwrap();
    answer(path, &Method::POST, &map, &Bytes::from(body.to_owned()), &script, keys, 7)
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        match &self.content {
            Content::Json(body) => serde_json::from_slice(body).unwrap(),
            Content::Events(_) => panic!("a stream"),
        }
    }

    /// The data of each event; `[DONE]` as a string.
    pub(crate) fn events(&self) -> Vec<Value> {
        let Content::Events(events) = &self.content else { panic!("no stream") };
        let data = |event: &Bytes| {
            let text = std::str::from_utf8(event).unwrap();
            let data = text.split_once("data: ").unwrap().1.strip_suffix("\n\n").unwrap();
            serde_json::from_str(data).unwrap_or_else(|_| json!(data))
        };
        events.iter().map(data).collect()
    }
}

const CHAT: &str = r#"{"model":"gpt-4.1","messages":[]}"#;
const CHAT_STREAM: &str = r#"{"model":"gpt-4.1","messages":[],"stream":true}"#;

fn call(headers: &[(&str, &str)], body: &'static str) -> axum::extract::Request {
    let mut request = http::Request::post("/v1/chat/completions").header("authorization", "Bearer k");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body)).unwrap()
}

async fn get(mock: &Arc<Mock>, path: &str) -> Value {
    let request = http::Request::get(path).body(Body::empty()).unwrap();
    let response = router(Arc::clone(mock)).oneshot(request).await.unwrap();
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

async fn post(mock: &Arc<Mock>, request: axum::extract::Request) -> Response {
    router(Arc::clone(mock)).oneshot(request).await.unwrap()
}

/// The chunks, and whether the body came to its end.
async fn chunks(response: Response) -> (Vec<usize>, bool) {
    let mut body = response.into_body();
    let mut sizes = Vec::new();
    loop {
        match body.frame().await {
            None => return (sizes, true),
            Some(Err(_)) => return (sizes, false),
            Some(Ok(frame)) => sizes.push(frame.into_data().unwrap().len()),
        }
    }
}

#[tokio::test]
async fn what_arrives_is_shown_with_what_was_answered() {
    let mock = Mock::new(Options::default());
    chunks(post(&mock, call(&[("x-mock-output", "3")], CHAT)).await).await;
    let shown = &get(&mock, "/mock/requests").await[0];
    assert_eq!(shown["path"], "/v1/chat/completions");
    assert_eq!(shown["body"], serde_json::from_str::<Value>(CHAT).unwrap());
    assert!(shown["headers"].as_array().unwrap().contains(&json!(["authorization", "Bearer k"])));
    assert_eq!((&shown["status"], &shown["usage"]["output"]), (&json!(200), &json!(3)));
    assert_eq!(shown["answer"]["state"], "complete");
    assert_eq!(get(&mock, "/mock/count").await["count"], 1);
}

#[tokio::test]
async fn the_body_leaves_as_the_script_says() {
    let mock = Mock::new(Options::default());
    let (whole, _) = chunks(post(&mock, call(&[], CHAT)).await).await;
    let length: usize = whole.iter().sum();
    let (sizes, ended) = chunks(post(&mock, call(&[("x-mock-chunk-bytes", "100")], CHAT)).await).await;
    assert!(ended && sizes.iter().sum::<usize>() == length && sizes.iter().all(|size| *size <= 100));
    let (sizes, ended) = chunks(post(&mock, call(&[("x-mock-cut", "33")], CHAT)).await).await;
    assert_eq!((sizes, ended), (vec![33], false));
    let (sizes, ended) = chunks(post(&mock, call(&[("x-mock-cut", "events:2")], CHAT_STREAM)).await).await;
    assert_eq!((sizes.len(), ended), (2, false));
    let states = get(&mock, "/mock/requests").await;
    let states: Vec<&Value> = states.as_array().unwrap().iter().map(|one| &one["answer"]["state"]).collect();
    assert_eq!(states, ["complete", "complete", "cut", "cut"]);
}

#[tokio::test]
async fn a_reader_that_leaves_is_seen() {
    let mock = Mock::new(Options::default());
    let mut body = post(&mock, call(&[], CHAT_STREAM)).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(get(&mock, "/mock/requests").await[0]["answer"]["state"], "client_left");
}

#[tokio::test]
async fn held_answers_wait_for_their_release() {
    let mock = Mock::new(Options::default());
    let waiting = tokio::spawn({
        let mock = Arc::clone(&mock);
        async move { post(&mock, call(&[("x-mock-hold", "true")], CHAT)).await.status() }
    });
    while get(&mock, "/mock/held").await["held"] != 1 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    release(&mock).await;
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);
    assert_eq!(get(&mock, "/mock/held").await["held"], 0);
}

async fn release(mock: &Arc<Mock>) {
    post(mock, http::Request::post("/mock/release").body(Body::empty()).unwrap()).await;
}

#[tokio::test]
async fn a_stream_that_waits_for_a_release_then_hurries() {
    let mock = Mock::new(Options::default());
    let slow = [("x-mock-event-delay-ms", "300"), ("x-mock-events", "12"), ("x-mock-until-release", "true")];
    let begin = tokio::time::Instant::now();
    let mut response = post(&mock, call(&slow, CHAT_STREAM)).await;
    response.body_mut().frame().await.unwrap().unwrap();
    release(&mock).await;
    let (sizes, ended) = chunks(response).await;
    assert!(ended && sizes.len() > 10, "{sizes:?}");
    // One wait had begun.
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn defaults_hold_for_all_until_removed() {
    let mock = Mock::new(Options::default());
    let put = |body: &'static str| {
        let request = http::Request::put("/mock/defaults").header("content-type", "application/json");
        request.body(Body::from(body)).unwrap()
    };
    assert_eq!(post(&mock, put(r#"{"x-mock-status":"529"}"#)).await.status(), 204);
    assert_eq!(post(&mock, call(&[], CHAT)).await.status(), 529);
    assert_eq!(post(&mock, put(r#"{"x-mock-poem":"1"}"#)).await.status(), 400);
    assert_eq!(post(&mock, put("{}")).await.status(), 204);
    assert_eq!(post(&mock, call(&[], CHAT)).await.status(), 200);
}

#[tokio::test]
async fn compresses_only_for_those_who_can_read_it() {
    let mock = Mock::new(Options::default());
    let encoding = |response: Response| response.headers().get("content-encoding").cloned();
    let asked = [("x-mock-encoding", "gzip"), ("accept-encoding", "br, gzip;q=0.5")];
    assert_eq!(encoding(post(&mock, call(&asked, CHAT)).await).unwrap(), "gzip");
    assert!(encoding(post(&mock, call(&asked[..1], CHAT)).await).is_none());
}

#[tokio::test]
async fn a_quiet_mock_counts_and_records_nothing() {
    let mock = Mock::new(Options { quiet: true, ..Options::default() });
    chunks(post(&mock, call(&[], CHAT)).await).await;
    assert_eq!(get(&mock, "/mock/requests").await, json!([]));
    assert_eq!(get(&mock, "/mock/count").await["count"], 1);
}

#[test]
fn other_paths_and_methods_are_not_served() {
    assert_eq!(ask("/v1/files", &[], "{}").status, 404);
    let (headers, script, keys) = (HeaderMap::new(), Script::default(), Keys::default());
    let got = answer("/v1/messages", &Method::GET, &headers, &Bytes::new(), &script, &keys, 1);
    assert_eq!(got.status, 405);
}

#[test]
fn anthropic_takes_32_megabytes() {
    let headers = [("x-api-key", "k"), ("anthropic-version", "2023-06-01")];
    let body = " ".repeat(ANTHROPIC_BODY_BYTES_MAX + 1);
    let got = ask("/v1/messages", &headers, &body);
    assert_eq!((got.status, &got.json()["error"]["type"]), (413, &json!("request_too_large")));
}

/// A request in one of the APIs that are metered, and where it goes.
fn metered(api: Api, stream: bool) -> (&'static str, String) {
    let options = if stream { ",\"stream_options\":{\"include_usage\":true}" } else { "" };
    let (path, members) = match api {
        Api::Messages => ("/v1/messages", "\"max_tokens\":500,\"messages\":[]".to_owned()),
        Api::ChatCompletions => ("/v1/chat/completions", format!("\"messages\":[]{options}")),
        Api::Responses => ("/v1/responses", "\"input\":\"hello\"".to_owned()),
        Api::Embeddings => ("/v1/embeddings", "\"input\":\"hello\"".to_owned()),
        Api::Completions => ("/v1/completions", format!("\"prompt\":\"hello\"{options}")),
    };
    let stream = if stream { ",\"stream\":true" } else { "" };
    (path, format!("{{\"model\":\"m\",{members}{stream}}}"))
}

fn read(api: Api, content: &Content) -> Reading {
    let mut meter = if matches!(content, Content::Json(_)) { Meter::json(api) } else { Meter::events(api) };
    match content {
        Content::Json(body) => meter.feed(body),
        Content::Events(events) => events.iter().for_each(|event| meter.feed(event)),
    }
    meter.reading()
}

/// Bills in other tests are computed from what the mock says that it answered: it must be what its answers say.
#[test]
fn what_is_recorded_is_what_a_meter_reads() {
    let usages = [
        [
            ("x-mock-input", "7"),
            ("x-mock-output", "31"),
            ("x-mock-web-searches", "0"),
            ("x-mock-reasoning", "0"),
        ],
        [
            ("x-mock-input", "70000"),
            ("x-mock-output", "400"),
            ("x-mock-web-searches", "3"),
            ("x-mock-reasoning", "90"),
        ],
    ];
    let caches = [
        [("x-mock-cache-read", "0"), ("x-mock-cache-write-5m", "0"), ("x-mock-cache-write-1h", "0")],
        [("x-mock-cache-read", "5000"), ("x-mock-cache-write-5m", "60"), ("x-mock-cache-write-1h", "8")],
    ];
    let key = [("authorization", "Bearer k"), ("anthropic-version", "2023-06-01")];
    for api in Api::ALL {
        for stream in [false, true].into_iter().filter(|stream| !*stream || api != Api::Embeddings) {
            for scenario in ["text", "thinking", "tool_use", "decoy"] {
                for (usage, cache) in
                    usages.iter().flat_map(|usage| caches.iter().map(move |cache| (usage, cache)))
                {
                    let headers =
                        [key.as_slice(), &[("x-mock-scenario", scenario)], usage.as_slice(), cache].concat();
                    let (path, body) = metered(api, stream);
                    let answer = ask(path, &headers, &body);
                    let reading = read(api, &answer.content);
                    let expected = answer.tokens.map(|tokens| classes(api, tokens));
                    assert_eq!(reading.usage, expected, "{api} {stream} {headers:?}");
                    assert!(reading.is_final() && reading.model.as_deref() == Some("m"), "{api} {headers:?}");
                }
            }
        }
    }
}

/// The classes of a bill. OpenAI's cache has one lifetime, and chat tells no searches.
fn classes(api: Api, tokens: Tokens) -> Usage {
    let anthropic = api == Api::Messages;
    let (cache_write_5m, cache_write_1h) =
        if anthropic { (tokens.cache_write_5m, tokens.cache_write_1h) } else { (tokens.cache_write(), 0) };
    let tells_searches = matches!(api, Api::Messages | Api::Responses);
    Usage {
        input: tokens.input,
        cache_read: tokens.cache_read,
        cache_write_5m,
        cache_write_1h,
        output: tokens.output,
        web_searches: if tells_searches { tokens.web_searches } else { 0 },
    }
}
