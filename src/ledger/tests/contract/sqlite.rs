//! The SQLite store under the contract, and what only a file can do.

use crate::reading::check;
use crate::rows;
use crate::world::Backend;
use rusqlite::{Connection, OpenFlags};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tollgate_domain::price::PriceBook;
use tollgate_ledger::store::sqlite::{self, OpenError};
use tollgate_ledger::store::{BooksStore, Keeper, Place, Settings};

pub(crate) struct Sqlite {
    folder: TempDir,
    keeper: Option<Keeper>,
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }
}

impl Backend for Sqlite {
    const ALONE: bool = true;

    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), keeper: None }
    }

    async fn try_open(&mut self, settings: Settings) -> Result<Arc<BooksStore>, String> {
        let (store, keeper) = sqlite::open(self.path(), settings).map_err(|error| error.to_string())?;
        self.keeper = Some(keeper);
        Ok(Arc::new(store))
    }

    async fn close(&mut self, store: Arc<BooksStore>) {
        drop(store);
        assert!(self.keeper.take().unwrap().closed(Duration::from_secs(5)).await);
        assert!(!self.path().with_extension("db-wal").exists(), "the file alone is the books");
    }

    fn place(&self) -> Place {
        Place::Sqlite(self.path())
    }

    async fn check(&self) {
        let file = Connection::open_with_flags(self.path(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let integrity: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(integrity, "ok");
        check(&mut |sql| rows::of_file(&file, sql), Self::ALONE);
    }
}

pub(crate) fn open_again(path: PathBuf) -> Result<(BooksStore, Keeper), OpenError> {
    let book = Arc::new(PriceBook::parse(tollgate_domain::price::BUILT_IN).unwrap());
    sqlite::open(path, Settings::new(book))
}

#[tokio::test]
async fn two_ledgers_never_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let (store, keeper) = open_again(path.clone()).unwrap();
    let link = folder.path().join("other-name.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for name in [path.clone(), link] {
        let error = open_again(name).err().unwrap();
        assert!(matches!(error, OpenError::InUse(_)));
        assert!(error.to_string().starts_with("another ledger has "), "{error}");
    }
    drop(store);
    assert!(keeper.closed(Duration::from_secs(5)).await);
    open_again(path).unwrap();
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let (store, keeper) = open_again(path.clone()).unwrap();
    drop(store);
    assert!(keeper.closed(Duration::from_secs(5)).await);
    let file = Connection::open(&path).unwrap();
    file.execute(
        "INSERT INTO refinery_schema_history VALUES (99, 'future', '2030-01-01T00:00:00Z', '1')",
        [],
    )
    .unwrap();
    drop(file);
    let error = open_again(path).err().unwrap().to_string();
    assert!(error.contains("has schema 99, this release knows 5"), "{error}");
}

#[tokio::test]
async fn the_journal_refuses_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let _open = open_again(path.clone()).unwrap();
    let file = Connection::open(&path).unwrap();
    file.execute("INSERT INTO entry VALUES (1, 0, 'hold', NULL, x'', 0, 0, NULL, NULL, 0, 0, 0)", [])
        .unwrap();
    for sql in ["UPDATE entry SET posted = 1", "DELETE FROM entry"] {
        let error = file.execute(sql, []).unwrap_err();
        assert_eq!(error.to_string(), "the journal is only ever added to");
    }
}
