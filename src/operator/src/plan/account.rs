//! An account as the ledger should have it.

use tollgate_domain::account::AccountName;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::RateKind;
use tollgate_domain::session::SessionLimits;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// All that is said of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: AccountName,
    /// For whom it is managed: `KIND NAMESPACE/NAME`.
    pub owner_scope: String,
    /// Takes over an account that the admin API has made.
    pub adopt: bool,
    /// What people call it.
    pub alias: String,
    /// The id of its organization; of teams and users.
    pub organization: Option<String>,
    /// The id of its team; of keys.
    pub team: Option<String>,
    /// The id of its user; of keys.
    pub user: Option<String>,
    /// Which models; empty: every one.
    pub models: Vec<String>,
    /// How much it may spend; one for each window, model and softness, in their order.
    pub limits: Vec<Limit>,
    /// How much passes in a span of time, in the order of their kinds.
    pub rates: Vec<RateLimit>,
    /// How much each session of each of its keys may spend.
    pub session_limit: Option<Nanodollars>,
    /// How much those of some names may, beside it.
    pub session_limits: SessionLimits,
    /// Tags that every request carries.
    pub tags: Vec<String>,
    /// Names of tags that every request must bring.
    pub required_tags: Vec<String>,
    /// Whether tags of clients are charged to the accounts of their name.
    pub client_tags_bind: bool,
    /// What no request may ask for, in the ledger's words.
    pub forbidden: Vec<String>,
    /// `None`: as it is.
    pub blocked: Option<bool>,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Of a key, those that work; none: those that an adopted account has.
    pub credentials: Vec<Credential>,
}

impl Account {
    /// Whether the two differ in nothing but their credentials.
    pub fn is_but_for_credentials(&self, other: &Self) -> bool {
        *self == Self { credentials: self.credentials.clone(), ..other.clone() }
    }
}

/// One row of an account's limits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit {
    /// In which span.
    pub window: Window,
    /// Of which model alone.
    pub model: Option<String>,
    /// Only warns at its amount.
    pub soft: bool,
    /// Counted and shown, and never a reason to refuse.
    pub observe: bool,
    /// How much.
    pub amount: Nanodollars,
    /// At which parts a crossing is recorded, rising.
    pub thresholds_percent: Vec<u16>,
}

/// One limit on a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateLimit {
    /// What is counted.
    pub kind: RateKind,
    /// How much of it passes.
    pub limit: u64,
}

/// What a request proves itself with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credential {
    /// Of the virtual key.
    pub digest: KeyDigest,
    /// Enough of the key for a person to tell it.
    pub name: String,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}
