use super::*;

fn json(api: Api, answer: &str) -> Reading {
    let mut meter = Meter::json(api);
    meter.feed(answer.as_bytes());
    meter.reading()
}

/// Reads a stream whole and byte by byte, which must come to the same.
fn events(api: Api, stream: &str) -> Reading {
    let (mut whole, mut bytewise) = (Meter::events(api), Meter::events(api));
    whole.feed(stream.as_bytes());
    stream.as_bytes().chunks(1).for_each(|byte| bytewise.feed(byte));
    assert_eq!(whole.reading(), bytewise.reading(), "{stream}");
    whole.reading()
}

fn data(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn usage(input: u64, output: u64) -> Option<Usage> {
    Some(Usage { input, output, ..Usage::default() })
}

#[test]
fn a_reading_is_final_only_at_the_documented_end() {
    let messages = [
        r#"{"type":"message_start","message":{"model":"c","usage":{"input_tokens":9,"output_tokens":1}}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let chat = [
        r#"{"model":"g","choices":[{"delta":{"content":"hi"},"finish_reason":null}]}"#,
        r#"{"model":"g","choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"model":"g","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5}}"#,
        "[DONE]",
    ];
    let responses = [
        r#"{"type":"response.created","response":{"model":"g","status":"in_progress","usage":null}}"#,
        r#"{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":9,"output_tokens":5}}}"#,
    ];
    let table: [(Api, &[&str], Option<Usage>, bool); 12] = [
        (Api::Messages, &[], None, false),
        (Api::Messages, &messages[..1], usage(9, 1), false),
        (Api::Messages, &messages[..2], usage(9, 5), false),
        (Api::Messages, &messages, usage(9, 5), true),
        (Api::Messages, &messages[2..], None, false),
        (Api::ChatCompletions, &chat[..2], None, false),
        // Some servers leave `[DONE]` out.
        (Api::ChatCompletions, &chat[..3], usage(9, 5), true),
        (Api::ChatCompletions, &chat, usage(9, 5), true),
        (Api::ChatCompletions, &[chat[0], chat[1], chat[3]], None, false),
        (Api::Completions, &chat[1..3], usage(9, 5), true),
        (Api::Responses, &responses[..1], None, false),
        (Api::Responses, &responses, usage(9, 5), true),
    ];
    for (api, list, expected, is_final) in table {
        let reading = events(api, &data(list));
        assert_eq!((reading.usage, reading.is_final()), (expected, is_final), "{api} {list:?}");
    }
    // The end without usage is an end all the same.
    let ended = events(Api::ChatCompletions, &data(&[chat[0], chat[1], chat[3]]));
    assert!(ended.terminal && !ended.output_known);
    assert!(!events(Api::ChatCompletions, &data(&chat[..2])).terminal);
}

/// What was read of an event that broke off may lack its better half, such as how much of the input was cached.
#[test]
fn half_an_answer_is_never_final() {
    let chat = r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":5,"#;
    let response = r#"{"status":"completed","usage":{"input_tokens":9,"output_tokens":5,"#;
    let completed = format!(r#"{{"type":"response.completed","response":{response}"#);
    let message =
        r#"{"type":"message","stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":5,"#;
    let readings = [
        json(Api::ChatCompletions, chat),
        json(Api::Responses, response),
        json(Api::Messages, message),
        events(Api::ChatCompletions, &format!("data: {chat}")),
        events(Api::Responses, &format!("data: {completed}")),
    ];
    for (index, reading) in readings.into_iter().enumerate() {
        assert_eq!(
            (reading.usage, reading.terminal, reading.is_final()),
            (usage(9, 5), false, false),
            "row {index}"
        );
    }
}

#[test]
fn a_json_answer_is_over_with_its_last_byte() {
    let table = [
        (Api::Messages, r#"{"usage":{"input_tokens":9,"output_tokens":5}}"#, true),
        (Api::ChatCompletions, r#"{"usage":{"prompt_tokens":9,"completion_tokens":5}}"#, true),
        (Api::Responses, r#"{"status":"completed","usage":{"input_tokens":9,"output_tokens":5}}"#, true),
        (Api::Responses, r#"{"status":"incomplete","usage":{"input_tokens":9,"output_tokens":5}}"#, true),
        (Api::Responses, r#"{"status":"in_progress","usage":{"input_tokens":9,"output_tokens":5}}"#, false),
        (Api::Responses, r#"{"usage":{"input_tokens":9,"output_tokens":5}}"#, false),
        (Api::Completions, r#"{"usage":{"prompt_tokens":9,"completion_tokens":5}}"#, true),
        (Api::Embeddings, r#"{"usage":{"prompt_tokens":9,"total_tokens":9}}"#, true),
    ];
    for (api, answer, is_final) in table {
        assert_eq!(json(api, answer).is_final(), is_final, "{api} {answer}");
        assert!(!json(api, &answer[..answer.len() - 1]).is_final(), "{api} {answer}");
    }
    assert_eq!(json(Api::Embeddings, table[7].1).usage, usage(9, 0));
}

#[test]
fn providers_count_the_cache_differently() {
    let anthropic = r#"{"usage":{"input_tokens":5,"cache_read_input_tokens":30,"cache_creation_input_tokens":20,
        "cache_creation":{"ephemeral_5m_input_tokens":12,"ephemeral_1h_input_tokens":8},"output_tokens":7}}"#;
    let unsplit = r#"{"usage":{"input_tokens":5,"cache_creation_input_tokens":20,"output_tokens":7}}"#;
    let chat = r#"{"usage":{"prompt_tokens":55,"completion_tokens":7,"total_tokens":62,
        "prompt_tokens_details":{"cached_tokens":30,"cache_write_tokens":20}}}"#;
    let response = r#"{"usage":{"input_tokens":55,"input_tokens_details":{"cached_tokens":30},"output_tokens":7,
        "output_tokens_details":{"reasoning_tokens":6}}}"#;
    // Google's total counts thinking that its completion tokens leave out.
    let google = r#"{"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":112}}"#;
    let classes = |input, cache_read, cache_write_5m, cache_write_1h, output| {
        Some(Usage { input, cache_read, cache_write_5m, cache_write_1h, output, web_searches: 0 })
    };
    let table = [
        (Api::Messages, anthropic, classes(5, 30, 12, 8, 7)),
        (Api::Messages, unsplit, classes(5, 0, 20, 0, 7)),
        (Api::ChatCompletions, chat, classes(5, 30, 20, 0, 7)),
        (Api::Responses, response, classes(25, 30, 0, 0, 7)),
        (Api::ChatCompletions, google, classes(5, 0, 0, 0, 107)),
    ];
    for (api, answer, expected) in table {
        assert_eq!(json(api, answer).usage, expected, "{answer}");
    }
}

#[test]
fn cumulative_usage_keeps_the_last_value_of_each_field() {
    let started = r#"{"type":"message_start","message":{"model":"c","usage":{"input_tokens":5,"cache_read_input_tokens":3,
        "cache_creation_input_tokens":8,"cache_creation":{"ephemeral_1h_input_tokens":8},"output_tokens":1,
        "service_tier":"priority"}}}"#
        .replace('\n', "");
    let delta = r#"{"type":"message_delta","usage":{"input_tokens":6,"cache_read_input_tokens":null,
        "cache_creation_input_tokens":8,"output_tokens":40,"server_tool_use":{"web_search_requests":2}}}"#
        .replace('\n', "");
    let reading = events(Api::Messages, &data(&[&started, &delta]));
    let expected =
        Usage { input: 6, cache_read: 3, cache_write_5m: 0, cache_write_1h: 8, output: 40, web_searches: 2 };
    assert_eq!(reading.usage, Some(expected));
    assert_eq!(
        (reading.model.as_deref(), reading.modifiers.service_tier.as_deref()),
        (Some("c"), Some("priority"))
    );
}

