//! A person, whose keys may be in several teams.

use super::attachment::immutable;
use super::{AccountStatus, AllowedNamespaces, Rates, Reference, models};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A person.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "tollgate.dev",
    version = "v1alpha1",
    kind = "User",
    plural = "users",
    namespaced,
    status = "AccountStatus",
    shortname = "tguser",
    category = "tollgate",
    derive = "PartialEq",
    doc = "A person, whose keys may be in several teams.",
    validation = super::definitions::name_rule(),
    printcolumn(name = "Organization", type_ = "string", json_path = ".spec.organizationRef.name"),
    printcolumn(name = "Spend", type_ = "string", json_path = ".status.spend"),
    printcolumn(name = "Pending", type_ = "string", json_path = ".status.pending"),
    printcolumn(name = "Last used", type_ = "date", json_path = ".status.lastUsedAt"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = immutable("organizationRef"), validation = immutable("adopt"))]
pub struct UserSpec {
    /// What people call the person; left out: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub display_name: Option<String>,
    /// The id of an account that the admin API has made: the user takes it over, with all that it has spent and all who belong to it.
    /// Left out: an account of its own. Only in namespaces of the platform. Can not be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub adopt: Option<String>,
    /// To which organization the person belongs. Can not be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_ref: Option<Reference>,
    /// Which models the person may use: names, aliases and patterns such as `anthropic/*`. Left out: every model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 256)))]
    #[x_kube(validation = models::rule())]
    pub models: Vec<String>,
    /// From which namespaces keys may name the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// How much passes in a span of time, of all keys of the person together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// Whether all requests of the person are refused. Left out: as the ledger has it, so that what somebody blocks in an
    /// emergency stays blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
}
