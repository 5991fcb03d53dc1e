//! Which fields of a request's body are looked at, for each API. Everything else, the prompt above all, is skipped.

use super::body::Field::{self, *};
use crate::api::Api;
use crate::json::{Node, Text};

type Shape = Node<Field>;

/// Bytes of the longest name that means anything: a model, a tier, a type.
const NAME: Text = Text::Keep(128);

const fn name(field: Field) -> Shape {
    Node::leaf(field, NAME)
}

const fn plain(field: Field) -> Shape {
    Node::leaf(field, Text::Skip)
}

static MODEL: Shape = Node::leaf(Model, Text::Keep(256));
static STREAM: Shape = plain(Stream);
static MAX_TOKENS: Shape = plain(MaxTokens);
static SERVICE_TIER: Shape = name(ServiceTier);
static USER: Shape = Node::leaf(EndUser, Text::Keep(256));

static TAG: Shape = Node::leaf(Tag, Text::Keep(256));
static TAGS: Shape = Node::array(&TAG).named(Tags);
static LITELLM_METADATA: Shape = Node::object(&[("tags", &TAGS)]).named(LitellmMetadata);
static METADATA: Shape = Node::object(&[("tags", &TAGS), ("user_id", &USER)]).named(Metadata);

static CACHE_TTL: Shape = name(CacheTtl);
static CACHE_CONTROL: Shape = Node::object(&[("ttl", &CACHE_TTL)]).named(CacheControl);

static BLOCK_TYPE: Shape = name(BlockType);
static SOURCE_TYPE: Shape = name(SourceType);
/// Where a block's content comes from; a document may be made of blocks.
static SOURCE: Shape = Node::object(&[("type", &SOURCE_TYPE), ("content", &CONTENT)]);

/// A block of content. Tool results hold content in turn.
static BLOCK: Shape = Node::object(&[
    ("type", &BLOCK_TYPE),
    ("source", &SOURCE),
    ("cache_control", &CACHE_CONTROL),
    ("content", &CONTENT),
    ("output", &CONTENT),
])
.named(Block);
static CONTENT: Shape = Node::array(&BLOCK);

static TOOL_TYPE: Shape = name(ToolType);
static TOOL_MAX_USES: Shape = plain(ToolMaxUses);
static ENVIRONMENT_TYPE: Shape = name(ToolEnvironment);
static ENVIRONMENT: Shape = Node::object(&[("type", &ENVIRONMENT_TYPE)]);
static TOOL: Shape = Node::object(&[
    ("type", &TOOL_TYPE),
    ("max_uses", &TOOL_MAX_USES),
    ("cache_control", &CACHE_CONTROL),
    ("environment", &ENVIRONMENT),
])
.named(Tool);
static TOOLS: Shape = Node::array(&TOOL);

static MESSAGE: Shape = Node::object(&[("content", &CONTENT)]);
static MESSAGES: Shape = Node::array(&MESSAGE);

static SPEED: Shape = name(Speed);
static INFERENCE_GEO: Shape = name(InferenceGeo);
static MCP_SERVER: Shape = plain(McpServer);
static MCP_SERVERS: Shape = Node::array(&MCP_SERVER);
static CONTAINER: Shape = plain(Container);
static CONTEXT_EDIT_TYPE: Shape = name(ContextEdit);
static CONTEXT_EDIT: Shape = Node::object(&[("type", &CONTEXT_EDIT_TYPE)]);
static CONTEXT_EDITS: Shape = Node::array(&CONTEXT_EDIT);
static CONTEXT_MANAGEMENT: Shape = Node::object(&[("edits", &CONTEXT_EDITS)]).or_array(&CONTEXT_EDIT);
static COMPACTION: Shape = plain(Compaction);
static FALLBACK_MODEL: Shape = Node::leaf(FallbackModel, Text::Keep(256));
static FALLBACK: Shape = Node {
    field: Some(FallbackModel),
    text: Text::Keep(256),
    members: &[("model", &FALLBACK_MODEL)],
    items: None,
};
static FALLBACKS: Shape = Node::array(&FALLBACK);

static MESSAGES_BODY: Shape = Node::object(&[
    ("model", &MODEL),
    ("stream", &STREAM),
    ("max_tokens", &MAX_TOKENS),
    ("service_tier", &SERVICE_TIER),
    ("speed", &SPEED),
    ("inference_geo", &INFERENCE_GEO),
    ("metadata", &METADATA),
    ("tags", &TAGS),
    ("litellm_metadata", &LITELLM_METADATA),
    ("messages", &MESSAGES),
    ("system", &CONTENT),
    ("tools", &TOOLS),
    ("cache_control", &CACHE_CONTROL),
    ("mcp_servers", &MCP_SERVERS),
    ("container", &CONTAINER),
    ("context_management", &CONTEXT_MANAGEMENT),
    ("compaction", &COMPACTION),
    ("fallbacks", &FALLBACKS),
    ("fallback_models", &FALLBACKS),
])
.named(Root);

