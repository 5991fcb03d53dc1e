//! What the writer remembers of its own rows. Where it is the only one who writes, what it remembers is true until its
//! transaction fails; then it forgets everything and reads again. Where others write, too, it remembers for one transaction only,
//! and what can change is locked first.

use super::balance::{Balance, CHANGE_BALANCE, NewBalance};
use super::charges::TagAccounts;
use super::code::{Failure, corrupt, instant};
use super::keys::{Charged, Key, load_charged, load_keys};
use super::prices::Prices;
use super::rates::Rating;
use super::rows::HoldRow;
use super::writes::Writes;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::store::StoreError;
use crate::store::row_statement::RowStatement;
use crate::store::sql::{self, Sql, Value, values};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::{HoldId, KeyDigest};
use tollgate_domain::money::{Nanodollars, Overflow};
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{Period, Window};

/// Rows of one kind that are remembered at most; beyond, all are forgotten and read again when they are needed.
const REMEMBERED_MAX: usize = 100_000;

/// Names this history of the books: versions of policies from before a restore never equal those after it.
pub(crate) type Epoch = [u8; 8];

/// What does not change while the ledger runs.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) epoch: Epoch,
    /// The present prices, and those that holds were made by.
    pub(crate) prices: Prices,
    pub(crate) clock: Clock,
    /// How long a hold lives after its last sign of life.
    pub(crate) hold_ttl_ms: i64,
    /// Until when nothing expires after the start.
    pub(crate) grace_until: Timestamp,
    /// How long nothing expires after the database was away.
    pub(crate) grace_ms: i64,
    /// No limit refuses anything: each only says what it would have.
    pub(crate) observe: bool,
    /// Where the work is counted.
    pub(crate) counters: Arc<Counters>,
}

impl Ground {
    /// The ground on which a reading stands: with the prices that are present in the database.
    pub(super) fn as_of(&self, db: &dyn Sql) -> sql::Result<Self> {
        let mut ground = self.clone();
        if db.is_shared() {
            ground.prices = self.prices.as_of(db)?;
        }
        Ok(ground)
    }

    /// The name by which a model is priced, for a name or an alias; what has no price keeps its name.
    pub(super) fn model(&self, name: &str) -> String {
        let book = self.prices.present();
        let known = book.catalogue().resolve(name);
        known.map_or_else(|| name.to_owned(), |model| model.name.as_str().to_owned())
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    keys: HashMap<KeyDigest, Arc<Key>>,
    accounts: HashMap<i64, Arc<Charged>>,
    /// Sessions: what they may spend is said by other accounts, so no revision of their own tells that it has changed.
    session_accounts: HashMap<i64, Arc<Charged>>,
    /// Until when nothing expires, because the database was away: settles that waited for it come first.
    pub(super) grace_until: Timestamp,
    /// Tag accounts, by tag and scope: few, because only admins make them.
    pub(super) tags: Option<TagAccounts>,
    /// Session accounts, by key account and session.
    pub(super) sessions: HashMap<(i64, String), i64>,
    /// Until when holds were in the sums when that was last read; unread, all may be.
    pub(super) rolled_until: Timestamp,
    /// When to look for ended sessions.
    pub(super) sessions_at: Timestamp,
    /// The session that was looked at last.
    pub(super) sessions_after: i64,
    /// The balance of an account in the window of this moment, by the number of its count.
    pub(super) current: HashMap<(i64, usize), Current>,
    /// The balances of a rolling window.
    pub(super) buckets: HashMap<(i64, usize), Vec<(Timestamp, i64)>>,
    balances: HashMap<i64, Balance>,
    changed: Vec<i64>,
    /// How far each rate is.
    pub(super) rates: HashMap<i64, Rating>,
    /// Holds that were made since the memory is young, until they end; where others write, too, every hold of this transaction.
    open: HashMap<HoldId, Box<HoldRow>>,
    /// Ids that are known to be in no row; where others write, too.
    pub(super) absent: HashSet<HoldId>,
    /// Voids that came before their holds; where others write, too.
    pub(super) tombstones: HashMap<HoldId, KeyDigest>,
    /// Whose balances these are; never changes.
    pub(super) owners: HashMap<i64, i64>,
    numbers: Numbers,
    /// What is still to be written; where others write, too: then it is sent at once.
    writes: Writes,
    /// Accounts that are locked by this transaction, with their revisions; where others write, too.
    pub(super) locked: HashMap<i64, i64>,
    /// What is counted once this transaction is durable.
    pub(super) tally: Tally,
}

/// What happened in a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) expired: u64,
    pub(super) overruns: u64,
}

