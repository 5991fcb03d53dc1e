//! The ring: what survives a VM. Every open request and every unconfirmed report stands in a slot of Envoy's shared
//! data, so that when a VM dies another one reports what it left.
//!
//! Shared data is process-wide and never frees a key, so there is a fixed number of slots and none of them belongs to one
//! hold. A slot holds the report that has to be sent if its owner dies: while a request is open, that its filter was
//! lost. Owners are told apart by a random nonce, and show that they live by counting up in one shared list.

use std::collections::BTreeMap;

/// Envoy's shared data.
pub trait SharedData {
    /// The value and its version.
    fn get(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Writes where the version is still this one; version 0: where nobody wrote yet.
    fn set(&mut self, key: &str, value: &[u8], version: u32) -> bool;
}

/// A claimed slot.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u32);

/// The ring, as one VM sees it.
pub struct Ring {
    shared: Box<dyn SharedData>,
    nonce: [u8; NONCE_BYTES],
    slots: u32,
    /// Slots that this VM freed: the first to be claimed again.
    free: Vec<u32>,
    next: u32,
    beats: u64,
    neighbours: BTreeMap<[u8; NONCE_BYTES], Neighbour>,
}

/// How often a neighbour's count stood still.
#[derive(Clone, Copy, Debug, Default)]
struct Neighbour {
    beats: u64,
    still: u32,
}

/// What dead VMs left.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Their slots, ours now, and the reports in them.
    pub reports: Vec<(Slot, Vec<u8>)>,
    /// Their names.
    pub dead: Vec<[u8; NONCE_BYTES]>,
}

/// Bytes of a VM's name.
pub const NONCE_BYTES: usize = 8;
const ALIVE: &str = "tollgate.alive";
/// So many own beats without one of a neighbour's: it is gone. Counted, not timed, so that no jump of the clock buries
/// the living.
const STILL_MAX: u32 = 10;
/// Attempts against other writers before giving up; they are few and fast.
const ATTEMPTS_MAX: u32 = 64;

fn key(slot: u32) -> String {
    format!("tollgate.slot.{slot}")
}

impl Ring {
    /// A ring of so many slots, and this VM's own random name.
    pub fn new(shared: Box<dyn SharedData>, slots: u32, nonce: [u8; NONCE_BYTES]) -> Self {
        let start = u32::from_le_bytes(nonce.first_chunk().copied().unwrap_or_default());
        let next = start.checked_rem(slots).unwrap_or(0);
        let mut ring =
            Self { shared, nonce, slots, free: Vec::new(), next, beats: 0, neighbours: BTreeMap::new() };
        ring.beat();
        ring
    }

    /// Takes a slot and writes the report into it. `None`: all are taken.
    pub fn claim(&mut self, report: &[u8]) -> Option<Slot> {
        while let Some(slot) = self.free.pop() {
            if self.try_claim(slot, report) {
                return Some(Slot(slot));
            }
        }
        for _ in 0..self.slots {
            let slot = self.next;
            self.next = slot.saturating_add(1).checked_rem(self.slots).unwrap_or(0);
            if self.try_claim(slot, report) {
                return Some(Slot(slot));
            }
        }
        None
    }

    fn try_claim(&mut self, slot: u32, report: &[u8]) -> bool {
        let key = key(slot);
        let version = match self.shared.get(&key) {
            None => 0,
            Some((value, version)) if value.is_empty() => version,
            Some(_) => return false,
        };
        let value = self.value(report);
        self.shared.set(&key, &value, version)
    }

    fn value(&self, report: &[u8]) -> Vec<u8> {
        [&self.nonce, report].concat()
    }

    /// Writes another report into a slot, unless another VM has taken it over.
    pub fn replace(&mut self, slot: &Slot, report: &[u8]) {
        let value = self.value(report);
        self.write_own(slot.0, &value);
    }

    /// Gives a slot back, unless another VM has taken it over.
    pub fn release(&mut self, slot: Slot) {
        if self.write_own(slot.0, &[]) {
            self.free.push(slot.0);
        }
    }

    fn write_own(&mut self, slot: u32, value: &[u8]) -> bool {
        let key = key(slot);
        match self.shared.get(&key) {
            Some((present, version)) if present.starts_with(&self.nonce) => {
                self.shared.set(&key, value, version)
            }
            _ => false,
        }
    }

