//! Where usage stands in answers, for each API.

use super::reading::Field::{self, *};
use crate::api::Api;
use crate::json::{Node, Text};

type Shape = Node<Field>;

const fn number(field: Field) -> Shape {
    Node::leaf(field, Text::Skip)
}

const fn name(field: Field) -> Shape {
    Node::leaf(field, Text::Keep(256))
}

static MODEL: Shape = name(Model);
static TYPE: Shape = name(Type);
static SERVICE_TIER: Shape = name(ServiceTier);
static ERROR: Shape = number(Error);
static TEXT: Shape = Node::leaf(Output, Text::Count);

// Anthropic's messages.

static INPUT: Shape = number(Input);
static OUTPUT: Shape = number(OutputTokens);
static CACHE_READ: Shape = number(CacheRead);
static CACHE_WRITE: Shape = number(CacheWrite);
static CACHE_WRITE_5M: Shape = number(CacheWrite5m);
static CACHE_WRITE_1H: Shape = number(CacheWrite1h);
static CACHE_CREATION: Shape = Node::object(&[
    ("ephemeral_5m_input_tokens", &CACHE_WRITE_5M),
    ("ephemeral_1h_input_tokens", &CACHE_WRITE_1H),
]);
static WEB_SEARCHES: Shape = number(WebSearches);
static SERVER_TOOL_USE: Shape = Node::object(&[("web_search_requests", &WEB_SEARCHES)]);
static SPEED: Shape = name(Speed);
static INFERENCE_GEO: Shape = name(InferenceGeo);

static PART_MODEL: Shape = name(PartModel);
static PART_TYPE: Shape = name(PartType);
static PART: Shape = Node::object(&[
    ("type", &PART_TYPE),
    ("model", &PART_MODEL),
    ("input_tokens", &INPUT),
    ("output_tokens", &OUTPUT),
    ("cache_read_input_tokens", &CACHE_READ),
    ("cache_creation_input_tokens", &CACHE_WRITE),
    ("cache_creation", &CACHE_CREATION),
])
.named(Part);
static PARTS: Shape = Node::array(&PART).named(Parts);

static MESSAGES_USAGE: Shape = Node::object(&[
    ("input_tokens", &INPUT),
    ("output_tokens", &OUTPUT),
    ("cache_read_input_tokens", &CACHE_READ),
    ("cache_creation_input_tokens", &CACHE_WRITE),
    ("cache_creation", &CACHE_CREATION),
    ("server_tool_use", &SERVER_TOOL_USE),
    ("service_tier", &SERVICE_TIER),
    ("speed", &SPEED),
    ("inference_geo", &INFERENCE_GEO),
    ("iterations", &PARTS),
])
.named(Usage);

static STOP_REASON: Shape = name(StopReason);
static BLOCK: Shape = Node::object(&[("text", &TEXT), ("thinking", &TEXT)]);
static BLOCKS: Shape = Node::array(&BLOCK);

static MESSAGE: Shape = Node::object(&[
    ("type", &TYPE),
    ("model", &MODEL),
    ("content", &BLOCKS),
    ("stop_reason", &STOP_REASON),
    ("usage", &MESSAGES_USAGE),
    ("error", &ERROR),
]);

static STARTED: Shape = Node::object(&[("model", &MODEL), ("usage", &MESSAGES_USAGE)]);
/// `content` is the text of a summary.
static MESSAGES_DELTA: Shape =
    Node::object(&[("text", &TEXT), ("thinking", &TEXT), ("partial_json", &TEXT), ("content", &TEXT)]);
static MESSAGES_EVENT: Shape = Node::object(&[
    ("type", &TYPE),
    ("message", &STARTED),
    ("delta", &MESSAGES_DELTA),
    ("content_block", &BLOCK),
    ("usage", &MESSAGES_USAGE),
    ("error", &ERROR),
]);

// OpenAI's chat completions, and completions and embeddings, whose usage looks alike.

static CACHED: Shape = number(CacheRead);
static CACHE_WRITTEN: Shape = number(CacheWrite);
static PROMPT_DETAILS: Shape =
    Node::object(&[("cached_tokens", &CACHED), ("cache_write_tokens", &CACHE_WRITTEN)]);
