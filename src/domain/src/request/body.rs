//! The body of a request: what it asks for, read as it arrives, in constant memory.

use super::edit::{Edit, Edits};
use super::head::{Operation, add_tag};
use super::shapes;
use crate::api::Api;
use crate::decision::Denial;
use crate::ids::{self, ModelName};
use crate::json::{Fault, Member, Scanner, Sink, Span, Value};
use crate::price::Modifiers;

/// A field of a body that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Root,
    Model,
    Stream,
    StreamOptions,
    IncludeUsage,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    MaxToolCalls,
    Choices,
    BestOf,
    PromptItem,
    PromptToken,
    ServiceTier,
    Speed,
    InferenceGeo,
    Tags,
    Tag,
    Metadata,
    LitellmMetadata,
    EndUser,
    Block,
    BlockType,
    SourceType,
    CacheControl,
    CacheTtl,
    CacheRetention,
    Tool,
    ToolType,
    ToolMaxUses,
    ToolEnvironment,
    McpServer,
    Container,
    ContextEdit,
    Compaction,
    FallbackModel,
    WebSearchOptions,
    Modality,
    AudioOutput,
    CachedContent,
    PreviousResponse,
    Conversation,
    Background,
    StoredPrompt,
}

impl Field {
    /// The name that an error shows.
    const fn name(self) -> &'static str {
        match self {
            Self::Root => "body",
            Self::Model => "model",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::IncludeUsage => "stream_options.include_usage",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::MaxToolCalls => "max_tool_calls",
            Self::Choices => "n",
            Self::BestOf => "best_of",
            Self::PromptItem | Self::PromptToken => "prompt",
            Self::ServiceTier => "service_tier",
            Self::Speed => "speed",
            Self::InferenceGeo => "inference_geo",
            Self::Tags | Self::Tag => "tags",
            Self::Metadata => "metadata",
            Self::LitellmMetadata => "litellm_metadata",
            Self::EndUser => "user",
            Self::Block | Self::BlockType => "content.type",
            Self::SourceType => "content.source.type",
            Self::CacheControl | Self::CacheTtl => "cache_control",
            Self::CacheRetention => "prompt_cache_retention",
            Self::Tool | Self::ToolType => "tools.type",
            Self::ToolMaxUses => "tools.max_uses",
            Self::ToolEnvironment => "tools.environment.type",
            Self::McpServer => "mcp_servers",
            Self::Container => "container",
            Self::ContextEdit => "context_management",
            Self::Compaction => "compaction",
            Self::FallbackModel => "fallbacks",
            Self::WebSearchOptions => "web_search_options",
            Self::Modality => "modalities",
            Self::AudioOutput => "audio",
            Self::CachedContent => "extra_body.google.cached_content",
            Self::PreviousResponse => "previous_response_id",
            Self::Conversation => "conversation",
            Self::Background => "background",
            Self::StoredPrompt => "prompt",
        }
    }
}

/// What in a request costs more, or other, than its bytes say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Images, given in whatever way.
    pub images: u64,
    /// Content that is not in the body, or whose tokens its bytes do not bound: documents, file ids, stored
    /// conversations.
    pub content_elsewhere: bool,
    /// Text may be written to a cache for 5 minutes.
    pub cache_5m: bool,
    /// Text may be written to a cache for an hour or longer.
    pub cache_1h: bool,
    /// Tools are declared, so that the provider adds a prompt of its own.
    pub tools: u64,
    /// Tools that the provider itself runs and then calls the model again.
    pub server_tools: bool,
    /// How often those may run, where every one of them says so.
    pub server_tool_uses_max: Option<u64>,
    /// One of them searches the web.
    pub web_search: bool,
    /// The provider may summarize the conversation first, with a further call.
    pub compaction: bool,
    /// `web_search_options` of chat completions: exactly one search.
    pub always_searches: bool,
}

