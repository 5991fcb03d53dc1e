//! Bytes that changed by themselves or by somebody's hand: the books say where, at the start or when they are verified.

use crate::dice::{Dice, seed};
use crate::ledger::{Ledger, path, verify};
use crate::shim::Disk;
use crate::torn::{Copy, flip, length, one_by_one};
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::path::Path;
use std::process::Output;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_books_are_verified() {
    let disk = Disk::new();
    one_by_one(&disk).await;
    for life in ["killed", "closed"] {
        let verified = verify(&disk.folder());
        assert_eq!(verified.status.code(), Some(0), "{life}: {verified:?}");
        assert!(!verified.stdout.is_empty(), "it reports what it saw");
        Ledger::start(&disk.folder()).unwrap().close();
    }
}

/// Whatever columns the tables come to have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_column_of_a_balance_is_guarded() {
    let disk = Disk::new();
    one_by_one(&disk).await;
    for column in columns(&disk.folder(), "balance") {
        let copy = Copy::of(&disk.folder());
        let row = alter(&copy.data, "balance", &column, "ORDER BY random()");
        finds(&copy.data, "balance", row, &column);
        refuses_to_start(&copy.data, "balance", row, &column);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_column_of_an_entry_is_guarded() {
    let disk = Disk::new();
    one_by_one(&disk).await;
    for column in columns(&disk.folder(), "entry") {
        let copy = Copy::of(&disk.folder());
        let row = alter(&copy.data, "entry", &column, "ORDER BY entry DESC");
        finds(&copy.data, "entry", row, &column);
        refuses_to_start(&copy.data, "entry", row, &column);
        let copy = Copy::of(&disk.folder());
        let row = alter(&copy.data, "entry", &column, "ORDER BY random()");
        finds(&copy.data, "entry", row, &column);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_gone_is_missed() {
    let disk = Disk::new();
    one_by_one(&disk).await;
    let charged = "balance WHERE charged_at IS NOT NULL";
    for (table, rows) in [("balance", charged), ("entry", "entry"), ("hold", "hold")] {
        let copy = Copy::of(&disk.folder());
        let remove = format!(
            "DELETE FROM {table} WHERE {table} = (SELECT {table} FROM {rows} ORDER BY random() LIMIT 1)"
        );
        without_triggers(&copy.data, |file| assert_eq!(file.execute(&remove, []).unwrap(), 1));
        assert_eq!(verify(&copy.data).status.code(), Some(1), "{table}");
    }
}

/// SQLite reads such a page without a word, and whoever reads on from its last row would never end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_out_of_order_are_refused() {
    let disk = Disk::new();
    one_by_one(&disk).await;
    Ledger::start(&disk.folder()).unwrap().close();
    let file = path(&disk.folder());
    let bytes = std::fs::read(&file).unwrap();
    let leaf = |page: &std::ops::Range<usize>| bytes[page.start] == LEAF;
    let page = pages(&disk.folder(), "balance").into_iter().find(leaf).unwrap();
    let first = page.start + usize::from(u16::from_be_bytes([bytes[page.start + 8], bytes[page.start + 9]]));
    // The length of the row, in one byte or two, then its number.
    let number = first + if bytes[first] < 0x80 { 1 } else { 2 };
    flip(&file, number, 0x40);
    let why = Ledger::start(&disk.folder()).map(Ledger::kill).unwrap_err();
    assert!(why.contains("order of rows: balance 2 comes after 65"), "{why}");
    assert_eq!(verify(&disk.folder()).status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_are_found() {
    flips(150).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: three thousand flipped bits"]
async fn flipped_bits_are_found_anywhere() {
    flips(3_000).await;
}

/// A third in pages of balances, a third in pages of entries, a third anywhere.
async fn flips(count: usize) {
    let disk = Disk::new();
    one_by_one(&disk).await;
    Ledger::start(&disk.folder()).unwrap().close();
    let good = money(&disk.folder()).unwrap();
    let pages = [pages(&disk.folder(), "balance"), pages(&disk.folder(), "entry")];
    let mut dice = Dice::new(seed());
    let mut altered = 0;
    for number in 0..count {
        let copy = Copy::of(&disk.folder());
        let file = path(&copy.data);
        let range = match pages.get(number % 3) {
            Some(pages) => dice.pick(pages).clone(),
            None => 0..length(&file),
        };
        let (at, mask) = (range.start + dice.below(range.len()), 1 << dice.below(8));
        flip(&file, at, mask);
        let now = money(&copy.data);
        let harmless = now.as_ref().is_ok_and(|now| *now == good);
        let verified = verify(&copy.data);
        let place = format!("TOLLGATE_SEED={}, bit {mask} of byte {at}: {verified:?}", seed());
        if harmless {
            // In unused space, or in a column that is not money.
            assert!(matches!(verified.status.code(), Some(0 | 1)), "{place}");
        } else {
            altered += 1;
            let rows = now.iter().flatten().zip(&good);
            let place = format!("{place}, {:?}", rows.into_iter().find(|(now, good)| now != good));
            assert_eq!(verified.status.code(), Some(1), "{place}");
            assert!(!verified.stdout.is_empty() || !verified.stderr.is_empty(), "it says why: {place}");
        }
        // It may serve or refuse, but ends as a program should.
        if let Err(why) = Ledger::start(&copy.data).map(Ledger::kill) {
            assert!(why.starts_with("exit status: 1"), "{place}: {why}");
        }
    }
    assert!(altered > count / 5, "only {altered} flips of {count} did anything");
}

/// Everything that money depends on, and whether the file hangs together.
fn money(folder: &Path) -> rusqlite::Result<Vec<Vec<Value>>> {
    let file = Connection::open(path(folder))?;
    let mut rows = Vec::new();
    for sql in [
        "PRAGMA integrity_check",
        "SELECT * FROM balance ORDER BY balance",
        "SELECT * FROM entry ORDER BY entry",
        "SELECT hold, state, CASE state WHEN 0 THEN amount END, posted FROM hold ORDER BY hold",
    ] {
        let mut statement = file.prepare(sql)?;
        let columns = statement.column_count();
        let read = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect())?;
        rows.extend(read.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(rows)
}

/// The kind of a page that holds rows.
const LEAF: u8 = 0x0D;

/// Where the table's own pages are in the file.
fn pages(folder: &Path, table: &str) -> Vec<std::ops::Range<usize>> {
    let file = reading(folder);
    let mut statement = file.prepare("SELECT pgoffset, pgsize FROM dbstat WHERE name = ?1").unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u32>(0)? as usize, row.get::<_, u32>(1)? as usize));
    let pages = statement.query_map([table], read).unwrap();
    pages.map(Result::unwrap).map(|(start, length)| start..start + length).collect()
}

/// Leaves the log as it is, and so does whoever alters.
fn reading(folder: &Path) -> Connection {
    Connection::open_with_flags(path(folder), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn columns(folder: &Path, table: &str) -> Vec<String> {
    let file = reading(folder);
    let mut statement = file.prepare("SELECT name FROM pragma_table_info(?1)").unwrap();
    statement.query_map([table], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Changes one value, the first in this order; gives the row's number from before.
fn alter(folder: &Path, table: &str, column: &str, order: &str) -> i64 {
    let mut row = None;
    without_triggers(folder, |file| {
        let pick = format!("SELECT {table}, \"{column}\" FROM {table} {order} LIMIT 1");
        let (number, old): (i64, Value) =
            file.query_row(&pick, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let new = altered(file, table, column, old.clone());
        let update = format!("UPDATE {table} SET \"{column}\" = ?1 WHERE {table} = ?2");
        let done = file.execute(&update, (new, number)).or_else(|_| {
            // Another row has it.
            let Value::Integer(old) = old else { panic!("{table}.{column}") };
            file.execute(&update, (old ^ (1 << 40), number))
        });
        assert_eq!(done.unwrap(), 1);
        row = Some(number);
    });
    row.unwrap()
}

/// As little as can be: one bit, where there is one.
fn altered(file: &Connection, table: &str, column: &str, old: Value) -> Value {
    match old {
        Value::Integer(number) if column == table => Value::Integer(number + 1_000_000),
        Value::Integer(number) => Value::Integer(number ^ 1),
        Value::Text(text) => Value::Text(format!("{text} ")),
        Value::Blob(mut bytes) => {
            match bytes.last_mut() {
                Some(last) => *last ^= 1,
                None => bytes.push(0),
            }
            Value::Blob(bytes)
        }
        Value::Real(_) => panic!("no floats for money"),
        Value::Null => {
            let kind = "SELECT type FROM pragma_table_info(?1) WHERE name = ?2";
            let kind: String = file.query_row(kind, [table, column], |row| row.get(0)).unwrap();
            match kind.as_str() {
                "INTEGER" => Value::Integer(1),
                "TEXT" => Value::Text(String::new()),
                _ => Value::Blob(Vec::new()),
            }
        }
    }
}

/// As a hand or a broken disk would: nothing in the file has a say. The triggers stand again afterwards.
fn without_triggers(folder: &Path, change: impl FnOnce(&Connection)) {
    let mut file = Connection::open(path(folder)).unwrap();
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    file.pragma_update(None, "foreign_keys", false).unwrap();
    file.pragma_update(None, "ignore_check_constraints", true).unwrap();
    let transaction = file.transaction().unwrap();
    let mut triggers = Vec::new();
    let next = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' LIMIT 1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    while let Some((name, sql)) = transaction.query_row(next, [], read).optional().unwrap() {
        transaction.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
        triggers.push(sql);
    }
    change(&transaction);
    triggers.iter().for_each(|sql| transaction.execute_batch(sql).unwrap());
    transaction.commit().unwrap();
}

/// Names the table and the row, by its number from before or after.
fn finds(folder: &Path, table: &str, row: i64, column: &str) {
    let verified = verify(folder);
    assert_eq!(verified.status.code(), Some(1), "{table}.{column} of {row}: {verified:?}");
    assert!(names(&report(&verified), table, row), "{table}.{column} of {row}: {verified:?}");
}

fn refuses_to_start(folder: &Path, table: &str, row: i64, column: &str) {
    match Ledger::start(folder).map(Ledger::kill) {
        Ok(()) => panic!("{table}.{column} of {row} is served"),
        Err(why) => assert!(names(&why, table, row), "{table}.{column} of {row}: {why}"),
    }
}

fn report(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// A renumbered row may be found by its new number, or missed under its old one.
fn names(report: &str, table: &str, row: i64) -> bool {
    report.lines().any(|line| {
        line.contains(table)
            && line
                .split(|letter: char| !letter.is_ascii_digit())
                .any(|word| word.parse() == Ok(row) || word.parse() == Ok(row + 1_000_000))
    })
}
