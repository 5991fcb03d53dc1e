//! What the operator knows of the ledger, and how it comes to know: by what the ledger tells of accounts, and by what it answered.

use super::{Account, Credential, MANAGED_BY};
use std::collections::BTreeMap;
use tollgate_domain::account::AccountName;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::Overlay;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// How accounts stand, and what was said of them last. The default is that of an operator that has just started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The ledger has told how every account stands, and can be asked.
    pub synced: bool,
    /// Since when it is not so; `None` before the first attempt.
    pub away_since: Option<Timestamp>,
    /// How accounts stand, the deleted ones, too.
    pub standings: BTreeMap<AccountName, Standing>,
    /// What was asked for last, and what came of it. The operator's memory: it is empty after a start, and everything is asked for anew.
    pub applied: BTreeMap<AccountName, Applied>,
    /// What was asked of prices last. Forgotten whenever the ledger was away: it may have come back with another price book.
    pub prices: Option<PricesAsked>,
}

/// What was asked of prices, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricesAsked {
    /// As it was asked for.
    pub overlay: Overlay,
    /// What the ledger said.
    pub outcome: PricesOutcome,
}

/// What the ledger said of prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PricesOutcome {
    /// They are in force.
    Taken,
    /// What was in force stays so.
    Refused {
        /// All that is wrong.
        faults: Vec<PriceFault>,
        /// When it was last asked for.
        at: Timestamp,
        /// How often it was asked for and refused.
        attempts: u32,
    },
}

/// What is wrong with what a price book says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceFault {
    /// Of which: the name of its sheet. Empty: of all of them together.
    pub sheet: String,
    /// What kind of reason.
    pub reason: RefusalReason,
    /// The field's path in the specification.
    pub field: String,
    /// A sentence.
    pub message: String,
}

impl PriceFault {
    /// That the ledger does not take the message with all price books, whatever each of them says.
    #[must_use]
    pub fn of_all(message: &str) -> Self {
        let (sheet, field, message) = (String::new(), String::new(), message.to_owned());
        Self { sheet, reason: RefusalReason::Invalid, field, message }
    }
}

/// How an account stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Who manages it.
    pub managed_by: String,
    /// For whom.
    pub owner_scope: String,
    /// Rises with every change of what is said of it.
    pub revision: u64,
    /// It does not exist any more.
    pub deleted: bool,
    /// Its requests are refused.
    pub blocked: bool,
    /// How its limits stand.
    pub limits: Vec<LimitStanding>,
    /// Spent over its life.
    pub posted: Nanodollars,
    /// Set aside now.
    pub pending: Nanodollars,
    /// When a request last charged it.
    pub last_used_at: Option<Timestamp>,
    /// Nothing is left on a limit that refuses.
    pub exhausted: bool,
    /// Of a key, those that work.
    pub credentials: Vec<Credential>,
}

/// How a limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStanding {
    /// In which span; `None`: one that no custom resource can name.
    pub window: Option<Window>,
    /// Of which model alone.
    pub model: Option<String>,
    /// Only warns.
    pub soft: bool,
    /// Counted and shown, and never a reason to refuse.
    pub observe: bool,
    /// How much.
    pub amount: Nanodollars,
    /// When the present span began.
    pub starts_at: Timestamp,
    /// When it ends.
    pub ends_at: Option<Timestamp>,
    /// Spent in it.
    pub posted: Nanodollars,
    /// Set aside in it.
    pub pending: Nanodollars,
}

/// What was asked for, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// As it was asked for.
    pub account: Account,
    /// What the ledger said.
    pub outcome: Outcome,
}

/// What the ledger said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is so.
    Applied {
        /// As of this revision.
        revision: u64,
    },
    /// It is left as it was.
    Refused {
        /// Why.
        refusal: Refusal,
        /// When it was last asked for.
        at: Timestamp,
        /// How often it was asked for and refused.
        attempts: u32,
    },
}

/// Why the ledger left an account as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of reason.
    pub reason: RefusalReason,
    /// The field's path in the account.
    pub field: String,
    /// A sentence.
    pub message: String,
}

/// What kind of reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// What can never be.
    Invalid,
    /// Somebody else has it.
    Conflict,
    /// It belongs to, or names, what does not exist.
    NotFound,
}

impl Ledger {
    /// The stream of changes has begun, and everything is to come anew (`restarted`): what was known is of other books.
    pub fn restart(&mut self) {
        self.synced = false;
        self.standings.clear();
        self.applied.clear();
        self.prices = None;
    }

    /// Everything has been told: this is how things stand.
    pub fn sync(&mut self) {
        self.synced = true;
        self.away_since = None;
    }

    /// It does not answer. The first moment counts.
    pub fn lose(&mut self, now: Timestamp) {
        self.synced = false;
        self.away_since.get_or_insert(now);
        // It may come back as another release, which understands more of what was asked: all of it is asked once more.
        self.applied.clear();
        self.prices = None;
    }

    /// How an account stands that is managed for `owner_scope`; of another's nothing is known here.
    pub fn standing_of(&self, account: &AccountName, owner_scope: &str) -> Option<&Standing> {
        let told = self.standings.get(account)?;
        (told.managed_by == MANAGED_BY && told.owner_scope == owner_scope).then_some(told)
    }

    /// An account was told.
    pub fn tell(&mut self, name: AccountName, standing: Standing) {
        self.standings.insert(name, standing);
    }

    /// An account was asked for, and this is the answer.
    pub fn answer(&mut self, mut account: Account, answer: Result<u64, Refusal>, now: Timestamp) {
        // The order in which the next plan will want them: a new key's came last.
        account.credentials.sort();
        let name = account.name.clone();
        let before = self.applied.get(&name).filter(|before| before.account.is_but_for_credentials(&account));
        let outcome = match (answer, before.map(|before| &before.outcome)) {
            (Ok(revision), _) => Outcome::Applied { revision },
            (Err(refusal), Some(Outcome::Refused { attempts, .. })) => {
                Outcome::Refused { refusal, at: now, attempts: attempts.saturating_add(1) }
            }
            (Err(refusal), _) => Outcome::Refused { refusal, at: now, attempts: 1 },
        };
        self.applied.insert(name, Applied { account, outcome });
    }

    /// Prices were asked for, and this is the answer.
    pub fn answer_prices(&mut self, overlay: Overlay, answer: Result<(), Vec<PriceFault>>, now: Timestamp) {
        let before = self.prices.take().filter(|before| before.overlay == overlay);
        let outcome = match (answer, before.map(|before| before.outcome)) {
            (Ok(()), _) => PricesOutcome::Taken,
            (Err(faults), Some(PricesOutcome::Refused { attempts, .. })) => {
                PricesOutcome::Refused { faults, at: now, attempts: attempts.saturating_add(1) }
            }
            (Err(faults), _) => PricesOutcome::Refused { faults, at: now, attempts: 1 },
        };
        self.prices = Some(PricesAsked { overlay, outcome });
    }

    /// An account was deleted, or there was none.
    pub fn answer_deleted(&mut self, name: &AccountName) {
        self.applied.remove(name);
        if let Some(standing) = self.standings.get_mut(name) {
            standing.deleted = true;
        }
    }
}
