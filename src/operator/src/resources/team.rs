//! A team: its budget, and what each of its keys gets.

use super::attachment::immutable;
use super::{AccountStatus, AllowedNamespaces, Limit, Rates, Reference, models, tags};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_domain::extra;

/// A team, in an organization or alone.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "tollgate.dev",
    version = "v1alpha1",
    kind = "Team",
    plural = "teams",
    namespaced,
    status = "AccountStatus",
    shortname = "tgteam",
    category = "tollgate",
    derive = "PartialEq",
    doc = "A team, in an organization or alone: its models and rates, and what each of its keys gets.",
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
pub struct TeamSpec {
    /// What people call it; left out: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub display_name: Option<String>,
    /// The id of an account that the admin API has made: the team takes it over, with all that it has spent and all who belong to it.
    /// Left out: an account of its own. Only in namespaces of the platform. Can not be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub adopt: Option<String>,
    /// To which organization it belongs. Can not be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_ref: Option<Reference>,
    /// Which models it allows: names, aliases and patterns such as `anthropic/*`. Left out: every model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 256)))]
    #[x_kube(validation = models::rule())]
    pub models: Vec<String>,
    /// From which namespaces keys may name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// How many keys it has at most; beyond, the oldest count. Left out: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 100000")
        .message("maxKeys is a number from 0 to 100000; leave it out for any number of keys"))]
    pub max_keys: Option<i32>,
    /// What each of its keys gets. A key can narrow it and never widen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_key: Option<PerKey>,
    /// How much passes in a span of time, of all its keys together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// Tags that every request of its keys carries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    #[x_kube(validation = tags::rule())]
    pub tags: Vec<String>,
    /// Names of tags that every request must bring, such as `project`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    #[x_kube(validation = tags::rule())]
    pub required_tags: Vec<String>,
    /// Whether tags that clients send are charged to the budgets of their name, too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub client_tags_bind: bool,
    /// What no request may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub forbidden: Vec<Extra>,
    /// Whether all of its requests are refused. Left out: as the ledger has it, so that what somebody blocks in an emergency
    /// stays blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
}

/// What each key of a team gets.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PerKey {
    /// How much each key may spend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub limits: Vec<Limit>,
    /// How much passes of each key in a span of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// Which models each key allows, unless it narrows them. Left out: those of the team.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 256)))]
    #[x_kube(validation = models::rule())]
    pub models: Vec<String>,
}

/// What makes a request dearer than its model's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum Extra {
    /// A faster answer at a multiple of the price.
    FastMode,
    /// A service tier above the standard one.
    PriorityTier,
    /// Where the model must run.
    InferenceGeo,
    /// More input than the standard price covers.
    LongContext,
}

impl Extra {
    /// Every one, in their order.
    pub const ALL: [Self; 4] = [Self::FastMode, Self::PriorityTier, Self::InferenceGeo, Self::LongContext];

    /// What it stands for.
    pub const fn meant(self) -> extra::Extra {
        match self {
            Self::FastMode => extra::Extra::FastMode,
            Self::PriorityTier => extra::Extra::PriorityTier,
            Self::InferenceGeo => extra::Extra::InferenceGeo,
            Self::LongContext => extra::Extra::LongContext,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !*value
}
