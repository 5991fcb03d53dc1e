use super::*;
use serde_json::{Value as Json, json};

fn read_in(api: Api, body: &[u8], chunk: usize) -> Result<Body, Denial> {
    let mut reader = BodyReader::new(&Operation::Answer(api)).unwrap();
    for piece in body.chunks(chunk.max(1)) {
        reader.feed(piece);
    }
    assert_eq!(reader.bytes() == body.len() as u64, reader.scanner.offset() == body.len() as u64);
    reader.finish()
}

fn read(api: Api, body: &str) -> Result<Body, Denial> {
    read_in(api, body.as_bytes(), body.len())
}

fn field(name: &'static str, why: &'static str) -> Denial {
    Denial::Field { name, why }
}

fn syntax(at: u64) -> Denial {
    Denial::Malformed(Fault::Syntax(at))
}

/// The body that goes on, the same whatever the parts that it is edited in.
fn edited(body: &str, model: &str, ask_for_usage: bool) -> String {
    let read = read(Api::ChatCompletions, body).unwrap();
    let edits = read.edits(&ModelName::new(model), ask_for_usage);
    let whole = edits.apply(0, body.as_bytes());
    for size in 1..body.len() {
        let parts = body.as_bytes().chunks(size).enumerate();
        let parts: Vec<u8> =
            parts.flat_map(|(index, part)| edits.apply((index * size) as u64, part)).collect();
        assert_eq!(parts, whole, "parts of {size}");
    }
    String::from_utf8(whole).unwrap()
}

const WHY_COUNT: &str = "must be a whole number, not negative and not absurdly large";

#[test]
fn only_the_models_own_place_names_it() {
    let decoys = [
        r#"{"messages":[{"role":"user","content":"\"model\":\"decoy\",\"max_tokens\":1"}],"model":"m"}"#,
        r#"{"messages":[{"model":"decoy","content":[{"type":"text","text":"x","model":"decoy"}]}],"model":"m"}"#,
        r#"{"model":"m","tools":[{"name":"t","input_schema":{"model":"decoy","properties":{"model":{}}}}]}"#,
        r#"{"metadata":{"model":"decoy","user_id":"u"},"system":"model","model":"m"}"#,
        r#"{"mod\u0065l":"m","other":{"model":"decoy","stream":true,"max_tokens":9}}"#,
        r#"{"model":"m","Model":"decoy","model ":"decoy","max_Tokens":7}"#,
        r#"{"model" : "\u006d" }"#,
        r#"  {"x":"}\",\"model\":\"decoy\"","model":"m"}  "#,
    ];
    for body in decoys {
        for api in [Api::Messages, Api::ChatCompletions] {
            let read = read(api, body).unwrap();
            assert_eq!(
                (read.model.as_str(), read.stream, read.output_max),
                ("m", false, None),
                "{api} {body}"
            );
        }
    }
}

