//! OpenAI's APIs, and those that Anthropic and Google make compatible with them.

mod chat;
mod completions;
mod embeddings;
mod responses;

pub(crate) use chat::{chat, google_chat};
pub(crate) use completions::completions;
pub(crate) use embeddings::{embeddings, google_embeddings};
pub(crate) use responses::responses;

use crate::answer::{Events, Refusal, scripted_message};
use crate::serve::Request;
use crate::tokens::Tokens;
use serde_json::{Value, json};

/// Seconds since the epoch that answers name: the same in every run.
const CREATED: u64 = 1_790_000_000;

/// `usage` as chat and completions have it.
fn chat_usage(tokens: Tokens) -> Value {
    let input = tokens.input_with_cache();
    let mut usage = json!({
        "prompt_tokens": input,
        "completion_tokens": tokens.output,
        "total_tokens": input.saturating_add(tokens.output),
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    });
    if tokens.cache_write() > 0 {
        usage["prompt_tokens_details"]["cache_write_tokens"] = json!(tokens.cache_write());
    }
    usage
}

/// The service tier that an answer of OpenAI's names: the one that was asked for and served, else `default`. Anthropic's and
/// Google's compatible chat name none.
fn served_tier<'a>(request: &'a Request<'_>) -> &'a str {
    let asked = request.body.get("service_tier").and_then(Value::as_str);
    let served = asked.filter(|tier| matches!(*tier, "flex" | "priority"));
    request.script.tier.as_deref().or(served).unwrap_or("default")
}

/// Whether the stream's last chunk is to bring usage.
fn includes_usage(request: &Request<'_>) -> bool {
    let wanted = request.body.pointer("/stream_options/include_usage").and_then(Value::as_bool);
    wanted.unwrap_or(false) && !request.script.omit_usage
}

/// The error in the middle of a chat stream.
fn error_event(events: &mut Events) {
    events.data(&Refusal::new(500, scripted_message(500)).openai());
}

/// Refuses a model that another provider serves: a wrong route shows at once.
fn not_of(request: &Request<'_>, prefixes: &[&str]) -> Result<(), Refusal> {
    let model = request.body.get("model").and_then(Value::as_str).unwrap_or_default();
    if prefixes.iter().any(|prefix| model.starts_with(prefix)) {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        return Err(Refusal::new(404, message).code("model_not_found"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