/// What a body asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The model, as the client named it.
    pub model: String,
    /// Server-sent events are wanted.
    pub stream: bool,
    /// The largest bound on output tokens that the client set.
    pub output_max: Option<u64>,
    /// How many answers are wanted, or generated to choose from.
    pub choices: u64,
    /// How many prompts there are.
    pub prompts: u64,
    /// What its bytes do not say.
    pub features: Features,
    /// What changes the price.
    pub modifiers: Modifiers,
    /// Models that the provider may answer with instead, as the client named them.
    pub fallback_models: Vec<String>,
    /// Tags in the body.
    pub tags: Vec<ids::Tag>,
    /// The end user.
    pub end_user: Option<String>,
    /// Bytes of the body.
    pub bytes: u64,
    /// The client asked for usage at the end of a chat stream.
    pub wants_usage: bool,
    model_span: Span,
    root_start: u64,
    include_usage: IncludeUsage,
    removals: Vec<Member>,
}

/// Where `stream_options.include_usage` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IncludeUsage {
    /// No `stream_options`.
    NoOptions,
    /// `stream_options` is null, here.
    NullOptions(Span),
    /// Options that begin here, empty or not, without the field.
    Options { start: u64, empty: bool },
    /// The field, and its value.
    Given(Span, bool),
}

impl Body {
    /// What changes before the body goes on: the model's own name, our tags out, and, for streams whose API tells usage
    /// only when asked, the question.
    pub fn edits(&self, model: &ModelName, ask_for_usage: bool) -> Edits {
        let mut edits = Vec::new();
        if model.as_str() != self.model {
            let with = serde_json::to_vec(model.as_str()).unwrap_or_default();
            edits.push(Edit { start: self.model_span.start, end: self.model_span.end, with });
        }
        if ask_for_usage {
            edits.extend(self.usage_question());
        }
        Edits::new(edits, self.removals.clone())
    }

    fn usage_question(&self) -> Option<Edit> {
        let edit = |start, end, with: &str| Some(Edit { start, end, with: with.as_bytes().to_vec() });
        match self.include_usage {
            IncludeUsage::Given(_, true) => None,
            IncludeUsage::Given(span, false) => edit(span.start, span.end, "true"),
            IncludeUsage::NullOptions(span) => edit(span.start, span.end, "{\"include_usage\":true}"),
            IncludeUsage::Options { start, empty: true } => edit(start, start, "\"include_usage\":true"),
            IncludeUsage::Options { start, empty: false } => edit(start, start, "\"include_usage\":true,"),
            IncludeUsage::NoOptions => {
                edit(self.root_start, self.root_start, "\"stream_options\":{\"include_usage\":true},")
            }
        }
    }
}

/// Reads a body as it arrives.
#[derive(Debug)]
pub struct BodyReader {
    scanner: Scanner<Field>,
    reading: Reading,
}

impl BodyReader {
    /// For the body of `operation`; `None` if it has none.
    pub fn new(operation: &Operation) -> Option<Self> {
        let (shape, api) = match operation {
            Operation::Answer(api) => (shapes::of(*api), *api),
            Operation::CountTokens => (shapes::of_count_tokens(), Api::Messages),
            Operation::Models(_) | Operation::Hello => return None,
        };
        Some(Self { scanner: Scanner::strict(shape), reading: Reading::new(api) })
    }

    /// Takes the next bytes. Faults wait for [`BodyReader::finish`], so that an early one cannot be told by timing from
    /// a late one, and an upload is not cut off half-way.
    pub fn feed(&mut self, chunk: &[u8]) {
        let _ = self.scanner.feed(chunk, &mut self.reading);
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.scanner.offset()
    }

    /// The body is complete.
    ///
    /// # Errors
    /// [`Denial`] for a body that is not what it should be, or asks for what cannot be metered.
    pub fn finish(mut self) -> Result<Body, Denial> {
        let complete = self.scanner.finish(&mut self.reading);
        complete.map_err(|fault| match fault {
            Fault::Duplicate(name) => Denial::Field { name, why: "stands twice" },
            fault => Denial::Malformed(fault),
        })?;
        self.reading.finish(self.scanner.offset())
    }
}

