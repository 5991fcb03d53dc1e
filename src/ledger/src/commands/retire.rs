//! `retire`: requests that are long past leave the books.

use super::place::PlaceArgs;
use super::{Failure, blocking, shown};
use chrono::{DateTime, NaiveDate, NaiveTime};
use clap::Args;
use std::path::PathBuf;
use tollgate_domain::time::Timestamp;
use tollgate_ledger::store;

#[derive(Args)]
pub(crate) struct Retire {
    #[command(flatten)]
    place: PlaceArgs,
    /// Requests made before this go: 2026-01-31, midnight in UTC, or 2026-01-31T12:00:00Z. At least a week ago.
    #[arg(long, value_name = "DATE", value_parser = date)]
    before: Timestamp,
    /// A new file for them, one JSON object a line. Nothing is dropped before it is on the disk.
    #[arg(long, value_name = "FILE")]
    export: PathBuf,
}

pub(crate) async fn run(options: Retire) -> Result<String, Failure> {
    let place = options.place.place()?;
    let Retire { before, export, .. } = options;
    let name = export.display().to_string();
    let retired = blocking(move || store::retire(&place, before, &export)).await?;
    let mut lines = Vec::new();
    if let Some(until) = retired.until.filter(|until| *until < before) {
        lines.push(format!("only whole hours that are summed may go: until {}", shown(until)));
    }
    if let Some(file) = &retired.unfinished {
        lines.push(format!(
            "a run that exported to {file} has not finished: requests at the end of that file that had not left the books are \
             in this one, too, under the same `id`"
        ));
    }
    if retired.kept > 0 {
        lines
            .push(format!("{} requests changed meanwhile and stayed; the next run takes them", retired.kept));
    }
    lines.push(format!(
        "{} requests with {} entries are in {name} and no longer in the books",
        retired.holds, retired.entries
    ));
    Ok(lines.join("\n"))
}

fn date(text: &str) -> Result<Timestamp, String> {
    let day = || text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let moment = || DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc());
    let at = day()
        .or_else(|_| moment())
        .map_err(|_| "a day such as 2026-01-31, or a moment such as 2026-01-31T12:00:00Z")?;
    Ok(Timestamp::new(at.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        for (text, unix_ms) in [
            ("2026-01-31", Some(1_769_817_600_000)),
            ("2026-01-31T01:00:00+01:00", Some(1_769_817_600_000)),
            ("2026-01-31T00:00:00.5Z", Some(1_769_817_600_500)),
            ("2026-02-30", None),
            ("31.1.2026", None),
            ("2026-01-31T00:00:00", None),
            ("", None),
        ] {
            assert_eq!(date(text).ok(), unix_ms.map(Timestamp::new), "{text}");
        }
    }
}
