//! Text completions: <https://platform.openai.com/docs/api-reference/completions>.

use super::{CREATED, chat_usage, error_event, includes_usage, not_of};
use crate::answer::{Answer, Content, Events, Refusal};
use crate::anthropic::DECOY_TEXT;
use crate::check;
use crate::script::Scenario;
use crate::serve::Request;
use crate::tokens::{Tokens, pieces};
use serde_json::{Value, json};

/// `POST /v1/completions`.
pub(crate) fn completions(request: &Request<'_>) -> Result<Answer, Refusal> {
    check::openai_credential(request.headers, request.keys.openai.as_deref())?;
    check::openai_body(request.body, &check::COMPLETIONS_FIELDS, &["prompt"])?;
    not_of(request, &["claude-", "gemini-"])?;
    request.scripted_error()?;
    let tokens = request.tokens(&["max_tokens"]);
    let content = if request.streams() { events(request, tokens) } else { json(request, tokens) };
    Ok(Answer { status: 200, headers: Vec::new(), content, tokens: request.shown(tokens) })
}

fn text(request: &Request<'_>, tokens: Tokens) -> Vec<String> {
    let words = pieces(tokens.output, request.script.events);
    match request.script.scenario {
        Scenario::Decoy => [vec![DECOY_TEXT.to_owned()], words].concat(),
        _ => words,
    }
}

fn body(request: &Request<'_>, choices: Value) -> Value {
    json!({
        "id": request.id("cmpl-"), "object": "text_completion", "created": CREATED,
        "model": request.model_name(), "choices": choices,
    })
}

fn choice(text: &str, finish_reason: Option<&str>) -> Value {
    json!([{"text": text, "index": 0, "logprobs": null, "finish_reason": finish_reason}])
}

fn json(request: &Request<'_>, tokens: Tokens) -> Content {
    let mut body = body(request, choice(&text(request, tokens).concat(), Some("stop")));
    if !request.script.omit_usage {
        body["usage"] = chat_usage(tokens);
    }
    Content::Json(body.to_string().into_bytes())
}

fn events(request: &Request<'_>, tokens: Tokens) -> Content {
    let mut events = Events::default();
    let with_usage = includes_usage(request);
    for piece in text(request, tokens) {
        events.data(&body(request, choice(&piece, None)));
    }
    events.data(&body(request, choice("", Some("stop"))));
    if with_usage {
        let mut last = body(request, json!([]));
        last["usage"] = chat_usage(tokens);
        events.data(&last);
    }
    events.done();
    Content::Events(events.fail_after(request.script.error_event, error_event))
}
