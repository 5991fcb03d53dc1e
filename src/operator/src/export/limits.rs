//! Limits of an account as budgets on it.

use super::ListedLimit;
use super::judge::is_plain;
use crate::plan::{in_words, span};
use crate::resources::{Alert, BudgetSpec, Limit, Mode, Period, TargetRef};
use std::collections::BTreeMap;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::window::{CalendarUnit, Window, Zone};

/// Limits of one Budget, in its definition.
const LIMITS_MAX: usize = 16;
/// Limits of one account, in what the ledger takes.
const ROWS_MAX: usize = 32;
/// Nine digits before the point.
const AMOUNT_MAX: Nanodollars = Nanodollars::new(999_999_999_999_999_999);
/// Where a soft limit warns.
const ALL_PERCENT: u32 = 100;
/// Alerts of one Budget, and the largest part of a limit, in its definition.
const ALERTS_MAX: usize = 16;
const PERCENT_MAX: u32 = 1_000;

/// Which limits no Budget can have, in words.
pub(super) fn unsayable(limits: &[ListedLimit]) -> Vec<String> {
    let mut why: Vec<String> =
        limits.iter().filter(|limit| written(limit).is_none()).map(unwritten).collect();
    why.extend(limits.iter().filter(|limit| alerts(limit).is_none()).map(|limit| {
        let percents: Vec<String> = limit.thresholds_percent.iter().map(ToString::to_string).collect();
        format!("a limit of {} USD with alerts that no Budget has ({} %)", limit.amount, percents.join(", "))
    }));
    if limits.len() > ROWS_MAX {
        why.push(format!("more than {ROWS_MAX} limits"));
    }
    why
}

fn unwritten(limit: &ListedLimit) -> String {
    let amount = limit.amount;
    match limit.window {
        Some(window) => format!("a limit of {amount} USD ({}), which no Budget has", in_words(window)),
        None => format!("a limit of {amount} USD over a span that no Budget has"),
    }
}

/// A limit as people write it.
fn written(limit: &ListedLimit) -> Option<Limit> {
    let fits = (Nanodollars::ZERO..=AMOUNT_MAX).contains(&limit.amount);
    let named = limit.model.as_deref().is_none_or(is_plain);
    let (period, zone) = match limit.window.filter(|_| fits && named)? {
        Window::Lifetime => (Period::Lifetime, Zone::UTC),
        Window::Rolling { .. } => (Period::Rolling, Zone::UTC),
        Window::Anchored { zone, .. } => (Period::Month, zone),
        Window::Calendar(unit, zone) => (period(unit)?, zone),
        _ => return None,
    };
    let anchor_day = match limit.window {
        Some(Window::Anchored { day, .. }) if day.get() > 1 => Some(i32::from(day.get())),
        _ => None,
    };
    let rolling_for = match limit.window {
        Some(Window::Rolling { seconds }) => Some(span(seconds)),
        _ => None,
    };
    Some(Limit {
        amount: limit.amount.to_string(),
        period,
        time_zone: (zone != Zone::UTC).then(|| zone.name().to_owned()),
        anchor_day,
        rolling_for,
        model: limit.model.clone(),
    })
}

/// Its alerts as people write them.
fn alerts(limit: &ListedLimit) -> Option<Vec<Alert>> {
    let alert = |percent: &u32| {
        let percent = Some(*percent).filter(|percent| (1..=PERCENT_MAX).contains(percent))?;
        Some(Alert { percent: i32::try_from(percent).ok()? })
    };
    let alerts: Vec<Alert> = limit.thresholds_percent.iter().map(alert).collect::<Option<_>>()?;
    (alerts.len() <= ALERTS_MAX).then_some(alerts)
}

fn period(unit: CalendarUnit) -> Option<Period> {
    Some(match unit {
        CalendarUnit::Hour => Period::Hour,
        CalendarUnit::Day => Period::Day,
        CalendarUnit::Week => Period::Week,
        CalendarUnit::Months(1) => Period::Month,
        CalendarUnit::Months(3) => Period::Quarter,
        CalendarUnit::Months(12) => Period::Year,
        CalendarUnit::Months(_) => return None,
    })
}

/// The budgets that say these limits, the enforced ones first, and what is not the same by them.
pub(super) fn budgets(target: &TargetRef, limits: &[ListedLimit]) -> (Vec<BudgetSpec>, Vec<String>) {
    let mut groups: BTreeMap<(bool, &[u32]), Vec<&ListedLimit>> = BTreeMap::new();
    let mut sorted: Vec<&ListedLimit> = limits.iter().collect();
    sorted.sort_by_key(|limit| (limit.window, &limit.model, limit.soft, limit.amount));
    for limit in &sorted {
        let group = (limit.observe || limit.soft, limit.thresholds_percent.as_slice());
        groups.entry(group).or_default().push(limit);
    }
    let notes = sorted.iter().filter_map(|limit| changed(limit, limits)).collect();
    let mut specs = Vec::new();
    for ((observes, _), group) in groups {
        let alerts = group.first().and_then(|limit| alerts(limit)).unwrap_or_default();
        for part in group.chunks(LIMITS_MAX) {
            specs.push(BudgetSpec {
                target_ref: target.clone(),
                adopt: None,
                limits: part.iter().filter_map(|limit| written(limit)).collect(),
                alerts: alerts.clone(),
                mode: if observes { Mode::Observe } else { Mode::Enforce },
            });
        }
    }
    (specs, notes)
}

/// What becomes of a limit that only warns: a Budget has no such thing, and one that observes is the nearest.
fn changed(limit: &ListedLimit, all: &[ListedLimit]) -> Option<String> {
    if !limit.soft {
        return None;
    }
    let hard =
        all.iter().find(|other| !other.soft && (other.window, &other.model) == (limit.window, &limit.model));
    let amount = limit.amount;
    match hard {
        Some(hard) if !hard.observe && limit.amount >= hard.amount => Some(format!(
            "soft_budget {amount} is not below the limit of {} USD: it is shown, and tells nothing by itself",
            hard.amount
        )),
        Some(hard) if !hard.observe => (!limit.thresholds_percent.contains(&ALL_PERCENT))
            .then(|| format!("soft_budget {amount} tells at 100 %, too")),
        Some(hard) => Some(format!(
            "soft_budget {amount} and the limit of {} USD both only observe: the ledger counts the lower one",
            hard.amount
        )),
        None => Some(format!(
            "soft_budget {amount} is a Budget that observes: requests beyond it are marked, too"
        )),
    }
}
