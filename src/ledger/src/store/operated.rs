//! What an operator asks of the books: accounts as they should be, and how they stand since it last looked.

use super::{AccountRecord, AccountSpec, Credential, Store, StoreError};
use std::future::Future;
use tollgate_domain::account::AccountKind;
pub use tollgate_domain::account::AccountName;
use tollgate_domain::price::{Overlay, SheetFault};
use tollgate_domain::time::Timestamp;

/// Who may change what is said of an account, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Such as `kubernetes`; [`Manager::API`] for the HTTP API.
    pub name: String,
    /// In the manager's words; empty for the HTTP API.
    pub scope: String,
}

impl Manager {
    /// The HTTP API.
    pub const API: &'static str = "api";
}

/// A credential of a key account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCredential {
    /// The credential.
    pub credential: Credential,
    /// From when on it is refused, so that two overlap for a while.
    pub expires_at: Option<Timestamp>,
}

/// An account as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredAccount {
    /// Its name.
    pub name: AccountName,
    /// Who says so.
    pub manager: Manager,
    /// Takes over an account that the HTTP API made.
    pub adopt: bool,
    /// All that is said of it, but `blocked`, `budget_duration` and `metadata`.
    pub spec: AccountSpec,
    /// `None`: as it is.
    pub blocked: Option<bool>,
    /// Of a key, at least one; of one that is adopted, none where those that it has are to stay.
    pub credentials: Vec<DesiredCredential>,
}

impl DesiredAccount {
    /// Whether a key's credentials stay what they are.
    pub fn keeps_credentials(&self) -> bool {
        self.adopt && self.name.kind == AccountKind::Key && self.credentials.is_empty()
    }
}

/// What [`Operated::apply`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// There was none, or it had been deleted.
    Created,
    /// It was another.
    Changed,
    /// It was what it should be.
    Unchanged,
}

/// Why an account was left as it was.
#[derive(Debug)]
pub struct Refused {
    /// Which part of it is to blame; empty where that is not known.
    pub field: String,
    /// Why; never [`StoreError::Unavailable`].
    pub error: StoreError,
}

/// What came of [`Operated::set_prices`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricesSet {
    /// What was done; or everything that is wrong, and then nothing was.
    pub outcome: Result<Applied, Vec<SheetFault>>,
    /// The price book that is in force now.
    pub revision: u64,
}

/// Up to where changes have been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The history of the books.
    pub(super) epoch: [u8; 8],
    /// Everything before this has been told.
    pub(super) since: Mark,
    /// What is being told.
    pub(super) scan: Option<Scan>,
}

/// A moment of the books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The latest entry, where one ledger writes alone.
    pub(super) entry: i64,
    /// When it was.
    pub(super) at_ms: i64,
}

/// Part of the way through the accounts, in the order of their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// When it began: from there on the next one goes on.
    pub(super) until: Mark,
    /// The last row that was told.
    pub(super) after: i64,
    /// Which accounts.
    pub(super) which: Which,
}

/// Which accounts a scan tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that changed.
    Changed,
    /// All of them, because too much has happened since the cursor; the deleted ones, too.
    Every,
    /// Those that there are, to somebody who knows none.
    Living,
    /// The same, to somebody who knows some from before a restore.
    Restarted,
}

const CURSOR_VERSION: u8 = 1;

impl Cursor {
    /// Stable: operators keep them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![CURSOR_VERSION];
        bytes.extend(self.epoch);
        let mut number = |value: i64| bytes.extend(value.to_be_bytes());
        number(self.since.entry);
        number(self.since.at_ms);
        if let Some(scan) = self.scan {
            number(scan.until.entry);
            number(scan.until.at_ms);
            number(scan.after);
            bytes.push(match scan.which {
                Which::Changed => 0,
                Which::Every => 1,
                Which::Living => 2,
                Which::Restarted => 3,
            });
        }
        bytes
    }

    /// Undoes [`to_bytes`](Self::to_bytes). `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, bytes) = bytes.split_first()?;
        let (epoch, bytes) = bytes.split_first_chunk::<8>()?;
        let (since, bytes) = mark(bytes)?;
        if *version != CURSOR_VERSION {
            return None;
        }
        if bytes.is_empty() {
            return Some(Self { epoch: *epoch, since, scan: None });
        }
        let (until, bytes) = mark(bytes)?;
        let (after, bytes) = bytes.split_first_chunk::<8>()?;
        let which = match bytes {
            [0] => Which::Changed,
            [1] => Which::Every,
            [2] => Which::Living,
            [3] => Which::Restarted,
            _ => return None,
        };
        let scan = Scan { until, after: i64::from_be_bytes(*after), which };
        Some(Self { epoch: *epoch, since, scan: Some(scan) })
    }
}

