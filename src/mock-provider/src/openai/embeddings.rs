//! Embeddings: <https://platform.openai.com/docs/api-reference/embeddings>.

use super::not_of;
use crate::answer::{Answer, Content, Refusal};
use crate::check;
use crate::serve::Request;
use crate::tokens::Tokens;
use serde_json::{Value, json};

/// `POST /v1/embeddings`.
pub(crate) fn embeddings(request: &Request<'_>) -> Result<Answer, Refusal> {
    check::openai_credential(request.headers, request.keys.openai.as_deref())?;
    check::openai_body(request.body, &check::EMBEDDINGS_FIELDS, &["input"])?;
    not_of(request, &["claude-", "gemini-"])?;
    request.scripted_error()?;
    Ok(answer(request))
}

/// `POST /v1beta/openai/embeddings`.
pub(crate) fn google_embeddings(request: &Request<'_>) -> Result<Answer, Refusal> {
    check::openai_credential(request.headers, request.keys.gemini.as_deref())?;
    check::openai_body(request.body, &check::EMBEDDINGS_FIELDS, &["input"])?;
    not_of(request, &["claude-", "text-embedding-3", "text-embedding-ada"])?;
    request.scripted_error()?;
    Ok(answer(request))
}

fn answer(request: &Request<'_>) -> Answer {
    let tokens = Tokens { input: request.tokens(&[]).input, ..Tokens::default() };
    let inputs = match request.body.get("input") {
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => items.len(),
        _ => 1,
    };
    let vector =
        |index: usize| json!({"object": "embedding", "index": index, "embedding": [0.25, -0.5, 0.125]});
    let mut body = json!({
        "object": "list",
        "data": (0..inputs).map(vector).collect::<Vec<_>>(),
        "model": request.model_name(),
    });
    if !request.script.omit_usage {
        body["usage"] = json!({"prompt_tokens": tokens.input, "total_tokens": tokens.input});
    }
    let content = Content::Json(body.to_string().into_bytes());
    Answer { status: 200, headers: Vec::new(), content, tokens: request.shown(tokens) }
}
