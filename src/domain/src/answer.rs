//! What a client reads when Tollgate itself answers: denials and lists of models, each in the shape of the API that asks.
//!
//! Clients look for status codes anywhere in a message, so no run of three digits of ours ever stands in a body: amounts
//! and ids go into headers, dates are written in words. Names of models are the one exception.

use crate::account::AccountLabel;
use crate::api::Shape;
use crate::catalogue::Model;
use crate::decision::{Budget, Denial};
use crate::extra::Extra;
use crate::ids::{ModelName, Tag};
use crate::json::Fault;
use serde_json::{Value, json};

mod rates;

pub use rates::rate_headers;

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers beside `content-type`.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, or nothing.
    pub body: Vec<u8>,
}

/// Who reads the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// The shape that it expects.
    pub shape: Shape,
    /// It is Codex, which stops on its own usage limit only.
    pub codex: bool,
}

/// Whether three or more digits stand in a row.
pub fn has_digit_run(text: &str) -> bool {
    text.as_bytes().windows(3).any(|run| run.iter().all(u8::is_ascii_digit))
}

/// Allowed models that a message names at most.
const MODELS_NAMED_MAX: usize = 12;

/// What a kind of denial looks like on the wire.
struct Class {
    status: u16,
    anthropic_type: &'static str,
    openai_type: &'static str,
    openai_code: Option<&'static str>,
}

/// The error contract: one row a class.
fn class(denial: &Denial) -> Class {
    let (status, anthropic_type, openai_type, openai_code) = match denial {
        Denial::UnknownOperation | Denial::NotMetered(_) => {
            (404, "not_found_error", "invalid_request_error", None)
        }
        Denial::WebSocket => (426, "invalid_request_error", "invalid_request_error", Some("upgrade_refused")),
        Denial::ContentEncoding | Denial::MediaType => {
            (415, "invalid_request_error", "invalid_request_error", None)
        }
        Denial::Tag { .. }
        | Denial::TooManyTags
        | Denial::TagMissing(_)
        | Denial::Malformed(_)
        | Denial::Field { .. } => (400, "invalid_request_error", "invalid_request_error", None),
        Denial::BodyTooLarge => {
            (413, "request_too_large", "invalid_request_error", Some("request_too_large"))
        }
        Denial::KeyMissing
        | Denial::KeyConflict
        | Denial::KeyInQuery
        | Denial::SubscriptionLogin
        | Denial::KeyUnknown
        | Denial::KeyBlocked
        | Denial::KeyExpired => {
            (401, "authentication_error", "invalid_request_error", Some("invalid_api_key"))
        }
        Denial::FeatureNotMetered(_) => {
            (403, "permission_error", "permission_error", Some("feature_not_metered"))
        }
        Denial::ExtraForbidden(_) => (403, "permission_error", "permission_error", Some("extra_forbidden")),
        Denial::ModelUnknown { .. }
        | Denial::ModelUnpriced { .. }
        | Denial::ModelMisfit { .. }
        | Denial::ProviderMissing { .. }
        | Denial::ModelNotAllowed { .. } => {
            (403, "permission_error", "permission_error", Some("model_not_allowed"))
        }
        Denial::RateLimited { .. } => {
            (429, "rate_limit_error", "rate_limit_exceeded", Some("rate_limit_exceeded"))
        }
        Denial::BudgetSpent(_) | Denial::BudgetTooSmall(_) => {
            (402, "billing_error", "insufficient_quota", Some("budget_exceeded"))
        }
        Denial::LedgerAway | Denial::Overloaded | Denial::ProviderCredential => {
            (503, "api_error", "server_error", Some("service_unavailable"))
        }
    };
    Class { status, anthropic_type, openai_type, openai_code }
}

/// The answer to a refused request.
pub fn denial(denial: &Denial, reader: Reader) -> Answer {
    let class = class(denial);
    // JSON escapes control characters, and escapes are digits.
    let message = message(denial).replace(|c: char| c.is_control(), " ");
    let mut headers = denial_headers(denial);
    match budget(denial).filter(|_| reader.codex) {
        Some(budget) => {
            headers.push(("x-codex-promo-message", header_text(&message)));
            let resets_at = budget.resets_at.map(|at| at.unix_ms().div_euclid(1000));
            let error = json!({"type": "usage_limit_reached", "message": message, "resets_at": resets_at});
            Answer { status: 429, headers, body: json!({ "error": error }).to_string().into_bytes() }
        }
        None => {
            let body = match reader.shape {
                Shape::Anthropic => {
                    json!({"type": "error", "error": {"type": class.anthropic_type, "message": message}})
                }
                Shape::OpenAi => json!({"error": {
                    "message": message, "type": class.openai_type, "param": null, "code": class.openai_code,
                }}),
            };
            Answer { status: class.status, headers, body: body.to_string().into_bytes() }
        }
    }
}

