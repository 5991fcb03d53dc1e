//! `migrate`: the schema of this release, before anything serves it.

use super::place::PlaceArgs;
use super::{Failure, blocking};
use clap::Args;

#[derive(Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    place: PlaceArgs,
}

pub(crate) async fn run(options: Migrate) -> Result<String, Failure> {
    let place = options.place.place()?;
    let name = place.to_string();
    let schema = blocking(move || place.migrate()).await?;
    Ok(format!("{name} has schema {schema}"))
}
