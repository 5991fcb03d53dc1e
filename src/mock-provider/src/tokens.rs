//! How much a request "uses", and words for it.

use crate::script::{Scenario, Script};
use serde::Serialize;
use serde_json::Value;

/// Tokens by class; the classes do not overlap, `reasoning` excepted, which is part of `output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tokens {
    pub(crate) input: u64,
    pub(crate) cache_read: u64,
    pub(crate) cache_write_5m: u64,
    pub(crate) cache_write_1h: u64,
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
    pub(crate) web_searches: u64,
}

/// Output where neither the request nor the script says less.
const OUTPUT_DEFAULT: u64 = 20;

impl Tokens {
    /// For a request with this body, whose output is bounded by `output_max`.
    pub(crate) fn of(script: &Script, body: &Value, output_max: Option<u64>) -> Self {
        let output =
            script.output.unwrap_or_else(|| output_max.map_or(OUTPUT_DEFAULT, |max| max.min(OUTPUT_DEFAULT)));
        let reasoning = script.reasoning.unwrap_or(match script.scenario {
            Scenario::Thinking => output / 2,
            _ => 0,
        });
        Self {
            input: script.input.unwrap_or_else(|| estimate(body)),
            cache_read: script.cache_read,
            cache_write_5m: script.cache_write_5m,
            cache_write_1h: script.cache_write_1h,
            output,
            reasoning: reasoning.min(output),
            web_searches: script.web_searches,
        }
    }

    pub(crate) fn cache_write(&self) -> u64 {
        self.cache_write_5m.saturating_add(self.cache_write_1h)
    }

    /// The input with its cached parts, as OpenAI and Google count it.
    pub(crate) fn input_with_cache(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write())
    }

    /// Tokens that can be seen.
    pub(crate) fn visible(&self) -> u64 {
        self.output.saturating_sub(self.reasoning)
    }
}

/// Fields that hold what a model reads.
const PROMPT_FIELDS: [&str; 6] = ["messages", "system", "tools", "input", "instructions", "prompt"];

/// A quarter of the bytes of the prompt's strings, rounded up.
pub(crate) fn estimate(body: &Value) -> u64 {
    let bytes: usize = PROMPT_FIELDS.iter().filter_map(|field| body.get(field)).map(text_bytes).sum();
    (bytes as u64).div_ceil(4).max(1)
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(members) => members.values().map(text_bytes).sum(),
        _ => 0,
    }
}

/// Four bytes each, so that bytes and tokens keep a known ratio.
const WORDS: [&str; 8] = ["the ", "bar ", "and ", "all ", "who ", "pay ", "may ", "go, "];

/// Tokens that are put in words at most, whatever is counted: an absurd count needs no absurd answer.
const WORDS_MAX: u64 = 200_000;

/// Deltas of one part, unless the script says more.
const EVENTS_DEFAULT: usize = 20;

/// So many tokens in words, in at most so many pieces.
pub(crate) fn pieces(tokens: u64, events: Option<usize>) -> Vec<String> {
    let words = usize::try_from(tokens.min(WORDS_MAX)).unwrap_or(usize::MAX);
    let events = events.unwrap_or(EVENTS_DEFAULT).clamp(1, words.max(1));
    let each = words.div_ceil(events).max(1);
    let text: Vec<&str> = WORDS.iter().copied().cycle().take(words).collect();
    text.chunks(each).map(<[&str]>::concat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_quarter_of_the_prompts_bytes_is_the_input() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "12345678"}], "metadata": {"a": "b"}});
        assert_eq!(estimate(&body), 3, "user and 12345678 are 12 bytes");
        assert_eq!(estimate(&json!({})), 1);
    }

    #[test]
    fn pieces_hold_all_words() {
        assert_eq!(pieces(5, None).concat().len(), 20);
        assert_eq!(pieces(100, Some(7)).len(), 7);
        assert_eq!(pieces(100, Some(7)).concat().len(), 400);
        assert!(pieces(0, None).is_empty());
        assert_eq!(pieces(3, Some(50)).len(), 3);
    }
}
