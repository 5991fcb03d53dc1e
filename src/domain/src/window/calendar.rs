//! The calendar's periods, in any zone.
//!
//! A kind of period is a grid of numbered beginnings on the clock of the wall, where nothing is ever skipped or shown
//! twice. Only the zone turns them into instants, and it never puts a later beginning before an earlier one.

use super::{Period, Zone};
use crate::time::Timestamp;
use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime};
use std::fmt;

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

/// A day of the month, 1 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BillingDay(u8);

/// Not a day that a month can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a day of the month, 1 to 31")]
pub struct NotADay;

impl BillingDay {
    /// The day `day` of each month.
    ///
    /// # Errors
    /// Where no month has it.
    pub const fn new(day: u8) -> Result<Self, NotADay> {
        if matches!(day, 1..=31) { Ok(Self(day)) } else { Err(NotADay) }
    }

    /// The number of the day.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for BillingDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where periods begin, as the clock shows it.
#[derive(Clone, Copy)]
pub(super) enum Grid {
    Unit(CalendarUnit),
    BillingDay(BillingDay),
}

const HOUR_SECONDS: i64 = 3_600;
const DAY_SECONDS: i64 = 86_400;
/// 1970-01-01 was a Thursday: three days after a Monday.
const EPOCH_WEEKDAY: i64 = 3;

impl Grid {
    /// The period of `zone` that contains `at`.
    pub(super) fn period(self, zone: Zone, at: Timestamp) -> Option<Period> {
        let at = at.to_utc()?;
        let mut number = self.number_of(zone.local(at)?)?;
        let mut end = zone.first_at(self.beginning(number.checked_add(1)?)?)?;
        // A clock that was set back across a beginning shows the period before it once more. It stays closed.
        while end <= at {
            number = number.checked_add(1)?;
            end = zone.first_at(self.beginning(number.checked_add(1)?)?)?;
        }
        let start = zone.first_at(self.beginning(number)?)?;
        Some(Period { start: start.into(), end: Some(end.into()) })
    }

    /// The number of the last beginning that is not after `local`.
    fn number_of(self, local: NaiveDateTime) -> Option<i64> {
        let seconds = local.and_utc().timestamp();
        match self {
            Self::Unit(CalendarUnit::Hour) => seconds.checked_div_euclid(HOUR_SECONDS),
            Self::Unit(CalendarUnit::Day) => seconds.checked_div_euclid(DAY_SECONDS),
            Self::Unit(CalendarUnit::Week) => {
                seconds.checked_div_euclid(DAY_SECONDS)?.checked_add(EPOCH_WEEKDAY)?.checked_div_euclid(7)
            }
            Self::Unit(CalendarUnit::Months(count)) => {
                month_of(local.date())?.checked_div_euclid(count.into())
            }
            Self::BillingDay(_) => {
                let month = month_of(local.date())?;
                if self.beginning(month)? <= local { Some(month) } else { month.checked_sub(1) }
            }
        }
    }

    /// What the clock shows at the beginning `number`.
    fn beginning(self, number: i64) -> Option<NaiveDateTime> {
        let after_epoch = |seconds| DateTime::from_timestamp(seconds, 0).map(|at| at.naive_utc());
        match self {
            Self::Unit(CalendarUnit::Hour) => after_epoch(number.checked_mul(HOUR_SECONDS)?),
            Self::Unit(CalendarUnit::Day) => after_epoch(number.checked_mul(DAY_SECONDS)?),
            Self::Unit(CalendarUnit::Week) => {
                let days = number.checked_mul(7)?.checked_sub(EPOCH_WEEKDAY)?;
                after_epoch(days.checked_mul(DAY_SECONDS)?)
            }
            Self::Unit(CalendarUnit::Months(count)) => {
                Some(month_start(number.checked_mul(count.into())?)?.and_time(NaiveTime::MIN))
            }
            Self::BillingDay(day) => {
                let first = month_start(number)?;
                let day = day.0.min(first.num_days_in_month());
                Some(first.checked_add_days(Days::new(day.checked_sub(1)?.into()))?.and_time(NaiveTime::MIN))
            }
        }
    }
}

/// The month, counted from January of year 0.
fn month_of(date: NaiveDate) -> Option<i64> {
    i64::from(date.year()).checked_mul(12)?.checked_add(date.month0().into())
}

/// The first day of a month.
fn month_start(month: i64) -> Option<NaiveDate> {
    let year = i32::try_from(month.div_euclid(12)).ok()?;
    let month0 = u32::try_from(month.rem_euclid(12)).ok()?;
    NaiveDate::from_ymd_opt(year, month0.checked_add(1)?, 1)
}
