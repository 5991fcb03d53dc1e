//! Whether the books are what was written: each line and each balance by its checksum, and every balance by adding up.

use super::balance::{Balance, select_balance};
use super::code::{fixed, state, unpack_ids};
use super::journal::{Line, select_line};
use super::meta;
use crate::store::HoldState;
use crate::store::sql::{self, Sql, SqlError, values};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use tollgate_domain::time::Timestamp;

/// The last line that a start has checked, in `meta`.
const CHECKED_ENTRY: &str = "checked_entry";
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
/// last one. It takes as long as there are accounts, not as long as there is history.
pub(crate) fn at_start(db: &dyn Sql) -> Result<Audit, CheckError> {
    let mut report = Audit::default();
    let checked = meta::number(db, CHECKED_ENTRY)?.unwrap_or(0);
    let last = each_entry(db, checked, &mut report, |_, _| Ok(()))?;
    let open = db
        .query("SELECT amount, balances FROM hold WHERE state = 0 AND expires_at > $1", &values![i64::MIN])?;
    let mut pending: HashMap<i64, i64> = HashMap::new();
    for row in &open {
        for balance in unpack_ids(row.blob(1)?)? {
            let sum = pending.entry(balance).or_default();
            *sum = sum.saturating_add(row.int(0)?);
        }
    }
    each_balance(db, &mut report, |number, balance, report| {
        let held = pending.remove(&number).unwrap_or(0);
        if balance.pending.get() != held {
            report.fault(format!(
                "balance {number}: pending is {}, its open holds are {held}",
                balance.pending
            ));
        }
    })?;
    for balance in pending.into_keys() {
        report.fault(format!("balance {balance}: an open hold names it, and it is not there"));
    }
    if !report.is_clean() {
        return Err(CheckError::Altered(report));
    }
    meta::set(db, CHECKED_ENTRY, &last.to_be_bytes())?;
    Ok(report)
}

/// What the lines about one hold add up to.
#[derive(Clone, Copy, Default)]
struct Story {
    posted: i64,
    pending: i64,
    settled: u8,
    voided: u8,
    expired: u8,
}

/// The whole journal, line by line, and everything that must follow from it.
pub(crate) fn verify(db: &dyn Sql) -> sql::Result<Audit> {
    let mut report = Audit::default();
    let mut sums: HashMap<i64, (i64, i64)> = HashMap::new();
    let mut stories: HashMap<i64, Story> = HashMap::new();
    each_entry(db, 0, &mut report, |line, _| {
        for balance in unpack_ids(line.balances)? {
            let sum = sums.entry(balance).or_default();
            *sum = (sum.0.wrapping_add(line.posted), sum.1.wrapping_add(line.pending));
        }
        if let Some(hold) = line.hold {
            let story = stories.entry(hold).or_default();
            story.posted = story.posted.wrapping_add(line.posted);
            story.pending = story.pending.wrapping_add(line.pending);
            match line.kind {
                "settle" => story.settled = story.settled.saturating_add(1),
                "void" => story.voided = story.voided.saturating_add(1),
                "expire" => story.expired = story.expired.saturating_add(1),
                _ => {}
            }
        }
        Ok(())
    })?;
    each_balance(db, &mut report, |number, balance, report| {
        let (posted, pending) = sums.remove(&number).unwrap_or_default();
        if (balance.posted.get(), balance.pending.get()) != (posted, pending) {
            report.fault(format!(
                "balance {number}: it says {} posted and {} pending, its entries say {posted} and {pending}",
                balance.posted.get(),
                balance.pending.get()
            ));
        }
    })?;
    for balance in sums.into_keys() {
        report.fault(format!("balance {balance}: entries name it, and it is not there"));
    }
    check_holds(db, &mut stories, &mut report)?;
    for hold in stories.into_keys() {
        report.fault(format!("hold {hold}: entries name it, and it is not there"));
    }
    check_sums(db, &mut report)?;
    Ok(report)
}

