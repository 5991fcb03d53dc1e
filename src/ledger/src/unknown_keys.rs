//! Keys that nobody knows, remembered for a moment: a flood of one made-up key costs the store nothing, and a flood of many
//! no more memory than this.

use crate::store::Reach;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::time::Timestamp;

/// How long a generation lasts. A key is forgotten with the generation after its own: after one to two of them, so that a
/// key which was just made is never refused for longer than two seconds.
const GENERATION_MS: i64 = 1_000;
/// Keys of one generation: 128 KiB, and more than one filter asks for in a second.
const GENERATION_KEYS_MAX: usize = 4_096;

/// The digests of keys that were unknown a moment ago, each to callers of one reach: what a namespace may not know, others do.
#[derive(Debug, Default)]
pub struct UnknownKeys(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<(Reach, KeyDigest)>,
    old: HashSet<(Reach, KeyDigest)>,
    born_at: Timestamp,
}

impl UnknownKeys {
    /// Whether the key was unknown at most two seconds before `now`.
    pub fn contains(&self, reach: &Reach, key: &KeyDigest, now: Timestamp) -> bool {
        let key = (reach.clone(), *key);
        self.with(now, |generations| generations.young.contains(&key) || generations.old.contains(&key))
    }

    /// Remembers a key, if there is room.
    pub fn remember(&self, reach: Reach, key: KeyDigest, now: Timestamp) {
        self.with(now, |generations| {
            if generations.young.len() < GENERATION_KEYS_MAX {
                generations.young.insert((reach, key));
            }
        });
    }

    fn with<T>(&self, now: Timestamp, ask: impl FnOnce(&mut Generations) -> T) -> T {
        // A panic between two lines that cannot leave it half changed.
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.turn(now);
        ask(&mut generations)
    }
}

impl Generations {
    fn turn(&mut self, now: Timestamp) {
        match now.since_ms(self.born_at) {
            0..GENERATION_MS => return,
            age if age < 2 * GENERATION_MS && age > 0 => self.old = std::mem::take(&mut self.young),
            // Too old, or the clock was set back.
            _ => {
                self.old.clear();
                self.young.clear();
            }
        }
        self.born_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> KeyDigest {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        KeyDigest::new(bytes)
    }

    #[test]
    fn a_key_is_remembered_for_less_than_two_seconds() {
        let unknown = UnknownKeys::default();
        let at = Timestamp::new;
        let own = || Reach::Namespace("payments".parse().unwrap());
        unknown.remember(own(), key(1), at(10_000));
        // (when it is asked for, whether it is remembered)
        let table = [(10_000, true), (10_999, true), (11_500, true), (11_999, true), (12_500, false)];
        for (when, expected) in table {
            assert_eq!(unknown.contains(&own(), &key(1), at(when)), expected, "{when}");
            assert!(!unknown.contains(&Reach::Every, &key(1), at(when)), "others know it");
        }
        assert!(!unknown.contains(&own(), &key(2), at(12_500)));
        unknown.remember(own(), key(1), at(12_600));
        assert!(!unknown.contains(&own(), &key(1), at(5_000)), "a clock that was set back forgets");
    }

    #[test]
    fn a_flood_takes_no_more_room() {
        let unknown = UnknownKeys::default();
        for number in 0..20_000 {
            unknown.remember(Reach::Every, key(number), Timestamp::new(1));
        }
        let generations = unknown.0.lock().unwrap();
        assert_eq!(generations.young.len() + generations.old.len(), GENERATION_KEYS_MAX);
    }
}
