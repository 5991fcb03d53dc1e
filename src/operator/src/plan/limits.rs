//! Limits as people write them into limits as the ledger counts them.
//!
//! Several limits on one account over one window (and model) are one row of the ledger, of the lowest amount: the others hold with
//! it. A limit that only observes has a row of its own only where nothing lower is enforced: beside an enforced one it becomes
//! soft, so that it warns at its amount while the other refuses at its own.

use super::account;
use super::verdict::Problem;
use crate::resources::{Limit, Period};
use std::collections::{BTreeMap, BTreeSet};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::window::{BillingDay, CalendarUnit, ROLLING_SECONDS_MIN, Window, Zone};

/// The largest amount that the ledger takes: a thousand million dollars.
const AMOUNT_MAX: Nanodollars = Nanodollars::new(1_000_000_000_000_000_000);
/// Where a soft limit warns: at its amount.
const ALL_PERCENT: u16 = 100;

/// A limit as it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) window: Window,
    pub(super) model: Option<String>,
    pub(super) amount: Nanodollars,
}

/// What a limit means, and what is wrong with it. A limit with a fault counts all the same, as strictly as it can be read: a typing error
/// in a budget must not open it.
pub(super) fn meaning(limit: &Limit, field: &str) -> (Meant, Option<Problem>) {
    let (amount, amount_problem) = amount(limit, field);
    let (zone, zone_problem) = zone(limit, field);
    let (window, window_problem) = window(limit, zone, field);
    let model = limit.model.clone().filter(|model| !model.trim().is_empty());
    (Meant { window, model, amount }, amount_problem.or(zone_problem).or(window_problem))
}

fn amount(limit: &Limit, field: &str) -> (Nanodollars, Option<Problem>) {
    match limit.amount.parse::<Nanodollars>() {
        Ok(amount) if (Nanodollars::ZERO..=AMOUNT_MAX).contains(&amount) => (amount, None),
        _ => {
            let message = format!(
                "{field}.amount: \"{}\" is no amount: write US dollars as a decimal string, such as \"100\" or \"0.50\". \
                 Until then nothing may be spent",
                limit.amount
            );
            (Nanodollars::ZERO, Some(Problem::new("InvalidAmount", message)))
        }
    }
}

fn zone(limit: &Limit, field: &str) -> (Zone, Option<Problem>) {
    let Some(name) = &limit.time_zone else { return (Zone::UTC, None) };
    match name.parse() {
        Ok(zone) => (zone, None),
        Err(_) => {
            let message = format!(
                "{field}.timeZone: {name} is not a time zone of the IANA database: write one like Europe/Vienna, or UTC. \
                 Until then the limit counts by UTC"
            );
            (Zone::UTC, Some(Problem::new("UnknownTimeZone", message)))
        }
    }
}

fn window(limit: &Limit, zone: Zone, field: &str) -> (Window, Option<Problem>) {
    let calendar = |unit| (Window::Calendar(unit, zone), None);
    match limit.period {
        Period::Hour => calendar(CalendarUnit::Hour),
        Period::Day => calendar(CalendarUnit::Day),
        Period::Week => calendar(CalendarUnit::Week),
        Period::Month => month(limit, zone, field),
        Period::Quarter => calendar(CalendarUnit::Months(3)),
        Period::Year => calendar(CalendarUnit::Months(12)),
        Period::Lifetime => (Window::Lifetime, None),
        Period::Rolling => match limit.rolling_for.as_deref().and_then(span_seconds) {
            Some(seconds) if seconds >= ROLLING_SECONDS_MIN => (Window::Rolling { seconds }, None),
            _ => {
                let message = format!(
                    "{field}.rollingFor is no span of at least a minute: write it like 5h. Until then the limit counts for life"
                );
                (Window::Lifetime, Some(Problem::new("InvalidPeriod", message)))
            }
        },
    }
}

fn month(limit: &Limit, zone: Zone, field: &str) -> (Window, Option<Problem>) {
    let calendar = Window::Calendar(CalendarUnit::Months(1), zone);
    match limit.anchor_day {
        None | Some(1) => (calendar, None),
        Some(day) => match u8::try_from(day).ok().and_then(|day| BillingDay::new(day).ok()) {
            Some(day) => (Window::Anchored { day, zone }, None),
            None => {
                let message = format!(
                    "{field}.anchorDay: {day} is no day of a month: write 1 to 31. Until then months begin on the first"
                );
                (calendar, Some(Problem::new("InvalidPeriod", message)))
            }
        },
    }
}

/// A span such as `1h30m`, in whole seconds.
pub(super) fn span_seconds(text: &str) -> Option<u32> {
    let span: kube::core::Duration = text.parse().ok()?;
    if span.is_negative() {
        return None;
    }
    u32::try_from(std::time::Duration::from(span).as_secs()).ok()
}

/// One limit on an account, and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) meant: Meant,
    pub(super) observe: bool,
    pub(super) alerts: Vec<u16>,
}

