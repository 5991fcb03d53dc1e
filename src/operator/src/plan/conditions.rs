//! Conditions: what is said of an object, with a reason and a sentence.

use super::time;
use super::verdict::{Problem, Verdict};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tollgate_domain::time::Timestamp;

pub(super) const ACCEPTED: &str = "Accepted";
pub(super) const RESOLVED_REFS: &str = "ResolvedRefs";
pub(super) const PROGRAMMED: &str = "Programmed";
pub(super) const EXHAUSTED: &str = "Exhausted";
pub(super) const READY: &str = "Ready";

pub(super) const REFUSED_BY_LEDGER: &str = "RefusedByLedger";
pub(super) const SECRET_REFUSED: &str = "SecretRefused";
pub(super) const AUTHORITIES_UNKNOWN: &str = "AuthoritiesUnknown";
pub(super) const LEDGER_UNAVAILABLE: &str = "LedgerUnavailable";

/// What stands behind a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// `None`: nobody knows.
    pub(super) is: Option<bool>,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Word {
    pub(super) fn new(is: impl Into<Option<bool>>, reason: &str, message: impl Into<String>) -> Self {
        Self { is: is.into(), reason: reason.to_owned(), message: message.into() }
    }

    fn of(problem: &Problem) -> Self {
        Self::new(false, problem.reason, problem.message.clone())
    }
}

/// The conditions of one object, with what they were.
pub(super) struct Conditions<'a> {
    before: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    list: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(before: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { before, generation, now, list: vec![] }
    }

    /// A condition changes its time only with its status.
    pub(super) fn add(&mut self, kind: &str, word: Word) {
        let status = match word.is {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let before = find(self.before, kind).filter(|before| before.status == status);
        let since: Time =
            before.map_or_else(|| time::to_time(self.now), |one| one.last_transition_time.clone());
        self.list.push(Condition {
            last_transition_time: since,
            message: word.message,
            observed_generation: self.generation,
            reason: word.reason,
            status: status.to_owned(),
            type_: kind.to_owned(),
        });
    }

    /// Leaves a condition as it was, where nothing is known that would change it.
    pub(super) fn keep(&mut self, kind: &str) {
        self.list.extend(find(self.before, kind).cloned());
    }

    /// `Accepted` and `ResolvedRefs`.
    pub(super) fn judge(&mut self, verdict: &Verdict) {
        self.accept(verdict.accepted.as_ref());
        let resolved = Word::new(true, "ResolvedRefs", "Everything that it names is there and lets it.");
        self.add(RESOLVED_REFS, verdict.resolved.as_ref().map_or(resolved, Word::of));
    }

    /// `Accepted`.
    pub(super) fn accept(&mut self, problem: Option<&Problem>) {
        let accepted = Word::new(true, "Accepted", "The specification is valid.");
        self.add(ACCEPTED, problem.map_or(accepted, Word::of));
    }

    /// The summary, for who waits: the first of the others that does not hold is the reason.
    pub(super) fn finish(mut self, otherwise: Option<Word>) -> Vec<Condition> {
        let failing = [ACCEPTED, RESOLVED_REFS, PROGRAMMED]
            .iter()
            .find_map(|kind| find(&self.list, kind).filter(|condition| condition.status != "True"));
        let ready = match (failing, otherwise) {
            (Some(failing), _) => {
                let is = if failing.status == "False" { Some(false) } else { None };
                Word::new(is, &failing.reason, failing.message.clone())
            }
            (None, Some(otherwise)) => otherwise,
            (None, None) => Word::new(true, "Ready", "The ledger holds it as it is written here."),
        };
        self.add(READY, ready);
        self.list
    }
}

pub(super) fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

pub(super) fn holds(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}
