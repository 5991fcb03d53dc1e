//! What the books need of a database: statements, rows, transactions. Everything above this trait is written once, for every
//! database; everything below it is a driver.
//!
//! Statements are written in what SQLite and PostgreSQL have in common. Parameters are `$1`, `$2`, ..., each first named in the
//! order of its number.

use std::fmt;

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Int(i64),
    Flag(bool),
    Text(&'a str),
    Blob(&'a [u8]),
    /// `= ANY ($1)`. PostgreSQL only.
    Ints(&'a [i64]),
    /// `= ANY ($1)`. PostgreSQL only.
    Blobs(&'a [&'a [u8]]),
    /// A column of many rows. PostgreSQL only.
    List(&'a [Value<'a>]),
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cell {
    Null,
    /// Flags, too, in SQLite.
    Int(i64),
    Flag(bool),
    Text(String),
    Blob(Vec<u8>),
}

/// A row, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row(pub(crate) Vec<Cell>);

/// Why a statement failed.
#[derive(Debug)]
pub(crate) struct SqlError {
    pub(crate) kind: SqlErrorKind,
    /// For the log.
    pub(crate) why: String,
}

/// What a failure means for what was to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SqlErrorKind {
    /// Another transaction was in the way (a deadlock, a serialization failure, a row that was made at the same time): the
    /// same transaction may succeed when it is run again.
    Contended,
    /// The database cannot be reached, or refuses for now, such as for a full disk: later, perhaps.
    Unavailable,
    /// What is on the disk is known only after a restart: an I/O error, a damaged file.
    Lasting,
    /// Anything else: a fault of ours.
    Other,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// The result of a statement.
pub(crate) type Result<T> = std::result::Result<T, SqlError>;

/// The clock of a database that several ledgers use, in Unix milliseconds. Rounded down: a window must not end early.
pub(crate) const CLOCK_MS: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// One connection. Calls block the thread that they are made on, which is never one of the runtime's.
pub(crate) trait Sql {
    /// Runs a statement, and gives its rows.
    fn query(&self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>>;

    /// Runs a statement, and gives how many rows it changed.
    fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<u64>;

    /// Runs one statement for each list of parameters: where the database is far away, all of them at once.
    fn execute_each(&self, sql: &str, each: &[Vec<Value<'_>>]) -> Result<()> {
        each.iter().try_for_each(|params| self.execute(sql, params).map(drop))
    }

    /// Runs several statements, and gives the rows of each: where the database is far away, all of them at once. Each sees what
    /// the ones before it left.
    fn query_all(&self, statements: &[(&str, &[Value<'_>])]) -> Result<Vec<Vec<Row>>> {
        statements.iter().map(|(sql, params)| self.query(sql, params)).collect()
    }

    /// Begins a transaction that will write. Where the database is far away, it begins with the first statement.
    fn begin(&self) -> Result<()>;

    /// Begins a transaction that only reads, and sees one moment.
    fn begin_read(&self) -> Result<()>;

    /// Ends the transaction; once this returns, it is durable.
    fn commit(&self) -> Result<()>;

    /// Runs the statements and commits: where the database is far away, all of it is sent at once, and nothing is committed where
    /// one of them fails.
    fn commit_after(&self, statements: &[(&str, &[Value<'_>])]) -> Result<()> {
        for (sql, params) in statements {
            self.execute(sql, params)?;
        }
        self.commit()
    }

    /// Undoes the transaction, if one is open.
    fn rollback(&self) -> Result<()>;

    /// Marks a point of the transaction.
    fn savepoint(&self) -> Result<()>;

    /// Undoes what was done since the savepoint where `undo` says so, and forgets the savepoint.
    fn release(&self, undo: bool) -> Result<()>;

    /// The database's own clock, in Unix milliseconds; `None`: it has none, and the machine's counts.
    fn clock_ms(&self) -> Result<Option<i64>>;

    /// Ends the use of the connection: what can be tidied up is.
    fn close(&self) -> Result<()> {
        Ok(())
    }

    /// Whether others write to the same books: then nothing may be remembered from one transaction to the next, and rows are
    /// locked before they are read.
    fn is_shared(&self) -> bool;
}

impl Row {
    /// The cells from `index` on must be there: a statement names its columns.
    fn cell(&self, index: usize) -> &Cell {
        self.0.get(index).unwrap_or(&Cell::Null)
    }

    pub(crate) fn is_null(&self, index: usize) -> bool {
        *self.cell(index) == Cell::Null
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64> {
        match self.cell(index) {
            Cell::Int(value) => Ok(*value),
            other => Err(unexpected("a number", index, other)),
        }
    }

    pub(crate) fn flag(&self, index: usize) -> Result<bool> {
        match self.cell(index) {
            // Another number would read as the same flag, and no checksum would tell the two apart.
            Cell::Int(0) => Ok(false),
            Cell::Int(1) => Ok(true),
            Cell::Flag(value) => Ok(*value),
            other => Err(unexpected("a flag", index, other)),
        }
    }

    pub(crate) fn text(&self, index: usize) -> Result<&str> {
        match self.cell(index) {
            Cell::Text(value) => Ok(value),
            other => Err(unexpected("a text", index, other)),
        }
    }

    pub(crate) fn blob(&self, index: usize) -> Result<&[u8]> {
        match self.cell(index) {
            Cell::Blob(value) => Ok(value),
            other => Err(unexpected("bytes", index, other)),
        }
    }

    pub(crate) fn maybe_int(&self, index: usize) -> Result<Option<i64>> {
        if self.is_null(index) { Ok(None) } else { self.int(index).map(Some) }
    }

    pub(crate) fn maybe_text(&self, index: usize) -> Result<Option<&str>> {
        if self.is_null(index) { Ok(None) } else { self.text(index).map(Some) }
    }

    pub(crate) fn maybe_string(&self, index: usize) -> Result<Option<String>> {
        Ok(self.maybe_text(index)?.map(str::to_owned))
    }

    pub(crate) fn maybe_blob(&self, index: usize) -> Result<Option<&[u8]>> {
        if self.is_null(index) { Ok(None) } else { self.blob(index).map(Some) }
    }
}

fn unexpected(wanted: &str, index: usize, found: &Cell) -> SqlError {
    SqlError {
        kind: SqlErrorKind::Lasting,
        why: format!("column {index} holds {found:?} instead of {wanted}"),
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Blob(value)
    }
}

impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        Self::Blob(value)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Parameters, each converted.
macro_rules! values {
    ($($value:expr),* $(,)?) => { [$($crate::store::sql::Value::from($value)),*] };
}
pub(crate) use values;
