//! Where others write to the same books: rows are locked before they are read, in one order, and read with few round trips.
//!
//! The row of an account's lifetime balance is its lock. Whoever changes anything of an account (balances, rates, holds that charge
//! it, what an admin says of it) takes it first, and all of a transaction's locks are taken by one statement in the order of
//! their numbers, so that no two transactions wait for each other. What was remembered of an account is compared with its
//! revision once the lock is there.

use super::balance::{Balance, select_balance};
use super::charges::TAGS_REVISION;
use super::code::{Failure, corrupt, digest, fixed};
use super::foresight::Foresight;
use super::keys::Key;
use super::memory::{Books, Tally};
use super::meta;
use super::prices::PRICE_REVISION;
use super::rows::{HoldRow, select_hold};
use crate::clock::OutOfStep;
use crate::store::sql::{self, CLOCK_MS, Row, SqlError, SqlErrorKind, Value};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tollgate_domain::ids::{HoldId, KeyDigest, Tag};

/// In one order, so that no two transactions wait for each other.
const LOCK: &str = r#"SELECT account FROM balance
    WHERE account = ANY ($1) AND "window" = 'lifetime' AND model = '' ORDER BY balance FOR UPDATE"#;

/// Those that nobody has: whoever has locks already must not wait for more.
const LOCK_FREE: &str = r#"SELECT account FROM balance
    WHERE account = ANY ($1) AND "window" = 'lifetime' AND model = '' ORDER BY balance FOR UPDATE SKIP LOCKED"#;

