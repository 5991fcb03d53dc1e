//! The policies that a VM remembers, and how long it may believe them.
//!
//! A cache shortens the way and decides nothing for good: an admission is always confirmed by the hold, and a denial by a
//! look-up that is not older than [`DENIAL_FRESH_MS`].

use std::collections::BTreeMap;
use std::rc::Rc;
use tollgate_domain::catalogue::Catalogue;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::policy::{Exhausted, Policy};
use tollgate_domain::time::Timestamp;

/// How old the look-up behind a denial may be.
pub const DENIAL_FRESH_MS: i64 = 1_000;
/// How old the look-up behind a free operation may be.
pub const FREE_FRESH_MS: i64 = 5_000;

/// Known keys of one generation: two of them are some megabytes at most.
const KNOWN_MAX: usize = 4_096;
/// Unknown keys of one generation: made-up keys push out each other, never a real one.
const UNKNOWN_MAX: usize = 1_024;

/// What the ledger said of a key, and when.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it said.
    pub key: Key,
    /// When.
    pub confirmed_at: Timestamp,
}

/// What a credential turned out to be.
#[derive(Clone, Debug)]
pub enum Key {
    /// A virtual key.
    Virtual {
        /// Its policy.
        policy: Rc<Policy>,
        /// A limit on which nothing is left.
        exhausted: Option<Exhausted>,
    },
    /// The master key.
    Administrator,
    /// Nothing.
    Unknown,
}

impl Entry {
    /// What is not to be believed before a look-up has confirmed it.
    pub fn unconfirmed(key: Key, now: Timestamp) -> Self {
        Self { key, confirmed_at: now.plus_ms(-DENIAL_FRESH_MS).plus_ms(-1) }
    }

    /// Whether the ledger said so within the last `age_ms`. A clock that went backwards makes everything old.
    pub fn is_fresh(&self, now: Timestamp, age_ms: i64) -> bool {
        (0..=age_ms).contains(&now.since_ms(self.confirmed_at))
    }
}

/// A map that forgets what was not used for a while: two generations, and what is used moves to the younger one.
#[derive(Debug)]
struct Generations {
    young: BTreeMap<KeyDigest, Entry>,
    old: BTreeMap<KeyDigest, Entry>,
    max: usize,
}

impl Generations {
    fn new(max: usize) -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new(), max }
    }

    fn get(&mut self, key: &KeyDigest) -> Option<&Entry> {
        if let Some(entry) = self.old.remove(key) {
            self.insert(*key, entry);
        }
        self.young.get(key)
    }

    fn insert(&mut self, key: KeyDigest, entry: Entry) {
        self.old.remove(&key);
        if self.young.len() >= self.max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }

    fn remove(&mut self, key: &KeyDigest) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

/// The memory of one VM.
#[derive(Debug)]
pub struct Policies {
    known: Generations,
    unknown: Generations,
    catalogue: Rc<Catalogue>,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            known: Generations::new(KNOWN_MAX),
            unknown: Generations::new(UNKNOWN_MAX),
            catalogue: Rc::default(),
        }
    }
}

impl Policies {
    /// What is remembered of a key.
    pub fn get(&mut self, key: &KeyDigest) -> Option<Entry> {
        match self.known.get(key) {
            Some(entry) => Some(entry.clone()),
            None => self.unknown.get(key).cloned(),
        }
    }

    /// The policy that is remembered of a virtual key.
    pub fn policy(&mut self, key: &KeyDigest) -> Option<Rc<Policy>> {
        match self.get(key)?.key {
            Key::Virtual { policy, .. } => Some(policy),
            Key::Administrator | Key::Unknown => None,
        }
    }

    /// The version of that policy; empty where there is none.
    pub fn version(&mut self, key: &KeyDigest) -> Vec<u8> {
        self.policy(key).map(|policy| policy.version.clone()).unwrap_or_default()
    }

    /// Remembers what the ledger said.
    pub fn insert(&mut self, digest: KeyDigest, entry: Entry) {
        if matches!(entry.key, Key::Unknown) {
            self.known.remove(&digest);
            self.unknown.insert(digest, entry);
        } else {
            self.unknown.remove(&digest);
            self.known.insert(digest, entry);
        }
    }

    /// The models that have a price, as last heard.
    pub fn catalogue(&self) -> Rc<Catalogue> {
        Rc::clone(&self.catalogue)
    }

    /// Replaces the catalogue.
    pub fn set_catalogue(&mut self, catalogue: Catalogue) {
        self.catalogue = Rc::new(catalogue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: usize) -> KeyDigest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        KeyDigest::new(bytes)
    }

    fn entry(key: Key) -> Entry {
        Entry { key, confirmed_at: Timestamp::new(1_000) }
    }

    #[test]
    fn a_flood_of_made_up_keys_stays_bounded_and_pushes_out_no_real_one() {
        let mut policies = Policies::default();
        policies.insert(digest(0), entry(Key::Administrator));
        for n in 1..10 * UNKNOWN_MAX {
            policies.insert(digest(n), entry(Key::Unknown));
        }
        assert!(policies.get(&digest(0)).is_some());
        assert!(policies.unknown.young.len() + policies.unknown.old.len() <= 2 * UNKNOWN_MAX);
        assert!(policies.get(&digest(10 * UNKNOWN_MAX - 1)).is_some());
        assert!(policies.get(&digest(1)).is_none());
    }

    #[test]
    fn a_key_that_is_used_stays() {
        let mut generations = Generations::new(4);
        for n in 0..100 {
            generations.insert(digest(n), entry(Key::Administrator));
            assert!(generations.get(&digest(0)).is_some(), "after {n}");
        }
    }

    #[test]
    fn a_look_up_is_fresh_for_a_while() {
        let entry = entry(Key::Unknown);
        for (now, expected) in [(999, false), (1_000, true), (2_000, true), (2_001, false)] {
            assert_eq!(entry.is_fresh(Timestamp::new(now), DENIAL_FRESH_MS), expected, "{now}");
        }
    }
}
