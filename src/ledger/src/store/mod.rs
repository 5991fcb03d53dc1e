//! Where the books are kept: the contract that every store fulfils.
//!
//! A store decides nothing. It reads the rows that one message concerns, lets `crate::rules` decide on them, and writes
//! what was decided, all in one transaction; several messages may share the transaction, and each is then decided on what
//! the ones before it left.

mod books;
mod clock_check;
mod copy;
mod operated;
mod place;
pub mod postgres;
mod reach;
mod record;
mod row_statement;
mod sql;
pub mod sqlite;
mod tables;
mod tag_scope;

pub use books::{Audit, BooksStore, Keeper, Retired, Settings, StartError, retire};
pub use clock_check::ClockError;
pub use copy::{Copied, Restored, backup, import, restore};
pub use operated::{
    AccountName, AccountNow, Applied, Changes, Cursor, DesiredAccount, DesiredCredential, Listed, Manager,
    Operated, PricesSet, Refused,
};
pub use place::{Place, PlaceError};
pub use reach::Reach;
pub use record::*;
pub use tag_scope::TagScope;

use crate::counters::Counters;
use std::future::Future;
use std::sync::Arc;
use tollgate_domain::hold::{HoldAsk, Outcome, Report, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::{Exhausted, Policy};
use tollgate_domain::price::PriceBook;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written, or nobody can know whether it was: ask again, every message is idempotent.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The message can never be carried out.
    #[error("{0}")]
    Invalid(&'static str),
    /// No such account or key.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The name is taken, or the account is in use.
    #[error("{0}")]
    Conflict(String),
    /// Somebody else manages the account, and only there it can be changed.
    #[error("{0}")]
    Managed(String),
    /// The organization that a key should belong to is not its team's.
    #[error("{0}")]
    Foreign(String),
}

impl StoreError {
    /// A key that should belong to `organization`, in a team that belongs to another one.
    pub(crate) fn foreign(organization: &str, team: &str, theirs: &str) -> Self {
        Self::Foreign(format!(
            "a key of team {team} belongs to organization {theirs}, as the team does, and not to {organization}"
        ))
    }
}

/// What [`Store::lookup`] knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nobody knows it.
    Unknown,
    /// A virtual key.
    Known {
        /// `None`: the caller's version stands.
        policy: Option<Box<Policy>>,
        /// An account on which nothing is left.
        exhausted: Option<Box<Exhausted>>,
    },
}

