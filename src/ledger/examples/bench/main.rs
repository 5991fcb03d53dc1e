//! What the ledger carries and costs, over gRPC from outside, beside what the disk and the database could do: the ratios that
//! `make bench-ledger` prints, measured in turns in one run.
//!
//! The ledger is the release binary in a process of its own; this one is the load.

#![allow(clippy::disallowed_methods, reason = "it measures time, and fills books as of now")]

mod accounts;
mod alone;
mod disk;
mod figures;
mod ledger;
mod load;
mod many;
mod million;
#[allow(dead_code, reason = "tests of failures need more of it")]
#[path = "../../tests/postgres/cluster.rs"]
mod postgres_server;
mod unbatched;

use clap::Parser;
use figures::Report;
use std::path::PathBuf;
use std::time::Duration;

/// Measures the ledger.
#[derive(Debug, Parser)]
struct Arguments {
    /// The ledger's binary.
    #[arg(long)]
    ledger: PathBuf,
    /// Where files are made: on the disk that is meant.
    #[arg(long, default_value = "target")]
    folder: PathBuf,
    /// Fewer rounds and keys: whether it works, and roughly how.
    #[arg(long)]
    short: bool,
    /// Only these parts: sqlite, keys, postgres.
    #[arg(long, value_delimiter = ',', default_value = "sqlite,keys,postgres")]
    parts: Vec<String>,
    /// Seconds of a round.
    #[arg(long)]
    seconds: Option<f64>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How much is measured.
#[derive(Clone, Debug)]
struct Plan {
    ledger: PathBuf,
    folder: PathBuf,
    /// Of each cell; the median counts.
    rounds: usize,
    round: Duration,
    /// Keys of the large books.
    keys: u32,
}

/// Clients that ask at the same time, each one thing after the other.
const CLIENTS: [usize; 4] = [1, 16, 64, 256];

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let (rounds, seconds, keys) = if arguments.short { (1, 1.0, 100_000) } else { (3, 3.0, 1_000_000) };
    let plan = Plan {
        ledger: arguments.ledger.canonicalize()?,
        folder: arguments.folder,
        rounds,
        round: Duration::try_from_secs_f64(arguments.seconds.unwrap_or(seconds))?,
        keys,
    };
    let is_wanted = |part: &str| arguments.parts.iter().any(|wanted| wanted == part);
    let mut report = Report::new(&plan);
    if is_wanted("sqlite") {
        alone::measure(&plan, &mut report).await?;
    }
    if is_wanted("keys") {
        million::measure(&plan, &mut report).await?;
    }
    if is_wanted("postgres") {
        many::measure(&plan, &mut report).await?;
    }
    print!("{report}");
    Ok(())
}
