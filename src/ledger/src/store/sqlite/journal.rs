//! The journal: what is written there moves the balances that it names, and is never changed.

use super::code::{Failure, classes, pack, pack_ids};
use super::memory::Books;
use crate::store::StoreError;
use rusqlite::params;
use sha2::{Digest, Sha256};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;

/// What an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hold,
    Adjust,
    Settle,
    Void,
    Expire,
    /// The late settle of an expired hold.
    Correct,
    /// A new limit counts what was there before it.
    Count,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Adjust => "adjust",
            Self::Settle => "settle",
            Self::Void => "void",
            Self::Expire => "expire",
            Self::Correct => "correct",
            Self::Count => "count",
        }
    }
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) kind: Kind,
    pub(super) at: Timestamp,
    pub(super) hold: Option<i64>,
    pub(super) balances: &'a [i64],
    pub(super) posted: Nanodollars,
    pub(super) pending: Nanodollars,
    pub(super) model: Option<&'a str>,
    pub(super) usage: Option<&'a Usage>,
    pub(super) estimated: bool,
    /// What grows by this entry, and may go beyond a limit.
    pub(super) growth: Nanodollars,
}

impl<'a> Entry<'a> {
    pub(super) fn new(kind: Kind, at: Timestamp, hold: i64, balances: &'a [i64]) -> Self {
        Self {
            kind,
            at,
            hold: Some(hold),
            balances,
            posted: Nanodollars::ZERO,
            pending: Nanodollars::ZERO,
            model: None,
            usage: None,
            estimated: false,
            growth: Nanodollars::ZERO,
        }
    }
}

/// An amount that the books cannot hold.
pub(super) const OUT_OF_RANGE: &str = "an amount is out of range";

impl Books<'_> {
    /// Moves the balances and writes the entry; gives back how far it went beyond a limit.
    pub(super) fn record(&mut self, entry: Entry<'_>) -> Result<Nanodollars, Failure> {
        let charged_at = (entry.kind == Kind::Hold).then_some(entry.at);
        let changed = self.change_balances(entry.balances, entry.posted, entry.pending, charged_at)?;
        changed.map_err(|_| StoreError::Invalid(OUT_OF_RANGE))?;
        let overrun = if entry.growth > Nanodollars::ZERO {
            let limits = self.limits_over(entry.balances)?;
            let enforced =
                limits.iter().map(|limit| limit.counted(entry.at)).filter(|counted| !counted.observe);
            crate::rules::admission::overrun(entry.growth, enforced)
        } else {
            Nanodollars::ZERO
        };
        self.write(&entry, overrun)?;
        Ok(overrun)
    }

    fn write(&mut self, entry: &Entry<'_>, overrun: Nanodollars) -> rusqlite::Result<()> {
        let number = self.next_entry(entry.at);
        let balances = pack_ids(entry.balances);
        let usage = entry.usage.map(|usage| pack(classes(usage)));
        let line = Line { number, balances: &balances, usage: usage.as_deref(), overrun, entry };
        self.file
            .prepare_cached(
                "INSERT INTO entry (entry, at, kind, hold, balances, posted, pending, model, usage, estimated,
                     overrun, checksum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                number,
                entry.at.unix_ms(),
                entry.kind.as_str(),
                entry.hold,
                balances,
                entry.posted.get(),
                entry.pending.get(),
                entry.model,
                usage,
                entry.estimated,
                overrun.get(),
                line.checksum(),
            ])?;
        Ok(())
    }
}

/// An entry with everything that its checksum covers.
struct Line<'a> {
    number: i64,
    balances: &'a [u8],
    usage: Option<&'a [u8]>,
    overrun: Nanodollars,
    entry: &'a Entry<'a>,
}

impl Line<'_> {
    /// The first eight bytes of the SHA-256 over every column, each number in eight bytes, each text and list after its length
    /// (all ones: unset). Stable: stored entries are checked against it.
    fn checksum(&self) -> i64 {
        let entry = self.entry;
        let mut sum = Sha256::new();
        let mut number = |value: i64| sum.update(value.to_be_bytes());
        number(self.number);
        number(entry.at.unix_ms());
        number(entry.hold.unwrap_or(-1));
        number(entry.posted.get());
        number(entry.pending.get());
        number(entry.estimated.into());
        number(self.overrun.get());
        let texts = [
            Some(entry.kind.as_str().as_bytes()),
            Some(self.balances),
            entry.model.map(str::as_bytes),
            self.usage,
        ];
        for text in texts {
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            sum.update(length.to_be_bytes());
            sum.update(text.unwrap_or_default());
        }
        let digest: [u8; 32] = sum.finalize().into();
        i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
    }
}