/// The balance of a count, as long as the account's counts are those of this revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) revision: i64,
    pub(super) period: Period,
    pub(super) balance: i64,
}

/// Which numbers come next.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    hold: Block,
    entry: Block,
}

/// Numbers that are this ledger's to give: the next, and the first that is not.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    next: i64,
    end: i64,
}

/// How many numbers a sequence gives at once.
const BLOCK: i64 = 1_000;

impl Numbers {
    fn read(db: &dyn Sql) -> sql::Result<Self> {
        if db.is_shared() {
            return Ok(Self { hold: Block::default(), entry: Block::default() });
        }
        let after = |last: &str| -> sql::Result<Block> {
            let rows = db.query(last, &[])?;
            let last = rows.first().map_or(Ok(0), |row| row.int(0))?;
            Ok(Block { next: last + 1, end: i64::MAX })
        };
        Ok(Self {
            hold: after("SELECT coalesce(max(hold), 0) FROM hold")?,
            entry: after("SELECT coalesce(max(entry), 0) FROM entry")?,
        })
    }
}

impl Block {
    fn take(&mut self, db: &dyn Sql, sequence: &'static str) -> sql::Result<i64> {
        if self.next >= self.end {
            let rows = db.query(sequence, &[])?;
            let first = rows.first().ok_or_else(|| corrupt("sequence"))?.int(0)?;
            *self = Self { next: first, end: first + BLOCK };
        }
        let number = self.next;
        self.next += 1;
        Ok(number)
    }
}

/// One transaction: the database, and what is remembered of it.
pub(crate) struct Books<'a> {
    pub(super) db: &'a dyn Sql,
    pub(super) ground: &'a Ground,
    pub(super) memory: &'a mut Memory,
}

impl Memory {
    pub(super) fn new(db: &dyn Sql) -> sql::Result<Self> {
        Ok(Self::with(Numbers::read(db)?))
    }

    fn with(numbers: Numbers) -> Self {
        Self {
            keys: HashMap::new(),
            accounts: HashMap::new(),
            session_accounts: HashMap::new(),
            grace_until: Timestamp::new(i64::MIN),
            tags: None,
            sessions: HashMap::new(),
            rolled_until: Timestamp::new(i64::MAX),
            sessions_at: Timestamp::new(i64::MIN),
            sessions_after: 0,
            current: HashMap::new(),
            buckets: HashMap::new(),
            balances: HashMap::new(),
            changed: Vec::new(),
            rates: HashMap::new(),
            open: HashMap::new(),
            absent: HashSet::new(),
            tombstones: HashMap::new(),
            owners: HashMap::new(),
            numbers,
            writes: Writes::default(),
            locked: HashMap::new(),
            tally: Tally::default(),
        }
    }

    /// Forgets every row. Numbers of a block may be left out, but where there are no blocks, the next follows the last that was
    /// written.
    pub(super) fn forget(&mut self, db: &dyn Sql) -> sql::Result<()> {
        let numbers = if db.is_shared() { self.numbers } else { Numbers::read(db)? };
        *self = Self {
            sessions_at: self.sessions_at,
            sessions_after: self.sessions_after,
            grace_until: self.grace_until,
            ..Self::with(numbers)
        };
        Ok(())
    }

    /// Forgets what a change, which is about to be made and may be undone, can touch. Where revisions tell what has changed, that
    /// is nothing, and is given back to be [taken up](Self::take_up) again.
    pub(super) fn set_aside(&mut self, db: &dyn Sql) -> sql::Result<Option<Box<Self>>> {
        let before = db.is_shared().then(|| std::mem::replace(self, Self::with(self.numbers)));
        let Some(before) = before else { return self.forget(db).map(|()| None) };
        self.sessions_at = before.sessions_at;
        self.sessions_after = before.sessions_after;
        self.grace_until = before.grace_until;
        Ok(Some(Box::new(before)))
    }

    /// Goes on after a change with what was remembered before it.
    pub(super) fn take_up(&mut self, before: Option<Box<Self>>, db: &dyn Sql) -> sql::Result<()> {
        let Some(before) = before else { return self.forget(db) };
        *self = Self { numbers: self.numbers, ..*before };
        Ok(())
    }

    /// Forgets what may name rows of a transaction that others were in the way of.
    pub(super) fn forget_undone(&mut self) {
        self.forget_shared();
        self.current.clear();
        self.owners.clear();
    }

