//! What PostgreSQL's errors mean to the books.

use super::super::sql::{SqlError, SqlErrorKind};
use crate::store::{Audit, StartError};
use std::error::Error as _;
use tokio_postgres::Error;
use tokio_postgres::error::Severity;

/// Why the books in PostgreSQL could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nobody answers, or not yet: later, perhaps.
    #[error("PostgreSQL at {place}: {why}")]
    Unreachable {
        /// Where.
        place: String,
        /// What was said instead.
        why: String,
    },
    /// It answers, and must not be used.
    #[error("PostgreSQL at {place} {fault}")]
    Unfit {
        /// Where.
        place: String,
        /// Why not.
        fault: Unfit,
    },
    /// The schema was written by a release that is newer by more than one.
    #[error(
        "PostgreSQL at {place} has schema {found}, this release knows {known} and runs on {} too: use a newer release",
        .known + 1
    )]
    Newer {
        /// Where.
        place: String,
        /// Its schema.
        found: i64,
        /// The newest that this release has.
        known: i64,
    },
    /// The books are not what was written.
    #[error("PostgreSQL at {place} was altered or damaged, and is not opened: {report}")]
    Altered {
        /// Where.
        place: String,
        /// What is wrong.
        report: Box<Audit>,
    },
    /// The books are not taken into service.
    #[error(transparent)]
    Start(StartError),
    /// A migration failed.
    #[error("the schema of PostgreSQL at {place} could not be brought up to date: {why}")]
    Migration {
        /// Where.
        place: String,
        /// What was said.
        why: String,
    },
}

/// Why a database must not hold the books.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A loss of power would take what was acknowledged.
    #[error("has {0}=off: what is acknowledged would not survive a loss of power")]
    Forgetful(&'static str),
    /// The server's settings do not stay as they are asked for.
    #[error("does not keep synchronous_commit=on: what is acknowledged would not survive a loss of power")]
    Asynchronous,
    /// Other transactions are not seen as they must be.
    #[error(
        "makes {0} of READ COMMITTED: what is read after a lock could be older than the lock (YugabyteDB: yb_enable_read_committed_isolation)"
    )]
    Isolation(String),
    /// Too old.
    #[error("is of version {0}: 14 is the oldest that is known to work")]
    Old(String),
    /// It follows another one.
    #[error("is a standby: name the primary, or all of them")]
    Standby,
    /// TLS cannot be set up.
    #[error("cannot be reached by TLS: {0}")]
    Tls(String),
}

/// A failure, and whether the connection is of no further use.
pub(super) struct Failure {
    pub(super) error: SqlError,
    pub(super) is_lost: bool,
}

impl Failure {
    /// The connection broke, or nobody answers.
    pub(super) fn lost(why: impl Into<String>) -> Self {
        Self { error: SqlError { kind: SqlErrorKind::Unavailable, why: why.into() }, is_lost: true }
    }

    /// A fault of ours.
    pub(super) fn other(why: impl Into<String>) -> Self {
        Self { error: SqlError { kind: SqlErrorKind::Other, why: why.into() }, is_lost: false }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Some(code) = error.code() else {
            // Parameters and columns that do not fit are told apart from a broken connection by what lies below.
            let is_ours = !error.is_closed()
                && error
                    .source()
                    .map_or(error.to_string().starts_with("expected"), |below| !below.is::<std::io::Error>());
            return if is_ours { Self::other(describe(&error)) } else { Self::lost(describe(&error)) };
        };
        // Another release has migrated: with a new connection, the statements are prepared anew.
        let is_outdated =
            error.as_db_error().and_then(|error| error.routine()) == Some("RevalidateCachedQuery");
        if is_outdated || code.code() == "26000" {
            let error = SqlError { kind: SqlErrorKind::Contended, why: describe(&error) };
            return Self { error, is_lost: true };
        }
        let is_fatal = matches!(severity(&error), Some(Severity::Fatal | Severity::Panic));
        let kind = if is_fatal { kind_of_fatal(code.code()) } else { kind_of(code.code()) };
        // Read only: this was the primary once. Another one is looked for.
        let is_lost = is_fatal || matches!(&code.code()[..2], "08") || code.code() == "25006";
        Self { error: SqlError { kind, why: describe(&error) }, is_lost }
    }
}

fn severity(error: &Error) -> Option<Severity> {
    error.as_db_error().and_then(|error| error.parsed_severity())
}

fn kind_of_fatal(code: &str) -> SqlErrorKind {
    match kind_of(code) {
        SqlErrorKind::Lasting => SqlErrorKind::Lasting,
        _ => SqlErrorKind::Unavailable,
    }
}

/// By SQLSTATE.
pub(super) fn kind_of(code: &str) -> SqlErrorKind {
    match code {
        // The outcome of the statement is not known (CockroachDB says so).
        "40003" => SqlErrorKind::Unavailable,
        // It took longer than we let it: that says nothing of the database, and something of the statement.
        "57014" => SqlErrorKind::Other,
        // A lock that is not to be had in time; a row that somebody else made at the same time.
        "55P03" | "23505" => SqlErrorKind::Contended,
        "25006" | "25P03" | "25P04" => SqlErrorKind::Unavailable,
        "XX001" | "XX002" => SqlErrorKind::Lasting,
        _ => match code.get(..2) {
            // A deadlock, a serialization failure.
            Some("40") => SqlErrorKind::Contended,
            // Connection, resources (disk full, too many connections), an operator (or a timeout), the system below.
            Some("08" | "53" | "57" | "58") => SqlErrorKind::Unavailable,
            _ => SqlErrorKind::Other,
        },
    }
}

/// For the log: without the detail, which holds values of rows.
pub(super) fn describe(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}: {} ({})", error.severity(), error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text.push_str(&format!(": {error}"));
        below = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_postgresql_has_one_meaning() {
        let cases = [
            (SqlErrorKind::Contended, ["40001", "40P01", "55P03", "23505"].as_slice()),
            (
                SqlErrorKind::Unavailable,
                &["08006", "53100", "53300", "57P01", "57P02", "57P03", "58030", "25006", "40003"],
            ),
            (SqlErrorKind::Lasting, &["XX001", "XX002"]),
            (SqlErrorKind::Other, &["42601", "23503", "22003", "XX000", "25P02", "57014", "", "4"]),
        ];
        for (kind, codes) in cases {
            for code in codes {
                assert_eq!(kind_of(code), kind, "{code}");
            }
        }
    }
}
