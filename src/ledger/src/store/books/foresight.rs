//! What messages will probably read of the accounts that they charge, read together with the locks instead of one by one after
//! them.

use super::balance::{Balance, select_balance};
use super::code::corrupt;
use super::memory::{Books, Current};
use super::rates::Rating;
use crate::store::sql::{self, Row, Value, values};
use tollgate_domain::window::Period;

/// Clocks of several ledgers differ by less, and so a rolling window is read a little further back than it reaches.
const SLACK_MS: i64 = 60_000;

const BALANCE: &str =
    select_balance!(r#"WHERE account = $1 AND "window" = $2 AND model = $3 AND window_start = $4"#);
const BUCKETS: &str = select_balance!(
    r#"WHERE account = $1 AND "window" = $2 AND model = $3 AND window_start >= $4 ORDER BY window_start"#
);
const RATES: &str = "SELECT kind, amount, state, rate, account FROM rate WHERE rate = ANY ($1)";
const BALANCES: &str = select_balance!("WHERE balance = ANY ($1)");

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    /// Balances whose windows are known to be open.
    balances: Vec<i64>,
    /// Windows whose balances are not known.
    windows: Vec<Place>,
    /// Rolling windows, each of several balances.
    rolling: Vec<Place>,
    rates: Vec<i64>,
}

/// A count of an account, as it was when the account had this revision.
#[derive(Debug)]
struct Place {
    account: i64,
    revision: i64,
    index: usize,
    window: String,
    model: String,
    period: Period,
    /// The start of the window, or of the first balance that counts in it.
    from: i64,
}

impl Books<'_> {
    /// What is known of these accounts says what will be read.
    pub(super) fn foresee(&self, accounts: impl Iterator<Item = i64>) -> Foresight {
        let now = self.now();
        let mut seen = Foresight::default();
        for account in accounts {
            let Some(charged) = self.memory.known(account) else { continue };
            seen.rates.extend(charged.rates.iter().map(|rated| rated.row));
            for (index, count) in charged.counts.iter().enumerate() {
                let Some(period) = count.window.period_at(now) else { continue };
                let place = |from| Place {
                    account,
                    revision: charged.revision,
                    index,
                    window: count.window.to_string(),
                    model: count.model.clone(),
                    period,
                    from,
                };
                if let Some(from) = count.window.is_rolling().then(|| count.window.counts_from(now)).flatten()
                {
                    seen.rolling.push(place(from.plus_ms(-SLACK_MS).unix_ms()));
                }
                match self.memory.current_at((account, index), charged.revision, now) {
                    Some(current) => seen.balances.push(current.balance),
                    None => seen.windows.push(place(period.start.unix_ms())),
                }
            }
        }
        seen
    }

    /// Keeps what was read, as far as it still says something: of accounts that are locked, and are as they were.
    pub(super) fn keep_foreseen(
        &mut self,
        seen: &Foresight,
        answers: impl IntoIterator<Item = Vec<Row>>,
    ) -> sql::Result<()> {
        let mut answers = answers.into_iter();
        let mut next = || answers.next().ok_or_else(|| corrupt("answer"));
        for row in next()? {
            let (number, balance) = Balance::of(&row)?;
            if self.is_locked_account(balance.account) {
                self.remember_balance(number, balance);
            }
        }
        for row in next()? {
            if self.is_locked_account(row.int(4)?) {
                self.memory.rates.entry(row.int(3)?).or_insert(Rating::of(&row)?);
            }
        }
        for place in &seen.windows {
            let rows = next()?;
            if let Some(row) = rows.first().filter(|_| self.is_still(place)) {
                let (number, balance) = Balance::of(row)?;
                self.remember_balance(number, balance);
                let current = Current { revision: place.revision, period: place.period, balance: number };
                self.memory.current.insert((place.account, place.index), current);
            }
        }
        for place in &seen.rolling {
            let rows = next()?;
            if !self.is_still(place) {
                continue;
            }
            let mut buckets = Vec::with_capacity(rows.len());
            for row in &rows {
                let (number, balance) = Balance::of(row)?;
                buckets.push((balance.start, number));
                self.remember_balance(number, balance);
            }
            self.memory.buckets.insert((place.account, place.index), buckets);
        }
        Ok(())
    }

    fn is_locked_account(&self, account: i64) -> bool {
        self.memory.locked.contains_key(&account)
    }

    fn is_still(&self, place: &Place) -> bool {
        self.is_locked_account(place.account)
            && self.memory.known(place.account).is_some_and(|charged| charged.revision == place.revision)
    }
}

impl Place {
    /// Of [`BALANCE`] and [`BUCKETS`].
    fn params(&self) -> Vec<Value<'_>> {
        values![self.account, &self.window, &self.model, self.from].to_vec()
    }
}

impl Foresight {
    /// The parameters of the questions, in the order of [`asks`](Self::asks).
    pub(super) fn params(&self) -> Vec<Vec<Value<'_>>> {
        let mut all = vec![vec![Value::Ints(&self.balances)], vec![Value::Ints(&self.rates)]];
        all.extend(self.windows.iter().chain(&self.rolling).map(Place::params));
        all
    }

    /// The questions.
    pub(super) fn asks<'a>(&self, params: &'a [Vec<Value<'a>>]) -> Vec<(&'static str, &'a [Value<'a>])> {
        let asks = [BALANCES, RATES].into_iter();
        let asks =
            asks.chain(self.windows.iter().map(|_| BALANCE)).chain(self.rolling.iter().map(|_| BUCKETS));
        asks.zip(params.iter().map(Vec::as_slice)).collect()
    }
}