#[test]
fn a_body_is_judged_by_name() {
    let deep = format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(128), "]".repeat(128));
    let long = format!("{{\"model\":\"{}\"}}", "m".repeat(257));
    let many = format!("{{\"model\":\"m\",\"tags\":[{}\"z\"]}}", "\"a\",".repeat(3));
    let seventeen: Vec<String> = (0..17).map(|tag| format!("\"t{tag}\"")).collect();
    let too_many = format!("{{\"model\":\"m\",\"tags\":[{}]}}", seventeen.join(","));
    let number = |text: &str| format!("{{\"model\":\"m\",\"max_tokens\":{text}}}");
    let table: Vec<(String, Option<Denial>)> = vec![
        (r#"{"model":"m"}"#.into(), None),
        (number("128000"), None),
        (number("null"), None),
        (many, None),
        ("".into(), Some(Denial::Malformed(Fault::Truncated))),
        (r#"{"model":"m""#.into(), Some(Denial::Malformed(Fault::Truncated))),
        ("[]".into(), Some(field("body", "must be a JSON object"))),
        ("\"model\"".into(), Some(field("body", "must be a JSON object"))),
        ("null".into(), Some(field("body", "must be a JSON object"))),
        ("{}".into(), Some(field("model", "is missing"))),
        (r#"{"model":null}"#.into(), Some(field("model", "is missing"))),
        (r#"{"model":7}"#.into(), Some(field("model", "must be a text"))),
        (r#"{"model":["m"]}"#.into(), Some(field("model", "must be a text"))),
        (long, Some(field("model", "is too long"))),
        (r#"{"model":"m","model":"n"}"#.into(), Some(field("model", "stands twice"))),
        (r#"{"model":"m","mod\u0065l":"m"}"#.into(), Some(field("model", "stands twice"))),
        (r#"{"model":"m","max_tokens":1,"max_tokens":1}"#.into(), Some(field("max_tokens", "stands twice"))),
        (
            r#"{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}"#.into(),
            Some(field("include_usage", "stands twice")),
        ),
        (r#"{"model":"m","unknown":1,"unknown":2}"#.into(), None),
        ("\u{feff}{\"model\":\"m\"}".into(), Some(syntax(0))),
        (r#"{"model":"m"} x"#.into(), Some(syntax(14))),
        (r#"{"model":"m"}{"model":"n"}"#.into(), Some(syntax(13))),
        ("{\"model\":\"m\"}\n\t ".into(), None),
        (deep, Some(Denial::Malformed(Fault::Depth))),
        (number("0"), None),
        (number("-1"), Some(field("max_tokens", WHY_COUNT))),
        (number("1.5"), Some(field("max_tokens", WHY_COUNT))),
        (number("1.0"), Some(field("max_tokens", WHY_COUNT))),
        (number("1e3"), Some(field("max_tokens", WHY_COUNT))),
        (number("4294967296"), None),
        (number("4294967297"), Some(field("max_tokens", WHY_COUNT))),
        (number("99999999999999999999"), Some(field("max_tokens", WHY_COUNT))),
        (number(&"9".repeat(65)), Some(field("max_tokens", "must be a whole number"))),
        (number("\"128000\""), Some(field("max_tokens", "must be a whole number"))),
        (number("true"), Some(field("max_tokens", "must be a whole number"))),
        (number("{}"), Some(field("max_tokens", "must be a whole number"))),
        (number("NaN"), Some(syntax(26))),
        (r#"{"model":"m","stream":"true"}"#.into(), Some(field("stream", "must be true or false"))),
        (r#"{"model":"m","stream":1}"#.into(), Some(field("stream", "must be true or false"))),
        (r#"{"model":"m","stream":null}"#.into(), None),
        (r#"{"model":"m","stream_options":[]}"#.into(), Some(field("stream_options", "must be an object"))),
        (
            r#"{"model":"m","stream_options":{"include_usage":1}}"#.into(),
            Some(field("stream_options.include_usage", "must be true or false")),
        ),
        (r#"{"model":"m","n":2.5}"#.into(), Some(field("n", WHY_COUNT))),
        (r#"{"model":"m","n":4097}"#.into(), Some(field("n", WHY_COUNT))),
        (r#"{"model":"m","service_tier":1}"#.into(), Some(field("service_tier", "must be a text"))),
        (r#"{"model":"m","tags":["a b"]}"#.into(), Some(Denial::Tag { tag: "a b".into() })),
        (r#"{"model":"m","metadata":{"tags":[7]}}"#.into(), Some(Denial::Tag { tag: String::new() })),
        (too_many, Some(Denial::TooManyTags)),
        (r#"{"model":"m","user":"u"}"#.into(), None),
        (r#"{"model":"m","user":7}"#.into(), Some(field("user", "must be a text"))),
    ];
    for (body, expected) in table {
        assert_eq!(read(Api::ChatCompletions, &body).err(), expected, "{body}");
    }
    let not_text = b"{\"model\":\"m\",\"messages\":\"\xff\"}";
    let fault = read_in(Api::Messages, not_text, 5).unwrap_err();
    assert_eq!(fault, Denial::Malformed(Fault::Utf8(25)));
}

#[test]
fn chunks_may_end_anywhere() {
    let body = r#"{"messages":[{"content":[{"type":"image","source":{"type":"url"}},{"type":"text","text":"é𝄞\n"}]}],
        "tags":["a","b"],"metadata":{"tags":["c"],"user_id":"u\u00e9"},"stream":true,"max_tokens":12,
        "tools":[{"type":"web_search_20250305","max_uses":3}],"m\u006fdel":"claude-\u0078"}"#;
    let whole = read(Api::Messages, body).unwrap();
    assert_eq!((whole.model.as_str(), whole.output_max, whole.stream), ("claude-x", Some(12), true));
    assert_eq!(whole.tags.iter().map(ids::Tag::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!((whole.end_user.as_deref(), whole.features.images), (Some("ué"), 1));
    assert_eq!(whole.bytes, body.len() as u64);
    for size in 1..body.len() {
        assert_eq!(read_in(Api::Messages, body.as_bytes(), size).unwrap(), whole, "chunks of {size}");
    }
}

/// Every order of the items.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.len() < 2 {
        return vec![items.to_vec()];
    }
    let mut all = Vec::new();
    for at in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(at);
        all.extend(orders(&rest).into_iter().map(|rest| [vec![first.clone()], rest].concat()));
    }
    all
}

#[test]
fn our_tags_leave_from_every_place_and_take_the_right_commas() {
    let metadata = [
        (r#""metadata":{"tags":["c"]}"#, None),
        (r#""metadata" : { "tags" : ["c","d"] , "user_id":"u"}"#, Some(json!({"user_id": "u"}))),
        (r#""metadata":{"user_id":"u","tags":[ ]}"#, Some(json!({"user_id": "u"}))),
        (r#""metadata":{"a":"1","tags":null,"user_id":"u"}"#, Some(json!({"a": "1", "user_id": "u"}))),
        (r#""metadata":{"tags":"mine"}"#, Some(json!({"tags": "mine"}))),
        (r#""metadata":{}"#, Some(json!({}))),
    ];
    for (member, left) in metadata {
        let members = [
            r#""model":"m""#,
            r#""tags":["a","b"]"#,
            r#""litellm_metadata":{"tags":["e"],"x":1}"#,
            r#""n":12"#,
            member,
        ];
        for order in orders(&members) {
            for (open, comma, close) in [("{", ",", "}"), ("{ ", " ,\n", " }")] {
                let body = format!("{open}{}{close}", order.join(comma));
                let forwarded: Json = serde_json::from_str(&edited(&body, "m", false)).expect(&body);
                let mut expected = json!({"model": "m", "n": 12});
                if let Some(left) = &left {
                    expected["metadata"] = left.clone();
                }
                assert_eq!(forwarded, expected, "{body}");
            }
        }
    }
}

#[test]
fn runs_of_our_members_leave_together() {
    let ours = [r#""tags":["a"]"#, r#""litellm_metadata":{"tags":[]}"#, r#""metadata":{"tags":["c"]}"#];
    for order in orders(&ours) {
        for body in [
            format!("{{\"model\":\"m\",{}}}", order.join(",")),
            format!("{{{},\"model\":\"m\"}}", order.join(" , ")),
            format!("{{{},\"model\":\"m\",{}}}", order[0], order[1..].join(",")),
        ] {
            assert_eq!(edited(&body, "m", false).replace(' ', ""), r#"{"model":"m"}"#, "{body}");
        }
    }
}

#[test]
fn an_untouched_body_passes_byte_for_byte() {
    let body = r#"{ "model":"m", "metadata" : {"user_id":"é\u00e9"} , "x":[1.50e3] }"#;
    let read = read(Api::Messages, body).unwrap();
    assert!(read.edits(&ModelName::new("m"), false).is_empty());
    assert_eq!(edited(body, "m", false), body);
}

#[test]
fn an_alias_becomes_the_priced_name() {
    let table = [
        (r#"{"model":"claude-sonnet-4"}"#, r#"{"model":"claude-sonnet-4-20250514"}"#),
        (r#"{"model" : "x" ,"n":1}"#, r#"{"model" : "claude-sonnet-4-20250514" ,"n":1}"#),
        (r#"{"n":1,"mod\u0065l":"\u0078"}"#, r#"{"n":1,"mod\u0065l":"claude-sonnet-4-20250514"}"#),
        (r#"{"tags":["a"],"model":"x"}"#, r#"{"model":"claude-sonnet-4-20250514"}"#),
        (r#"{"model":"x","tags":["a"]}"#, r#"{"model":"claude-sonnet-4-20250514"}"#),
    ];
    for (body, expected) in table {
        assert_eq!(edited(body, "claude-sonnet-4-20250514", false), expected);
    }
    let quoted = edited(r#"{"model":"x"}"#, "a\"b\\c", false);
    assert_eq!(serde_json::from_str::<Json>(&quoted).unwrap(), json!({"model": "a\"b\\c"}));
}

#[test]
fn usage_is_asked_for_in_every_form_of_stream_options() {
    let table = [
        (r#"{"model":"m"}"#, r#"{"stream_options":{"include_usage":true},"model":"m"}"#),
        (r#"{ "model":"m"}"#, r#"{"stream_options":{"include_usage":true}, "model":"m"}"#),
        (
            r#"{"model":"m","stream_options":null}"#,
            r#"{"model":"m","stream_options":{"include_usage":true}}"#,
        ),
        (r#"{"model":"m","stream_options":{}}"#, r#"{"model":"m","stream_options":{"include_usage":true}}"#),
        (
            r#"{"model":"m","stream_options":{ }}"#,
            r#"{"model":"m","stream_options":{"include_usage":true }}"#,
        ),
        (
            r#"{"model":"m","stream_options":{"include_obfuscation":false}}"#,
            r#"{"model":"m","stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
        ),
        (
            r#"{"model":"m","stream_options":{"include_usage":false}}"#,
            r#"{"model":"m","stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"model":"m","stream_options":{"include_usage":null,"x":1}}"#,
            r#"{"model":"m","stream_options":{"include_usage":true,"x":1}}"#,
        ),
        (
            r#"{"model":"m","stream_options":{"include_usage":true}}"#,
            r#"{"model":"m","stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"tags":["a"],"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
    ];
    for (body, expected) in table {
        assert_eq!(edited(body, "m", true), expected);
        assert_eq!(read(Api::ChatCompletions, body).unwrap().wants_usage, body == expected, "{body}");
        serde_json::from_str::<Json>(expected).unwrap();
    }
}

#[test]
fn features_that_no_usage_tells_are_refused_by_name() {
    let messages = |members: &str| read(Api::Messages, &format!("{{\"model\":\"m\",{members}}}")).err();
    let chat = |members: &str| read(Api::ChatCompletions, &format!("{{\"model\":\"m\",{members}}}")).err();
    let responses = |members: &str| read(Api::Responses, &format!("{{\"model\":\"m\",{members}}}")).err();
    let refused = |name: &str| Some(Denial::FeatureNotMetered(name.to_owned()));
    let table = [
        (messages(r#""container":{"skills":[]}"#), refused("container")),
        (messages(r#""container":null"#), None),
        (
            messages(r#""tools":[{"type":"code_execution_20250825","name":"c"}]"#),
            refused("tool code_execution_20250825"),
        ),
        (messages(r#""tools":[{"name":"c"},{"type":"bash_20250124"},{"type":"custom"}]"#), None),
        (messages(r#""tools":[{"type":"advisor_20260301"}]"#), refused("tool advisor_20260301")),
        (chat(r#""messages":[{"content":[{"type":"input_audio"}]}]"#), refused("audio input")),
        (chat(r#""modalities":["text"]"#), None),
        (chat(r#""modalities":["text","audio"]"#), refused("audio and image output")),
        (chat(r#""audio":{"voice":"x"}"#), refused("audio output")),
        (chat(r#""audio":null"#), None),
        (chat(r#""messages":[{"content":[{"type":"video_url"}]}]"#), refused("video input")),
        (responses(r#""background":true"#), refused("background")),
        (responses(r#""background":false"#), None),
        (responses(r#""tools":[{"type":"file_search"}]"#), refused("tool file_search")),
        (responses(r#""tools":[{"type":"code_interpreter"}]"#), refused("tool code_interpreter")),
        (responses(r#""tools":[{"type":"image_generation"}]"#), refused("tool image_generation")),
        (
            responses(r#""tools":[{"type":"shell","environment":{"type":"container_auto"}}]"#),
            refused("tool shell"),
        ),
        (responses(r#""tools":[{"type":"shell","environment":{"type":"local"}}]"#), None),
        (responses(r#""tools":[{"type":"function"},{"type":"custom"},{"type":"mcp"}]"#), None),
    ];
    for (index, (got, expected)) in table.into_iter().enumerate() {
        assert_eq!(got, expected, "row {index}");
    }
}

fn features(api: Api, members: &str) -> Features {
    read(api, &format!("{{\"model\":\"m\",{members}}}")).unwrap().features
}

#[test]
fn content_is_bounded_by_what_it_is() {
    let block = |api, block: &str| {
        let list = if api == Api::Responses { "\"input\":" } else { "\"messages\":" };
        let item =
            if api == Api::Responses { block.to_owned() } else { format!("{{\"content\":[{block}]}}") };
        let features = features(api, &format!("{list}[{item}]"));
        (features.images, features.content_elsewhere)
    };
    let image = r#"{"type":"image","source":{"type":"base64"}}"#;
    let table = [
        (Api::Messages, r#"{"type":"text","text":"x"}"#.to_owned(), (0, false)),
        (Api::Messages, r#"{"type":"thinking"}"#.to_owned(), (0, false)),
        (Api::Messages, image.to_owned(), (1, false)),
        (Api::Messages, format!(r#"{{"type":"tool_result","content":[{image},{image}]}}"#), (2, false)),
        (Api::Messages, r#"{"type":"tool_result","content":"text"}"#.to_owned(), (0, false)),
        (Api::Messages, r#"{"type":"document","source":{"type":"base64"}}"#.to_owned(), (0, true)),
        (Api::Messages, r#"{"type":"document","source":{"type":"url"}}"#.to_owned(), (0, true)),
        (Api::Messages, r#"{"type":"document","source":{"type":"file"}}"#.to_owned(), (0, true)),
        (Api::Messages, r#"{"type":"document","source":{"type":"text"}}"#.to_owned(), (0, false)),
        (
            Api::Messages,
            format!(r#"{{"type":"document","source":{{"type":"content","content":[{image}]}}}}"#),
            (1, false),
        ),
        (Api::Messages, r#"{"source":{"type":"text"},"type":"document"}"#.to_owned(), (0, false)),
        (Api::Messages, r#"{"type":"container_upload"}"#.to_owned(), (0, true)),
        (Api::Messages, r#"{"type":"web_search_tool_result"}"#.to_owned(), (0, true)),
        (Api::Messages, r#"{"type":"never_heard_of"}"#.to_owned(), (0, true)),
        (Api::Messages, r#"{}"#.to_owned(), (0, true)),
        (Api::Messages, "[[1]]".to_owned(), (0, true)),
        (Api::Messages, r#"{"content":[[]],"type":"image"}"#.to_owned(), (1, true)),
        (Api::ChatCompletions, r#"{"type":"text"}"#.to_owned(), (0, false)),
        (Api::ChatCompletions, r#"{"type":"image_url","image_url":{"url":"x"}}"#.to_owned(), (1, false)),
        (Api::ChatCompletions, r#"{"type":"file","file":{"file_id":"f"}}"#.to_owned(), (0, true)),
        (Api::Responses, r#"{"role":"user","content":"x"}"#.to_owned(), (0, false)),
        (
            Api::Responses,
            r#"{"content":[{"type":"input_text"},{"type":"input_image"}]}"#.to_owned(),
            (1, false),
        ),
        (Api::Responses, r#"{"content":[{"type":"input_file","file_id":"f"}]}"#.to_owned(), (0, true)),
        (Api::Responses, r#"{"type":"item_reference","id":"i"}"#.to_owned(), (0, true)),
        (Api::Responses, r#"{"type":"function_call_output","output":"x"}"#.to_owned(), (0, false)),
        (
            Api::Responses,
            r#"{"type":"function_call_output","output":[{"type":"input_image"}]}"#.to_owned(),
            (1, false),
        ),
        (Api::Responses, r#"{"type":"compaction"}"#.to_owned(), (0, true)),
        (Api::Responses, r#"{"content":[[]],"type":"item_reference"}"#.to_owned(), (0, true)),
    ];
    for (api, text, expected) in table {
        assert_eq!(block(api, &text), expected, "{api} {text}");
    }
    let cached = r#""extra_body":{"google":{"cached_content":"cachedContents/x","thinking_config":{}}}"#;
    assert!(features(Api::ChatCompletions, cached).content_elsewhere);
    assert!(
        !features(Api::ChatCompletions, r#""extra_body":{"google":{"thinking_config":{}}}"#)
            .content_elsewhere
    );
    for name in ["previous_response_id", "conversation", "prompt"] {
        assert!(features(Api::Responses, &format!("\"{name}\":\"x\"")).content_elsewhere, "{name}");
        assert!(
            features(Api::Responses, &format!("\"{name}\":{{\"id\":\"x\"}}")).content_elsewhere,
            "{name}"
        );
        assert!(!features(Api::Responses, &format!("\"{name}\":null")).content_elsewhere, "{name}");
    }
}

#[test]
fn server_tools_say_how_often_they_run() {
    let tools = |api, tools: &str| {
        let features = features(api, tools);
        (features.server_tools, features.server_tool_uses_max, features.web_search)
    };
    let web = r#"{"type":"web_search_20250305","max_uses":3}"#;
    let fetch = r#"{"type":"web_fetch_20250910","max_uses":2}"#;
    let open = r#"{"type":"web_fetch_20250910"}"#;
    let table = [
        (Api::Messages, r#""tools":[{"name":"mine"}]"#.to_owned(), (false, None, false)),
        (Api::Messages, format!("\"tools\":[{web}]"), (true, Some(3), true)),
        (Api::Messages, format!("\"tools\":[{fetch}]"), (true, Some(2), false)),
        (Api::Messages, format!("\"tools\":[{web},{fetch}]"), (true, Some(5), true)),
        (Api::Messages, format!("\"tools\":[{web},{open}]"), (true, None, true)),
        (Api::Messages, format!("\"tools\":[{open},{web}]"), (true, None, true)),
        (Api::Messages, format!("\"tools\":[{web}],\"mcp_servers\":[{{}}]"), (true, None, true)),
        (Api::Messages, format!("\"mcp_servers\":[{{}}],\"tools\":[{web}]"), (true, None, true)),
        (
            Api::Messages,
            r#""tools":[{"type":"tool_search_tool_bm25_20251119"}]"#.to_owned(),
            (true, None, false),
        ),
        (Api::Responses, r#""tools":[{"type":"web_search"}]"#.to_owned(), (true, None, true)),
        (
            Api::Responses,
            r#""tools":[{"type":"web_search_preview_2025_03_11"}]"#.to_owned(),
            (true, None, true),
        ),
        (Api::Responses, r#""tools":[{"type":"mcp"}],"max_tool_calls":4"#.to_owned(), (true, Some(4), false)),
        (Api::Responses, r#""max_tool_calls":4,"tools":[{"type":"mcp"}]"#.to_owned(), (true, Some(4), false)),
        (Api::Responses, r#""max_tool_calls":4"#.to_owned(), (false, None, false)),
        // Not a field of OpenAI's tools: it bounds nothing there.
        (Api::Responses, r#""tools":[{"type":"web_search","max_uses":1}]"#.to_owned(), (true, None, true)),
    ];
    for (api, members, expected) in table {
        assert_eq!(tools(api, &members), expected, "{api} {members}");
    }
}

#[test]
fn caches_compaction_and_fallbacks_are_seen() {
    let cache = |members: &str| {
        let features = features(Api::Messages, members);
        (features.cache_5m, features.cache_1h)
    };
    assert_eq!(cache(r#""system":"x""#), (false, false));
    assert_eq!(cache(r#""system":[{"type":"text","cache_control":{"type":"ephemeral"}}]"#), (true, false));
    assert_eq!(cache(r#""tools":[{"name":"t","cache_control":{"ttl":"1h"}}]"#), (true, true));
    assert_eq!(
        cache(r#""messages":[{"content":[{"type":"text","cache_control":{"ttl":"5m"}}]}]"#),
        (true, false)
    );
    assert_eq!(cache(r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#), (true, true));
    assert_eq!(cache(r#""cache_control":null"#), (false, false));
    assert!(features(Api::Responses, r#""prompt_cache_retention":"24h""#).cache_1h);
    assert!(
        features(Api::Messages, r#""context_management":{"edits":[{"type":"compact_20260112"}]}"#).compaction
    );
    assert!(
        !features(Api::Messages, r#""context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#)
            .compaction
    );
    assert!(features(Api::Responses, r#""context_management":[{"type":"compaction"}]"#).compaction);
    assert!(features(Api::Messages, r#""compaction":{"type":"summarize"}"#).compaction);
    assert!(!features(Api::Messages, r#""compaction":null"#).compaction);
    let body =
        read(Api::Messages, r#"{"model":"m","fallbacks":[{"model":"a"},"b"],"speed":"fast"}"#).unwrap();
    assert_eq!(
        (body.fallback_models.as_slice(), body.modifiers.speed.as_deref()),
        (&["a".to_owned(), "b".to_owned()][..], Some("fast"))
    );
    let many = format!("{{\"model\":\"m\",\"fallbacks\":[{}\"z\"]}}", "\"a\",".repeat(16));
    assert_eq!(read(Api::Messages, &many).err(), Some(field("fallbacks", "are too many")));
}

#[test]
fn answers_and_prompts_are_counted() {
    let count = |api, members: &str| {
        let body = read(api, &format!("{{\"model\":\"m\",{members}}}")).unwrap();
        (body.output_max, body.choices, body.prompts)
    };
    let table = [
        (Api::ChatCompletions, r#""max_tokens":5,"max_completion_tokens":9"#, (Some(9), 1, 1)),
        (Api::ChatCompletions, r#""max_completion_tokens":5,"max_tokens":9"#, (Some(9), 1, 1)),
        (Api::ChatCompletions, r#""n":3"#, (None, 3, 1)),
        (Api::ChatCompletions, r#""n":null"#, (None, 1, 1)),
        (Api::Responses, r#""max_output_tokens":7"#, (Some(7), 1, 1)),
        (Api::Messages, r#""max_tokens":0"#, (None, 1, 1)),
        (Api::Completions, r#""prompt":"x","n":2,"best_of":5"#, (None, 5, 1)),
        (Api::Completions, r#""prompt":["x","y","z"]"#, (None, 1, 3)),
        (Api::Completions, r#""prompt":[1,2,3]"#, (None, 1, 1)),
        (Api::Completions, r#""prompt":[[1,2],[3]]"#, (None, 1, 2)),
        (Api::Completions, r#""prompt":null"#, (None, 1, 1)),
    ];
    for (api, members, expected) in table {
        assert_eq!(count(api, members), expected, "{api} {members}");
    }
}

#[test]
fn the_body_of_count_tokens_needs_a_model_alone() {
    let mut reader = BodyReader::new(&Operation::CountTokens).unwrap();
    let body =
        br#"{"messages":[{"content":[{"type":"input_audio"}]}],"metadata":{"tags":["a"]},"model":"m"}"#;
    reader.feed(body);
    let read = reader.finish().unwrap();
    assert_eq!((read.model.as_str(), read.tags.len()), ("m", 1));
    let forwarded = read.edits(&ModelName::new("m"), false).apply(0, body);
    assert!(!String::from_utf8(forwarded).unwrap().contains("metadata"));
    assert!(
        BodyReader::new(&Operation::Hello).is_none() && BodyReader::new(&Operation::Models(None)).is_none()
    );
}
