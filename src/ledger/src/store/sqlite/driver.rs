//! SQLite below the books.

use crate::store::sql::{Cell, Result, Row, Sql, SqlError, SqlErrorKind, Value};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql};

/// One connection to the file.
#[derive(Debug)]
pub(crate) struct Sqlite(pub(crate) Connection);

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase, ReadOnly,
            SystemIoFailure,
        };
        let kind = match error.sqlite_error_code() {
            Some(SystemIoFailure) if is_full(&error) => SqlErrorKind::Unavailable,
            Some(SystemIoFailure | DatabaseCorrupt | NotADatabase) => SqlErrorKind::Lasting,
            Some(DiskFull | CannotOpen | ReadOnly | DatabaseBusy | DatabaseLocked) => {
                SqlErrorKind::Unavailable
            }
            _ => SqlErrorKind::Other,
        };
        Self { kind, why: format!("SQLite: {error}") }
    }
}

/// A write that found no room is an I/O error to SQLite where the system reports it late; the file is as it was.
fn is_full(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE};
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(SQLITE_IOERR_WRITE | SQLITE_IOERR_SHMSIZE))
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match *self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(value),
            Self::Flag(value) => ValueRef::Integer(value.into()),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
            Self::Ints(_) | Self::Blobs(_) | Self::List(_) => {
                return Err(rusqlite::Error::ToSqlConversionFailure("SQLite has no lists".into()));
            }
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

impl Sqlite {
    fn prepare(&self, sql: &str, params: &[Value<'_>]) -> rusqlite::Result<CachedStatement<'_>> {
        let mut statement = self.0.prepare_cached(sql)?;
        for (index, value) in params.iter().enumerate() {
            debug_assert_eq!(
                statement.parameter_name(index + 1),
                Some(format!("${}", index + 1).as_str()),
                "parameters are named in order: {sql}"
            );
            statement.raw_bind_parameter(index + 1, value)?;
        }
        debug_assert_eq!(statement.parameter_count(), params.len(), "{sql}");
        Ok(statement)
    }
}

fn row(row: &rusqlite::Row<'_>, columns: usize) -> rusqlite::Result<Row> {
    let cell = |index| {
        Ok(match row.get_ref(index)? {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(value) => Cell::Int(value),
            // Nothing of ours is ever a float: shown as it is, it will not be taken for a number.
            ValueRef::Real(value) => Cell::Text(value.to_string()),
            ValueRef::Text(value) => Cell::Text(String::from_utf8_lossy(value).into_owned()),
            ValueRef::Blob(value) => Cell::Blob(value.to_vec()),
        })
    };
    (0..columns).map(cell).collect::<rusqlite::Result<_>>().map(Row)
}

impl Sql for Sqlite {
    fn query(&self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        let mut statement = self.prepare(sql, params)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        let mut all = Vec::new();
        while let Some(next) = rows.next()? {
            all.push(row(next, columns)?);
        }
        Ok(all)
    }

    fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<u64> {
        let mut statement = self.prepare(sql, params)?;
        Ok(statement.raw_execute()? as u64)
    }

    fn begin(&self) -> Result<()> {
        self.execute("BEGIN IMMEDIATE", &[]).map(drop)
    }

    fn begin_read(&self) -> Result<()> {
        self.execute("BEGIN", &[]).map(drop)
    }

    fn commit(&self) -> Result<()> {
        self.execute("COMMIT", &[]).map(drop)
    }

    fn rollback(&self) -> Result<()> {
        if self.0.is_autocommit() { Ok(()) } else { self.execute("ROLLBACK", &[]).map(drop) }
    }

    fn savepoint(&self) -> Result<()> {
        self.execute("SAVEPOINT change", &[]).map(drop)
    }

    fn release(&self, undo: bool) -> Result<()> {
        if undo {
            self.execute("ROLLBACK TO change", &[])?;
        }
        self.execute("RELEASE change", &[]).map(drop)
    }

    fn clock_ms(&self) -> Result<Option<i64>> {
        Ok(None)
    }

    fn is_shared(&self) -> bool {
        false
    }

    /// Folds the log into the file, so that it is whole by itself.
    fn close(&self) -> Result<()> {
        self.query("PRAGMA wal_checkpoint(TRUNCATE)", &[]).map(drop)
    }
}