    /// Forgets what others may have changed since the last transaction.
    pub(super) fn forget_shared(&mut self) {
        self.shrink();
        self.balances.clear();
        self.buckets.clear();
        self.sessions.clear();
        self.session_accounts.clear();
        self.rates.clear();
        self.open.clear();
        self.absent.clear();
        self.tombstones.clear();
        self.changed.clear();
        self.writes.clear();
        self.locked.clear();
    }

    /// Forgets those of these accounts that are not on these revisions any more, and these keys where they charge such; says whether
    /// a key was among them.
    pub(super) fn forget_older(&mut self, revisions: &HashMap<i64, i64>, keys: &BTreeSet<KeyDigest>) -> bool {
        let old = |account: i64, revision: i64| revisions.get(&account).is_some_and(|now| *now != revision);
        for (account, now) in revisions {
            if self.accounts.get(account).is_some_and(|known| known.revision != *now) {
                self.accounts.remove(account);
            }
        }
        let mut some = false;
        for digest in keys {
            let stale =
                |key: &Arc<Key>| key.accounts.iter().any(|(account, revision)| old(*account, *revision));
            if self.keys.get(digest).is_some_and(stale) {
                self.keys.remove(digest);
                some = true;
            }
        }
        some
    }

    /// Forgets what was read by the prices of before: keys, and the models of limits.
    pub(super) fn forget_prices(&mut self) {
        self.keys.clear();
        self.accounts.clear();
        self.current.clear();
    }

    /// Forgets an account, and every key: few are changed, and all of them may charge it.
    pub(super) fn forget_account(&mut self, account: i64) {
        self.keys.clear();
        self.tags = None;
        self.sessions.clear();
        self.session_accounts.clear();
        self.rates.clear();
        let counts = self.accounts.remove(&account).map_or(0, |charged| charged.counts.len());
        for index in 0..counts {
            self.buckets.remove(&(account, index));
        }
    }

    pub(super) fn knows(&self, balance: i64) -> bool {
        self.balances.contains_key(&balance)
    }

    /// What is remembered of an account.
    pub(super) fn known(&self, account: i64) -> Option<&Arc<Charged>> {
        self.accounts.get(&account).or_else(|| self.session_accounts.get(&account))
    }

    pub(super) fn known_key(&self, digest: &KeyDigest) -> Option<&Arc<Key>> {
        self.keys.get(digest)
    }

    /// The balance of a count of an account of this revision, where it is remembered for this moment.
    pub(super) fn current_at(&self, place: (i64, usize), revision: i64, now: Timestamp) -> Option<Current> {
        let of_now = |current: &&Current| {
            let Period { start, end } = current.period;
            current.revision == revision && start <= now && end.is_none_or(|end| now < end)
        };
        self.current.get(&place).filter(of_now).copied()
    }

    /// A hold that is remembered.
    pub(super) fn open(&self, id: &HoldId) -> Option<&HoldRow> {
        self.open.get(id).map(Box::as_ref)
    }

    /// Whether this transaction has looked for a hold of this id.
    pub(super) fn was_looked_for(&self, id: &HoldId) -> bool {
        self.absent.contains(id) || self.open.contains_key(id) || self.tombstones.contains_key(id)
    }

    fn shrink(&mut self) {
        if self.keys.len() > REMEMBERED_MAX || self.accounts.len() > REMEMBERED_MAX {
            self.keys.clear();
            self.accounts.clear();
            self.current.clear();
            self.buckets.clear();
            self.rates.clear();
        }
        if self.sessions.len() > REMEMBERED_MAX || self.session_accounts.len() > REMEMBERED_MAX {
            self.sessions.clear();
            self.session_accounts.clear();
            self.current.clear();
        }
        if self.open.len() > REMEMBERED_MAX {
            self.open.clear();
        }
        if self.owners.len() > REMEMBERED_MAX {
            self.owners.clear();
        }
        if self.balances.len() > REMEMBERED_MAX {
            self.balances.clear();
            self.current.clear();
        }
    }
}

