//! Where the books are, and what stands in them.

use crate::reading::check;
use crate::rows::{Cell, of_database, of_file};
use rusqlite::{Connection, OpenFlags};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use tokio_postgres::NoTls;

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
                    read_all(&mut |sql| runtime.block_on(of_database(&client, sql)), false)
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