/// What is read with the locks of requests: the time, and which prices and tag accounts there are.
const PRESENT: &[(&str, &[Value<'_>])] = &[
    (CLOCK_MS, &[]),
    (meta::READ, &[Value::Text(PRICE_REVISION)]),
    (meta::READ, &[Value::Text(TAGS_REVISION)]),
];

/// What a message is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) keys: Vec<KeyDigest>,
    pub(crate) holds: Vec<HoldId>,
    /// What a request of the keys names.
    pub(crate) tags: Vec<Tag>,
}

impl Needs {
    pub(crate) fn add(&mut self, more: Self) {
        self.keys.extend(more.keys);
        self.holds.extend(more.holds);
        self.tags.extend(more.tags);
    }
}

/// Rows of holds and of voids that came before theirs.
struct OfHolds {
    holds: Vec<Row>,
    tombstones: Vec<Row>,
}

impl Books<'_> {
    /// Begins a transaction of the writer: forgets what others may have changed.
    pub(super) fn begin_batch(&mut self) {
        self.memory.tally = Tally::default();
        if self.db.is_shared() {
            self.memory.forget_shared();
        }
    }

    /// Locks and reads what the messages are about. Where nobody else writes there is nothing to do.
    pub(super) fn prepare(&mut self, messages: &[&Needs]) -> Result<(), Failure> {
        let says_nothing = |needs: &&Needs| needs.keys.is_empty() && needs.holds.is_empty();
        if !self.db.is_shared() || messages.iter().all(says_nothing) {
            return Ok(());
        }
        let ids: BTreeSet<HoldId> = messages.iter().flat_map(|needs| &needs.holds).copied().collect();
        let digests: BTreeSet<KeyDigest> = messages.iter().flat_map(|needs| &needs.keys).copied().collect();
        let mut accounts = self.accounts_of_holds(&ids)?;
        self.learn_keys(&digests)?;
        for needs in messages {
            self.add_accounts(needs, &mut accounts)?;
        }
        self.lock_and_read(&digests, &accounts, &ids)?;
        self.check_locked(&ids)
    }

    /// The accounts that requests of these keys charge. Keys that are none charge none.
    fn add_accounts(&mut self, needs: &Needs, accounts: &mut BTreeSet<i64>) -> sql::Result<()> {
        for digest in &needs.keys {
            let Some(key) = self.memory.known_key(digest).cloned() else { continue };
            accounts.extend(key.accounts.iter().map(|(account, _)| *account));
            // Whether a tag binds is decided later: a lock too many does no harm.
            let tags = key.policy.tags.iter().chain(&needs.tags);
            accounts.extend(self.tag_accounts(key.tag_scopes(), tags)?);
        }
        Ok(())
    }

    fn accounts_of_holds(&mut self, ids: &BTreeSet<HoldId>) -> sql::Result<BTreeSet<i64>> {
        let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes().as_slice()).collect();
        let rows = self.db.query("SELECT balances FROM hold WHERE id = ANY ($1)", &[Value::Blobs(&ids)])?;
        let mut balances = BTreeSet::new();
        for row in &rows {
            balances.extend(super::code::unpack_ids(row.blob(0)?)?);
        }
        let unknown = balances.iter().filter(|balance| !self.memory.owners.contains_key(balance));
        let unknown: Vec<i64> = unknown.copied().collect();
        if !unknown.is_empty() {
            let ask = "SELECT balance, account FROM balance WHERE balance = ANY ($1)";
            for row in &self.db.query(ask, &[Value::Ints(&unknown)])? {
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
        let read = self.lock_with(LOCK, accounts, &BTreeSet::new(), &[(CLOCK_MS, &[])])?;
        self.follow(&read.more[0])?;
        self.learn_revisions(&read.revisions, &BTreeSet::new())?;
        self.keep_foreseen(&read.foresight, read.foreseen)
    }

    /// Takes the locks, and reads what they protect and the time. All of it is sent at once, so that the others, who wait for the
    /// locks meanwhile, wait for one answer less; each statement sees what was there when the one before it was done.
    fn lock_and_read(
        &mut self,
        digests: &BTreeSet<KeyDigest>,
        accounts: &BTreeSet<i64>,
        ids: &BTreeSet<HoldId>,
    ) -> sql::Result<()> {
        let mut read = self.lock_with(LOCK, accounts, ids, PRESENT)?;
        self.follow(&read.more[0])?;
        if self.learn_present(&read.more)? {
            return Err(contended("there are other prices, or other tag accounts"));
        }
        if self.learn_revisions(&read.revisions, digests)? {
            // The key charges other accounts now, perhaps: from the start, with what is true.
            return Err(contended("an account has changed"));
        }
        self.keep_foreseen(&read.foresight, std::mem::take(&mut read.foreseen))?;
        let charged = self.remember_holds(ids, &read.of_holds)?;
        self.read_balances(charged)
    }

    /// Takes locks, and reads what they protect, and more.
    fn lock_with(
        &mut self,
        lock: &str,
        accounts: &BTreeSet<i64>,
        ids: &BTreeSet<HoldId>,
        more: &[(&str, &[Value<'_>])],
    ) -> sql::Result<ReadLocked> {
        let foresight = self.foresee(accounts.iter().copied());
        let accounts: Vec<i64> = accounts.iter().copied().collect();
        let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes().as_slice()).collect();
        let (accounts, ids) = ([Value::Ints(&accounts)], [Value::Blobs(&ids)]);
        let params = foresight.params();
        let mut asks: Vec<(&str, &[Value<'_>])> = vec![
            (lock, &accounts),
            ("SELECT account, revision FROM account WHERE account = ANY ($1)", &accounts),
            (select_hold!("WHERE id = ANY ($1)"), &ids),
            ("SELECT id, digest FROM tombstone WHERE id = ANY ($1)", &ids),
        ];
        asks.extend(more);
        asks.extend(foresight.asks(&params));
        let read = self.db.query_all(&asks)?;
        let mut read = read.into_iter();
        let mut next = || read.next().ok_or_else(|| corrupt("answer"));
        let locked = next()?.iter().map(|row| row.int(0)).collect::<sql::Result<HashSet<i64>>>()?;
        let revisions = next()?;
        let revisions = revisions.iter().map(|row| Ok((row.int(0)?, row.int(1)?)));
        let mut revisions: HashMap<i64, i64> = revisions.collect::<sql::Result<_>>()?;
        revisions.retain(|account, _| locked.contains(account));
        let of_holds = OfHolds { holds: next()?, tombstones: next()? };
        let more = more.iter().map(|_| next()).collect::<sql::Result<_>>()?;
        drop(params);
        Ok(ReadLocked { revisions, of_holds, more, foreseen: read.collect(), foresight })
    }

    /// Whether prices or tag accounts are others than those that are remembered, by the answers to [`PRESENT`].
    fn have_others(&self, present: &[Vec<Row>]) -> sql::Result<bool> {
        let prices = meta::value(PRICE_REVISION, &present[1])?.map(u64::from_be_bytes);
        let tags = meta::value(TAGS_REVISION, &present[2])?.map_or(0, i64::from_be_bytes);
        let known = self.memory.tags.as_ref();
        let own = self.ground.prices.present().revision();
        Ok(prices.is_some_and(|prices| prices != own) || known.is_some_and(|known| known.revision != tags))
    }

    /// Takes what is new among prices and tag accounts, and says whether anything is.
    fn learn_present(&mut self, present: &[Vec<Row>]) -> sql::Result<bool> {
        if let Some(prices) = meta::value(PRICE_REVISION, &present[1])?
            && self.ground.prices.renew_to(self.db, u64::from_be_bytes(prices))?
        {
            self.memory.forget_prices();
            return Ok(true);
        }
        let has_others = self.have_others(present)?;
        if has_others {
            self.memory.tags = None;
        }
        Ok(has_others)
    }

    /// Remembers which accounts are locked and how they are, and forgets what was remembered of them when they were otherwise. Says
    /// whether one of these keys was such.
    fn learn_revisions(
        &mut self,
        revisions: &HashMap<i64, i64>,
        digests: &BTreeSet<KeyDigest>,
    ) -> sql::Result<bool> {
        self.memory.locked.extend(revisions);
        Ok(self.memory.forget_older(revisions, digests))
    }

    /// Remembers what is known of these holds, and gives the balances that they charge.
    fn remember_holds(&mut self, ids: &BTreeSet<HoldId>, of: &OfHolds) -> sql::Result<BTreeSet<i64>> {
        let mut charged = BTreeSet::new();
        self.memory.absent.extend(ids);
        for row in &of.holds {
            let hold = Box::new(HoldRow::of(row)?);
            charged.extend(hold.balances.iter().copied());
            self.remember_hold(HoldRow::id(row)?, hold);
        }
        for row in &of.tombstones {
            self.memory.tombstones.insert(HoldId::new(fixed("hold id", row.blob(0)?)?), digest(row, 1)?);
        }
        Ok(charged)
    }

    /// Reads balances that were not foreseen.
    fn read_balances(&mut self, balances: BTreeSet<i64>) -> sql::Result<()> {
        let missing: Vec<i64> = balances.into_iter().filter(|balance| !self.memory.knows(*balance)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        for row in &self.db.query(select_balance!("WHERE balance = ANY ($1)"), &[Value::Ints(&missing)])? {
            let (number, balance) = Balance::of(row)?;
            self.remember_balance(number, balance);
        }
        Ok(())
    }

    /// A tag account that was made a moment ago counts open holds, too: they charge an account more than they did when the locks
    /// were chosen.
    fn check_locked(&self, ids: &BTreeSet<HoldId>) -> Result<(), Failure> {
        if ids.iter().all(|id| self.is_locked(id)) {
            return Ok(());
        }
        Err(contended("a hold charges another account, too").into())
    }

    /// Whether everything that a hold charges is locked.
    fn is_locked(&self, id: &HoldId) -> bool {
        let Some(hold) = self.memory.open(id) else { return true };
        let owner = |balance| self.memory.owners.get(balance);
        hold.balances
            .iter()
            .all(|balance| owner(balance).is_some_and(|owner| self.memory.locked.contains_key(owner)))
    }

    /// Which of these messages, that came while the locks were waited for, share the transaction: where all that they charge is
    /// locked, or nobody else has it.
    ///
    /// Locks that are taken here come after others in no order, and so are never waited for.
    pub(super) fn join(&mut self, late: &[&Needs]) -> sql::Result<Vec<bool>> {
        let mut accounts = BTreeSet::new();
        let known: Vec<bool> = late.iter().map(|needs| self.knows_all_of(needs)).collect();
        for (needs, _) in late.iter().zip(&known).filter(|(_, known)| **known) {
            self.add_accounts(needs, &mut accounts)?;
        }
        accounts.retain(|account| !self.memory.locked.contains_key(account));
        let candidates = || late.iter().zip(&known).filter(|(_, known)| **known).map(|(needs, _)| *needs);
        let ids: BTreeSet<HoldId> = candidates().flat_map(|needs| &needs.holds).copied().collect();
        let ids = ids.into_iter().filter(|id| !self.memory.was_looked_for(id)).collect();
        let digests: BTreeSet<KeyDigest> = candidates().flat_map(|needs| &needs.keys).copied().collect();
        let read = self.lock_with(LOCK_FREE, &accounts, &ids, PRESENT)?;
        self.follow(&read.more[0])?;
        if self.have_others(&read.more)? {
            // Those whose locks came first are right: what is new came after them. The others find it when it is their turn.
            return Ok(vec![false; late.len()]);
        }
        self.learn_revisions(&read.revisions, &digests)?;
        self.keep_foreseen(&read.foresight, read.foreseen)?;
        self.remember_holds(&ids, &read.of_holds)?;
        let mut joined = Vec::with_capacity(late.len());
        let mut charged = BTreeSet::new();
        for (needs, known) in late.iter().zip(known) {
            let joins = known && self.has_all_of(needs)?;
            if joins {
                let holds = needs.holds.iter().filter_map(|id| self.memory.open(id));
                charged.extend(holds.flat_map(|hold| &hold.balances));
            }
            joined.push(joins);
        }
        self.read_balances(charged)?;
        Ok(joined)
    }

    /// Whether it is known without asking what a message charges.
    fn knows_all_of(&self, needs: &Needs) -> bool {
        let is_known = |digest| self.memory.known_key(digest).is_some();
        !needs.keys.is_empty() && self.memory.tags.is_some() && needs.keys.iter().all(is_known)
    }

    /// Whether what a message charges is locked, and is as it is remembered.
    fn has_all_of(&mut self, needs: &Needs) -> sql::Result<bool> {
        if !self.knows_all_of(needs) || !needs.holds.iter().all(|id| self.is_locked(id)) {
            return Ok(false);
        }
        let mut accounts = BTreeSet::new();
        self.add_accounts(needs, &mut accounts)?;
        let locked = &self.memory.locked;
        let keys = needs.keys.iter().filter_map(|digest| self.memory.known_key(digest));
        let is_present = |key: &Arc<Key>| {
            key.accounts.iter().all(|(account, revision)| locked.get(account) == Some(revision))
        };
        Ok(accounts.iter().all(|account| locked.contains_key(account)) && keys.into_iter().all(is_present))
    }

    /// The answer to [`CLOCK_MS`].
    fn follow(&self, clock: &[Row]) -> sql::Result<()> {
        clock.first().map_or(Ok(()), |row| self.follow_clock(row.int(0)?))
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

/// What came with the locks.
struct ReadLocked {
    /// Of the accounts that are locked.
    revisions: HashMap<i64, i64>,
    of_holds: OfHolds,
    more: Vec<Vec<Row>>,
    foresight: Foresight,
    foreseen: Vec<Vec<Row>>,
}

fn contended(why: &str) -> SqlError {
    SqlError { kind: SqlErrorKind::Contended, why: why.to_owned() }
}
