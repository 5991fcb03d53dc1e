//! `restore`: a backup becomes the books again.

use super::place::PlaceArgs;
use super::{Failure, blocking, rows_and_report, shown};
use clap::Args;
use std::path::PathBuf;
use tollgate_ledger::store;

#[derive(Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    place: PlaceArgs,
    /// The backup: a SQLite file.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Moves a SQLite file that has books aside.
    #[arg(long)]
    replace: bool,
}

pub(crate) async fn run(options: Restore) -> Result<String, Failure> {
    let place = options.place.place()?;
    let name = place.to_string();
    let Restore { from, replace, .. } = options;
    let restored = blocking(move || store::restore(&from, &place, replace)).await?;
    let mut lines = vec![rows_and_report(&restored.copied)];
    if let Some(moved) = restored.moved {
        lines.push(format!("the books that were there are {}", moved.display()));
    }
    let (from, to) = restored.gap;
    lines.push(format!(
        "{name} has its books back; nothing of what happened between {} and {} is in them; start once with --accept-gap to go \
         on without it",
        shown(from),
        shown(to)
    ));
    Ok(lines.join("\n"))
}
