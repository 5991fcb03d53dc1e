//! What the real providers refuse: credentials, versions and fields that they do not know.

use crate::answer::Refusal;
use http::HeaderMap;
use serde_json::{Map, Value};

/// The keys that are taken; any where none is set.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Anthropic's.
    pub anthropic: Option<String>,
    /// OpenAI's.
    pub openai: Option<String>,
    /// Google's.
    pub gemini: Option<String>,
}

/// How virtual keys begin: none may ever reach a provider.
const VIRTUAL_KEY: &str = "sk-tg-";

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    header(headers, "authorization")?.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty())
}

/// A key in `x-api-key`, or as a bearer token.
pub(crate) fn anthropic_credential(headers: &HeaderMap, expected: Option<&str>) -> Result<(), Refusal> {
    let Some(key) = header(headers, "x-api-key").or_else(|| bearer(headers)) else {
        return Err(Refusal::new(401, "x-api-key header is required"));
    };
    if accepted(key, expected) && no_virtual_key(headers) {
        return Ok(());
    }
    Err(Refusal::new(401, "invalid x-api-key"))
}

/// A bearer token.
pub(crate) fn openai_credential(headers: &HeaderMap, expected: Option<&str>) -> Result<(), Refusal> {
    let Some(key) = bearer(headers) else {
        return Err(Refusal::new(401, "You didn't provide an API key."));
    };
    if accepted(key, expected) && no_virtual_key(headers) {
        return Ok(());
    }
    Err(Refusal::new(401, "Incorrect API key provided."))
}

fn accepted(key: &str, expected: Option<&str>) -> bool {
    !key.starts_with(VIRTUAL_KEY) && expected.is_none_or(|expected| expected == key)
}

/// In no header at all, whichever is read.
fn no_virtual_key(headers: &HeaderMap) -> bool {
    headers.values().all(|value| !value.to_str().is_ok_and(|value| value.contains(VIRTUAL_KEY)))
}

/// Anthropic's version header.
pub(crate) fn anthropic_version(headers: &HeaderMap) -> Result<(), Refusal> {
    match header(headers, "anthropic-version") {
        Some("2026-10-21" | "2023-06-01" | "2023-01-01") => Ok(()),
        Some(other) => {
            Err(Refusal::new(400, format!("anthropic-version: \"{other}\" is not a valid version")))
        }
        None => Err(Refusal::new(400, "anthropic-version: header is required")),
    }
}

/// The body as an object.
pub(crate) fn object(body: &Value) -> Result<&Map<String, Value>, Refusal> {
    body.as_object().ok_or_else(|| Refusal::new(400, "The request body is not valid JSON"))
}

pub(crate) fn model(body: &Value) -> Result<&str, Refusal> {
    match body.get("model").and_then(Value::as_str) {
        Some(model) if !model.is_empty() => Ok(model),
        _ => Err(Refusal::new(400, "model: Field required").param("model")),
    }
}

const MESSAGES_FIELDS: [&str; 24] = [
    "cache_control",
    "compaction",
    "container",
    "context_management",
    "fallbacks",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

const COUNT_TOKENS_FIELDS: [&str; 11] = [
    "cache_control",
    "context_management",
    "mcp_servers",
    "messages",
    "model",
    "output_config",
    "output_format",
    "system",
    "thinking",
    "tool_choice",
    "tools",
];

/// The body of `/v1/messages`.
pub(crate) fn messages_body(body: &Value) -> Result<(), Refusal> {
    let members = object(body)?;
    anthropic_fields(members, &MESSAGES_FIELDS)?;
    model(body)?;
    required(members, "messages")?;
    match members.get("max_tokens").map(Value::as_u64) {
        Some(Some(1..)) => {}
        Some(_) => return Err(Refusal::new(400, "max_tokens: Input should be a valid positive integer")),
        None => return Err(Refusal::new(400, "max_tokens: Field required")),
    }
    let metadata = members.get("metadata").and_then(Value::as_object);
    match metadata.and_then(|metadata| metadata.keys().find(|name| *name != "user_id")) {
        Some(name) => Err(Refusal::new(400, format!("metadata.{name}: Extra inputs are not permitted"))),
        None => Ok(()),
    }
}

/// The body of `/v1/messages/count_tokens`.
pub(crate) fn count_tokens_body(body: &Value) -> Result<(), Refusal> {
    let members = object(body)?;
    anthropic_fields(members, &COUNT_TOKENS_FIELDS)?;
    model(body)?;
    required(members, "messages")
}

fn anthropic_fields(members: &Map<String, Value>, known: &[&str]) -> Result<(), Refusal> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Refusal::new(400, format!("{name}: Extra inputs are not permitted"))),
        None => Ok(()),
    }
}

fn required(members: &Map<String, Value>, name: &str) -> Result<(), Refusal> {
    let missing = || Refusal::new(400, format!("{name}: Field required")).param(name);
    members.get(name).map(|_| ()).ok_or_else(missing)
}

pub(crate) const CHAT_FIELDS: [&str; 36] = [
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];

/// What Google takes beyond.
pub(crate) const GOOGLE_FIELDS: [&str; 1] = ["extra_body"];

pub(crate) const RESPONSES_FIELDS: [&str; 32] = [
    "background",
    "client_metadata",
    "context_management",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

pub(crate) const EMBEDDINGS_FIELDS: [&str; 5] = ["dimensions", "encoding_format", "input", "model", "user"];

pub(crate) const COMPLETIONS_FIELDS: [&str; 18] = [
    "best_of",
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "model",
    "n",
    "presence_penalty",
    "prompt",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "suffix",
    "temperature",
    "top_p",
    "user",
];

/// A body of OpenAI's: its fields, which of them must be there, and its metadata.
pub(crate) fn openai_body(body: &Value, known: &[&str], needed: &[&str]) -> Result<(), Refusal> {
    let members = object(body)?;
    if let Some(name) = members.keys().find(|name| !known.contains(&name.as_str())) {
        let message = format!("Unrecognized request argument supplied: {name}");
        return Err(Refusal::new(400, message).param(name).code("unknown_parameter"));
    }
    openai_needs(body, needed)?;
    metadata_of_strings(members.get("metadata"))?;
    let stream = members.get("stream").and_then(Value::as_bool).unwrap_or(false);
    if !stream && members.get("stream_options").is_some_and(|options| !options.is_null()) {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Refusal::new(400, message).param("stream_options"));
    }
    Ok(())
}

/// The fields without which a body says nothing.
pub(crate) fn openai_needs(body: &Value, needed: &[&str]) -> Result<(), Refusal> {
    let members = object(body)?;
    let Some(missing) = needed.iter().find(|name| !members.contains_key(**name)) else {
        return model(body).map(|_| ());
    };
    let message = format!("Missing required parameter: '{missing}'.");
    Err(Refusal::new(400, message).param(missing).code("missing_required_parameter"))
}

fn metadata_of_strings(metadata: Option<&Value>) -> Result<(), Refusal> {
    let refusal = |param: &str| {
        Refusal::new(400, format!("Invalid type for '{param}': expected a string."))
            .param(param)
            .code("invalid_type")
    };
    match metadata {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(members)) => match members.iter().find(|(_, value)| !value.is_string()) {
            Some((name, _)) => Err(refusal(&format!("metadata.{name}"))),
            None => Ok(()),
        },
        Some(_) => Err(refusal("metadata")),
    }
}