static TOTAL: Shape = number(Total);
static CHAT_USAGE: Shape = Node::object(&[
    ("prompt_tokens", &INPUT),
    ("completion_tokens", &OUTPUT),
    ("total_tokens", &TOTAL),
    ("prompt_tokens_details", &PROMPT_DETAILS),
])
.named(Usage);

static FUNCTION: Shape = Node::object(&[("arguments", &TEXT), ("input", &TEXT)]);
static TOOL_CALL: Shape = Node::object(&[("function", &FUNCTION), ("custom", &FUNCTION)]);
static TOOL_CALLS: Shape = Node::array(&TOOL_CALL);
static SAID: Shape = Node::object(&[
    ("content", &TEXT),
    ("refusal", &TEXT),
    ("reasoning_content", &TEXT),
    ("tool_calls", &TOOL_CALLS),
    ("function_call", &FUNCTION),
]);
static CHOICE: Shape =
    Node::object(&[("message", &SAID), ("delta", &SAID), ("text", &TEXT), ("finish_reason", &STOP_REASON)])
        .named(Choice);
static CHOICES: Shape = Node::array(&CHOICE).named(Choices);

/// Also the shape of an event: the two differ in `message` and `delta` alone.
static CHAT: Shape = Node::object(&[
    ("model", &MODEL),
    ("service_tier", &SERVICE_TIER),
    ("choices", &CHOICES),
    ("usage", &CHAT_USAGE),
    ("error", &ERROR),
]);

// OpenAI's responses.

static INPUT_DETAILS: Shape =
    Node::object(&[("cached_tokens", &CACHED), ("cache_write_tokens", &CACHE_WRITTEN)]);
static RESPONSES_USAGE: Shape = Node::object(&[
    ("input_tokens", &INPUT),
    ("output_tokens", &OUTPUT),
    ("input_tokens_details", &INPUT_DETAILS),
])
.named(Usage);

static OUTPUT_PART: Shape = Node::object(&[("text", &TEXT), ("refusal", &TEXT)]);
static OUTPUT_PARTS: Shape = Node::array(&OUTPUT_PART);
static ITEM_TYPE: Shape = name(ItemType);
static ACTION_TYPE: Shape = name(ActionType);
static ACTION: Shape = Node::object(&[("type", &ACTION_TYPE)]);
static ITEM: Shape = Node::object(&[
    ("type", &ITEM_TYPE),
    ("action", &ACTION),
    ("content", &OUTPUT_PARTS),
    ("arguments", &TEXT),
    ("input", &TEXT),
])
.named(Item);
static ITEMS: Shape = Node::array(&ITEM).named(Items);
static STATUS: Shape = name(Status);

static RESPONSE: Shape = Node::object(&[
    ("model", &MODEL),
    ("status", &STATUS),
    ("service_tier", &SERVICE_TIER),
    ("output", &ITEMS),
    ("usage", &RESPONSES_USAGE),
    ("error", &ERROR),
]);

/// Inside an event the texts of the whole response were counted as deltas before.
static COUNTED_ITEM: Shape = Node::object(&[("type", &ITEM_TYPE), ("action", &ACTION)]).named(Item);
static COUNTED_ITEMS: Shape = Node::array(&COUNTED_ITEM).named(Items);
static COUNTED_RESPONSE: Shape = Node::object(&[
    ("model", &MODEL),
    ("status", &STATUS),
    ("service_tier", &SERVICE_TIER),
    ("output", &COUNTED_ITEMS),
    ("usage", &RESPONSES_USAGE),
    ("error", &ERROR),
]);
static RESPONSES_EVENT: Shape = Node::object(&[
    ("type", &TYPE),
    ("delta", &TEXT),
    ("item", &COUNTED_ITEM),
    ("response", &COUNTED_RESPONSE),
    ("error", &ERROR),
]);

/// The shape of a whole answer.
pub(super) fn json(api: Api) -> &'static Shape {
    match api {
        Api::Messages => &MESSAGE,
        Api::ChatCompletions | Api::Embeddings | Api::Completions => &CHAT,
        Api::Responses => &RESPONSE,
    }
}

/// The shape of an event's data.
pub(super) fn event(api: Api) -> &'static Shape {
    match api {
        Api::Messages => &MESSAGES_EVENT,
        Api::ChatCompletions | Api::Embeddings | Api::Completions => &CHAT,
        Api::Responses => &RESPONSES_EVENT,
    }
}