impl Books<'_> {
    pub(super) fn next_hold(&mut self) -> sql::Result<i64> {
        self.memory.numbers.hold.take(self.db, "SELECT nextval('hold_number')")
    }

    pub(super) fn next_entry(&mut self) -> sql::Result<i64> {
        self.memory.numbers.entry.take(self.db, "SELECT nextval('entry_number')")
    }

    /// Writes, at once or with everything else that this transaction writes: nothing that it writes is read again before
    /// [`send`](Self::send).
    pub(super) fn write(&mut self, sql: &'static str, params: &[Value<'_>]) -> sql::Result<()> {
        if self.db.is_shared() {
            self.memory.writes.add(sql, params);
            return Ok(());
        }
        self.db.execute(sql, params).map(drop)
    }

    /// As [`write`](Self::write), for one row, which may be sent together with others of its kind.
    pub(super) fn write_row(
        &mut self,
        statement: &'static RowStatement,
        params: &[Value<'_>],
    ) -> sql::Result<()> {
        if self.db.is_shared() {
            self.memory.writes.add_row(statement, params);
            return Ok(());
        }
        self.db.execute(statement.one(), params).map(drop)
    }

    /// Sends what is still to be written.
    pub(super) fn send(&mut self) -> sql::Result<()> {
        if self.memory.writes.is_empty() {
            return Ok(());
        }
        let writes = std::mem::take(&mut self.memory.writes);
        writes.send(|statements| self.db.query_all(statements)).map(drop)
    }

    /// Remembers a hold: most end soon, and need not be read again.
    pub(super) fn remember_hold(&mut self, id: HoldId, row: Box<HoldRow>) {
        self.memory.absent.remove(&id);
        self.memory.open.insert(id, row);
    }

    /// Takes a hold out of memory, because it is about to change.
    pub(super) fn take_hold(&mut self, id: &HoldId) -> Option<Box<HoldRow>> {
        self.memory.open.remove(id)
    }

    /// The key, with its accounts remembered.
    pub(super) fn key(&mut self, digest: &KeyDigest) -> sql::Result<Option<Arc<Key>>> {
        if let Some(key) = self.memory.keys.get(digest) {
            return Ok(Some(key.clone()));
        }
        self.read_keys(&[digest])?;
        Ok(self.memory.keys.get(digest).cloned())
    }

    /// Reads those of these keys that are not remembered, together.
    pub(super) fn learn_keys(&mut self, digests: &BTreeSet<KeyDigest>) -> sql::Result<()> {
        let unknown: Vec<&KeyDigest> =
            digests.iter().filter(|digest| self.memory.known_key(digest).is_none()).collect();
        self.read_keys(&unknown)
    }

    fn read_keys(&mut self, digests: &[&KeyDigest]) -> sql::Result<()> {
        let read = load_keys(self.db, digests, self.ground)?;
        for (digest, (key, charged)) in
            digests.iter().zip(read).filter_map(|(digest, key)| Some((digest, key?)))
        {
            self.memory.keys.insert(**digest, Arc::new(key));
            let charged = charged.into_iter().map(|(account, charged)| (account, Arc::new(charged)));
            self.memory.accounts.extend(charged);
        }
        Ok(())
    }

    /// The account, as it is charged.
    pub(super) fn charged(&mut self, account: i64) -> sql::Result<Arc<Charged>> {
        if let Some(known) = self.memory.known(account) {
            return Ok(known.clone());
        }
        let charged = Arc::new(load_charged(self.db, account, self.ground)?);
        let is_session = charged.label.kind == AccountKind::Session;
        let memory = &mut *self.memory;
        let place = if is_session { &mut memory.session_accounts } else { &mut memory.accounts };
        place.insert(account, charged.clone());
        Ok(charged)
    }

    /// The account's balance in the window that contains `now`, by the number of its count.
    pub(super) fn current_balance(
        &mut self,
        account: i64,
        index: usize,
        now: Timestamp,
    ) -> Result<(Period, i64), Failure> {
        let charged = self.charged(account)?;
        if let Some(current) = self.memory.current_at((account, index), charged.revision, now) {
            return Ok((current.period, current.balance));
        }
        let count = charged.counts.get(index).ok_or_else(|| corrupt("count"))?;
        let absurd = || StoreError::Unavailable("the clock is absurd".into());
        let period = count.window.period_at(now).ok_or_else(absurd)?;
        let place = NewBalance { account, window: count.window, model: &count.model, start: period.start };
        let balance = match place.find(self.db)? {
            Some(balance) => balance,
            None => {
                let balance = place.insert(self.db)?;
                if let Some(buckets) = self.memory.buckets.get_mut(&(account, index)) {
                    let place = buckets.partition_point(|(start, _)| *start < period.start);
                    buckets.insert(place, (period.start, balance));
                }
                balance
            }
        };
        let current = Current { revision: charged.revision, period, balance };
        self.memory.current.insert((account, index), current);
        self.memory.owners.insert(balance, account);
        Ok((period, balance))
    }

    /// The balances of a rolling window that count at the moment `now`. Those that count by the clock are remembered: the moment of a
    /// hold that was refused need not be reached again.
    pub(super) fn buckets(
        &mut self,
        account: i64,
        index: usize,
        window: Window,
        now: Timestamp,
    ) -> sql::Result<Vec<i64>> {
        let clock = self.now();
        let [kept_from, from] = [clock, now].map(|at| window.counts_from(at).unwrap_or(at));
        if !self.memory.buckets.contains_key(&(account, index)) {
            let charged = self.charged(account)?;
            let count = charged.counts.get(index).ok_or_else(|| corrupt("count"))?;
            let rows = self.db.query(
                r#"SELECT window_start, balance FROM balance
                   WHERE account = $1 AND "window" = $2 AND model = $3 AND window_start >= $4 ORDER BY window_start"#,
                &values![account, &count.window.to_string(), &count.model, kept_from.min(from).unix_ms()],
            )?;
            let rows = rows.iter().map(|row| Ok((instant(row, 0)?, row.int(1)?)));
            let rows = rows.collect::<sql::Result<_>>()?;
            self.memory.buckets.insert((account, index), rows);
        }
        let Some(buckets) = self.memory.buckets.get_mut(&(account, index)) else { return Ok(Vec::new()) };
        buckets.retain(|(start, _)| *start >= kept_from.min(from));
        let counting = buckets.iter().filter(|(start, _)| (from..=now).contains(start));
        Ok(counting.map(|(_, balance)| *balance).collect())
    }

    /// The balance, as this transaction has left it so far.
    pub(super) fn balance(&mut self, balance: i64) -> sql::Result<&mut Balance> {
        if !self.memory.balances.contains_key(&balance) {
            let read = Balance::read(self.db, balance)?;
            self.remember_balance(balance, read);
        }
        self.memory.balances.get_mut(&balance).ok_or_else(|| corrupt("balance"))
    }

    /// Remembers a balance that was just read; what this transaction has made of it stands.
    pub(super) fn remember_balance(&mut self, id: i64, balance: Balance) {
        self.memory.owners.insert(id, balance.account);
        self.memory.balances.entry(id).or_insert(balance);
    }

    /// Changes balances, all or none.
    ///
    /// # Errors
    /// [`Overflow`] inside, where one of them would not fit.
    pub(super) fn change_balances(
        &mut self,
        balances: &[i64],
        posted: Nanodollars,
        pending: Nanodollars,
        charged_at: Option<Timestamp>,
    ) -> sql::Result<Result<(), Overflow>> {
        for id in balances {
            let balance = self.balance(*id)?;
            let fits = balance.posted.plus(posted).and(balance.pending.plus(pending));
            if fits.is_err() {
                return Ok(Err(Overflow));
            }
        }
        for id in balances {
            let balance = self.balance(*id)?;
            if let (Ok(posted), Ok(pending)) = (balance.posted.plus(posted), balance.pending.plus(pending)) {
                balance.posted = posted;
                balance.pending = pending;
            }
            balance.charged_at = charged_at.map(Timestamp::unix_ms).max(balance.charged_at);
            if !std::mem::replace(&mut balance.changed, true) {
                self.memory.changed.push(*id);
            }
        }
        Ok(Ok(()))
    }

    /// Writes what has changed: each row once in a transaction, however many holds it carries.
    pub(super) fn flush(&mut self) -> sql::Result<()> {
        self.flush_balances()?;
        self.flush_rates()?;
        self.send()
    }

    /// Writes what has changed, and commits.
    pub(super) fn commit(&mut self) -> sql::Result<()> {
        self.flush_balances()?;
        self.flush_rates()?;
        let writes = std::mem::take(&mut self.memory.writes);
        writes.send(|statements| self.db.commit_after(statements))?;
        self.memory.shrink();
        Ok(())
    }

    /// Counts what a transaction did, once it is durable.
    pub(super) fn count(&mut self, messages: usize) {
        let counters = &self.ground.counters;
        if messages > 0 {
            counters.committed(messages);
        }
        let Tally { expired, overruns } = std::mem::take(&mut self.memory.tally);
        counters.expired.add(expired);
        counters.overruns.add(overruns);
    }

    fn flush_balances(&mut self) -> sql::Result<()> {
        for id in std::mem::take(&mut self.memory.changed) {
            let Some(balance) = self.memory.balances.get_mut(&id) else { continue };
            balance.changed = false;
            let row = values![
                balance.posted.get(),
                balance.pending.get(),
                balance.charged_at,
                balance.checksum(),
                id,
            ];
            self.write_row(&CHANGE_BALANCE, &row)?;
        }
        Ok(())
    }
}
