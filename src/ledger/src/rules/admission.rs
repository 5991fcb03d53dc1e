//! Whether a hold may be made: the refusals, by name, in their one order.
//!
//! Unknown key, stale policy, blocked, expired, model unknown or unpriced, model not allowed, extra forbidden, tag missing,
//! money. A stale policy comes
//! before everything that the filter can decide itself: it decides again, on the new one.

use tollgate_domain::account::AccountLabel;
use tollgate_domain::hold::{DenialReason, HoldAsk, HoldDenied};
use tollgate_domain::ids::ModelName;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::{Amounts, Exhausted, Policy};
use tollgate_domain::price::{PriceBook, PriceError};
use tollgate_domain::time::Timestamp;

/// Why an ask goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The filter decided on an old policy.
    Stale,
    /// No.
    Denied(HoldDenied),
}

/// A refusal with nothing to say beside its name.
pub const fn denied(reason: DenialReason) -> HoldDenied {
    HoldDenied { reason, account: None, resets_at: None, amounts: None, retry_after_ms: None }
}

/// Judges everything but the money, and says how much is to be held: what the dearest of the models can cost.
///
/// # Errors
/// [`Refusal`], the first that applies.
pub fn judge(
    ask: &HoldAsk,
    policy: &Policy,
    book: &PriceBook,
    now: Timestamp,
) -> Result<Nanodollars, Refusal> {
    let deny = |reason| Err(Refusal::Denied(denied(reason)));
    if ask.policy_version != policy.version {
        return Err(Refusal::Stale);
    }
    if policy.blocked.is_some() {
        return deny(DenialReason::KeyBlocked);
    }
    if policy.expired(now) {
        return deny(DenialReason::KeyExpired);
    }
    let models = || [&ask.model].into_iter().chain(&ask.fallback_models);
    for name in models() {
        if known(ask, book, name).is_none() {
            return deny(DenialReason::ModelUnknown);
        }
    }
    let mut amount = Nanodollars::ZERO;
    for name in models() {
        match book.cost_max(name, &ask.bounds, &ask.modifiers) {
            Ok(cost) => amount = amount.max(cost),
            Err(PriceError::UnknownModel) => return deny(DenialReason::ModelUnknown),
            Err(PriceError::UnknownModifier | PriceError::NoWebSearchPrice | PriceError::Overflow(_)) => {
                return deny(DenialReason::ModelUnpriced);
            }
        }
    }
    let allowed = |name| known(ask, book, name).is_some_and(|model| policy.allows(model, book.catalogue()));
    if !models().all(allowed) {
        return deny(DenialReason::ModelNotAllowed);
    }
    if policy.forbidden_extra(&ask.modifiers, &ask.bounds).is_some() {
        return deny(DenialReason::ExtraForbidden);
    }
    // Pinned tags count, whether the filter sent them or not.
    let tags: Vec<_> = policy.tags.iter().chain(&ask.tags).cloned().collect();
    if policy.missing_tag(&tags).is_some() { deny(DenialReason::TagMissing) } else { Ok(amount) }
}

/// The model of exactly this name, served by the provider that the ask goes to.
fn known<'a>(
    ask: &HoldAsk,
    book: &'a PriceBook,
    name: &ModelName,
) -> Option<&'a tollgate_domain::catalogue::Model> {
    let model = book.catalogue().resolve(name.as_str())?;
    (model.name == *name && model.provider == ask.provider).then_some(model)
}

/// One limit of one account, as it stands.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Whose.
    pub account: &'a AccountLabel,
    /// The limit.
    pub limit: Nanodollars,
    /// Never a reason to refuse.
    pub observe: bool,
    /// Spent in its window.
    pub posted: Nanodollars,
    /// Held in its window.
    pub pending: Nanodollars,
    /// When its window ends, or, where it rolls, when the first of it is free again; `None`: never by itself.
    pub resets_at: Option<Timestamp>,
}

