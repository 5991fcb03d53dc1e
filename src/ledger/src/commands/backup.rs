//! `backup`: a copy of the books at one moment.

use super::place::PlaceArgs;
use super::{Failure, blocking, rows_and_report};
use clap::Args;
use std::path::PathBuf;
use tollgate_ledger::store;

#[derive(Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    place: PlaceArgs,
    /// The file to be made. It appears when it is whole and verified; until then it is called FILE.part.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

pub(crate) async fn run(options: Backup) -> Result<String, Failure> {
    let place = options.place.place()?;
    let name = place.to_string();
    let to = options.to.clone();
    let copied = blocking(move || store::backup(&place, &to)).await?;
    Ok(format!("{}\n{} is a good copy of {name}", rows_and_report(&copied), options.to.display()))
}
