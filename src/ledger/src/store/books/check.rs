//! Whether the books are what was written: each line and each balance by its checksum, and every balance by adding up.

mod holds;
mod sums;

use super::balance::{Balance, select_balance};
use super::code::{corrupt, fixed, unpack_ids};
use super::journal::{Line, select_line};
use super::meta;
use super::overlays;
use crate::store::sql::{self, Row, Sql, SqlError, values};
use holds::{Accounts, Stories};
use std::collections::HashMap;
use std::fmt;
use tollgate_domain::price::PriceBook;

/// The last line that a start has checked, in `meta`.
const CHECKED_ENTRY: &str = "checked_entry";
/// The latest moment of which a start has checked the lines where several ledgers write, in `meta`.
const CHECKED_AT: &str = "checked_at";
/// A transaction can become visible after one that began later; none lasts so long.
const LOOK_BACK_MS: i64 = 60_000;
/// Lines that a start reads at most: it must not take longer for having been long ago. `verify` reads all of them.
const LINES_MAX: i64 = 500_000;
/// Up to which line some may be missing, in `meta`.
const MAY_MISS: &str = "may_miss";
/// Before when holds may have been exported and dropped, in `meta`.
pub(super) const RETIRED_UNTIL: &str = "retired_until";

/// Rows that are read at once.
const PAGE: i64 = 10_000;
/// Faults that are named at most; the rest are counted.
const NAMED_MAX: usize = 100;

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Lines of the journal that were read.
    pub entries: u64,
    /// Balances that were compared.
    pub balances: u64,
    /// Holds that were compared.
    pub holds: u64,
    /// Everything that is wrong, each with its place.
    pub faults: Vec<String>,
    /// How many more there are.
    pub more_faults: u64,
}

impl Audit {
    /// Whether all is as it was written.
    pub const fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    pub(crate) fn fault(&mut self, what: String) {
        if self.faults.len() < NAMED_MAX {
            self.faults.push(what);
        } else {
            self.more_faults += 1;
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.faults.iter().try_for_each(|fault| writeln!(f, "{fault}"))?;
        if self.more_faults > 0 {
            writeln!(f, "and {} more faults", self.more_faults)?;
        }
        let Self { entries, balances, holds, .. } = self;
        write!(f, "{entries} entries, {balances} balances, {holds} holds: ")?;
        f.write_str(if self.is_clean() { "all of them agree" } else { "they do not agree" })
    }
}

/// Why the books are not opened.
#[derive(Debug)]
pub(crate) enum CheckError {
    /// They are not what was written.
    Altered(Audit),
    /// They cannot be read.
    Database(SqlError),
}

impl From<SqlError> for CheckError {
    fn from(error: SqlError) -> Self {
        Self::Database(error)
    }
}

/// The check at the start: every balance by its checksum and by the holds that are open, and what the journal has got since the
/// last one. It takes as long as there are accounts, not as long as there is history: of a long time without a start, only the
/// latest lines are read.
pub(crate) fn at_start(db: &dyn Sql) -> Result<Audit, CheckError> {
    let mut report = Audit::default();
    // Where others write, at one moment: in it, the books are whole.
    db.begin_read()?;
    let checked = since_last_start(db, &mut report);
    db.rollback()?;
    let checked = checked?;
    if !report.is_clean() {
        return Err(CheckError::Altered(report));
    }
    db.begin()?;
    match checked {
        Checked::Number(entry) => meta::set(db, CHECKED_ENTRY, &entry.to_be_bytes())?,
        Checked::Moment(at) => meta::set(db, CHECKED_AT, &at.to_be_bytes())?,
    }
    db.commit()?;
    Ok(report)
}

/// Up to where lines were checked.
enum Checked {
    Number(i64),
    /// Where several ledgers write, numbers say little of the order.
    Moment(i64),
}

fn since_last_start(db: &dyn Sql, report: &mut Audit) -> Result<Checked, CheckError> {
    let checked = if db.is_shared() {
        Checked::Moment(latest_entries(db, report)?)
    } else {
        let rows = db.query("SELECT coalesce(max(entry), 0) FROM entry", &[])?;
        let last = rows.first().map_or(Ok(0), |row| row.int(0))?;
        let checked = meta::number(db, CHECKED_ENTRY)?.unwrap_or(0);
        Checked::Number(each_entry(db, checked.max(last - LINES_MAX), report, |_| Ok(()))?)
    };
    let mut open = OpenHolds::read(db)?;
    each_balance(db, report, |number, balance, report| open.compare(number, balance, report))?;
    open.missing(report);
    Ok(checked)
}

/// Reads the lines of the moments since the last start, the latest first, and says which is the latest.
fn latest_entries(db: &dyn Sql, report: &mut Audit) -> sql::Result<i64> {
    let checked = meta::number(db, CHECKED_AT)?;
    let from = checked.map_or(i64::MIN, |at| at.saturating_sub(LOOK_BACK_MS));
    let (mut latest, mut before) = (checked.unwrap_or(i64::MIN), (i64::MAX, i64::MAX));
    while report.entries < LINES_MAX.unsigned_abs() {
        let rows = db.query(
            select_line!(
                "WHERE at >= $1 AND at <= $2 AND (at, entry) < ($2, $3) ORDER BY at DESC, entry DESC LIMIT $4"
            ),
            &values![from, before.0, before.1, PAGE],
        )?;
        for row in &rows {
            let (line, intact) = Line::of(row)?;
            if !intact {
                report.fault(format!("entry {}: it was altered", line.number));
            }
            latest = latest.max(line.at);
            before = (line.at, line.number);
            report.entries += 1;
        }
        if rows.is_empty() {
            break;
        }
    }
    Ok(latest)
}

/// What the open holds add up to in each balance that they name.
struct OpenHolds(HashMap<i64, i64>);

impl OpenHolds {
    fn read(db: &dyn Sql) -> sql::Result<Self> {
        let open = db.query(
            "SELECT amount, balances FROM hold WHERE state = 0 AND expires_at > $1",
            &values![i64::MIN],
        )?;
        let mut pending: HashMap<i64, i64> = HashMap::new();
        for row in &open {
            for balance in unpack_ids(row.blob(1)?)? {
                let sum = pending.entry(balance).or_default();
                *sum = sum.saturating_add(row.int(0)?);
            }
        }
        Ok(Self(pending))
    }

