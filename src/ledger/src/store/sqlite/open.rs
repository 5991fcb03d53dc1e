//! Opening the file: one ledger at a time, on a schema that this ledger knows.

use super::driver::Sqlite;
use crate::store::books::CheckError;
use crate::store::place::{PlaceError, of_file};
use crate::store::sql::{self, Sql, SqlError, SqlErrorKind, Value};
use crate::store::{Audit, StartError};
use refinery::{Migration, Runner};
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every migration, in order. Forward only: a released one is never edited.
const MIGRATIONS: &[(&str, &str)] = &[
    ("V1__books", include_str!("../../../migrations/sqlite/V1__books.sql")),
    ("V2__limits", include_str!("../../../migrations/sqlite/V2__limits.sql")),
    ("V3__growth", include_str!("../../../migrations/sqlite/V3__growth.sql")),
    ("V4__overlays", include_str!("../../../migrations/sqlite/V4__overlays.sql")),
    ("V5__session_limits", include_str!("../../../migrations/sqlite/V5__session_limits.sql")),
];

/// The newest schema that this release knows.
pub(crate) const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// Pages of the log before it is folded into the file, 16 MiB: pages that many holds touch are then written once for more of
/// them, and a start still reads the log in milliseconds.
const LOG_PAGES: i64 = 4_096;

/// Statements that stay prepared: more than the ledger has.
const STATEMENTS: usize = 128;

/// Why the books could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another ledger has the file.
    #[error("another ledger has {} open: two never share one file", .0.display())]
    InUse(PathBuf),
    /// The file is not on a disk of this machine.
    #[error("{} is on {file_system}, and books are not kept on network file systems: use a disk, or PostgreSQL", .path.display())]
    Network {
        /// The file.
        path: PathBuf,
        /// What it is on.
        file_system: &'static str,
    },
    /// The file was written by a newer release.
    #[error("{} has schema {found}, this release knows {known}: use a newer release", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest that this release knows.
        known: i64,
    },
    /// The file cannot be made or locked.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A migration failed.
    #[error("the schema could not be brought up to date: {0}")]
    Migration(#[from] refinery::Error),
    /// SQLite says no.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file is not what was written.
    #[error("{} was altered or damaged, and is not opened: {report}", .path.display())]
    Altered {
        /// The file.
        path: PathBuf,
        /// Where.
        report: Box<Audit>,
    },
    /// The books cannot be read.
    #[error("{0}")]
    Books(String),
    /// They are not taken into service.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl From<SqlError> for OpenError {
    fn from(error: SqlError) -> Self {
        Self::Books(error.why)
    }
}

/// The opened file.
pub(super) struct Opened {
    pub(super) writer: Sqlite,
    pub(super) path: PathBuf,
    /// Held for life; the system frees it when the process ends, however it ends.
    pub(super) lock: File,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is made where it is missing.
    Create,
    /// It must be there.
    Existing,
}

/// Opens the file for its one ledger, and looks whether it is what was written.
pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let (writer, lock) = connect(path, Access::Create)?;
    let path = real_path(path)?;
    match crate::store::books::check_at_start(&writer) {
        Ok(_) => Ok(Opened { writer, path, lock }),
        Err(CheckError::Altered(report)) => Err(OpenError::Altered { path, report: Box::new(report) }),
        Err(CheckError::Database(error)) => Err(error.into()),
    }
}

/// Locks and opens the file, and brings its schema up to date.
pub(crate) fn connect(path: &Path, access: Access) -> Result<(Sqlite, File), OpenError> {
    if access == Access::Existing && !path.exists() {
        let error = std::io::ErrorKind::NotFound.into();
        return Err(OpenError::File { path: path.to_owned(), error });
    }
    let path = real_path(path)?;
    refuse_network(&path)?;
    let lock = lock(&path)?;
    let mut writer = Connection::open(&path)?;
    prepare(&writer)?;
    // FULL: the log is synced with every commit, so that what was acknowledged survives a loss of power.
    let mode: String = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenError::File { path, error: std::io::Error::other("cannot have a write-ahead log") });
    }
    writer.pragma_update(None, "synchronous", "FULL")?;
    writer.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    // What the log holds may be in the system's cache only, where a sync failed before the last end: folded into the file, it
    // is synced before anything is built on it.
    writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    check_end(&writer, &path)?;
    migrate(&mut writer, &path)?;
    let writer = Sqlite(writer);
    add_checksums(&writer)?;
    Ok((writer, lock))
}

/// SQLite finds that pages are missing, but takes the rest of the last one for zeros.
fn check_end(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let page: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let file = std::fs::metadata(path).map_err(|error| OpenError::File { path: path.to_owned(), error })?;
    if file.len().is_multiple_of(page.unsigned_abs()) {
        return Ok(());
    }
    let mut report = Audit::default();
    report.fault(format!("it has {} bytes, and ends in the middle of a page", file.len()));
    Err(OpenError::Altered { path: path.to_owned(), report: Box::new(report) })
}

