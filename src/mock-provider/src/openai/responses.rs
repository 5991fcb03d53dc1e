//! Responses: <https://platform.openai.com/docs/api-reference/responses> and its streaming events.

use super::{CREATED, not_of, served_tier};
use crate::answer::{Answer, Content, Events, Refusal, scripted_message};
use crate::anthropic::{DECOY_ARGUMENTS, DECOY_TEXT, TOOL_NAME};
use crate::check;
use crate::script::Scenario;
use crate::serve::Request;
use crate::tokens::{Tokens, pieces};
use serde_json::{Value, json};

/// `POST /v1/responses`.
pub(crate) fn responses(request: &Request<'_>) -> Result<Answer, Refusal> {
    check::openai_credential(request.headers, request.keys.openai.as_deref())?;
    check::openai_body(request.body, &check::RESPONSES_FIELDS, &["input"])?;
    not_of(request, &["claude-", "gemini-"])?;
    request.scripted_error()?;
    let tokens = request.tokens(&["max_output_tokens"]);
    let response = Response::new(request, tokens);
    let content = if request.streams() { response.events() } else { response.json() };
    Ok(Answer { status: 200, headers: Vec::new(), content, tokens: request.shown(tokens) })
}

/// An item of the output, and the deltas that tell it.
struct Item {
    whole: Value,
    kind: Kind,
    deltas: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Search,
    Message,
    Call,
}

struct Response<'a> {
    request: &'a Request<'a>,
    tokens: Tokens,
    items: Vec<Item>,
}

impl<'a> Response<'a> {
    fn new(request: &'a Request<'a>, tokens: Tokens) -> Self {
        let words = pieces(tokens.visible(), request.script.events);
        let mut items = Vec::new();
        if tokens.reasoning > 0 {
            items.push(reasoning(request));
        }
        items.extend((0..tokens.web_searches.min(100)).map(|index| search(request, index)));
        match request.script.scenario {
            Scenario::Text | Scenario::Thinking => items.push(message(request, words)),
            Scenario::ToolUse => {
                items
                    .push(call(request, vec!["{\"place\": \"".to_owned(), words.concat(), "\"}".to_owned()]));
            }
            Scenario::Decoy => {
                items.push(message(request, [vec![DECOY_TEXT.to_owned()], words].concat()));
                let (head, tail) = DECOY_ARGUMENTS.split_at(30);
                items.push(call(request, vec![head.to_owned(), tail.to_owned()]));
            }
        }
        Self { request, tokens, items }
    }

    fn envelope(&self, status: &str, output: Vec<&Value>, usage: Value) -> Value {
        let metadata = match self.request.script.scenario {
            Scenario::Decoy => json!({"usage": "{\"input_tokens\":987654}", "model": "decoy-model"}),
            _ => self.request.body.get("metadata").cloned().unwrap_or_else(|| json!({})),
        };
        json!({
            "id": self.request.id("resp_"),
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "error": null,
            "incomplete_details": null,
            "instructions": self.request.body.get("instructions"),
            "max_output_tokens": self.request.number("max_output_tokens"),
            "metadata": metadata,
            "model": self.request.model_name(),
            "output": output,
            "parallel_tool_calls": true,
            "previous_response_id": self.request.body.get("previous_response_id"),
            "service_tier": served_tier(self.request),
            "store": true,
            "tool_choice": "auto",
            "tools": self.request.body.get("tools").cloned().unwrap_or_else(|| json!([])),
            "usage": usage,
        })
    }

    fn finished(&self) -> Value {
        let output = self.items.iter().map(|item| &item.whole).collect();
        self.envelope(
            "completed",
            output,
            if self.request.script.omit_usage { Value::Null } else { self.usage() },
        )
    }