/// What has been read so far.
#[derive(Debug)]
struct Reading {
    api: Api,
    denial: Option<Denial>,
    is_object: bool,
    model: Option<(String, Span)>,
    stream: bool,
    output_max: Option<u64>,
    choices: u64,
    best_of: u64,
    prompts: u64,
    features: Features,
    modifiers: Modifiers,
    fallback_models: Vec<String>,
    tags: Vec<ids::Tag>,
    end_user: Option<String>,
    root_start: u64,
    include_usage: IncludeUsage,
    /// Whether the `tags` member that is being read is a list of ours, and not a text of the client's own.
    tags_are_ours: bool,
    removals: Vec<Member>,
    blocks: Vec<Block>,
    tool: Tool,
    max_tool_calls: Option<u64>,
}

/// A content block that is being read.
#[derive(Debug, Default)]
struct Block {
    kind: String,
    source: String,
}

impl Block {
    fn unknown() -> Self {
        Self { kind: "list".to_owned(), source: String::new() }
    }
}

/// A tool that is being read.
#[derive(Debug, Default)]
struct Tool {
    kind: String,
    max_uses: Option<u64>,
    environment: String,
}

/// Numbers beyond this are absurd as counts of tokens.
const COUNT_MAX: u64 = 1 << 32;
/// Numbers beyond this are absurd as counts of answers, prompts or uses of a tool: each multiplies what the request may cost.
const TIMES_MAX: u64 = 4_096;
/// Fallback models at most.
const FALLBACKS_MAX: usize = 16;

impl Reading {
    fn new(api: Api) -> Self {
        Self {
            api,
            denial: None,
            is_object: false,
            model: None,
            stream: false,
            output_max: None,
            choices: 1,
            best_of: 1,
            prompts: 0,
            features: Features::default(),
            modifiers: Modifiers::default(),
            fallback_models: Vec::new(),
            tags: Vec::new(),
            end_user: None,
            root_start: 0,
            include_usage: IncludeUsage::NoOptions,
            tags_are_ours: false,
            removals: Vec::new(),
            blocks: Vec::new(),
            tool: Tool::default(),
            max_tool_calls: None,
        }
    }

    /// The first denial stands.
    fn deny(&mut self, denial: Denial) {
        self.denial.get_or_insert(denial);
    }

    fn wrong(&mut self, field: Field, why: &'static str) {
        self.deny(Denial::Field { name: field.name(), why });
    }

    fn refuse(&mut self, feature: &str) {
        self.deny(Denial::FeatureNotMetered(feature.to_owned()));
    }

    fn text(&mut self, field: Field, value: Value<'_>) -> Option<String> {
        match value {
            Value::Text(text) => return Some(text.to_owned()),
            Value::Null => {}
            Value::LongText => self.wrong(field, "is too long"),
            _ => self.wrong(field, "must be a text"),
        }
        None
    }

    /// A whole number of tokens, answers or uses. Zero bounds nothing: it counts as not set.
    fn count(&mut self, field: Field, value: Value<'_>) -> Option<u64> {
        self.number(field, value, COUNT_MAX)
    }

    /// A whole number of answers or uses.
    fn times(&mut self, field: Field, value: Value<'_>) -> Option<u64> {
        self.number(field, value, TIMES_MAX)
    }

    fn number(&mut self, field: Field, value: Value<'_>, max: u64) -> Option<u64> {
        match value {
            Value::Number(text) => match text.parse::<u64>() {
                Ok(count) if count <= max => return Some(count).filter(|count| *count > 0),
                _ => self.wrong(field, "must be a whole number, not negative and not absurdly large"),
            },
            Value::Null => {}
            _ => self.wrong(field, "must be a whole number"),
        }
        None
    }

    fn flag(&mut self, field: Field, value: Value<'_>) -> Option<bool> {
        match value {
            Value::Bool(flag) => return Some(flag),
            Value::Null => {}
            _ => self.wrong(field, "must be true or false"),
        }
        None
    }

    fn raise_output(&mut self, count: Option<u64>) {
        self.output_max = self.output_max.max(count);
    }

