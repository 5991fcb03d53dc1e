//! The verbs of the command line: one file each, and what they share.

mod crds;
mod export;
mod inject;
mod installation;
mod run;

use clap::Subcommand;
use std::process::ExitCode;

/// What a verb could not do.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Makes custom resources true: the operator itself.
    Run(run::Run),
    /// Prints the definitions of the custom resources.
    Crds(crds::Crds),
    /// Writes what the admin API has made as custom resources, for the move from the API to Git.
    Export(export::Export),
    /// Gives pods in YAML their sidecar, as the webhook would.
    Inject(inject::Inject),
}

pub(crate) async fn run(verb: Verb) -> ExitCode {
    let done = match verb {
        Verb::Run(options) => run::run(options).await,
        Verb::Crds(options) => crds::run(options),
        Verb::Export(options) => export::run(options).await,
        Verb::Inject(options) => inject::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator stops");
            ExitCode::FAILURE
        }
    }
}
