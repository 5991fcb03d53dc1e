//! One file for each verb.

pub(crate) mod backup;
pub(crate) mod doors;
pub(crate) mod import;
pub(crate) mod migrate;
pub(crate) mod place;
pub(crate) mod restore;
pub(crate) mod retire;
pub(crate) mod serve;
pub(crate) mod verify;

use clap::{Parser, Subcommand};
use std::fmt::Display;
use std::process::ExitCode;
use tollgate_domain::time::Timestamp;
use tollgate_ledger::store::{Copied, PlaceError};

/// Holds the money of Tollgate.
#[derive(Parser)]
#[command(name = "tollgate-ledger", version)]
pub(crate) struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serves the filter and the admin API until SIGTERM.
    Serve(Box<serve::Serve>),
    /// Brings the schema up to date, and says which version it is.
    Migrate(migrate::Migrate),
    /// Replays the journal, and compares every balance with it; a ledger may serve meanwhile.
    ///
    /// Ends with 0 where all is as it was written, with 1 where something is not, with 2 where the books cannot be read.
    Verify(verify::Verify),
    /// Copies the books at one moment into a new SQLite file, and verifies it; a ledger may serve meanwhile.
    Backup(backup::Backup),
    /// Gives a backup back, into a place without books.
    ///
    /// `serve` takes them into service only with --accept-gap: what happened since the backup is not in them.
    Restore(restore::Restore),
    /// Moves the books into another database, and verifies them there. No ledger may serve meanwhile.
    Import(import::Import),
    /// Exports requests that are long past, then drops them. Balances and sums stay.
    Retire(retire::Retire),
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Command {
    pub(crate) async fn run(self) -> ExitCode {
        match self.verb {
            Verb::Serve(options) => serve::run(*options).await,
            Verb::Migrate(options) => done(migrate::run(options).await),
            Verb::Verify(options) => verify::run(options).await,
            Verb::Backup(options) => done(backup::run(options).await),
            Verb::Restore(options) => done(restore::run(options).await),
            Verb::Import(options) => done(import::run(options).await),
            Verb::Retire(options) => done(retire::run(options).await),
        }
    }
}

/// What a verb says when it is through.
fn done(outcome: Result<impl Display, Failure>) -> ExitCode {
    match outcome {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn complain(error: &dyn Display) {
    eprintln!("error: {error}");
}

/// The stores' own calls block: not on a thread of the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PlaceError> + Send + 'static,
) -> Result<T, Failure> {
    Ok(tokio::task::spawn_blocking(work).await??)
}

fn shown(at: Timestamp) -> String {
    at.to_rfc3339().unwrap_or_else(|| format!("{} ms", at.unix_ms()))
}

/// The rows of each table, where they were counted, and what the check of the copy saw.
fn rows_and_report(copied: &Copied) -> String {
    let mut lines: Vec<String> =
        copied.rows.iter().map(|(table, rows)| format!("{table}: {rows} rows")).collect();
    lines.push(copied.report.to_string());
    lines.join("\n")
}
