//! The oracle's own windows, computed by hand: the domain's calendar is among what is tested.

use tollgate_domain::window::{CalendarUnit, Window, Zone};

pub(crate) const SECOND_MS: i64 = 1_000;
pub(crate) const MINUTE_MS: i64 = 60 * SECOND_MS;
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// A window that the oracle can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Span {
    Lifetime,
    Hour,
    Day,
    Week,
    Month,
    Fixed(u32),
    Rolling(u32),
}

impl Span {
    pub(crate) const fn window(self) -> Window {
        match self {
            Self::Lifetime => Window::Lifetime,
            Self::Hour => Window::Calendar(CalendarUnit::Hour, Zone::UTC),
            Self::Day => Window::Calendar(CalendarUnit::Day, Zone::UTC),
            Self::Week => Window::Calendar(CalendarUnit::Week, Zone::UTC),
            Self::Month => Window::Calendar(CalendarUnit::Months(1), Zone::UTC),
            Self::Fixed(seconds) => Window::Fixed { seconds },
            Self::Rolling(seconds) => Window::Rolling { seconds },
        }
    }

    /// First instant of the period (of a rolling window: of the bucket), and the first one after it.
    pub(crate) fn period(self, at: i64) -> (i64, Option<i64>) {
        match self {
            Self::Lifetime => (0, None),
            Self::Hour => equal(HOUR_MS, 0, at),
            Self::Day => equal(DAY_MS, 0, at),
            // 1970-01-05 was a Monday.
            Self::Week => equal(7 * DAY_MS, 4 * DAY_MS, at),
            Self::Month => month(at),
            Self::Fixed(seconds) => equal(i64::from(seconds) * SECOND_MS, 4 * DAY_MS, at),
            Self::Rolling(seconds) => equal(bucket_ms(seconds), 4 * DAY_MS, at),
        }
    }

    /// From when on holds count at `at`.
    pub(crate) fn counts_from(self, at: i64) -> i64 {
        match self {
            Self::Rolling(seconds) => self.period(at - i64::from(seconds) * SECOND_MS).0,
            _ => self.period(at).0,
        }
    }

    /// Whether a hold made at `made_at` counts at `now`. For life, everything does.
    pub(crate) fn counts(self, made_at: i64, now: i64) -> bool {
        self.counts_or_will(made_at, now) && self.period(now).1.is_none_or(|end| made_at < end)
    }

    /// Whether it counts at `now` or later: it can have been made ahead of the clock.
    pub(crate) fn counts_or_will(self, made_at: i64, now: i64) -> bool {
        self == Self::Lifetime || made_at >= self.counts_from(now)
    }

    /// When the bucket of something spent at `made_at` does not count any more.
    pub(crate) fn leaves_at(self, made_at: i64) -> Option<i64> {
        let Self::Rolling(seconds) = self else { return None };
        Some(self.period(made_at).1? + i64::from(seconds) * SECOND_MS)
    }
}

/// A rolling window moves on in 60 buckets of whole milliseconds.
fn bucket_ms(seconds: u32) -> i64 {
    let span = i64::from(seconds) * SECOND_MS;
    span / 60 + i64::from(span % 60 != 0)
}

fn equal(span: i64, origin: i64, at: i64) -> (i64, Option<i64>) {
    let start = origin + (at - origin).div_euclid(span) * span;
    (start, Some(start + span))
}

/// Counts months on from January 1970: naive, and enough for a simulation.
fn month(at: i64) -> (i64, Option<i64>) {
    let (mut start, mut year, mut month) = (0, 1970, 0);
    loop {
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let february = if leap { 29 } else { 28 };
        let days = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month];
        let end = start + days * DAY_MS;
        if at < end {
            return (start, Some(end));
        }
        start = end;
        month = (month + 1) % 12;
        year += i64::from(month == 0);
    }
}