impl Counted<'_> {
    /// Why `requested` more is too much.
    fn refusal(&self, requested: Nanodollars) -> Option<DenialReason> {
        if self.posted >= self.limit {
            return Some(DenialReason::BudgetSpent);
        }
        let total = self.posted.plus(self.pending).and_then(|used| used.plus(requested));
        // A sum beyond every amount is beyond the limit.
        if total.is_ok_and(|total| total <= self.limit) { None } else { Some(DenialReason::BudgetTooSmall) }
    }

    fn amounts(&self, requested: Nanodollars) -> Amounts {
        Amounts { limit: self.limit, posted: self.posted, pending: self.pending, requested }
    }
}

/// Whether every limit takes `requested` more; given outermost first, the first that does not is named. `Ok` carries what a
/// limit that only observes would have said.
///
/// # Errors
/// The refusal.
pub fn afford<'a>(
    requested: Nanodollars,
    limits: impl IntoIterator<Item = Counted<'a>>,
) -> Result<Option<DenialReason>, HoldDenied> {
    let mut would_deny = None;
    for counted in limits {
        match counted.refusal(requested) {
            None => {}
            Some(reason) if counted.observe => would_deny = would_deny.or(Some(reason)),
            Some(reason) => {
                return Err(HoldDenied {
                    reason,
                    account: Some(counted.account.clone()),
                    resets_at: counted.resets_at,
                    amounts: Some(counted.amounts(requested)),
                    retry_after_ms: None,
                });
            }
        }
    }
    Ok(would_deny)
}

/// The first limit on which nothing is left.
pub fn exhausted<'a>(limits: impl IntoIterator<Item = Counted<'a>>) -> Option<Exhausted> {
    let spent = limits.into_iter().find(|counted| !counted.observe && counted.posted >= counted.limit)?;
    Some(Exhausted {
        account: spent.account.clone(),
        amounts: spent.amounts(Nanodollars::ZERO),
        resets_at: spent.resets_at,
    })
}

/// By how much an entry that grows what is used by `growth` pushed one limit further beyond its amount; `limits` stand as they
/// are after it.
pub fn overrun<'a>(growth: Nanodollars, limits: impl IntoIterator<Item = Counted<'a>>) -> Nanodollars {
    let beyond = |counted: Counted<'_>| {
        let used = counted.posted.plus(counted.pending).unwrap_or(Nanodollars::MAX);
        used.minus(counted.limit).unwrap_or(Nanodollars::MAX)
    };
    let most = limits.into_iter().map(beyond).max().unwrap_or_default();
    most.min(growth).max(Nanodollars::ZERO)
}

