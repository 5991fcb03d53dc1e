//! From a connection to an answer: what arrives is recorded, answered by a pure function, and sent at the pace asked for.

use crate::answer::{Answer, Content, Dialect, Refusal, scripted_message};
use crate::check::Keys;
use crate::gate::Gate;
use crate::pace::Plan;
use crate::record::{Log, Progress};
use crate::script::{Cut, Script};
use crate::tokens::Tokens;
use crate::{anthropic, control, gzip, openai};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::Response;
use axum::serve::ListenerExt;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How a mock is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The keys that are taken.
    pub keys: Keys,
    /// Record nothing.
    pub quiet: bool,
}

/// One mock provider.
#[derive(Debug)]
pub struct Mock {
    options: Options,
    numbers: AtomicU64,
    pub(crate) log: Log,
    pub(crate) gate: Gate,
    pub(crate) defaults: RwLock<Arc<Vec<(String, String)>>>,
}

impl Mock {
    /// A mock that has seen nothing yet.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            options,
            numbers: AtomicU64::new(0),
            log: Log::default(),
            gate: Gate::default(),
            defaults: RwLock::default(),
        })
    }
}

/// All routes of a mock.
pub fn router(mock: Arc<Mock>) -> Router {
    control::routes().fallback(provider).with_state(mock)
}

/// Serves until the future is dropped.
///
/// # Errors
/// What the listener says.
pub async fn serve(listener: TcpListener, mock: Arc<Mock>) -> std::io::Result<()> {
    // Events are small and each counts: none waits for the next.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router(mock)).await
}

/// One request to a provider, as the pure part sees it.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Value,
    pub(crate) script: &'a Script,
    pub(crate) keys: &'a Keys,
    pub(crate) number: u64,
}

impl Request<'_> {
    pub(crate) fn id(&self, prefix: &str) -> String {
        format!("{prefix}mock{:08}", self.number)
    }

    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        self.body.get(field).and_then(Value::as_u64)
    }

    pub(crate) fn streams(&self) -> bool {
        self.body.get("stream").and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn model_name(&self) -> &str {
        let asked = self.body.get("model").and_then(Value::as_str).unwrap_or_default();
        self.script.model.as_deref().unwrap_or(asked)
    }

    /// What it "uses", where one of these fields bounds its output.
    pub(crate) fn tokens(&self, bounds: &[&str]) -> Tokens {
        let output_max = bounds.iter().find_map(|field| self.number(field));
        Tokens::of(self.script, self.body, output_max)
    }

    /// The usage that the answer names.
    pub(crate) fn shown(&self, tokens: Tokens) -> Option<Tokens> {
        (!self.script.omit_usage).then_some(tokens)
    }

    /// The error that the script asks for.
    pub(crate) fn scripted_error(&self) -> Result<(), Refusal> {
        let Some(status) = self.script.status else { return Ok(()) };
        let usual = matches!(status, 429 | 529).then_some(2);
        let refusal = Refusal::new(status, scripted_message(status));
        Err(Refusal { retry_after: self.script.retry_after.or(usual), ..refusal })
    }
}

/// Beyond what any provider takes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What Anthropic takes at most.
const ANTHROPIC_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

async fn provider(State(mock): State<Arc<Mock>>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let number = mock.numbers.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let entry = mock.log.arrived(&parts, mock.options.quiet);
    let defaults = Arc::clone(&mock.defaults.read().unwrap_or_else(PoisonError::into_inner));
    let script = match Script::parse(&parts.headers, &defaults) {
        Ok(script) => script,
        Err(error) => return plain(StatusCode::BAD_REQUEST, error),
    };
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return plain(StatusCode::BAD_REQUEST, "the body did not arrive whole".to_owned());
    };
    if let Some(entry) = &entry {
        mock.log.body(entry, &body);
    }
    let path = parts.uri.path();
    let answer = answer(path, &parts.method, &parts.headers, &body, &script, &mock.options.keys, number);
    if let Some(entry) = &entry {
        entry.answered(answer.status, answer.tokens);
    }
    if script.hold {
        mock.gate.wait().await;
    }
    if !script.delay.is_zero() {
        tokio::time::sleep(script.delay).await;
    }
    let progress = entry.map(|entry| entry.progress()).unwrap_or_default();
    let release = script.until_release.then(|| mock.gate.next());
    respond(answer, &script, &parts.headers, dialect(path), number, progress, release)
}

