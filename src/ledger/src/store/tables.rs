//! Every table and column, once for both databases: what is not listed here would be lost by a move. A test compares the list with
//! what the migrations make.

use super::sql::{Cell, Result as SqlResult, Row, Value};
use sha2::{Digest, Sha256};

/// One table.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Its primary key: how many of the columns, from the first on.
    pub(super) key: usize,
    pub(super) columns: &'static [&'static str],
    /// Numbers in SQLite, flags in PostgreSQL.
    flags: &'static [&'static str],
    /// References to rows of the same table, which may come later than this one.
    pub(super) late: &'static [&'static str],
}

impl Table {
    const fn new(name: &'static str, key: usize, columns: &'static [&'static str]) -> Self {
        Self { name, key, columns, flags: &[], late: &[] }
    }

    const fn flags(self, flags: &'static [&'static str]) -> Self {
        Self { flags, ..self }
    }

    fn is_flag(&self, index: usize) -> bool {
        self.columns.get(index).is_some_and(|column| self.flags.contains(column))
    }

    /// Whether the database gives the numbers of new rows.
    pub(super) fn counts(&self) -> bool {
        matches!(self.name, "account" | "budget_limit" | "balance" | "rate" | "crossing")
    }

    pub(super) fn select(&self, rest: &str) -> String {
        format!("SELECT {} FROM {} {rest}", self.columns.join(", "), self.name)
    }
}

/// The rows of one hold.
pub(super) const HOLD: Table = Table::new(
    "hold",
    1,
    &[
        "hold",
        "id",
        "state",
        "digest",
        "key",
        "organization",
        "team",
        r#""user""#,
        "model",
        "provider",
        "api",
        "fallback_models",
        "bounds",
        "service_tier",
        "speed",
        "inference_geo",
        "tags",
        "tags_digest",
        "binding_tags",
        "session",
        "end_user",
        "client",
        "price_revision",
        "balances",
        "rates",
        "amount",
        "posted",
        "overrun",
        "would_deny",
        "created_at",
        "expires_at",
        "sequence",
        "priced_model",
        "input",
        "cache_read",
        "cache_write_5m",
        "cache_write_1h",
        "output",
        "web_searches",
        "estimated",
        "end_reason",
        "status",
        "first_byte_at",
        "ended_at",
    ],
)
.flags(&["estimated"]);

/// The lines of the journal.
pub(super) const ENTRY: Table = Table::new(
    "entry",
    1,
    &[
        "entry",
        "at",
        "kind",
        "hold",
        "balances",
        "posted",
        "pending",
        "model",
        "usage",
        "estimated",
        "overrun",
        "checksum",
    ],
)
.flags(&["estimated"]);

