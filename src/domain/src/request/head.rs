//! The head of a request: its operation, its credential, its labels. An operation that is not known byte for byte is
//! refused, because what is not known cannot be metered.

use crate::api::{Api, Shape};
use crate::decision::Denial;
use crate::ids::{KeyDigest, Tag};
use crate::key;
use crate::session;

/// A request line and its headers. Names are lower-case, as Envoy gives them; every line of a header is there.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// The headers, pseudo-headers included or not.
    pub headers: &'a [(String, Vec<u8>)],
}

/// What a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A model's answer, which costs money.
    Answer(Api),
    /// Anthropic's `POST /v1/messages/count_tokens`, which is free.
    CountTokens,
    /// The models that the key may use, or one of them.
    Models(Option<String>),
    /// Claude Code's check that something is there.
    Hello,
}

impl Operation {
    /// Whether a body follows that has to be read.
    pub const fn has_body(&self) -> bool {
        matches!(self, Self::Answer(_) | Self::CountTokens)
    }

    /// The path at the provider.
    pub const fn canonical_path(&self) -> Option<&'static str> {
        match self {
            Self::Answer(Api::Messages) => Some("/v1/messages"),
            Self::Answer(Api::ChatCompletions) => Some("/v1/chat/completions"),
            Self::Answer(Api::Responses) => Some("/v1/responses"),
            Self::Answer(Api::Embeddings) => Some("/v1/embeddings"),
            Self::Answer(Api::Completions) => Some("/v1/completions"),
            Self::CountTokens => Some("/v1/messages/count_tokens"),
            Self::Models(_) | Self::Hello => None,
        }
    }
}

/// Everything that is read from the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it wants.
    pub operation: Operation,
    /// Whose shape the client expects.
    pub shape: Shape,
    /// The query as it came, without the question mark: from the allow-list, so it may go on.
    pub query: Option<String>,
    /// What the client said of itself.
    pub client: Client,
}

/// The headers that say who asks and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The first product of the user agent, such as `claude-cli`.
    pub product: Option<String>,
    /// Whether it is Codex, which understands other errors than everybody else.
    pub codex: bool,
    /// The agent's session.
    pub session: Option<String>,
    /// Tags from headers.
    pub tags: Vec<Tag>,
    /// A context window that the client asks for, wider than the model's usual one.
    pub context_window: Option<u64>,
}

/// Whose shape an answer to this head has, whatever else is wrong with it.
pub fn shape(head: &Head<'_>) -> Shape {
    let path = head.path.split('?').next().unwrap_or_default();
    let anthropic = path.starts_with("/v1/messages") || header(head, "anthropic-version").next().is_some();
    if anthropic { Shape::Anthropic } else { Shape::OpenAi }
}

/// Whether the client is Codex.
pub fn is_codex(head: &Head<'_>) -> bool {
    header(head, "originator").any(|value| value.starts_with(b"codex"))
}

/// Reads the head.
///
/// # Errors
/// The [`Denial`] of an operation that is unknown, or that does not fit how it was asked.
pub fn classify(head: &Head<'_>) -> Result<Request, Denial> {
    let (path, query) = match head.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (head.path, None),
    };
    if query.is_some_and(holds_credential) {
        return Err(Denial::KeyInQuery);
    }
    if header(head, "upgrade").any(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(Denial::WebSocket);
    }
    let operation = operation(head.method, path).ok_or_else(|| unknown(path))?;
    if !query.unwrap_or_default().split('&').all(|pair| query_allowed(&operation, pair)) {
        return Err(Denial::UnknownOperation);
    }
    if operation.has_body() {
        body_headers(head)?;
    }
    let client = client(head)?;
    Ok(Request { operation, shape: shape(head), query: query.map(str::to_owned), client })
}

fn operation(method: &str, path: &str) -> Option<Operation> {
    Some(match (method, path) {
        ("POST", "/v1/messages") => Operation::Answer(Api::Messages),
        ("POST", "/v1/messages/count_tokens") => Operation::CountTokens,
        ("POST", "/v1/chat/completions" | "/chat/completions") => Operation::Answer(Api::ChatCompletions),
        ("POST", "/v1/responses" | "/responses") => Operation::Answer(Api::Responses),
        ("POST", "/v1/embeddings" | "/embeddings") => Operation::Answer(Api::Embeddings),
        ("POST", "/v1/completions" | "/completions") => Operation::Answer(Api::Completions),
        ("GET", "/v1/models" | "/models") => Operation::Models(None),
        ("GET" | "HEAD", "/api/hello") => Operation::Hello,
        ("GET", _) => Operation::Models(Some(model_segment(path)?.to_owned())),
        _ => return None,
    })
}

