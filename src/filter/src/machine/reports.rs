//! Reports that wait for the ledger: kept until it has confirmed them, sent in batches or along with the next hold.

use super::ring::Slot;
use std::collections::{BTreeMap, VecDeque};
use tollgate_domain::hold::{Event, Report};
use tollgate_domain::ids::HoldId;
use tollgate_proto::v1::{ReportEvent, ReportOutcome, ReportResult};

/// A report, and the slot in which it survives this VM. Signs of life have none: losing one loses nothing.
#[derive(Debug)]
struct Waiting {
    report: ReportEvent,
    slot: Option<Slot>,
}

/// Reports that are on their way, until they are answered.
#[derive(Debug, Default)]
pub struct Batch(Vec<Waiting>);

impl Batch {
    /// The messages.
    pub fn events(&self) -> Vec<ReportEvent> {
        self.0.iter().map(|waiting| waiting.report.clone()).collect()
    }
}

/// The queue of one VM.
#[derive(Debug, Default)]
pub struct Reports {
    waiting: VecDeque<Waiting>,
    /// The latest sign of life of each open hold: an older one has nothing to add.
    adjusts: BTreeMap<HoldId, ReportEvent>,
    in_flight: u64,
}

/// Reports in one message at most: some tens of kilobytes, some milliseconds of the ledger's time.
const BATCH_MAX: usize = 256;

impl Reports {
    /// Puts a report at the end.
    pub fn push(&mut self, report: Report, slot: Option<Slot>) {
        match report.event {
            Event::Adjust { .. } => {
                self.adjusts.insert(report.hold, report.into());
            }
            Event::Settle(_) | Event::Void { .. } => {
                self.adjusts.remove(&report.hold);
                self.waiting.push_back(Waiting { report: report.into(), slot });
            }
        }
    }

    /// Puts a report that another VM left at the end, as it stood in its slot.
    pub fn push_adopted(&mut self, report: ReportEvent, slot: Slot) {
        self.waiting.push_back(Waiting { report, slot: Some(slot) });
    }

    /// Takes what is to be sent next; `None` if there is nothing.
    pub fn take(&mut self) -> Option<Batch> {
        let count = self.waiting.len().min(BATCH_MAX);
        let mut batch: Vec<Waiting> = self.waiting.drain(..count).collect();
        while batch.len() < BATCH_MAX {
            let Some((_, report)) = self.adjusts.pop_first() else { break };
            batch.push(Waiting { report, slot: None });
        }
        if batch.is_empty() {
            return None;
        }
        self.in_flight = self.in_flight.saturating_add(count_of(&batch));
        Some(Batch(batch))
    }

    /// Nobody answered: they wait again, in front.
    pub fn put_back(&mut self, batch: Batch) {
        self.in_flight = self.in_flight.saturating_sub(count_of(&batch.0));
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
        self.in_flight = self.in_flight.saturating_sub(count_of(&batch.0));
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
        u64::try_from(self.waiting.len()).unwrap_or(u64::MAX).saturating_add(self.in_flight)
    }
}

fn is_adjust(report: &ReportEvent) -> bool {
    matches!(report.event, Some(tollgate_proto::v1::report_event::Event::Adjust(_)))
}

fn count_of(batch: &[Waiting]) -> u64 {
    let ends = batch.iter().filter(|waiting| !is_adjust(&waiting.report)).count();
    u64::try_from(ends).unwrap_or(u64::MAX)
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