/// Whether what was spent goes past `threshold` percent of a limit on its way from `before` to `after`.
pub fn crosses(limit: Nanodollars, threshold: u16, before: Nanodollars, after: Nanodollars) -> bool {
    let part = i128::from(limit.get()) * i128::from(threshold);
    let reached = |amount: Nanodollars| i128::from(amount.get()) * 100 >= part;
    reached(after) && !reached(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_domain::account::AccountKind;

    #[test]
    fn a_part_is_crossed_once_on_the_way_up() {
        // (limit, percent, before, after), whether it is crossed
        let table = [
            ((100, 50, 0, 49), false),
            ((100, 50, 49, 50), true),
            ((100, 50, 50, 60), false),
            ((100, 50, 60, 40), false),
            ((3, 50, 1, 2), true),
            ((100, 120, 119, 120), true),
            ((0, 50, 0, 5), false),
            ((i64::MAX, 100, 0, i64::MAX), true),
        ];
        for ((limit, percent, before, after), expected) in table {
            let [limit, before, after] = [limit, before, after].map(Nanodollars::new);
            assert_eq!(
                crosses(limit, percent, before, after),
                expected,
                "{limit:?} {percent} {before:?} {after:?}"
            );
        }
    }

    fn counted(account: &AccountLabel, limit: i64, posted: i64, pending: i64, observe: bool) -> Counted<'_> {
        let [limit, posted, pending] = [limit, posted, pending].map(Nanodollars::new);
        Counted { account, limit, observe, posted, pending, resets_at: None }
    }

    #[test]
    fn every_limit_must_take_the_amount() {
        use DenialReason::{BudgetSpent as Spent, BudgetTooSmall as Small};
        let label = |kind| AccountLabel { kind, alias: String::new() };
        let [team, key] = [AccountKind::Team, AccountKind::Key].map(label);
        // (limit, posted, pending, only observes) of the team's and of the key's, the amount, and what is said: who refuses, or
        // what an observing limit would have said.
        type Limit = (i64, i64, i64, bool);
        type Said = Result<Option<DenialReason>, (AccountKind, DenialReason)>;
        let table: [(Limit, Limit, i64, Said); 14] = [
            ((10, 0, 0, false), (10, 0, 0, false), 10, Ok(None)),
            ((10, 3, 4, false), (10, 0, 0, false), 3, Ok(None)),
            ((10, 3, 4, false), (10, 0, 0, false), 4, Err((AccountKind::Team, Small))),
            ((10, 0, 10, false), (10, 0, 0, false), 1, Err((AccountKind::Team, Small))),
            ((10, 10, 0, false), (10, 0, 0, false), 1, Err((AccountKind::Team, Spent))),
            ((10, 12, 0, false), (10, 0, 0, false), 1, Err((AccountKind::Team, Spent))),
            ((0, 0, 0, false), (10, 0, 0, false), 0, Err((AccountKind::Team, Spent))),
            ((10, 10, 0, false), (10, 0, 0, false), 0, Err((AccountKind::Team, Spent))),
            ((10, 0, 0, false), (5, 0, 0, false), 6, Err((AccountKind::Key, Small))),
            ((10, 0, 5, false), (5, 5, 0, false), 6, Err((AccountKind::Team, Small))),
            ((10, 9, 0, true), (10, 0, 0, false), 6, Ok(Some(Small))),
            ((10, 11, 0, true), (9, 0, 9, true), 6, Ok(Some(Spent))),
            ((10, 11, 0, true), (9, 0, 9, false), 6, Err((AccountKind::Key, Small))),
            (
                (i64::MAX, i64::MAX - 1, 1, false),
                (i64::MAX, 0, 0, false),
                i64::MAX,
                Err((AccountKind::Team, Small)),
            ),
        ];
        for (of_team, of_key, amount, expected) in table {
            let limit = |account, (limit, posted, pending, observe): Limit| {
                counted(account, limit, posted, pending, observe)
            };
            let said = afford(Nanodollars::new(amount), [limit(&team, of_team), limit(&key, of_key)]);
            let said = said.map_err(|denied| (denied.account.unwrap().kind, denied.reason));
            assert_eq!(said, expected, "{of_team:?} {of_key:?} {amount}");
        }
    }

    #[test]
    fn only_an_enforced_limit_is_exhausted_and_only_by_what_is_posted() {
        let label = AccountLabel { kind: AccountKind::Key, alias: String::new() };
        // (limit, posted, pending, only observes), whether it is exhausted
        let table = [((10, 9, 5, false), false), ((10, 10, 0, false), true), ((10, 11, 0, true), false)];
        for ((limit, posted, pending, observe), expected) in table {
            let found = exhausted([counted(&label, limit, posted, pending, observe)]);
            assert_eq!(found.is_some(), expected, "{limit} {posted} {pending} {observe}");
        }
    }

    #[test]
    fn an_overrun_is_what_the_growth_pushed_beyond_a_limit() {
        let label = AccountLabel { kind: AccountKind::Key, alias: String::new() };
        // (limit, posted, pending) after, growth, overrun
        let table = [
            ((10, 5, 5), 3, 0),
            ((10, 8, 4), 3, 2),
            ((10, 20, 4), 3, 3),
            ((10, 20, 4), 0, 0),
            ((10, i64::MAX, 1), 3, 3),
        ];
        for ((limit, posted, pending), growth, expected) in table {
            let limits = [counted(&label, 100, 0, 0, false), counted(&label, limit, posted, pending, false)];
            let found = overrun(Nanodollars::new(growth), limits);
            assert_eq!(found, Nanodollars::new(expected), "{limit} {posted} {pending} {growth}");
        }
        assert_eq!(overrun(Nanodollars::new(3), []), Nanodollars::ZERO);
    }
}