    fn compare(&mut self, number: i64, balance: &Balance, report: &mut Audit) {
        let held = self.0.remove(&number).unwrap_or(0);
        if balance.pending.get() != held {
            let pending = balance.pending;
            report.fault(format!("balance {number}: pending is {pending}, its open holds are {held}"));
        }
    }

    /// Once every balance was compared.
    fn missing(self, report: &mut Audit) {
        for balance in self.0.into_keys() {
            report.fault(format!("balance {balance}: an open hold names it, and it is not there"));
        }
    }
}

/// The whole journal, line by line, and everything that must follow from it.
pub(crate) fn verify(db: &dyn Sql) -> sql::Result<Audit> {
    let mut report = Audit::default();
    let mut totals: HashMap<i64, (i64, i64)> = HashMap::new();
    let mut stories = Stories::default();
    each_entry(db, 0, &mut report, |line| {
        for balance in unpack_ids(line.balances)? {
            let sum = totals.entry(balance).or_default();
            *sum = (sum.0.wrapping_add(line.posted), sum.1.wrapping_add(line.pending));
        }
        stories.add(line);
        Ok(())
    })?;
    let mut open = OpenHolds::read(db)?;
    let mut accounts = Accounts::default();
    each_balance(db, &mut report, |number, balance, report| {
        accounts.of_balance.insert(number, balance.account);
        open.compare(number, balance, report);
        let (posted, pending) = totals.remove(&number).unwrap_or_default();
        if (balance.posted.get(), balance.pending.get()) != (posted, pending) {
            report.fault(format!(
                "balance {number}: it says {} posted and {} pending, its entries say {posted} and {pending}",
                balance.posted.get(),
                balance.pending.get()
            ));
        }
    })?;
    for balance in totals.into_keys() {
        report.fault(format!("balance {balance}: entries name it, and it is not there"));
    }
    open.missing(&mut report);
    stories.compare(db, accounts, &mut report)?;
    sums::compare(db, &mut report)?;
    super::spent::compare(db, &mut report)?;
    check_prices(db, &mut report)?;
    Ok(report)
}

/// Reads the rows of a statement that gives those after a number, at most so many at once. A damaged file can give them in no order,
/// and reading on from the last of them would then have no end.
fn each_row(
    db: &dyn Sql,
    table: &str,
    statement: &str,
    from: i64,
    mut look: impl FnMut(&Row) -> sql::Result<()>,
) -> sql::Result<i64> {
    let mut last = from;
    loop {
        let rows = db.query(statement, &values![last, PAGE])?;
        for row in &rows {
            let number = row.int(0)?;
            if number <= last {
                return Err(corrupt(&format!("order of rows: {table} {number} comes after {last}")));
            }
            last = number;
            look(row)?;
        }
        if rows.is_empty() {
            return Ok(last);
        }
    }
}

/// Reads the lines after `from`, and says which is the last.
fn each_entry(
    db: &dyn Sql,
    from: i64,
    report: &mut Audit,
    mut look: impl FnMut(&Line<'_>) -> sql::Result<()>,
) -> sql::Result<i64> {
    let missing = may_miss(db)?;
    let mut last = from;
    let lines = select_line!("WHERE entry > $1 ORDER BY entry LIMIT $2");
    each_row(db, "entry", lines, from, |row| {
        let (line, intact) = Line::of(row)?;
        if !intact {
            report.fault(format!("entry {}: it was altered", line.number));
        }
        // A ledger that is alone leaves no number out.
        let is_gap = line.number != last + 1 && line.number > missing + 1;
        if !db.is_shared() && last != 0 && is_gap && last != from {
            report.fault(format!("entry {}: {} is missing before it", line.number, last + 1));
        }
        last = line.number;
        report.entries += 1;
        look(&line)
    })
}

/// Up to which number lines of a file's journal may be missing: they were exported and dropped, or come from a database that
/// gives numbers in blocks.
fn may_miss(db: &dyn Sql) -> sql::Result<i64> {
    Ok(meta::number(db, MAY_MISS)?.unwrap_or(i64::MIN))
}

/// Lets lines up to this one be missing.
pub(crate) fn allow_missing(db: &dyn Sql, up_to: i64) -> sql::Result<()> {
    if up_to > may_miss(db)? {
        meta::set(db, MAY_MISS, &up_to.to_be_bytes())?;
    }
    Ok(())
}

fn each_balance(
    db: &dyn Sql,
    report: &mut Audit,
    mut look: impl FnMut(i64, &Balance, &mut Audit),
) -> sql::Result<()> {
    let balances = select_balance!("WHERE balance > $1 ORDER BY balance LIMIT $2");
    let read = each_row(db, "balance", balances, i64::MIN, |row| {
        report.balances += 1;
        match Balance::of(row) {
            Ok((number, balance)) => look(number, &balance, report),
            Err(_) => report.fault(format!("balance {}: it was altered", row.int(0)?)),
        }
        Ok(())
    });
    read.map(drop)
}

/// The price books, each by its revision, which is the digest of its text.
fn check_prices(db: &dyn Sql, report: &mut Audit) -> sql::Result<()> {
    for row in &db.query("SELECT revision, text FROM price_book", &[])? {
        let revision = row.int(0)?.cast_unsigned();
        if !PriceBook::parse(row.text(1)?).is_ok_and(|book| book.revision() == revision) {
            report.fault(format!("price_book {}: it was altered", row.int(0)?));
        }
    }
    if !overlays::is_true(db)? {
        report.fault("price_overlay: the present price book is not what comes of it".to_owned());
    }
    Ok(())
}

/// The row of `meta` that says that the books were given back from a copy, and how far that reached.
pub(crate) fn gap(db: &dyn Sql) -> sql::Result<Option<(i64, i64)>> {
    let Some(bytes) = meta::read::<16>(db, "gap")? else { return Ok(None) };
    let (from, to) = bytes.split_at(8);
    let number = |bytes: &[u8]| Ok::<_, SqlError>(i64::from_be_bytes(fixed("gap", bytes)?));
    Ok(Some((number(from)?, number(to)?)))
}