#[test]
fn numbers_that_are_no_counts_are_not_read() {
    for count in ["-1", "1.5", "1e3", "\"9\"", "null", "99999999999999999999", "{}", "[9]"] {
        let reading =
            json(Api::Messages, &format!("{{\"usage\":{{\"input_tokens\":{count},\"output_tokens\":5}}}}"));
        assert_eq!((reading.usage, reading.is_final()), (None, false), "{count}");
    }
}

#[test]
fn what_is_no_answer_reads_as_nothing() {
    for answer in [
        "",
        "null",
        "[]",
        "<html>",
        "{\"usage\":null}",
        "\u{1f}\u{8b}gzip",
        "{\"usage\":[{\"input_tokens\":1}]}",
    ] {
        for api in Api::ALL {
            assert_eq!(json(api, answer).usage, None, "{api} {answer}");
            assert_eq!(events(api, answer).usage, None, "{api} {answer}");
        }
    }
    let broken_between = format!(
        "data: {{\"usage\":{{\"prompt_tokens\":\n\n{}",
        data(&[
            r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":5}}"#
        ])
    );
    assert_eq!(events(Api::ChatCompletions, &broken_between).usage, usage(9, 5));
}

#[test]
fn errors_are_seen_wherever_they_stand() {
    let table = [
        (Api::Messages, r#"{"type":"error","error":{"type":"overloaded_error"}}"#, true),
        (Api::ChatCompletions, r#"{"error":{"message":"m"}}"#, true),
        (Api::ChatCompletions, r#"{"error":"m"}"#, true),
        (Api::ChatCompletions, r#"{"error":null,"choices":[]}"#, false),
        (Api::Responses, r#"{"type":"error","message":"m"}"#, true),
        (
            Api::Responses,
            r#"{"type":"response.failed","response":{"error":{"code":"c"},"usage":null}}"#,
            true,
        ),
        (Api::Responses, r#"{"type":"response.created","response":{"error":null}}"#, false),
    ];
    for (api, event, expected) in table {
        let reading = events(api, &data(&[event]));
        assert_eq!((reading.error, reading.is_final()), (expected, false), "{event}");
    }
    let text =
        r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"{\"type\":\"error\"}"}}"#;
    assert!(!events(Api::Messages, &data(&[text])).error);
}

#[test]
fn output_that_can_be_seen_is_counted_in_bytes() {
    let table: [(Api, &str, u64); 13] = [
        (Api::Messages, r#"{"type":"content_block_delta","delta":{"text":"a\u00e9\n"}}"#, 4),
        (Api::Messages, r#"{"type":"content_block_delta","delta":{"thinking":"abc"}}"#, 3),
        (Api::Messages, r#"{"type":"content_block_delta","delta":{"partial_json":"{\"a\":"}}"#, 5),
        (Api::Messages, r#"{"type":"content_block_delta","delta":{"signature":"abc"}}"#, 0),
        (
            Api::Messages,
            r#"{"type":"content_block_delta","delta":{"type":"compaction_delta","content":"abc"}}"#,
            3,
        ),
        (Api::Messages, r#"{"type":"ping","text":"abc"}"#, 0),
        (Api::ChatCompletions, r#"{"choices":[{"delta":{"content":"ab"}},{"delta":{"content":"cd"}}]}"#, 4),
        (
            Api::ChatCompletions,
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"abc"}}]}}]}"#,
            3,
        ),
        (Api::ChatCompletions, r#"{"choices":[{"delta":{"reasoning_content":"abc"}}]}"#, 3),
        (Api::Completions, r#"{"choices":[{"text":"abc"}]}"#, 3),
        (Api::Responses, r#"{"type":"response.output_text.delta","delta":"abc"}"#, 3),
        // Told again at the end, counted once.
        (Api::Responses, r#"{"type":"response.output_text.done","text":"abc"}"#, 0),
        (
            Api::Responses,
            r#"{"type":"response.completed","response":{"output":[{"content":[{"text":"abc"}]}]}}"#,
            0,
        ),
    ];
    for (api, event, expected) in table {
        assert_eq!(events(api, &data(&[event])).output_bytes, expected, "{event}");
    }
}

#[test]
fn searches_are_counted_once_whatever_the_order_of_names() {
    let item = r#"{"type":"web_search_call","action":{"type":"search"}}"#;
    let opened = r#"{"action":{"type":"open_page"},"type":"web_search_call"}"#;
    let told = format!(r#"{{"type":"response.output_item.done","item":{item}}}"#);
    let told_late = format!(r#"{{"item":{item},"type":"response.output_item.done"}}"#);
    let added = format!(r#"{{"type":"response.output_item.added","item":{item}}}"#);
    let page = format!(r#"{{"type":"response.output_item.done","item":{opened}}}"#);
    let completed = format!(
        r#"{{"type":"response.completed","response":{{"output":[{item},{opened},{item}],"usage":{{"input_tokens":1,"output_tokens":1}}}}}}"#
    );
    let count = |list: &[&String]| {
        let known = r#"{"response":{"usage":{"input_tokens":1}}}"#.to_owned();
        let list: Vec<&str> = list.iter().copied().chain([&known]).map(String::as_str).collect();
        events(Api::Responses, &data(&list)).usage.unwrap().web_searches
    };
    assert_eq!(count(&[&added]), 0);
    assert_eq!(count(&[&added, &told]), 1);
    assert_eq!(count(&[&told_late]), 1);
    assert_eq!(count(&[&told, &page, &told_late]), 2);
    assert_eq!(count(&[&told, &told, &completed]), 2);
    assert_eq!(count(&[&completed, &completed]), 2);
    let whole =
        format!(r#"{{"output":[{opened},{item}],"status":"completed","usage":{{"input_tokens":1}}}}"#);
    assert_eq!(json(Api::Responses, &whole).usage.unwrap().web_searches, 1);
}

#[test]
fn parts_beside_the_total_are_told_by_model() {
    let iterations = r#"{"model":"c","usage":{"input_tokens":10,"output_tokens":14,"iterations":[
        {"type":"compaction","input_tokens":100,"output_tokens":30,"cache_read_input_tokens":2},
        {"type":"message","input_tokens":5,"output_tokens":7},
        {"type":"message","model":"c","input_tokens":5,"output_tokens":7},
        {"type":"message","model":"other","input_tokens":4,"output_tokens":3}]}}"#;
    let reading = json(Api::Messages, iterations);
    assert_eq!(reading.usage, usage(10, 14));
    let compaction = Usage { input: 100, cache_read: 2, output: 30, ..Usage::default() };
    let other = Usage { input: 4, output: 3, ..Usage::default() };
    assert_eq!(reading.extra, [("c".to_owned(), compaction), ("other".to_owned(), other)]);
}

/// Anthropic's totals name the input of the first call only where a server tool had several; the bill is their sum.
#[test]
fn calls_of_the_own_model_are_summed_where_the_total_is_smaller() {
    let answer = |total: &str, parts: &str| {
        json(
            Api::Messages,
            &format!(r#"{{"model":"claude-x-20260901","usage":{{{total},"iterations":[{parts}]}}}}"#),
        )
    };
    let first = r#"{"type":"message","input_tokens":412,"output_tokens":89}"#;
    let second =
        r#"{"type":"message","input_tokens":1348,"cache_read_input_tokens":412,"output_tokens":442}"#;
    let dated = r#"{"type":"fallback_message","model":"claude-x","input_tokens":1348,"cache_read_input_tokens":412,"output_tokens":442}"#;
    let advisor = r#"{"type":"advisor_message","input_tokens":823,"output_tokens":1612}"#;
    let sum = Usage { input: 1_760, cache_read: 412, output: 531, ..Usage::default() };
    let only_first = r#""input_tokens":412,"output_tokens":531"#;
    let all = r#""input_tokens":1760,"cache_read_input_tokens":412,"output_tokens":531"#;
    for total in [only_first, all] {
        for parts in [format!("{first},{second}"), format!("{first},{dated}")] {
            let reading = answer(total, &parts);
            assert_eq!((reading.usage, reading.extra.len()), (Some(sum), 0), "{total} {parts}");
        }
    }
    let reading = answer(only_first, &format!("{first},{advisor},{second}"));
    let advice = Usage { input: 823, output: 1_612, ..Usage::default() };
    assert_eq!((reading.usage, reading.extra), (Some(sum), vec![("claude-x-20260901".to_owned(), advice)]));
}

#[test]
fn a_later_list_of_parts_replaces_the_former() {
    let list = |output: u64| {
        format!(
            r#"{{"type":"message_delta","usage":{{"input_tokens":5,"output_tokens":7,"iterations":[{{"type":"compaction","input_tokens":1,"output_tokens":{output}}}]}}}}"#
        )
    };
    let started = r#"{"type":"message_start","message":{"model":"c"}}"#;
    let reading = events(Api::Messages, &data(&[started, &list(3), &list(4)]));
    assert_eq!(reading.extra.iter().map(|(_, usage)| usage.output).collect::<Vec<_>>(), [4]);
}

/// More parts than are kept must not pass for the total.
#[test]
fn parts_beyond_the_bound_change_nothing_else() {
    let parts =
        vec![r#"{"type":"compaction","model":"c","input_tokens":100,"output_tokens":30}"#; 70].join(",");
    let odd = r#"{"type":"message","model":"odd","input_tokens":999,"output_tokens":999}"#;
    let answer = format!(
        r#"{{"model":"c","usage":{{"input_tokens":5,"output_tokens":7,"iterations":[{parts},{odd}]}},"stop_reason":"end_turn"}}"#
    );
    let reading = json(Api::Messages, &answer);
    assert_eq!((reading.usage, reading.extra.len()), (usage(5, 7), 64));
    assert!(reading.extra.iter().all(|(model, usage)| model == "c" && usage.input == 100));
}
