//! How money stands, as a person reads it. While nothing is known of the ledger, the last word stands.

use super::limits::Meant;
use super::{LimitStanding, Standing, time};
use crate::resources::{LimitStatus, Spending};
use std::cmp::Reverse;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::window::{CalendarUnit, Window};

/// What an account has spent, and how its limits stand, from what was told `before`. `synced`: what the ledger has told is all there is.
pub(super) fn now(
    before: (&Spending, &[LimitStatus]),
    standing: Option<&Standing>,
    synced: bool,
) -> (Spending, Vec<LimitStatus>) {
    let (spending, limits) = before;
    match standing.filter(|standing| !standing.deleted) {
        _ if !synced => (spending.clone(), limits.to_vec()),
        // What was spent stays in the journal, and here.
        None => (Spending { pending: None, blocked: None, ..spending.clone() }, Vec::new()),
        Some(standing) => {
            let spending = Spending {
                spend: Some(standing.posted.to_string()),
                pending: Some(standing.pending.to_string()),
                last_used_at: standing.last_used_at.map(time::to_time),
                blocked: standing.blocked.then_some(true),
            };
            (spending, standing.limits.iter().filter_map(of_account).collect())
        }
    }
}

fn of_account(limit: &LimitStanding) -> Option<LimitStatus> {
    let meant = Meant { window: limit.window?, model: limit.model.clone(), amount: limit.amount };
    Some(of_limit(&meant, Some(limit), &[]))
}

/// How a limit stands, against what the ledger counts in its window.
pub(super) fn of_limit(meant: &Meant, standing: Option<&LimitStanding>, alerts: &[u16]) -> LimitStatus {
    let known = LimitStatus {
        amount: meant.amount.to_string(),
        period: in_words(meant.window),
        model: meant.model.clone(),
        ..LimitStatus::default()
    };
    let Some(standing) = standing else { return known };
    let LimitStanding { posted, pending, .. } = *standing;
    let available = meant.amount.get().saturating_sub(posted.get()).saturating_sub(pending.get());
    let passed = |percent: &u16| reaches(posted, meant.amount, *percent);
    // A bucket of a rolling window is nobody's span, and life has no beginning.
    let has_start = !matches!(meant.window, Window::Rolling { .. } | Window::Lifetime);
    LimitStatus {
        posted: Some(posted.to_string()),
        pending: Some(pending.to_string()),
        available: Some(Nanodollars::new(available).to_string()),
        used_percent: Some(used_percent(posted, meant.amount)),
        since: has_start.then(|| time::to_time(standing.starts_at)),
        resets_at: standing.ends_at.filter(|_| has_start).map(time::to_time),
        alerted_percents: alerts
            .iter()
            .filter(|percent| passed(percent))
            .map(|one| i32::from(*one))
            .collect(),
        ..known
    }
}

/// What the ledger counts in the window of a limit.
pub(super) fn counted<'a>(standing: Option<&'a Standing>, meant: &Meant) -> Option<&'a LimitStanding> {
    let limits = &standing.filter(|standing| !standing.deleted)?.limits;
    limits.iter().find(|limit| limit.window == Some(meant.window) && limit.model == meant.model)
}

/// The limit of which the largest part is spent; of equals, the one with the least left.
pub(super) fn tightest(limits: &[LimitStatus]) -> Option<LimitStatus> {
    let available =
        |limit: &LimitStatus| limit.available.as_ref().and_then(|text| text.parse::<Nanodollars>().ok());
    let mut all: Vec<&LimitStatus> = limits.iter().collect();
    all.sort_by_key(|limit| (Reverse(limit.used_percent), available(limit)));
    all.first().copied().cloned()
}

fn reaches(posted: Nanodollars, amount: Nanodollars, percent: u16) -> bool {
    let (posted, amount) = (i128::from(posted.get()), i128::from(amount.get()));
    posted > 0 && posted.saturating_mul(100) >= amount.saturating_mul(i128::from(percent))
}

/// Rounded down. Of nothing, everything is used.
fn used_percent(posted: Nanodollars, amount: Nanodollars) -> i64 {
    let hundredfold = i128::from(posted.get()).saturating_mul(100);
    let percent = hundredfold.checked_div_euclid(i128::from(amount.get())).unwrap_or(100);
    i64::try_from(percent).unwrap_or(i64::MAX)
}

/// A span, in words.
pub(crate) fn in_words(window: Window) -> String {
    match window {
        Window::Calendar(unit, _) => match unit {
            CalendarUnit::Hour => "Hour".to_owned(),
            CalendarUnit::Day => "Day".to_owned(),
            CalendarUnit::Week => "Week".to_owned(),
            CalendarUnit::Months(1) => "Month".to_owned(),
            CalendarUnit::Months(3) => "Quarter".to_owned(),
            CalendarUnit::Months(12) => "Year".to_owned(),
            CalendarUnit::Months(count) => format!("{count} months"),
        },
        Window::Anchored { day, .. } => format!("Month from day {day}"),
        Window::Rolling { seconds } => format!("Rolling {}", span(seconds)),
        Window::Fixed { seconds } => format!("Every {}", span(seconds)),
        Window::Lifetime => "Lifetime".to_owned(),
        other => other.to_string(),
    }
}

pub(crate) fn span(seconds: u32) -> String {
    let parts = [(seconds / 3_600, 'h'), (seconds % 3_600 / 60, 'm'), (seconds % 60, 's')];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    parts.map(|(count, unit)| format!("{count}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_domain::window::Zone;

    #[test]
    fn the_used_part_is_exact_and_rounded_down() {
        let rows = [
            (0, 100, 0),
            (1, 3, 33),
            (2, 3, 66),
            (3, 3, 100),
            (4, 3, 133),
            (0, 0, 100),
            (i64::MAX, 1, i64::MAX),
        ];
        for (posted, amount, expected) in rows {
            let used = used_percent(Nanodollars::new(posted), Nanodollars::new(amount));
            assert_eq!(used, expected, "{posted} of {amount}");
        }
    }

    #[test]
    fn an_alert_is_passed_at_its_very_part() {
        let reaches =
            |posted, amount, percent| reaches(Nanodollars::new(posted), Nanodollars::new(amount), percent);
        assert!(!reaches(49, 100, 50));
        assert!(reaches(50, 100, 50));
        assert!(!reaches(0, 0, 50), "nothing is spent");
    }

    #[test]
    fn spans_are_called_as_they_are_written() {
        let month = |count| Window::Calendar(CalendarUnit::Months(count), Zone::UTC);
        let rows = [
            (month(1), "Month"),
            (month(3), "Quarter"),
            (Window::Rolling { seconds: 18_000 }, "Rolling 5h"),
            (Window::Rolling { seconds: 5_430 }, "Rolling 1h30m30s"),
            (Window::Lifetime, "Lifetime"),
        ];
        for (window, words) in rows {
            assert_eq!(in_words(window), words);
        }
    }
}
