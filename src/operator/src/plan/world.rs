//! The snapshot that a plan is made from.

use super::{KeySecret, Ledger};
use crate::resources::{Budget, Organization, PriceBook, Team, User, VirtualKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use tollgate_domain::time::Timestamp;

/// A namespace and a name in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectName {
    /// `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// The name alone: of what has no namespace.
impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.name
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Everything that a plan looks at. It must be whole: an object that is missing here is taken for one that does not exist.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Every organization.
    pub organizations: BTreeMap<ObjectName, Arc<Organization>>,
    /// Every team.
    pub teams: BTreeMap<ObjectName, Arc<Team>>,
    /// Every user.
    pub users: BTreeMap<ObjectName, Arc<User>>,
    /// Every virtual key.
    pub virtual_keys: BTreeMap<ObjectName, Arc<VirtualKey>>,
    /// Every budget.
    pub budgets: BTreeMap<ObjectName, Arc<Budget>>,
    /// Every price book.
    pub price_books: BTreeMap<ObjectName, Arc<PriceBook>>,
    /// The labels of every namespace.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Secrets that hold keys, and those that are in the way of one.
    pub secrets: BTreeMap<ObjectName, KeySecret>,
    /// Secrets that the API server did not take when they were written last.
    pub refused_secrets: BTreeMap<ObjectName, SecretRefusal>,
    /// What is known of the ledger.
    pub ledger: Ledger,
}

/// Why the API server does not take a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRefusal {
    /// What it said.
    pub said: String,
    /// It is not asked again before.
    pub retry_at: Timestamp,
}

/// What the installation says, which is the same for all objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The first part of every account's id, so that several clusters can share a ledger.
    pub cluster: String,
    /// Where the installation is.
    pub release_namespace: String,
    /// Where, besides, organizations, teams, users, budgets and price books count.
    pub platform_namespaces: BTreeSet<String>,
    /// Where requests go, unless a key says another place: without a path of any API.
    pub base_url: String,
    /// By what a client knows that place.
    pub ca_bundle: CaBundle,
}

/// The certificates of the authorities by which a client knows the place where requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CaBundle {
    /// Clients know it anyway.
    #[default]
    None,
    /// Clients must be told, and what is not known yet. No Secret is made without it; those that are there keep what they have.
    Unknown,
    /// These, as PEM.
    Known(String),
}

impl Settings {
    /// Whether who writes objects in `namespace` speaks for the platform.
    pub fn is_platform(&self, namespace: &str) -> bool {
        namespace == self.release_namespace || self.platform_namespaces.contains(namespace)
    }
}
