//! Chat completions: <https://platform.openai.com/docs/api-reference/chat>.

use super::{CREATED, chat_usage, error_event, includes_usage, not_of, served_tier};
use crate::answer::{Answer, Content, Events, Refusal};
use crate::anthropic::{DECOY_ARGUMENTS, DECOY_TEXT, TOOL_NAME};
use crate::check;
use crate::script::Scenario;
use crate::serve::Request;
use crate::tokens::{Tokens, pieces};
use serde_json::{Value, json};

/// `POST /v1/chat/completions`, of OpenAI or of Anthropic.
pub(crate) fn chat(request: &Request<'_>) -> Result<Answer, Refusal> {
    let anthropic = is_anthropic(request);
    if anthropic {
        check::anthropic_credential(request.headers, request.keys.anthropic.as_deref())?;
        // Anthropic passes over the fields of OpenAI's that it has no use for.
        check::openai_needs(request.body, &["messages"])?;
        not_of(request, &["gpt-", "gemini-", "o1", "o3", "o4"])?;
    } else {
        check::openai_credential(request.headers, request.keys.openai.as_deref())?;
        check::openai_body(request.body, &check::CHAT_FIELDS, &["messages"])?;
        not_of(request, &["claude-", "gemini-"])?;
    }
    request.scripted_error()?;
    let service_tier = if anthropic { request.script.tier.as_deref() } else { Some(served_tier(request)) };
    answer(request, service_tier)
}

/// By the credential; where that does not tell, by the model.
fn is_anthropic(request: &Request<'_>) -> bool {
    let bearer = check::bearer(request.headers);
    let is = |key: &Option<String>| key.is_some() && bearer == key.as_deref();
    if check::header(request.headers, "x-api-key").is_some() || is(&request.keys.anthropic) {
        return true;
    }
    let model = request.body.get("model").and_then(Value::as_str).unwrap_or_default();
    !is(&request.keys.openai) && model.starts_with("claude-")
}

/// `POST /v1beta/openai/chat/completions`.
pub(crate) fn google_chat(request: &Request<'_>) -> Result<Answer, Refusal> {
    check::openai_credential(request.headers, request.keys.gemini.as_deref())?;
    let known = [check::CHAT_FIELDS.as_slice(), &check::GOOGLE_FIELDS].concat();
    check::openai_body(request.body, &known, &["messages"])?;
    not_of(request, &["claude-", "gpt-", "o1", "o3", "o4"])?;
    request.scripted_error()?;
    answer(request, request.script.tier.as_deref())
}

fn answer(request: &Request<'_>, service_tier: Option<&str>) -> Result<Answer, Refusal> {
    let tokens = request.tokens(&["max_completion_tokens", "max_tokens"]);
    let completion = Completion::new(request, service_tier, tokens);
    let content = if request.streams() { completion.events() } else { completion.json() };
    Ok(Answer { status: 200, headers: Vec::new(), content, tokens: request.shown(tokens) })
}

struct Completion<'a> {
    request: &'a Request<'a>,
    service_tier: Option<&'a str>,
    tokens: Tokens,
    text: Vec<String>,
    arguments: Vec<String>,
}

impl<'a> Completion<'a> {
    fn new(request: &'a Request<'a>, service_tier: Option<&'a str>, tokens: Tokens) -> Self {
        let words = pieces(tokens.visible(), request.script.events);
        let (text, arguments) = match request.script.scenario {
            Scenario::Text | Scenario::Thinking => (words, Vec::new()),
            Scenario::ToolUse => {
                (Vec::new(), vec!["{\"place\": \"".to_owned(), words.concat(), "\"}".to_owned()])
            }
            Scenario::Decoy => {
                let (head, tail) = DECOY_ARGUMENTS.split_at(30);
                ([vec![DECOY_TEXT.to_owned()], words].concat(), vec![head.to_owned(), tail.to_owned()])
            }
        };
        Self { request, service_tier, tokens, text, arguments }
    }

    fn finish_reason(&self) -> &'static str {
        if self.arguments.is_empty() { "stop" } else { "tool_calls" }
    }

    fn envelope(&self, object: &str) -> Value {
        json!({
            "id": self.request.id("chatcmpl-"),
            "object": object,
            "created": CREATED,
            "model": self.request.model_name(),
            "service_tier": self.service_tier,
            "system_fingerprint": "fp_mock",
        })
    }

    fn call(&self, arguments: &str) -> Value {
        json!({
            "index": 0, "id": self.request.id("call_"), "type": "function",
            "function": {"name": TOOL_NAME, "arguments": arguments},
        })
    }

    fn json(&self) -> Content {
        let mut message = json!({"role": "assistant", "content": self.text.concat(), "refusal": null});
        if !self.arguments.is_empty() {
            message["tool_calls"] = json!([self.call(&self.arguments.concat())]);
        }
        let mut body = self.envelope("chat.completion");
        let choice = |index: u64| json!({"index": index, "message": message, "finish_reason": self.finish_reason(), "logprobs": null});
        let choices = self.request.number("n").unwrap_or(1).clamp(1, 128);
        body["choices"] = (0..choices).map(choice).collect();
        if !self.request.script.omit_usage {
            body["usage"] = chat_usage(self.tokens);
        }
        Content::Json(body.to_string().into_bytes())
    }

    fn events(&self) -> Content {
        let mut events = Events::default();
        let with_usage = includes_usage(self.request);
        let chunk = |delta: Value, finish_reason: Option<&str>| {
            let mut chunk = self.envelope("chat.completion.chunk");
            chunk["choices"] =
                json!([{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": null}]);
            if with_usage {
                chunk["usage"] = Value::Null;
            }
            chunk
        };
        events.data(&chunk(json!({"role": "assistant", "content": "", "refusal": null}), None));
        for text in &self.text {
            events.data(&chunk(json!({"content": text}), None));
        }
        for (index, arguments) in self.arguments.iter().enumerate() {
            let call = match index {
                0 => self.call(arguments),
                _ => json!({"index": 0, "function": {"arguments": arguments}}),
            };
            events.data(&chunk(json!({"tool_calls": [call]}), None));
        }
        events.data(&chunk(json!({}), Some(self.finish_reason())));
        if with_usage {
            let mut last = self.envelope("chat.completion.chunk");
            last["choices"] = json!([]);
            last["usage"] = chat_usage(self.tokens);
            events.data(&last);
        }
        events.done();
        Content::Events(events.fail_after(self.request.script.error_event, error_event))
    }
}
