//! Whether the books are right: read from the file, and added up anew.

use crate::ledger::{INPUT, PRICE, path};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Each finds lines that cannot be: none, in good books.
const NEVER: &[(&str, &str)] = &[
    (
        "a hold is made or ended twice",
        "SELECT hold, kind FROM entry WHERE kind IN ('hold', 'settle') GROUP BY hold, kind HAVING count(*) > 1",
    ),
    (
        "a hold is not what its entries say",
        "SELECT hold.hold, hold.posted FROM hold
         LEFT JOIN (SELECT hold, sum(posted) AS posted, sum(pending) AS pending FROM entry GROUP BY hold) AS sums
             ON sums.hold = hold.hold
         WHERE sums.posted IS NOT hold.posted
            OR sums.pending IS NOT (CASE hold.state WHEN 0 THEN hold.amount ELSE 0 END)",
    ),
    (
        "an entry has no hold",
        "SELECT entry, hold FROM entry WHERE hold IS NULL OR hold NOT IN (SELECT hold FROM hold)",
    ),
    (
        "a balance is not the sum of its holds",
        r#"WITH charge (account, posted, pending) AS (
             SELECT key, posted, CASE state WHEN 0 THEN amount ELSE 0 END FROM hold UNION ALL
             SELECT team, posted, CASE state WHEN 0 THEN amount ELSE 0 END FROM hold UNION ALL
             SELECT organization, posted, CASE state WHEN 0 THEN amount ELSE 0 END FROM hold UNION ALL
             SELECT user, posted, CASE state WHEN 0 THEN amount ELSE 0 END FROM hold),
         due AS (SELECT account, sum(posted) AS posted, sum(pending) AS pending FROM charge GROUP BY account),
         balances AS (SELECT account, "window", sum(posted) AS posted, sum(pending) AS pending
             FROM balance GROUP BY account, "window")
         SELECT balances.account, balances."window" FROM balances LEFT JOIN due ON due.account = balances.account
         WHERE balances.posted <> coalesce(due.posted, 0) OR balances.pending <> coalesce(due.pending, 0)"#,
    ),
    (
        "an account that was charged has no balance",
        "SELECT hold, key FROM hold
         WHERE key NOT IN (SELECT account FROM balance) OR team NOT IN (SELECT account FROM balance)",
    ),
];

/// Checks the file in `folder`, which nobody has open. `known` are the acknowledged holds with the input of the settled ones.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn check(folder: &Path, known: &BTreeMap<Vec<u8>, Option<u64>>) -> Result<(), String> {
    let file = Connection::open(path(folder)).map_err(|error| error.to_string())?;
    // Whoever only looks leaves the log as it is.
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(|error| error.to_string())?;
    sound(&file, known).unwrap_or_else(|error| Err(format!("the file cannot be read: {error}")))
}

fn sound(file: &Connection, known: &BTreeMap<Vec<u8>, Option<u64>>) -> rusqlite::Result<Result<(), String>> {
    let report: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if report != "ok" {
        return Ok(Err(report));
    }
    let holds = holds(file)?;
    for (id, input) in known {
        if let Some(wrong) = wrong(holds.get(id), *input) {
            return Ok(Err(format!("{wrong}: {id:02x?}")));
        }
    }
    for (what, sql) in NEVER {
        let mut statement = file.prepare(sql)?;
        let mut rows = statement.query([])?;
        if let Some(row) = rows.next()? {
            let fields = (row.get::<_, rusqlite::types::Value>(0)?, row.get::<_, rusqlite::types::Value>(1)?);
            return Ok(Err(format!("{what}: {fields:?}")));
        }
    }
    Ok(Ok(()))
}

/// State, amount and cost of a hold.
type Stored = (i64, i64, i64);

fn wrong(stored: Option<&Stored>, input: Option<u64>) -> Option<&'static str> {
    let held = INPUT as i64 * PRICE;
    match (stored, input) {
        (None, _) => Some("an acknowledged hold is lost"),
        (Some((1, _, posted)), Some(input)) if *posted == input as i64 * PRICE => None,
        (Some(_), Some(_)) => Some("an acknowledged settle is lost"),
        (Some((0, amount, 0)), None) if *amount == held => None,
        // Its settle was not acknowledged, but came through.
        (Some((1, _, posted)), None) if (0..=held).contains(posted) => None,
        (Some(_), None) => Some("an acknowledged hold is another"),
    }
}

fn holds(file: &Connection) -> rusqlite::Result<HashMap<Vec<u8>, Stored>> {
    let mut statement = file.prepare("SELECT id, state, amount, posted FROM hold")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?))))?;
    rows.collect()
}
