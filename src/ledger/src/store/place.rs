//! Where books are, for everything that is done to them besides serving: a file of SQLite or a database of PostgreSQL.
//!
//! Everything here blocks, and needs a runtime around it (`tokio::task::spawn_blocking`).

use super::postgres::{self, Config};
use super::sql::{Sql, SqlError, SqlErrorKind};
use super::sqlite::{self, Access};
use super::{Audit, books};
use crate::clock::Clock;
use crate::store::postgres::{Patience, Postgres};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use tokio::runtime::Handle;

/// Where books are.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file.
    Sqlite(PathBuf),
    /// A database.
    Postgres(Box<Config>),
}

/// Without the password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(config) => write!(f, "PostgreSQL at {config}"),
        }
    }
}

/// Why something was not done to books.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The file cannot be opened.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// The database cannot be opened.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// A statement failed.
    #[error("{0}")]
    Database(String),
    /// Written by a newer release.
    #[error("{place} has schema {found}, this release knows {known}: use a newer release")]
    Newer {
        /// Where.
        place: String,
        /// Its schema.
        found: i64,
        /// The newest that this release knows.
        known: i64,
    },
    /// Written by an older release.
    #[error(
        "{place} has schema {found}, this release needs {known}: run `tollgate-ledger migrate` on it first"
    )]
    Older {
        /// Where.
        place: String,
        /// Its schema.
        found: i64,
        /// The newest that this release knows.
        known: i64,
    },
    /// Nothing is overwritten.
    #[error("{0} has books already, and they are not overwritten")]
    HasBooks(String),
    /// A database cannot be moved aside.
    #[error("{0}: --replace moves a file aside, and a database cannot be moved: name an empty database")]
    NotReplaced(String),
    /// The copy is not what it was copied from.
    #[error("table {0} was not copied as it is: nothing was written")]
    Differs(&'static str),
    /// The books are damaged.
    #[error("{place} is not as it was written:\n{report}")]
    Faults {
        /// Where.
        place: String,
        /// What is wrong.
        report: Box<Audit>,
    },
    /// The system says no.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What it says.
        error: std::io::Error,
    },
    /// Requests that are too young, or not yet summed.
    #[error("{0}")]
    NotRetired(String),
}

impl From<SqlError> for PlaceError {
    fn from(error: SqlError) -> Self {
        Self::Database(error.why)
    }
}

impl From<rusqlite::Error> for PlaceError {
    fn from(error: rusqlite::Error) -> Self {
        SqlError::from(error).into()
    }
}

/// Names the file that a call of the system was about.
pub(crate) fn of_file(path: &Path) -> impl FnOnce(std::io::Error) -> PlaceError {
    let path = path.to_owned();
    move |error| PlaceError::File { path, error }
}

/// A connection that may write; the lock of a file is held as long as this is.
pub(crate) struct Writer {
    pub(crate) db: Box<dyn Sql>,
    _lock: Option<File>,
}

impl Writer {
    pub(crate) fn unlocked(db: Box<dyn Sql>) -> Self {
        Self { db, _lock: None }
    }
}

impl Place {
    /// Brings the schema up to date, and gives its version. What is not there yet is made.
    ///
    /// # Errors
    /// [`PlaceError`]; among others, a file that a ledger serves.
    pub fn migrate(&self) -> Result<i64, PlaceError> {
        let db = self.writer(Access::Create)?.db;
        Ok(db_schema(&*db)?)
    }

    /// Replays the journal, and compares everything that must follow from it, at one moment. A ledger may serve meanwhile.
    ///
    /// # Errors
    /// [`PlaceError`] where there are no books to be read; damage is no error, but in the report.
    pub fn verify(&self) -> Result<Audit, PlaceError> {
        match self {
            Self::Sqlite(path) => sqlite::verify(path),
            Self::Postgres(_) => {
                let db = self.reader()?;
                db.begin_read()?;
                let report = books::verify(&*db).or_else(damage)?;
                db.rollback()?;
                Ok(report)
            }
        }
    }

    /// A connection that does not write, to books of this release.
    pub(crate) fn reader(&self) -> Result<Box<dyn Sql>, PlaceError> {
        let (db, known, newest): (Box<dyn Sql>, _, _) = match self {
            Self::Sqlite(path) => (Box::new(open_file(path)?), sqlite::SCHEMA, sqlite::SCHEMA),
            // A release reads the next one's schema, too.
            Self::Postgres(config) => {
                let db = Postgres::open(config, &Handle::current(), Patience::Patient)?;
                (Box::new(db), postgres::SCHEMA, postgres::SCHEMA + 1)
            }
        };
        self.check_schema(db_schema(&*db)?, known, newest)?;
        Ok(db)
    }

    /// A connection that writes, on the newest schema.
    pub(crate) fn writer(&self, access: Access) -> Result<Writer, PlaceError> {
        match self {
            Self::Sqlite(path) => {
                let (db, lock) = sqlite::connect(path, access)?;
                Ok(Writer { db: Box::new(db), _lock: Some(lock) })
            }
            Self::Postgres(config) => {
                postgres::migrate(config, &Handle::current(), postgres::MIGRATIONS)?;
                let db = Postgres::open(config, &Handle::current(), Patience::Patient)?;
                Ok(Writer { db: Box::new(db), _lock: None })
            }
        }
    }

    /// Whoever copies must know every column: not one schema more.
    pub(crate) fn check_exact(&self, db: &dyn Sql) -> Result<(), PlaceError> {
        let known = match self {
            Self::Sqlite(_) => sqlite::SCHEMA,
            Self::Postgres(_) => postgres::SCHEMA,
        };
        self.check_schema(db_schema(db)?, known, known)
    }

    fn check_schema(&self, found: i64, known: i64, newest: i64) -> Result<(), PlaceError> {
        let place = self.to_string();
        if found > newest {
            return Err(PlaceError::Newer { place, found, known });
        }
        if found < known {
            return Err(PlaceError::Older { place, found, known });
        }
        Ok(())
    }
}

/// The file as a reader sees it, whatever its schema.
pub(crate) fn open_file(path: &Path) -> Result<sqlite::Sqlite, PlaceError> {
    // SQLite says only that it cannot.
    File::open(path).map_err(of_file(path))?;
    Ok(sqlite::open_reader(path)?)
}

/// The newest migration that the books have seen; zero for none.
fn db_schema(db: &dyn Sql) -> Result<i64, SqlError> {
    let table = if db.is_shared() {
        "SELECT 1 FROM information_schema.tables
         WHERE table_name = 'refinery_schema_history' AND table_schema = current_schema()"
    } else {
        "SELECT 1 FROM sqlite_master WHERE name = 'refinery_schema_history'"
    };
    if db.query(table, &[])?.is_empty() {
        return Ok(0);
    }
    let rows = db.query("SELECT coalesce(max(version), 0) FROM refinery_schema_history", &[])?;
    rows.first().map_or(Ok(0), |row| row.int(0))
}

/// What cannot be read any more is a fault of the books; what cannot be read now is none.
fn damage(error: SqlError) -> Result<Audit, SqlError> {
    if error.kind != SqlErrorKind::Lasting {
        return Err(error);
    }
    let mut report = Audit::default();
    report.fault(error.why);
    Ok(report)
}

/// The database's clock, or the machine's.
pub(crate) fn now_ms(db: &dyn Sql) -> Result<i64, SqlError> {
    Ok(db.clock_ms()?.unwrap_or_else(|| Clock::system().now().unix_ms()))
}
