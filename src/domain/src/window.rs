//! Windows: over which span a limit counts, and when that span ends.
//!
//! A window is always computed from its anchor (the calendar, or the epoch), never by adding to the last boundary,
//! so no chain of resets can drift. LiteLLM's durations map onto windows by [`Window::from_duration`].

use crate::time::Timestamp;
use chrono::{DateTime, Datelike, Days, Duration, DurationRound, NaiveDate, Utc};
use std::fmt;
use std::str::FromStr;

/// In whose calendar days begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Zone {
    /// Coordinated universal time.
    #[default]
    Utc,
}

/// A span of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CalendarUnit {
    /// From the full hour.
    Hour,
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// This many calendar months, counted from January of year 0: 3 are quarters, 12 are years.
    Months(u16),
}

/// Over which span a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Window {
    /// A span of the calendar, in a zone.
    Calendar(CalendarUnit, Zone),
    /// Equal spans of this many seconds, counted from [`FIXED_ORIGIN`].
    Fixed {
        /// The span.
        seconds: u32,
    },
    /// Never ends.
    Lifetime,
}

/// Monday, 1970-01-05T00:00:00Z, in seconds: so that fixed spans of weeks begin on a Monday.
const FIXED_ORIGIN: i64 = 4 * 86_400;

/// A half-open span of time, `[start, end)`. `end` is `None` where the window never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Option<Timestamp>,
}

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of the form that LiteLLM documents.
    #[error("must be like 30s, 30m, 24h, 7d, 1w, 1mo, or hourly, daily, weekly, monthly")]
    Unknown,
    /// Zero, or beyond [`SECONDS_MAX`].
    #[error("must be more than nothing and at most ten years")]
    OutOfRange,
}

/// The longest fixed span: ten years, in seconds.
const SECONDS_MAX: u64 = 3_660 * 86_400;
/// The longest calendar span: ten years, in months.
const MONTHS_MAX: u64 = 120;

impl Window {
    /// A window from one of LiteLLM's durations. `1d`/`24h`, `7d`/`1w`, `30d`/`1mo` and the named ones follow the
    /// calendar; `n mo` are calendar months; every other span is a fixed one from the epoch.
    ///
    /// # Errors
    /// [`DurationError`].
    pub fn from_duration(text: &str) -> Result<Self, DurationError> {
        use CalendarUnit::{Day, Hour, Months, Week};
        let calendar = |unit| Ok(Self::Calendar(unit, Zone::Utc));
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
        let seconds = count.checked_mul(unit_seconds(unit)?).filter(|s| (1..=SECONDS_MAX).contains(s));
        let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
        seconds.map(|seconds| Self::Fixed { seconds }).ok_or(DurationError::OutOfRange)
    }

    /// The window that contains `at`. `None` only where `at` lies outside of the calendar's years.
    pub fn period_at(self, at: Timestamp) -> Option<Period> {
        match self {
            Self::Lifetime => Some(Period { start: Timestamp::new(0), end: None }),
            Self::Fixed { seconds } => fixed_period(i64::from(seconds), at),
            Self::Calendar(unit, Zone::Utc) => calendar_period(unit, at.to_utc()?),
        }
    }
}

/// How long a key lives from its creation on, for `duration` of LiteLLM: a plain span in milliseconds, where a month
/// has 30 days.
///
/// # Errors
/// [`DurationError`].
pub fn span_ms(text: &str) -> Result<i64, DurationError> {
    let (count, unit) = split_duration(text)?;
    let unit_seconds = if unit == "mo" { 30 * 86_400 } else { unit_seconds(unit)? };
    let seconds = count.checked_mul(unit_seconds).filter(|s| (1..=SECONDS_MAX).contains(s));
    let ms = seconds.and_then(|s| i64::try_from(s).ok()).and_then(|s| s.checked_mul(1000));
    ms.ok_or(DurationError::OutOfRange)
}

fn split_duration(text: &str) -> Result<(u64, &str), DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at_checked(digits).ok_or(DurationError::Unknown)?;
    if count.is_empty() || !matches!(unit, "s" | "m" | "h" | "d" | "w" | "mo") {
        return Err(DurationError::Unknown);
    }
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
        _ => Err(DurationError::Unknown),
    }
}

