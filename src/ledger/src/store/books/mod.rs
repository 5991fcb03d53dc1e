//! The books: one implementation of the [`Store`](super::Store) over any database that the [`Sql`](super::sql::Sql) trait has a
//! driver for.

mod accounts;
mod apply;
mod balance;
mod changes;
mod charges;
mod check;
mod code;
mod deleting;
mod foresight;
mod holds;
mod journal;
mod keys;
mod limits;
mod listing;
mod locking;
mod memory;
mod meta;
mod moments;
mod overlays;
mod past;
#[cfg(test)]
pub(crate) mod plans;
mod prices;
mod rates;
mod records;
mod retire;
mod rows;
mod spend;
mod spent;
mod sums;
mod tag_locks;
mod tending;
mod worker;
mod writes;

pub use check::Audit;
pub(crate) use check::{CheckError, allow_missing, at_start as check_at_start, verify};

pub use retire::{Retired, retire};

pub(crate) use balance::add_checksums;
pub(crate) use memory::Epoch;
pub(crate) use meta::set as set_meta;
pub(crate) use moments::latest as latest_moment;

use super::clock_check::ClockError;
use super::sql::{self, Sql, SqlError};
use super::{
    AccountChange, AccountFilter, AccountName, AccountRecord, AccountRef, Applied, Changes, Crossing, Cursor,
    DesiredAccount, Found, Listed, Manager, NewAccount, Operated, Page, PricesSet, Reach, Refused,
    SpendFilter, SpendRecord, Store, StoreError, TagSpend,
};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::rules::admission;
use keys::Charged;
use limits::LimitNow;
use locking::Needs;
use memory::{Books, Ground};
use prices::Prices;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tollgate_domain::hold::{HoldAsk, Outcome, Report as News, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::Exhausted;
use tollgate_domain::price::{Overlay, PriceBook};
use tollgate_domain::time::Timestamp;
use worker::Trouble;

/// What the books need to know, wherever they are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The prices.
    pub book: Arc<PriceBook>,
    /// The time; `None`: the machine's, or where the books are in a database that others use, too, the database's.
    pub clock: Option<Clock>,
    /// How long a hold lives after its last sign of life.
    pub hold_ttl_ms: i64,
    /// No limit refuses anything: each only records what it would have.
    pub observe: bool,
    /// How long after the start nothing expires, so that settles which waited for the ledger win.
    pub expiry_grace_ms: i64,
    /// Somebody has looked, and the clock is right, whatever the journal says.
    pub accept_clock: bool,
    /// Somebody knows that what happened between the backup and its return is not in the books.
    pub accept_gap: bool,
}

impl Settings {
    /// Fifteen minutes for a hold: fifteen heartbeats of an open stream. Two minutes of grace: longer than filters wait before
    /// they send again.
    pub fn new(book: Arc<PriceBook>) -> Self {
        Self {
            book,
            clock: None,
            hold_ttl_ms: 15 * 60_000,
            observe: false,
            expiry_grace_ms: 2 * 60_000,
            accept_clock: false,
            accept_gap: false,
        }
    }
}

/// The books, open until every clone of the store is dropped.
pub struct BooksStore {
    writer: worker::Writer,
    /// For look-ups, so that they never wait for a long list.
    lookups: worker::Reader,
    /// For what people ask.
    lists: worker::Reader,
    prices: Prices,
    epoch: Epoch,
    trouble: Trouble,
    counters: Arc<Counters>,
}

/// Waits for the end of a store's threads.
#[derive(Debug)]
pub struct Keeper {
    failed: watch::Receiver<Option<String>>,
    /// Ends after all others.
    writer: JoinHandle<()>,
    /// What must stay open as long as the books are, such as a lock.
    _guard: Option<std::fs::File>,
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

    /// Waits until everything is written and the books are closed. The store must have been dropped before; where somebody still
    /// has it after `at_most`, this gives up, and says so with `false`.
    pub async fn closed(self, at_most: Duration) -> bool {
        let gone = async {
            while !self.writer.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(at_most, gone).await.is_ok()
    }
}

/// Connections to the same books, ready for use.
pub(crate) struct Connections {
    pub(crate) writer: Box<dyn Sql + Send>,
    pub(crate) lookups: Vec<Box<dyn Sql + Send>>,
    pub(crate) lists: Vec<Box<dyn Sql + Send>>,
    /// Kept open as long as the books are.
    pub(crate) guard: Option<std::fs::File>,
}

/// What the books say of themselves, read once at the start.
pub(crate) struct Start(Ground);

/// Why the books are not taken into service.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The clock and the journal contradict each other.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// They were given back from a backup, and what came after it is not in them.
    #[error(
        "these books were restored from a backup: nothing of what happened between {from} and {to} is in them; start once \
         with --accept-gap to go on without it"
    )]
    Gap {
        /// The backup's latest entry.
        from: String,
        /// When it was given back.
        to: String,
    },
    /// They cannot be read or written.
    #[error("{0}")]
    Database(String),
}

