//! An account as the ledger lists it.

use crate::plan::MANAGED_BY;
use tollgate_domain::account::AccountName;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::Rate;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// All that is said of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedAccount {
    /// Its name.
    pub name: AccountName,
    /// Who manages it.
    pub managed_by: String,
    /// For whom.
    pub owner_scope: String,
    /// What people call it.
    pub alias: Option<String>,
    /// The id of its organization.
    pub organization: Option<String>,
    /// The id of its team.
    pub team: Option<String>,
    /// The id of its user.
    pub user: Option<String>,
    /// Which models; empty: every one.
    pub models: Vec<String>,
    /// How much it may spend.
    pub limits: Vec<ListedLimit>,
    /// How much passes in a span of time.
    pub rates: Vec<ListedRate>,
    /// How much each session may spend.
    pub session_limit: Option<Nanodollars>,
    /// Whether sessions of some names have limits of their own.
    pub has_session_limits: bool,
    /// Tags that every request carries.
    pub tags: Vec<String>,
    /// Names of tags that every request must bring.
    pub required_tags: Vec<String>,
    /// Whether tags of clients bind.
    pub client_tags_bind: bool,
    /// What no request may ask for, in the ledger's words.
    pub forbidden: Vec<String>,
    /// Whether its requests are refused.
    pub blocked: bool,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Of a key, how many credentials work.
    pub credentials: usize,
    /// Names in its metadata.
    pub metadata: Vec<String>,
}

impl ListedAccount {
    /// Whether a custom resource stands for it, of this cluster or another.
    pub(super) fn is_managed(&self) -> bool {
        self.managed_by == MANAGED_BY
    }
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedLimit {
    /// How much.
    pub amount: Nanodollars,
    /// In which span; `None`: one that only the admin API can name.
    pub window: Option<Window>,
    /// Of which model alone.
    pub model: Option<String>,
    /// Counted and shown, and never a reason to refuse.
    pub observe: bool,
    /// Only warns.
    pub soft: bool,
    /// At which parts a crossing is recorded, rising.
    pub thresholds_percent: Vec<u32>,
}

/// One limit on a rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRate {
    /// How much of what.
    pub rate: Rate,
    /// Of which model alone.
    pub model: Option<String>,
    /// Counted, and never a reason to refuse.
    pub observe: bool,
}
