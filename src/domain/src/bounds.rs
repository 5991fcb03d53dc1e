//! The most that a request can use, before the provider has said a word.
//!
//! Text is bounded by its bytes: no tokenizer makes more tokens than there are bytes. Everything else takes the bound
//! that the provider documents for it, and what has none takes the model's context window.

use crate::api::Api;
use crate::catalogue::{Model, Provider};
use crate::request::body::Body;

/// Bounds on the usage of one request, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// All input-side tokens, over every call that the provider makes for the request.
    pub input: u64,
    /// The most input-side tokens of a single call: what decides the price tier.
    pub input_per_call: u64,
    /// How many of `input` may be written to a cache for 5 minutes.
    pub cache_write_5m: u64,
    /// How many of `input` may be written to a cache for an hour or longer.
    pub cache_write_1h: u64,
    /// Output tokens.
    pub output: u64,
    /// Web searches.
    pub web_searches: u64,
}

impl Bounds {
    /// The larger of both, field by field.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            input_per_call: self.input_per_call.max(other.input_per_call),
            cache_write_5m: self.cache_write_5m.max(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.max(other.cache_write_1h),
            output: self.output.max(other.output),
            web_searches: self.web_searches.max(other.web_searches),
        }
    }
}

/// Bytes of text that make one token, as an estimate.
pub const BYTES_PER_TOKEN: u64 = 3;

/// Text beside images, as an estimate where the bytes are mostly theirs: an agent's usual prompt.
const TEXT_BESIDE_IMAGES_TOKENS: u64 = 32_768;

/// What the provider adds around every request: role markers, priming, a date.
const OWN_PROMPT_TOKENS: u64 = 128;
/// What the provider adds once tools are declared. Anthropic documents up to 804 tokens ("Tool use", pricing table).
const TOOLS_PROMPT_TOKENS: u64 = 1_024;
/// What a tool defined by the provider adds beyond its name. Anthropic documents up to 735 ("Computer use", pricing).
const TOOL_TOKENS: u64 = 768;
/// Anthropic scales an image down to 4,784 tokens at most ("Vision", image costs of high-resolution models).
const ANTHROPIC_IMAGE_TOKENS: u64 = 4_784;
/// OpenAI's dearest image: gpt-4o-mini at high detail, 2,833 + 8 tiles of 5,667 ("Images and vision", token costs).
const OPENAI_IMAGE_TOKENS: u64 = 48_169;
/// Gemini: 258 for each 768 x 768 tile of an image of at most 3,072 x 3,072 ("Understand and count tokens"), doubled,
/// because newer models take a media resolution.
const GEMINI_IMAGE_TOKENS: u64 = 8_256;
/// How often Anthropic's server-side loop goes round before it pauses the turn ("Server tools", pause_turn). OpenAI
/// documents no limit; the same is assumed there, and what goes beyond is recorded as an overrun.
const SERVER_LOOPS_MAX: u64 = 10;
/// Uses of all tools together beyond this are no bound that anybody means.
const CALLS_MAX: u64 = 4_096;
/// `max_tokens` of `/v1/completions` where it is not given ("Create completion").
const COMPLETIONS_OUTPUT_DEFAULT: u64 = 16;

/// The bounds of a request for `model`.
pub fn of(api: Api, body: &Body, model: &Model) -> Bounds {
    let features = &body.features;
    let calls = calls_max(body);
    let first_call = if features.content_elsewhere || calls > 1 {
        model.context_window
    } else {
        in_the_body(body, model).min(windows(api, body, model))
    };
    let input = first_call.saturating_mul(calls);
    let caches_by_itself = model.provider != Provider::Anthropic;
    Bounds {
        input,
        input_per_call: first_call,
        cache_write_5m: if features.cache_5m || caches_by_itself { input } else { 0 },
        cache_write_1h: if features.cache_1h { input } else { 0 },
        output: output_max(api, body, model),
        web_searches: match (features.web_search, features.always_searches) {
            (true, _) => features.server_tool_uses_max.unwrap_or(SERVER_LOOPS_MAX),
            (false, true) => body.choices,
            (false, false) => 0,
        },
    }
}

/// What all context windows of one call take: each input of a list has a window of its own.
fn windows(api: Api, body: &Body, model: &Model) -> u64 {
    match api {
        // How many inputs a list has is not read; its bytes bound them.
        Api::Embeddings => u64::MAX,
        Api::Completions => model.context_window.saturating_mul(body.prompts),
        Api::Messages | Api::ChatCompletions | Api::Responses => model.context_window,
    }
}

/// What the input will be about, where nobody says what it was: a token for every three bytes, which is a little less than
/// the four of English prose because code and JSON run shorter. Where the bytes say nothing, the bound itself.
///
/// Images are part of the bytes, and make far fewer tokens. Anthropic tells the exact input before the first word of its answer, so
/// an estimate is needed only of whom nothing was served; where a client may have read everything, it stays on the safe side.
pub fn input_estimate(api: Api, body: &Body, model: &Model, bounds: &Bounds) -> u64 {
    if body.features.content_elsewhere {
        return bounds.input;
    }
    let text = body.bytes.div_ceil(BYTES_PER_TOKEN);
    let estimate = match (api, body.features.images) {
        (_, 0) => text,
        (Api::Messages, images) => {
            text.min(TEXT_BESIDE_IMAGES_TOKENS).saturating_add(image_tokens(model).saturating_mul(images))
        }
        (_, images) => text.saturating_add(image_tokens(model).saturating_mul(images)),
    };
    estimate.min(bounds.input)
}

fn image_tokens(model: &Model) -> u64 {
    match model.provider {
        Provider::Anthropic => ANTHROPIC_IMAGE_TOKENS,
        Provider::OpenAi => OPENAI_IMAGE_TOKENS,
        Provider::Gemini => GEMINI_IMAGE_TOKENS,
    }
}

/// How often the provider may call the model for one request.
fn calls_max(body: &Body) -> u64 {
    let features = &body.features;
    let tool_calls =
        if features.server_tools { features.server_tool_uses_max.unwrap_or(SERVER_LOOPS_MAX) } else { 0 };
    1_u64.saturating_add(tool_calls.min(CALLS_MAX)).saturating_add(u64::from(features.compaction))
}

fn in_the_body(body: &Body, model: &Model) -> u64 {
    let image = image_tokens(model);
    let tools = body.features.tools;
    let tools_prompt = if tools > 0 { TOOLS_PROMPT_TOKENS } else { 0 };
    body.bytes
        .saturating_add(OWN_PROMPT_TOKENS)
        .saturating_add(tools_prompt)
        .saturating_add(TOOL_TOKENS.saturating_mul(tools))
        .saturating_add(image.saturating_mul(body.features.images))
}

fn output_max(api: Api, body: &Body, model: &Model) -> u64 {
    let per_answer = match (api, body.output_max) {
        (Api::Embeddings, _) => 0,
        (_, Some(max)) => max.min(model.max_output),
        (Api::Completions, None) => COMPLETIONS_OUTPUT_DEFAULT,
        (_, None) => model.max_output,
    };
    let prompts = if api == Api::Completions { body.prompts } else { 1 };
    // A summary comes on top of the answer, and `max_tokens` does not bound it.
    let summary = if body.features.compaction { model.max_output } else { 0 };
    per_answer.saturating_mul(body.choices).saturating_mul(prompts).saturating_add(summary)
}

#[cfg(test)]
mod tests;
