//! The supervisor: renders Envoy's configuration, starts what belongs together, and stops it so that no stream is cut and no
//! report is lost. It leaves no child behind, however it ends.
//!
//! Without a verb it is `make run`: the ledger, the mock provider and Envoy on one machine. In a pod it is Envoy's first process.

mod child;
mod drain;
mod envoy;
mod envoy_admin;
mod files;
mod gateway;
mod health;
mod http;
mod install;
mod provider;
mod render;
mod settings;
mod start;

use clap::{Parser, Subcommand};
use settings::Settings;
use std::error::Error;
use std::process::ExitCode;

/// Renders Envoy's configuration, starts the parts, drains and stops them. Without a verb: everything on one loopback port, by
/// settings from the environment.
#[derive(Parser)]
#[command(name = "tollgate-run", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Copies this program and the filter into a folder that Envoy's container shares.
    Install(install::Install),
    /// Runs one Envoy in a pod: renders its configuration, follows credentials, drains it before it stops.
    Gateway(gateway::Options),
    /// Asks a gateway on this machine's loopback how it is, as a probe: it fails where the gateway does not say that it is well.
    Health(health::Health),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == child::SUBCOMMAND) {
        return child::become_command(arguments);
    }
    let arguments = Arguments::parse();
    // One thread: the kernel ties children to the thread that started them.
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(arguments.verb)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate-run: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(verb: Option<Verb>) -> Result<(), Box<dyn Error>> {
    match verb {
        None => start::run(&Settings::parse(&|name| std::env::var(name).ok())?).await?,
        Some(Verb::Install(options)) => install::run(&options)?,
        Some(Verb::Gateway(options)) => gateway::run(options).await?,
        Some(Verb::Health(options)) => health::run(&options).await?,
    }
    Ok(())
}
