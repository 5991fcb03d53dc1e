//! Rates: how many requests, or tokens, pass in a span of time, and how many requests run at once.
//!
//! A rate over time is kept by the generic cell rate algorithm (GCRA; ITU-T I.371, annex A): one integer for each limit, the
//! theoretical arrival time of the next unit. It needs no window, so there is no boundary at which twice the rate could pass.
//!
//! A state is an `i64`. For a rate over time it is that arrival time in Unix nanoseconds, which reach into the year 2262: at
//! or before now, the limit is untouched. Each unit moves it on by [`Rate::interval_ns`]; a full limit may lie ahead of now, so
//! exactly the limit passes at once, and then one unit for each interval. For [`RateKind::Parallel`] it is the number of open
//! requests. Zero is the state of what was never used, in both.
//!
//! A rate is not money: tokens are counted by an estimate at first, and the settle corrects it.

use crate::account::AccountLabel;
use crate::bounds::{BYTES_PER_TOKEN, Bounds};
use crate::time::Timestamp;
use crate::usage::Usage;
use std::str::FromStr;

/// What is counted, over which span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RateKind {
    /// Requests in a minute.
    RequestsPerMinute,
    /// Tokens in a minute.
    TokensPerMinute,
    /// Tokens in a day.
    TokensPerDay,
    /// Requests that run at once.
    Parallel,
}

/// One limit on a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What is counted.
    pub kind: RateKind,
    /// How much of it. Zero allows nothing.
    pub limit: u64,
}

/// One rate of one account, as it stands after a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateNow {
    /// Whose.
    pub account: AccountLabel,
    /// The limit.
    pub rate: Rate,
    /// How much would pass at once.
    pub remaining: u64,
    /// When all of it would.
    pub resets_at: Timestamp,
}

/// A rate is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// Milliseconds until the same would pass, if nothing else came in between; at least 1.
    pub ms: u64,
}

/// A word that names no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a kind of rate")]
pub struct NotARate;

/// Nobody knows when an open request ends; a second is soon enough for a person, and long enough for a ledger.
const PARALLEL_RETRY_MS: u64 = 1_000;
/// A limit of zero passes nothing until somebody raises it: the longest that a client is told to wait.
const ZERO_RETRY_MS: u64 = 60_000;

const NS_PER_MS: i128 = 1_000_000;
const MINUTE_NS: u64 = 60_000_000_000;
const DAY_NS: u64 = 24 * 60 * MINUTE_NS;

/// Output that a request is expected to have at most, where it may have more: agents ask for many times what they use.
const OUTPUT_LIKELY_TOKENS: u64 = 4_096;

impl RateKind {
    /// Every kind, in the order in which they are judged.
    pub const ALL: [Self; 4] =
        [Self::RequestsPerMinute, Self::TokensPerMinute, Self::TokensPerDay, Self::Parallel];

    /// The stored word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "rpm",
            Self::TokensPerMinute => "tpm",
            Self::TokensPerDay => "tpd",
            Self::Parallel => "parallel",
        }
    }

    /// The span of the limit; `None`: there is none.
    const fn period_ns(self) -> Option<u64> {
        match self {
            Self::RequestsPerMinute | Self::TokensPerMinute => Some(MINUTE_NS),
            Self::TokensPerDay => Some(DAY_NS),
            Self::Parallel => None,
        }
    }

    /// Units that a request counts with before its answer.
    pub fn units_held(self, bounds: &Bounds) -> u64 {
        match self {
            Self::RequestsPerMinute | Self::Parallel => 1,
            Self::TokensPerMinute | Self::TokensPerDay => estimated_tokens(bounds),
        }
    }

    /// Units that it counts with after.
    pub fn units_used(self, usage: &Usage) -> u64 {
        match self {
            Self::RequestsPerMinute | Self::Parallel => 1,
            Self::TokensPerMinute | Self::TokensPerDay => used_tokens(usage),
        }
    }
}

impl FromStr for RateKind {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(NotARate)
    }
}

/// Tokens that a request is likely to use: a third of the bound on one call's input, which is mostly the bytes of the body, and
/// the bound on its output, but no more than [`OUTPUT_LIKELY_TOKENS`]. Where the bound is a context window because the content is
/// elsewhere, a third of that is as good a guess.
pub fn estimated_tokens(bounds: &Bounds) -> u64 {
    let input = bounds.input_per_call.div_ceil(BYTES_PER_TOKEN);
    input.saturating_add(bounds.output.min(OUTPUT_LIKELY_TOKENS))
}

/// Tokens that a request used, in and out, cached ones too: what LiteLLM's `total_tokens` counts.
pub fn used_tokens(usage: &Usage) -> u64 {
    [usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.output]
        .into_iter()
        .fold(0, u64::saturating_add)
}

