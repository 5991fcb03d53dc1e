//! The stored form of a window, such as `calendar/month:1/utc`, `anchored/15/Europe/Berlin`, `rolling/86400`, `fixed/1800`
//! or `lifetime`. Stable, because journals outlive code.

use super::{BillingDay, CalendarUnit, ROLLING_SECONDS_MIN, Window, Zone};
use std::fmt;
use std::str::FromStr;

/// How [`Zone::UTC`] is written here.
const UTC: &str = "utc";

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Lifetime => f.write_str("lifetime"),
            Self::Fixed { seconds } => write!(f, "fixed/{seconds}"),
            Self::Rolling { seconds } => write!(f, "rolling/{seconds}"),
            Self::Anchored { day, zone } => write!(f, "anchored/{day}/{}", zone_text(zone)),
            Self::Calendar(unit, zone) => match unit {
                CalendarUnit::Hour => write!(f, "calendar/hour/{}", zone_text(zone)),
                CalendarUnit::Day => write!(f, "calendar/day/{}", zone_text(zone)),
                CalendarUnit::Week => write!(f, "calendar/week/{}", zone_text(zone)),
                CalendarUnit::Months(count) => write!(f, "calendar/month:{count}/{}", zone_text(zone)),
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
        parse(text).filter(|window| window.to_string() == text).ok_or(NotAWindow)
    }
}

/// Reads a little more than is ever written; the caller compares, so that no window has two stored forms.
fn parse(text: &str) -> Option<Window> {
    // A zone may have slashes itself.
    match *text.splitn(3, '/').collect::<Vec<_>>().as_slice() {
        ["lifetime"] => Some(Window::Lifetime),
        ["fixed", seconds] => {
            seconds.parse().ok().filter(|s| *s > 0).map(|seconds| Window::Fixed { seconds })
        }
        ["rolling", seconds] => {
            let seconds = seconds.parse().ok().filter(|s| *s >= ROLLING_SECONDS_MIN);
            seconds.map(|seconds| Window::Rolling { seconds })
        }
        ["anchored", day, zone] => {
            let day = BillingDay::new(day.parse().ok()?).ok()?;
            Some(Window::Anchored { day, zone: zone.parse().ok()? })
        }
        ["calendar", unit, zone] => Some(Window::Calendar(parse_unit(unit)?, zone.parse().ok()?)),
        _ => None,
    }
}

fn parse_unit(text: &str) -> Option<CalendarUnit> {
    match text {
        "hour" => Some(CalendarUnit::Hour),
        "day" => Some(CalendarUnit::Day),
        "week" => Some(CalendarUnit::Week),
        _ => {
            let count = text.strip_prefix("month:")?.parse().ok().filter(|count| *count > 0)?;
            Some(CalendarUnit::Months(count))
        }
    }
}

fn zone_text(zone: Zone) -> &'static str {
    if zone == Zone::UTC { UTC } else { zone.name() }
}
