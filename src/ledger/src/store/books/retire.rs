//! Requests that are long past leave the books: exported, summed up, dropped. What they cost stays: in the balances, in the
//! sums by the hour, and in lines that carry forward what the dropped ones added up to, so that the journal still replays.
//!
//! A hold goes together with its lines, and in the same transaction it is written to the export, which is synced before that is
//! committed: whenever this is cut off, the books are whole, and what was written but did not leave is cut from the file again.
//! Only a process that dies cannot do that; the next run says so.
//!
//! No two runs take the same hold. A file has one writer. In a database, a run writes its name into the books when it begins, and
//! ends when it finds another's there: the last that began goes on alone.
//!
//! In a database, ledgers serve meanwhile. They wait for a run only where they change a request that is long past: no account is
//! locked, because no balance changes.

mod export;

use super::check::RETIRED_UNTIL;
use super::code::{corrupt, pack_ids, unpack_ids};
use super::journal::{INSERT_LINE, Line, select_line};
use super::meta;
use super::{allow_missing, spent, sums};
use crate::store::place::{Place, PlaceError, now_ms};
use crate::store::sql::{Result as SqlResult, Row, Sql, SqlError, SqlErrorKind, Value, values};
use crate::store::sqlite::Access;
use crate::store::tables::{ENTRY, HOLD, Table, row_digest};
use export::Export;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use tollgate_domain::time::Timestamp;

/// Nothing younger goes: until then a late settle still corrects, and a hold that is sent again finds its answer.
const AGE_MIN_MS: i64 = 7 * 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// Rows that are read at once.
const PAGE: i64 = 10_000;
/// Holds for which the journal is read once; their lines' numbers are remembered meanwhile.
const ROUND: usize = 1_000_000;
/// Holds that go in one transaction, so that it never holds up a ledger.
const CHUNK: usize = 200;
/// How often a transaction is tried that another was in the way of.
const TRIES: u32 = 10;
/// Numbers that PostgreSQL's sequence gives at once.
const BLOCK: i64 = 1_000;
/// The run that retires, in `meta`: 16 random bytes, and where it exports to.
const RUN: &str = "retire_run";

/// What has left the books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Requests that were exported and dropped.
    pub holds: u64,
    /// Lines of the journal that were.
    pub entries: u64,
    /// Requests that changed meanwhile, and stayed; they are not in the export.
    pub kept: u64,
    /// Requests made from here on were left alone.
    pub until: Option<Timestamp>,
    /// Where a run exported to that did not finish: the last requests of that file may be in this one, too.
    pub unfinished: Option<String>,
}

/// Exports every request made before `before` that has ended, and drops it. A file must not be served meanwhile.
///
/// # Errors
/// [`PlaceError`]. Then the export has what has left the books until then.
pub fn retire(place: &Place, before: Timestamp, export: &Path) -> Result<Retired, PlaceError> {
    let writer = place.writer(Access::Existing)?;
    place.check_exact(&*writer.db)?;
    let db = &*writer.db;
    let until = bound(db, before)?;
    let mut export = Export::create(export)?;
    let (claim, unfinished) = Claim::take(db, &export.path().display().to_string())?;
    let retired = Retired { until: Some(Timestamp::new(until)), unfinished, ..Retired::default() };
    let mut run = Run {
        db,
        until,
        claim: &claim,
        carried: HashMap::new(),
        numbers: Numbers::default(),
        latest: i64::MIN,
        retired,
    };
    let outcome = run.go(&mut export);
    let retired = run.retired;
    match outcome {
        Ok(()) => claim.give_back(db)?,
        // The first failure is the one to tell.
        Err(error) => {
            if !export.is_unsure() {
                let _ = claim.give_back(db);
            }
            return Err(error);
        }
    }
    db.close()?;
    Ok(retired)
}

/// A run's right to retire, until another takes it.
struct Claim(Vec<u8>);

