//! What the writer remembers of its own rows. It is the only one who writes, so that what it remembers is true until its
//! transaction fails; then it forgets everything and reads again.

use super::code::{instant, money};
use super::keys::{Charged, Key, load_charged, load_key};
use super::open::Epoch;
use super::rows::HoldRow;
use crate::clock::Clock;
use crate::rules::admission::Counted;
use crate::store::StoreError;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tollgate_domain::account::AccountLabel;
use tollgate_domain::ids::{HoldId, KeyDigest};
use tollgate_domain::money::{Nanodollars, Overflow};
use tollgate_domain::price::PriceBook;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{Period, Window};

use super::code::Failure;

/// Rows of one kind that are remembered at most; beyond, all are forgotten and read again when they are needed.
const REMEMBERED_MAX: usize = 100_000;

/// What does not change while the ledger runs.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    pub(super) epoch: Epoch,
    pub(super) book: Arc<PriceBook>,
    /// Books of before, by revision: what holds were made by is settled by.
    pub(super) former_books: Arc<BTreeMap<u64, PriceBook>>,
    pub(super) clock: Clock,
    /// How long a hold lives after its last sign of life.
    pub(super) hold_ttl_ms: i64,
    /// Until when nothing expires.
    pub(super) grace_until: Timestamp,
    /// No limit refuses anything: each only says what it would have.
    pub(super) observe: bool,
}

impl Ground {
    /// The book of this revision; where it cannot be read any more, the present one.
    pub(super) fn book_of(&self, revision: u64) -> &PriceBook {
        self.former_books.get(&revision).unwrap_or(&self.book)
    }
}

#[derive(Debug)]
pub(super) struct Memory {
    keys: HashMap<KeyDigest, Arc<Key>>,
    accounts: HashMap<i64, Charged>,
    /// The balance of an account in the window of this moment.
    current: HashMap<(i64, Window), (Period, i64)>,
    balances: HashMap<i64, Balance>,
    changed: Vec<i64>,
    /// Holds that were made since the memory is young, until they end.
    open: HashMap<HoldId, Box<HoldRow>>,
    numbers: Numbers,
}

/// One balance row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    pub(super) account: i64,
    pub(super) window: Window,
    pub(super) posted: Nanodollars,
    pub(super) pending: Nanodollars,
    charged_at: Option<i64>,
    changed: bool,
}

impl Balance {
    fn read(file: &Connection, balance: i64) -> rusqlite::Result<Self> {
        file.prepare_cached(
            r#"SELECT account, "window", posted, pending, charged_at FROM balance WHERE balance = ?1"#,
        )?
        .query_row([balance], |row| {
            Ok(Self {
                account: row.get(0)?,
                window: super::code::parsed("window", row.get_ref(1)?.as_str()?)?,
                posted: money(row, 2)?,
                pending: money(row, 3)?,
                charged_at: row.get(4)?,
                changed: false,
            })
        })
    }
}

/// Where the tables end, and the time of the latest entry.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    hold: i64,
    entry: i64,
    at: Timestamp,
}

impl Numbers {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let last = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get(0));
        let hold = last("SELECT coalesce(max(hold), 0) FROM hold")?;
        let newest = connection
            .prepare_cached("SELECT entry, at FROM entry ORDER BY entry DESC LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, instant(row, 1)?)))
            .optional()?;
        let (entry, at) = newest.unwrap_or((0, Timestamp::new(i64::MIN)));
        Ok(Self { hold, entry, at })
    }
}

/// One transaction: the file, and what is remembered of it.
pub(super) struct Books<'a> {
    pub(super) file: &'a Connection,
    pub(super) ground: &'a Ground,
    pub(super) memory: &'a mut Memory,
}

impl Memory {
    pub(super) fn new(file: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            keys: HashMap::new(),
            accounts: HashMap::new(),
            current: HashMap::new(),
            balances: HashMap::new(),
            changed: Vec::new(),
            open: HashMap::new(),
            numbers: Numbers::read(file)?,
        })
    }

    /// Forgets every row, and where the tables end.
    pub(super) fn forget(&mut self, file: &Connection) -> rusqlite::Result<()> {
        let at = self.numbers.at;
        *self = Self::new(file)?;
        // Time does not run back, even where what was written at that time is gone.
        self.numbers.at = self.numbers.at.max(at);
        Ok(())
    }

    fn shrink(&mut self) {
        if self.keys.len() > REMEMBERED_MAX || self.accounts.len() > REMEMBERED_MAX {
            self.keys.clear();
            self.accounts.clear();
            self.current.clear();
        }
        if self.open.len() > REMEMBERED_MAX {
            self.open.clear();
        }
        if self.balances.len() > REMEMBERED_MAX {
            self.balances.clear();
            self.current.clear();
        }
    }
}