fn model_segment(path: &str) -> Option<&str> {
    let id = path.strip_prefix("/v1/models/").or_else(|| path.strip_prefix("/models/"))?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:@-".contains(&b);
    let is_segment = !id.is_empty() && id != "." && id != ".." && id.bytes().all(allowed);
    is_segment.then_some(id)
}

/// Operations that the providers have and Tollgate cannot meter: named, so that nobody looks for a typing error.
fn unknown(path: &str) -> Denial {
    let first = path.strip_prefix("/v1/").unwrap_or(path).split('/').next().unwrap_or_default();
    let second = path.strip_prefix("/v1/messages/").and_then(|rest| rest.split('/').next());
    let name = match (first, second) {
        (_, Some("batches")) | ("batches", _) => "message batches",
        ("files", _) | ("uploads", _) => "files",
        ("assistants" | "threads", _) => "assistants",
        ("realtime", _) => "realtime",
        ("images", _) => "images",
        ("audio", _) => "audio",
        ("fine_tuning", _) => "fine-tuning",
        ("vector_stores", _) => "vector stores",
        ("containers", _) => "containers",
        ("videos", _) => "videos",
        _ => return Denial::UnknownOperation,
    };
    Denial::NotMetered(name)
}

fn query_allowed(operation: &Operation, pair: &str) -> bool {
    let page_id = |id: &str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b));
    match (operation, pair.split_once('=')) {
        (_, None) => pair.is_empty(),
        (Operation::Answer(Api::Messages) | Operation::CountTokens, Some(("beta", "true"))) => true,
        (Operation::Models(_), Some(("beta", "true"))) => true,
        (Operation::Models(_), Some(("limit", count))) => {
            !count.is_empty() && count.len() <= 4 && count.bytes().all(|b| b.is_ascii_digit())
        }
        (Operation::Models(_), Some(("after_id" | "before_id", id))) => page_id(id),
        _ => false,
    }
}

fn holds_credential(query: &str) -> bool {
    let names =
        ["key", "api_key", "api-key", "apikey", "x-api-key", "token", "access_token", "authorization"];
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_ascii_lowercase();
    query.split('&').any(|pair| names.contains(&name(pair).as_str()) || pair.contains(key::PREFIX))
}

fn body_headers(head: &Head<'_>) -> Result<(), Denial> {
    if header(head, "content-encoding").any(|value| !value.eq_ignore_ascii_case(b"identity")) {
        return Err(Denial::ContentEncoding);
    }
    if header(head, "content-type").all(is_json) { Ok(()) } else { Err(Denial::MediaType) }
}

/// `application/json`, in UTF-8 if it says a charset.
fn is_json(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let mut parts = value.split(';').map(str::trim);
    let json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    let mut charsets = parts
        .filter_map(|part| part.split_once('='))
        .filter(|(name, _)| name.eq_ignore_ascii_case("charset"));
    json && charsets.all(|(_, charset)| charset.trim_matches('"').eq_ignore_ascii_case("utf-8"))
}

fn client(head: &Head<'_>) -> Result<Client, Denial> {
    let mut tags = Vec::new();
    for line in header(head, "x-tollgate-tags").chain(header(head, "x-litellm-tags")) {
        let line = std::str::from_utf8(line).map_err(|_| Denial::Tag { tag: String::new() })?;
        for tag in line.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            add_tag(&mut tags, tag)?;
        }
    }
    let product = header(head, "user-agent").next().and_then(product);
    // Agents choose the others, often a new one for each run; ours is said by whoever starts them.
    let session = header(head, "x-tollgate-session")
        .chain(header(head, "x-claude-code-session-id"))
        .chain(header(head, "session_id"))
        .chain(header(head, "session-id"));
    Ok(Client {
        product,
        codex: is_codex(head),
        session: session.filter_map(name).next(),
        tags,
        context_window: context_window(head),
    })
}

