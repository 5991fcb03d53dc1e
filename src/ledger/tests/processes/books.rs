//! Where the books are, and what stands in them.

use crate::reading::{Cell, check};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

pub(crate) struct Books {
    place: Place,
    /// For what the ledgers are given.
    folder: TempDir,
    files: AtomicU64,
}

enum Place {
    File(PathBuf),
    /// The address of a database.
    Server(String),
}

/// A hold as the tables have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// 0: open, 1: settled.
    pub(crate) state: i64,
    pub(crate) posted: i64,
}

impl Books {
    pub(crate) fn in_file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { place: Place::File(folder.path().join("ledger.db")), folder, files: AtomicU64::new(0) }
    }

    pub(crate) fn on_server(address: String) -> Self {
        Self { place: Place::Server(address), folder: tempfile::tempdir().unwrap(), files: AtomicU64::new(0) }
    }

    /// How a ledger is told of them.
    pub(crate) fn options(&self) -> [String; 2] {
        match &self.place {
            Place::File(path) => ["--db".into(), path.display().to_string()],
            Place::Server(address) => ["--database-url".into(), address.clone()],
        }
    }

    /// A name for another price book.
    pub(crate) fn price_file(&self) -> PathBuf {
        self.folder.path().join(format!("prices-{}.json", self.files.fetch_add(1, Ordering::Relaxed)))
    }

    /// Checks that they are right in themselves, and gives the holds. A file must be nobody's meanwhile; a server may be at work.
    pub(crate) async fn check(&self) -> HashMap<Vec<u8>, Row> {
        match &self.place {
            Place::File(path) => {
                let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
                let integrity: String =
                    file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
                assert_eq!(integrity, "ok");
                read_all(&mut |sql| of_file(&file, sql), true)
            }
            Place::Server(address) => {
                let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
                let connection = tokio::spawn(connection);
                // All tables at one moment.
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
                client.batch_execute(begin).await.unwrap();
                let runtime = tokio::runtime::Handle::current();
                let holds = tokio::task::block_in_place(|| {
                    read_all(&mut |sql| runtime.block_on(of_server(&client, sql)), false)
                });
                drop(client);
                connection.await.unwrap().unwrap();
                holds
            }
        }
    }
}

fn read_all(read: &mut dyn FnMut(&str) -> Vec<Vec<Cell>>, alone: bool) -> HashMap<Vec<u8>, Row> {
    check(read, alone);
    let twice = "SELECT hold, kind FROM entry WHERE hold IS NOT NULL GROUP BY hold, kind HAVING count(*) > 1";
    assert!(read(twice).is_empty(), "no hold is made or settled twice");
    let rows = read("SELECT id, state, posted FROM hold").into_iter().map(|row| match row.as_slice() {
        [Cell::Blob(id), Cell::Int(state), Cell::Int(posted)] => {
            (id.clone(), Row { state: *state, posted: *posted })
        }
        other => panic!("{other:?}"),
    });
    rows.collect()
}

fn of_file(file: &Connection, sql: &str) -> Vec<Vec<Cell>> {
    let mut statement = file.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let cell = |index| match row.get_ref(index).unwrap() {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(value) => Cell::Int(value),
            ValueRef::Text(text) => Cell::Text(String::from_utf8(text.to_vec()).unwrap()),
            ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
            ValueRef::Real(_) => panic!("a float in the books"),
        };
        all.push((0..columns).map(cell).collect());
    }
    all
}

async fn of_server(client: &tokio_postgres::Client, sql: &str) -> Vec<Vec<Cell>> {
    let rows = client.query(sql, &[]).await.unwrap();
    let cell = |row: &tokio_postgres::Row, index: usize| match *row.columns()[index].type_() {
        Type::INT8 => row.get::<_, Option<i64>>(index).map_or(Cell::Null, Cell::Int),
        Type::BOOL => row.get::<_, Option<bool>>(index).map_or(Cell::Null, |flag| Cell::Int(flag.into())),
        Type::TEXT => row.get::<_, Option<String>>(index).map_or(Cell::Null, Cell::Text),
        Type::BYTEA => row.get::<_, Option<Vec<u8>>>(index).map_or(Cell::Null, Cell::Blob),
        ref other => panic!("a column of type {other}"),
    };
    rows.iter().map(|row| (0..row.len()).map(|index| cell(row, index)).collect()).collect()
}
