//! What the ledger counts of its own work, for whoever watches it: whole numbers that only rise, in the text format of
//! Prometheus. No money, no key and no name of an account is among them.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tollgate_domain::hold::{DenialReason, Event, Outcome, Verdict};

/// A number that rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Numbers that rise, one for each value of a label.
#[derive(Debug)]
struct Family<const N: usize> {
    values: [&'static str; N],
    counts: [Counter; N],
}

impl<const N: usize> Family<N> {
    fn new(values: [&'static str; N]) -> Self {
        Self { values, counts: std::array::from_fn(|_| Counter::default()) }
    }

    fn add_one(&self, value: &str) {
        let place = self.values.iter().position(|known| *known == value);
        if let Some(count) = place.and_then(|place| self.counts.get(place)) {
            count.add(1);
        }
    }
}

/// Sizes of batches, each bound included; beyond the last there are none.
const BATCH_BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// See the module.
#[derive(Debug)]
pub struct Counters {
    held: Counter,
    stale: Counter,
    denied: Family<{ REASONS.len() }>,
    adjusts: Family<5>,
    settles: Family<5>,
    voids: Family<5>,
    lookups: Family<3>,
    /// Batches by their size, each in one bound, and the messages in all of them.
    batches: [Counter; BATCH_BOUNDS.len()],
    batched: Counter,
    pub(crate) expired: Counter,
    pub(crate) overruns: Counter,
    database_errors: Family<4>,
}

const REASONS: [DenialReason; 12] = [
    DenialReason::KeyUnknown,
    DenialReason::KeyBlocked,
    DenialReason::KeyExpired,
    DenialReason::ModelUnknown,
    DenialReason::ModelNotAllowed,
    DenialReason::ModelUnpriced,
    DenialReason::BudgetSpent,
    DenialReason::BudgetTooSmall,
    DenialReason::HoldEnded,
    DenialReason::RateLimited,
    DenialReason::TagMissing,
    DenialReason::ExtraForbidden,
];

/// The name of a reason, as [`REASONS`] has all of them.
const fn reason_name(reason: DenialReason) -> &'static str {
    match reason {
        DenialReason::KeyUnknown => "key_unknown",
        DenialReason::KeyBlocked => "key_blocked",
        DenialReason::KeyExpired => "key_expired",
        DenialReason::ModelUnknown => "model_unknown",
        DenialReason::ModelNotAllowed => "model_not_allowed",
        DenialReason::ModelUnpriced => "model_unpriced",
        DenialReason::BudgetSpent => "budget_spent",
        DenialReason::BudgetTooSmall => "budget_too_small",
        DenialReason::HoldEnded => "hold_ended",
        DenialReason::RateLimited => "rate_limited",
        DenialReason::TagMissing => "tag_missing",
        DenialReason::ExtraForbidden => "extra_forbidden",
    }
}

const OUTCOMES: [&str; 5] = ["applied", "duplicate", "superseded", "tombstone", "rejected"];

const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Duplicate => "duplicate",
        Outcome::Superseded => "superseded",
        Outcome::Tombstone => "tombstone",
        Outcome::Rejected(_) => "rejected",
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            held: Counter::default(),
            stale: Counter::default(),
            denied: Family::new(REASONS.map(reason_name)),
            adjusts: Family::new(OUTCOMES),
            settles: Family::new(OUTCOMES),
            voids: Family::new(OUTCOMES),
            lookups: Family::new(["known", "unknown", "administrator"]),
            batches: std::array::from_fn(|_| Counter::default()),
            batched: Counter::default(),
            expired: Counter::default(),
            overruns: Counter::default(),
            database_errors: Family::new(["contended", "unavailable", "lasting", "other"]),
        }
    }
}

impl Counters {
    pub(crate) fn decided(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Held { .. } => self.held.add(1),
            Verdict::Stale(..) => self.stale.add(1),
            Verdict::Denied(denied) => self.denied.add_one(reason_name(denied.reason)),
        }
    }

    pub(crate) fn reported(&self, event: &Event, outcome: Outcome) {
        let family = match event {
            Event::Adjust { .. } => &self.adjusts,
            Event::Settle(_) => &self.settles,
            Event::Void { .. } => &self.voids,
        };
        family.add_one(outcome_name(outcome));
    }

    /// `answer`: known, unknown or administrator.
    pub(crate) fn looked_up(&self, answer: &str) {
        self.lookups.add_one(answer);
    }

    /// A batch that was committed.
    pub(crate) fn committed(&self, messages: usize) {
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        let bound = BATCH_BOUNDS.iter().position(|bound| messages <= *bound);
        if let Some(batch) = self.batches.get(bound.unwrap_or(BATCH_BOUNDS.len() - 1)) {
            batch.add(1);
            self.batched.add(messages);
        }
    }

    /// `kind`: contended, unavailable, lasting or other.
    pub(crate) fn failed(&self, kind: &str) {
        self.database_errors.add_one(kind);
    }
}

