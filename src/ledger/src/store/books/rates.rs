//! Rates: taken with the hold, corrected with its end.

use super::code::{parsed, unsigned};
use super::memory::Books;
use super::rows::HoldRow;
use crate::rules::admission::denied;
use crate::store::HoldState;
use crate::store::row_statement::{RowStatement, Type};
use crate::store::sql::{self, Row, values};
use std::sync::LazyLock;
use tollgate_domain::hold::{DenialReason, HoldAsk, HoldDenied};
use tollgate_domain::rate::{Rate, RateKind, RateNow};
use tollgate_domain::time::Timestamp;

/// Writes how far a rate is.
static CHANGE_RATE: LazyLock<RowStatement> =
    LazyLock::new(|| RowStatement::update("rate", &[("state", Type::Int), ("rate", Type::Int)]));

/// One rate row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rating {
    pub(super) rate: Rate,
    pub(super) state: i64,
    pub(super) changed: bool,
}

/// What a hold takes of its rates.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The rows, and how much of each.
    pub(super) units: Vec<(i64, u64)>,
    /// How each stands then.
    states: Vec<(i64, i64)>,
    /// A rate that only observes would have refused.
    pub(super) would_deny: bool,
    /// The tightest of each kind.
    pub(super) now: Vec<RateNow>,
}

impl Books<'_> {
    /// What a hold takes of the rates of these accounts. Nothing is taken before [`keep_rates`](Self::keep_rates).
    pub(super) fn take_rates(
        &mut self,
        accounts: &[i64],
        ask: &HoldAsk,
        now: Timestamp,
    ) -> sql::Result<Result<Taken, HoldDenied>> {
        let mut taken = Taken::default();
        for account in accounts {
            let charged = self.charged(*account)?;
            for rated in &charged.rates {
                if !rated.model.is_empty() && rated.model != ask.model.as_str() {
                    continue;
                }
                let Some(rating) = self.rating(rated.row)? else { continue };
                let units = rated.rate.kind.units_held(&ask.bounds);
                let observe = rated.observe || self.ground.observe;
                let state = match rating.rate.take(rating.state, units, now) {
                    Ok(state) => state,
                    // It counts on, as if it had been let through.
                    Err(_) if observe => {
                        taken.would_deny = true;
                        rating.rate.correct(rating.state, 0, units, now)
                    }
                    Err(retry) => {
                        return Ok(Err(HoldDenied {
                            account: Some((*charged.label).clone()),
                            retry_after_ms: Some(retry.ms),
                            ..denied(DenialReason::RateLimited)
                        }));
                    }
                };
                taken.units.push((rated.row, units));
                taken.states.push((rated.row, state));
                if !observe {
                    let (remaining, resets_at) = rating.rate.standing(state, now);
                    let account = (*charged.label).clone();
                    taken.show(RateNow { account, rate: rating.rate, remaining, resets_at });
                }
            }
        }
        Ok(Ok(taken))
    }

    pub(super) fn keep_rates(&mut self, taken: &Taken) {
        for (row, state) in &taken.states {
            self.set_rate(*row, *state);
        }
    }

    /// Corrects the rates of a hold that ends: by the tokens that were used, where that is known. `row` is as it was before.
    pub(super) fn end_rates(&mut self, row: &HoldRow, used: Option<u64>, now: Timestamp) -> sql::Result<()> {
        for (rate, units) in &row.rates {
            let Some(rating) = self.rating(*rate)? else { continue };
            let state = match (rating.rate.kind, used) {
                (RateKind::Parallel, _) if row.state == HoldState::Pending => {
                    rating.rate.correct(rating.state, 1, 0, now)
                }
                (RateKind::TokensPerMinute | RateKind::TokensPerDay, Some(used)) => {
                    rating.rate.correct(rating.state, *units, used, now)
                }
                _ => continue,
            };
            self.set_rate(*rate, state);
        }
        Ok(())
    }

    /// The rate in this row; `None`: an admin took it away.
    pub(super) fn rating(&mut self, row: i64) -> sql::Result<Option<Rating>> {
        if let Some(known) = self.memory.rates.get(&row) {
            return Ok(Some(*known));
        }
        let rows = self.db.query("SELECT kind, amount, state FROM rate WHERE rate = $1", &values![row])?;
        let Some(found) = rows.first() else { return Ok(None) };
        let rating = Rating::of(found)?;
        self.memory.rates.insert(row, rating);
        Ok(Some(rating))
    }

    fn set_rate(&mut self, row: i64, state: i64) {
        if let Some(rating) = self.memory.rates.get_mut(&row) {
            rating.state = state;
            rating.changed = true;
        }
    }

    pub(super) fn flush_rates(&mut self) -> sql::Result<()> {
        let rates = &mut self.memory.rates;
        let changed = rates.iter_mut().filter_map(|(row, rating)| {
            std::mem::replace(&mut rating.changed, false).then_some((*row, rating.state))
        });
        let changed: Vec<(i64, i64)> = changed.collect();
        for (row, state) in changed {
            self.write_row(&CHANGE_RATE, &values![state, row])?;
        }
        Ok(())
    }
}

impl Rating {
    /// The columns `kind, amount, state`.
    pub(super) fn of(row: &Row) -> sql::Result<Self> {
        let kind = parsed("kind of rate", row.text(0)?)?;
        let rate = Rate { kind, limit: unsigned(row.int(1)?)? };
        Ok(Self { rate, state: row.int(2)?, changed: false })
    }
}

impl Taken {
    /// Keeps the tightest of each kind.
    fn show(&mut self, rate: RateNow) {
        match self.now.iter_mut().find(|known| known.rate.kind == rate.rate.kind) {
            Some(known) if known.remaining <= rate.remaining => {}
            Some(known) => *known = rate,
            None => self.now.push(rate),
        }
    }
}
