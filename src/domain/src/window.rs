//! Windows: over which span a limit counts, and when that span ends.
//!
//! A window is always computed from its anchor (the calendar, or the epoch), never by adding to the last boundary,
//! so no chain of resets can drift. Every kind tiles time: each instant lies in exactly one period, and a period ends
//! where the next one begins. LiteLLM's durations map onto windows by [`Window::from_duration`].

mod calendar;
mod duration;
mod stored;
mod zone;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub use calendar::{BillingDay, CalendarUnit, NotADay};
pub use duration::{DurationError, span_ms};
pub use stored::NotAWindow;
pub use zone::{NotAZone, Zone};

use crate::time::Timestamp;
use calendar::Grid;

/// Over which span a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Window {
    /// A span of the calendar, in a zone.
    Calendar(CalendarUnit, Zone),
    /// A month from one billing day to the next, in a zone.
    Anchored {
        /// The day of the month; the last one in months that are shorter.
        day: BillingDay,
        /// Whose midnight it is.
        zone: Zone,
    },
    /// Equal spans of this many seconds, counted from [`ORIGIN_MS`].
    Fixed {
        /// The span.
        seconds: u32,
    },
    /// The last so many seconds, whenever one looks. It is kept in [buckets](Self::period_at), so what was spent may
    /// count up to one of them (a 60th of the span) longer, and never shorter.
    Rolling {
        /// The span, at least [`ROLLING_SECONDS_MIN`].
        seconds: u32,
    },
    /// Never ends.
    Lifetime,
}

/// Monday, 1970-01-05T00:00:00Z: so that fixed spans of weeks begin on a Monday.
const ORIGIN_MS: i64 = 4 * 86_400 * 1000;

/// In how many parts a rolling span moves on.
const ROLLING_BUCKETS: i64 = 60;

/// The shortest rolling span: below it, a bucket would be shorter than a second.
pub const ROLLING_SECONDS_MIN: u32 = 60;

/// A half-open span of time, `[start, end)`. `end` is `None` where the window never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Option<Timestamp>,
}

impl Window {
    /// The period that contains `at`; of a rolling window, the bucket. `None` only where `at` lies outside of the
    /// calendar's years.
    ///
    /// A period in a zone begins at the first instant at which the zone's clock shows its beginning or something later:
    /// a midnight that does not exist is the first instant after the gap, of two midnights the earlier one counts, and
    /// an hour that the clock shows twice is one period of two hours. A day that a zone left out has no period.
    pub fn period_at(self, at: Timestamp) -> Option<Period> {
        match self {
            Self::Lifetime => Some(Period { start: Timestamp::new(0), end: None }),
            Self::Fixed { seconds } => equal_period(span_ms_of(seconds)?, at),
            Self::Rolling { seconds } => equal_period(bucket_ms(seconds)?, at),
            Self::Calendar(unit, zone) => Grid::Unit(unit).period(zone, at),
            Self::Anchored { day, zone } => Grid::BillingDay(day).period(zone, at),
        }
    }

    /// From when on spending counts at `at`: the beginning of the period or, in a rolling window, of the bucket in which
    /// the span began, so that nothing is freed before all of the span has passed.
    pub fn counts_from(self, at: Timestamp) -> Option<Timestamp> {
        let first = match self {
            Self::Rolling { seconds } => Timestamp::new(at.unix_ms().checked_sub(span_ms_of(seconds)?)?),
            _ => at,
        };
        Some(self.period_at(first)?.start)
    }

    /// Whether several periods (the buckets since [`counts_from`](Self::counts_from)) count together.
    pub const fn is_rolling(self) -> bool {
        matches!(self, Self::Rolling { .. })
    }
}

fn span_ms_of(seconds: u32) -> Option<i64> {
    i64::from(seconds).checked_mul(1000)
}

/// Rounded up, so that the buckets of a span never cover less than it.
fn bucket_ms(seconds: u32) -> Option<i64> {
    span_ms_of(seconds)?.checked_add(ROLLING_BUCKETS.checked_sub(1)?)?.checked_div(ROLLING_BUCKETS)
}

fn equal_period(span_ms: i64, at: Timestamp) -> Option<Period> {
    let number = at.unix_ms().checked_sub(ORIGIN_MS)?.checked_div_euclid(span_ms)?;
    let start = number.checked_mul(span_ms)?.checked_add(ORIGIN_MS)?;
    let end = start.checked_add(span_ms)?;
    Some(Period { start: Timestamp::new(start), end: Some(Timestamp::new(end)) })
}
