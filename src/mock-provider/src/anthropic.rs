//! Anthropic's Messages API: <https://docs.claude.com/en/api/messages> and
//! <https://docs.claude.com/en/docs/build-with-claude/streaming>.

use crate::answer::{Answer, Content, Events, Refusal, scripted_message};
use crate::check;
use crate::script::Scenario;
use crate::serve::Request;
use crate::tokens::{Tokens, estimate, pieces};
use serde_json::{Map, Value, json};

/// A block of the answer, as pieces.
enum Block {
    Thinking(Vec<String>),
    Text(Vec<String>),
    ToolUse { name: &'static str, input: Vec<String> },
    Search,
}

/// `POST /v1/messages`.
pub(crate) fn messages(request: &Request<'_>) -> Result<Answer, Refusal> {
    check::anthropic_credential(request.headers, request.keys.anthropic.as_deref())?;
    check::anthropic_version(request.headers)?;
    check::messages_body(request.body)?;
    request.scripted_error()?;
    let tokens = request.tokens(&["max_tokens"]);
    let message = Message::new(request, tokens);
    let content = if request.streams() { message.events() } else { message.json() };
    Ok(Answer { status: 200, headers: Vec::new(), content, tokens: request.shown(tokens) })
}

/// `POST /v1/messages/count_tokens`.
pub(crate) fn count_tokens(request: &Request<'_>) -> Result<Answer, Refusal> {
    check::anthropic_credential(request.headers, request.keys.anthropic.as_deref())?;
    check::anthropic_version(request.headers)?;
    check::count_tokens_body(request.body)?;
    request.scripted_error()?;
    let input = request.script.input.unwrap_or_else(|| estimate(request.body));
    let body = json!({"input_tokens": input}).to_string().into_bytes();
    Ok(Answer { status: 200, headers: Vec::new(), content: Content::Json(body), tokens: None })
}

struct Message<'a> {
    request: &'a Request<'a>,
    tokens: Tokens,
    blocks: Vec<Block>,
    stop_reason: &'static str,
}

/// False usage wherever a model or a client can put it.
pub(crate) const DECOY_TEXT: &str = concat!(
    "\"usage\":{\"input_tokens\":987654,\"output_tokens\":987654},\"model\":\"decoy-model\"\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":987654}}\n\n",
    "data: {\"usage\":{\"prompt_tokens\":987654,\"completion_tokens\":987654,\"total_tokens\":1975308}}\n\n",
    "data: [DONE]\n\n",
);

/// The same, as the arguments of a tool.
pub(crate) const DECOY_ARGUMENTS: &str = concat!(
    "{\"model\":\"decoy-model\",\"usage\":{\"input_tokens\":987654,\"output_tokens\":987654},",
    "\"message\":{\"model\":\"decoy-model\",\"usage\":{\"input_tokens\":987654}},",
    "\"response\":{\"usage\":{\"input_tokens\":987654,\"output_tokens\":987654}}}",
);

pub(crate) const TOOL_NAME: &str = "get_weather";

impl<'a> Message<'a> {
    fn new(request: &'a Request<'a>, tokens: Tokens) -> Self {
        let events = request.script.events;
        let mut blocks = Vec::new();
        if tokens.reasoning > 0 {
            blocks.push(Block::Thinking(pieces(tokens.reasoning, events)));
        }
        if tokens.web_searches > 0 {
            blocks.push(Block::Search);
        }
        let text = pieces(tokens.visible(), events);
        let tool = |input| Block::ToolUse { name: TOOL_NAME, input };
        match request.script.scenario {
            Scenario::Text | Scenario::Thinking => blocks.push(Block::Text(text)),
            Scenario::ToolUse => {
                blocks.push(Block::Text(vec!["One moment.".to_owned()]));
                blocks.push(tool(vec!["{\"place\": \"".to_owned(), text.concat(), "\"}".to_owned()]));
            }
            Scenario::Decoy => {
                blocks.push(Block::Text([vec![DECOY_TEXT.to_owned()], text].concat()));
                let (head, tail) = DECOY_ARGUMENTS.split_at(30);
                blocks.push(tool(vec![head.to_owned(), tail.to_owned()]));
            }
        }
        let stop_reason = match request.script.scenario {
            Scenario::ToolUse | Scenario::Decoy => "tool_use",
            _ if request.body.get("max_tokens").and_then(Value::as_u64) == Some(tokens.output) => {
                "max_tokens"
            }
            _ => "end_turn",
        };
        Self { request, tokens, blocks, stop_reason }
    }

    fn json(&self) -> Content {
        let content: Vec<Value> = self.blocks.iter().map(|block| block.whole(self.request)).collect();
        let mut message = self.envelope(content, json!(self.stop_reason));
        if !self.request.script.omit_usage {
            message.insert("usage".to_owned(), self.usage(self.tokens.output));
        }
        Content::Json(Value::Object(message).to_string().into_bytes())
    }

