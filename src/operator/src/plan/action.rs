//! What a plan asks for.

use super::{Account, Credential, ObjectName, SecretContent};
use crate::resources::{AccountStatus, BudgetStatus, PriceBookStatus, VirtualKeyStatus};
use std::fmt;
use tollgate_domain::account::AccountName;
use tollgate_domain::price::Overlay;
use tollgate_domain::time::Timestamp;

/// What is to be done, in this order, and when to look again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What is to be done. One that fails hinders no other: the next plan asks for it again.
    pub actions: Vec<Action>,
    /// When something is to be done though nothing happens.
    pub wake_at: Option<Timestamp>,
}

/// One thing to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put the finalizer on an object.
    AddFinalizer(ObjectRef),
    /// Delete accounts, in this order. With whose word each was applied stands beside it.
    Delete(Vec<(AccountName, String)>),
    /// Apply accounts, in this order. [`Ledger::answer`](super::Ledger::answer) remembers what comes of each.
    Apply(Vec<Account>),
    /// Let what all price books say count. [`Ledger::answer_prices`](super::Ledger::answer_prices) remembers what comes of it.
    SetPrices {
        /// Whose word it is: the cluster's.
        scope: String,
        /// What they say.
        overlay: Overlay,
    },
    /// Make a new key.
    Issue(Box<IssueKey>),
    /// Write what stands beside a key anew, and leave the key.
    Rewrite {
        /// The `VirtualKey`.
        key: ObjectRef,
        /// The Secret.
        secret: ObjectName,
        /// The digest of the key in it; nothing is written if it is another.
        digest: tollgate_domain::ids::KeyDigest,
        /// What it should hold.
        content: SecretContent,
    },
    /// Delete a Secret.
    DeleteSecret {
        /// The Secret.
        secret: ObjectName,
        /// Its uid: no other is deleted.
        uid: String,
    },
    /// Take the finalizer off an object.
    RemoveFinalizer(ObjectRef),
    /// Write a status, by server-side apply, after publishing what its change means. One action, because until the status is written each
    /// plan asks for the events again, and a round that carries out only a part of its plan would never come to the statuses.
    SetStatus {
        /// Whose.
        object: ObjectRef,
        /// All of it.
        status: Status,
        /// The name of each tells it from every other, so that one that was published twice is one.
        events: Vec<Event>,
    },
}

/// A new key. The ledger hears of it first, so that no Secret ever holds a key that does not work: make a key, apply `account` with its
/// credential after those that it has, and only then write the Secret, under the control of the `VirtualKey`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueKey {
    /// The `VirtualKey`.
    pub key: ObjectRef,
    /// The account, with the credentials that are to work on.
    pub account: Account,
    /// The Secret.
    pub secret: ObjectName,
    /// The uid of the Secret that is there and under the key's control; `None`: there is none, and if one is, it is not written.
    pub secret_uid: Option<String>,
    /// What it should hold beside the key.
    pub content: SecretContent,
}

impl IssueKey {
    /// The account with the new key's credential.
    #[must_use]
    pub fn account_with(&self, credential: Credential) -> Account {
        let mut account = self.account.clone();
        account.credentials.push(credential);
        account
    }
}

/// The kinds of custom resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `Organization`.
    Organization,
    /// `Team`.
    Team,
    /// `User`.
    User,
    /// `VirtualKey`.
    VirtualKey,
    /// `Budget`.
    Budget,
    /// `PriceBook`.
    PriceBook,
}

impl Kind {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "Organization",
            Self::Team => "Team",
            Self::User => "User",
            Self::VirtualKey => "VirtualKey",
            Self::Budget => "Budget",
            Self::PriceBook => "PriceBook",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub name: ObjectName,
    /// Its uid: another object of that name is not meant.
    pub uid: String,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The name of the event itself: the same for the same thing that happened.
    pub name: String,
    /// What it is about.
    pub about: ObjectRef,
    /// Whether somebody should do something.
    pub event_type: EventType,
    /// A word, such as `ThresholdCrossed`.
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
}

/// Whether somebody should do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// No.
    Normal,
    /// Yes.
    Warning,
}

/// A whole status.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Of an organization, a team or a user.
    Account(AccountStatus),
    /// Of a key.
    VirtualKey(VirtualKeyStatus),
    /// Of a budget.
    Budget(BudgetStatus),
    /// Of a price book.
    PriceBook(PriceBookStatus),
}