/// Where the books are kept.
///
/// - **All or nothing.** Each call is one transaction; a call that returns an error has changed nothing, except that
///   [`StoreError::Unavailable`] leaves open whether it has, and that reports stay applied which came along with a hold whose amount
///   does not fit: whoever sent them hears of no outcome, sends them again, and they are duplicates then.
/// - **Acknowledged means durable.** A call returns `Ok` only after its transaction has been committed and synced.
/// - **Serial.** The outcome is that of some order of the calls, one after another.
/// - **Time.** The store reads its clock after it has its rows, so that a window cannot end between the two, and never
///   earlier than the latest entry of its journal.
pub trait Store: Send + Sync + 'static {
    /// Applies the reports that came along, in order, then decides the hold. A refused hold changes no balance. Whatever is beyond
    /// the caller's reach is to it as if it were not there: keys are unknown, and holds are somebody else's.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where the id names a hold with another fingerprint, or an account would hold more than there can be.
    fn hold_within(
        &self,
        reach: Reach,
        ask: HoldAsk,
        reports: Vec<Report>,
    ) -> impl Future<Output = Result<(Verdict, Vec<Outcome>), StoreError>> + Send;

    /// [`hold_within`](Self::hold_within), for a caller that acts for every key.
    fn hold(
        &self,
        ask: HoldAsk,
        reports: Vec<Report>,
    ) -> impl Future<Output = Result<(Verdict, Vec<Outcome>), StoreError>> + Send {
        self.hold_within(Reach::Every, ask, reports)
    }

    /// Applies reports in order, with one outcome for each. A report that can never be applied does not hinder the others.
    fn report_within(
        &self,
        reach: Reach,
        reports: Vec<Report>,
    ) -> impl Future<Output = Result<Vec<Outcome>, StoreError>> + Send;

    /// [`report_within`](Self::report_within), for a caller that acts for every key.
    fn report(&self, reports: Vec<Report>) -> impl Future<Output = Result<Vec<Outcome>, StoreError>> + Send {
        self.report_within(Reach::Every, reports)
    }

    /// Posts the difference between what an ended hold was charged and `cost`, as a new entry: nothing is edited. Gives the cost
    /// before; where that is `cost` already, nothing is written.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] while the hold is open, [`StoreError::Invalid`] for a negative cost.
    fn correct(
        &self,
        hold: HoldId,
        cost: Nanodollars,
    ) -> impl Future<Output = Result<Nanodollars, StoreError>> + Send;

    /// The policy of a key, unless its version is `known_version`, and whether nothing is left on one of its accounts.
    fn lookup_within(
        &self,
        reach: Reach,
        key: KeyDigest,
        known_version: Vec<u8>,
    ) -> impl Future<Output = Result<Found, StoreError>> + Send;

    /// [`lookup_within`](Self::lookup_within), for a caller that acts for every key.
    fn lookup(
        &self,
        key: KeyDigest,
        known_version: Vec<u8>,
    ) -> impl Future<Output = Result<Found, StoreError>> + Send {
        self.lookup_within(Reach::Every, key, known_version)
    }

    /// The prices that holds are made by at the moment.
    fn prices(&self) -> Arc<PriceBook>;

    /// Why nothing can be written at the moment; `None`: as far as is known, all is well.
    fn trouble(&self) -> Option<String>;

    /// Why the newest price book is not in force, where what operators say of prices does not fit it. Requests go on by the one before.
    fn prices_held_back(&self) -> Option<String> {
        None
    }

    /// What it counts of its work, and where others count theirs.
    fn counters(&self) -> Arc<Counters>;

    /// Makes an account; a key account comes with its credential.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the id, the key or the key's alias is taken, [`StoreError::NotFound`] for an owner that does not exist,
    /// [`StoreError::Foreign`] for a key in a team of another organization.
    fn create(&self, account: NewAccount) -> impl Future<Output = Result<AccountRecord, StoreError>> + Send;

    /// Changes an account. What the change leaves unset stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], [`StoreError::Managed`], [`StoreError::Foreign`].
    fn update(
        &self,
        account: AccountRef,
        change: AccountChange,
    ) -> impl Future<Output = Result<AccountRecord, StoreError>> + Send;

    /// Deletes accounts, all of them or none; a key's credential is refused from then on. Their entries stay, and so does
    /// what they spent on the accounts above. An account that other accounts belong to takes its keys with it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] names the first that does not exist, [`StoreError::Managed`] the first that is not for this to delete.
    fn delete(
        &self,
        accounts: Vec<AccountRef>,
    ) -> impl Future<Output = Result<Vec<AccountRecord>, StoreError>> + Send;

    /// The account, with its balances in the windows of this moment.
    fn account(
        &self,
        account: AccountRef,
    ) -> impl Future<Output = Result<Option<AccountRecord>, StoreError>> + Send;

    /// Accounts in the order of their making, and how many there are over all pages.
    fn accounts(
        &self,
        filter: AccountFilter,
        page: Page,
    ) -> impl Future<Output = Result<(Vec<AccountRecord>, u64), StoreError>> + Send;

    /// Requests that were charged, newest first.
    fn spend_logs(
        &self,
        filter: SpendFilter,
        page: Page,
    ) -> impl Future<Output = Result<Vec<SpendRecord>, StoreError>> + Send;

    /// What was spent under each tag; a request counts under every tag that it carries.
    fn spend_by_tag(
        &self,
        filter: SpendFilter,
    ) -> impl Future<Output = Result<Vec<TagSpend>, StoreError>> + Send;

    /// Parts of limits that were spent, in the order of their recording, after the event of this number. Each part of a limit is
    /// recorded once in a window, in the transaction in which it was crossed.
    fn crossings(
        &self,
        after: i64,
        at_most: u64,
    ) -> impl Future<Output = Result<Vec<Crossing>, StoreError>> + Send;
}
