//! answer

/// Whether three or more digits stand in a row: clients look for status codes anywhere in a message.
pub fn has_digit_run(text: &str) -> bool {
    text.as_bytes().windows(3).any(|run| run.iter().all(u8::is_ascii_digit))
}