/// Anthropic's beta of a window of a million tokens ("Context windows", `context-1m-2025-08-07`).
fn context_window(head: &Head<'_>) -> Option<u64> {
    let mut betas = header(head, "anthropic-beta").flat_map(|line| line.split(|b| *b == b','));
    betas.any(|beta| beta.trim_ascii().starts_with(b"context-1m")).then_some(1_000_000)
}

/// Adds a tag that is not there yet.
///
/// # Errors
/// [`Denial::Tag`] names it, [`Denial::TooManyTags`].
pub fn add_tag(tags: &mut Vec<Tag>, text: &str) -> Result<(), Denial> {
    let tag: Tag = text.parse().map_err(|_| Denial::Tag { tag: text.chars().take(64).collect() })?;
    if tags.contains(&tag) {
        return Ok(());
    }
    if tags.len() >= Tag::COUNT_MAX {
        return Err(Denial::TooManyTags);
    }
    tags.push(tag);
    Ok(())
}

fn product(user_agent: &[u8]) -> Option<String> {
    let first = user_agent.split(|b| *b == b'/' || *b == b' ').next()?;
    name(first)
}

/// The name of a session; a product's is as one.
fn name(bytes: &[u8]) -> Option<String> {
    session::is_name(bytes).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Every line of a header.
pub fn header<'a>(head: &Head<'a>, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    head.headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_slice())
}

/// Headers that may carry a credential.
pub const CREDENTIAL_HEADERS: [&str; 4] = ["x-api-key", "authorization", "api-key", "x-goog-api-key"];

/// The digest of the credential that the request carries. Only its absence is judged here; whether it is known, or even
/// well formed, only the ledger can say, so that guessing learns nothing from wording or timing.
///
/// # Errors
/// [`Denial::KeyMissing`], [`Denial::KeyConflict`] for two different ones, [`Denial::SubscriptionLogin`].
pub fn credential(head: &Head<'_>) -> Result<KeyDigest, Denial> {
    let mut found: Option<&[u8]> = None;
    for name in CREDENTIAL_HEADERS {
        for secret in header(head, name).flat_map(|line| secrets(name, line)) {
            match found {
                _ if secret.is_empty() => {}
                None => found = Some(secret),
                Some(other) if other == secret => {}
                Some(_) => return Err(Denial::KeyConflict),
            }
        }
    }
    let secret = found.ok_or(Denial::KeyMissing)?;
    // What `claude login` stores: not ours to forward, and the developer has to know which variable is missing.
    if secret.starts_with(b"sk-ant-oat") {
        return Err(Denial::SubscriptionLogin);
    }
    Ok(key::digest(secret))
}

/// The credentials in one line. Envoy joins several lines of `authorization` into one, by commas.
fn secrets<'a>(name: &str, line: &'a [u8]) -> Vec<&'a [u8]> {
    if name != "authorization" {
        return vec![line.trim_ascii()];
    }
    let is_bearer = |part: &&[u8]| {
        let scheme = part.trim_ascii_start().get(..6);
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
    };
    let parts: Vec<&[u8]> = line.split(|b| *b == b',').collect();
    if parts.iter().all(is_bearer) { parts.into_iter().map(bearer).collect() } else { vec![bearer(line)] }
}

/// The token of `Bearer token`; any other scheme is taken as it is, and will be unknown.
fn bearer(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    match line.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ if line.eq_ignore_ascii_case(b"bearer") => &[],
        _ => line,
    }
}

/// Whether a request header stays behind: credentials, our own, what could steer Envoy or name another account of the
/// provider, and what would make the answer unreadable.
pub fn stays_behind(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["x-goog-", "x-envoy-", "x-forwarded-", "x-tollgate-", "x-litellm-"];
    const NAMES: [&str; 16] = [
        "accept-encoding",
        "api-key",
        "authorization",
        "cookie",
        "expect",
        "forwarded",
        "idempotency-key",
        "openai-organization",
        "openai-project",
        "proxy-authorization",
        "x-api-key",
        "x-goog-api-key",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-real-ip",
    ];
    // Providers may take `x_api_key` for `x-api-key`.
    NAMES.contains(&name) || name.contains('_') || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests;
