//! Who pays.

use std::fmt;
use std::str::FromStr;

/// What kind of account. The order is the order in which accounts of one request are charged, locked and named
/// in denials: outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// A company or a division of it.
    Organization,
    /// A team, in an organization or alone.
    Team,
    /// A person.
    User,
    /// What one virtual key spends; survives the key's rotation.
    Key,
    /// A label on requests: on all, on those of one organization, or on those of one namespace's keys.
    Tag,
    /// One session of an agent, within one key.
    Session,
    /// The end user that a request names.
    Customer,
}

impl AccountKind {
    /// Every kind, in order.
    pub const ALL: [Self; 7] =
        [Self::Organization, Self::Team, Self::User, Self::Key, Self::Tag, Self::Session, Self::Customer];

    /// The word for it, in messages and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Team => "team",
            Self::User => "user",
            Self::Key => "key",
            Self::Tag => "tag",
            Self::Session => "session",
            Self::Customer => "customer",
        }
    }
}

impl fmt::Display for AccountKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the word for an account kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a kind of account")]
pub struct NotAKind;

impl FromStr for AccountKind {
    type Err = NotAKind;

    fn from_str(text: &str) -> Result<Self, NotAKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(NotAKind)
    }
}

/// The name of an account: `(kind, scope, id)`. The scope is empty for organizations, teams, users and keys, and the key's
/// account for a session. A tag's is empty where it counts every request, the id of the organization whose requests it counts, or
/// `namespace CLUSTER/NAMESPACE` where it counts those of the keys that resources of this namespace have made; no organization may have an
/// id of that form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName {
    /// The kind.
    pub kind: AccountKind,
    /// Within what the id is unique.
    pub scope: String,
    /// The id, as the admin API names it.
    pub id: String,
}

/// How an account is called in an answer to a developer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLabel {
    /// The kind.
    pub kind: AccountKind,
    /// What people call it; may be empty.
    pub alias: String,
}

impl AccountLabel {
    /// The account in words: `team "engineering"`. An empty alias, or one with a run of three digits (which a client
    /// might take for a status code), becomes `your team`.
    pub fn in_words(&self) -> String {
        if self.alias.is_empty() || crate::answer::has_digit_run(&self.alias) {
            format!("your {}", self.kind)
        } else {
            format!("{} \"{}\"", self.kind, self.alias)
        }
    }
}

/// Accounts that one request may charge at most.
pub const ACCOUNTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_their_words() {
        for kind in AccountKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert_eq!("Team".parse::<AccountKind>(), Err(NotAKind));
    }

    #[test]
    fn a_label_names_no_digit_run() {
        let label = |alias: &str| AccountLabel { kind: AccountKind::Team, alias: alias.into() }.in_words();
        assert_eq!(label("engineering"), "team \"engineering\"");
        assert_eq!(label("team-42"), "team \"team-42\"");
        assert_eq!(label("squad-500"), "your team");
        assert_eq!(label(""), "your team");
    }
}