impl From<SqlError> for StartError {
    fn from(error: SqlError) -> Self {
        Self::Database(error.why)
    }
}

impl Start {
    /// Makes what every ledger finds: the epoch, the present prices, the beginning of the sums.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) fn read(db: &dyn Sql, settings: &Settings) -> Result<Self, StartError> {
        let clock = match (&settings.clock, db.clock_ms()?) {
            (Some(clock), _) => clock.clone(),
            (None, Some(now)) => Clock::following(Timestamp::new(now)),
            (None, None) => Clock::system(),
        };
        db.begin()?;
        let started = tending::begin(db, settings, clock);
        if started.is_ok() {
            db.commit()?
        } else {
            db.rollback()?
        }
        started.map(Self)
    }
}

impl BooksStore {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub(crate) fn start(connections: Connections, Start(ground): Start) -> std::io::Result<(Self, Keeper)> {
        let (failure, failed) = watch::channel(None);
        let trouble = Trouble::default();
        let (lookups, mut readers) = worker::start_readers("ledger-lookups", connections.lookups, &ground)?;
        let (lists, more) = worker::start_readers("ledger-lists", connections.lists, &ground)?;
        readers.extend(more);
        let (epoch, prices, counters) = (ground.epoch, ground.prices.clone(), ground.counters.clone());
        let (writer, thread) =
            worker::start_writer(connections.writer, ground, failure, trouble.clone(), readers)?;
        let store = Self { writer, lookups, lists, prices, epoch, trouble, counters };
        Ok((store, Keeper { failed, writer: thread, _guard: connections.guard }))
    }
}

impl Store for BooksStore {
    async fn hold_within(
        &self,
        reach: Reach,
        ask: HoldAsk,
        reports: Vec<News>,
    ) -> Result<(Verdict, Vec<Outcome>), StoreError> {
        let mut needs = needs(&reports);
        needs.add(Needs { keys: vec![ask.key], holds: vec![ask.id], tags: ask.tags.clone() });
        self.writer.run(needs, move |books| books.hold(&reach, &ask, &reports)).await
    }

    async fn report_within(&self, reach: Reach, reports: Vec<News>) -> Result<Vec<Outcome>, StoreError> {
        self.writer.run(needs(&reports), move |books| books.report(&reach, &reports)).await
    }

    async fn correct(&self, hold: HoldId, cost: Nanodollars) -> Result<Nanodollars, StoreError> {
        let needs = Needs { holds: vec![hold], ..Needs::default() };
        self.writer.run(needs, move |books| books.correct(&hold, cost)).await
    }

    async fn lookup_within(
        &self,
        reach: Reach,
        key: KeyDigest,
        known_version: Vec<u8>,
    ) -> Result<Found, StoreError> {
        self.lookups.run(move |db, ground| look_up(db, ground, &reach, &key, &known_version)).await
    }

    fn prices(&self) -> Arc<PriceBook> {
        self.prices.present()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.get()
    }

    fn prices_held_back(&self) -> Option<String> {
        self.prices.held_back()
    }

    fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    async fn create(&self, account: NewAccount) -> Result<AccountRecord, StoreError> {
        self.writer.run_undoable(move |books| books.create(&account)).await
    }

    async fn update(&self, account: AccountRef, change: AccountChange) -> Result<AccountRecord, StoreError> {
        let update = move |books: &mut Books<'_>| {
            if change.binds_tags() {
                books.lock_tags()?;
            }
            books.check_unmanaged(&account, &change)?;
            books.update(&account, &change)
        };
        self.writer.run_undoable(update).await
    }

    async fn delete(&self, accounts: Vec<AccountRef>) -> Result<Vec<AccountRecord>, StoreError> {
        self.writer.run_undoable(move |books| books.delete(&accounts, true)).await
    }

    async fn account(&self, account: AccountRef) -> Result<Option<AccountRecord>, StoreError> {
        let read = move |db: &dyn Sql, ground: &Ground, now| {
            records::find(db, &account, now)?.map(|row| records::record(db, ground, row, now)).transpose()
        };
        self.lists.run_at(read).await
    }

    async fn accounts(
        &self,
        filter: AccountFilter,
        page: Page,
    ) -> Result<(Vec<AccountRecord>, u64), StoreError> {
        self.lists.run_at(move |db, ground, now| records::records(db, ground, &filter, page, now)).await
    }

    async fn spend_logs(&self, filter: SpendFilter, page: Page) -> Result<Vec<SpendRecord>, StoreError> {
        self.lists.run(move |db, _| spend::logs(db, &filter, page)).await
    }

    async fn spend_by_tag(&self, filter: SpendFilter) -> Result<Vec<TagSpend>, StoreError> {
        self.lists.run(move |db, _| spend::by_tag(db, &filter)).await
    }

    async fn crossings(&self, after: i64, at_most: u64) -> Result<Vec<Crossing>, StoreError> {
        self.lists.run_at(move |db, _, now| spend::crossings(db, after, at_most, now)).await
    }
}

