//! What goes into a store and comes out of it, beside the messages of the filter.

use super::TagScope;
use crate::owner_scope::ClusterNamespace;
use tollgate_domain::account::AccountKind;
use tollgate_domain::api::Api;
use tollgate_domain::catalogue::Provider;
use tollgate_domain::extra::Extra;
use tollgate_domain::hold::End;
use tollgate_domain::ids::{HoldId, KeyDigest, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::{Rate, RateNow};
use tollgate_domain::session::SessionLimits;
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;
use tollgate_domain::window::{Period, Window};

/// How an account is named by whoever asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountRef {
    /// By kind and id. For a key, the id of its account.
    Id(AccountKind, String),
    /// A key account, by the digest of its key.
    Key(KeyDigest),
    /// A key account, by its alias.
    KeyAlias(String),
    /// A tag account.
    Tag {
        /// Whose requests it counts.
        scope: TagScope,
        /// The tag.
        tag: String,
    },
}

/// One limit of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// How much, over one window. Zero allows nothing.
    pub amount: Nanodollars,
    /// Over which window.
    pub window: Window,
    /// The window as whoever set it wrote it, such as `1mo`; `None` for [`Window::Lifetime`].
    pub duration: Option<String>,
    /// `max_budget` with `budget_duration`, whose window `spend` shows; the others stand in `budget_limits`.
    pub main: bool,
    /// Counted and shown, but never a reason to refuse.
    pub observe: bool,
    /// Only requests of this model count, by its name or an alias; `None`: all do.
    pub model: Option<String>,
    /// Warns at its amount, and is neither refused nor recorded as one that would be.
    pub soft: bool,
    /// At which parts of the amount an event is recorded, in percent.
    pub thresholds: Vec<u16>,
}

impl LimitSpec {
    /// A limit that refuses, and records nothing before it does.
    pub const fn new(amount: Nanodollars, window: Window, duration: Option<String>) -> Self {
        Self {
            amount,
            window,
            duration,
            main: false,
            observe: false,
            model: None,
            soft: false,
            thresholds: Vec::new(),
        }
    }
}

/// One rate of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateSpec {
    /// How much of what.
    pub rate: Rate,
    /// Only requests of this model count, by its name or an alias; `None`: all do.
    pub model: Option<String>,
    /// Counted, but never a reason to refuse.
    pub observe: bool,
}

/// Who an account belongs to. A key may belong to all three.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// The organization's id. A key in a team has that of the team, if the team has one, and none of its own.
    pub organization: Option<String>,
    /// The team's id.
    pub team: Option<String>,
    /// The user's id.
    pub user: Option<String>,
}

/// What an admin says of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountSpec {
    /// What people call it.
    pub alias: Option<String>,
    /// Who it belongs to.
    pub owners: Owners,
    /// Patterns of models; empty restricts nothing.
    pub models: Vec<String>,
    /// Its limits: at most one of them `main`, and no two over the same window of the same model that are both soft or both
    /// not.
    pub limits: Vec<LimitSpec>,
    /// Duration of the main window, kept while there is no `max_budget`.
    pub budget_duration: Option<String>,
    /// Refuses every request that charges it.
    pub blocked: bool,
    /// Tags that every request carries.
    pub tags: Vec<Tag>,
    /// Extras that no request may ask for.
    pub forbidden: Vec<Extra>,
    /// Names of tags that every request must carry.
    pub required_tags: Vec<Tag>,
    /// From when on a key is refused.
    pub expires_at: Option<Timestamp>,
    /// Its rates: at most one of each kind for each model.
    pub rates: Vec<RateSpec>,
    /// How much each session of each of its keys may spend.
    pub session_limit: Option<Nanodollars>,
    /// How much those of some names may, beside it.
    pub session_limits: SessionLimits,
    /// Tags that clients send are charged to the tag accounts of that name, as pinned ones are.
    pub client_tags_bind: bool,
    /// Fields that change no decision, as a JSON object, in the words of whoever set them.
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// The credential of a key account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// SHA-256 of the key.
    pub digest: KeyDigest,
    /// Enough of the key for a person to tell it: `sk-...` and its last four characters.
    pub name: String,
}

/// An account to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    /// Its kind: organization, team, user, key or tag. A tag belongs to the organization among its owners, or to the whole
    /// installation.
    pub kind: AccountKind,
    /// Its id.
    pub id: String,
    /// What is said of it.
    pub spec: AccountSpec,
    /// For a key, and only for a key.
    pub credential: Option<Credential>,
    /// Who made it.
    pub created_by: String,
}