fn fixed_period(seconds: i64, at: Timestamp) -> Option<Period> {
    let origin_ms = FIXED_ORIGIN.checked_mul(1000)?;
    let span_ms = seconds.checked_mul(1000)?;
    let index = at.unix_ms().checked_sub(origin_ms)?.checked_div_euclid(span_ms)?;
    let start = index.checked_mul(span_ms)?.checked_add(origin_ms)?;
    let end = start.checked_add(span_ms)?;
    Some(Period { start: Timestamp::new(start), end: Some(Timestamp::new(end)) })
}

fn calendar_period(unit: CalendarUnit, at: DateTime<Utc>) -> Option<Period> {
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0).map(|at| at.and_utc());
    let today = at.date_naive();
    let (start, end) = match unit {
        CalendarUnit::Hour => {
            let start = at.duration_trunc(Duration::hours(1)).ok()?;
            (start, start.checked_add_signed(Duration::hours(1))?)
        }
        CalendarUnit::Day => (midnight(today)?, midnight(today.checked_add_days(Days::new(1))?)?),
        CalendarUnit::Week => {
            let back = Days::new(u64::from(today.weekday().num_days_from_monday()));
            let monday = today.checked_sub_days(back)?;
            (midnight(monday)?, midnight(monday.checked_add_days(Days::new(7))?)?)
        }
        CalendarUnit::Months(count) => {
            let month = i64::from(today.year()).checked_mul(12)?.checked_add(i64::from(today.month0()))?;
            let first = month.checked_sub(month.checked_rem_euclid(i64::from(count))?)?;
            let next = first.checked_add(i64::from(count))?;
            (midnight(month_start(first)?)?, midnight(month_start(next)?)?)
        }
    };
    Some(Period { start: start.into(), end: Some(end.into()) })
}

/// The first day of the month `index`, counted from January of year 0.
fn month_start(index: i64) -> Option<NaiveDate> {
    let year = i32::try_from(index.div_euclid(12)).ok()?;
    let month0 = u32::try_from(index.rem_euclid(12)).ok()?;
    NaiveDate::from_ymd_opt(year, month0.checked_add(1)?, 1)
}

/// The stored form, such as `calendar/month:1/utc`, `fixed/1800` or `lifetime`: stable, because journals outlive code.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lifetime => f.write_str("lifetime"),
            Self::Fixed { seconds } => write!(f, "fixed/{seconds}"),
            Self::Calendar(unit, Zone::Utc) => match unit {
                CalendarUnit::Hour => f.write_str("calendar/hour/utc"),
                CalendarUnit::Day => f.write_str("calendar/day/utc"),
                CalendarUnit::Week => f.write_str("calendar/week/utc"),
                CalendarUnit::Months(count) => write!(f, "calendar/month:{count}/utc"),
            },
        }
    }
}

/// Not the stored form of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a stored window")]
pub struct NotAWindow;

