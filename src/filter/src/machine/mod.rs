//! The filter without a host: events in, effects out.
//!
//! A [`Vm`] is what all exchanges of one worker share; an [`Exchange`] is one request and its answer. Neither calls Envoy:
//! the host feeds them and carries out what they ask for, and tests do the same without Envoy.

mod answering;
mod effect;
pub mod ending;
mod exchange;
pub mod policies;
pub mod reports;
pub mod ring;
#[cfg(test)]
mod tests;

pub use answering::{AnswerHead, Answering};
pub use effect::{BodyEdit, Call, Effect, Forward, Route};
pub use exchange::Exchange;

use crate::config::Config;
use policies::Policies;
use reports::{Batch, Reports};
use ring::{Adopted, Ring};
use std::collections::{BTreeMap, BTreeSet};
use tollgate_domain::ids::KeyDigest;
use tollgate_proto::v1::{ReportEvent, ReportOutcome};

/// What the exchanges of one worker share.
pub struct Vm {
    /// The settings.
    pub config: Config,
    /// What is remembered of keys.
    pub policies: Policies,
    /// What survives this VM.
    pub ring: Ring,
    /// What waits for the ledger.
    pub reports: Reports,
    /// Bodies that wait for a decision.
    pub buffered: Buffered,
    /// Keys that are being looked up: each by one exchange, for all that want to know.
    pub lookups: BTreeSet<KeyDigest>,
}

impl Vm {
    /// A VM that remembers nothing.
    pub fn new(config: Config, ring: Ring) -> Self {
        let buffered = Buffered::new(config.buffered_bytes_per_key_max, config.buffered_bytes_max);
        Self {
            config,
            policies: Policies::default(),
            ring,
            reports: Reports::default(),
            buffered,
            lookups: BTreeSet::new(),
        }
    }

    /// Shows that this VM lives, and queues what dead ones left. Gives how many reports that were, and who died.
    pub fn beat(&mut self) -> (usize, Vec<[u8; ring::NONCE_BYTES]>) {
        let Adopted { reports, dead } = self.ring.beat();
        let count = reports.len();
        for (slot, bytes) in reports {
            match <ReportEvent as prost::Message>::decode(bytes.as_slice()) {
                Ok(report) => self.reports.push_adopted(report, slot),
                // Written by a version that spoke otherwise: the hold expires, charged in full.
                Err(_) => self.ring.release(slot),
            }
        }
        (count, dead)
    }

    /// The ledger answered a batch. Gives the reports that it will never take, for the log.
    pub fn confirm(&mut self, batch: Batch, outcomes: &[ReportOutcome]) -> Vec<ReportOutcome> {
        let (slots, rejected) = self.reports.confirm(batch, outcomes);
        for slot in slots {
            self.ring.release(slot);
        }
        rejected
    }
}

/// Bodies of keys that are not known yet wait only while less than this part of the room is taken.
const UNKNOWN_SHARE: u64 = 4;

/// Bytes of bodies that wait for a decision, by key and together.
#[derive(Debug)]
pub struct Buffered {
    by_key: BTreeMap<KeyDigest, u64>,
    total: u64,
    per_key_max: u64,
    total_max: u64,
}

impl Buffered {
    fn new(per_key_max: u64, total_max: u64) -> Self {
        Self { by_key: BTreeMap::new(), total: 0, per_key_max, total_max }
    }

    /// Takes room for so many more bytes; `false`: there is none. Keys of which the ledger has said nothing yet share a part of
    /// the room, so that made-up ones never take it all.
    pub fn take(&mut self, key: &KeyDigest, bytes: u64, known: bool) -> bool {
        let of_key = self.by_key.get(key).copied().unwrap_or(0).saturating_add(bytes);
        let total = self.total.saturating_add(bytes);
        let room = if known { self.total_max } else { self.total_max / UNKNOWN_SHARE };
        let fits = of_key <= self.per_key_max && total <= room;
        if fits {
            self.by_key.insert(*key, of_key);
            self.total = total;
        }
        fits
    }

    /// Gives room back.
    pub fn release(&mut self, key: &KeyDigest, bytes: u64) {
        self.total = self.total.saturating_sub(bytes);
        let left = self.by_key.get(key).copied().unwrap_or(0).saturating_sub(bytes);
        if left == 0 {
            self.by_key.remove(key);
        } else {
            self.by_key.insert(*key, left);
        }
    }
}
