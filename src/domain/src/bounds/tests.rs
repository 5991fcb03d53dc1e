use super::*;
use crate::catalogue::Mode;
use crate::ids::ModelName;
use crate::request::body::BodyReader;
use crate::request::head::Operation;

const WINDOW: u64 = 200_000;
const MAX_OUTPUT: u64 = 64_000;

fn model(provider: Provider) -> Model {
    Model {
        name: ModelName::new("m"),
        provider,
        mode: Mode::Chat,
        aliases: Vec::new(),
        context_window: WINDOW,
        max_output: MAX_OUTPUT,
        retired: None,
    }
}

/// The bounds of a body with these members, and its bytes.
fn bounds(api: Api, provider: Provider, members: &str) -> (Bounds, u64) {
    let json = format!("{{\"model\":\"m\",{members}}}");
    let mut reader = BodyReader::new(&Operation::Answer(api)).unwrap();
    reader.feed(json.as_bytes());
    let body = reader.finish().unwrap();
    (of(api, &body, &model(provider)), json.len() as u64)
}

/// What bounds the input.
#[derive(Clone, Copy)]
enum Input {
    /// The body's bytes, and so much more.
    Bytes(u64),
    /// The context window, for so many calls.
    Window(u64),
}

/// A row for each feature: what the bytes of the body do not bound takes its documented bound, else the window.
#[test]
fn each_feature_has_its_bound() {
    use Api::{ChatCompletions, Completions, Embeddings, Messages, Responses};
    use Input::{Bytes, Window};
    use Provider::{Anthropic, Gemini, OpenAi};
    let max = MAX_OUTPUT;
    let tools = OWN_PROMPT_TOKENS + TOOLS_PROMPT_TOKENS + TOOL_TOKENS;
    let image = r#""messages":[{"content":[{"type":"image"},{"type":"image"}]}]"#;
    let image_url = r#""messages":[{"content":[{"type":"image_url"}]}]"#;
    let web = r#""tools":[{"type":"web_search_20250305","name":"w"}]"#;
    let web_three = r#""tools":[{"type":"web_search_20250305","max_uses":3}]"#;
    let document = r#""messages":[{"content":[{"type":"document","source":{"type":"url"}}]}]"#;
    let compact = r#""context_management":{"edits":[{"type":"compact_20260112"}]}"#;
    // (api, provider, members) -> (input, output, web searches)
    let table = [
        (Messages, Anthropic, r#""messages":"text""#, Bytes(128), max, 0),
        (Messages, Anthropic, r#""max_tokens":9"#, Bytes(128), 9, 0),
        (Messages, Anthropic, r#""max_tokens":128000"#, Bytes(128), max, 0),
        (Messages, Anthropic, r#""tools":[{"name":"t"}]"#, Bytes(tools), max, 0),
        (Messages, Anthropic, r#""tools":[{"name":"t"},{"name":"u"}]"#, Bytes(tools + TOOL_TOKENS), max, 0),
        (Messages, Anthropic, image, Bytes(128 + 2 * 4_784), max, 0),
        (Messages, Anthropic, document, Window(1), max, 0),
        (Messages, Anthropic, r#""messages":[{"content":[{"type":"container_upload"}]}]"#, Window(1), max, 0),
        (Messages, Anthropic, web, Window(11), max, 10),
        (Messages, Anthropic, web_three, Window(4), max, 3),
        (Messages, Anthropic, r#""tools":[{"type":"web_fetch_20250910","max_uses":2}]"#, Window(3), max, 0),
        (Messages, Anthropic, r#""mcp_servers":[{"url":"x"}]"#, Window(11), max, 0),
        (Messages, Anthropic, compact, Window(2), 2 * max, 0),
        (Messages, Anthropic, r#""compaction":{"type":"summarize"},"max_tokens":9"#, Window(2), 9 + max, 0),
        (ChatCompletions, OpenAi, r#""messages":[]"#, Bytes(128), max, 0),
        (ChatCompletions, OpenAi, r#""max_tokens":5,"max_completion_tokens":9"#, Bytes(128), 9, 0),
        (ChatCompletions, OpenAi, r#""max_tokens":9,"max_completion_tokens":5"#, Bytes(128), 9, 0),
        (ChatCompletions, OpenAi, r#""max_tokens":9,"n":3"#, Bytes(128), 27, 0),
        (ChatCompletions, OpenAi, r#""n":3"#, Bytes(128), 3 * max, 0),
        (ChatCompletions, OpenAi, image_url, Bytes(128 + 48_169), max, 0),
        (ChatCompletions, Gemini, image_url, Bytes(128 + 8_256), max, 0),
        (ChatCompletions, Anthropic, image_url, Bytes(128 + 4_784), max, 0),
        (ChatCompletions, OpenAi, r#""messages":[{"content":[{"type":"file"}]}]"#, Window(1), max, 0),
        (ChatCompletions, OpenAi, r#""web_search_options":{}"#, Bytes(128), max, 1),
        (ChatCompletions, OpenAi, r#""web_search_options":{},"n":2"#, Bytes(128), 2 * max, 2),
        (Responses, OpenAi, r#""input":"x""#, Bytes(128), max, 0),
        (Responses, OpenAi, r#""input":"x","max_output_tokens":7"#, Bytes(128), 7, 0),
        (Responses, OpenAi, r#""previous_response_id":"r""#, Window(1), max, 0),
        (Responses, OpenAi, r#""conversation":"c""#, Window(1), max, 0),
        (Responses, OpenAi, r#""prompt":{"id":"p"}"#, Window(1), max, 0),
        (Responses, OpenAi, r#""input":[{"content":[{"type":"input_file"}]}]"#, Window(1), max, 0),
        (Responses, OpenAi, r#""input":[{"type":"item_reference"}]"#, Window(1), max, 0),
        (Responses, OpenAi, r#""tools":[{"type":"web_search"}]"#, Window(11), max, 10),
        (Responses, OpenAi, r#""tools":[{"type":"web_search"}],"max_tool_calls":2"#, Window(3), max, 2),
        (Responses, OpenAi, r#""tools":[{"type":"mcp"}],"max_tool_calls":2"#, Window(3), max, 0),
        (Embeddings, OpenAi, r#""input":"x""#, Bytes(128), 0, 0),
        (Embeddings, Gemini, r#""input":["x","y"]"#, Bytes(128), 0, 0),
        (Completions, OpenAi, r#""prompt":"x""#, Bytes(128), 16, 0),
        (Completions, OpenAi, r#""prompt":"x","max_tokens":9,"best_of":4,"n":2"#, Bytes(128), 36, 0),
        (Completions, OpenAi, r#""prompt":["x","y"],"max_tokens":9,"n":3"#, Bytes(128), 54, 0),
    ];
    for (api, provider, members, input, output, web_searches) in table {
        let (bounds, bytes) = bounds(api, provider, members);
        let (per_call, calls) = match input {
            Bytes(more) => (bytes + more, 1),
            Window(calls) => (WINDOW, calls),
        };
        let got = (bounds.input_per_call, bounds.input, bounds.output, bounds.web_searches);
        assert_eq!(got, (per_call, per_call * calls, output, web_searches), "{api} {provider} {members}");
    }
}

#[test]
fn the_window_bounds_long_text() {
    let text = "x".repeat(WINDOW as usize + 1);
    let input = |api, members: String| bounds(api, Provider::OpenAi, &members).0.input;
    assert_eq!(input(Api::ChatCompletions, format!("\"messages\":\"{text}\"")), WINDOW);
    assert_eq!(input(Api::Messages, format!("\"system\":\"{text}\"")), WINDOW);
    assert_eq!(input(Api::Completions, format!("\"prompt\":\"{text}\"")), WINDOW);
}

/// Each input of a list has a window of its own, so that the list as a whole may be longer.
#[test]
fn lists_of_inputs_go_beyond_one_window() {
    let text = "x".repeat(WINDOW as usize);
    let list = format!("[\"{text}\",\"{text}\",\"{text}\"]");
    let (embeddings, bytes) = bounds(Api::Embeddings, Provider::OpenAi, &format!("\"input\":{list}"));
    assert_eq!(embeddings.input, bytes + OWN_PROMPT_TOKENS);
    let (completions, _) = bounds(Api::Completions, Provider::OpenAi, &format!("\"prompt\":{list}"));
    assert_eq!(completions.input, 3 * WINDOW);
}

#[test]
fn what_may_be_written_to_a_cache() {
    use Provider::{Anthropic, OpenAi};
    let writes = |api, provider, members: &str| {
        let bounds = bounds(api, provider, members).0;
        (bounds.cache_write_5m == bounds.input, bounds.cache_write_1h == bounds.input)
    };
    let short = r#""system":[{"type":"text","cache_control":{"type":"ephemeral"}}]"#;
    let long = r#""system":[{"type":"text","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#;
    assert_eq!(writes(Api::Messages, Anthropic, r#""system":"x""#), (false, false));
    assert_eq!(writes(Api::Messages, Anthropic, short), (true, false));
    assert_eq!(writes(Api::Messages, Anthropic, long), (true, true));
    assert_eq!(writes(Api::ChatCompletions, OpenAi, r#""messages":[]"#), (true, false));
    assert_eq!(writes(Api::Responses, OpenAi, r#""prompt_cache_retention":"24h""#), (true, true));
    let none = bounds(Api::Messages, Anthropic, r#""system":"x""#).0;
    assert_eq!((none.cache_write_5m, none.cache_write_1h), (0, 0));
}

#[test]
fn absurd_sizes_stay_within_u64() {
    let huge = Model { context_window: u64::MAX, max_output: u64::MAX, ..model(Provider::OpenAi) };
    let mut reader = BodyReader::new(&Operation::Answer(Api::Completions)).unwrap();
    reader.feed(br#"{"model":"m","prompt":["a","b"],"n":4096,"max_tokens":4294967296}"#);
    let bounds = of(Api::Completions, &reader.finish().unwrap(), &huge);
    assert_eq!(bounds.output, 2 * 4_096 * (1 << 32));
}

#[test]
fn the_larger_bounds_win_field_by_field() {
    let a = Bounds { input: 1, output: 9, web_searches: 2, ..Bounds::default() };
    let b = Bounds { input: 5, cache_write_1h: 4, ..Bounds::default() };
    let expected = Bounds { input: 5, output: 9, web_searches: 2, cache_write_1h: 4, ..Bounds::default() };
    assert_eq!((a.max(b), b.max(a)), (expected, expected));
}

#[test]
fn an_input_is_estimated_by_what_is_known_of_it() {
    let image = r#""messages":[{"content":[{"type":"image","source":{"type":"base64","data":"DATA"}}]}]"#;
    let screenshot = image.replace("DATA", &"A".repeat(600_000));
    let picture = r#""messages":[{"content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#;
    let by_bytes = |_: &Bounds, bytes: u64| bytes.div_ceil(3);
    type Expected<'a> = &'a dyn Fn(&Bounds, u64) -> u64;
    let table: [(Api, Provider, &str, Expected<'_>); 5] = [
        (Api::Messages, Provider::Anthropic, r#""messages":[{"role":"user","content":"hello"}]"#, &by_bytes),
        (Api::Responses, Provider::OpenAi, r#""previous_response_id":"resp_1""#, &|bounds, _| bounds.input),
        (
            Api::Messages,
            Provider::Anthropic,
            r#""tools":[{"type":"web_search_20250305","max_uses":2}]"#,
            &by_bytes,
        ),
        (Api::Messages, Provider::Anthropic, &screenshot, &|_, _| 32_768 + ANTHROPIC_IMAGE_TOKENS),
        (Api::ChatCompletions, Provider::OpenAi, picture, &|_, bytes| {
            bytes.div_ceil(3) + OPENAI_IMAGE_TOKENS
        }),
    ];
    for (api, provider, members, expected) in table {
        let mut reader = BodyReader::new(&Operation::Answer(api)).unwrap();
        reader.feed(format!(r#"{{"model":"m",{members}}}"#).as_bytes());
        let body = reader.finish().unwrap();
        let model = Model { context_window: 200_000, ..model(provider) };
        let bounds = of(api, &body, &model);
        let shown: String = members.chars().take(60).collect();
        assert_eq!(input_estimate(api, &body, &model, &bounds), expected(&bounds, body.bytes), "{shown}");
    }
}
