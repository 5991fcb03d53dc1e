//! A window as a body gives it: a duration, and whose midnight, which billing day, or that it rolls.

use super::super::error::ApiError;
use tollgate_domain::window::{BillingDay, CalendarUnit, Window, Zone};

/// What a window is beside its duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Whose midnight it is.
    pub(crate) zone: Option<Zone>,
    /// On which day of the month it begins.
    pub(crate) day: Option<BillingDay>,
    /// Whether it is the last so many seconds, whenever one looks.
    pub(crate) rolling: bool,
}

impl Parts {
    /// What a window that stands is.
    pub(crate) const fn of(window: Window) -> Self {
        let (zone, day) = match window {
            Window::Calendar(_, zone) => (Some(zone), None),
            Window::Anchored { day, zone } => (Some(zone), Some(day)),
            _ => (None, None),
        };
        Self { zone, day, rolling: window.is_rolling() }
    }

    /// What of it has a use in a window of this duration that is given these.
    pub(super) fn kept(self, duration: Option<&str>, given: &Self) -> Self {
        let calendar = duration.and_then(|text| Window::from_duration(text).ok());
        let monthly = calendar.is_some_and(is_month);
        let follows = matches!(calendar, Some(Window::Calendar(..)));
        let rolling = self.rolling && duration.is_some() && given.day.is_none() && given.zone.is_none();
        Self {
            zone: self.zone.filter(|_| follows && !given.rolling),
            day: self.day.filter(|_| monthly && !given.rolling),
            rolling,
        }
    }
}

/// The window of a duration with these parts. The names are of the fields that they come from: duration, rolling, day, zone.
pub(super) fn window(duration: Option<&str>, parts: &Parts, names: [&str; 4]) -> Result<Window, ApiError> {
    let [of_duration, of_rolling, of_day, of_zone] = names;
    let Some(text) = duration else {
        let given =
            [(of_rolling, parts.rolling), (of_day, parts.day.is_some()), (of_zone, parts.zone.is_some())];
        return match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(ApiError::field(name, format!("needs a {of_duration}"))),
            None => Ok(Window::Lifetime),
        };
    };
    let wrong = |why| ApiError::field(of_duration, why);
    if parts.rolling {
        for (name, given) in [(of_day, parts.day.is_some()), (of_zone, parts.zone.is_some())] {
            if given {
                return Err(ApiError::field(name, "has no meaning for a window that rolls"));
            }
        }
        return Window::rolling(text).map_err(wrong);
    }
    let calendar = Window::from_duration_in(text, parts.zone.unwrap_or_default()).map_err(wrong)?;
    match (parts.day, calendar) {
        (Some(day), Window::Calendar(_, zone)) if is_month(calendar) => Ok(Window::Anchored { day, zone }),
        (Some(_), _) => Err(ApiError::field(of_day, format!("goes with a {of_duration} of 1mo only"))),
        (None, Window::Calendar(..)) => Ok(calendar),
        (None, _) if parts.zone.is_some() => {
            Err(ApiError::field(of_zone, format!("has no meaning for {text}, which follows no calendar")))
        }
        (None, _) => Ok(calendar),
    }
}

const fn is_month(window: Window) -> bool {
    matches!(window, Window::Calendar(CalendarUnit::Months(1), _))
}