fn mark(bytes: &[u8]) -> Option<(Mark, &[u8])> {
    let (entry, bytes) = bytes.split_first_chunk::<8>()?;
    let (at, bytes) = bytes.split_first_chunk::<8>()?;
    Some((Mark { entry: i64::from_be_bytes(*entry), at_ms: i64::from_be_bytes(*at) }, bytes))
}

/// An account, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountNow {
    /// Its name.
    pub name: AccountName,
    /// Who manages it.
    pub manager: Manager,
    /// Rises with every change of what is said of it.
    pub revision: u64,
    /// `None`: it was deleted.
    pub record: Option<Box<AccountRecord>>,
    /// Nothing is left on a limit of every model that refuses.
    pub exhausted: bool,
    /// Of a key, those that work.
    pub credentials: Vec<DesiredCredential>,
}

/// An account, and all that is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Rises from account to account; a cursor.
    pub number: i64,
    /// Its name.
    pub name: AccountName,
    /// Who manages it.
    pub manager: Manager,
    /// What is said of it.
    pub spec: AccountSpec,
    /// Of a key, those that work.
    pub credentials: Vec<DesiredCredential>,
}

/// Accounts that have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The accounts.
    pub accounts: Vec<AccountNow>,
    /// Where to go on from.
    pub cursor: Cursor,
    /// The cursor was of books from before a restore: every account comes again.
    pub restarted: bool,
    /// More is to come at once.
    pub more: bool,
    /// Only accounts that have changed: what was told a moment ago may come again as it was.
    pub looked_back: bool,
}

/// What an operator asks, over the same books.
pub trait Operated: Store {
    /// Makes accounts what they should be, each named once, in their order: one may belong to one before it. Each is applied as a
    /// whole or not at all, whatever becomes of the others; gives its revision.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: some may have been applied. Inside, [`Refused`].
    #[allow(clippy::type_complexity, reason = "one outcome for each, or none")]
    fn apply(
        &self,
        accounts: Vec<DesiredAccount>,
    ) -> impl Future<Output = Result<Vec<Result<(Applied, u64), Refused>>, StoreError>> + Send;

    /// Deletes an account, and says whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], and inside, [`Refused`].
    fn remove(
        &self,
        account: AccountName,
        manager: Manager,
    ) -> impl Future<Output = Result<Result<bool, Refused>, StoreError>> + Send;

    /// Lets an operator's word on prices count, instead of what it said before: all of it, or nothing. Once this returns, holds are made by
    /// it; those that are open end by the prices that they were made by.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it may count.
    fn set_prices(
        &self,
        manager: Manager,
        overlay: Overlay,
    ) -> impl Future<Output = Result<PricesSet, StoreError>> + Send;

    /// Accounts that have changed since a cursor, at most so many. None that has is ever left out; one may come again.
    fn changes(
        &self,
        since: Option<Cursor>,
        at_most: u32,
    ) -> impl Future<Output = Result<Changes, StoreError>> + Send;

    /// Accounts that there are, in the order of their making, after the one of this number.
    fn listed(
        &self,
        after: i64,
        at_most: u32,
    ) -> impl Future<Output = Result<Vec<Listed>, StoreError>> + Send;

    /// Names this history of the books: another one after a restore.
    fn epoch(&self) -> [u8; 8];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_bytes() {
        let since = Mark { entry: 7, at_ms: -1 };
        let scan = |which| Some(Scan { until: Mark { entry: i64::MAX, at_ms: 3 }, after: 9, which });
        let scans =
            [None, scan(Which::Changed), scan(Which::Every), scan(Which::Living), scan(Which::Restarted)];
        for scan in scans {
            let cursor = Cursor { epoch: [3; 8], since, scan };
            let bytes = cursor.to_bytes();
            assert_eq!(Cursor::from_bytes(&bytes), Some(cursor.clone()));
            for wrong in [&bytes[..bytes.len() - 1], &[bytes.as_slice(), &[0]].concat(), &[], &[2; 25]] {
                assert_ne!(Cursor::from_bytes(wrong), Some(cursor.clone()));
            }
        }
    }
}
