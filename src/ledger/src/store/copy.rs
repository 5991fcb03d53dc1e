//! Copies of the books: from one database into another, row by row, the same code in every direction.
//!
//! All of it or nothing: what was copied is compared with what it was copied from, and verified, before it counts.

use super::books::{self, Epoch};
use super::place::{Place, PlaceError, Writer, now_ms, of_file, open_file};
use super::sql::{Cell, Result as SqlResult, Row, Sql, Value, values};
use super::sqlite::{Access, lock_file};
use super::tables::{TABLES, Table, row_digest, row_values};
use super::{Audit, sqlite};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use tollgate_domain::time::Timestamp;

/// Rows that are read and written at once.
const PAGE: i64 = 1_000;

/// A copy that was made and found to be good.
#[derive(Debug)]
pub struct Copied {
    /// The rows of each table; empty where whole pages were copied.
    pub rows: Vec<(&'static str, u64)>,
    /// What the check of the copy saw.
    pub report: Audit,
}

/// Books that were given back.
#[derive(Debug)]
pub struct Restored {
    /// The copy.
    pub copied: Copied,
    /// From the latest line of the journal until now: what happened in between is not in the books.
    pub gap: (Timestamp, Timestamp),
    /// Where the file is that was there before.
    pub moved: Option<PathBuf>,
}

/// Copies the books at one moment into a new file, while a ledger may serve them.
///
/// The file appears under its name only when it is whole, verified and synced; what fails before is left as `FILE.part`.
///
/// # Errors
/// [`PlaceError`].
pub fn backup(from: &Place, to: &Path) -> Result<Copied, PlaceError> {
    if to.exists() {
        return Err(PlaceError::HasBooks(to.display().to_string()));
    }
    let part = beside(to, ".part");
    remove(&part)?;
    let copied = match from {
        Place::Sqlite(path) => {
            drop(from.reader()?);
            copy_pages(path, &part)?;
            Vec::new()
        }
        Place::Postgres(_) => {
            let source = from.reader()?;
            from.check_exact(&*source)?;
            let Writer { db, .. } = Place::Sqlite(part.clone()).writer(Access::Create)?;
            let copied = copy_all(&*source, &*db, note_missing)?.rows;
            drop(db);
            copied
        }
    };
    let report = make_whole(&part)?;
    std::fs::rename(&part, to).map_err(of_file(to))?;
    sync_folder(to)?;
    Ok(Copied { rows: copied, report })
}

/// Gives a backup back, into a place without books. A ledger serves them only when it is told to go on without what happened
/// since, and no policy of before counts any more.
///
/// # Errors
/// [`PlaceError`].
pub fn restore(from: &Path, to: &Place, replace: bool) -> Result<Restored, PlaceError> {
    match to {
        Place::Sqlite(path) => restore_file(from, path, replace),
        Place::Postgres(_) if replace => Err(PlaceError::NotReplaced(to.to_string())),
        Place::Postgres(_) => {
            let place = Place::Sqlite(from.to_owned());
            let source = place.reader()?;
            let target = to.writer(Access::Create)?;
            to.check_exact(&*target.db)?;
            let mut gap = None;
            let copied = copy_all(&*source, &*target.db, |db| {
                gap = Some(mark(db)?);
                Ok(())
            });
            let copied = copied.map_err(|error| named(error, to))?;
            let gap = gap.unwrap_or((Timestamp::new(0), Timestamp::new(0)));
            Ok(Restored { copied, gap, moved: None })
        }
    }
}

fn restore_file(from: &Path, to: &Path, replace: bool) -> Result<Restored, PlaceError> {
    let _lock = lock_file(to)?;
    let has_books = std::fs::metadata(to).is_ok_and(|file| file.len() > 0);
    if has_books && !replace {
        return Err(PlaceError::HasBooks(to.display().to_string()));
    }
    let part = beside(to, ".part");
    remove(&part)?;
    copy_pages(from, &part)?;
    let (db, lock) = sqlite::connect(&part, Access::Existing)?;
    db.begin()?;
    let gap = mark(&db)?;
    db.commit()?;
    drop((db, lock));
    let report = make_whole(&part)?;
    let moved = if has_books { Some(move_aside(to, gap.1)?) } else { None };
    // A log without its file belongs to no books.
    remove(to)?;
    std::fs::rename(&part, to).map_err(of_file(to))?;
    sync_folder(to)?;
    Ok(Restored { copied: Copied { rows: Vec::new(), report }, gap, moved })
}

/// Moves books into a place without any. Both must be at rest: what a ledger writes meanwhile would not be in them.
///
/// # Errors
/// [`PlaceError`]; then nothing was written.
pub fn import(from: &Place, to: &Place) -> Result<Copied, PlaceError> {
    // With the lock of a file: nobody serves it meanwhile.
    let source = match from {
        Place::Sqlite(_) => from.writer(Access::Existing)?,
        Place::Postgres(_) => Writer::unlocked(from.reader()?),
    };
    from.check_exact(&*source.db)?;
    let target = to.writer(Access::Create)?;
    to.check_exact(&*target.db)?;
    let copied = copy_all(&*source.db, &*target.db, note_missing).map_err(|error| named(error, to))?;
    target.db.close()?;
    Ok(copied)
}

fn named(error: PlaceError, place: &Place) -> PlaceError {
    match error {
        PlaceError::HasBooks(_) => PlaceError::HasBooks(place.to_string()),
        PlaceError::Faults { report, .. } => PlaceError::Faults { place: place.to_string(), report },
        other => other,
    }
}

/// Everything at one moment, in one transaction; `finish` adds what only the copy has.
fn copy_all(
    from: &dyn Sql,
    to: &dyn Sql,
    finish: impl FnOnce(&dyn Sql) -> Result<(), PlaceError>,
) -> Result<Copied, PlaceError> {
    from.begin_read()?;
    let outcome = to.begin().map_err(PlaceError::from).and_then(|()| fill(from, to, finish));
    let outcome = match outcome {
        Ok(copied) => to.commit().map(|()| copied).map_err(PlaceError::from),
        Err(error) => {
            // The first failure is the one to tell.
            let _ = to.rollback();
            Err(error)
        }
    };
    from.rollback()?;
    outcome
}

fn fill(
    from: &dyn Sql,
    to: &dyn Sql,
    finish: impl FnOnce(&dyn Sql) -> Result<(), PlaceError>,
) -> Result<Copied, PlaceError> {
    if has_books(to)? {
        return Err(PlaceError::HasBooks("the target".into()));
    }
    // What opening it left there counts only where the source says nothing.
    let own = to.query("SELECT name, value FROM meta", &[])?;
    to.execute("DELETE FROM meta", &[])?;
    let mut sums = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        sums.push(copy_table(from, to, table)?);
        if to.is_shared() {
            go_beyond(to, table)?;
        }
    }
    for (table, sum) in TABLES.iter().zip(&sums) {
        if sum_of(to, table)? != *sum {
            return Err(PlaceError::Differs(table.name));
        }
    }
    for row in &own {
        to.execute(
            "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &values![row.text(0)?, row.blob(1)?],
        )?;
    }
    finish(to)?;
    let report = books::verify(to)?;
    if !report.is_clean() {
        return Err(PlaceError::Faults { place: "the copy".into(), report: Box::new(report) });
    }
    let rows = TABLES.iter().zip(sums).map(|(table, sum)| (table.name, sum.rows)).collect();
    Ok(Copied { rows, report })
}