/// All limits on one account, as rows of the ledger, in their order.
pub(super) fn rows(sources: Vec<Source>) -> Vec<account::Limit> {
    let mut groups: BTreeMap<(Window, Option<String>), Vec<Source>> = BTreeMap::new();
    for source in sources {
        groups.entry((source.meant.window, source.meant.model.clone())).or_default().push(source);
    }
    let mut rows: Vec<_> =
        groups.into_iter().flat_map(|((window, model), sources)| rows_of(window, &model, &sources)).collect();
    rows.sort();
    rows
}

fn rows_of(window: Window, model: &Option<String>, sources: &[Source]) -> Vec<account::Limit> {
    let row = |(amount, alerts): (Nanodollars, BTreeSet<u16>), observe, soft| account::Limit {
        window,
        model: model.clone(),
        soft,
        observe,
        amount,
        thresholds_percent: alerts.into_iter().collect(),
    };
    match (lowest(sources, false), lowest(sources, true)) {
        (Some(enforced), Some(observed)) if observed.0 < enforced.0 => {
            let mut soft = row(observed, false, true);
            if !soft.thresholds_percent.contains(&ALL_PERCENT) {
                soft.thresholds_percent.push(ALL_PERCENT);
                soft.thresholds_percent.sort_unstable();
            }
            vec![row(enforced, false, false), soft]
        }
        (Some(enforced), _) => vec![row(enforced, false, false)],
        (None, Some(observed)) => vec![row(observed, true, false)],
        (None, None) => vec![],
    }
}

/// The lowest amount, and the alerts of those who have it: the others' are parts of other amounts.
fn lowest(sources: &[Source], observe: bool) -> Option<(Nanodollars, BTreeSet<u16>)> {
    let these = || sources.iter().filter(|source| source.observe == observe);
    let amount = these().map(|source| source.meant.amount).min()?;
    let alerts = these().filter(|source| source.meant.amount == amount).flat_map(|source| &source.alerts);
    Some((amount, alerts.copied().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(amount: &str, period: Period) -> Limit {
        Limit {
            amount: amount.into(),
            period,
            time_zone: None,
            anchor_day: None,
            rolling_for: None,
            model: None,
        }
    }

    #[test]
    fn a_limit_that_can_not_be_read_is_as_strict_as_it_can_be() {
        let month = Window::Calendar(CalendarUnit::Months(1), Zone::UTC);
        let base = limit("10", Period::Month);
        let rows = [
            (limit("-1", Period::Month), Nanodollars::ZERO, month, "InvalidAmount"),
            (limit("ten", Period::Month), Nanodollars::ZERO, month, "InvalidAmount"),
            (limit("1000000001", Period::Month), Nanodollars::ZERO, month, "InvalidAmount"),
            (
                Limit { time_zone: Some("Europe/Wien".into()), ..base.clone() },
                Nanodollars::new(10_000_000_000),
                month,
                "UnknownTimeZone",
            ),
            (
                Limit { anchor_day: Some(32), ..base },
                Nanodollars::new(10_000_000_000),
                month,
                "InvalidPeriod",
            ),
            (
                limit("10", Period::Rolling),
                Nanodollars::new(10_000_000_000),
                Window::Lifetime,
                "InvalidPeriod",
            ),
        ];
        for (limit, amount, window, reason) in rows {
            let (meant, problem) = meaning(&limit, "spec.limits[0]");
            assert_eq!(meant, Meant { window, model: None, amount }, "{limit:?}");
            assert_eq!(problem.map(|problem| problem.reason), Some(reason), "{limit:?}");
        }
    }

    #[test]
    fn a_month_from_the_first_is_the_calendars() {
        let first = Limit { anchor_day: Some(1), ..limit("1", Period::Month) };
        assert_eq!(meaning(&first, ""), meaning(&limit("1", Period::Month), ""));
    }

    #[test]
    fn limits_of_one_window_are_one_row() {
        let source = |amount, observe, alerts: &[u16]| Source {
            meant: Meant { window: Window::Lifetime, model: None, amount: Nanodollars::new(amount) },
            observe,
            alerts: alerts.to_vec(),
        };
        let row = |amount, soft, observe, alerts: &[u16]| account::Limit {
            window: Window::Lifetime,
            model: None,
            soft,
            observe,
            amount: Nanodollars::new(amount),
            thresholds_percent: alerts.to_vec(),
        };
        let table = [
            (vec![], vec![]),
            (vec![source(5, false, &[80, 50])], vec![row(5, false, false, &[50, 80])]),
            (vec![source(5, true, &[50])], vec![row(5, false, true, &[50])]),
            // The lowest amount, with the alerts of those who have it.
            (
                vec![source(9, false, &[10]), source(5, false, &[50]), source(5, false, &[80])],
                vec![row(5, false, false, &[50, 80])],
            ),
            // What is observed above what is enforced is never reached.
            (vec![source(5, false, &[50]), source(9, true, &[20])], vec![row(5, false, false, &[50])]),
            (vec![source(5, false, &[50]), source(5, true, &[20])], vec![row(5, false, false, &[50])]),
            // Below, it warns.
            (
                vec![source(9, false, &[50]), source(5, true, &[20])],
                vec![row(9, false, false, &[50]), row(5, true, false, &[20, 100])],
            ),
        ];
        for (sources, expected) in table {
            assert_eq!(rows(sources.clone()), expected, "{sources:?}");
        }
    }
}
