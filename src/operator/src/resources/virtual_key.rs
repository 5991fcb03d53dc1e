//! A virtual key: whose it is, and the Secret that holds it.

use super::attachment::immutable;
use super::{LimitStatus, Rates, Reference, Spending, models, tags};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A virtual key of a team, kept in a Secret.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "tollgate.dev",
    version = "v1alpha1",
    kind = "VirtualKey",
    plural = "virtualkeys",
    namespaced,
    status = "VirtualKeyStatus",
    shortname = "vkey",
    category = "tollgate",
    derive = "PartialEq",
    doc = "A virtual key of a team. The operator makes it, and keeps it in a Secret that is ready for envFrom.",
    validation = super::definitions::name_rule(),
    printcolumn(name = "Team", type_ = "string", json_path = ".spec.teamRef.name"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.userRef.name"),
    printcolumn(name = "Spend", type_ = "string", json_path = ".status.spend"),
    printcolumn(name = "Last used", type_ = "date", json_path = ".status.lastUsedAt"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName", priority = 1),
    printcolumn(name = "Key", type_ = "string", json_path = ".status.keyName", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = immutable("teamRef"), validation = immutable("userRef"), validation = immutable("adopt"))]
pub struct VirtualKeySpec {
    /// What people call it; left out: its namespace and name. No other key has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("!self.contains('/')")
        .message("displayName of a key has no slash: NAMESPACE/NAME is what keys without one are called"))]
    pub display_name: Option<String>,
    /// The id of an account that the admin API has made: the key takes it over, with all that it has spent. What people hold of it works on,
    /// and there is no Secret before the first rotation. Left out: an account of its own. Only in the namespace of the release. Can not be
    /// changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub adopt: Option<String>,
    /// Of which team it is. Can not be changed.
    pub team_ref: Reference,
    /// Whose it is. Can not be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_ref: Option<Reference>,
    /// Which models it allows, within those of the team: names, aliases and patterns such as `anthropic/*`. Left out: all of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 256)))]
    #[x_kube(validation = models::rule())]
    pub models: Vec<String>,
    /// Tags that each of its requests carries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    #[x_kube(validation = tags::rule())]
    pub tags: Vec<String>,
    /// How much passes in a span of time. Of these and those of `perKey` of the team, the lower ones count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// From when on it is refused, such as `2027-01-31T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Whether its requests are refused. Left out: as the ledger has it, so that what somebody blocks in an emergency stays blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
    /// When a new key takes the place of the old one. Left out: only when the annotation `tollgate.dev/rotate` changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Which Secret holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSpec>,
}

/// A schedule of new keys.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.overlap) || !self.overlap.matches('^([0-9]{1,5}[hms]){1,3}$') \
|| !self.every.matches('^([0-9]{1,5}[hms]){1,3}$') || duration(self.overlap) < duration(self.every)")
    .message("overlap is shorter than every: write less, such as every: 720h with overlap: 24h"))]
pub struct Rotation {
    /// How old a key becomes, such as `720h`.
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}[hms]){1,3}$') && duration(self) >= duration('1m')")
        .message("every is a span of at least 1m: write it like 720h"))]
    pub every: String,
    /// For how long the old key works beside the new one. Left out: `24h`, or half of `every` where that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}[hms]){1,3}$')")
        .message("overlap is a span: write it like 24h, or 0s for none"))]
    pub overlap: Option<String>,
}

/// A Secret that is ready for `envFrom`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretSpec {
    /// Its name; left out: the name of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')")
        .message("secret.name has small letters, digits, dots and dashes: write it like alice-llm-key"))]
    pub name: Option<String>,
    /// Where requests go, without a path of any API; left out: the installation's own ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^(https://[^/?#[:space:]]+|http://(localhost|127[.]0[.]0[.]1)(:[0-9]+)?)(/[^?#[:space:]]*[^/?#[:space:]])?$')")
        .message("secret.url is a base URL by https, without a slash at its end: write it like https://llm.example.com"))]
    pub url: Option<String>,
    /// The names of its entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<SecretNames>,
}

/// The names of a Secret's entries.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.anthropicBaseUrl) ? self.anthropicBaseUrl : 'ANTHROPIC_BASE_URL', \
has(self.anthropicApiKey) ? self.anthropicApiKey : 'ANTHROPIC_API_KEY', \
has(self.openaiBaseUrl) ? self.openaiBaseUrl : 'OPENAI_BASE_URL', \
has(self.openaiApiKey) ? self.openaiApiKey : 'OPENAI_API_KEY'].all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$'))")
    .message("secret.names are names of environment variables: letters, digits and _, such as MY_API_KEY"),
validation = Rule::new("size([has(self.anthropicBaseUrl) ? self.anthropicBaseUrl : 'ANTHROPIC_BASE_URL', \
has(self.openaiBaseUrl) ? self.openaiBaseUrl : 'OPENAI_BASE_URL'].filter(name, name in \
[has(self.anthropicApiKey) ? self.anthropicApiKey : 'ANTHROPIC_API_KEY', \
has(self.openaiApiKey) ? self.openaiApiKey : 'OPENAI_API_KEY'])) == 0 && \
(has(self.anthropicBaseUrl) ? self.anthropicBaseUrl : 'ANTHROPIC_BASE_URL') != \
(has(self.openaiBaseUrl) ? self.openaiBaseUrl : 'OPENAI_BASE_URL')")
    .message("two of secret.names are the same: only anthropicApiKey and openaiApiKey may share a name"))]
pub struct SecretNames {
    /// Of the base URL for clients of Anthropic's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub anthropic_base_url: Option<String>,
    /// Of the key for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub anthropic_api_key: Option<String>,
    /// Of the base URL for clients of OpenAI's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub openai_base_url: Option<String>,
    /// Of the key for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub openai_api_key: Option<String>,
}

/// How a key stands.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualKeyStatus {
    /// Which generation of the object this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `ResolvedRefs`, `Programmed`, `Exhausted`, `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Which Secret holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Enough of the key for a person to tell it, such as `sk-...9xyz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,
    /// Keys before it that still work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<PreviousKey>,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// What its account has spent.
    #[serde(flatten)]
    pub spending: Spending,
    /// How its limits stand: those of `perKey` of the team, and of budgets on the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitStatus>,
}

/// A key that was followed by another, and still works.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousKey {
    /// Enough of it for a person to tell it.
    pub key_name: String,
    /// From when on it is refused.
    pub expires_at: Time,
}
