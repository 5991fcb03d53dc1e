//! The journal: what is written there moves the balances that it names, and is never changed.

use super::code::{Failure, classes, pack, pack_ids};
use super::limits::LimitNow;
use super::memory::Books;
use crate::store::StoreError;
use crate::store::row_statement::{RowStatement, Type};
use crate::store::sql::{self, Row, Value, values};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
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
    /// What lines that were exported and dropped summed up to.
    Carry,
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
            Self::Carry => "carry",
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
    /// Moves the balances and writes the entry, and an event for each part of a limit that is crossed by it; gives back how far it
    /// went beyond a limit.
    pub(super) fn record(&mut self, entry: Entry<'_>) -> Result<Nanodollars, Failure> {
        let charged_at = (entry.kind == Kind::Hold).then_some(entry.at);
        let changed = self.change_balances(entry.balances, entry.posted, entry.pending, charged_at)?;
        changed.map_err(|_| StoreError::Invalid(OUT_OF_RANGE))?;
        // What a new limit finds is recorded by its maker, once all of its past is counted.
        if entry.posted > Nanodollars::ZERO && entry.kind != Kind::Count {
            self.record_crossings(entry.balances, entry.posted, entry.at)?;
        }
        let overrun = if entry.growth > Nanodollars::ZERO {
            let limits = self.limits_over(entry.balances, entry.at)?;
            let enforced = limits.iter().map(LimitNow::counted).filter(|counted| !counted.observe);
            crate::rules::admission::overrun(entry.growth, enforced)
        } else {
            Nanodollars::ZERO
        };
        self.write_entry(&entry, overrun)?;
        Ok(overrun)
    }

    pub(super) fn write_entry(&mut self, entry: &Entry<'_>, overrun: Nanodollars) -> sql::Result<()> {
        let number = self.next_entry()?;
        let balances = pack_ids(entry.balances);
        let usage = entry.usage.map(|usage| pack(classes(usage)));
        let line = Line {
            number,
            at: entry.at.unix_ms(),
            kind: entry.kind.as_str(),
            hold: entry.hold,
            balances: &balances,
            posted: entry.posted.get(),
            pending: entry.pending.get(),
            model: entry.model,
            usage: usage.as_deref(),
            estimated: entry.estimated,
            overrun: overrun.get(),
        };
        self.write_row(&INSERT_LINE, &line.values())
    }
}

/// Writes a line.
pub(super) static INSERT_LINE: LazyLock<RowStatement> = LazyLock::new(|| {
    RowStatement::insert(
        "entry",
        &[
            ("entry", Type::Int),
            ("at", Type::Int),
            ("kind", Type::Text),
            ("hold", Type::Int),
            ("balances", Type::Blob),
            ("posted", Type::Int),
            ("pending", Type::Int),
            ("model", Type::Text),
            ("usage", Type::Blob),
            ("estimated", Type::Flag),
            ("overrun", Type::Int),
            ("checksum", Type::Int),
        ],
    )
});

/// An entry as it stands in its row, without the checksum.
pub(super) struct Line<'a> {
    pub(super) number: i64,
    pub(super) at: i64,
    pub(super) kind: &'a str,
    pub(super) hold: Option<i64>,
    pub(super) balances: &'a [u8],
    pub(super) posted: i64,
    pub(super) pending: i64,
    pub(super) model: Option<&'a str>,
    pub(super) usage: Option<&'a [u8]>,
    pub(super) estimated: bool,
    pub(super) overrun: i64,
}

/// The columns of [`Line`] and the checksum, for a statement.
macro_rules! select_line {
    ($rest:literal) => {
        concat!(
            "SELECT entry, at, kind, hold, balances, posted, pending, model, usage, estimated, overrun, checksum FROM entry ",
            $rest
        )
    };
}
pub(super) use select_line;

impl<'a> Line<'a> {
    /// A row of [`select_line`], and whether it is the one that was written.
    pub(super) fn of(row: &'a Row) -> sql::Result<(Self, bool)> {
        let line = Self {
            number: row.int(0)?,
            at: row.int(1)?,
            kind: row.text(2)?,
            hold: row.maybe_int(3)?,
            balances: row.blob(4)?,
            posted: row.int(5)?,
            pending: row.int(6)?,
            model: row.maybe_text(7)?,
            usage: row.maybe_blob(8)?,
            estimated: row.flag(9)?,
            overrun: row.int(10)?,
        };
        let intact = row.int(11)? == line.checksum();
        Ok((line, intact))
    }

    /// What lines that were dropped summed up to in one balance.
    pub(super) fn carried(number: i64, at: i64, balances: &'a [u8], posted: i64, pending: i64) -> Self {
        let kind = Kind::Carry.as_str();
        let (hold, model, usage) = (None, None, None);
        Self { number, at, kind, hold, balances, posted, pending, model, usage, estimated: false, overrun: 0 }
    }

    /// For [`INSERT_LINE`].
    pub(super) fn values(&self) -> [Value<'a>; 12] {
        values![
            self.number,
            self.at,
            self.kind,
            self.hold,
            self.balances,
            self.posted,
            self.pending,
            self.model,
            self.usage,
            self.estimated,
            self.overrun,
            self.checksum(),
        ]
    }

    /// The first eight bytes of the SHA-256 over every column, each number in eight bytes, each text and list after its length
    /// (all ones: unset). Stable: stored entries are checked against it.
    fn checksum(&self) -> i64 {
        let mut sum = Sha256::new();
        let mut number = |value: i64| sum.update(value.to_be_bytes());
        number(self.number);
        number(self.at);
        number(self.hold.unwrap_or(-1));
        number(self.posted);
        number(self.pending);
        number(self.estimated.into());
        number(self.overrun);
        let texts =
            [Some(self.kind.as_bytes()), Some(self.balances), self.model.map(str::as_bytes), self.usage];
        for text in texts {
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            sum.update(length.to_be_bytes());
            sum.update(text.unwrap_or_default());
        }
        let digest: [u8; 32] = sum.finalize().into();
        i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
    }
}