fn budget(denial: &Denial) -> Option<&Budget> {
    match denial {
        Denial::BudgetSpent(budget) | Denial::BudgetTooSmall(budget) => Some(budget),
        _ => None,
    }
}

/// Seconds that a client is told to wait at most.
const RETRY_AFTER_MAX_S: u64 = 60;

fn denial_headers(denial: &Denial) -> Vec<(&'static str, String)> {
    let mut headers = vec![("x-tollgate-denial", denial.name().to_owned())];
    match denial {
        Denial::RateLimited { account, retry_after_ms } => {
            let seconds = retry_after_ms.unwrap_or(0).div_ceil(1_000).clamp(1, RETRY_AFTER_MAX_S);
            headers.push(("retry-after", seconds.to_string()));
            headers.extend(account.as_ref().map(|account| ("x-tollgate-account", account.kind.to_string())));
        }
        _ => headers.push(("x-should-retry", "false".to_owned())),
    }
    if let Some(budget) = budget(denial) {
        headers
            .extend(budget.account.as_ref().map(|account| ("x-tollgate-account", account.kind.to_string())));
        if let Some(amounts) = budget.amounts {
            headers.push(("x-tollgate-limit", amounts.limit.to_string()));
            headers.push(("x-tollgate-posted", amounts.posted.to_string()));
            headers.push(("x-tollgate-pending", amounts.pending.to_string()));
            if amounts.requested != crate::money::Nanodollars::ZERO {
                headers.push(("x-tollgate-requested", amounts.requested.to_string()));
            }
        }
        let reset = budget.resets_at.and_then(crate::time::Timestamp::to_rfc3339);
        headers.extend(reset.map(|reset| ("x-tollgate-reset", reset)));
    }
    headers
}

/// The message as a header may carry it: what an admin called an account must not end one header and begin another.
fn header_text(message: &str) -> String {
    message.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { ' ' }).collect()
}

/// One or two sentences for a person, without a run of digits of ours.
fn message(denial: &Denial) -> String {
    match denial {
        Denial::UnknownOperation => "Tollgate does not serve this method and path.".into(),
        Denial::NotMetered(name) => format!("The {name} API is not metered here, so refused."),
        Denial::WebSocket => "WebSocket is not served here; use HTTP.".into(),
        Denial::ContentEncoding => "The request body must not be compressed.".into(),
        Denial::MediaType => "The request body must be application/json in UTF-8.".into(),
        Denial::Tag { tag } => tag_message(tag),
        Denial::TooManyTags => format!("A request carries at most {} tags.", Tag::COUNT_MAX),
        Denial::TagMissing(tag) => tag_missing_message(tag.as_ref()),
        Denial::ExtraForbidden(extra) => {
            format!("{} is not allowed for this key.", extra.map_or("An extra of this request", Extra::as_str))
        }
        Denial::KeyMissing => "No virtual key: set ANTHROPIC_API_KEY or OPENAI_API_KEY to your Tollgate key.".into(),
        Denial::KeyConflict => "The request carries two different keys; send one.".into(),
        Denial::KeyInQuery => "A key in the URL is refused; send it in a header, and replace it: it may be in logs.".into(),
        Denial::SubscriptionLogin => "This is a Claude subscription login, not a Tollgate key: set ANTHROPIC_API_KEY (or \
            ANTHROPIC_AUTH_TOKEN) to your Tollgate key and log out of the subscription."
            .into(),
        Denial::KeyUnknown => "The virtual key is not valid.".into(),
        Denial::KeyBlocked => "The virtual key is blocked.".into(),
        Denial::KeyExpired => "The virtual key has expired.".into(),
        Denial::BodyTooLarge => "The request body is too large.".into(),
        Denial::Malformed(fault) => malformed_message(*fault),
        Denial::Field { name, why } => format!("{name} {why}."),
        Denial::FeatureNotMetered(name) => format!("{} is not metered here, so refused.", without_digit_runs(name)),
        Denial::ModelUnknown { model, allowed } => {
            format!("Model {} has no price here, so refused. {}", shown(model), allowed_message(model, allowed))
        }
        Denial::ModelNotAllowed { model, allowed } => {
            format!("Model {} is not allowed for this key. {}", shown(model), allowed_message(model, allowed))
        }
        Denial::ModelUnpriced { model } => format!(
            "Model {} has no price here for something that this request asks for, such as web searches.",
            shown(model)
        ),
        Denial::ModelMisfit { model } => format!("Model {} is not served by this API.", shown(model)),
        Denial::ProviderMissing { provider } => format!("No upstream for {provider} is configured here."),
        Denial::RateLimited { account, .. } => {
            format!("Too many requests or tokens for {}; slow down.", account_words(account.as_ref()))
        }
        Denial::BudgetSpent(budget) => {
            format!("The budget of {} is spent. {}", account_words(budget.account.as_ref()), reset_words(budget))
        }
        Denial::BudgetTooSmall(budget) => format!(
            "This request may cost more than what is left in the budget of {}. Lower max_tokens, or wait for parallel \
             requests to finish. {}",
            account_words(budget.account.as_ref()),
            reset_words(budget)
        ),
        Denial::LedgerAway => "Budgets cannot be checked at the moment; try again later.".into(),
        Denial::Overloaded => "Too many requests are open; try again later.".into(),
        Denial::ProviderCredential => "The provider refused this installation's credential; tell your platform team.".into(),
    }
    .trim_end()
    .to_owned()
}

