//! `verify`: whether the books are what was written.

use super::place::PlaceArgs;
use super::{blocking, complain};
use clap::Args;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    place: PlaceArgs,
}

/// The books cannot be read: nothing is known of them.
const UNREADABLE: u8 = 2;

pub(crate) async fn run(options: Verify) -> ExitCode {
    let report = match options.place.place() {
        Ok(place) => blocking(move || place.verify()).await,
        Err(error) => Err(error),
    };
    match report {
        Ok(report) => {
            println!("{report}");
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            complain(&error);
            UNREADABLE.into()
        }
    }
}
