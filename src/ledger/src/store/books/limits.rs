//! Limits over balances, and the parts of them that were spent.

use super::code::Failure;
use super::keys::Count;
use super::memory::Books;
use crate::rules::admission::{self, Counted};
use crate::store::sql::{self, values};
use std::sync::Arc;
use tollgate_domain::account::{AccountKind, AccountLabel};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// One limit, as it stands. It brings its account's name along, so that nothing that is forgotten can drop it.
#[derive(Clone, Debug)]
pub(super) struct LimitNow {
    pub(super) label: Arc<AccountLabel>,
    pub(super) limit: Nanodollars,
    pub(super) observe: bool,
    pub(super) posted: Nanodollars,
    pub(super) pending: Nanodollars,
    pub(super) resets_at: Option<Timestamp>,
}

impl LimitNow {
    /// As the rules want it.
    pub(super) fn counted(&self) -> Counted<'_> {
        let Self { ref label, limit, observe, posted, pending, resets_at } = *self;
        Counted { account: label, limit, observe, posted, pending, resets_at }
    }
}

impl Books<'_> {
    /// The limits over these balances, each as it stands. Those that only warn are left out.
    pub(super) fn limits_over(&mut self, balances: &[i64], now: Timestamp) -> Result<Vec<LimitNow>, Failure> {
        let observe_all = self.ground.observe;
        let mut limits = Vec::new();
        for id in balances {
            let Some(standing) = self.standing_over(*id, now)? else { continue };
            for cap in standing.count().limits.iter().filter(|cap| !cap.soft) {
                limits.push(LimitNow {
                    label: standing.charged.label.clone(),
                    limit: cap.amount,
                    observe: cap.observe || observe_all,
                    posted: standing.posted,
                    pending: standing.pending,
                    resets_at: standing.resets_at,
                });
            }
        }
        Ok(limits)
    }

    /// The cap of a session that has spent nothing yet.
    pub(super) fn unspent_session(&self, cap: Nanodollars) -> LimitNow {
        LimitNow {
            label: Arc::new(AccountLabel { kind: AccountKind::Session, alias: String::new() }),
            limit: cap,
            observe: self.ground.observe,
            posted: Nanodollars::ZERO,
            pending: Nanodollars::ZERO,
            resets_at: None,
        }
    }

    /// The window that a balance belongs to, where it has limits.
    fn standing_over(&mut self, id: i64, now: Timestamp) -> Result<Option<StandingOver>, Failure> {
        let balance = self.balance(id)?;
        let (account, window, start) = (balance.account, balance.window, balance.start);
        let (mut posted, mut pending) = (balance.posted, balance.pending);
        let model = if balance.model.is_empty() { String::new() } else { balance.model.clone() };
        let charged = self.charged(account)?;
        let place = charged.counts.iter().position(|count| count.window == window && count.model == model);
        let Some(index) = place.filter(|index| !charged.counts[*index].limits.is_empty()) else {
            return Ok(None);
        };
        let now = if window == Window::Lifetime { now } else { self.moment_of(account, now)? };
        let mut resets_at = window.period_at(now).and_then(|period| period.end);
        if window.is_rolling() {
            let from = window.counts_from(now).unwrap_or(now);
            if !(from..=now).contains(&start) {
                // It has left the window, or a tag was used ahead of the clock: it says nothing about what is in the window,
                // neither what is crossed nor what is overrun.
                return Ok(None);
            }
            (posted, pending) = (Nanodollars::ZERO, Nanodollars::ZERO);
            resets_at = None;
            for bucket in self.buckets(account, index, window, now)? {
                let bucket = self.balance(bucket)?;
                posted = posted.plus(bucket.posted).unwrap_or(Nanodollars::MAX);
                pending = pending.plus(bucket.pending).unwrap_or(Nanodollars::MAX);
                if resets_at.is_none() && bucket.posted > Nanodollars::ZERO {
                    resets_at = leaves_at(window, bucket.start);
                }
            }
        }
        Ok(Some(StandingOver { charged, index, posted, pending, resets_at, start }))
    }

    /// Records each part of a limit that `growth`, just posted, has crossed: once for each window and part.
    pub(super) fn record_crossings(
        &mut self,
        balances: &[i64],
        growth: Nanodollars,
        at: Timestamp,
    ) -> Result<(), Failure> {
        for id in balances {
            let account = self.balance(*id)?.account;
            let Some(standing) = self.standing_over(*id, at)? else { continue };
            self.record_crossings_of(account, &standing, growth, at)?;
        }
        Ok(())
    }

    fn record_crossings_of(
        &mut self,
        account: i64,
        standing: &StandingOver,
        growth: Nanodollars,
        at: Timestamp,
    ) -> sql::Result<()> {
        let before = standing.posted.minus(growth).unwrap_or(Nanodollars::ZERO);
        let count = standing.count();
        for cap in &count.limits {
            for threshold in cap.thresholds.iter().copied() {
                if !admission::crosses(cap.amount, threshold, before, standing.posted) {
                    continue;
                }
                self.write(
                    r#"INSERT INTO crossing (at, account, "window", model, soft, window_start, threshold, amount, posted)
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING"#,
                    &values![
                        at.unix_ms(),
                        account,
                        &count.window.to_string(),
                        &count.model,
                        cap.soft,
                        standing.start.unix_ms(),
                        i64::from(threshold),
                        cap.amount.get(),
                        standing.posted.get(),
                    ],
                )?;
            }
        }
        Ok(())
    }

    /// Records what a changed limit finds crossed already.
    pub(super) fn record_crossed(&mut self, account: i64, now: Timestamp) -> Result<(), Failure> {
        let now = self.moment_of(account, now)?;
        let charged = self.charged(account)?;
        for index in 0..charged.counts.len() {
            if charged.counts[index].limits.iter().all(|cap| cap.thresholds.is_empty()) {
                continue;
            }
            let (_, balance) = self.current_balance(account, index, now)?;
            if let Some(standing) = self.standing_over(balance, now)? {
                let all = standing.posted;
                self.record_crossings_of(account, &standing, all, now)?;
            }
        }
        Ok(())
    }
}

/// When a bucket of a rolling window does not count any more.
pub(super) fn leaves_at(window: Window, start: Timestamp) -> Option<Timestamp> {
    let Window::Rolling { seconds } = window else { return None };
    Some(window.period_at(start)?.end?.plus_ms(i64::from(seconds) * 1_000))
}

/// How the window over a balance stands.
struct StandingOver {
    charged: Arc<super::keys::Charged>,
    index: usize,
    posted: Nanodollars,
    pending: Nanodollars,
    resets_at: Option<Timestamp>,
    start: Timestamp,
}

impl StandingOver {
    fn count(&self) -> &Count {
        &self.charged.counts[self.index]
    }
}
