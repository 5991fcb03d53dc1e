//! The calendar's periods once more, as naively as possible and by another library with a copy of the IANA database of
//! its own: one walks along the days, takes those at which a period begins, and looks between which two the instant lies.

use super::*;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, ToSpan};
use proptest::prelude::*;

/// Zones whose rules both libraries know alike for these years, with most of the traps there are.
const ZONES: [&str; 28] = [
    "UTC",
    "Africa/Cairo",
    "America/Asuncion",
    "America/Caracas",
    "America/Los_Angeles",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Asia/Tokyo",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/Istanbul",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Norfolk",
];

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

    fn begins_on(self, date: Date) -> bool {
        match self {
            Self::Day => true,
            Self::Week => date.weekday() == Weekday::Monday,
            Self::Months(count) => {
                date.day() == 1
                    && (i32::from(date.year()) * 12 + i32::from(date.month()) - 1) % i32::from(count) == 0
            }
            Self::Anchored(day) => date.day() == date.days_in_month().min(day.cast_signed()),
        }
    }

    /// More days than a period of this kind can have.
    fn days_max(self) -> i32 {
        match self {
            Self::Day => 4,
            Self::Week => 10,
            Self::Months(count) => 32 * i32::from(count),
            Self::Anchored(_) => 34,
        }
    }
}

fn naive_period(kind: Kind, zone: &TimeZone, at: Timestamp) -> (i64, i64) {
    let today = Instant::from_millisecond(at.unix_ms()).unwrap().to_zoned(zone.clone()).date();
    let day_start = |date: Date| {
        let noon_or_later = date.to_zoned(zone.clone()).unwrap();
        noon_or_later.start_of_day().unwrap().timestamp().as_millisecond()
    };
    let days = (-kind.days_max()..=kind.days_max()).map(|days| today.checked_add(days.days()).unwrap());
    let mut starts: Vec<i64> = days.filter(|date| kind.begins_on(*date)).map(day_start).collect();
    starts.dedup();
    let next = starts.iter().position(|start| *start > at.unix_ms()).unwrap();
    (starts[next - 1], starts[next])
}

fn check(kind: Kind, zone_name: &str, at: Timestamp) -> Result<(), TestCaseError> {
    let zone = TimeZone::get(zone_name).unwrap();
    let period = kind.window(zone_name.parse().unwrap()).period_at(at).unwrap();
    let found = (period.start.unix_ms(), period.end.unwrap().unix_ms());
    prop_assert_eq!(found, naive_period(kind, &zone, at), "{:?} in {}", kind, zone_name);
    Ok(())
}

/// Instants from 1990 to 2037: anywhere, or within a day of a change of the zone's clock, where the traps are.
fn instants(zone_name: &'static str) -> impl Strategy<Value = Timestamp> {
    const YEARS_MS: std::ops::Range<i64> = 631_152_000_000..2_114_380_800_000;
    let near_change = (YEARS_MS, -90_000_000_i64..=90_000_000).prop_map(move |(ms, off_ms)| {
        let zone = TimeZone::get(zone_name).unwrap();
        let change = zone.preceding(Instant::from_millisecond(ms).unwrap()).next();
        let change_ms = change.map_or(ms, |change| change.timestamp().as_millisecond());
        Timestamp::new(if YEARS_MS.contains(&change_ms) { change_ms + off_ms } else { ms })
    });
    prop_oneof![YEARS_MS.prop_map(Timestamp::new), near_change]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn another_library_finds_the_same_periods(
        (zone_name, at) in proptest::sample::select(&ZONES[..])
            .prop_flat_map(|zone_name| instants(zone_name).prop_map(move |at| (zone_name, at))),
        kind in prop_oneof![
            Just(Kind::Day),
            Just(Kind::Week),
            (1_u16..=4).prop_map(Kind::Months),
            (1_u8..=31).prop_map(Kind::Anchored),
        ],
    ) {
        check(kind, zone_name, at)?;
    }
}

/// Every change of every zone's clock in these years, from either side.
#[test]
fn another_library_finds_the_same_days_around_every_change() {
    let first = Instant::from_second(631_152_000).unwrap();
    let last = Instant::from_second(2_114_380_800).unwrap();
    let mut changes = 0;
    for zone_name in ZONES {
        let zone = TimeZone::get(zone_name).unwrap();
        for change in zone.following(first).take_while(|change| change.timestamp() < last) {
            let change = Timestamp::new(change.timestamp().as_millisecond());
            for off_ms in [-1, 0, 1_800_000, 3_599_999] {
                check(Kind::Day, zone_name, change.plus_ms(off_ms)).unwrap();
            }
            changes += 1;
        }
    }
    assert!(changes > 1_000, "only {changes} changes");
}
