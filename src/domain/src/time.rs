//! Instants as arguments: the domain never asks what time it is.

use chrono::{DateTime, Datelike, Utc};

/// An instant in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// An instant `unix_ms` milliseconds after the epoch.
    pub const fn new(unix_ms: i64) -> Self {
        Self(unix_ms)
    }

    /// Milliseconds since the epoch.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// The instant `duration_ms` later; at the end of time it stays there.
    pub const fn plus_ms(self, duration_ms: i64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }

    /// Milliseconds from `earlier` to `self`; negative when it is later.
    pub const fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The calendar's view; `None` outside of the years that chrono knows.
    pub fn to_utc(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.0)
    }

    /// The day as people write it in a sentence, `"1 December"`: no year, and never three digits in a row, because
    /// clients look for status codes anywhere in a message.
    pub fn day_in_words(self) -> Option<String> {
        self.to_utc().map(|at| format!("{} {}", at.day(), at.format("%B")))
    }

    /// RFC 3339 with seconds: `2026-12-01T00:00:00Z`.
    pub fn to_rfc3339(self) -> Option<String> {
        self.to_utc().map(|at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_in_words_has_no_run_of_digits() {
        let december = Timestamp::new(1_796_083_200_000);
        assert_eq!(december.day_in_words().as_deref(), Some("1 December"));
        assert_eq!(december.to_rfc3339().as_deref(), Some("2026-12-01T00:00:00Z"));
        assert_eq!(Timestamp::new(i64::MAX).to_rfc3339(), None);
    }
}
