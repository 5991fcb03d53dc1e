//! Time zones: what a clock on the wall shows at an instant, and the other way round.
//!
//! All that Tollgate knows of the IANA database is asked for here. The filter needs none of it: only the ledger computes
//! windows.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz, TzOffset};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// In whose calendar days begin: a zone of the IANA database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Zone(Tz);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(Tz::UTC);

    /// The name in the IANA database, such as `Europe/Berlin`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// What the clock shows at `at`.
    pub(super) fn local(self, at: DateTime<Utc>) -> Option<NaiveDateTime> {
        let utc = at.naive_utc();
        utc.checked_add_offset(self.0.offset_from_utc_datetime(&utc).fix())
    }

    /// The first instant at which the clock shows `local` or, where it never does, something later.
    pub(super) fn first_at(self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.0.offset_from_local_datetime(&local) {
            LocalResult::Single(offset) => instant(local, offset),
            LocalResult::Ambiguous(one, other) => instant(local, one).min(instant(local, other)),
            LocalResult::None => {
                // The gap begins where the clock is set forward: the same instant is its end.
                let (begin, offset) = GapInfo::new(&local, &self.0)?.begin?;
                instant(begin, offset)
            }
        }
    }
}

fn instant(local: NaiveDateTime, offset: TzOffset) -> Option<DateTime<Utc>> {
    local.checked_sub_offset(offset.fix()).map(|utc| utc.and_utc())
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl Ord for Zone {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl PartialOrd for Zone {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a time zone of the IANA database, such as Europe/Berlin or UTC")]
pub struct NotAZone;

impl FromStr for Zone {
    type Err = NotAZone;

    /// The many names of UTC are one zone, so that none of them makes another window.
    fn from_str(name: &str) -> Result<Self, NotAZone> {
        match name {
            "utc" | "UCT" | "Universal" | "Zulu" | "Etc/UTC" | "Etc/UCT" | "Etc/Universal" | "Etc/Zulu" => {
                Ok(Self::UTC)
            }
            _ => name.parse().map(Self).map_err(|_| NotAZone),
        }
    }
}
