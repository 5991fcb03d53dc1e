//! Reports that wait for the ledger: kept until it has confirmed them, sent in batches or along with the next hold.

use super::ring::Slot;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use tollgate_domain::hold::{Event, Report};
use tollgate_domain::ids::{HoldId, KeyDigest};
use tollgate_proto::v1::{ReportEvent, ReportOutcome, ReportResult};

/// A report, and the slot in which it survives this VM. Signs of life have none: losing one loses nothing.
#[derive(Debug)]
struct Waiting {
    report: Rc<ReportEvent>,
    slot: Option<Slot>,
}

/// Reports that are on their way, until they are answered.
#[derive(Debug, Default)]
pub struct Batch(Vec<Waiting>);

impl Batch {
    /// The messages.
    pub fn events(&self) -> Vec<ReportEvent> {
        self.0.iter().map(|waiting| ReportEvent::clone(&waiting.report)).collect()
    }
}

/// The queue of one VM.
#[derive(Debug, Default)]
pub struct Reports {
    waiting: VecDeque<Waiting>,
    /// The latest sign of life of each open hold: an older one has nothing to add.
    adjusts: BTreeMap<HoldId, ReportEvent>,
    /// Ends of requests that are on their way, by their hold's id.
    in_flight: BTreeMap<Vec<u8>, Rc<ReportEvent>>,
}

/// Reports in one message at most: some tens of kilobytes, some milliseconds of the ledger's time.
const BATCH_MAX: usize = 256;
/// A key with more ends in flight than this has many requests open at a time, and meets their holds anyway: repeating its ends
/// would cost more than it helps.
const REPEATED_MAX: usize = 4;

impl Reports {
    /// Puts a report at the end.
    pub fn push(&mut self, report: Report, slot: Option<Slot>) {
        match report.event {
            Event::Adjust { .. } => {
                self.adjusts.insert(report.hold, report.into());
            }
            Event::Settle(_) | Event::Void { .. } => {
                self.adjusts.remove(&report.hold);
                let report = Rc::new(report.into());
                self.waiting.push_back(Waiting { report, slot });
            }
        }
    }

    /// Puts a report that another VM left at the end, as it stood in its slot.
    pub fn push_adopted(&mut self, report: ReportEvent, slot: Slot) {
        self.waiting.push_back(Waiting { report: Rc::new(report), slot: Some(slot) });
    }

    /// Takes what is to be sent next; `None` if there is nothing.
    pub fn take(&mut self) -> Option<Batch> {
        let count = self.waiting.len().min(BATCH_MAX);
        let mut batch: Vec<Waiting> = self.waiting.drain(..count).collect();
        while batch.len() < BATCH_MAX {
            let Some((_, report)) = self.adjusts.pop_first() else { break };
            batch.push(Waiting { report: Rc::new(report), slot: None });
        }
        if batch.is_empty() {
            return None;
        }
        for waiting in batch.iter().filter(|waiting| !is_adjust(&waiting.report)) {
            self.in_flight.insert(waiting.report.hold_id.clone(), Rc::clone(&waiting.report));
        }
        Some(Batch(batch))
    }

    /// Ends of this key's requests that are on their way and not confirmed: the next hold of the key repeats them, because it
    /// may overtake them, and must not meet the hold of the request before it. Saying them twice changes nothing.
    pub fn in_flight_of(&self, key: &KeyDigest) -> Vec<ReportEvent> {
        let own = self.in_flight.values().filter(|report| report.key_digest == key.as_bytes());
        let own: Vec<_> = own.take(REPEATED_MAX.saturating_add(1)).collect();
        let few = own.len() <= REPEATED_MAX;
        own.into_iter().filter(|_| few).map(|report| ReportEvent::clone(report)).collect()
    }

    fn landed(&mut self, batch: &Batch) {
        for waiting in &batch.0 {
            self.in_flight.remove(&waiting.report.hold_id);
        }
    }

    /// Nobody answered: they wait again, in front.
    pub fn put_back(&mut self, batch: Batch) {
        self.landed(&batch);
        for waiting in batch.0.into_iter().rev() {
            if waiting.slot.is_some() || !is_adjust(&waiting.report) {
                self.waiting.push_front(waiting);
            }
        }
    }

    /// The ledger answered. Gives the slots that are free now, and the reports that it will never take.
    pub fn confirm(&mut self, batch: Batch, outcomes: &[ReportOutcome]) -> (Vec<Slot>, Vec<ReportOutcome>) {
        let (mut slots, mut rejected) = (Vec::new(), Vec::new());
        let mut unanswered = Vec::new();
        self.landed(&batch);
        for (index, waiting) in batch.0.into_iter().enumerate() {
            match outcomes.get(index) {
                Some(outcome) if outcome.hold_id == waiting.report.hold_id => {
                    slots.extend(waiting.slot);
                    if outcome.result() == ReportResult::Rejected {
                        rejected.push(outcome.clone());
                    }
                }
                _ => unanswered.push(waiting),
            }
        }
        for waiting in unanswered.into_iter().rev().filter(|waiting| !is_adjust(&waiting.report)) {
            self.waiting.push_front(waiting);
        }
        (slots, rejected)
    }