impl Claim {
    /// Takes it, whoever has it, and says where that one exports to, or did until it was cut off. A transaction of the other
    /// ends before this returns, and none begins after.
    fn take(db: &dyn Sql, export: &str) -> Result<(Self, Option<String>), PlaceError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| PlaceError::Database(format!("no random bytes: {error}")))?;
        let claim = Self([id.as_slice(), export.as_bytes()].concat());
        db.begin()?;
        let before = claim.take_within(db);
        match before.and_then(|before| db.commit().map(|()| before)) {
            Ok(before) => Ok((claim, before)),
            Err(error) => {
                let _ = db.rollback();
                Err(error.into())
            }
        }
    }

    fn take_within(&self, db: &dyn Sql) -> SqlResult<Option<String>> {
        // Of two that begin at once, the second finds the first.
        db.execute(
            "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &values![RUN, &Vec::new()],
        )?;
        let before = Self::present(db)?;
        meta::set(db, RUN, &self.0)?;
        Ok(before.as_deref().and_then(Self::export))
    }

    /// Whose it is; it stays so until this transaction ends.
    fn present(db: &dyn Sql) -> SqlResult<Option<Vec<u8>>> {
        let statement =
            if db.is_shared() { "SELECT value FROM meta WHERE name = $1 FOR UPDATE" } else { meta::READ };
        db.query(statement, &values![RUN])?.first().map(|row| Ok(row.blob(0)?.to_vec())).transpose()
    }

    fn export(value: &[u8]) -> Option<String> {
        value.get(16..).map(|export| String::from_utf8_lossy(export).into_owned())
    }

    fn check(&self, db: &dyn Sql) -> Result<(), Stop> {
        let present = Self::present(db)?;
        if present.as_deref() == Some(self.0.as_slice()) {
            return Ok(());
        }
        let export = present.as_deref().and_then(Self::export);
        Err(Stop::Superseded(export.unwrap_or_else(|| "another file".into())))
    }

    fn give_back(&self, db: &dyn Sql) -> SqlResult<()> {
        db.execute("DELETE FROM meta WHERE name = $1 AND value = $2", &values![RUN, &self.0]).map(drop)
    }
}

/// Why a transaction stops.
enum Stop {
    Database(SqlError),
    /// Another run has begun, and exports to this file.
    Superseded(String),
    Export(PlaceError),
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Self::Database(error)
    }
}

impl From<PlaceError> for Stop {
    fn from(error: PlaceError) -> Self {
        Self::Export(error)
    }
}

/// Whole hours that are summed, and old enough.
fn bound(db: &dyn Sql, before: Timestamp) -> Result<i64, PlaceError> {
    let oldest = now_ms(db)?.saturating_sub(AGE_MIN_MS);
    if before.unix_ms() > oldest {
        return Err(PlaceError::NotRetired(format!(
            "only what is older than {} days may go: a late report still corrects it until then",
            AGE_MIN_MS / 86_400_000
        )));
    }
    let summed = sums::rolled_until(db)?.min(spent::spent_until(db)?);
    let until = before.unix_ms().min(summed.unix_ms());
    Ok(until.saturating_sub(until.rem_euclid(HOUR_MS)))
}

/// The lines of each hold that goes.
type Lines = HashMap<i64, Vec<i64>>;

/// What was carried forward of a balance, and by which lines.
#[derive(Clone, Debug, Default)]
struct Carried {
    posted: i64,
    pending: i64,
    lines: Vec<i64>,
}

impl Carried {
    fn add(&mut self, posted: i64, pending: i64) -> SqlResult<()> {
        self.posted = self.posted.checked_add(posted).ok_or_else(|| corrupt("sum of a balance's lines"))?;
        self.pending =
            self.pending.checked_add(pending).ok_or_else(|| corrupt("sum of a balance's lines"))?;
        Ok(())
    }
}

/// Numbers for new lines.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    next: i64,
    end: i64,
}