    fn tag(&mut self, value: Value<'_>) {
        match value {
            Value::Text(text) => {
                if let Err(denial) = add_tag(&mut self.tags, text) {
                    self.deny(denial);
                }
            }
            _ => self.deny(Denial::Tag { tag: String::new() }),
        }
    }

    fn end_block(&mut self) {
        let Some(block) = self.blocks.pop() else { return };
        match bound_of_block(self.api, &block) {
            BlockBound::Bytes => {}
            BlockBound::Image => self.features.images = self.features.images.saturating_add(1),
            BlockBound::ContextWindow => self.features.content_elsewhere = true,
            BlockBound::Refused(name) => self.refuse(name),
        }
    }

    fn end_tool(&mut self) {
        let tool = std::mem::take(&mut self.tool);
        self.features.tools = self.features.tools.saturating_add(1);
        match tool_kind(self.api, &tool) {
            ToolKind::Client => {}
            ToolKind::Server { searches } => {
                let known_before =
                    !self.features.server_tools || self.features.server_tool_uses_max.is_some();
                let before = self.features.server_tool_uses_max.unwrap_or(0);
                // Only Anthropic's tools have the field; elsewhere it would bound what nobody keeps to.
                let declared = tool.max_uses.filter(|_| known_before && self.api == Api::Messages);
                let uses = declared.map(|uses| before.saturating_add(uses));
                self.features.server_tools = true;
                self.features.server_tool_uses_max = uses;
                self.features.web_search |= searches;
            }
            ToolKind::Refused => self.refuse(&format!("tool {}", tool.kind)),
        }
    }

    fn finish(mut self, bytes: u64) -> Result<Body, Denial> {
        if !self.is_object {
            return Err(Denial::Field { name: "body", why: "must be a JSON object" });
        }
        if let Some(denial) = self.denial {
            return Err(denial);
        }
        if self.prompts > TIMES_MAX {
            return Err(Denial::Field { name: "prompt", why: "holds too many prompts" });
        }
        let (model, model_span) = self.model.ok_or(Denial::Field { name: "model", why: "is missing" })?;
        if let Some(calls) = self.max_tool_calls.filter(|_| self.features.server_tools) {
            self.features.server_tool_uses_max = Some(calls);
        }
        let wants_usage = matches!(self.include_usage, IncludeUsage::Given(_, true));
        Ok(Body {
            model,
            stream: self.stream,
            output_max: self.output_max,
            choices: self.choices.max(self.best_of),
            prompts: self.prompts.max(1),
            features: self.features,
            modifiers: self.modifiers,
            fallback_models: self.fallback_models,
            tags: self.tags,
            end_user: self.end_user,
            bytes,
            wants_usage,
            model_span,
            root_start: self.root_start,
            include_usage: self.include_usage,
            removals: self.removals,
        })
    }
}