impl Rate {
    /// The state after `units` more. A request that is larger than the whole limit passes when nothing of it is used, and counts in
    /// full: what follows waits the longer, and no request is impossible. In [`RateKind::Parallel`] a request is one unit.
    ///
    /// # Errors
    /// [`RetryAfter`] when the limit does not allow them now; the state stays as it is.
    pub fn take(self, state: i64, units: u64, now: Timestamp) -> Result<i64, RetryAfter> {
        if self.limit == 0 {
            return Err(RetryAfter { ms: ZERO_RETRY_MS });
        }
        let Some(interval) = self.interval_ns() else {
            let open = open_requests(state);
            let next = state.max(0).saturating_add(1);
            return if open < self.limit { Ok(next) } else { Err(RetryAfter { ms: PARALLEL_RETRY_MS }) };
        };
        let now = nanoseconds(now);
        let start = i128::from(state).max(now);
        let asked = span(interval, units.min(self.limit));
        let late = start.saturating_add(asked).saturating_sub(now).saturating_sub(self.burst_ns(interval));
        if late > 0 {
            let ms = u64::try_from(div_ceil(late, NS_PER_MS)).unwrap_or(u64::MAX);
            return Err(RetryAfter { ms });
        }
        Ok(to_state(start.saturating_add(span(interval, units))))
    }

    /// The state once it is known what was used: it replaces what was held. More of it counts from now on; less gives back what has
    /// not come back by itself, so that never more than the whole limit is free. In [`RateKind::Parallel`] a request holds one
    /// while it is open, and uses none once it has ended.
    pub fn correct(self, state: i64, held_units: u64, used_units: u64, now: Timestamp) -> i64 {
        let Some(interval) = self.interval_ns() else {
            let open =
                i128::from(state.max(0)).saturating_add(used_units.into()).saturating_sub(held_units.into());
            return to_state(open.max(0));
        };
        let (now, state) = (nanoseconds(now), i128::from(state));
        let corrected = if used_units > held_units {
            state.max(now).saturating_add(span(interval, used_units.saturating_sub(held_units)))
        } else {
            let given_back = span(interval, held_units.saturating_sub(used_units));
            state.saturating_sub(given_back).max(state.min(now))
        };
        to_state(corrected)
    }

    /// How many units would pass at once, and when the whole limit would. Of open requests nobody knows when they end: now.
    pub fn standing(self, state: i64, now: Timestamp) -> (u64, Timestamp) {
        let Some(interval) = self.interval_ns() else {
            return (self.limit.saturating_sub(open_requests(state)), now);
        };
        let ahead = i128::from(state).saturating_sub(nanoseconds(now)).max(0);
        let left = self.burst_ns(interval).saturating_sub(ahead).max(0);
        let remaining = left.checked_div(i128::from(interval)).and_then(|units| u64::try_from(units).ok());
        let resets_in_ms = i64::try_from(div_ceil(ahead, NS_PER_MS)).unwrap_or(i64::MAX);
        (remaining.unwrap_or(0).min(self.limit), now.plus_ms(resets_in_ms))
    }

    /// The state under this limit of what was counted under another: as many units stay used, whatever time each now takes. A
    /// limit on something else begins anew.
    pub fn rescaled(self, state: i64, from: Self, now: Timestamp) -> i64 {
        if self.kind != from.kind {
            return 0;
        }
        let (Some(interval), Some(before)) = (self.interval_ns(), from.interval_ns()) else { return state };
        let now = nanoseconds(now);
        let ahead = i128::from(state).saturating_sub(now);
        if ahead <= 0 {
            return state;
        }
        let rescaled = div_ceil(ahead.saturating_mul(i128::from(interval)), i128::from(before));
        to_state(now.saturating_add(rescaled))
    }

    /// Nanoseconds that one unit takes, rounded up, so that never more than the limit passes in the long run; `None`: the rate
    /// has no span. A limit of zero keeps time like a limit of one, and allows nothing.
    fn interval_ns(self) -> Option<u64> {
        Some(self.kind.period_ns()?.div_ceil(self.limit.max(1)))
    }

    /// How far ahead of now the state may lie: the whole limit.
    fn burst_ns(self, interval_ns: u64) -> i128 {
        span(interval_ns, self.limit)
    }
}

fn open_requests(state: i64) -> u64 {
    u64::try_from(state).unwrap_or(0)
}

/// Two 64-bit numbers multiplied fit into 128 bits but for the sign.
fn span(interval_ns: u64, units: u64) -> i128 {
    i128::from(interval_ns).saturating_mul(i128::from(units))
}

fn nanoseconds(at: Timestamp) -> i128 {
    i128::from(at.unix_ms()).saturating_mul(NS_PER_MS)
}

/// At the ends of time it stays there.
fn to_state(ns: i128) -> i64 {
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

/// Both are positive, or the dividend is zero.
fn div_ceil(dividend: i128, divisor: i128) -> i128 {
    let up = dividend.saturating_add(divisor).saturating_sub(1);
    up.checked_div(divisor).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests;
