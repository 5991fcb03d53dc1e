//! Accounts of the admin API as custom resources: what a team needs that moves from the API to Git.
//!
//! Nothing may be lost by applying what is written here. Each object adopts its account, with all that it has spent. Where something that
//! binds an account has no words in a custom resource, the whole account is left to the API, and who belongs to it, and that is said. What
//! changes and binds nothing is said beside the object.

mod account;
mod judge;
mod limits;
mod names;
mod objects;
mod text;
mod wire;
mod yaml;

pub use account::{ListedAccount, ListedLimit, ListedRate};
pub use names::is_name;
pub use objects::{Object, Written};
pub use text::{File, whole};
pub use wire::NotListed;

use crate::plan::ObjectName;
use judge::Fates;
use names::Names;
use tollgate_domain::account::{AccountKind, AccountName};
use tollgate_domain::time::Timestamp;

/// Where the objects are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of organizations, teams and users, and of budgets on them: one of the platform's.
    pub namespace: String,
    /// Where Tollgate is installed: there alone keys and tags are taken over.
    pub release_namespace: String,
    /// The cluster's name in the ledger.
    pub cluster: String,
    /// The Team of keys that have none; `None`: they are left to the API.
    pub default_team: Option<String>,
    /// This moment: what has expired by now is left out.
    pub now: Timestamp,
}

impl Settings {
    /// Where objects of accounts of a kind are, and budgets on them.
    fn namespace_of(&self, kind: AccountKind) -> &str {
        match kind {
            AccountKind::Key | AccountKind::Tag => &self.release_namespace,
            _ => &self.namespace,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Export {
    /// In the order in which they are to be applied: budgets first, so that no account is without its limits for a moment.
    pub objects: Vec<Written>,
    /// What stays with the API.
    pub left: Vec<Left>,
}

/// An account that stays with the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its name.
    pub account: AccountName,
    /// What people call it.
    pub alias: Option<String>,
    /// Why, each in a few words.
    pub why: Vec<String>,
}

/// Every account that the API made, as objects; those of custom resources are left out. The same accounts give the same export, in
/// whatever order they come.
pub fn export(accounts: &[ListedAccount], settings: &Settings) -> Export {
    let fates = Fates::new(accounts, settings);
    let names = Names::new(&fates, settings);
    let objects = objects::write(&fates, &names, settings);
    Export { objects, left: fates.left() }
}

/// The custom resource that an account is managed for, where it is one of this cluster.
fn resource_of(account: &ListedAccount, cluster: &str) -> Option<ObjectName> {
    let (_, place) = account.owner_scope.split_once(' ')?;
    let (place, of) = place.split_once('@').map_or((place, None), |(place, of)| (place, Some(of)));
    let own = account.name.id.strip_prefix(cluster).is_some_and(|rest| rest.starts_with('/'));
    let is_ours = of.map_or(own, |of| of == cluster) && account.name.kind != AccountKind::Tag;
    let (namespace, name) = place.split_once('/').filter(|_| is_ours)?;
    Some(ObjectName::new(namespace, name))
}