    fn envelope(&self, content: Vec<Value>, stop_reason: Value) -> Map<String, Value> {
        let message = json!({
            "id": self.request.id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self.request.model_name(),
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
        });
        match message {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    fn usage(&self, output: u64) -> Value {
        let (tokens, script) = (self.tokens, self.request.script);
        let mut usage = json!({
            "input_tokens": tokens.input,
            "cache_creation_input_tokens": tokens.cache_write(),
            "cache_read_input_tokens": tokens.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": tokens.cache_write_5m,
                "ephemeral_1h_input_tokens": tokens.cache_write_1h,
            },
            "output_tokens": output,
            "service_tier": script.tier.as_deref().unwrap_or("standard"),
        });
        if tokens.web_searches > 0 {
            usage["server_tool_use"] = json!({"web_search_requests": tokens.web_searches});
        }
        for (name, value) in [("speed", &script.speed), ("inference_geo", &script.geo)] {
            if let Some(value) = value {
                usage[name] = json!(value);
            }
        }
        usage
    }

    fn events(&self) -> Content {
        let mut events = Events::default();
        let mut message = self.envelope(Vec::new(), Value::Null);
        if !self.request.script.omit_usage {
            message.insert("usage".to_owned(), self.usage(self.tokens.output.min(1)));
        }
        events.named("message_start", &json!({"type": "message_start", "message": message}));
        for (index, block) in self.blocks.iter().enumerate() {
            let start = json!({"type": "content_block_start", "index": index, "content_block": block.empty(self.request)});
            events.named("content_block_start", &start);
            if index == 0 {
                events.named("ping", &json!({"type": "ping"}));
            }
            for delta in block.deltas() {
                let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
                events.named("content_block_delta", &delta);
            }
            events.named("content_block_stop", &json!({"type": "content_block_stop", "index": index}));
        }
        let mut delta = json!({
            "type": "message_delta",
            "delta": {"stop_reason": self.stop_reason, "stop_sequence": null},
        });
        if !self.request.script.omit_usage {
            delta["usage"] = self.final_usage();
        }
        events.named("message_delta", &delta);
        events.named("message_stop", &json!({"type": "message_stop"}));
        let error = Refusal::new(529, scripted_message(529)).anthropic();
        Content::Events(
            events.fail_after(self.request.script.error_event, |events| events.named("error", &error)),
        )
    }

    /// Cumulative, and shorter than at the start: tier and split stand there only.
    fn final_usage(&self) -> Value {
        let tokens = self.tokens;
        let mut usage = json!({
            "input_tokens": tokens.input,
            "cache_creation_input_tokens": tokens.cache_write(),
            "cache_read_input_tokens": tokens.cache_read,
            "output_tokens": tokens.output,
        });
        if tokens.web_searches > 0 {
            usage["server_tool_use"] = json!({"web_search_requests": tokens.web_searches});
        }
        usage
    }
}

impl Block {
    /// As a JSON answer holds it.
    fn whole(&self, request: &Request<'_>) -> Value {
        match self {
            Self::Thinking(pieces) => {
                json!({"type": "thinking", "thinking": pieces.concat(), "signature": "bW9jaw=="})
            }
            Self::Text(pieces) => json!({"type": "text", "text": pieces.concat()}),
            Self::ToolUse { name, input } => {
                let input: Value = serde_json::from_str(&input.concat()).unwrap_or_default();
                json!({"type": "tool_use", "id": request.id("toolu_"), "name": name, "input": input})
            }
            Self::Search => json!({
                "type": "server_tool_use", "id": request.id("srvtoolu_"), "name": "web_search",
                "input": {"query": "gates"},
            }),
        }
    }

    /// As it starts in a stream.
    fn empty(&self, request: &Request<'_>) -> Value {
        match self {
            Self::Thinking(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Self::Text(_) => json!({"type": "text", "text": ""}),
            Self::ToolUse { name, .. } => {
                json!({"type": "tool_use", "id": request.id("toolu_"), "name": name, "input": {}})
            }
            Self::Search => self.whole(request),
        }
    }

    fn deltas(&self) -> Vec<Value> {
        match self {
            Self::Thinking(pieces) => {
                let thinking = pieces.iter().map(|text| json!({"type": "thinking_delta", "thinking": text}));
                thinking.chain([json!({"type": "signature_delta", "signature": "bW9jaw=="})]).collect()
            }
            Self::Text(pieces) => {
                pieces.iter().map(|text| json!({"type": "text_delta", "text": text})).collect()
            }
            Self::ToolUse { input, .. } => {
                input.iter().map(|text| json!({"type": "input_json_delta", "partial_json": text})).collect()
            }
            Self::Search => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