/// Whether a ledger ever served it: each makes an epoch first.
fn has_books(db: &dyn Sql) -> SqlResult<bool> {
    for table in TABLES {
        let any = match table.name {
            "meta" => "SELECT 1 FROM meta WHERE name = 'epoch'".to_owned(),
            name => format!("SELECT 1 FROM {name} LIMIT 1"),
        };
        if !db.query(&any, &[])?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many rows there are, and the sum of their digests: the same in any order, and other with any other row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TableSum {
    rows: u64,
    digest: u128,
}

impl TableSum {
    fn add(&mut self, table: &Table, row: &Row) -> SqlResult<()> {
        self.rows += 1;
        self.digest = self.digest.wrapping_add(row_digest(table, row)?);
        Ok(())
    }
}

/// Reads a table in pages, in the order of its key.
fn each_page(
    db: &dyn Sql,
    table: &Table,
    mut look: impl FnMut(&[Row]) -> Result<(), PlaceError>,
) -> Result<(), PlaceError> {
    let key = table.columns.get(..table.key).unwrap_or_default().join(", ");
    let places: Vec<String> = (1..=table.key).map(|place| format!("${place}")).collect();
    let first = table.select(&format!("ORDER BY {key} LIMIT {PAGE}"));
    let next = table.select(&format!("WHERE ({key}) > ({}) ORDER BY {key} LIMIT {PAGE}", places.join(", ")));
    let mut rows = db.query(&first, &[])?;
    while let Some(last) = rows.last() {
        look(&rows)?;
        let mut after = row_values(table, last)?;
        after.truncate(table.key);
        let more = db.query(&next, &after)?;
        rows = more;
    }
    Ok(())
}

fn sum_of(db: &dyn Sql, table: &Table) -> Result<TableSum, PlaceError> {
    let mut sum = TableSum::default();
    each_page(db, table, |rows| Ok(rows.iter().try_for_each(|row| sum.add(table, row))?))?;
    Ok(sum)
}

fn copy_table(from: &dyn Sql, to: &dyn Sql, table: &Table) -> Result<TableSum, PlaceError> {
    let places: Vec<String> = (1..=table.columns.len()).map(|place| format!("${place}")).collect();
    let insert =
        format!("INSERT INTO {} ({}) VALUES ({})", table.name, table.columns.join(", "), places.join(", "));
    let late: Vec<usize> =
        (0..table.columns.len()).filter(|index| table.late.contains(&table.columns[*index])).collect();
    let mut sum = TableSum::default();
    let mut references: Vec<Vec<Cell>> = Vec::new();
    each_page(from, table, |rows| {
        let mut each = Vec::with_capacity(rows.len());
        for row in rows {
            sum.add(table, row)?;
            let mut values = row_values(table, row)?;
            let cells = || late.iter().filter_map(|index| row.0.get(*index));
            if cells().any(|cell| *cell != Cell::Null) {
                references.push(cells().chain(row.0.first()).cloned().collect());
                late.iter().for_each(|index| values[*index] = Value::Null);
            }
            each.push(values);
        }
        Ok(to.execute_each(&insert, &each)?)
    })?;
    let settings: Vec<String> =
        table.late.iter().zip(1..).map(|(column, place)| format!("{column} = ${place}")).collect();
    let update = format!(
        "UPDATE {} SET {} WHERE {} = ${}",
        table.name,
        settings.join(", "),
        table.columns[0],
        late.len() + 1
    );
    for page in references.chunks(PAGE as usize) {
        let as_value =
            |cell: &Cell| if let Cell::Int(value) = cell { Value::Int(*value) } else { Value::Null };
        let each: Vec<Vec<Value<'_>>> =
            page.iter().map(|cells| cells.iter().map(as_value).collect()).collect();
        to.execute_each(&update, &each)?;
    }
    Ok(sum)
}

/// PostgreSQL's counters know nothing of rows that came with their numbers. `setval` is what every database of its protocol has.
fn go_beyond(db: &dyn Sql, table: &Table) -> SqlResult<()> {
    let sequence = match table.name {
        "hold" => "'hold_number'".to_owned(),
        "entry" => "'entry_number'".to_owned(),
        name if table.counts() => format!("pg_get_serial_sequence('{name}', '{name}')"),
        _ => return Ok(()),
    };
    let last = db.query(&format!("SELECT max({0}) FROM {0}", table.name), &[])?;
    if let Some(last) = last.first().map(|row| row.maybe_int(0)).transpose()?.flatten() {
        db.query(&format!("SELECT setval(CAST({sequence} AS regclass), $1)"), &values![last])?;
    }
    Ok(())
}

/// A file misses no number of its journal, except those that it never had.
fn note_missing(db: &dyn Sql) -> Result<(), PlaceError> {
    if db.is_shared() {
        return Ok(());
    }
    let rows = db.query(
        "SELECT max(entry) - 1 FROM entry AS e WHERE entry > (SELECT min(entry) FROM entry)
         AND NOT EXISTS (SELECT 1 FROM entry AS before WHERE before.entry = e.entry - 1)",
        &[],
    )?;
    match rows.first().map(|row| row.maybe_int(0)).transpose()?.flatten() {
        Some(last) => Ok(books::allow_missing(db, last)?),
        None => Ok(()),
    }
}

/// Makes the books ones that were given back: a new epoch, and the gap that somebody must accept.
fn mark(db: &dyn Sql) -> Result<(Timestamp, Timestamp), PlaceError> {
    let mut epoch = Epoch::default();
    getrandom::fill(&mut epoch).map_err(|error| PlaceError::Database(format!("no random bytes: {error}")))?;
    let now = now_ms(db)?;
    // Without a line, nothing was ever spent.
    let from = books::latest_moment(db)?.map_or(now, Timestamp::unix_ms);
    let gap = [from.to_be_bytes(), now.to_be_bytes()].concat();
    for (name, value) in [("epoch", epoch.as_slice()), ("gap", &gap)] {
        books::set_meta(db, name, value)?;
    }
    Ok((Timestamp::new(from), Timestamp::new(now)))
}

/// All pages in one step: a reader of the log sees one moment, and holds up nobody.
fn copy_pages(from: &Path, to: &Path) -> Result<(), PlaceError> {
    let source = open_file(from)?;
    let mut target = Connection::open(to)?;
    let step = Backup::new(&source.0, &mut target)?.step(-1)?;
    match step {
        StepResult::Done => Ok(()),
        other => Err(PlaceError::Database(format!("SQLite: {} is {other:?}", from.display()))),
    }
}

/// Puts everything into the one file, checks it and syncs it.
fn make_whole(path: &Path) -> Result<Audit, PlaceError> {
    let file = Connection::open(path)?;
    let _: String = file.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))?;
    file.close().map_err(|(_, error)| error)?;
    let report = Place::Sqlite(path.to_owned()).verify()?;
    if !report.is_clean() {
        return Err(PlaceError::Faults { place: path.display().to_string(), report: Box::new(report) });
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(of_file(path))?;
    for suffix in ["-wal", "-shm", ".lock"] {
        remove_one(&beside(path, suffix))?;
    }
    Ok(report)
}

/// The file and its log under another name, so that they stay books. The file goes first: whatever happens in between, a
/// ledger finds no books rather than half of them.
fn move_aside(path: &Path, now: Timestamp) -> Result<PathBuf, PlaceError> {
    let aside = beside(path, &format!(".replaced-{}", now.unix_ms()));
    for suffix in ["", "-wal"] {
        let (from, to) = (beside(path, suffix), beside(&aside, suffix));
        if from.exists() {
            std::fs::rename(&from, to).map_err(of_file(&from))?;
        }
    }
    sync_folder(path)?;
    Ok(aside)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// What an earlier try left.
fn remove(path: &Path) -> Result<(), PlaceError> {
    ["", "-wal", "-shm", "-journal"].iter().try_for_each(|suffix| remove_one(&beside(path, suffix)))
}

fn remove_one(path: &Path) -> Result<(), PlaceError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(of_file(path)(error)),
        _ => Ok(()),
    }
}

/// A name is as durable as its folder.
pub(super) fn sync_folder(path: &Path) -> Result<(), PlaceError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(of_file(folder))
}
