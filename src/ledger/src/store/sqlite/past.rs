//! A limit that is added, or gets another window, counts what was spent and held in that window before.

use super::code::{Failure, money, pack_ids, state, unpack_ids};
use super::journal::{Entry, Kind, OUT_OF_RANGE};
use super::keys::Count;
use super::memory::Books;
use crate::store::{HoldState, StoreError};
use rusqlite::{OptionalExtension, params};
use tollgate_domain::money::{Nanodollars, Overflow};
use tollgate_domain::time::Timestamp;

/// What a window was charged with before it was counted.
#[derive(Default)]
struct Past {
    posted: Nanodollars,
    pending: Nanodollars,
    /// Holds that can still change, and the balances that they change so far.
    open: Vec<(i64, Vec<i64>)>,
}

impl Books<'_> {
    /// Counts the past of every window in `after` that is not in `before`.
    pub(super) fn count_the_past(
        &mut self,
        account: i64,
        before: &[Count],
        after: &[Count],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let counted = |window| before.iter().any(|count| count.window == window);
        let lifetime = self.lifetime_balance(account)?;
        for count in after.iter().filter(|count| !counted(count.window)) {
            let (period, balance) = self.current_balance(account, count.window, now)?;
            if balance == lifetime {
                continue;
            }
            let past = self.past(lifetime, period.start)?;
            let standing = *self.balance(balance)?;
            let out_of_range = |_: Overflow| StoreError::Invalid(OUT_OF_RANGE);
            let posted = past.posted.minus(standing.posted).map_err(out_of_range)?;
            let pending = past.pending.minus(standing.pending).map_err(out_of_range)?;
            if (posted, pending) != (Nanodollars::ZERO, Nanodollars::ZERO) {
                let named = [balance];
                let entry = Entry::new(Kind::Count, now, 0, &named);
                self.record(Entry { hold: None, posted, pending, ..entry })?;
            }
            self.add_balance(balance, past.open)?;
        }
        Ok(())
    }

    fn lifetime_balance(&self, account: i64) -> rusqlite::Result<i64> {
        self.file
            .prepare_cached(
                r#"SELECT balance FROM balance WHERE account = ?1 AND "window" = 'lifetime' AND window_start = 0"#,
            )?
            .query_row([account], |row| row.get(0))
    }

    /// Sums the holds made from `start` on that charge the account, told by its lifetime balance.
    fn past(&mut self, lifetime: i64, start: Timestamp) -> Result<Past, Failure> {
        let mut past = Past::default();
        if self.never_charged(lifetime)? {
            return Ok(past);
        }
        let first = self.first_hold_from(start)?;
        let mut statement = self.file.prepare_cached(
            "SELECT hold, state, balances, amount, posted FROM hold WHERE hold >= ?1 AND created_at >= ?2",
        )?;
        let mut rows = statement.query(params![first, start.unix_ms()])?;
        let out_of_range = |_: Overflow| StoreError::Invalid(OUT_OF_RANGE);
        while let Some(row) = rows.next()? {
            let balances = unpack_ids(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?)?;
            if !balances.contains(&lifetime) {
                continue;
            }
            let state = state(row.get(1)?)?;
            past.posted = past.posted.plus(money(row, 4)?).map_err(out_of_range)?;
            if state == HoldState::Pending {
                past.pending = past.pending.plus(money(row, 3)?).map_err(out_of_range)?;
            }
            if matches!(state, HoldState::Pending | HoldState::Expired) {
                past.open.push((row.get(0)?, balances));
            }
        }
        Ok(past)
    }

    fn never_charged(&self, lifetime: i64) -> rusqlite::Result<bool> {
        let charged_at: Option<i64> = self
            .file
            .prepare_cached("SELECT charged_at FROM balance WHERE balance = ?1")?
            .query_row([lifetime], |row| row.get(0))?;
        Ok(charged_at.is_none())
    }

    /// The first hold made at `start` or later, or the first after all: their rows are in the order of their making.
    fn first_hold_from(&self, start: Timestamp) -> rusqlite::Result<i64> {
        let bound = |sql| self.file.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
        let mut low = bound("SELECT coalesce(min(hold), 1) FROM hold")?;
        let mut high = bound("SELECT coalesce(max(hold), 0) FROM hold")? + 1;
        while low < high {
            let middle = low + (high - low) / 2;
            let made_at: Option<i64> = self
                .file
                .prepare_cached("SELECT created_at FROM hold WHERE hold >= ?1 ORDER BY hold LIMIT 1")?
                .query_row([middle], |row| row.get(0))
                .optional()?;
            if made_at.is_some_and(|made_at| made_at < start.unix_ms()) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Lets holds that are still open end in this balance, too.
    fn add_balance(&self, balance: i64, open: Vec<(i64, Vec<i64>)>) -> rusqlite::Result<()> {
        for (hold, mut balances) in open {
            if !balances.contains(&balance) {
                balances.push(balance);
                self.file
                    .prepare_cached("UPDATE hold SET balances = ?2 WHERE hold = ?1")?
                    .execute(params![hold, pack_ids(&balances)])?;
            }
        }
        Ok(())
    }
}
