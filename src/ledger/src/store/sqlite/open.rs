//! Opening the file: one ledger at a time, on a schema that this ledger knows.

use refinery::{Migration, Runner};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tollgate_domain::price::PriceBook;

/// Every migration, in order. Forward only: a released one is never edited.
const MIGRATIONS: &[(&str, &str)] =
    &[("V1__books", include_str!("../../../migrations/sqlite/V1__books.sql"))];

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
}

/// The opened file.
pub(super) struct Opened {
    pub(super) writer: Connection,
    pub(super) path: PathBuf,
    /// Held for life; the system frees it when the process ends, however it ends.
    pub(super) lock: File,
    pub(super) epoch: Epoch,
}

/// Names this history of the books: versions of policies from before a restore never equal those after it.
pub(super) type Epoch = [u8; 8];

pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let path = real_path(path)?;
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
    migrate(&mut writer, &path)?;
    let epoch = epoch(&writer)?;
    Ok(Opened { writer, path, lock, epoch })
}

/// A second connection that only reads, and sees only what has been committed.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let reader = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    prepare(&reader)?;
    Ok(reader)
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

/// A file of its own: closing any handle of the database itself would drop SQLite's own locks on it.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let failed = |error| OpenError::File { path: lock_path.clone(), error };
    let options = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let file = options.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let migrations: Vec<Migration> =
        MIGRATIONS.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect::<Result<_, _>>()?;
    let known = migrations.iter().map(|migration| i64::from(migration.version())).max().unwrap_or_default();
    let found = schema_of(connection)?;
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    Runner::new(&migrations).run(connection)?;
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

fn epoch(connection: &Connection) -> Result<Epoch, OpenError> {
    let mut fresh = Epoch::default();
    getrandom::fill(&mut fresh).map_err(|error| OpenError::File {
        path: PathBuf::from("the random source of the system"),
        error: std::io::Error::other(error.to_string()),
    })?;
    connection.execute("INSERT OR IGNORE INTO meta (name, value) VALUES ('epoch', ?1)", [fresh])?;
    Ok(connection.query_row("SELECT value FROM meta WHERE name = 'epoch'", [], |row| row.get(0))?)
}

/// Keeps the text of the present book, and reads those of before.
pub(super) fn former_books(
    connection: &Connection,
    present: &PriceBook,
) -> rusqlite::Result<BTreeMap<u64, PriceBook>> {
    let revision = present.revision().cast_signed();
    connection.execute(
        "INSERT OR IGNORE INTO price_book (revision, text) VALUES (?1, ?2)",
        rusqlite::params![revision, present.source()],
    )?;
    let mut statement = connection.prepare("SELECT text FROM price_book WHERE revision <> ?1")?;
    let texts = statement.query_map([revision], |row| row.get::<_, String>(0))?;
    let mut books = BTreeMap::new();
    for text in texts {
        match PriceBook::parse(&text?) {
            Ok(book) => {
                books.insert(book.revision(), book);
            }
            Err(error) => {
                tracing::warn!(%error, "a former price book cannot be read: its holds are settled by the present one")
            }
        }
    }
    Ok(books)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_is_synced_and_readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&folder.path().join("new/ledger.db")).unwrap();
        let pragma = |name: &str| opened.writer.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        assert_eq!(pragma("synchronous"), Ok(2), "FULL");
        let mode: String = opened.writer.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        let reader = open_reader(&opened.path).unwrap();
        assert!(reader.execute("DELETE FROM meta", []).is_err());
    }
}
