//! YAML that every reader takes for the same. kubectl goes by YAML 1.1, where a team that is called `on` is a truth value and one that is
//! called `0777` a number; writers of 1.2 do not quote those. So here a text is quoted unless it can be nothing else.

use serde_json::Value;
use std::fmt::Write as _;

/// Words that some version of YAML takes for something else than text.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// A document.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0);
    text
}

/// What stands in lines of its own, each so far from the left.
fn block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let _ = write!(text, "{:indent$}{}:", "", scalar(&Value::String(name.clone())));
                nested(text, member, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                block(&mut inner, item, indent + 2);
                // The dash takes the place of the first line's indentation.
                let _ = write!(text, "{:indent$}- {}", "", inner.trim_start());
            }
        }
        other => {
            let _ = writeln!(text, "{:indent$}{}", "", scalar(other));
        }
    }
}

/// What follows a name and its colon.
fn nested(text: &mut String, value: &Value, indent: usize) {
    let is_block = match value {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        block(text, value, indent + 2);
    } else {
        let _ = writeln!(text, " {}", scalar(value));
    }
}

/// What fits into a line: as in JSON, which is YAML, or a plain word.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_word(text) => text.clone(),
        Value::String(_) => escaped(&value.to_string()),
        other => other.to_string(),
    }
}

fn is_word(text: &str) -> bool {
    let inner = |one: u8| one.is_ascii_alphanumeric() || b"._/-".contains(&one);
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(inner)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// Characters that break lines, are not seen, turn the direction of what is read, or are none that YAML has.
pub(super) fn is_hidden(one: char) -> bool {
    let unseen = matches!(one, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    one.is_control() || unseen || matches!(one, '\u{fffe}' | '\u{ffff}')
}

fn escaped(quoted: &str) -> String {
    quoted.chars().fold(String::new(), |mut text, one| {
        if is_hidden(one) {
            let _ = write!(text, "\\u{:04x}", u32::from(one));
        } else {
            text.push(one);
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_can_be_nothing_else_is_plain() {
        let plain = ["Team", "tollgate.dev/v1alpha1", "a-b", "Europe/Vienna", "claude-haiku-4-5"];
        for text in plain {
            assert_eq!(scalar(&json!(text)), text);
        }
        let quoted = [
            "on",
            "No",
            "Y",
            "NULL",
            "~",
            "",
            " ",
            "0777",
            "1_000",
            "12:30",
            "1e3",
            "0x1",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#",
            "&a",
            "*",
            "!x",
            "@x",
            "2026-01-01",
            "anthropic/*",
            "it's",
            "\"",
            "\\",
            "a\nb",
            "100",
        ];
        for text in quoted {
            let written = scalar(&json!(text));
            assert!(
                written.starts_with('"') && written.ends_with('"') && !written.contains('\n'),
                "{written}"
            );
            assert_eq!(serde_yaml_ng::from_str::<String>(&written).unwrap(), text);
        }
        assert_eq!(scalar(&json!("a\u{202e}b\u{2028}\u{85}")), "\"a\\u202eb\\u2028\\u0085\"");
        assert_eq!(scalar(&json!("a\u{fffe}b\u{ffff}")), "\"a\\ufffeb\\uffff\"");
    }

    #[test]
    fn what_is_written_is_read() {
        let value = json!({
            "kind": "Budget",
            "metadata": {"name": "on", "labels": {}},
            "spec": {"limits": [{"amount": "5", "alerts": [50, 80], "nested": {"deep": [[1], []]}}, "x"], "none": [], "nothing": null, "yes": true},
        });
        let text = document(&value);
        assert_eq!(serde_yaml_ng::from_str::<Value>(&text).unwrap(), value, "{text}");
        // Members stand in the order in which they come, which is by name unless somebody makes serde_json keep another.
        assert!(text.contains("  limits:\n    - a") && text.contains("alerts:\n        - 50\n"), "{text}");
    }
}