impl Numbers {
    fn take(&mut self, db: &dyn Sql) -> SqlResult<i64> {
        if self.next >= self.end {
            *self = if db.is_shared() {
                let first = one_int(db, "SELECT nextval('entry_number')")?;
                Self { next: first, end: first + BLOCK }
            } else {
                Self { next: one_int(db, "SELECT coalesce(max(entry), 0) + 1 FROM entry")?, end: i64::MAX }
            };
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

fn one_int(db: &dyn Sql, sql: &str) -> SqlResult<i64> {
    db.query(sql, &[])?.first().ok_or_else(|| corrupt("number"))?.int(0)
}

struct Run<'a> {
    db: &'a dyn Sql,
    until: i64,
    claim: &'a Claim,
    carried: HashMap<i64, Carried>,
    numbers: Numbers,
    /// The latest moment of the journal: lines that carry forward come last, and are not earlier.
    latest: i64,
    retired: Retired,
}

/// A hold that may go, as it was when the journal was read.
struct Old {
    hold: i64,
    digest: u128,
    /// Its lines.
    lines: Vec<i64>,
}

impl Run<'_> {
    fn go(&mut self, export: &mut Export) -> Result<(), PlaceError> {
        let mut from = (i64::MIN, i64::MIN);
        loop {
            // At one moment: a hold that changes after it may have lines that were not read, and stays.
            self.db.begin_read()?;
            let holds = self.next_holds(&mut from)?;
            let mut lines = self.lines_of(&holds)?;
            let mut old = Vec::with_capacity(holds.len());
            for chunk in holds.chunks(CHUNK) {
                for (row, hold) in self.rows(&HOLD, chunk)?.iter().zip(chunk) {
                    let row = row.as_ref().ok_or_else(|| corrupt("hold"))?;
                    let digest = row_digest(&HOLD, row)?;
                    old.push(Old { hold: *hold, digest, lines: lines.remove(hold).unwrap_or_default() });
                }
            }
            self.db.rollback()?;
            if old.is_empty() {
                return Ok(());
            }
            for chunk in old.chunks(CHUNK) {
                self.drop_chunk(chunk, export)?;
            }
        }
    }

    /// The next holds that may go, in the order of their making.
    fn next_holds(&self, from: &mut (i64, i64)) -> Result<Vec<i64>, PlaceError> {
        let mut holds = Vec::new();
        while holds.len() < ROUND {
            let rows = self.db.query(
                "SELECT created_at, hold FROM hold
                 WHERE created_at < $1 AND state IN (1, 2, 3) AND (created_at, hold) > ($2, $3)
                 ORDER BY created_at, hold LIMIT $4",
                &values![self.until, from.0, from.1, PAGE],
            )?;
            let Some(last) = rows.last() else { break };
            *from = (last.int(0)?, last.int(1)?);
            for row in &rows {
                holds.push(row.int(1)?);
            }
        }
        Ok(holds)
    }

    /// Reads the journal once: which lines are of these holds, what is carried forward already, and the latest moment.
    fn lines_of(&mut self, holds: &[i64]) -> Result<Lines, PlaceError> {
        let wanted: HashSet<i64> = holds.iter().copied().collect();
        let mut lines = Lines::new();
        if holds.is_empty() {
            return Ok(lines);
        }
        self.carried.clear();
        let mut last = i64::MIN;
        loop {
            let rows = self
                .db
                .query(select_line!("WHERE entry > $1 ORDER BY entry LIMIT $2"), &values![last, PAGE])?;
            for row in &rows {
                let (line, intact) = Line::of(row)?;
                if !intact {
                    return Err(PlaceError::Database(format!("entry {}: it was altered", line.number)));
                }
                last = line.number;
                self.latest = self.latest.max(line.at);
                match (line.kind, line.hold) {
                    ("carry", _) => {
                        for balance in unpack_ids(line.balances)? {
                            let carried = self.carried.entry(balance).or_default();
                            carried.add(line.posted, line.pending)?;
                            carried.lines.push(line.number);
                        }
                    }
                    (_, Some(hold)) if wanted.contains(&hold) => {
                        lines.entry(hold).or_default().push(line.number);
                    }
                    _ => {}
                }
            }
            if rows.is_empty() {
                return Ok(lines);
            }
        }
    }

    /// The row of each number, where it is there.
    fn rows(&self, table: &Table, numbers: &[i64]) -> SqlResult<Vec<Option<Row>>> {
        let select = table.select(&format!("WHERE {} = $1", table.name));
        let params: Vec<[Value<'_>; 1]> = numbers.iter().map(|number| values![*number]).collect();
        let asks: Vec<(&str, &[Value<'_>])> =
            params.iter().map(|params| (select.as_str(), params.as_slice())).collect();
        let answers = self.db.query_all(&asks)?;
        Ok(answers.into_iter().map(|rows| rows.into_iter().next()).collect())
    }

    fn drop_chunk(&mut self, chunk: &[Old], export: &mut Export) -> Result<(), PlaceError> {
        let begin = export.length();
        let mut tries = 0;
        loop {
            let mut dropped = Dropped::default();
            self.db.begin()?;
            let stop = match self.drop_within(chunk, export, &mut dropped) {
                Ok(()) => match self.db.commit() {
                    Ok(()) => {
                        self.retired.holds += dropped.holds;
                        self.retired.entries += dropped.entries;
                        self.retired.kept += dropped.kept;
                        self.carried.extend(dropped.carried);
                        return Ok(());
                    }
                    Err(error) if error.kind == SqlErrorKind::Contended => Stop::Database(error),
                    Err(error) => {
                        let path = export.unsure().display();
                        let (why, holds) = (error.why, dropped.holds);
                        return Err(PlaceError::NotRetired(format!(
                            "{why}; whether the last {holds} requests of {path} have left the books is not known: the next \
                             run exports them again where they have not"
                        )));
                    }
                },
                Err(stop) => stop,
            };
            // The first failure is the one to tell.
            let _ = self.db.rollback();
            export.cut(begin)?;
            // Numbers that were not used are given again.
            self.numbers = Numbers::default();
            tries += 1;
            match stop {
                Stop::Database(error) if error.kind == SqlErrorKind::Contended && tries < TRIES => {}
                Stop::Database(error) => return Err(error.into()),
                Stop::Export(error) => return Err(error),
                Stop::Superseded(other) => {
                    let (path, holds) = (export.path().display(), self.retired.holds);
                    return Err(PlaceError::NotRetired(format!(
                        "another run has begun, which goes on from here and exports to {other}; {holds} requests are in {path} \
                         and no longer in the books"
                    )));
                }
            }
        }
    }

    fn drop_within(&mut self, chunk: &[Old], export: &mut Export, dropped: &mut Dropped) -> Result<(), Stop> {
        self.claim.check(self.db)?;
        // Whoever changes a hold that is summed waits for this row, and then finds that the hold is gone.
        self.raise_retired_until()?;
        let holds: Vec<i64> = chunk.iter().map(|old| old.hold).collect();
        let mut gone: Vec<i64> = Vec::new();
        let mut numbers: Vec<i64> = Vec::new();
        let mut lines: Vec<Row> = Vec::new();
        for (row, old) in self.rows(&HOLD, &holds)?.into_iter().zip(chunk) {
            let row = match row {
                Some(row) if row_digest(&HOLD, &row)? == old.digest => row,
                _ => {
                    dropped.kept += 1;
                    continue;
                }
            };
            let of_hold = self.rows(&ENTRY, &old.lines)?.into_iter();
            let of_hold: Vec<Row> =
                of_hold.map(|line| line.ok_or_else(|| corrupt("entry"))).collect::<SqlResult<_>>()?;
            export.write(&row, &of_hold)?;
            lines.extend(of_hold);
            gone.push(old.hold);
            numbers.extend(&old.lines);
        }
        export.sync()?;
        self.carry(&lines, dropped)?;
        self.drop_rows(&gone, &numbers, dropped)?;
        dropped.holds = gone.len() as u64;
        dropped.entries = numbers.len() as u64;
        Ok(())
    }

    /// Drops holds, their lines, and the lines that carried forward what is carried by others now.
    fn drop_rows(&self, holds: &[i64], lines: &[i64], dropped: &Dropped) -> SqlResult<()> {
        let before = dropped.carried.keys().filter_map(|balance| self.carried.get(balance));
        let old: Vec<i64> = before.flat_map(|carried| carried.lines.iter().copied()).collect();
        // Without this, the journal of a file does not let go.
        meta::set(self.db, "retiring", &[])?;
        self.delete("DELETE FROM entry WHERE entry = $1", &old)?;
        self.delete("DELETE FROM entry WHERE entry = $1", lines)?;
        self.delete("DELETE FROM hold WHERE hold = $1", holds)?;
        self.db.execute("DELETE FROM meta WHERE name = 'retiring'", &[])?;
        match lines.iter().chain(&old).max() {
            Some(last) if !self.db.is_shared() => allow_missing(self.db, *last),
            _ => Ok(()),
        }
    }

    /// Writes what each balance keeps of these lines, together with what was carried forward of it before.
    fn carry(&mut self, lines: &[Row], dropped: &mut Dropped) -> SqlResult<()> {
        let mut sums: BTreeMap<i64, Carried> = BTreeMap::new();
        for row in lines {
            let (line, _) = Line::of(row)?;
            for balance in unpack_ids(line.balances)? {
                sums.entry(balance).or_default().add(line.posted, line.pending)?;
            }
        }
        for (balance, sum) in &mut sums {
            if let Some(before) = self.carried.get(balance) {
                sum.add(before.posted, before.pending)?;
            }
            if (sum.posted, sum.pending) != (0, 0) {
                sum.lines.push(self.numbers.take(self.db)?);
            }
        }
        let packed: Vec<(Vec<u8>, &Carried)> =
            sums.iter().map(|(balance, sum)| (pack_ids(&[*balance]), sum)).collect();
        let lines = packed.iter().flat_map(|(balance, sum)| {
            let line = |number: &i64| Line::carried(*number, self.latest, balance, sum.posted, sum.pending);
            sum.lines.iter().map(line)
        });
        let each: Vec<Vec<Value<'_>>> = lines.map(|line| line.values().to_vec()).collect();
        self.db.execute_each(INSERT_LINE.one(), &each)?;
        dropped.carried.extend(sums);
        Ok(())
    }

    fn delete(&self, sql: &str, numbers: &[i64]) -> SqlResult<()> {
        let each: Vec<Vec<Value<'_>>> = numbers.iter().map(|number| values![*number].to_vec()).collect();
        self.db.execute_each(sql, &each)
    }

    fn raise_retired_until(&self) -> SqlResult<()> {
        let before = meta::number(self.db, RETIRED_UNTIL)?.unwrap_or(i64::MIN);
        meta::set(self.db, RETIRED_UNTIL, &before.max(self.until).to_be_bytes())
    }
}

/// What one transaction has done.
#[derive(Default)]
struct Dropped {
    holds: u64,
    entries: u64,
    kept: u64,
    carried: HashMap<i64, Carried>,
}