fn plain(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

fn dialect(path: &str) -> Dialect {
    match path {
        _ if path.starts_with("/v1/messages") => Dialect::Anthropic,
        _ if path.starts_with("/v1beta/") => Dialect::Google,
        _ => Dialect::OpenAi,
    }
}

/// The answer, from the request alone.
pub(crate) fn answer(
    path: &str,
    method: &Method,
    headers: &HeaderMap,
    body: &Bytes,
    script: &Script,
    keys: &Keys,
    number: u64,
) -> Answer {
    let dialect = dialect(path);
    let served: fn(&Request<'_>) -> Result<Answer, Refusal> = match path {
        "/v1/messages" => anthropic::messages,
        "/v1/messages/count_tokens" => anthropic::count_tokens,
        "/v1/chat/completions" => openai::chat,
        "/v1/responses" => openai::responses,
        "/v1/embeddings" => openai::embeddings,
        "/v1/completions" => openai::completions,
        "/v1beta/openai/chat/completions" => openai::google_chat,
        "/v1beta/openai/embeddings" => openai::google_embeddings,
        _ => return Refusal::new(404, format!("Not found: {path}")).answer(dialect),
    };
    if method != Method::POST {
        return Refusal::new(405, "Method not allowed").answer(dialect);
    }
    if dialect == Dialect::Anthropic && body.len() > ANTHROPIC_BODY_BYTES_MAX {
        return Refusal::new(413, scripted_message(413)).answer(dialect);
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let request = Request { headers, body: &body, script, keys, number };
    served(&request).unwrap_or_else(|refusal| refusal.answer(dialect))
}

fn respond(
    answer: Answer,
    script: &Script,
    request: &HeaderMap,
    dialect: Dialect,
    number: u64,
    progress: Arc<Progress>,
    release: Option<watch::Receiver<u64>>,
) -> Response {
    let gzip = script.gzip && accepts_gzip(request);
    let (media, length, plan) = plan(answer.content, script, gzip);
    let plan = Plan { release, ..plan };
    let mut response = Response::new(plan.body(progress));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    for (name, value) in provider_headers(dialect, number).into_iter().chain(answer.headers) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|coding| coding.split(';').next().map(str::trim) == Some("gzip"))
}

/// Headers that the real ones send, those about the account above all: they must not reach a developer.
fn provider_headers(dialect: Dialect, number: u64) -> Vec<(&'static str, String)> {
    let id = format!("req_mock{number:08}");
    let cookie = ("set-cookie", "__cf_bm=mock; path=/; HttpOnly".to_owned());
    match dialect {
        Dialect::Anthropic => vec![
            ("request-id", id),
            ("anthropic-organization-id", "00000000-0000-0000-0000-000000000000".to_owned()),
            cookie,
        ],
        Dialect::OpenAi => vec![
            ("x-request-id", id),
            ("openai-organization", "org-mock".to_owned()),
            ("openai-project", "proj_mock".to_owned()),
            ("openai-version", "2020-10-01".to_owned()),
            cookie,
        ],
        Dialect::Google => vec![("x-goog-mock-request", id)],
    }
}

/// Media type, length where it is told, and the way of the body.
fn plan(content: Content, script: &Script, gzip: bool) -> (&'static str, Option<usize>, Plan) {
    let (media, is_json, mut pieces) = match content {
        Content::Json(body) => ("application/json", true, vec![Bytes::from(body)]),
        Content::Events(events) => ("text/event-stream; charset=utf-8", false, events),
    };
    if gzip {
        pieces = vec![Bytes::from(gzip::stored(&pieces.concat()))];
    }
    let length = is_json.then(|| pieces.iter().map(Bytes::len).sum());
    if let Some(Cut::Events(count)) = script.cut {
        pieces.truncate(count);
    }
    let whole: usize = pieces.iter().map(Bytes::len).sum();
    if let Some(size) = script.chunk_bytes {
        pieces = chunked(&pieces, size);
    }
    let pieces = match script.cut {
        Some(Cut::Bytes(limit)) if limit < whole => limited(pieces, limit),
        _ => pieces,
    };
    let gap = script.event_delay;
    let flush_each = script.chunk_bytes.is_some() || gap > Duration::ZERO;
    (media, length, Plan { pieces, gap, release: None, flush_each, cut: script.cut.is_some() })
}

fn chunked(pieces: &[Bytes], size: usize) -> Vec<Bytes> {
    let whole = Bytes::from(pieces.concat());
    (0..whole.len())
        .step_by(size)
        .map(|start| whole.slice(start..whole.len().min(start.saturating_add(size))))
        .collect()
}

fn limited(pieces: Vec<Bytes>, limit: usize) -> Vec<Bytes> {
    let mut room = limit;
    let mut kept = Vec::new();
    for piece in pieces {
        let piece = piece.slice(..piece.len().min(room));
        room -= piece.len();
        if !piece.is_empty() {
            kept.push(piece);
        }
    }
    kept
}

#[cfg(test)]
pub(crate) mod tests;