    fn usage(&self) -> Value {
        let input = self.tokens.input_with_cache();
        let mut usage = json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": self.tokens.cache_read},
            "output_tokens": self.tokens.output,
            "output_tokens_details": {"reasoning_tokens": self.tokens.reasoning},
            "total_tokens": input.saturating_add(self.tokens.output),
        });
        if self.tokens.cache_write() > 0 {
            usage["input_tokens_details"]["cache_write_tokens"] = json!(self.tokens.cache_write());
        }
        usage
    }

    fn json(&self) -> Content {
        Content::Json(self.finished().to_string().into_bytes())
    }

    fn events(&self) -> Content {
        let mut told = Told::default();
        let open = self.envelope("in_progress", Vec::new(), Value::Null);
        told.event("response.created", json!({"response": open}));
        told.event("response.in_progress", json!({"response": open}));
        for (index, item) in self.items.iter().enumerate() {
            told.item(index, item);
        }
        told.event("response.completed", json!({"response": self.finished()}));
        let sequence = self.request.script.error_event;
        let error = json!({
            "type": "error", "code": "server_error", "message": scripted_message(500), "param": null,
            "sequence_number": sequence,
        });
        Content::Events(told.events.fail_after(sequence, |events| events.named("error", &error)))
    }
}

/// Events in their order, numbered.
#[derive(Default)]
struct Told {
    events: Events,
    sequence: u64,
}

impl Told {
    fn event(&mut self, name: &str, mut data: Value) {
        data["type"] = json!(name);
        data["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        self.events.named(name, &data);
    }

    fn item(&mut self, index: usize, item: &Item) {
        let mut open = item.whole.clone();
        open["status"] = json!("in_progress");
        let id = item.whole["id"].clone();
        match item.kind {
            Kind::Message => open["content"] = json!([]),
            Kind::Call => open["arguments"] = json!(""),
            Kind::Reasoning | Kind::Search => {}
        }
        self.event("response.output_item.added", json!({"output_index": index, "item": open}));
        let at = |more: Value| {
            let mut at = json!({"item_id": id, "output_index": index, "content_index": 0});
            if let (Some(at), Value::Object(more)) = (at.as_object_mut(), more) {
                at.extend(more);
            }
            at
        };
        let empty_part = json!({"type": "output_text", "text": "", "annotations": []});
        match item.kind {
            Kind::Message => {
                self.event("response.content_part.added", at(json!({"part": empty_part})));
                for delta in &item.deltas {
                    self.event("response.output_text.delta", at(json!({"delta": delta})));
                }
                self.event("response.output_text.done", at(json!({"text": item.deltas.concat()})));
                self.event("response.content_part.done", at(json!({"part": item.whole["content"][0]})));
            }
            Kind::Call => {
                for delta in &item.deltas {
                    self.event("response.function_call_arguments.delta", at(json!({"delta": delta})));
                }
                let whole = at(json!({"arguments": item.deltas.concat()}));
                self.event("response.function_call_arguments.done", whole);
            }
            Kind::Search => {
                for phase in ["in_progress", "searching", "completed"] {
                    self.event(&format!("response.web_search_call.{phase}"), at(json!({})));
                }
            }
            Kind::Reasoning => {}
        }
        self.event("response.output_item.done", json!({"output_index": index, "item": item.whole}));
    }
}

fn reasoning(request: &Request<'_>) -> Item {
    let whole = json!({"type": "reasoning", "id": request.id("rs_"), "summary": []});
    Item { whole, kind: Kind::Reasoning, deltas: Vec::new() }
}

fn search(request: &Request<'_>, index: u64) -> Item {
    let whole = json!({
        "type": "web_search_call", "id": format!("{}_{index}", request.id("ws_")), "status": "completed",
        "action": {"type": "search", "query": "gates"},
    });
    Item { whole, kind: Kind::Search, deltas: Vec::new() }
}

fn message(request: &Request<'_>, deltas: Vec<String>) -> Item {
    let whole = json!({
        "type": "message", "id": request.id("msg_"), "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "text": deltas.concat(), "annotations": []}],
    });
    Item { whole, kind: Kind::Message, deltas }
}

fn call(request: &Request<'_>, deltas: Vec<String>) -> Item {
    let whole = json!({
        "type": "function_call", "id": request.id("fc_"), "call_id": request.id("call_"), "status": "completed",
        "name": TOOL_NAME, "arguments": deltas.concat(),
    });
    Item { whole, kind: Kind::Call, deltas }
}
