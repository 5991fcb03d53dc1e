//! `tollgate-operator`: custom resources on one side, the ledger on the other.

mod commands;

use clap::Parser;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Makes Tollgate's custom resources true, and shows how they stand.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: commands::Verb,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    commands::run(Arguments::parse().verb).await
}
