//! The policy of a virtual key: all that the filter needs to judge a request of it.

use crate::account::AccountLabel;
use crate::allow::LevelList;
use crate::bounds::Bounds;
use crate::catalogue::{Catalogue, Model};
use crate::extra::Extra;
use crate::ids::Tag;
use crate::money::Nanodollars;
use crate::price::Modifiers;
use crate::time::Timestamp;

/// What judging a key needs. A copy of the ledger's truth, and never evidence against it: the ledger decides each hold
/// on its own rows and sends a new policy when the version that the filter decided on is old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Changes whenever anything in it does. Opaque: only compared.
    pub version: Vec<u8>,
    /// The accounts that every request of the key charges, outermost first.
    pub accounts: Vec<AccountLabel>,
    /// The account that is blocked, if one is.
    pub blocked: Option<AccountLabel>,
    /// From when on the key is refused.
    pub expires_at: Option<Timestamp>,
    /// Every list must allow the model.
    pub allow_lists: Vec<LevelList>,
    /// Tags that every request of the key carries.
    pub tags: Vec<Tag>,
    /// Extras that no request of the key may ask for.
    pub forbidden: Vec<Extra>,
    /// Tags that every request must carry: `project` asks for `project` itself or any `project:...`.
    pub required_tags: Vec<Tag>,
}

impl Policy {
    /// Whether every level allows the model.
    pub fn allows(&self, model: &Model, catalogue: &Catalogue) -> bool {
        self.allow_lists.iter().all(|level| level.list.allows(model, catalogue))
    }

    /// Every model that the key may use, in the catalogue's order.
    pub fn models<'a>(&'a self, catalogue: &'a Catalogue) -> impl Iterator<Item = &'a Model> {
        catalogue.models().iter().filter(|model| self.allows(model, catalogue))
    }

    /// The first forbidden extra that a request asks for.
    pub fn forbidden_extra(&self, modifiers: &Modifiers, bounds: &Bounds) -> Option<Extra> {
        self.forbidden.iter().copied().find(|extra| extra.is_asked_for(modifiers, bounds))
    }

    /// The first required tag that none of these is.
    pub fn missing_tag(&self, tags: &[Tag]) -> Option<&Tag> {
        let carries = |required: &Tag| {
            tags.iter().any(|tag| {
                let rest = tag.as_str().strip_prefix(required.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            })
        };
        self.required_tags.iter().find(|required| !carries(required))
    }

    /// Whether the key has expired at `now`.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expiry| expiry <= now)
    }
}

/// A limit on which nothing is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Whose limit.
    pub account: AccountLabel,
    /// How it stands.
    pub amounts: Amounts,
    /// When its window ends; `None`: never by itself.
    pub resets_at: Option<Timestamp>,
}

impl Exhausted {
    /// Whether its window has ended at `now`, so that it says nothing any more.
    pub fn over(&self, now: Timestamp) -> bool {
        self.resets_at.is_some_and(|reset| reset <= now)
    }
}

/// One limit of one account at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// The limit.
    pub limit: Nanodollars,
    /// What was spent in the window.
    pub posted: Nanodollars,
    /// What open requests hold.
    pub pending: Nanodollars,
    /// What the refused hold would have added; zero where none was asked.
    pub requested: Nanodollars,
}
