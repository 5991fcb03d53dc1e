//! Where others write to the same books: rows are locked before they are read, in one order, and read with few round trips.
//!
//! The row of an account's lifetime balance is its lock. Whoever changes anything of an account (balances, rates, holds that charge
//! it, what an admin says of it) takes it first, and all of a transaction's locks are taken by one statement in the order of
//! their numbers, so that no two transactions wait for each other. What was remembered of an account is compared with its
//! revision once the lock is there.

use super::balance::{Balance, select_balance};
use super::code::{Failure, corrupt, digest, fixed, instant};
use super::memory::Books;
use super::prices;
use super::rows::{HoldRow, select_hold};
use crate::store::sql::{self, SqlError, SqlErrorKind, Value};
use std::collections::{BTreeSet, HashMap, HashSet};
use tollgate_domain::ids::{HoldId, KeyDigest, Tag};

/// What a batch of messages is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) keys: Vec<KeyDigest>,
    pub(crate) holds: Vec<HoldId>,
    pub(crate) tags: Vec<Tag>,
}

impl Needs {
    pub(crate) fn add(&mut self, more: Self) {
        self.keys.extend(more.keys);
        self.holds.extend(more.holds);
        self.tags.extend(more.tags);
    }
}

impl Books<'_> {
    /// Begins a transaction of the writer: forgets what others may have changed, and learns the time.
    pub(super) fn begin_batch(&mut self) -> sql::Result<()> {
        if self.db.is_shared() {
            self.memory.forget_shared();
        }
        Ok(())
    }

    /// Locks and reads what the messages are about. Where nobody else writes there is nothing to do.
    pub(super) fn prepare(&mut self, needs: &Needs) -> Result<(), Failure> {
        if !self.db.is_shared() || (needs.keys.is_empty() && needs.holds.is_empty()) {
            return Ok(());
        }
        let ids: BTreeSet<_> = needs.holds.iter().map(HoldId::as_bytes).collect();
        let ids: Vec<&[u8]> = ids.into_iter().map(|id| id.as_slice()).collect();
        self.memory.tags = None;
        let mut accounts = self.accounts_of_keys(needs)?;
        accounts.extend(self.accounts_of_holds(&ids)?);
        self.lock(&accounts)?;
        self.read_locked(needs, &accounts, &ids)
    }

    fn accounts_of_keys(&mut self, needs: &Needs) -> Result<BTreeSet<i64>, Failure> {
        let mut accounts = BTreeSet::new();
        for digest in needs.keys.iter().collect::<HashSet<_>>() {
            let Some(key) = self.key(digest)? else { continue };
            accounts.extend(key.accounts.iter().map(|(account, _)| *account));
            // Whether a tag binds is decided later: a lock too many does no harm.
            let tags = key.policy.tags.iter().chain(&needs.tags);
            accounts.extend(self.tag_accounts(&key.organization, tags)?);
        }
        Ok(accounts)
    }

    fn accounts_of_holds(&mut self, ids: &[&[u8]]) -> Result<Vec<i64>, Failure> {
        let rows = self.db.query("SELECT balances FROM hold WHERE id = ANY ($1)", &[Value::Blobs(ids)])?;
        let mut balances = BTreeSet::new();
        for row in &rows {
            balances.extend(super::code::unpack_ids(row.blob(0)?)?);
        }
        let unknown: Vec<i64> =
            balances.iter().copied().filter(|balance| !self.memory.owners.contains_key(balance)).collect();
        if !unknown.is_empty() {
            let rows = self.db.query(
                "SELECT balance, account FROM balance WHERE balance = ANY ($1)",
                &[Value::Ints(&unknown)],
            )?;
            for row in &rows {
                self.memory.owners.insert(row.int(0)?, row.int(1)?);
            }
        }
        Ok(balances.iter().filter_map(|balance| self.memory.owners.get(balance).copied()).collect())
    }

    /// Takes the locks of these accounts. Where nobody else writes there is nothing to take.
    pub(super) fn lock(&mut self, accounts: &BTreeSet<i64>) -> sql::Result<()> {
        if !self.db.is_shared() || accounts.is_empty() {
            return Ok(());
        }
        let accounts: Vec<i64> = accounts.iter().copied().collect();
        let latest = self.db.query(
            r#"SELECT balance, charged_at FROM balance
               WHERE account = ANY ($1) AND "window" = 'lifetime' AND model = '' ORDER BY balance FOR UPDATE"#,
            &[Value::Ints(&accounts)],
        )?;
        // Windows never move back, whatever the database's clock says.
        for row in &latest {
            if !row.is_null(1) {
                self.not_before(instant(row, 1)?);
            }
        }
        self.observe_clock()
    }

    /// Reads what the locks protect, all at once.
    fn read_locked(&mut self, needs: &Needs, accounts: &BTreeSet<i64>, ids: &[&[u8]]) -> Result<(), Failure> {
        let accounts: Vec<i64> = accounts.iter().copied().collect();
        let named: Vec<i64> = self.memory.current_of(&accounts);
        let read = self.db.query_all(&[
            ("SELECT account, revision FROM account WHERE account = ANY ($1)", &[Value::Ints(&accounts)]),
            (select_hold!("WHERE id = ANY ($1)"), &[Value::Blobs(ids)]),
            ("SELECT id, digest FROM tombstone WHERE id = ANY ($1)", &[Value::Blobs(ids)]),
            (select_balance!("WHERE balance = ANY ($1)"), &[Value::Ints(&named)]),
            (prices::PRESENT, &[]),
        ])?;
        let [revisions, holds, tombstones, balances, present] =
            <[_; 5]>::try_from(read).map_err(|_| corrupt("answer"))?;
        let revisions = revisions.iter().map(|row| Ok((row.int(0)?, row.int(1)?)));
        let revisions: HashMap<i64, i64> = revisions.collect::<sql::Result<_>>()?;
        if let Some(present) = prices::revision_of(&present)?
            && self.ground.prices.renew_to(self.db, present)?
        {
            self.memory.forget_prices();
            let why = "there are new prices".to_owned();
            return Err(SqlError { kind: SqlErrorKind::Contended, why }.into());
        }
        if self.memory.forget_older(&revisions, &needs.keys) {
            // The key charges other accounts now, perhaps: from the start, with what is true.
            return Err(
                SqlError { kind: SqlErrorKind::Contended, why: "an account has changed".into() }.into()
            );
        }
        for row in &balances {
            let (number, balance) = Balance::of(row)?;
            self.remember_balance(number, balance);
        }
        let mut missing = BTreeSet::new();
        for id in ids {
            self.memory.absent.insert(HoldId::new(fixed("hold id", id)?));
        }
        for row in &holds {
            let hold = Box::new(HoldRow::of(row)?);
            missing.extend(hold.balances.iter().copied().filter(|balance| !self.memory.knows(*balance)));
            self.remember_hold(HoldRow::id(row)?, hold);
        }
        for row in &tombstones {
            self.memory.tombstones.insert(HoldId::new(fixed("hold id", row.blob(0)?)?), digest(row, 1)?);
        }
        let missing: Vec<i64> = missing.into_iter().collect();
        if !missing.is_empty() {
            let rows =
                self.db.query(select_balance!("WHERE balance = ANY ($1)"), &[Value::Ints(&missing)])?;
            for row in &rows {
                let (number, balance) = Balance::of(row)?;
                self.remember_balance(number, balance);
            }
        }
        Ok(())
    }

    /// The database's clock, where it has one: it decides for every ledger on it.
    pub(super) fn observe_clock(&self) -> sql::Result<()> {
        if let Some(now) = self.db.clock_ms()? {
            self.ground.clock.observe(now);
        }
        Ok(())
    }
}
