//! Requests that are long past leave the books: exported, summed up, dropped. What they cost stays: in the balances, in the
//! hours' sums, and in lines that carry forward what the dropped ones added up to, so that the journal still replays.
//!
//! Nothing is dropped before its export is synced, and a hold goes together with its lines: whenever this is cut off, the books
//! are whole, and what was exported and not yet dropped is exported again by the next run.

use super::check::RETIRED_UNTIL;
use super::code::{corrupt, pack_ids, state, unpack, unpack_ids};
use super::journal::{INSERT_LINE, Line, select_line};
use super::meta;
use super::{allow_missing, sums};
use crate::store::copy::sync_folder;
use crate::store::place::{Place, PlaceError, now_ms, of_file};
use crate::store::sql::{Result as SqlResult, Row, Sql, SqlErrorKind, Value, values};
use crate::store::sqlite::Access;
use crate::store::tables::{ENTRY, HOLD, Table, row_digest, row_values};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
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

/// What has left the books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Requests that were exported and dropped.
    pub holds: u64,
    /// Lines of the journal that were.
    pub entries: u64,
    /// Requests that changed between the two, and stayed.
    pub kept: u64,
    /// Requests made from here on were left alone.
    pub until: Option<Timestamp>,
}

/// Exports every request made before `before` that has ended, then drops it. A file must not be served meanwhile.
///
/// # Errors
/// [`PlaceError`]; what was exported by then may still be in the books.
pub fn retire(place: &Place, before: Timestamp, export: &Path) -> Result<Retired, PlaceError> {
    let writer = place.writer(Access::Existing)?;
    place.check_exact(&*writer.db)?;
    let db = &*writer.db;
    let until = bound(db, before)?;
    let mut export = Export::create(export)?;
    let mut run = Run { db, until, carried: HashMap::new(), numbers: Numbers::default(), latest: i64::MIN };
    let mut retired = Retired { until: Some(Timestamp::new(until)), ..Retired::default() };
    let mut from = (i64::MIN, i64::MIN);
    loop {
        // At one moment: a hold that changes after it is not the one that was exported, and stays.
        db.begin_read()?;
        let holds = run.next_holds(&mut from)?;
        let lines = run.lines_of(&holds)?;
        let digests = run.export(&holds, &lines, &mut export)?;
        db.rollback()?;
        if holds.is_empty() {
            break;
        }
        export.sync()?;
        for (chunk, digests) in holds.chunks(CHUNK).zip(digests.chunks(CHUNK)) {
            run.drop_chunk(chunk, digests, &lines, &mut retired)?;
        }
    }
    export.sync()?;
    db.close()?;
    Ok(retired)
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
    let until = before.unix_ms().min(sums::rolled_until(db)?.unix_ms());
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
    carried: HashMap<i64, Carried>,
    numbers: Numbers,
    /// The latest moment of the journal: lines that carry forward come last, and are not earlier.
    latest: i64,
}

