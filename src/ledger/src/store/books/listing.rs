//! Every account with all that is said of it, for whoever moves them elsewhere.

use super::apply::living_credentials;
use super::changes::OF_INTEREST;
use super::code::parsed;
use super::memory::Ground;
use super::records;
use crate::store::sql::{self, Row, Sql, values};
use crate::store::{AccountName, Listed, Manager};
use tollgate_domain::account::AccountKind;
use tollgate_domain::time::Timestamp;

/// At most so many that there are, after the one of this number.
pub(super) fn listed(
    db: &dyn Sql,
    ground: &Ground,
    now: Timestamp,
    after: i64,
    at_most: u32,
) -> sql::Result<Vec<Listed>> {
    let rows = db.query(
        &format!(
            "SELECT account, kind, scope, id, managed_by, owner_scope FROM account
             WHERE account > $1 AND {OF_INTEREST} AND deleted_at IS NULL ORDER BY account LIMIT $2"
        ),
        &values![after, i64::from(at_most)],
    )?;
    rows.iter().map(|row| one(db, ground, now, row)).collect()
}

fn one(db: &dyn Sql, ground: &Ground, now: Timestamp, row: &Row) -> sql::Result<Listed> {
    let number = row.int(0)?;
    let kind: AccountKind = parsed("kind of account", row.text(1)?)?;
    Ok(Listed {
        number,
        name: AccountName { kind, scope: row.text(2)?.to_owned(), id: row.text(3)?.to_owned() },
        manager: Manager { name: row.text(4)?.to_owned(), scope: row.text(5)?.to_owned() },
        spec: records::record(db, ground, number, now)?.spec,
        credentials: living_credentials(db, kind, number, now)?,
    })
}