impl Sink<Field> for Reading {
    fn value(&mut self, field: Field, value: Value<'_>, span: Span) {
        match field {
            Field::Root => {
                self.is_object = value == Value::Object;
                self.root_start = span.end;
            }
            Field::Model => self.model = self.text(field, value).map(|text| (text, span)),
            Field::Stream => self.stream = self.flag(field, value).unwrap_or(false),
            Field::StreamOptions => match value {
                Value::Object => self.include_usage = IncludeUsage::Options { start: span.end, empty: true },
                Value::Null => self.include_usage = IncludeUsage::NullOptions(span),
                _ => self.wrong(field, "must be an object"),
            },
            Field::IncludeUsage => {
                let flag = self.flag(field, value).unwrap_or(false);
                self.include_usage = IncludeUsage::Given(span, flag);
            }
            Field::MaxTokens | Field::MaxCompletionTokens | Field::MaxOutputTokens => {
                let count = self.count(field, value);
                self.raise_output(count);
            }
            Field::MaxToolCalls => self.max_tool_calls = self.times(field, value),
            Field::Choices => self.choices = self.times(field, value).unwrap_or(1),
            Field::BestOf => self.best_of = self.times(field, value).unwrap_or(1),
            // A list of numbers is one prompt of token ids; a list of texts or lists is so many prompts.
            Field::PromptItem if matches!(value, Value::Number(_)) => {}
            Field::PromptItem => self.prompts = self.prompts.saturating_add(1),
            Field::PromptToken => {}
            Field::ServiceTier => self.modifiers.service_tier = self.text(field, value),
            Field::Speed => self.modifiers.speed = self.text(field, value),
            Field::InferenceGeo => self.modifiers.inference_geo = self.text(field, value),
            Field::Tags => self.tags_are_ours = matches!(value, Value::Array | Value::Null),
            Field::Tag => self.tag(value),
            Field::Metadata | Field::LitellmMetadata => {}
            // Only a label: one that is too long is left out, not refused.
            Field::EndUser if value == Value::LongText => {}
            Field::EndUser => self.end_user = self.text(field, value),
            Field::Block if value == Value::Object => self.blocks.push(Block::default()),
            // No API has lists in the place of blocks: of a kind that nobody knows.
            Field::Block if value == Value::Array => self.blocks.push(Block::unknown()),
            Field::Block => {}
            Field::BlockType => {
                let kind = self.text(field, value).unwrap_or_default();
                if let Some(block) = self.blocks.last_mut() {
                    block.kind = kind;
                }
            }
            Field::SourceType => {
                let source = self.text(field, value).unwrap_or_default();
                if let Some(block) = self.blocks.last_mut() {
                    block.source = source;
                }
            }
            Field::CacheControl => self.features.cache_5m |= value == Value::Object,
            Field::CacheTtl => {
                self.features.cache_1h |= self.text(field, value).is_some_and(|ttl| ttl != "5m");
            }
            Field::CacheRetention => self.features.cache_1h |= value != Value::Null,
            Field::Tool => self.tool = Tool::default(),
            Field::ToolType => self.tool.kind = self.text(field, value).unwrap_or_default(),
            Field::ToolMaxUses => self.tool.max_uses = self.times(field, value),
            Field::ToolEnvironment => self.tool.environment = self.text(field, value).unwrap_or_default(),
            Field::McpServer => {
                self.features.server_tools = true;
                self.features.server_tool_uses_max = None;
            }
            Field::Container if value != Value::Null => self.refuse("container"),
            Field::ContextEdit => {
                self.features.compaction |=
                    self.text(field, value).is_some_and(|kind| kind.starts_with("compact"));
            }
            Field::Compaction => self.features.compaction |= value != Value::Null,
            Field::FallbackModel if value == Value::Object => {}
            Field::FallbackModel => {
                if let Some(model) = self.text(field, value) {
                    self.fallback_models.push(model);
                }
                if self.fallback_models.len() > FALLBACKS_MAX {
                    self.wrong(field, "are too many");
                }
            }
            Field::WebSearchOptions => self.features.always_searches |= value != Value::Null,
            Field::Modality if value == Value::Text("text") => {}
            Field::Modality => self.refuse("audio and image output"),
            Field::AudioOutput if value != Value::Null => self.refuse("audio output"),
            Field::CachedContent | Field::PreviousResponse | Field::Conversation | Field::StoredPrompt => {
                self.features.content_elsewhere |= value != Value::Null;
            }
            Field::Background => {
                if self.flag(field, value) == Some(true) {
                    self.refuse("background");
                }
            }
            Field::Container | Field::AudioOutput => {}
        }
    }

    fn end(&mut self, field: Field, empty: bool) {
        match (field, self.include_usage) {
            (Field::Block, _) => self.end_block(),
            (Field::Tool, _) => self.end_tool(),
            (Field::StreamOptions, IncludeUsage::Options { start, .. }) => {
                self.include_usage = IncludeUsage::Options { start, empty };
            }
            _ => {}
        }
    }

    fn member(&mut self, field: Field, member: Member) {
        match field {
            Field::LitellmMetadata => {
                // It goes as a whole, and with it whatever was to go inside.
                self.removals.retain(|inner| inner.start < member.start || inner.end > member.end);
                self.removals.push(member);
            }
            Field::Tags if self.tags_are_ours => self.removals.push(member),
            // What held nothing but our tags goes whole: some APIs know no metadata at all.
            Field::Metadata => {
                let held_ours_alone = |inner: &&mut Member| {
                    let alone = inner.comma_before.is_none() && inner.comma_after.is_none();
                    alone && inner.start > member.start
                };
                if let Some(inner) = self.removals.last_mut().filter(held_ours_alone) {
                    *inner = member;
                }
            }
            _ => {}
        }
    }
}