/// The text format of Prometheus, version 0.0.4.
impl Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        head(f, "holds_total", "counter", "Holds that were made.")?;
        line(f, "holds_total", "", &self.held)?;
        head(f, "stale_total", "counter", "Holds that were sent back with a newer policy.")?;
        line(f, "stale_total", "", &self.stale)?;
        head(f, "denials_total", "counter", "Holds that were refused, by the reason.")?;
        family(f, "denials_total", "", "reason", &self.denied)?;
        head(f, "reports_total", "counter", "Reports on holds, by what became of them.")?;
        for (event, reports) in [("adjust", &self.adjusts), ("settle", &self.settles), ("void", &self.voids)]
        {
            family(f, "reports_total", &format!("event=\"{event}\","), "outcome", reports)?;
        }
        head(f, "lookups_total", "counter", "Look-ups of keys, by the answer.")?;
        family(f, "lookups_total", "", "answer", &self.lookups)?;
        self.batches(f)?;
        head(
            f,
            "holds_expired_total",
            "counter",
            "Holds that were charged in full, because nobody settled them.",
        )?;
        line(f, "holds_expired_total", "", &self.expired)?;
        head(f, "overruns_total", "counter", "Changes that took an account beyond a limit.")?;
        line(f, "overruns_total", "", &self.overruns)?;
        head(
            f,
            "database_errors_total",
            "counter",
            "Transactions that failed; contended ones are run again.",
        )?;
        family(f, "database_errors_total", "", "kind", &self.database_errors)
    }
}

impl Counters {
    fn batches(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        head(f, "batch_messages", "histogram", "Messages that shared a transaction.")?;
        let mut batches = 0_u64;
        for (bound, batch) in BATCH_BOUNDS.iter().zip(&self.batches) {
            batches += batch.get();
            writeln!(f, "tollgate_ledger_batch_messages_bucket{{le=\"{bound}\"}} {batches}")?;
        }
        writeln!(f, "tollgate_ledger_batch_messages_bucket{{le=\"+Inf\"}} {batches}")?;
        writeln!(f, "tollgate_ledger_batch_messages_sum {}", self.batched.get())?;
        writeln!(f, "tollgate_ledger_batch_messages_count {batches}")
    }
}

fn head(f: &mut fmt::Formatter<'_>, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(f, "# HELP tollgate_ledger_{name} {help}\n# TYPE tollgate_ledger_{name} {kind}")
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, labels: &str, counter: &Counter) -> fmt::Result {
    writeln!(f, "tollgate_ledger_{name}{labels} {}", counter.get())
}

fn family<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    fixed: &str,
    label: &str,
    family: &Family<N>,
) -> fmt::Result {
    let each = family.values.iter().zip(&family.counts);
    each.into_iter()
        .try_for_each(|(value, count)| line(f, name, &format!("{{{fixed}{label}=\"{value}\"}}"), count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::admission::denied;

    #[test]
    fn what_was_counted_is_shown_line_by_line() {
        let counters = Counters::default();
        for reason in REASONS {
            counters.decided(&Verdict::Denied(denied(reason)));
        }
        for messages in [1, 3, 512, 600] {
            counters.committed(messages);
        }
        counters.looked_up("known");
        counters.failed("lasting");
        counters.expired.add(2);
        let text = counters.to_string();
        for line in [
            "# TYPE tollgate_ledger_holds_total counter",
            "tollgate_ledger_holds_total 0",
            "tollgate_ledger_denials_total{reason=\"budget_spent\"} 1",
            "tollgate_ledger_reports_total{event=\"settle\",outcome=\"applied\"} 0",
            "tollgate_ledger_lookups_total{answer=\"known\"} 1",
            "tollgate_ledger_batch_messages_bucket{le=\"1\"} 1",
            "tollgate_ledger_batch_messages_bucket{le=\"4\"} 2",
            "tollgate_ledger_batch_messages_bucket{le=\"+Inf\"} 4",
            "tollgate_ledger_batch_messages_sum 1116",
            "tollgate_ledger_batch_messages_count 4",
            "tollgate_ledger_holds_expired_total 2",
            "tollgate_ledger_database_errors_total{kind=\"lasting\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
        let denials = text.lines().filter(|line| line.starts_with("tollgate_ledger_denials_total{"));
        assert!(
            denials.clone().count() == 12 && denials.into_iter().all(|line| line.ends_with(" 1")),
            "{text}"
        );
    }
}