/// Reads the lines after `from`, and says which is the last.
fn each_entry(
    db: &dyn Sql,
    from: i64,
    report: &mut Audit,
    mut look: impl FnMut(&Line<'_>, &mut Audit) -> sql::Result<()>,
) -> sql::Result<i64> {
    let missing = may_miss(db)?;
    let mut last = from;
    loop {
        let rows =
            db.query(select_line!("WHERE entry > $1 ORDER BY entry LIMIT $2"), &values![last, PAGE])?;
        for row in &rows {
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
            look(&line, report)?;
        }
        if rows.is_empty() {
            return Ok(last);
        }
    }
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
    let mut last = i64::MIN;
    loop {
        let rows =
            db.query(select_balance!("WHERE balance > $1 ORDER BY balance LIMIT $2"), &values![last, PAGE])?;
        for row in &rows {
            last = row.int(0)?;
            report.balances += 1;
            match Balance::of(row) {
                Ok((number, balance)) => look(number, &balance, report),
                Err(error) => report.fault(error.why),
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
    }
}

fn check_holds(db: &dyn Sql, stories: &mut HashMap<i64, Story>, report: &mut Audit) -> sql::Result<()> {
    let mut last = i64::MIN;
    loop {
        let rows = db.query(
            "SELECT hold, state, amount, posted FROM hold WHERE hold > $1 ORDER BY hold LIMIT $2",
            &values![last, PAGE],
        )?;
        for row in &rows {
            let (hold, amount, posted) = (row.int(0)?, row.int(2)?, row.int(3)?);
            last = hold;
            report.holds += 1;
            let story = stories.remove(&hold).unwrap_or_default();
            let state = state(row.int(1)?)?;
            let pending = if state == HoldState::Pending { amount } else { 0 };
            if (posted, pending) != (story.posted, story.pending) {
                report.fault(format!(
                    "hold {hold}: it says {posted} posted and {pending} pending, its entries say {} and {}",
                    story.posted, story.pending
                ));
            }
            let ends = (story.settled, story.voided, story.expired);
            let right = match state {
                HoldState::Pending => ends == (0, 0, 0),
                // The late settle of an expired hold is a correction.
                HoldState::Settled => matches!(ends, (1, 0, 0) | (0, 0, 1)),
                HoldState::Voided => matches!(ends, (0, 1, 0 | 1)),
                HoldState::Expired => ends == (0, 0, 1),
            };
            if !right {
                let (settled, voided, expired) = ends;
                report.fault(format!(
                    "hold {hold}: it is {state:?}, and was settled {settled} times, voided {voided}, expired {expired}"
                ));
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
    }
}

/// The hours' sums against the holds, key by key. What was exported and dropped stays in the sums.
fn check_sums(db: &dyn Sql, report: &mut Audit) -> sql::Result<()> {
    let rolled = super::sums::rolled_until(db)?.unix_ms();
    let from = meta::number(db, RETIRED_UNTIL)?.unwrap_or(i64::MIN);
    let mut sums: HashMap<i64, i64> = HashMap::new();
    let holds = db.query(
        "SELECT key, CAST(sum(posted) AS BIGINT) FROM hold WHERE created_at >= $1 AND created_at < $2 GROUP BY key",
        &values![from, rolled],
    )?;
    for row in &holds {
        sums.insert(row.int(0)?, row.int(1)?);
    }
    let summed = db.query(
        "SELECT key, CAST(sum(posted) AS BIGINT) FROM rollup WHERE hour >= $1 GROUP BY key",
        &values![from],
    )?;
    let mut differing: Vec<i64> = Vec::new();
    for row in &summed {
        let (key, posted) = (row.int(0)?, row.int(1)?);
        if posted != sums.remove(&key).unwrap_or(0) {
            differing.push(key);
        }
    }
    differing.extend(sums.into_iter().filter(|(_, posted)| *posted != 0).map(|(key, _)| key));
    differing.sort_unstable();
    for key in differing {
        check_hours(db, key, from, rolled, report)?;
    }
    Ok(())
}

/// Names the hours in which the sums of an account are not those of its holds.
fn check_hours(db: &dyn Sql, key: i64, from: i64, rolled: i64, report: &mut Audit) -> sql::Result<()> {
    let mut hours: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let held = db.query(
        "SELECT created_at - created_at % 3600000, CAST(sum(posted) AS BIGINT) FROM hold
         WHERE key = $1 AND created_at >= $2 AND created_at < $3 GROUP BY 1",
        &values![key, from, rolled],
    )?;
    for row in &held {
        hours.entry(row.int(0)?).or_default().0 = row.int(1)?;
    }
    let summed = db.query(
        "SELECT hour, CAST(sum(posted) AS BIGINT) FROM rollup WHERE key = $1 AND hour >= $2 GROUP BY hour",
        &values![key, from],
    )?;
    for row in &summed {
        hours.entry(row.int(0)?).or_default().1 = row.int(1)?;
    }
    for (hour, (held, summed)) in hours.into_iter().filter(|(_, (held, summed))| held != summed) {
        let hour = Timestamp::new(hour).to_rfc3339().unwrap_or_else(|| format!("{hour} ms"));
        report.fault(format!(
            "rollup of account {key}, hour {hour}: it says {summed} posted, the holds say {held}"
        ));
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