impl Run<'_> {
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

    /// Writes each hold with its lines, and gives the digests of the rows as they were written.
    fn export(&self, holds: &[i64], lines: &Lines, export: &mut Export) -> Result<Vec<u128>, PlaceError> {
        let mut digests = Vec::with_capacity(holds.len());
        for chunk in holds.chunks(CHUNK) {
            for (row, hold) in self.rows(&HOLD, chunk)?.iter().zip(chunk) {
                let row = row.as_ref().ok_or_else(|| corrupt("hold"))?;
                let entries = self.rows(&ENTRY, lines.get(hold).map_or(&[], Vec::as_slice))?;
                digests.push(row_digest(&HOLD, row)?);
                export.write(row, entries.iter().flatten())?;
            }
        }
        Ok(digests)
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

    fn drop_chunk(
        &mut self,
        holds: &[i64],
        digests: &[u128],
        lines: &Lines,
        retired: &mut Retired,
    ) -> Result<(), PlaceError> {
        let mut tries = 0;
        loop {
            let mut dropped = Dropped::default();
            self.db.begin()?;
            let outcome = self.drop_within(holds, digests, lines, &mut dropped);
            let outcome = outcome.and_then(|()| self.db.commit());
            match outcome {
                Ok(()) => {
                    retired.holds += dropped.holds;
                    retired.entries += dropped.entries;
                    retired.kept += dropped.kept;
                    self.carried.extend(dropped.carried);
                    return Ok(());
                }
                Err(error) => {
                    // The first failure is the one to tell.
                    let _ = self.db.rollback();
                    // Numbers that were not used are given again.
                    self.numbers = Numbers::default();
                    tries += 1;
                    if error.kind != SqlErrorKind::Contended || tries == TRIES {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    fn drop_within(
        &mut self,
        holds: &[i64],
        digests: &[u128],
        lines: &Lines,
        dropped: &mut Dropped,
    ) -> SqlResult<()> {
        // Also the lock against another that does the same, and what the journal of a file asks for before it lets go.
        meta::set(self.db, "retiring", &[])?;
        self.lock(holds)?;
        let mut gone: Vec<i64> = Vec::new();
        let mut numbers: Vec<i64> = Vec::new();
        for (row, digest) in self.rows(&HOLD, holds)?.iter().zip(digests) {
            match row {
                Some(row) if row_digest(&HOLD, row)? == *digest => {
                    let hold = row.int(0)?;
                    gone.push(hold);
                    numbers.extend(lines.get(&hold).into_iter().flatten());
                }
                _ => dropped.kept += 1,
            }
        }
        self.carry(&numbers, dropped)?;
        let before = dropped.carried.keys().filter_map(|balance| self.carried.get(balance));
        let old: Vec<i64> = before.flat_map(|carried| carried.lines.iter().copied()).collect();
        self.delete("DELETE FROM entry WHERE entry = $1", &old)?;
        self.delete("DELETE FROM entry WHERE entry = $1", &numbers)?;
        self.delete("DELETE FROM hold WHERE hold = $1", &gone)?;
        dropped.holds = gone.len() as u64;
        dropped.entries = numbers.len() as u64;
        let last = numbers.iter().chain(&old).max();
        if let Some(last) = last.filter(|_| !self.db.is_shared()) {
            allow_missing(self.db, *last)?;
        }
        self.raise_retired_until()?;
        self.db.execute("DELETE FROM meta WHERE name = 'retiring'", &[]).map(drop)
    }

    /// Takes the locks of every account that these holds charge, as a ledger does before it changes one of them.
    fn lock(&self, holds: &[i64]) -> SqlResult<()> {
        if !self.db.is_shared() {
            return Ok(());
        }
        let mut balances = Vec::new();
        for row in self.db.query("SELECT balances FROM hold WHERE hold = ANY ($1)", &[Value::Ints(holds)])? {
            balances.extend(unpack_ids(row.blob(0)?)?);
        }
        let lock = r#"SELECT balance FROM balance
            WHERE account IN (SELECT account FROM balance WHERE balance = ANY ($1))
                AND "window" = 'lifetime' AND model = '' ORDER BY balance FOR UPDATE"#;
        self.db.query(lock, &[Value::Ints(&balances)]).map(drop)
    }

    /// Writes what each balance keeps of these lines, together with what was carried forward of it before.
    fn carry(&mut self, numbers: &[i64], dropped: &mut Dropped) -> SqlResult<()> {
        let mut sums: BTreeMap<i64, Carried> = BTreeMap::new();
        for row in self.rows(&ENTRY, numbers)?.iter().flatten() {
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

/// One JSON object a line: a hold, and its lines of the journal.
struct Export {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Export {
    fn create(path: &Path) -> Result<Self, PlaceError> {
        let file = File::create_new(path).map_err(of_file(path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn write<'a>(&mut self, hold: &Row, entries: impl Iterator<Item = &'a Row>) -> Result<(), PlaceError> {
        let mut line = object(&HOLD, hold)?;
        let entries: SqlResult<Vec<Json>> =
            entries.map(|entry| Ok(Json::Object(object(&ENTRY, entry)?))).collect();
        line.insert("entries".into(), Json::Array(entries?));
        writeln!(self.file, "{}", Json::Object(line)).map_err(of_file(&self.path))
    }

    /// The lines, and the file's name.
    fn sync(&mut self) -> Result<(), PlaceError> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(of_file(&self.path))?;
        sync_folder(&self.path)
    }
}

/// A row with what is packed unpacked, and the rest of the bytes in hexadecimal.
fn object(table: &Table, row: &Row) -> SqlResult<Map<String, Json>> {
    let mut object = Map::new();
    for (column, value) in table.columns.iter().zip(row_values(table, row)?) {
        let column = column.trim_matches('"');
        let json = match value {
            Value::Int(code) if column == "state" => format!("{:?}", state(code)?).to_lowercase().into(),
            Value::Int(number) => number.into(),
            Value::Flag(flag) => flag.into(),
            Value::Text(text) => text.into(),
            Value::Blob(bytes) if matches!(column, "balances" | "rates" | "bounds" | "usage") => {
                unpack(bytes).ok_or_else(|| corrupt("list"))?.into()
            }
            Value::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
            Value::Null | Value::Ints(_) | Value::Blobs(_) | Value::List(_) => Json::Null,
        };
        object.insert(column.to_owned(), json);
    }
    Ok(object)
}
