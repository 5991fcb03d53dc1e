//! The SQLite store under the contract, and a reading of its file that shares no code with it.

use crate::world::Backend;
use rusqlite::{Connection, OpenFlags, Row};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tollgate_domain::price::PriceBook;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;
use tollgate_ledger::clock::Clock;
use tollgate_ledger::store::sqlite::{Keeper, OpenError, Options, SqliteStore};

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
    type Store = SqliteStore;

    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), keeper: None }
    }

    fn open(&mut self, book: Arc<PriceBook>, clock: Clock) -> Arc<SqliteStore> {
        let (store, keeper) =
            SqliteStore::open(Options { clock, ..Options::new(self.path(), book) }).unwrap();
        self.keeper = Some(keeper);
        Arc::new(store)
    }

    async fn close(&mut self, store: Arc<SqliteStore>) {
        drop(store);
        assert!(self.keeper.take().unwrap().closed(Duration::from_secs(5)).await);
    }

    fn check(&self) {
        let file = Connection::open_with_flags(self.path(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        check(&file);
    }
}

/// Posted and pending.
type Sums = BTreeMap<i64, (i64, i64)>;

/// Checks the books.
pub(crate) fn check(file: &Connection) {
    let integrity: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    let balances = balances(file);
    let mut journal: Sums = balances.keys().map(|id| (*id, (0, 0))).collect();
    for_each(file, "SELECT balances, posted, pending FROM entry", |row| {
        for id in numbers(&row.get::<_, Vec<u8>>(0).unwrap()) {
            let sums = journal.get_mut(&id).expect("an entry names a balance that exists");
            sums.0 += row.get::<_, i64>(1).unwrap();
            sums.1 += row.get::<_, i64>(2).unwrap();
        }
    });
    assert_eq!(journal, balances, "balances are the sums of the entries that name them");
    check_windows(file, &balances);
    check_holds(file);
    check_lines(file);
}

fn balances(file: &Connection) -> Sums {
    let mut balances = Sums::new();
    for_each(file, "SELECT balance, posted, pending FROM balance", |row| {
        let pending = row.get(2).unwrap();
        assert!(pending >= 0, "pending is never negative");
        balances.insert(row.get(0).unwrap(), (row.get(1).unwrap(), pending));
    });
    balances
}

/// What an account spent in a window that is counted now is what its holds of that window were charged.
fn check_windows(file: &Connection, balances: &Sums) {
    let counted = r#"SELECT b.balance, b."window", b.window_start, life.balance
        FROM balance b JOIN balance life ON life.account = b.account AND life."window" = 'lifetime'
        WHERE b."window" = 'lifetime'
           OR EXISTS (SELECT 1 FROM budget_limit l WHERE l.account = b.account AND l."window" = b."window")"#;
    for_each(file, counted, |row| {
        let window: Window = row.get::<_, String>(1).unwrap().parse().unwrap();
        let start: i64 = row.get(2).unwrap();
        let life: i64 = row.get(3).unwrap();
        let id: i64 = row.get(0).unwrap();
        let mut sums = (0, 0);
        for_each(file, "SELECT balances, created_at, posted, amount, state FROM hold", |row| {
            let charged = numbers(&row.get::<_, Vec<u8>>(0).unwrap());
            let made = window.period_at(Timestamp::new(row.get(1).unwrap())).unwrap();
            if charged.contains(&life) && made.start.unix_ms() == start {
                sums.0 += row.get::<_, i64>(2).unwrap();
                sums.1 += if row.get::<_, i64>(4).unwrap() == 0 { row.get(3).unwrap() } else { 0 };
            }
        });
        // A window that was not counted for a while and is past by now says what it said then.
        let latest: bool = file
            .query_row(
                r#"SELECT NOT EXISTS (SELECT 1 FROM balance n JOIN balance b ON b.balance = ?1
                   WHERE n.account = b.account AND n."window" = b."window" AND n.window_start > b.window_start)"#,
                [id],
                |row| row.get(0),
            )
            .unwrap();
        if latest {
            assert_eq!(balances[&id], sums, "balance {id} over {window}");
        }
    });
}

/// A hold's row says what its entries say.
fn check_holds(file: &Connection) {
    let wrong = "SELECT count(*) FROM hold h WHERE
        posted != (SELECT coalesce(sum(posted), 0) FROM entry e WHERE e.hold = h.hold)
        OR iif(state = 0, amount, 0) != (SELECT coalesce(sum(pending), 0) FROM entry e WHERE e.hold = h.hold)
        OR (state = 2 AND posted != 0)";
    assert_eq!(file.query_row(wrong, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

/// Entries have no gap, time never runs back in them, and each has its checksum.
fn check_lines(file: &Connection) {
    let (mut last, mut last_at) = (0, i64::MIN);
    let lines =
        "SELECT entry, at, hold, posted, pending, estimated, overrun, kind, balances, model, usage, checksum
        FROM entry ORDER BY entry";
    for_each(file, lines, |row| {
        let (entry, at): (i64, i64) = (row.get(0).unwrap(), row.get(1).unwrap());
        assert_eq!(entry, last + 1);
        assert!(at >= last_at);
        (last, last_at) = (entry, at);
        let mut sum = Sha256::new();
        sum.update(entry.to_be_bytes());
        sum.update(at.to_be_bytes());
        sum.update(row.get::<_, Option<i64>>(2).unwrap().unwrap_or(-1).to_be_bytes());
        for index in 3..7 {
            sum.update(row.get::<_, i64>(index).unwrap().to_be_bytes());
        }
        let text = |index| row.get::<_, Option<String>>(index).unwrap().map(String::into_bytes);
        let blob = |index| row.get::<_, Option<Vec<u8>>>(index).unwrap();
        for part in [text(7), blob(8), text(9), blob(10)] {
            sum.update(part.as_ref().map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            sum.update(part.unwrap_or_default());
        }
        let digest: [u8; 32] = sum.finalize().into();
        let checksum = i64::from_be_bytes(digest[..8].try_into().unwrap());
        assert_eq!(row.get::<_, i64>(11).unwrap(), checksum, "entry {entry}");
    });
}

fn for_each(file: &Connection, sql: &str, mut see: impl FnMut(&Row<'_>)) {
    let mut statement = file.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        see(row);
    }
}

fn numbers(bytes: &[u8]) -> Vec<i64> {
    let mut numbers = vec![0_i64];
    let mut shift = 0;
    for byte in bytes {
        *numbers.last_mut().unwrap() |= i64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(0);
            shift = 0;
        }
    }
    numbers.pop();
    numbers
}

fn open_again(path: PathBuf) -> Result<(SqliteStore, Keeper), OpenError> {
    let book = Arc::new(PriceBook::parse(tollgate_domain::price::BUILT_IN).unwrap());
    SqliteStore::open(Options::new(path, book))
}

#[tokio::test]
async fn two_ledgers_never_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let (store, keeper) = open_again(path.clone()).unwrap();
    let link = folder.path().join("other-name.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for name in [path.clone(), link] {
        let error = open_again(name).unwrap_err();
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
    let error = open_again(path).unwrap_err().to_string();
    assert!(error.contains("has schema 99, this release knows 1"), "{error}");
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