const ACCOUNT: Table = Table {
    late: &["organization", "team", r#""user""#],
    flags: &["blocked", "client_tags_bind"],
    ..Table::new(
        "account",
        1,
        &[
            "account",
            "kind",
            "scope",
            "id",
            "alias",
            "organization",
            "team",
            r#""user""#,
            "models",
            "tags",
            "forbidden",
            "required_tags",
            "budget_duration",
            "blocked",
            "expires_at",
            "metadata",
            "session_limit",
            "session_limits",
            "client_tags_bind",
            "revision",
            "managed_by",
            "owner_scope",
            "created_by",
            "created_at",
            "updated_at",
            "deleted_at",
        ],
    )
};

/// Every table, those that others refer to first.
pub(super) const TABLES: &[Table] = &[
    Table::new("meta", 1, &["name", "value"]),
    Table::new("price_book", 1, &["revision", "text"]),
    Table::new("price_overlay", 2, &["managed_by", "owner_scope", "text"]),
    ACCOUNT,
    Table::new("credential", 1, &["digest", "account", "name", "created_at", "revoked_at"]),
    Table::new(
        "budget_limit",
        1,
        &[
            "budget_limit",
            "account",
            r#""window""#,
            "model",
            "amount",
            "duration",
            "main",
            "observe",
            "soft",
            "thresholds",
        ],
    )
    .flags(&["main", "observe", "soft"]),
    Table::new(
        "balance",
        1,
        &[
            "balance",
            "account",
            r#""window""#,
            "model",
            "window_start",
            "posted",
            "pending",
            "charged_at",
            "checksum",
        ],
    ),
    Table::new("rate", 1, &["rate", "account", "kind", "model", "amount", "observe", "state"])
        .flags(&["observe"]),
    HOLD,
    Table::new("tombstone", 1, &["id", "digest", "at"]),
    ENTRY,
    Table::new(
        "crossing",
        1,
        &[
            "crossing",
            "at",
            "account",
            r#""window""#,
            "model",
            "soft",
            "window_start",
            "threshold",
            "amount",
            "posted",
        ],
    )
    .flags(&["soft"]),
    Table::new(
        "rollup",
        10,
        &[
            "hour",
            "key",
            "organization",
            "team",
            r#""user""#,
            "model",
            "priced_model",
            "provider",
            "tags_digest",
            "binding_tags",
            "tags",
            "requests",
            "posted",
            "input",
            "cache_read",
            "cache_write_5m",
            "cache_write_1h",
            "output",
            "web_searches",
        ],
    ),
    Table::new("spent", 4, &["payer", "tag", "quarter", "model", "posted"]),
];

/// Over every column; a flag counts the same in every database.
pub(super) fn row_digest(table: &Table, row: &Row) -> SqlResult<u128> {
    let mut sum = Sha256::new();
    for value in row_values(table, row)? {
        let (kind, bytes): (u8, &[u8]) = match &value {
            Value::Int(value) => (1, &value.to_be_bytes()),
            Value::Flag(value) => (2, &[u8::from(*value)]),
            Value::Text(value) => (3, value.as_bytes()),
            Value::Blob(value) => (4, value),
            Value::Null | Value::Ints(_) | Value::Blobs(_) | Value::List(_) => (0, &[]),
        };
        sum.update([kind]);
        sum.update((bytes.len() as u64).to_be_bytes());
        sum.update(bytes);
    }
    let digest: [u8; 32] = sum.finalize().into();
    Ok(u128::from_be_bytes(digest.first_chunk().copied().unwrap_or_default()))
}

/// The row as parameters that every database takes.
pub(super) fn row_values<'a>(table: &Table, row: &'a Row) -> SqlResult<Vec<Value<'a>>> {
    let value = |(index, cell): (usize, &'a Cell)| {
        Ok(match cell {
            Cell::Null => Value::Null,
            _ if table.is_flag(index) => Value::Flag(row.flag(index)?),
            Cell::Int(value) => Value::Int(*value),
            Cell::Flag(value) => Value::Flag(*value),
            Cell::Text(value) => Value::Text(value),
            Cell::Blob(value) => Value::Blob(value),
        })
    };
    row.0.iter().enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::Sql;
    use crate::store::sqlite::{self, Access};

    fn names(table: &Table) -> Vec<String> {
        let mut names: Vec<String> =
            table.columns.iter().map(|column| column.trim_matches('"').to_owned()).collect();
        names.sort();
        names
    }

    /// A column that a migration adds must be added here, too: what is not listed would be lost by a move.
    #[test]
    fn every_table_and_column_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let (db, _lock) = sqlite::connect(&folder.path().join("ledger.db"), Access::Create).unwrap();
        let made = db
            .query(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
                 AND name <> 'refinery_schema_history' ORDER BY name",
                &[],
            )
            .unwrap();
        let made: Vec<&str> = made.iter().map(|row| row.text(0).unwrap()).collect();
        let mut listed: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        listed.sort_unstable();
        assert_eq!(made, listed);
        for table in TABLES {
            let columns = db
                .query(&format!("SELECT name FROM pragma_table_info('{}') ORDER BY name", table.name), &[])
                .unwrap();
            let columns: Vec<&str> = columns.iter().map(|row| row.text(0).unwrap()).collect();
            assert_eq!(columns, names(table), "{}", table.name);
            let key = db
                .query(
                    &format!("SELECT name FROM pragma_table_info('{}') WHERE pk > 0 ORDER BY pk", table.name),
                    &[],
                )
                .unwrap();
            let key: Vec<&str> = key.iter().map(|row| row.text(0).unwrap()).collect();
            let listed: Vec<&str> =
                table.columns[..table.key].iter().map(|column| column.trim_matches('"')).collect();
            assert_eq!(key, listed, "{}", table.name);
        }
    }

    #[test]
    fn any_other_value_has_another_digest() {
        let digest = |cells: Vec<Cell>| row_digest(&TABLES[0], &Row(cells)).unwrap();
        let text = |text: &str| Cell::Text(text.into());
        let all = [
            digest(vec![text("a"), text("bc")]),
            digest(vec![text("ab"), text("c")]),
            digest(vec![text("a"), Cell::Blob(b"bc".to_vec())]),
            digest(vec![text("a"), Cell::Null]),
            digest(vec![text("a"), Cell::Int(0)]),
        ];
        let distinct: std::collections::HashSet<u128> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        let flag = |cell| {
            let mut row = vec![Cell::Null; ENTRY.columns.len()];
            row[9] = cell;
            row_digest(&ENTRY, &Row(row)).unwrap()
        };
        assert_eq!(flag(Cell::Int(1)), flag(Cell::Flag(true)), "of every database");
        assert_ne!(flag(Cell::Int(1)), flag(Cell::Flag(false)));
    }
}