    /// Ends of requests that the ledger has not confirmed, in flight or not.
    pub fn unconfirmed(&self) -> u64 {
        u64::try_from(self.waiting.len().saturating_add(self.in_flight.len())).unwrap_or(u64::MAX)
    }
}

fn is_adjust(report: &ReportEvent) -> bool {
    matches!(report.event, Some(tollgate_proto::v1::report_event::Event::Adjust(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_domain::ids::KeyDigest;

    fn report(id: u8, event: Event) -> Report {
        Report { hold: HoldId::new([id; 16]), key: KeyDigest::new([1; 32]), sequence: 1, event }
    }

    fn void(id: u8) -> Report {
        report(id, Event::Void { status: 0 })
    }

    fn adjust(id: u8, output_seen: u64) -> Report {
        report(id, Event::Adjust { usage: None, output_seen })
    }

    fn outcome(id: u8, result: ReportResult) -> ReportOutcome {
        ReportOutcome { hold_id: vec![id; 16], sequence: 1, result: result.into(), reason: String::new() }
    }

    #[test]
    fn only_what_the_ledger_confirmed_leaves() {
        let mut reports = Reports::default();
        for id in 1..=3 {
            reports.push(void(id), None);
        }
        let batch = reports.take().unwrap();
        assert_eq!(reports.unconfirmed(), 3);
        let (_, rejected) =
            reports.confirm(batch, &[outcome(1, ReportResult::Applied), outcome(2, ReportResult::Rejected)]);
        assert_eq!(rejected, [outcome(2, ReportResult::Rejected)]);
        assert_eq!(reports.unconfirmed(), 1, "what was not answered is sent again");
        let batch = reports.take().unwrap();
        assert_eq!(batch.events().first().unwrap().hold_id, vec![3; 16]);
        reports.put_back(batch);
        assert_eq!(reports.unconfirmed(), 1);
    }

    #[test]
    fn signs_of_life_are_replaced_and_never_sent_again() {
        let mut reports = Reports::default();
        reports.push(adjust(1, 5), None);
        reports.push(adjust(1, 9), None);
        reports.push(adjust(2, 1), None);
        reports.push(void(2), None);
        let batch = reports.take().unwrap();
        assert_eq!(batch.events().len(), 2, "the void of 2, and the later adjust of 1");
        assert_eq!(reports.unconfirmed(), 1);
        reports.put_back(batch);
        assert_eq!(reports.take().unwrap().events().len(), 1);
    }

    #[test]
    fn ends_in_flight_are_repeated_to_their_own_key_until_they_are_confirmed() {
        let (own, other) = (KeyDigest::new([1; 32]), KeyDigest::new([2; 32]));
        let ids = |reports: &Reports, key| -> Vec<_> {
            reports.in_flight_of(key).into_iter().map(|report| report.hold_id).collect()
        };
        let mut reports = Reports::default();
        reports.push(void(1), None);
        reports.push(adjust(2, 1), None);
        reports.push(Report { key: other, ..void(3) }, None);
        assert!(ids(&reports, &own).is_empty(), "what waits goes by itself");
        let batch = reports.take().unwrap();
        assert_eq!(ids(&reports, &own), [vec![1; 16]], "a sign of life is not worth repeating");
        assert_eq!(ids(&reports, &other), [vec![3; 16]]);
        reports.put_back(batch);
        assert!(ids(&reports, &own).is_empty());
        let batch = reports.take().unwrap();
        let outcomes = [outcome(1, ReportResult::Applied), outcome(3, ReportResult::Duplicate)];
        reports.confirm(batch, &outcomes);
        assert!(ids(&reports, &own).is_empty() && ids(&reports, &other).is_empty());
        for id in 0..=255 {
            reports.push(void(id), None);
        }
        let _batch = reports.take();
        assert!(ids(&reports, &own).is_empty(), "a key with many requests open meets their holds anyway");
    }

    #[test]
    fn batches_are_bounded_and_in_order() {
        let mut reports = Reports::default();
        for id in 0..=255 {
            reports.push(void(id), None);
            reports.push(void(id), None);
        }
        assert_eq!(reports.take().unwrap().events().len(), BATCH_MAX);
        assert_eq!(reports.take().unwrap().events().first().unwrap().hold_id, vec![128; 16]);
        assert!(reports.take().is_none());
    }
}
