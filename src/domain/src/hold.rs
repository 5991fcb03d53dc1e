//! What the filter and the ledger say to each other about one request: the ask for a hold, the verdict on it, and the
//! reports of how it went.

use crate::account::AccountLabel;
use crate::api::Api;
use crate::bounds::Bounds;
use crate::catalogue::{Catalogue, Provider};
use crate::ids::{HoldId, KeyDigest, ModelName, Tag};
use crate::money::Nanodollars;
use crate::policy::{Amounts, Policy};
use crate::price::Modifiers;
use crate::rate::RateNow;
use crate::time::Timestamp;
use crate::usage::Usage;

/// Asks for money to be set aside for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldAsk {
    /// The hold's id, made by the filter.
    pub id: HoldId,
    /// Whose request it is.
    pub key: KeyDigest,
    /// The policy that the filter decided on.
    pub policy_version: Vec<u8>,
    /// The provider's own name of the model.
    pub model: ModelName,
    /// Who will serve it.
    pub provider: Provider,
    /// In which API.
    pub api: Api,
    /// The most that it can use.
    pub bounds: Bounds,
    /// What the client asked for beside tokens.
    pub modifiers: Modifiers,
    /// Models that the provider may answer with instead.
    pub fallback_models: Vec<ModelName>,
    /// Labels of the request.
    pub tags: Vec<Tag>,
    /// The agent's session, for the journal.
    pub session: Option<String>,
    /// The end user that the request names.
    pub end_user: Option<String>,
    /// The client's product name.
    pub client: Option<String>,
    /// The catalogue that the model was resolved by; zero: none.
    pub catalogue_revision: u64,
}

/// Asks what is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupAsk {
    /// Which.
    pub key: KeyDigest,
    /// The version of its policy that the caller holds; empty: none.
    pub known_version: Vec<u8>,
    /// The catalogue that the caller holds; zero: none.
    pub catalogue_revision: u64,
}

/// The ledger's word on an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The money is set aside.
    Held {
        /// How much.
        amount: Nanodollars,
        /// When it is charged in full unless something is heard of it.
        expires_at: Timestamp,
        /// The rates that it counts in, the tightest of each kind.
        rates: Vec<RateNow>,
    },
    /// It is not.
    Denied(HoldDenied),
    /// The policy version was old; here is the present one, and the catalogue where that changed too.
    Stale(Box<Policy>, Option<Box<Catalogue>>),
}

/// Why a hold was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialReason {
    /// No such key.
    KeyUnknown,
    /// The key, or an account above it, is blocked.
    KeyBlocked,
    /// The key has expired.
    KeyExpired,
    /// No such model.
    ModelUnknown,
    /// A level's list does not allow the model.
    ModelNotAllowed,
    /// The model, or a feature of the request, has no price.
    ModelUnpriced,
    /// Nothing is left on the account.
    BudgetSpent,
    /// Less is left than the request may cost.
    BudgetTooSmall,
    /// The hold has ended before it was asked for.
    HoldEnded,
    /// Too many requests or tokens.
    RateLimited,
    /// A tag that the key requires is missing.
    TagMissing,
    /// The request asks for an extra that a policy forbids.
    ExtraForbidden,
}

/// A refused hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldDenied {
    /// Why.
    pub reason: DenialReason,
    /// Which account refused, for budgets and rates.
    pub account: Option<AccountLabel>,
    /// When the refusing limit's window ends.
    pub resets_at: Option<Timestamp>,
    /// How the refusing limit stands.
    pub amounts: Option<Amounts>,
    /// For rates: when to try again, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
}

/// News of one hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which hold.
    pub hold: HoldId,
    /// Whose: checked against the hold's owner.
    pub key: KeyDigest,
    /// Rises from 1 within one hold.
    pub sequence: u64,
    /// The news.
    pub event: Event,
}

/// What happened to a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The answer is flowing.
    Adjust {
        /// Exact input usage, once known.
        usage: Option<Usage>,
        /// Output tokens seen so far.
        output_seen: u64,
    },
    /// The answer has ended.
    Settle(Settlement),
    /// The provider billed nothing.
    Void {
        /// The status that the client saw.
        status: u16,
    },
}

/// How a forwarded request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The answer came to its documented end, with usage.
    Complete,
    /// The client left before.
    ClientLeft,
    /// The provider's stream broke.
    UpstreamCut,
    /// A 2xx answer that carried an error.
    ErrorInAnswer,
    /// A 2xx answer without usage.
    NoUsage,
    /// A status that does not say the answer is final.
    NotTerminal,
    /// The filter's VM ended while the request was open.
    FilterLost,
}

impl End {
    /// The word for it in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientLeft => "client_left",
            Self::UpstreamCut => "upstream_cut",
            Self::ErrorInAnswer => "error_in_answer",
            Self::NoUsage => "no_usage",
            Self::NotTerminal => "not_terminal",
            Self::FilterLost => "filter_lost",
        }
    }
}

/// The end of a forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// What was used; `None`: unknown, the hold is charged in full.
    pub usage: Option<Usage>,
    /// The usage, or part of it, is an estimate.
    pub estimated: bool,
    /// How it ended.
    pub end: End,
    /// The model, as the answer named it.
    pub model: Option<String>,
    /// The tier and the like, as the answer named them.
    pub modifiers: Modifiers,
    /// Parts that were billed as other models, not contained in `usage`.
    pub extra: Vec<(String, Usage)>,
    /// The provider's status.
    pub status: u16,
    /// Milliseconds from forwarding to the end.
    pub duration_ms: u64,
    /// Milliseconds from forwarding to the first byte of the answer.
    pub first_byte_ms: u64,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It changed the books.
    Applied,
    /// It had been applied before.
    Duplicate,
    /// A later event of the hold came first.
    Superseded,
    /// A void of an unknown hold, remembered.
    Tombstone,
    /// It can never be applied, for this reason.
    Rejected(&'static str),
}