impl FromStr for Window {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        let calendar = |unit| Ok(Self::Calendar(unit, Zone::Utc));
        match text.split('/').collect::<Vec<_>>().as_slice() {
            ["lifetime"] => Ok(Self::Lifetime),
            ["fixed", seconds] => {
                let seconds = seconds.parse().ok().filter(|s| *s > 0);
                seconds.map(|seconds| Self::Fixed { seconds }).ok_or(NotAWindow)
            }
            ["calendar", "hour", "utc"] => calendar(CalendarUnit::Hour),
            ["calendar", "day", "utc"] => calendar(CalendarUnit::Day),
            ["calendar", "week", "utc"] => calendar(CalendarUnit::Week),
            ["calendar", months, "utc"] => {
                let count = months.strip_prefix("month:").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                count.map_or(Err(NotAWindow), |count| calendar(CalendarUnit::Months(count)))
            }
            _ => Err(NotAWindow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc().into()
    }

    #[test]
    fn durations_become_windows() {
        use CalendarUnit::*;
        use DurationError::{OutOfRange, Unknown};
        let calendar = |unit| Ok(Window::Calendar(unit, Zone::Utc));
        let fixed = |seconds| Ok(Window::Fixed { seconds });
        let table = [
            ("30s", fixed(30)),
            ("30m", fixed(1_800)),
            ("1h", calendar(Hour)),
            ("hourly", calendar(Hour)),
            ("2h", fixed(7_200)),
            ("24h", calendar(Day)),
            ("1d", calendar(Day)),
            ("daily", calendar(Day)),
            ("48h", fixed(172_800)),
            ("2d", fixed(172_800)),
            ("7d", calendar(Week)),
            ("1w", calendar(Week)),
            ("weekly", calendar(Week)),
            ("2w", fixed(1_209_600)),
            ("30d", calendar(Months(1))),
            ("1mo", calendar(Months(1))),
            ("monthly", calendar(Months(1))),
            ("3mo", calendar(Months(3))),
            ("0s", Err(OutOfRange)),
            ("0mo", Err(OutOfRange)),
            ("121mo", Err(OutOfRange)),
            ("99999999999999999999s", Err(OutOfRange)),
            ("999999999999d", Err(OutOfRange)),
            ("", Err(Unknown)),
            ("mo", Err(Unknown)),
            ("1", Err(Unknown)),
            ("-1d", Err(Unknown)),
            ("1.5h", Err(Unknown)),
            ("1y", Err(Unknown)),
            ("1 d", Err(Unknown)),
            ("1D", Err(Unknown)),
            ("fortnight", Err(Unknown)),
        ];
        for (text, expected) in table {
            assert_eq!(Window::from_duration(text), expected, "{text}");
        }
        assert_eq!(span_ms("1mo"), Ok(2_592_000_000));
        assert_eq!(span_ms("30s"), Ok(30_000));
        assert_eq!(span_ms("monthly"), Err(Unknown));
    }

    #[test]
    fn windows_begin_and_end_on_their_boundaries() {
        let table = [
            ("1h", "2026-11-24T05:59:59.999Z", "2026-11-24T05:00:00Z", "2026-11-24T06:00:00Z"),
            ("1h", "2026-11-24T06:00:00Z", "2026-11-24T06:00:00Z", "2026-11-24T07:00:00Z"),
            ("1d", "2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"),
            ("1d", "2024-02-28T23:59:59.999Z", "2024-02-28T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("1w", "2026-11-29T23:59:59.999Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            ("1w", "2026-01-01T00:00:00Z", "2025-12-29T00:00:00Z", "2026-01-05T00:00:00Z"),
            ("1mo", "2026-02-28T12:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("1mo", "2026-12-31T23:59:59.999Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("3mo", "2026-11-24T00:00:00Z", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("12mo", "2026-11-24T00:00:00Z", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("30s", "2026-11-24T00:00:29.999Z", "2026-11-24T00:00:00Z", "2026-11-24T00:00:30Z"),
            ("48h", "1970-01-05T00:00:00Z", "1970-01-05T00:00:00Z", "1970-01-07T00:00:00Z"),
            ("2w", "1970-01-04T00:00:00Z", "1969-12-22T00:00:00Z", "1970-01-05T00:00:00Z"),
        ];
        for (duration, instant, start, end) in table {
            let window = Window::from_duration(duration).unwrap();
            let expected = Period { start: at(start), end: Some(at(end)) };
            assert_eq!(window.period_at(at(instant)), Some(expected), "{duration} at {instant}");
        }
        assert_eq!(Window::Lifetime.period_at(at("2026-11-24T00:00:00Z")).unwrap().end, None);
    }

    fn windows() -> impl Strategy<Value = Window> {
        prop_oneof![
            Just(Window::Lifetime),
            (1_u32..1_000_000).prop_map(|seconds| Window::Fixed { seconds }),
            prop_oneof![
                Just(CalendarUnit::Hour),
                Just(CalendarUnit::Day),
                Just(CalendarUnit::Week),
                (1_u16..=120).prop_map(CalendarUnit::Months),
            ]
            .prop_map(|unit| Window::Calendar(unit, Zone::Utc)),
        ]
    }

    proptest! {
        #[test]
        fn a_window_survives_its_text(window in windows()) {
            prop_assert_eq!(window.to_string().parse(), Ok(window));
        }

        #[test]
        fn windows_tile_time(window in windows(), unix_ms in -1_000_000_000_000_i64..4_000_000_000_000) {
            let at = Timestamp::new(unix_ms);
            let period = window.period_at(at).unwrap();
            if let Some(end) = period.end {
                prop_assert!(period.start <= at && at < end);
                prop_assert_eq!(window.period_at(end).unwrap().start, end);
                prop_assert_eq!(window.period_at(end.plus_ms(-1)), Some(period));
                prop_assert_eq!(window.period_at(period.start), Some(period));
            }
        }
    }
}