fn tag_message(tag: &str) -> String {
    let quoted = format!(" {tag:?}");
    let shown = if tag.is_empty() || has_digit_run(&quoted) { "" } else { &quoted };
    format!("The tag{shown} is not valid: 1 to 64 letters, digits and : . _ / - are allowed.")
}

fn tag_missing_message(tag: Option<&Tag>) -> String {
    match tag.map(Tag::as_str).filter(|tag| !has_digit_run(tag)) {
        Some(tag) => {
            format!("This key requires a tag {tag:?} on every request, or one that begins with \"{tag}:\".")
        }
        None => "A tag that this key requires is missing.".to_owned(),
    }
}

fn malformed_message(fault: Fault) -> String {
    match fault {
        Fault::Syntax(_) => "The request body is not valid JSON.",
        Fault::Utf8(_) => "The request body is not valid UTF-8.",
        Fault::Depth => "The request body is nested too deeply.",
        Fault::Truncated => "The request body ends too early.",
        Fault::Duplicate(_) => "The request body names a field twice.",
    }
    .to_owned()
}

/// The model as the client named it; a name is quoted so that nothing in it can pose as our words.
fn shown(model: &str) -> String {
    let short: String = model.chars().take(128).collect();
    format!("{short:?}")
}

/// The allowed models, those first whose names begin most like the one that was asked for.
fn allowed_message(asked: &str, allowed: &[ModelName]) -> String {
    let mut names: Vec<&str> = allowed.iter().map(ModelName::as_str).collect();
    names.sort_by_key(|name| std::cmp::Reverse(common_prefix(asked, name)));
    names.truncate(MODELS_NAMED_MAX);
    match (names.is_empty(), allowed.len() > names.len()) {
        (true, _) => "No model is allowed.".to_owned(),
        (false, false) => format!("Allowed: {}.", names.join(", ")),
        (false, true) => format!("Allowed: {} and more, see the list of models.", names.join(", ")),
    }
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// The text up to its first run of digits.
fn without_digit_runs(text: &str) -> &str {
    let run = text.as_bytes().windows(3).position(|run| run.iter().all(u8::is_ascii_digit));
    let kept = run.and_then(|at| text.get(..at)).map_or(text, |kept| kept.trim_end_matches(['_', '-', ' ']));
    if kept.is_empty() { "This feature" } else { kept }
}

fn account_words(account: Option<&AccountLabel>) -> String {
    account.map_or_else(|| "your key".to_owned(), AccountLabel::in_words)
}

fn reset_words(budget: &Budget) -> String {
    let day = budget.resets_at.and_then(crate::time::Timestamp::day_in_words);
    day.map_or_else(|| "It does not reset by itself.".to_owned(), |day| format!("It resets on {day}."))
}

/// The list of models, in the shape that asks. OpenAI's wants a creation time; there is none to tell.
pub fn models<'a>(models: impl Iterator<Item = &'a Model>, shape: Shape) -> Answer {
    let entries: Vec<Value> = models.map(|model| entry(model, shape)).collect();
    let id = |entry: Option<&Value>| entry.and_then(|entry| entry.get("id")).cloned().unwrap_or(Value::Null);
    let list = match shape {
        Shape::OpenAi => json!({"object": "list", "data": entries}),
        Shape::Anthropic => {
            let (first, last) = (id(entries.first()), id(entries.last()));
            json!({"data": entries, "has_more": false, "first_id": first, "last_id": last})
        }
    };
    Answer { status: 200, headers: Vec::new(), body: list.to_string().into_bytes() }
}

/// One model, in the shape that asks.
pub fn model(model: &Model, shape: Shape) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: entry(model, shape).to_string().into_bytes() }
}

fn entry(model: &Model, shape: Shape) -> Value {
    let name = model.name.as_str();
    match shape {
        Shape::OpenAi => {
            json!({"id": name, "object": "model", "created": 0, "owned_by": model.provider.as_str()})
        }
        Shape::Anthropic => {
            json!({"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"})
        }
    }
}

#[cfg(test)]
mod tests;