    /// Shows that this VM lives, and takes over what dead ones left: their reports, to be sent from here.
    pub fn beat(&mut self) -> Adopted {
        self.beats = self.beats.saturating_add(1);
        let mut dead = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            let (value, version) = self.shared.get(ALIVE).unwrap_or_default();
            let mut alive = decode_alive(&value);
            alive.insert(self.nonce, self.beats);
            dead = self.dead(&alive);
            for nonce in &dead {
                alive.remove(nonce);
            }
            if self.shared.set(ALIVE, &encode_alive(&alive), version) {
                self.observe(&alive);
                break;
            }
            // Another VM wrote first; it may have buried the same neighbour.
            dead.clear();
        }
        let reports = dead.iter().flat_map(|nonce| self.adopt(nonce)).collect();
        Adopted { reports, dead }
    }

    fn dead(&self, alive: &BTreeMap<[u8; NONCE_BYTES], u64>) -> Vec<[u8; NONCE_BYTES]> {
        let is_still = |nonce: &[u8; NONCE_BYTES], beats: u64| {
            self.neighbours.get(nonce).is_some_and(|seen| seen.beats == beats && seen.still >= STILL_MAX)
        };
        alive
            .iter()
            .filter(|(nonce, beats)| **nonce != self.nonce && is_still(nonce, **beats))
            .map(|(n, _)| *n)
            .collect()
    }

    fn observe(&mut self, alive: &BTreeMap<[u8; NONCE_BYTES], u64>) {
        self.neighbours.retain(|nonce, _| alive.contains_key(nonce));
        for (nonce, beats) in alive {
            let seen = self.neighbours.entry(*nonce).or_default();
            if seen.beats == *beats {
                seen.still = seen.still.saturating_add(1);
            } else {
                *seen = Neighbour { beats: *beats, still: 0 };
            }
        }
    }

    /// Every slot of a dead VM becomes ours. Only the one that took it off the list does this.
    fn adopt(&mut self, nonce: &[u8; NONCE_BYTES]) -> Vec<(Slot, Vec<u8>)> {
        let mut reports = Vec::new();
        for slot in 0..self.slots {
            let key = key(slot);
            let Some((value, version)) = self.shared.get(&key) else { continue };
            let Some((owner, report)) = value.split_at_checked(NONCE_BYTES) else { continue };
            let ours = self.value(report);
            if owner == nonce && self.shared.set(&key, &ours, version) {
                reports.push((Slot(slot), report.to_vec()));
            }
        }
        reports
    }
}

fn decode_alive(value: &[u8]) -> BTreeMap<[u8; NONCE_BYTES], u64> {
    let (pairs, _) = value.as_chunks::<16>();
    let pair = |bytes: &[u8; 16]| {
        let (nonce, beats) = bytes.split_at_checked(NONCE_BYTES)?;
        Some((nonce.try_into().ok()?, u64::from_le_bytes(beats.try_into().ok()?)))
    };
    pairs.iter().filter_map(pair).collect()
}

fn encode_alive(alive: &BTreeMap<[u8; NONCE_BYTES], u64>) -> Vec<u8> {
    alive.iter().flat_map(|(nonce, beats)| [*nonce, beats.to_le_bytes()].concat()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::rc::Rc;

    /// Shared data of a process, as Envoy has it.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Process(Rc<RefCell<HashMap<String, (Vec<u8>, u32)>>>);

    impl SharedData for Process {
        fn get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
            self.0.borrow().get(key).cloned()
        }

        fn set(&mut self, key: &str, value: &[u8], version: u32) -> bool {
            let mut map = self.0.borrow_mut();
            let present = map.get(key).map_or(0, |(_, version)| *version);
            if present != version {
                return false;
            }
            map.insert(key.to_owned(), (value.to_vec(), present + 1));
            true
        }
    }

    fn ring(process: &Process, slots: u32, nonce: u8) -> Ring {
        Ring::new(Box::new(process.clone()), slots, [nonce; 8])
    }

    #[test]
    fn no_two_vms_get_one_slot_and_a_full_ring_refuses() {
        let process = Process::default();
        let (mut a, mut b) = (ring(&process, 5, 1), ring(&process, 5, 2));
        let mut slots: Vec<Slot> = Vec::new();
        for _ in 0..2 {
            slots.extend(a.claim(b"a"));
            slots.extend(b.claim(b"b"));
        }
        slots.extend(a.claim(b"a"));
        slots.sort();
        slots.dedup();
        assert_eq!(slots.len(), 5);
        assert_eq!(a.claim(b"a"), None);
        assert_eq!(b.claim(b"b"), None);
        a.release(slots.remove(0));
        assert!(b.claim(b"b").is_some());
    }

    #[test]
    fn what_a_dead_vm_left_is_adopted_once() {
        let process = Process::default();
        let mut dead = ring(&process, 8, 1);
        let first = dead.claim(b"lost").unwrap();
        dead.claim(b"open").unwrap();
        dead.replace(&first, b"report");
        let (mut a, mut b) = (ring(&process, 8, 2), ring(&process, 8, 3));
        let mut adopted = Vec::new();
        for _ in 0..=STILL_MAX + 2 {
            adopted.extend(a.beat().reports);
            adopted.extend(b.beat().reports);
        }
        let mut reports: Vec<&[u8]> = adopted.iter().map(|(_, report)| report.as_slice()).collect();
        reports.sort();
        assert_eq!(reports, [b"open".as_slice(), b"report"]);
        let mut c = ring(&process, 8, 4);
        for _ in 0..=STILL_MAX + 2 {
            assert_eq!(
                (a.beat().reports.len(), b.beat().reports.len(), c.beat().reports.len()),
                (0, 0, 0),
                "the living are left alone"
            );
        }
    }

    #[test]
    fn what_an_adopter_left_is_adopted_again() {
        let process = Process::default();
        ring(&process, 8, 1).claim(b"report").unwrap();
        let mut second = ring(&process, 8, 2);
        let adopted: usize = (0..=STILL_MAX + 2).map(|_| second.beat().reports.len()).sum();
        assert_eq!(adopted, 1);
        drop(second);
        let mut third = ring(&process, 8, 3);
        let adopted: usize = (0..=STILL_MAX + 2).map(|_| third.beat().reports.len()).sum();
        assert_eq!(adopted, 1);
    }
}