/// What bounds the tokens of a block.
enum BlockBound {
    Bytes,
    Image,
    ContextWindow,
    Refused(&'static str),
}

/// Only what is known to be text is bounded by its bytes.
fn bound_of_block(api: Api, block: &Block) -> BlockBound {
    let kind = block.kind.as_str();
    match (api, kind) {
        (_, "input_audio" | "audio") => BlockBound::Refused("audio input"),
        (_, "video" | "input_video" | "video_url") => BlockBound::Refused("video input"),
        (Api::Messages, "text" | "thinking" | "redacted_thinking" | "tool_use" | "tool_result") => {
            BlockBound::Bytes
        }
        (Api::Messages, "server_tool_use" | "mcp_tool_use" | "mcp_tool_result" | "search_result") => {
            BlockBound::Bytes
        }
        (Api::Messages, "tool_reference") => BlockBound::Bytes,
        (Api::Messages, "document") if matches!(block.source.as_str(), "text" | "content") => {
            BlockBound::Bytes
        }
        (Api::Messages, "image") | (_, "image_url" | "input_image" | "computer_screenshot") => {
            BlockBound::Image
        }
        (Api::ChatCompletions, "text" | "refusal" | "thinking") => BlockBound::Bytes,
        // An item of `input` may be a message with no type at all.
        (Api::Responses, "" | "message" | "input_text" | "output_text" | "refusal" | "summary_text") => {
            BlockBound::Bytes
        }
        (Api::Responses, "reasoning_text" | "reasoning" | "text") => BlockBound::Bytes,
        (Api::Responses, kind) if is_call(kind) => BlockBound::Bytes,
        _ => BlockBound::ContextWindow,
    }
}

/// Items of the Responses API that carry a tool's call or its textual result in full.
fn is_call(kind: &str) -> bool {
    matches!(
        kind,
        "function_call"
            | "function_call_output"
            | "custom_tool_call"
            | "custom_tool_call_output"
            | "local_shell_call"
            | "local_shell_call_output"
            | "shell_call"
            | "shell_call_output"
            | "apply_patch_call"
            | "apply_patch_call_output"
            | "mcp_list_tools"
            | "mcp_call"
            | "mcp_approval_request"
            | "mcp_approval_response"
            | "tool_search_call"
            | "tool_search_output"
    )
}

enum ToolKind {
    /// The client runs it.
    Client,
    /// The provider runs it and calls the model again; its other costs are in the usage.
    Server { searches: bool },
    /// It costs what the usage does not tell, or nobody knows what it is.
    Refused,
}

fn tool_kind(api: Api, tool: &Tool) -> ToolKind {
    let kind = tool.kind.as_str();
    match (api, kind) {
        (_, "" | "custom" | "function") => ToolKind::Client,
        (Api::Messages, kind) => {
            // Versions are dates behind the name: `web_search_20250305`.
            let family = kind.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
            match family {
                "bash" | "text_editor" | "computer" | "memory" => ToolKind::Client,
                "web_search" => ToolKind::Server { searches: true },
                "web_fetch" | "tool_search_tool_regex" | "tool_search_tool_bm" | "mcp_toolset" => {
                    ToolKind::Server { searches: false }
                }
                _ => ToolKind::Refused,
            }
        }
        (Api::Responses, "shell") if tool.environment.starts_with("container") => ToolKind::Refused,
        (Api::Responses, "local_shell" | "shell" | "apply_patch" | "namespace") => ToolKind::Client,
        (Api::Responses, "mcp" | "tool_search") => ToolKind::Server { searches: false },
        (Api::Responses, kind) if kind.starts_with("web_search") => ToolKind::Server { searches: true },
        _ => ToolKind::Refused,
    }
}

#[cfg(test)]
mod tests;
