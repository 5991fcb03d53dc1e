//! Where others write to the same books: rows are locked before they are read, in one order, and read with few round trips.
//!
//! The row of an account's lifetime balance is its lock. Whoever changes anything of an account (balances, rates, holds that charge
//! it, what an admin says of it) takes it first, and all of a transaction's locks are taken by one statement in the order of
//! their numbers, so that no two transactions wait for each other. What was remembered of an account is compared with its
//! revision once the lock is there.

use super::balance::{Balance, select_balance};
use super::charges::TAGS_REVISION;
use super::code::{Failure, corrupt, digest, fixed};
use super::memory::Books;
use super::meta;
use super::prices::PRICE_REVISION;
use super::rows::{HoldRow, select_hold};
use crate::clock::OutOfStep;
use crate::store::sql::{self, CLOCK_MS, SqlError, SqlErrorKind, Value, values};
use std::collections::{BTreeSet, HashMap, HashSet};
use tollgate_domain::ids::{HoldId, KeyDigest, Tag};

/// In one order, so that no two transactions wait for each other.
const LOCK: &str = r#"SELECT balance FROM balance
    WHERE account = ANY ($1) AND "window" = 'lifetime' AND model = '' ORDER BY balance FOR UPDATE"#;

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
    /// Begins a transaction of the writer: forgets what others may have changed.
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
        let mut accounts = self.accounts_of_keys(needs)?;
        accounts.extend(self.accounts_of_holds(&ids)?);
        self.lock_and_read(needs, &accounts, &ids)
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
        self.db.query(LOCK, &[Value::Ints(&accounts)])?;
        self.observe_clock()
    }

    /// Takes the locks, and reads what they protect and the time. All of it is sent at once, so that the others, who wait for the
    /// locks meanwhile, wait for one answer less; each statement sees what was there when the one before it was done.
    fn lock_and_read(
        &mut self,
        needs: &Needs,
        accounts: &BTreeSet<i64>,
        ids: &[&[u8]],
    ) -> Result<(), Failure> {
        let accounts: Vec<i64> = accounts.iter().copied().collect();
        let named: Vec<i64> = self.memory.current_of(&accounts);
        let read = self.db.query_all(&[
            (LOCK, &[Value::Ints(&accounts)]),
            (CLOCK_MS, &[]),
            ("SELECT account, revision FROM account WHERE account = ANY ($1)", &[Value::Ints(&accounts)]),
            (select_hold!("WHERE id = ANY ($1)"), &[Value::Blobs(ids)]),
            ("SELECT id, digest FROM tombstone WHERE id = ANY ($1)", &[Value::Blobs(ids)]),
            (select_balance!("WHERE balance = ANY ($1)"), &[Value::Ints(&named)]),
            (meta::READ, &values![PRICE_REVISION]),
            (meta::READ, &values![TAGS_REVISION]),
        ])?;
        let [_, clock, revisions, holds, tombstones, balances, present, tags] =
            <[_; 8]>::try_from(read).map_err(|_| corrupt("answer"))?;
        if let Some(row) = clock.first() {
            self.follow_clock(row.int(0)?)?;
        }
        let revisions = revisions.iter().map(|row| Ok((row.int(0)?, row.int(1)?)));
        let revisions: HashMap<i64, i64> = revisions.collect::<sql::Result<_>>()?;
        if let Some(present) = meta::value(PRICE_REVISION, &present)?
            && self.ground.prices.renew_to(self.db, u64::from_be_bytes(present))?
        {
            self.memory.forget_prices();
            let why = "there are new prices".to_owned();
            return Err(SqlError { kind: SqlErrorKind::Contended, why }.into());
        }
        let tags = meta::value(TAGS_REVISION, &tags)?.map_or(0, i64::from_be_bytes);
        if self.memory.tags.as_ref().is_some_and(|known| known.revision != tags) {
            self.memory.tags = None;
            let why = "there are other tag accounts".to_owned();
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
        let mut charged = BTreeSet::new();
        for id in ids {
            self.memory.absent.insert(HoldId::new(fixed("hold id", id)?));
        }
        for row in &holds {
            let hold = Box::new(HoldRow::of(row)?);
            charged.extend(hold.balances.iter().copied());
            self.remember_hold(HoldRow::id(row)?, hold);
        }
        for row in &tombstones {
            self.memory.tombstones.insert(HoldId::new(fixed("hold id", row.blob(0)?)?), digest(row, 1)?);
        }
        let missing = charged.iter().copied().filter(|balance| !self.memory.knows(*balance));
        let missing: Vec<i64> = missing.collect();
        if !missing.is_empty() {
            let rows =
                self.db.query(select_balance!("WHERE balance = ANY ($1)"), &[Value::Ints(&missing)])?;
            for row in &rows {
                let (number, balance) = Balance::of(row)?;
                self.remember_balance(number, balance);
            }
        }
        self.check_locked(&accounts, &charged)
    }

    /// A tag account that was made a moment ago counts open holds, too: they charge an account more than they did when the locks
    /// were chosen.
    fn check_locked(&self, locked: &[i64], charged: &BTreeSet<i64>) -> Result<(), Failure> {
        let is_locked = |balance: &i64| {
            let owner = self.memory.owners.get(balance);
            // In the order in which they came out of a set.
            owner.is_some_and(|owner| locked.binary_search(owner).is_ok())
        };
        if charged.iter().all(is_locked) {
            return Ok(());
        }
        let why = "a hold charges another account, too".to_owned();
        Err(SqlError { kind: SqlErrorKind::Contended, why }.into())
    }

    /// The database's clock, where it has one: it decides for every ledger on it.
    pub(super) fn observe_clock(&self) -> sql::Result<()> {
        self.db.clock_ms()?.map_or(Ok(()), |now| self.follow_clock(now))
    }

    /// Ledgers that do not agree on the time must not write to the same books.
    fn follow_clock(&self, now_ms: i64) -> sql::Result<()> {
        let out_of_step =
            |error: OutOfStep| SqlError { kind: SqlErrorKind::Unavailable, why: error.to_string() };
        self.ground.clock.observe(now_ms).map_err(out_of_step)
    }
}
