//! The oracle's own rates: a bucket that leaks, in fractions of a unit that are exact.

use crate::spans::{DAY_MS, MINUTE_MS};
use tollgate_domain::rate::{Rate, RateKind};

/// What is in the bucket of a rate over time, or how many requests are open.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) rate: Rate,
    /// Units in it, times the period in nanoseconds: each nanosecond, as many of these leak out as the limit says.
    level: i128,
    /// When that was.
    at: i64,
    open: i128,
}

const NS: i128 = 1_000_000;

impl Bucket {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, level: 0, at: 0, open: 0 }
    }

    fn period_ns(&self) -> i128 {
        let ms = if self.rate.kind == RateKind::TokensPerDay { DAY_MS } else { MINUTE_MS };
        i128::from(ms) * NS
    }

    fn limit(&self) -> i128 {
        self.rate.limit.into()
    }

    fn is_parallel(&self) -> bool {
        self.rate.kind == RateKind::Parallel
    }

    /// What is still in it.
    fn level_at(&self, now: i64) -> i128 {
        (self.level - i128::from(now - self.at) * NS * self.limit()).max(0)
    }

    fn set(&mut self, level: i128, now: i64) {
        (self.level, self.at) = (level.max(0), now);
    }

    /// Is as full at `now` as it was `then`.
    pub(crate) fn carry_over(&mut self, then: i64, now: i64) {
        self.set(self.level_at(then), now);
    }

    /// Takes units, or says after how many milliseconds it would. More than the whole limit passes an empty bucket.
    pub(crate) fn take(&mut self, units: u64, now: i64) -> Result<(), u64> {
        if self.is_parallel() {
            if self.open >= self.limit() {
                return Err(1_000);
            }
            self.force(1, now);
            return Ok(());
        }
        let asked = i128::from(units.min(self.rate.limit));
        let over = self.level_at(now) + (asked - self.limit()) * self.period_ns();
        if over > 0 {
            return Err(u64::try_from(ceil(over, self.limit() * NS)).unwrap());
        }
        self.force(units, now);
        Ok(())
    }

    /// Takes units whatever is in it.
    pub(crate) fn force(&mut self, units: u64, now: i64) {
        self.set(self.level_at(now) + i128::from(units) * self.period_ns(), now);
        self.open += 1;
    }

    /// A request that was counted has ended.
    pub(crate) fn release(&mut self) {
        self.open = (self.open - 1).max(0);
    }

    /// What was counted as `held` was `used` in truth.
    pub(crate) fn correct(&mut self, held: u64, used: u64, now: i64) {
        let units = i128::from(used) - i128::from(held);
        self.set(self.level_at(now) + units * self.period_ns(), now);
    }

    /// Another limit: what is in it stays, in whole nanoseconds of the time that it takes from now on.
    pub(crate) fn change(&mut self, rate: Rate, now: i64) {
        let level = self.level_at(now);
        self.rate = rate;
        self.set(ceil(level, self.limit()) * self.limit(), now);
    }

    /// How much would pass at once, and when all of it would.
    pub(crate) fn standing(&self, now: i64) -> (u64, i64) {
        if self.is_parallel() {
            return (u64::try_from((self.limit() - self.open).max(0)).unwrap(), now);
        }
        let level = self.level_at(now);
        let room = (self.limit() * self.period_ns() - level).max(0) / self.period_ns();
        let empty_in = ceil(level, self.limit() * NS);
        (u64::try_from(room).unwrap(), now + i64::try_from(empty_in).unwrap())
    }
}

fn ceil(dividend: i128, divisor: i128) -> i128 {
    (dividend + divisor - 1).div_euclid(divisor)
}
