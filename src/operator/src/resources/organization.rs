//! A company, or a division of it.

use super::attachment::immutable;
use super::{AccountStatus, AllowedNamespaces, Rates, models};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A company, or a division of it: what it allows holds for all of its teams.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "tollgate.dev",
    version = "v1alpha1",
    kind = "Organization",
    plural = "organizations",
    namespaced,
    status = "AccountStatus",
    shortname = "org",
    category = "tollgate",
    derive = "PartialEq",
    doc = "A company, or a division of it: what it allows holds for all of its teams.",
    validation = super::definitions::name_rule(),
    printcolumn(name = "Spend", type_ = "string", json_path = ".status.spend"),
    printcolumn(name = "Pending", type_ = "string", json_path = ".status.pending"),
    printcolumn(name = "Last used", type_ = "date", json_path = ".status.lastUsedAt"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = immutable("adopt"))]
pub struct OrganizationSpec {
    /// What people call it; left out: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub display_name: Option<String>,
    /// The id of an account that the admin API has made: the organization takes it over, with all that it has spent and all who belong to it.
    /// Left out: an account of its own. Only in namespaces of the platform. Can not be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub adopt: Option<String>,
    /// Which models it allows: names, aliases and patterns such as `anthropic/*`. Left out: every model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 256)))]
    #[x_kube(validation = models::rule())]
    pub models: Vec<String>,
    /// From which namespaces teams and users may name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// How much passes in a span of time, of all its keys together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// Whether all of its requests are refused. Left out: as the ledger has it, so that what somebody blocks in an emergency
    /// stays blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
}
