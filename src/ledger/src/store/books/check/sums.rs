//! The hours' sums against the holds, row by row. What was exported and dropped stays in the sums, and is not compared.

use super::{Audit, RETIRED_UNTIL};
use crate::store::books::meta;
use crate::store::books::sums::{HOUR_MS, rolled_until, sum_holds};
use crate::store::sql::{self, Cell, Row, Sql, values};
use std::collections::{BTreeSet, HashMap};
use tollgate_domain::time::Timestamp;

/// Columns that say what is summed, from the first on; the others are the sums.
const NAMES: usize = 11;
/// Among the names.
const KEY: usize = 1;
/// Among the sums.
const POSTED: usize = 1;

/// Sums by what they are of.
type Sums = HashMap<Vec<Cell>, Vec<i64>>;

pub(super) fn compare(db: &dyn Sql, report: &mut Audit) -> sql::Result<()> {
    let rolled = rolled_until(db)?.unix_ms();
    let from = meta::number(db, RETIRED_UNTIL)?.unwrap_or(i64::MIN);
    let mut hours = BTreeSet::new();
    for row in db.query("SELECT DISTINCT hour FROM rollup WHERE hour >= $1", &values![from])? {
        hours.insert(row.int(0)?);
    }
    let made = db.query(
        "SELECT DISTINCT created_at - created_at % 3600000 FROM hold WHERE created_at >= $1 AND created_at < $2",
        &values![from, rolled],
    )?;
    for row in &made {
        hours.insert(row.int(0)?);
    }
    for hour in hours {
        compare_hour(db, hour, rolled, report)?;
    }
    Ok(())
}

fn compare_hour(db: &dyn Sql, hour: i64, rolled: i64, report: &mut Audit) -> sql::Result<()> {
    let until = hour.saturating_add(HOUR_MS).min(rolled);
    let held = db.query(sum_holds!("created_at >= $2 AND created_at < $3"), &values![1_i64, hour, until])?;
    let summed = db.query(
        r#"SELECT hour, key, organization, team, "user", model, priced_model, provider, tags, tags_digest, binding_tags,
             requests, posted, input, cache_read, cache_write_5m, cache_write_1h, output, web_searches
         FROM rollup WHERE hour = $1"#,
        &values![hour],
    )?;
    let mut held = sums(&held)?;
    let time = Timestamp::new(hour).to_rfc3339().unwrap_or_else(|| format!("{hour} ms"));
    let mut compare = |names: &[Cell], summed: &[i64], held: &[i64]| {
        if summed != held {
            report.fault(format!("{}: {}", place(names, &time), difference(summed, held)));
        }
    };
    for (names, summed) in sums(&summed)? {
        let of_holds = held.remove(&names).unwrap_or_else(|| vec![0; summed.len()]);
        compare(&names, &summed, &of_holds);
    }
    for (names, of_holds) in held {
        compare(&names, &vec![0; of_holds.len()], &of_holds);
    }
    Ok(())
}

fn sums(rows: &[Row]) -> sql::Result<Sums> {
    let sum = |row: &Row| {
        let names = row.0.iter().take(NAMES).cloned().collect();
        let sums = (NAMES..row.0.len()).map(|index| row.int(index)).collect::<sql::Result<_>>()?;
        Ok((names, sums))
    };
    rows.iter().map(sum).collect()
}

fn place(names: &[Cell], time: &str) -> String {
    match names.get(KEY) {
        Some(Cell::Int(key)) => format!("rollup of account {key}, hour {time}"),
        _ => format!("rollup of hour {time}"),
    }
}

fn difference(summed: &[i64], held: &[i64]) -> String {
    match (summed.get(POSTED), held.get(POSTED)) {
        (Some(summed), Some(held)) if summed != held => {
            format!("it says {summed} posted, the holds say {held}")
        }
        _ => format!("its requests and tokens are {summed:?}, those of the holds {held:?}"),
    }
}
