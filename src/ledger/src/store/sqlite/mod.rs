//! The embedded store: one SQLite file.

mod accounts;
mod code;
mod holds;
mod journal;
mod keys;
mod memory;
mod open;
mod past;
mod records;
mod rows;
mod spend;
mod thread;

pub use open::OpenError;

use super::{
    AccountChange, AccountFilter, AccountRecord, AccountRef, Found, NewAccount, Page, SpendFilter,
    SpendRecord, Store, StoreError, TagSpend,
};
use crate::clock::Clock;
use crate::rules::admission::{self, Counted};
use keys::Charged;
use memory::Ground;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tollgate_domain::catalogue::Catalogue;
use tollgate_domain::hold::{HoldAsk, Outcome, Report, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::Exhausted;
use tollgate_domain::price::PriceBook;
use tollgate_domain::time::Timestamp;

/// What a store needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file; made where it is missing.
    pub path: PathBuf,
    /// The prices.
    pub book: Arc<PriceBook>,
    /// The time.
    pub clock: Clock,
    /// How long a hold lives after its last sign of life.
    pub hold_ttl_ms: i64,
    /// No limit refuses anything: each only records what it would have.
    pub observe: bool,
    /// How long after the start nothing expires, so that settles which waited for the ledger win.
    pub expiry_grace_ms: i64,
}

impl Options {
    /// Fifteen minutes for a hold: fifteen heartbeats of an open stream. Two minutes of grace: longer than filters wait before
    /// they send again.
    pub fn new(path: impl Into<PathBuf>, book: Arc<PriceBook>) -> Self {
        Self {
            path: path.into(),
            book,
            clock: Clock::system(),
            hold_ttl_ms: 15 * 60_000,
            observe: false,
            expiry_grace_ms: 2 * 60_000,
        }
    }
}

/// The books in one SQLite file, open until every clone of it is dropped.
#[derive(Debug)]
pub struct SqliteStore {
    writer: thread::Writer,
    /// For look-ups, so that they never wait for a long list.
    lookups: thread::Reader,
    /// For what people ask.
    lists: thread::Reader,
    book: Arc<PriceBook>,
}

/// Waits for the end of a store's threads.
#[derive(Debug)]
pub struct Keeper {
    failed: watch::Receiver<Option<String>>,
    threads: Vec<JoinHandle<()>>,
    lock: std::fs::File,
}

impl Keeper {
    /// Waits until the store cannot go on, and says why: the process should end, and recover by a restart.
    pub async fn failed(&mut self) -> String {
        match self.failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The writer ended as it should.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until everything is written and the file is closed. The store must have been dropped before; where somebody still
    /// has it after `at_most`, this gives up, and says so with `false`.
    pub async fn closed(self, at_most: Duration) -> bool {
        let gone = async {
            while !self.threads.iter().all(JoinHandle::is_finished) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let closed = tokio::time::timeout(at_most, gone).await.is_ok();
        drop(self.lock);
        closed
    }
}

impl SqliteStore {
    /// Opens the books, on the newest schema.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: Options) -> Result<(Self, Keeper), OpenError> {
        let opened = open::open(&options.path)?;
        let ground = Ground {
            epoch: opened.epoch,
            former_books: Arc::new(open::former_books(&opened.writer, &options.book)?),
            book: options.book.clone(),
            grace_until: options.clock.now().plus_ms(options.expiry_grace_ms),
            clock: options.clock,
            hold_ttl_ms: options.hold_ttl_ms,
            observe: options.observe,
        };
        let (failure, failed) = watch::channel(None);
        let start = |error| OpenError::File { path: opened.path.clone(), error };
        let reader = |name| {
            let file = open::open_reader(&opened.path)?;
            thread::start_reader(name, file, ground.clone()).map_err(start)
        };
        let (lookups, lookups_thread) = reader("ledger-lookups")?;
        let (lists, lists_thread) = reader("ledger-lists")?;
        let (writer, writer_thread) =
            thread::start_writer(opened.writer, ground.clone(), failure).map_err(start)?;
        let threads = vec![lookups_thread, lists_thread, writer_thread];
        let store = Self { writer, lookups, lists, book: options.book };
        Ok((store, Keeper { failed, threads, lock: opened.lock }))
    }
}

impl Store for SqliteStore {
    async fn hold(&self, ask: HoldAsk, reports: Vec<Report>) -> Result<(Verdict, Vec<Outcome>), StoreError> {
        self.writer.run(move |books| books.hold(&ask, &reports)).await
    }