/// A change of an account: what is `None` stays. The inner `None` takes a value away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// What people call it.
    pub alias: Option<Option<String>>,
    /// Who it belongs to.
    pub owners: Option<Owners>,
    /// Patterns of models.
    pub models: Option<Vec<String>>,
    /// All its limits. A limit whose window stays keeps what was counted in it.
    pub limits: Option<Vec<LimitSpec>>,
    /// Duration of the main window.
    pub budget_duration: Option<Option<String>>,
    /// Whether it is blocked.
    pub blocked: Option<bool>,
    /// Tags that every request carries.
    pub tags: Option<Vec<Tag>>,
    /// Extras that no request may ask for.
    pub forbidden: Option<Vec<Extra>>,
    /// Names of tags that every request must carry.
    pub required_tags: Option<Vec<Tag>>,
    /// From when on a key is refused.
    pub expires_at: Option<Option<Timestamp>>,
    /// All its rates. A rate that stays keeps what was counted.
    pub rates: Option<Vec<RateSpec>>,
    /// How much each session may spend.
    pub session_limit: Option<Option<Nanodollars>>,
    /// How much sessions of some names may spend, all of it.
    pub session_limits: Option<SessionLimits>,
    /// Whether tags that clients send bind.
    pub client_tags_bind: Option<bool>,
    /// Replaces all of it.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// One limit, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRecord {
    /// The limit.
    pub spec: LimitSpec,
    /// The window of this moment.
    pub period: Period,
    /// Spent in it.
    pub posted: Nanodollars,
    /// Held in it.
    pub pending: Nanodollars,
}

/// An account, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// Its kind.
    pub kind: AccountKind,
    /// Its id.
    pub id: String,
    /// Of a tag, the namespace whose keys' requests alone it counts.
    pub namespace: Option<ClusterNamespace>,
    /// What was said of it.
    pub spec: AccountSpec,
    /// For a key.
    pub credential: Option<Credential>,
    /// Its limits.
    pub limits: Vec<LimitRecord>,
    /// Its rates of all models together.
    pub rates: Vec<RateNow>,
    /// Spent over its life.
    pub posted: Nanodollars,
    /// Held now, over all windows.
    pub pending: Nanodollars,
    /// The window of `budget_duration` at this moment, with or without a limit, and what was spent and held in it.
    pub main: Option<(Period, Nanodollars, Nanodollars)>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed by an admin.
    pub updated_at: Timestamp,
    /// When a request last charged it.
    pub last_active_at: Option<Timestamp>,
}

/// A limit of which a part was spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Rises from event to event; a cursor.
    pub number: i64,
    /// When it was recorded.
    pub at: Timestamp,
    /// The account's kind.
    pub kind: AccountKind,
    /// The account's id.
    pub id: String,
    /// Within what the id is unique.
    pub scope: String,
    /// What people call it.
    pub alias: Option<String>,
    /// The limit's window.
    pub window: Window,
    /// Which of them.
    pub period: Period,
    /// The limit's model.
    pub model: Option<String>,
    /// Whether the limit only warns.
    pub soft: bool,
    /// Which part, in percent.
    pub threshold: u16,
    /// The limit's amount.
    pub limit: Nanodollars,
    /// What was spent in the window.
    pub posted: Nanodollars,
}

/// Which accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountFilter {
    /// Of this kind.
    pub kind: AccountKind,
    /// That belong to these; what is `None` does not matter.
    pub owners: Owners,
    /// Of this alias.
    pub alias: Option<String>,
    /// With this key.
    pub digest: Option<KeyDigest>,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many to leave out.
    pub offset: u64,
    /// How many at most.
    pub limit: u64,
}

/// Which requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpendFilter {
    /// Of this key.
    pub key: Option<KeyDigest>,
    /// Of this user.
    pub user: Option<String>,
    /// Of this team.
    pub team: Option<String>,
    /// The hold's id.
    pub request: Option<HoldId>,
    /// From this instant on.
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
}

/// How a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// Open.
    Pending,
    /// Charged with what was used.
    Settled,
    /// Given back: nothing was billed.
    Voided,
    /// Charged in full, because nobody said how it ended.
    Expired,
}

/// One request that was charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendRecord {
    /// The hold's id: what answers carry as `x-tollgate-request-id`.
    pub request: HoldId,
    /// How it stands.
    pub state: HoldState,
    /// Posted for it.
    pub cost: Nanodollars,
    /// How far it went beyond a limit, because it cost more than was held for it.
    pub overrun: Nanodollars,
    /// What was used, where it is known.
    pub usage: Option<Usage>,
    /// Whether the usage is an estimate.
    pub estimated: bool,
    /// How it ended, once it has.
    pub end: Option<End>,
    /// In which API.
    pub api: Api,
    /// The model that was priced.
    pub model: String,
    /// Who served it.
    pub provider: Provider,
    /// Whose key.
    pub key: KeyDigest,
    /// Its owners, at the time.
    pub owners: Owners,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// The agent's session.
    pub session: Option<String>,
    /// The end user.
    pub end_user: Option<String>,
    /// The client's product.
    pub client: Option<String>,
    /// When the hold was made.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When the answer began.
    pub first_byte_at: Option<Timestamp>,
    /// The provider's status.
    pub status: Option<u16>,
    /// Why a limit that only observes would have refused it, in one word.
    pub would_deny: Option<String>,
}

/// What was spent under one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSpend {
    /// The tag.
    pub tag: String,
    /// Requests with it.
    pub requests: u64,
    /// What they cost.
    pub spent: Nanodollars,
}
