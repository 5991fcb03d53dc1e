//! What sessions of agents may spend, by patterns of their names.

use crate::glob;
use crate::money::Nanodollars;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Bytes of the longest name.
const NAME_BYTES_MAX: usize = 128;

/// Whether a session can be called so: in short and visible ASCII.
pub fn is_name(text: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

/// Which sessions are meant: a name, in which `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionPattern(String);

/// A text that no session's name could match, or that has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to {NAME_BYTES_MAX} visible ASCII characters")]
pub struct NoSessionPattern;

impl SessionPattern {
    /// Every session.
    pub fn every() -> Self {
        Self("*".to_owned())
    }

    /// Whether a session of this name is meant.
    pub fn matches(&self, session: &str) -> bool {
        glob::matches(&self.0, session)
    }
}

impl FromStr for SessionPattern {
    type Err = NoSessionPattern;

    fn from_str(text: &str) -> Result<Self, NoSessionPattern> {
        if is_name(text.as_bytes()) { Ok(Self(text.to_owned())) } else { Err(NoSessionPattern) }
    }
}

impl fmt::Display for SessionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much each session may spend over its life, by pattern. Of those that a session matches, the smallest counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits(BTreeMap<SessionPattern, Nanodollars>);

impl SessionLimits {
    /// How many patterns one account may have.
    pub const COUNT_MAX: usize = 64;

    /// Adds a limit; of two by one pattern, the smaller counts.
    pub fn tighten(&mut self, pattern: SessionPattern, amount: Nanodollars) {
        let limit = self.0.entry(pattern).or_insert(amount);
        *limit = amount.min(*limit);
    }

    /// Adds all limits of `others`.
    pub fn tighten_by(&mut self, others: &Self) {
        for (pattern, amount) in others.iter() {
            self.tighten(pattern.clone(), amount);
        }
    }

    /// Takes out the limit of every session, and leaves those of some.
    pub fn take_every(&mut self) -> Option<Nanodollars> {
        self.0.remove(&SessionPattern::every())
    }

    /// The cap of a session of this name; `None`: it has none.
    pub fn of(&self, session: &str) -> Option<Nanodollars> {
        self.iter().filter(|(pattern, _)| pattern.matches(session)).map(|(_, amount)| amount).min()
    }

    /// Each pattern and its amount, in the order of the patterns.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&SessionPattern, Nanodollars)> {
        self.0.iter().map(|(pattern, amount)| (pattern, *amount))
    }

    /// Whether no session has a cap.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(SessionPattern, Nanodollars)> for SessionLimits {
    fn from_iter<I: IntoIterator<Item = (SessionPattern, Nanodollars)>>(limits: I) -> Self {
        let mut all = Self::default();
        limits.into_iter().for_each(|(pattern, amount)| all.tighten(pattern, amount));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(all: &[(&str, i64)]) -> SessionLimits {
        all.iter().map(|(pattern, amount)| (pattern.parse().unwrap(), Nanodollars::new(*amount))).collect()
    }

    #[test]
    fn the_smallest_limit_whose_pattern_a_session_matches_is_its_cap() {
        let all: &[(&str, i64)] =
            &[("ci-*", 5), ("*-nightly", 3), ("ci-*-nightly", 4), ("one", 7), ("one", 9)];
        let table = [
            ("ci-7", Some(5)),
            ("ci-", Some(5)),
            ("ci-7-nightly", Some(3)),
            ("x-nightly", Some(3)),
            ("one", Some(7)),
            ("ones", None),
            ("CI-7", None),
            ("", None),
        ];
        for (session, cap) in table {
            assert_eq!(limits(all).of(session), cap.map(Nanodollars::new), "{session}");
        }
        let every = limits(&[("*", 1), ("ci-*", 2)]);
        assert_eq!(["ci-7", "else"].map(|session| every.of(session)), [Some(Nanodollars::new(1)); 2]);
        assert_eq!(SessionLimits::default().of("ci-7"), None);
    }

    #[test]
    fn a_pattern_is_visible_ascii_and_no_longer_than_a_name() {
        for fits in ["*", "ci-*", "a*b*c", "7f3d9a52-0000-4000-8000-000000000000", &"x".repeat(128)] {
            assert_eq!(fits.parse::<SessionPattern>().unwrap().to_string(), fits);
        }
        for none in ["", " ", "ci *", "ci-\n", "naïve", &"x".repeat(129)] {
            assert_eq!(none.parse::<SessionPattern>(), Err(NoSessionPattern), "{none:?}");
        }
    }
}