static MAX_COMPLETION_TOKENS: Shape = plain(MaxCompletionTokens);
static CHOICES: Shape = plain(Choices);
static INCLUDE_USAGE: Shape = plain(IncludeUsage);
static STREAM_OPTIONS: Shape = Node::object(&[("include_usage", &INCLUDE_USAGE)]).named(StreamOptions);
static WEB_SEARCH_OPTIONS: Shape = plain(WebSearchOptions);
static MODALITY: Shape = name(Modality);
static MODALITIES: Shape = Node::array(&MODALITY);
static AUDIO: Shape = plain(AudioOutput);
static CACHE_RETENTION: Shape = name(CacheRetention);

/// What Google's OpenAI-compatible endpoint takes beyond OpenAI's fields.
static CACHED_CONTENT: Shape = plain(CachedContent);
static GOOGLE: Shape = Node::object(&[("cached_content", &CACHED_CONTENT)]);
static EXTRA_BODY: Shape = Node::object(&[("google", &GOOGLE)]);

static CHAT_BODY: Shape = Node::object(&[
    ("model", &MODEL),
    ("stream", &STREAM),
    ("stream_options", &STREAM_OPTIONS),
    ("max_tokens", &MAX_TOKENS),
    ("max_completion_tokens", &MAX_COMPLETION_TOKENS),
    ("n", &CHOICES),
    ("service_tier", &SERVICE_TIER),
    ("metadata", &METADATA),
    ("tags", &TAGS),
    ("litellm_metadata", &LITELLM_METADATA),
    ("user", &USER),
    ("messages", &MESSAGES),
    ("tools", &TOOLS),
    ("web_search_options", &WEB_SEARCH_OPTIONS),
    ("modalities", &MODALITIES),
    ("audio", &AUDIO),
    ("prompt_cache_retention", &CACHE_RETENTION),
    ("extra_body", &EXTRA_BODY),
])
.named(Root);

static MAX_OUTPUT_TOKENS: Shape = plain(MaxOutputTokens);
static MAX_TOOL_CALLS: Shape = plain(MaxToolCalls);
static PREVIOUS_RESPONSE: Shape = plain(PreviousResponse);
static CONVERSATION: Shape = plain(Conversation);
static BACKGROUND: Shape = plain(Background);
static STORED_PROMPT: Shape = plain(StoredPrompt);

static RESPONSES_BODY: Shape = Node::object(&[
    ("model", &MODEL),
    ("stream", &STREAM),
    ("max_output_tokens", &MAX_OUTPUT_TOKENS),
    ("max_tool_calls", &MAX_TOOL_CALLS),
    ("service_tier", &SERVICE_TIER),
    ("metadata", &METADATA),
    ("tags", &TAGS),
    ("litellm_metadata", &LITELLM_METADATA),
    ("user", &USER),
    ("input", &CONTENT),
    ("tools", &TOOLS),
    ("previous_response_id", &PREVIOUS_RESPONSE),
    ("conversation", &CONVERSATION),
    ("background", &BACKGROUND),
    ("prompt", &STORED_PROMPT),
    ("context_management", &CONTEXT_MANAGEMENT),
    ("prompt_cache_retention", &CACHE_RETENTION),
])
.named(Root);

static PROMPT_ITEM: Shape = plain(PromptItem).or_array(&TOKEN);
static TOKEN: Shape = plain(PromptToken);
static PROMPT: Shape = Node::array(&PROMPT_ITEM);

static EMBEDDINGS_BODY: Shape = Node::object(&[
    ("model", &MODEL),
    ("metadata", &METADATA),
    ("tags", &TAGS),
    ("litellm_metadata", &LITELLM_METADATA),
    ("user", &USER),
])
.named(Root);

static BEST_OF: Shape = plain(BestOf);

static COMPLETIONS_BODY: Shape = Node::object(&[
    ("model", &MODEL),
    ("stream", &STREAM),
    ("stream_options", &STREAM_OPTIONS),
    ("max_tokens", &MAX_TOKENS),
    ("n", &CHOICES),
    ("best_of", &BEST_OF),
    ("metadata", &METADATA),
    ("tags", &TAGS),
    ("litellm_metadata", &LITELLM_METADATA),
    ("user", &USER),
    ("prompt", &PROMPT),
])
.named(Root);

/// `count_tokens` takes the body of a message; only its model and our tags matter.
static COUNT_TOKENS_BODY: Shape = Node::object(&[
    ("model", &MODEL),
    ("metadata", &METADATA),
    ("tags", &TAGS),
    ("litellm_metadata", &LITELLM_METADATA),
])
.named(Root);

/// The fields of a billed request's body.
pub(super) fn of(api: Api) -> &'static Shape {
    match api {
        Api::Messages => &MESSAGES_BODY,
        Api::ChatCompletions => &CHAT_BODY,
        Api::Responses => &RESPONSES_BODY,
        Api::Embeddings => &EMBEDDINGS_BODY,
        Api::Completions => &COMPLETIONS_BODY,
    }
}

/// The fields of a `count_tokens` body.
pub(super) fn of_count_tokens() -> &'static Shape {
    &COUNT_TOKENS_BODY
}
