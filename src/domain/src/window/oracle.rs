//! The calendar's periods once more, as naively as possible and by another library with a copy of the IANA database of
//! its own: one walks along the days, takes those at which a period begins, and looks between which two the instant lies.

use super::*;
use chrono::{Datelike, NaiveDate, NaiveTime, Offset, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

/// Zones that changed their rules after the other library's copy (2025b) was made, mostly in 2026, or whose past turned out to
/// have been another: Bogota's of 1992, Chisinau's since 2022. When the other library has a copy as new as ours, this list is
/// empty.
const NEWER_HERE: [&str; 16] = [
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "America/Bogota",
    "America/Edmonton",
    "America/Havana",
    "America/Inuvik",
    "America/Rainy_River",
    "America/Vancouver",
    "America/Winnipeg",
    "America/Yellowknife",
    "Canada/Central",
    "Canada/Mountain",
    "Canada/Pacific",
    "Cuba",
    "Europe/Chisinau",
    "Europe/Tiraspol",
];

/// Every other zone.
fn zones() -> Vec<Tz> {
    TZ_VARIANTS.into_iter().filter(|zone| !NEWER_HERE.contains(&zone.name())).collect()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Day,
    Week,
    Months(u16),
    Anchored(u8),
}

impl Kind {
    fn window(self, zone: Zone) -> Window {
        match self {
            Self::Day => Window::Calendar(CalendarUnit::Day, zone),
            Self::Week => Window::Calendar(CalendarUnit::Week, zone),
            Self::Months(count) => Window::Calendar(CalendarUnit::Months(count), zone),
            Self::Anchored(day) => Window::Anchored { day: BillingDay::new(day).unwrap(), zone },
        }
    }

    fn begins_on(self, date: NaiveDate) -> bool {
        match self {
            Self::Day => true,
            Self::Week => date.weekday() == Weekday::Mon,
            Self::Months(count) => {
                date.day() == 1 && (date.year() * 12 + date.month0() as i32) % i32::from(count) == 0
            }
            Self::Anchored(day) => date.day() == u32::from(day).min(date.num_days_in_month().into()),
        }
    }

    /// More days than a period of this kind can have.
    fn days_max(self) -> i64 {
        match self {
            Self::Day => 4,
            Self::Week => 10,
            Self::Months(count) => 32 * i64::from(count),
            Self::Anchored(_) => 34,
        }
    }
}

/// Minute by minute, until the clock shows it. In these years no clock was set by less.
fn day_start(zone: Tz, date: NaiveDate) -> i64 {
    let minutes = (0..).map(|minute| date.and_time(NaiveTime::MIN) + TimeDelta::minutes(minute));
    let mut shown = minutes.filter_map(|local| zone.from_local_datetime(&local).earliest());
    shown.next().unwrap().timestamp_millis()
}

fn naive_period(kind: Kind, zone: Tz, at: Timestamp) -> (i64, i64) {
    let today = Utc.timestamp_millis_opt(at.unix_ms()).unwrap().with_timezone(&zone).date_naive();
    let days = (-kind.days_max()..=kind.days_max()).map(|days| today + TimeDelta::days(days));
    let starts = days.filter(|date| kind.begins_on(*date)).map(|date| day_start(zone, date));
    let mut starts: Vec<i64> = starts.collect();
    starts.dedup();
    let next = starts.iter().position(|start| *start > at.unix_ms()).unwrap();
    (starts[next - 1], starts[next])
}

fn check(kind: Kind, zone: Tz, at: Timestamp) -> Result<(), TestCaseError> {
    let period = kind.window(zone.name().parse().unwrap()).period_at(at).unwrap();
    let found = (period.start.unix_ms(), period.end.unwrap().unix_ms());
    prop_assert_eq!(found, naive_period(kind, zone, at), "{:?} in {}", kind, zone);
    Ok(())
}

/// From 1990 to 2037, in milliseconds.
const YEARS_MS: std::ops::Range<i64> = 631_152_000_000..2_114_380_800_000;
const HOUR_MS: i64 = 3_600_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn another_library_finds_the_same_periods(
        zone in proptest::sample::select(zones()),
        at in YEARS_MS.prop_map(Timestamp::new),
        kind in prop_oneof![
            Just(Kind::Day),
            Just(Kind::Week),
            (1_u16..=4).prop_map(Kind::Months),
            (1_u8..=31).prop_map(Kind::Anchored),
        ],
    ) {
        check(kind, zone, at)?;
    }
}

/// Every change of every zone's clock in these years, from either side.
#[test]
fn another_library_finds_the_same_days_around_every_change() {
    let offset = |zone: Tz, ms: i64| {
        zone.offset_from_utc_datetime(&Utc.timestamp_millis_opt(ms).unwrap().naive_utc()).fix()
    };
    let mut changes = 0;
    for zone in zones() {
        let days = YEARS_MS.step_by(86_400_000);
        let changed = days.filter(|ms| offset(zone, *ms) != offset(zone, ms + 24 * HOUR_MS));
        for day in changed {
            // The last hour that the old offset holds for, to the quarter: no clock was set at another time.
            let quarters = (0..96).map(|quarter| day + quarter * HOUR_MS / 4);
            let change = quarters.take_while(|ms| offset(zone, *ms) == offset(zone, day)).last().unwrap()
                + HOUR_MS / 4;
            for off_ms in [-1, 0, HOUR_MS / 2, HOUR_MS - 1] {
                check(Kind::Day, zone, Timestamp::new(change + off_ms)).unwrap();
            }
            changes += 1;
        }
    }
    assert!(changes > 20_000, "only {changes} changes");
}
