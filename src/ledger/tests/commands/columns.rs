//! Every column of the books: who finds that it was altered. One alteration at a time, in a file and in a database.

use crate::books::{Place, lived};
use crate::cluster::Cluster;
use rusqlite::Connection;
use std::collections::BTreeSet;
use tollgate_ledger::store;

/// A row of a table, and its columns: each with another value, and what `verify` says of it.
type Alterations = &'static [(&'static str, &'static str, &'static str)];

/// Nothing tells the value from the one that was written: it follows from nothing, and no checksum covers it.
const NOBODY: &str = "";

/// Bytes that are nowhere else: the digest of the other key.
const BYTES: &str = "(SELECT digest FROM credential ORDER BY digest DESC LIMIT 1)";

/// A settled request that is not summed yet.
const YOUNG: &str = "hold WHERE hold = (SELECT min(hold) + 36 FROM hold)";
/// A settled request that is summed.
const SUMMED: &str = "hold WHERE hold = (SELECT min(hold) + 4 FROM hold)";
/// A request that is open.
const OPEN: &str = "hold WHERE hold = (SELECT min(hold) + 40 FROM hold)";

const TABLE: &[(&str, Alterations)] = &[
    (
        "entry WHERE entry = 7",
        &[
            ("at", "at + 1", "entry 7: it was altered"),
            ("kind", "kind || 'x'", "entry 7: it was altered"),
            ("hold", "hold + 1", "entry 7: it was altered"),
            ("balances", BYTES, "entry 7: it was altered"),
            ("posted", "posted + 1", "entry 7: it was altered"),
            ("pending", "pending + 1", "entry 7: it was altered"),
            ("model", "'x'", "entry 7: it was altered"),
            ("usage", BYTES, "entry 7: it was altered"),
            ("estimated", "NOT estimated", "entry 7: it was altered"),
            ("overrun", "overrun + 1", "entry 7: it was altered"),
            ("checksum", "checksum + 1", "entry 7: it was altered"),
        ],
    ),
    (
        "balance WHERE balance = 3",
        &[
            ("account", "-1", "balance 3: it was altered"),
            ("window", "'calendar/hour'", "balance 3: it was altered"),
            ("model", "'x'", "balance 3: it was altered"),
            ("window_start", "window_start + 1", "balance 3: it was altered"),
            ("posted", "posted + 1", "balance 3: it was altered"),
            ("pending", "pending + 1", "balance 3: it was altered"),
            ("charged_at", "coalesce(charged_at, 0) + 1", "balance 3: it was altered"),
            ("checksum", "checksum + 1", "balance 3: it was altered"),
        ],
    ),
    (
        YOUNG,
        &[
            ("id", BYTES, NOBODY),
            ("state", "2", "hold 37: it is Voided, and was settled 1 times"),
            ("digest", BYTES, "hold 37: its digest is no credential of its key"),
            ("key", "key + 1", "hold 37: key is not what its entries say"),
            ("organization", "NULL", "hold 37: organization is not what its entries say"),
            ("team", "organization", "hold 37: team is not what its entries say"),
            ("user", "team", "hold 37: user is not what its entries say"),
            ("model", "'x'", NOBODY),
            ("provider", "'gemini'", NOBODY),
            ("api", "'messages'", NOBODY),
            ("fallback_models", "'[\"x\"]'", NOBODY),
            ("bounds", "balances", NOBODY),
            ("service_tier", "'flex'", NOBODY),
            ("speed", "'fast'", NOBODY),
            ("inference_geo", "'us'", NOBODY),
            ("tags", "'[\"x\"]'", "hold 37: tags_digest is not that of its tags"),
            ("tags_digest", "tags_digest + 1", "hold 37: tags_digest is not that of its tags"),
            ("binding_tags", "binding_tags + 1", NOBODY),
            ("session", "'x'", NOBODY),
            ("end_user", "'x'", NOBODY),
            ("client", "'x'", NOBODY),
            ("price_revision", "price_revision + 1", "hold 37: its price_revision is that of no book"),
            (
                "balances",
                "(SELECT balances FROM hold WHERE hold = (SELECT min(hold) + 37 FROM hold))",
                "hold 37: balances is not what its entries say",
            ),
            ("rates", "balances", NOBODY),
            ("amount", "amount + 1", "hold 37: amount is 100001, its entries say 100000"),
            ("posted", "posted + 1", "hold 37: it says 50001 posted"),
            ("overrun", "overrun + 1", "hold 37: overrun is not what its entries say"),
            ("would_deny", "'budget_spent'", NOBODY),
            ("created_at", "created_at + 1", "hold 37: created_at is not what its entries say"),
            ("expires_at", "created_at - 1", "hold 37: expires_at is not what its entries say"),
            ("sequence", "sequence + 1", NOBODY),
            (
                "priced_model",
                "'x'",
                "hold 37: priced_model, estimated or the usage is not what its entries say",
            ),
            (
                "input",
                "input + 1",
                "hold 37: priced_model, estimated or the usage is not what its entries say",
            ),
            ("cache_read", "cache_read + 1", "hold 37: priced_model, estimated or the usage is not what"),
            (
                "cache_write_5m",
                "cache_write_5m + 1",
                "hold 37: priced_model, estimated or the usage is not what",
            ),
            (
                "cache_write_1h",
                "cache_write_1h + 1",
                "hold 37: priced_model, estimated or the usage is not what",
            ),
            ("output", "output + 1", "hold 37: priced_model, estimated or the usage is not what its entries"),
            ("web_searches", "web_searches + 1", "hold 37: priced_model, estimated or the usage is not what"),
            ("estimated", "NOT estimated", "hold 37: priced_model, estimated or the usage is not what"),
            ("end_reason", "'client_left'", NOBODY),
            ("status", "status + 1", NOBODY),
            ("first_byte_at", "created_at + 1", NOBODY),
            ("ended_at", "ended_at + 1", "hold 37: ended_at is not what its entries say"),
        ],
    ),
    (
        SUMMED,
        &[
            ("model", "'x'", "rollup of account 4, hour 2026-01-01T02:00:00"),
            ("provider", "'gemini'", "rollup of account 4, hour 2026-01-01T02:00:00"),
            ("binding_tags", "binding_tags + 1", "rollup of account 4, hour 2026-01-01T02:00:00"),
        ],
    ),
    (
        OPEN,
        &[
            ("state", "3", "hold 41: it is Expired"),
            ("amount", "amount + 1", "hold 41: it says 0 posted and 100001 pending"),
            (
                "balances",
                "(SELECT balances FROM hold WHERE hold = (SELECT min(hold) + 37 FROM hold))",
                "hold 41: balances is not what its entries say",
            ),
            ("input", "1", NOBODY),
            ("expires_at", "expires_at + 1", NOBODY),
            ("estimated", "NOT estimated", "hold 41: an end that has not come is not what its entries say"),
        ],
    ),
    (
        "rollup WHERE hour = (SELECT min(hour) FROM rollup) AND key = 4",
        &[
            ("hour", "hour + 1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("key", "5 + 1", "rollup of account 6, hour 2026-01-01T01:00:00"),
            ("organization", "organization + 1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("team", "team + 1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("user", "-1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("model", "'x'", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("priced_model", "'x'", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("provider", "'gemini'", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("tags", "'x'", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("tags_digest", "tags_digest + 1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("binding_tags", "binding_tags + 1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("requests", "requests + 1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("posted", "posted + 1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("input", "input + 1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("cache_read", "1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("cache_write_5m", "1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("cache_write_1h", "1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("output", "1", "rollup of account 4, hour 2026-01-01T01:00:00"),
            ("web_searches", "1", "rollup of account 4, hour 2026-01-01T01:00:00"),
        ],
    ),
    (
        "spent WHERE payer = 4 AND quarter = (SELECT min(quarter) FROM spent)",
        &[
            ("payer", "-7", "spent of account 4: it says"),
            ("tag", "'x'", "spent of account 4: it says"),
            ("quarter", "quarter + 900000", NOBODY),
            ("model", "'x'", NOBODY),
            ("posted", "posted + 1", "spent of account 4: it says"),
        ],
    ),
    ("price_book WHERE 1 = 1", &[("text", "text || ' '", "price_book ")]),
    (
        "price_overlay WHERE 1 = 1",
        &[(
            "text",
            "replace(text, 'fast', 'slow')",
            "price_overlay: the present price book is not what comes of it",
        )],
    ),
    (
        "credential WHERE digest = (SELECT digest FROM credential ORDER BY digest LIMIT 1)",
        &[
            ("account", "(SELECT max(account) FROM credential)", "its digest is no credential of its key"),
            ("name", "'x'", NOBODY),
            ("created_at", "created_at + 1", NOBODY),
            ("revoked_at", "1", NOBODY),
        ],
    ),
    (
        "account WHERE kind = 'key' AND id = 'key-1'",
        &[
            ("kind", "'customer'", "key is not what its entries say"),
            ("scope", "'x'", NOBODY),
            ("id", "'x'", NOBODY),
            ("alias", "'x'", NOBODY),
            ("organization", "account", NOBODY),
            ("team", "account", NOBODY),
            ("user", "account", NOBODY),
            ("models", "'[\"x\"]'", NOBODY),
            ("tags", "'[\"x\"]'", NOBODY),
            ("forbidden", "'[\"fast_mode\"]'", NOBODY),
            ("required_tags", "'[\"x\"]'", NOBODY),
            ("budget_duration", "'1h'", NOBODY),
            ("blocked", "NOT blocked", NOBODY),
            ("expires_at", "1", NOBODY),
            ("metadata", "'{\"x\": 1}'", NOBODY),
            ("session_limit", "1", NOBODY),
            ("session_limits", "'{\"x\": 1}'", NOBODY),
            ("client_tags_bind", "NOT client_tags_bind", NOBODY),
            ("revision", "revision + 1", NOBODY),
            ("managed_by", "'x'", NOBODY),
            ("owner_scope", "'x'", NOBODY),
            ("created_by", "'x'", NOBODY),
            ("created_at", "created_at + 1", NOBODY),
            ("updated_at", "updated_at + 1", NOBODY),
            ("deleted_at", "1", NOBODY),
        ],
    ),
    (
        "budget_limit WHERE budget_limit = (SELECT min(budget_limit) FROM budget_limit)",
        &[
            ("account", "-1", NOBODY),
            ("window", "'calendar/hour'", NOBODY),
            ("model", "'x'", NOBODY),
            ("amount", "amount + 1", NOBODY),
            ("duration", "'x'", NOBODY),
            ("main", "NOT main", NOBODY),
            ("observe", "NOT observe", NOBODY),
            ("soft", "NOT soft", NOBODY),
            ("thresholds", "'[7]'", NOBODY),
        ],
    ),
    (
        "rate WHERE account = 4",
        &[
            ("account", "-1", NOBODY),
            ("kind", "'tpm'", NOBODY),
            ("model", "'x'", NOBODY),
            ("amount", "amount + 1", NOBODY),
            ("observe", "NOT observe", NOBODY),
            ("state", "state + 1", NOBODY),
        ],
    ),
    ("tombstone WHERE at = 1", &[("digest", BYTES, NOBODY), ("at", "at + 1", NOBODY)]),
    (
        "crossing WHERE crossing = (SELECT min(crossing) FROM crossing)",
        &[
            ("at", "at + 1", NOBODY),
            ("account", "-1", NOBODY),
            ("window", "'calendar/hour'", NOBODY),
            ("model", "'x'", NOBODY),
            ("soft", "NOT soft", NOBODY),
            ("window_start", "window_start + 1", NOBODY),
            ("threshold", "threshold + 1", NOBODY),
            ("amount", "amount + 1", NOBODY),
            ("posted", "posted + 1", NOBODY),
        ],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_known_who_finds_an_altered_column() {
    let folder = tempfile::tempdir().unwrap();
    for place in Place::each(&folder) {
        lived(&place).await;
        // What such a life leaves nothing of.
        place.alter(
            "INSERT INTO rate (account, kind, amount) VALUES (4, 'rpm', 10);
             INSERT INTO tombstone (id, digest, at) SELECT digest, digest, 1 FROM credential",
        );
        assert_eq!(found(&place).await, "", "nothing was altered");
        let mut wrong = Vec::new();
        for (row, alterations) in TABLE {
            let (table, rest) = row.split_once(' ').unwrap();
            for (column, value, expected) in *alterations {
                // What follows from nothing in a file does not in a database either.
                if expected.is_empty() && matches!(place, Place::Postgres(_)) {
                    continue;
                }
                let change = format!(r#"UPDATE {table} SET "{column}" = {value} {rest}"#);
                let found = found_after(&place, table, &change).await;
                let right = if expected.is_empty() { found.is_empty() } else { found.contains(expected) };
                if !right {
                    wrong.push(format!("{row}: {column} = {value}: {expected:?} is not {found:?}"));
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        assert_eq!(found(&place).await, "", "everything is as it was");
    }
}

/// A column that comes must say who guards it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_column_is_in_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::file(&folder, "ledger.db");
    lived(&place).await;
    let file = Connection::open(place.path()).unwrap();
    let tables: BTreeSet<&str> = TABLE.iter().map(|(row, _)| row.split_once(' ').unwrap().0).collect();
    // What the books say of themselves (their epoch, and up to where they are summed and checked) has no columns of its own.
    let apart = ["meta", "refinery_schema_history"];
    let mut made = file.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let made = made.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
    let unknown: Vec<String> = made
        .filter(|table| !table.starts_with("sqlite_") && !apart.contains(&table.as_str()))
        .filter(|table| !tables.contains(table.as_str()))
        .collect();
    assert_eq!(unknown, Vec::<String>::new());
    for table in tables {
        let mut columns = file.prepare("SELECT name FROM pragma_table_info(?1) WHERE pk = 0").unwrap();
        let columns = columns.query_map([table], |row| row.get::<_, String>(0)).unwrap();
        let of_table = |(row, _): &&(&str, Alterations)| row.split_once(' ').unwrap().0 == table;
        let listed: BTreeSet<&str> = TABLE
            .iter()
            .filter(of_table)
            .flat_map(|(_, alterations)| alterations.iter().map(|(column, ..)| *column))
            .collect();
        for column in columns.map(Result::unwrap) {
            assert!(listed.contains(column.as_str()), "{table}.{column}");
        }
    }
}

/// What `verify` finds.
async fn found(place: &Place) -> String {
    let place = match place {
        Place::Sqlite(path) => store::Place::Sqlite(path.clone()),
        Place::Postgres(address) => store::Place::Postgres(Box::new(address.parse().unwrap())),
    };
    let audit = tokio::task::spawn_blocking(move || place.verify()).await.unwrap().unwrap();
    audit.faults.join("\n")
}

/// What it finds where a statement has changed a table, behind the back of everything that guards it.
async fn found_after(place: &Place, table: &str, change: &str) -> String {
    match place {
        Place::Sqlite(path) => {
            let copy = Place::Sqlite(path.with_extension("altered"));
            std::fs::copy(path, copy.path()).unwrap();
            let file = Connection::open(copy.path()).unwrap();
            file.pragma_update(None, "foreign_keys", false).unwrap();
            file.execute_batch(&format!("DROP TRIGGER entry_is_never_changed; {change}")).unwrap();
            drop(file);
            found(&copy).await
        }
        Place::Postgres(address) => {
            let name = address.rsplit_once('/').unwrap().1;
            let run = |sql: &str| {
                let sql =
                    format!("SET session_replication_role = replica; SET synchronous_commit = off; {sql}");
                Cluster::shared().sql(name, &sql)
            };
            run(&format!("CREATE TABLE kept AS SELECT * FROM {table}; {change}"));
            let found = found(place).await;
            run(&format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept; DROP TABLE kept"));
            found
        }
    }
}