impl Books<'_> {
    /// The time: never earlier than that of the latest entry.
    pub(super) fn now(&self) -> Timestamp {
        self.ground.clock.now().max(self.memory.numbers.at)
    }

    pub(super) fn next_hold(&mut self) -> i64 {
        self.memory.numbers.hold += 1;
        self.memory.numbers.hold
    }

    pub(super) fn next_entry(&mut self, at: Timestamp) -> i64 {
        self.memory.numbers.at = self.memory.numbers.at.max(at);
        self.memory.numbers.entry += 1;
        self.memory.numbers.entry
    }

    /// Remembers an open hold: most end soon, and need not be read again.
    pub(super) fn remember_open(&mut self, id: HoldId, row: Box<HoldRow>) {
        self.memory.open.insert(id, row);
    }

    /// Takes an open hold out of memory, because it is about to change.
    pub(super) fn take_open(&mut self, id: &HoldId) -> Option<Box<HoldRow>> {
        self.memory.open.remove(id)
    }

    /// Forgets every open hold, because some of them change without being asked for by their id.
    pub(super) fn forget_open(&mut self) {
        self.memory.open.clear();
    }

    /// The key, with its accounts remembered.
    pub(super) fn key(&mut self, digest: &KeyDigest) -> rusqlite::Result<Option<Arc<Key>>> {
        if let Some(key) = self.memory.keys.get(digest) {
            return Ok(Some(key.clone()));
        }
        let price_revision = self.ground.book.revision();
        let Some((key, charged)) = load_key(self.file, digest, &self.ground.epoch, price_revision)? else {
            return Ok(None);
        };
        let key = Arc::new(key);
        self.memory.keys.insert(*digest, key.clone());
        self.memory.accounts.extend(charged);
        Ok(Some(key))
    }

    /// The balances that a hold on these accounts charges at `now`, made where they are new.
    pub(super) fn current_balances(&mut self, accounts: &[i64], now: Timestamp) -> Result<Vec<i64>, Failure> {
        let mut balances = Vec::with_capacity(accounts.len() * 2);
        for account in accounts {
            let windows = self.charged(*account)?.counts.len();
            for index in 0..windows {
                let window = self.charged(*account)?.counts[index].window;
                balances.push(self.current_balance(*account, window, now)?.1);
            }
        }
        Ok(balances)
    }

    /// The account's balance in the window that contains `now`.
    pub(super) fn current_balance(
        &mut self,
        account: i64,
        window: Window,
        now: Timestamp,
    ) -> Result<(Period, i64), Failure> {
        if let Some((period, balance)) = self.memory.current.get(&(account, window))
            && period.start <= now
            && period.end.is_none_or(|end| now < end)
        {
            return Ok((*period, *balance));
        }
        let period = window.period_at(now).ok_or(StoreError::Unavailable("the clock is absurd".into()))?;
        let balance = match self.find_balance(account, window, period.start)? {
            Some(balance) => balance,
            None => self.make_balance(account, window, period.start)?,
        };
        self.memory.current.insert((account, window), (period, balance));
        Ok((period, balance))
    }

    fn find_balance(&self, account: i64, window: Window, start: Timestamp) -> rusqlite::Result<Option<i64>> {
        self.file
            .prepare_cached(
                r#"SELECT balance FROM balance WHERE account = ?1 AND "window" = ?2 AND window_start = ?3"#,
            )?
            .query_row(params![account, window.to_string(), start.unix_ms()], |row| row.get(0))
            .optional()
    }

    fn make_balance(&self, account: i64, window: Window, start: Timestamp) -> rusqlite::Result<i64> {
        self.file
            .prepare_cached(r#"INSERT INTO balance (account, "window", window_start) VALUES (?1, ?2, ?3)"#)?
            .insert(params![account, window.to_string(), start.unix_ms()])
    }

    /// The account, as it is charged.
    pub(super) fn charged(&mut self, account: i64) -> rusqlite::Result<&Charged> {
        Ok(match self.memory.accounts.entry(account) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(load_charged(self.file, account)?),
        })
    }

    /// The balance, as this transaction has left it so far.
    pub(super) fn balance(&mut self, balance: i64) -> rusqlite::Result<&mut Balance> {
        Ok(match self.memory.balances.entry(balance) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Balance::read(self.file, balance)?),
        })
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
    ) -> rusqlite::Result<Result<(), Overflow>> {
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
            balance.charged_at = charged_at.map(Timestamp::unix_ms).or(balance.charged_at);
            if !std::mem::replace(&mut balance.changed, true) {
                self.memory.changed.push(*id);
            }
        }
        Ok(Ok(()))
    }

    /// Writes the balances that have changed: each once in a transaction, however many holds it carries.
    pub(super) fn flush(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.file.prepare_cached(
            "UPDATE balance SET posted = ?2, pending = ?3, charged_at = ?4 WHERE balance = ?1",
        )?;
        for id in self.memory.changed.drain(..) {
            if let Some(balance) = self.memory.balances.get_mut(&id) {
                balance.changed = false;
                let (posted, pending) = (balance.posted.get(), balance.pending.get());
                statement.execute(params![id, posted, pending, balance.charged_at])?;
            }
        }
        self.memory.shrink();
        Ok(())
    }

    /// The limits over these balances, each as it stands.
    pub(super) fn limits_over(&mut self, balances: &[i64]) -> rusqlite::Result<Vec<LimitNow>> {
        let observe_all = self.ground.observe;
        let mut limits = Vec::new();
        for id in balances {
            let Balance { account, window, posted, pending, .. } = *self.balance(*id)?;
            let charged = self.charged(account)?;
            let count = charged.counts.iter().find(|count| count.window == window);
            if let Some((limit, observe)) = count.and_then(|count| count.limit) {
                let observe = observe || observe_all;
                let label = Arc::clone(&charged.label);
                limits.push(LimitNow { label, limit, observe, posted, pending, window });
            }
        }
        Ok(limits)
    }
}

/// One limit, as it stands. It brings its account's name along, so that nothing that is forgotten can drop it.
#[derive(Clone, Debug)]
pub(super) struct LimitNow {
    label: Arc<AccountLabel>,
    limit: Nanodollars,
    observe: bool,
    posted: Nanodollars,
    pending: Nanodollars,
    window: Window,
}

impl LimitNow {
    /// As the rules want it, at `at`.
    pub(super) fn counted(&self, at: Timestamp) -> Counted<'_> {
        let Self { ref label, limit, observe, posted, pending, window } = *self;
        Counted { account: label, limit, observe, posted, pending, window, at }
    }
}
