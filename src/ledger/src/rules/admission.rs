//! Whether a hold may be made: the refusals, by name, in their one order.
//!
//! Unknown key, stale policy, blocked, expired, model unknown or unpriced, model not allowed, money. A stale policy comes
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
    HoldDenied { reason, account: None, resets_at: None, amounts: None }
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
            Err(PriceError::NoWebSearchPrice | PriceError::Overflow(_)) => {
                return deny(DenialReason::ModelUnpriced);
            }
        }
    }
    let allowed = |name| known(ask, book, name).is_some_and(|model| policy.allows(model, book.catalogue()));
    if models().all(allowed) { Ok(amount) } else { deny(DenialReason::ModelNotAllowed) }
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
    /// When its window ends.
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