    async fn report(&self, reports: Vec<Report>) -> Result<Vec<Outcome>, StoreError> {
        self.writer.run(move |books| books.report(&reports)).await
    }

    async fn correct(&self, hold: HoldId, cost: Nanodollars) -> Result<Nanodollars, StoreError> {
        self.writer.run(move |books| books.correct(&hold, cost)).await
    }

    async fn lookup(&self, key: KeyDigest, known_version: Vec<u8>) -> Result<Found, StoreError> {
        self.lookups.run(move |file, ground| look_up(file, ground, &key, &known_version)).await
    }

    fn catalogue(&self) -> &Catalogue {
        self.book.catalogue()
    }

    async fn create(&self, account: NewAccount) -> Result<AccountRecord, StoreError> {
        self.writer.run_undoable(move |books| books.create(&account)).await
    }

    async fn update(&self, account: AccountRef, change: AccountChange) -> Result<AccountRecord, StoreError> {
        self.writer.run_undoable(move |books| books.update(&account, &change)).await
    }

    async fn delete(&self, accounts: Vec<AccountRef>) -> Result<Vec<AccountRecord>, StoreError> {
        self.writer.run_undoable(move |books| books.delete(&accounts)).await
    }

    async fn account(&self, account: AccountRef) -> Result<Option<AccountRecord>, StoreError> {
        let read = move |file: &Connection, ground: &Ground| {
            let now = thread::reading_time(file, ground)?;
            records::find(file, &account)?.map(|row| records::record(file, row, now)).transpose()
        };
        self.lists.run(read).await
    }

    async fn accounts(
        &self,
        filter: AccountFilter,
        page: Page,
    ) -> Result<(Vec<AccountRecord>, u64), StoreError> {
        let read = move |file: &Connection, ground: &Ground| {
            let now = thread::reading_time(file, ground)?;
            records::records(file, &filter, page, now)
        };
        self.lists.run(read).await
    }

    async fn spend_logs(&self, filter: SpendFilter, page: Page) -> Result<Vec<SpendRecord>, StoreError> {
        self.lists.run(move |file, _| spend::logs(file, &filter, page)).await
    }

    async fn spend_by_tag(&self, filter: SpendFilter) -> Result<Vec<TagSpend>, StoreError> {
        self.lists.run(move |file, _| spend::by_tag(file, &filter)).await
    }
}

fn look_up(
    file: &Connection,
    ground: &Ground,
    digest: &KeyDigest,
    known_version: &[u8],
) -> rusqlite::Result<Found> {
    let loaded = keys::load_key(file, digest, &ground.epoch, ground.book.revision())?;
    let Some((key, accounts)) = loaded else {
        return Ok(Found::Unknown);
    };
    let now = thread::reading_time(file, ground)?;
    let exhausted = exhausted(file, &accounts, now, ground.observe)?.map(Box::new);
    let policy = (key.policy.version != known_version).then(|| Box::new(key.policy));
    Ok(Found::Known { policy, exhausted })
}

fn exhausted(
    file: &Connection,
    accounts: &[(i64, Charged)],
    now: Timestamp,
    observe_all: bool,
) -> rusqlite::Result<Option<Exhausted>> {
    let mut limits = Vec::new();
    for (row, account) in accounts {
        for count in &account.counts {
            let Some((limit, observe)) = count.limit else { continue };
            let window = count.window;
            let records::Standing { posted, pending, .. } = records::standing(file, *row, window, now)?;
            limits.push(Counted {
                account: &account.label,
                limit,
                observe: observe || observe_all,
                posted,
                pending,
                window,
                at: now,
            });
        }
    }
    Ok(admission::exhausted(limits))
}
