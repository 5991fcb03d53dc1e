//! `import`: the books move to another database.

use super::place::{PlaceArgs, Url, named};
use super::{Failure, blocking, rows_and_report};
use clap::Args;
use tollgate_ledger::store;

#[derive(Args)]
pub(crate) struct Import {
    /// Where the books are: sqlite:FILE or postgres:URL; or sqlite or postgres alone, with --db or --database-url.
    #[arg(long, value_name = "PLACE")]
    from: Url,
    /// Where they go, said in the same way; a place without books.
    #[arg(long, value_name = "PLACE")]
    to: Url,
    #[command(flatten)]
    places: PlaceArgs,
}

pub(crate) async fn run(options: Import) -> Result<String, Failure> {
    let from = named(options.from.as_str(), &options.places)?;
    let to = named(options.to.as_str(), &options.places)?;
    let (source, target) = (from.to_string(), to.to_string());
    let copied = blocking(move || store::import(&from, &to)).await?;
    Ok(format!(
        "{}\n{target} has the books of {source}: the same rows in every table",
        rows_and_report(&copied)
    ))
}
