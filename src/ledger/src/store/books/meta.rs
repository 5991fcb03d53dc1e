//! What the books say of themselves: named values, each of a known length.

use super::code::fixed;
use crate::store::sql::{self, Row, Sql, values};

/// Reads the value of one name.
pub(super) const READ: &str = "SELECT value FROM meta WHERE name = $1";

/// Sets the value `$2` of the name `$1`.
pub(super) const SET: &str =
    "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// The value in the rows of [`READ`]; `None`: it was never set.
pub(super) fn value<const N: usize>(name: &'static str, rows: &[Row]) -> sql::Result<Option<[u8; N]>> {
    rows.first().map(|row| fixed(name, row.blob(0)?)).transpose()
}

pub(super) fn read<const N: usize>(db: &dyn Sql, name: &'static str) -> sql::Result<Option<[u8; N]>> {
    value(name, &db.query(READ, &values![name])?)
}

pub(super) fn number(db: &dyn Sql, name: &'static str) -> sql::Result<Option<i64>> {
    Ok(read(db, name)?.map(i64::from_be_bytes))
}

pub(crate) fn set(db: &dyn Sql, name: &str, value: &[u8]) -> sql::Result<()> {
    db.execute(SET, &values![name, value]).map(drop)
}
