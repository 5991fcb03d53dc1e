//! Keys that callers bring: long and random enough that nobody guesses one, or refused.

use super::error::ApiError;
use super::fields;
use serde_json::value::RawValue;

const CHARS_MIN: usize = 32;
/// 32 random hexadecimal digits have 14 different ones on average, and fewer than 10 hardly ever.
const DISTINCT_MIN: usize = 10;
/// No random key holds the same eight characters twice.
const REPEAT_CHARS: usize = 8;
/// Nor six in the order of the alphabet.
const RUN_CHARS: usize = 6;
/// What people write where a key should stand.
const WORDS: [&str; 8] =
    ["sk-1234", "sk-master", "password", "changeme", "change-me", "example", "your-key", "qwerty"];

/// Reads an own key.
pub(crate) fn read(name: &str, raw: &RawValue) -> Result<String, ApiError> {
    let key = fields::text(name, raw)?;
    match flaw(&key) {
        Some(why) => Err(ApiError::field(name, why)),
        None => Ok(key),
    }
}

fn flaw(key: &str) -> Option<String> {
    let bytes = key.as_bytes();
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Some("may contain only visible ASCII characters".into());
    }
    if key.len() < CHARS_MIN {
        return Some(format!("must have at least {CHARS_MIN} random characters"));
    }
    if key.len() == 64 && bytes.iter().all(u8::is_ascii_hexdigit) {
        return Some("must not be 64 hexadecimal digits alone, which is how a key's hash is written".into());
    }
    let lower = key.to_ascii_lowercase();
    let guessable = WORDS.iter().any(|word| lower.contains(word))
        || distinct(bytes) < DISTINCT_MIN
        || !bytes.iter().any(u8::is_ascii_digit)
        || !bytes.iter().any(u8::is_ascii_alphabetic)
        || repeats(bytes)
        || has_run(bytes);
    guessable.then(|| "does not look random: leave it out and one is made".into())
}

fn distinct(bytes: &[u8]) -> usize {
    bytes.iter().collect::<std::collections::BTreeSet<_>>().len()
}

fn repeats(bytes: &[u8]) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    !bytes.windows(REPEAT_CHARS).all(|part| seen.insert(part))
}

fn has_run(bytes: &[u8]) -> bool {
    let ascends = |pair: &[u8]| pair[0].checked_add(1) == Some(pair[1]);
    bytes.windows(RUN_CHARS).any(|run| run.windows(2).all(ascends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_keys_are_random_or_refused() {
        let random = [
            "sk-9fQ2mVx7LrT4bKzWc8HdYp3NsJg6RuEa",
            "4b1e8c02d7f95a3368e0bd174cf2a961",
            "sk-4b1e8c02d7f95a3368e0bd174cf2a9614b2e8c03d7f95b3368e1bd174cf3a961",
            "hT7-_wq0ZkN3vB5xR1yU8oP2sD4fG6jL",
        ];
        for key in random {
            assert_eq!(flaw(key), None, "{key}");
        }
        let refused = [
            ("", "at least 32"),
            ("sk-1234", "at least 32"),
            ("sk-9fQ2mVx7LrT4bKzWc8HdYp3NsJg6", "at least 32"),
            ("sk-1234-9fQ2mVx7LrT4bKzWc8HdYp3NsJg6RuEa", "look random"),
            ("sk-Password-9fQ2mVx7LrT4bKzWc8HdYp3NsJg6", "look random"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "look random"),
            ("abababababab1212121212121212abababab", "look random"),
            ("9fQ2mVx7LrT4bKzW9fQ2mVx7LrT4bKzW", "look random"),
            ("sk-abcdefghijklmnopqrstuvwxyz0123456789", "look random"),
            ("thequickbrownfoxjumpsoverthelazydog", "look random"),
            ("31415926535897932384626433832795028841", "look random"),
            ("4b1e8c02d7f95a3368e0bd174cf2a9614b2e8c03d7f95b3368e1bd174cf3a961", "hash"),
            ("sk-9fQ2mVx7LrT4bKzWc8Hd Yp3NsJg6RuEa", "visible ASCII"),
            ("sk-9fQ2mVx7LrT4bKzWc8HdÄYp3NsJg6RuEa", "visible ASCII"),
        ];
        for (key, why) in refused {
            assert!(flaw(key).is_some_and(|flaw| flaw.contains(why)), "{key}: {:?}", flaw(key));
        }
    }
}
