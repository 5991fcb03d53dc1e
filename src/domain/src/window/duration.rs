//! LiteLLM's durations: which window each one means.

use super::{CalendarUnit, ROLLING_SECONDS_MIN, Window, Zone};

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of the form that LiteLLM documents.
    #[error("must be like 30s, 30m, 24h, 7d, 1w, 1mo, or hourly, daily, weekly, monthly")]
    Unknown,
    /// Zero, or beyond [`SECONDS_MAX`].
    #[error("must be more than nothing and at most ten years")]
    OutOfRange,
    /// Below [`ROLLING_SECONDS_MIN`].
    #[error("must be at least {ROLLING_SECONDS_MIN}s for a rolling window")]
    TooShortToRoll,
}

/// The longest span: ten years, in seconds.
const SECONDS_MAX: u64 = 3_660 * 86_400;
/// The longest calendar span: ten years, in months.
const MONTHS_MAX: u64 = 120;

impl Window {
    /// A window from one of LiteLLM's durations, in UTC.
    ///
    /// # Errors
    /// [`DurationError`].
    pub fn from_duration(text: &str) -> Result<Self, DurationError> {
        Self::from_duration_in(text, Zone::UTC)
    }

    /// A window from one of LiteLLM's durations. `1h`, `1d`/`24h`, `7d`/`1w`, `30d`/`1mo` and the named ones follow the
    /// zone's calendar, and so do `n mo`: `3mo` are quarters, `12mo` are years. Every other span is a fixed one from
    /// the epoch and the same in all zones.
    ///
    /// # Errors
    /// [`DurationError`].
    pub fn from_duration_in(text: &str, zone: Zone) -> Result<Self, DurationError> {
        use CalendarUnit::{Day, Hour, Months, Week};
        let calendar = |unit| Ok(Self::Calendar(unit, zone));
        match text {
            "hourly" | "1h" => return calendar(Hour),
            "daily" | "1d" | "24h" => return calendar(Day),
            "weekly" | "7d" | "1w" => return calendar(Week),
            "monthly" | "30d" | "1mo" => return calendar(Months(1)),
            _ => {}
        }
        let (count, unit) = split_duration(text)?;
        if unit == "mo" {
            let months = u16::try_from(count).ok().filter(|_| (1..=MONTHS_MAX).contains(&count));
            return months.map_or(Err(DurationError::OutOfRange), |months| calendar(Months(months)));
        }
        Ok(Self::Fixed { seconds: span_seconds(text)? })
    }

    /// A rolling window from one of LiteLLM's durations, as a plain span: `24h` are the last 24 hours, `1mo` the last
    /// 30 days.
    ///
    /// # Errors
    /// [`DurationError`].
    pub fn rolling(text: &str) -> Result<Self, DurationError> {
        match span_seconds(text)? {
            seconds if seconds < ROLLING_SECONDS_MIN => Err(DurationError::TooShortToRoll),
            seconds => Ok(Self::Rolling { seconds }),
        }
    }
}

/// How long a key lives from its creation on, for `duration` of LiteLLM: a plain span in milliseconds, where a month
/// has 30 days.
///
/// # Errors
/// [`DurationError`].
pub fn span_ms(text: &str) -> Result<i64, DurationError> {
    i64::from(span_seconds(text)?).checked_mul(1000).ok_or(DurationError::OutOfRange)
}

fn span_seconds(text: &str) -> Result<u32, DurationError> {
    let (count, unit) = split_duration(text)?;
    let seconds = count.checked_mul(unit_seconds(unit)?).filter(|s| (1..=SECONDS_MAX).contains(s));
    seconds.and_then(|seconds| u32::try_from(seconds).ok()).ok_or(DurationError::OutOfRange)
}

fn split_duration(text: &str) -> Result<(u64, &str), DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at_checked(digits).ok_or(DurationError::Unknown)?;
    if count.is_empty() {
        return Err(DurationError::Unknown);
    }
    unit_seconds(unit)?;
    let count = count.parse().map_err(|_| DurationError::OutOfRange)?;
    Ok((count, unit))
}

fn unit_seconds(unit: &str) -> Result<u64, DurationError> {
    match unit {
        "s" => Ok(1),
        "m" => Ok(60),
        "h" => Ok(3_600),
        "d" => Ok(86_400),
        "w" => Ok(7 * 86_400),
        "mo" => Ok(30 * 86_400),
        _ => Err(DurationError::Unknown),
    }
}
