//! The supervisor: renders Envoy's configuration, starts the ledger, the mock provider and Envoy, and stops them so that
//! no stream is cut and no report is lost. It leaves no child behind, however it ends.

mod child;
mod drain;
mod envoy_admin;
mod http;
mod provider;
mod render;
mod settings;
mod start;

use settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == child::SUBCOMMAND) {
        return child::become_command(arguments);
    }
    let settings = match Settings::parse(&|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => return fail(&error.to_string()),
    };
    // One thread: the kernel ties children to the thread that started them.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    match runtime.block_on(start::run(&settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("tollgate-run: {message}");
    ExitCode::FAILURE
}