/// A second connection that only reads, and sees only what has been committed.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Sqlite> {
    let reader = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    prepare(&reader)?;
    Ok(Sqlite(reader))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "cache_size", -32_000)?;
    // The references hold by construction, and checking them on every hold costs what the hold itself costs.
    connection.pragma_update(None, "foreign_keys", false)
}

/// The path with every link followed: the lock belongs to the file, not to one of its names.
fn real_path(path: &Path) -> Result<PathBuf, OpenError> {
    let failed = |error| OpenError::File { path: path.to_owned(), error };
    if path.exists() {
        return path.canonicalize().map_err(failed);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput.into()).map_err(failed)?;
    Ok(folder.canonicalize().map_err(failed)?.join(name))
}

/// A ledger that was just killed, or a process that is just being started by one that had the file open, has it for a moment still.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Before anything is written there.
fn refuse_network(path: &Path) -> Result<(), OpenError> {
    let folder = path.parent().unwrap_or(path);
    let failed = |error| OpenError::File { path: path.to_owned(), error };
    match super::file_system::network(folder).map_err(failed)? {
        Some(file_system) => Err(OpenError::Network { path: path.to_owned(), file_system }),
        None => Ok(()),
    }
}

/// A file of its own: closing any handle of the database itself would drop SQLite's own locks on it.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let failed = |error| OpenError::File { path: lock_path.clone(), error };
    let options = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let file = options.map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    Err(OpenError::InUse(path.to_owned()))
}

/// The lock of a file that may not be there yet.
pub(crate) fn lock_file(path: &Path) -> Result<File, OpenError> {
    lock(&real_path(path)?)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let migrations: Vec<Migration> =
        MIGRATIONS.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect::<Result<_, _>>()?;
    let known = migrations.iter().map(|migration| i64::from(migration.version())).max().unwrap_or_default();
    let found = schema_of(connection)?;
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    // In one transaction with the history: a crash in between would leave a file that never opens again.
    Runner::new(&migrations).set_grouped(true).run(connection)?;
    Ok(())
}

/// The newest migration that the file has seen; zero for a new file.
fn schema_of(connection: &Connection) -> rusqlite::Result<i64> {
    if !connection.table_exists(None, "refinery_schema_history")? {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM refinery_schema_history";
    connection.query_row(newest, [], |row| row.get(0))
}

/// Balances that were written before there were checksums get theirs, once: later, a missing one is a fault.
fn add_checksums(file: &Sqlite) -> Result<(), OpenError> {
    if !file.query("SELECT name FROM meta WHERE name = 'checksums'", &[])?.is_empty() {
        return Ok(());
    }
    file.begin()?;
    crate::store::books::add_checksums(file)?;
    file.execute("INSERT INTO meta (name, value) VALUES ('checksums', $1)", &[Value::Blob(&[1])])?;
    file.commit()?;
    Ok(())
}

/// Reads everything at one moment, and adds it up. A ledger may serve the file meanwhile: a reader of its log needs no lock.
///
/// # Errors
/// Where there is no file, or one of another release. What cannot be made sense of is damage, and stands in the report.
pub(crate) fn verify(path: &Path) -> Result<Audit, PlaceError> {
    // SQLite says only that it cannot.
    File::open(path).map_err(of_file(path))?;
    let place = || path.display().to_string();
    match read_all(path) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(found)) if found > SCHEMA => Err(PlaceError::Newer { place: place(), found, known: SCHEMA }),
        Ok(Err(found)) => Err(PlaceError::Older { place: place(), found, known: SCHEMA }),
        // It cannot be read now.
        Err(error) if error.kind == SqlErrorKind::Unavailable => Err(error.into()),
        Err(error) => {
            let mut report = Audit::default();
            report.fault(error.why);
            Ok(report)
        }
    }
}

/// The report, or the schema where it is another release's.
fn read_all(path: &Path) -> sql::Result<Result<Audit, i64>> {
    let file = open_reader(path)?;
    file.begin_read()?;
    let found = schema_of(&file.0)?;
    if found != SCHEMA {
        return Ok(Err(found));
    }
    let mut report = Audit::default();
    for line in &file.query("PRAGMA integrity_check", &[])? {
        let line = line.text(0)?;
        if line != "ok" {
            report.fault(format!("file: {line}"));
        }
    }
    if report.is_clean() { crate::store::books::verify(&file).map(Ok) } else { Ok(Ok(report)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_is_synced_and_readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&folder.path().join("new/ledger.db")).unwrap();
        let pragma = |name: &str| opened.writer.0.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        assert_eq!(pragma("synchronous"), Ok(2), "FULL");
        let mode: String =
            opened.writer.0.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        let reader = open_reader(&opened.path).unwrap();
        assert!(reader.0.execute("DELETE FROM meta", []).is_err());
    }
}