impl Operated for BooksStore {
    async fn apply(
        &self,
        accounts: Vec<DesiredAccount>,
    ) -> Result<Vec<Result<(Applied, u64), Refused>>, StoreError> {
        // An operator applies everything again now and then, and nearly nothing of it has changed.
        let accounts = Arc::new(accounts);
        let desired = accounts.clone();
        let read = move |db: &dyn Sql, ground: &Ground, now| {
            desired
                .iter()
                .map(|account| apply::unchanged(db, ground, account, now))
                .collect::<sql::Result<Vec<_>>>()
        };
        let unchanged = self.lists.run_at(read).await?;
        // All at once, so that they share a commit; the writer takes them in their order.
        let write = unchanged.into_iter().enumerate().map(|(index, unchanged)| {
            let accounts = accounts.clone();
            async move {
                if let Some(revision) = unchanged {
                    return Ok(Ok((Applied::Unchanged, revision)));
                }
                let apply = move |books: &mut Books<'_>| books.apply_account(&accounts[index]);
                match self.writer.run_undoable(apply).await {
                    Err(error @ StoreError::Unavailable(_)) => Err(error),
                    Err(error) => Ok(Err(Refused { field: String::new(), error })),
                    Ok(outcome) => Ok(outcome),
                }
            }
        });
        futures_util::future::join_all(write).await.into_iter().collect()
    }

    async fn remove(
        &self,
        account: AccountName,
        manager: Manager,
    ) -> Result<Result<bool, Refused>, StoreError> {
        self.writer.run_undoable(move |books| books.remove_account(&account, &manager)).await
    }

    async fn set_prices(&self, manager: Manager, overlay: Overlay) -> Result<PricesSet, StoreError> {
        let set = self.writer.run_undoable(move |books| books.set_overlay(&manager, &overlay)).await?;
        // Whoever is told that they are in force finds them so.
        self.writer.run_alone(|books| books.take_prices()).await?;
        Ok(set)
    }

    async fn changes(&self, since: Option<Cursor>, at_most: u32) -> Result<Changes, StoreError> {
        let read = move |db: &dyn Sql, ground: &Ground, now| {
            changes::changes(db, ground, now, since.as_ref(), at_most)
        };
        self.lists.run_at(read).await
    }

    async fn listed(&self, after: i64, at_most: u32) -> Result<Vec<Listed>, StoreError> {
        self.lists.run_at(move |db, ground, now| listing::listed(db, ground, now, after, at_most)).await
    }

    fn epoch(&self) -> [u8; 8] {
        self.epoch
    }
}

/// What reports are about.
fn needs(reports: &[News]) -> Needs {
    Needs {
        keys: reports.iter().map(|report| report.key).collect(),
        holds: reports.iter().map(|report| report.hold).collect(),
        tags: Vec::new(),
    }
}

fn look_up(
    db: &dyn Sql,
    ground: &Ground,
    reach: &Reach,
    digest: &KeyDigest,
    known_version: &[u8],
) -> sql::Result<Found> {
    // By the prices of this reading's own moment: which ones the writer goes by is for the writer to change.
    let ground = &ground.as_of(db)?;
    let Some((key, accounts)) = keys::load_key(db, digest, ground)? else {
        return Ok(Found::Unknown);
    };
    if !reach.covers(key.home.as_ref()) {
        return Ok(Found::Unknown);
    }
    let rows: Vec<i64> = accounts.iter().map(|(row, _)| *row).collect();
    let now = records::not_before(db, &rows, worker::reading_time(db, ground)?)?;
    let exhausted = exhausted(db, &accounts, now, ground.observe)?.map(Box::new);
    let policy = (key.policy.version != known_version).then(|| Box::new(key.policy));
    Ok(Found::Known { policy, exhausted })
}

/// The first limit of every model on which nothing is left.
fn exhausted(
    db: &dyn Sql,
    accounts: &[(i64, Charged)],
    now: Timestamp,
    observe_all: bool,
) -> sql::Result<Option<Exhausted>> {
    let mut limits = Vec::new();
    for (row, account) in accounts {
        for count in account.counts.iter().filter(|count| count.model.is_empty()) {
            let mut caps = count.limits.iter().filter(|cap| !cap.soft).peekable();
            if caps.peek().is_none() {
                continue;
            }
            let standing = records::standing(db, *row, count.window, "", now)?;
            for cap in caps {
                limits.push(LimitNow {
                    label: account.label.clone(),
                    limit: cap.amount,
                    observe: cap.observe || observe_all,
                    posted: standing.posted,
                    pending: standing.pending,
                    resets_at: standing.resets_at,
                });
            }
        }
    }
    Ok(admission::exhausted(limits.iter().map(LimitNow::counted)))
}
