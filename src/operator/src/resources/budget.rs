//! A budget: limits on an account.

use super::{Limit, LimitStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits on what an account spends. Several on one account all apply.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[kube(
    group = "tollgate.dev",
    version = "v1alpha1",
    kind = "Budget",
    plural = "budgets",
    namespaced,
    status = "BudgetStatus",
    shortname = "tgb",
    category = "tollgate",
    derive = "PartialEq",
    doc = "Limits on what an organization, a team, a user, a key, a tag or each session spends. Several on one target all apply.",
    validation = super::definitions::name_rule(),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target"),
    printcolumn(name = "Limit", type_ = "string", json_path = ".status.tightest.amount"),
    printcolumn(name = "Period", type_ = "string", json_path = ".status.tightest.period"),
    printcolumn(name = "Posted", type_ = "string", json_path = ".status.tightest.posted"),
    printcolumn(name = "Pending", type_ = "string", json_path = ".status.tightest.pending"),
    printcolumn(name = "Available", type_ = "string", json_path = ".status.tightest.available"),
    printcolumn(name = "Used %", type_ = "integer", json_path = ".status.tightest.usedPercent"),
    printcolumn(name = "Resets", type_ = "string", json_path = ".status.tightest.resetsAt"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = immutable_target(),
    validation = Rule::new("!has(self.adopt) || (self.targetRef.kind == 'Tag' && self.adopt == self.targetRef.name)")
        .message("adopt is for a budget on a tag, and names the tag as targetRef.name does; an account of another kind is adopted by its own object"),
    validation = Rule::new("self.targetRef.kind != 'Session' || self.limits.all(l, l.period == 'Lifetime' && !has(l.model))")
        .message("a budget on sessions counts each session over its life: write period: Lifetime, and no model"),
    validation = Rule::new("self.targetRef.kind != 'Session' || !has(self.mode) || self.mode == 'Enforce'")
        .message("a budget on sessions is always enforced: remove mode: Observe"),
    validation = Rule::new("self.targetRef.kind != 'Session' || !has(self.alerts) || size(self.alerts) == 0")
        .message("there are no alerts on sessions: remove alerts"),
)]
pub struct BudgetSpec {
    /// Whose spending is limited. Can not be changed.
    pub target_ref: TargetRef,
    /// The tag once more, where the admin API has made its account: it is taken over, with all that it has spent. Only in the namespace
    /// of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub adopt: Option<String>,
    /// All of them apply.
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("size(self) >= 1")
        .message("a budget has at least one limit: write one, such as {amount: \"100\", period: Month}"))]
    pub limits: Vec<Limit>,
    /// At which parts of each limit an event is published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub alerts: Vec<Alert>,
    /// `Enforce` (the default) refuses what does not fit; `Observe` only counts and tells.
    #[serde(default, skip_serializing_if = "is_enforce")]
    pub mode: Mode,
}

/// Whose spending a budget limits.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.kind != 'Tag' || self.name.matches('^[A-Za-z0-9:._/-]{1,64}$')")
        .message("a tag has 1 to 64 letters, digits and : . _ / - : write it like project:payments"),
    validation = Rule::new("self.kind != 'Session' || self.name.matches('^[!-~]{1,128}$')")
        .message("a pattern of sessions has 1 to 128 visible ASCII characters: write it like ci-*, or \"*\" for every session"),
    validation = Rule::new("self.kind in ['Tag', 'Session'] || self.name.matches('^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$')")
        .message("targetRef.name is the name of an object of this namespace: write it like engineering"),
)]
pub struct TargetRef {
    /// An object of the budget's own namespace, a tag, or each session.
    pub kind: TargetKind,
    /// The object's name; the tag; or the name of a session, in which `*` stands for any characters: `*` alone for every session.
    #[schemars(length(max = 256))]
    pub name: String,
}

/// What a budget can limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
pub enum TargetKind {
    /// All teams of an organization together.
    Organization,
    /// All keys of a team together.
    Team,
    /// All keys of a person together.
    User,
    /// One key.
    VirtualKey,
    /// Requests that carry a tag: in the namespace of the release those of every key, in another one those of its own keys.
    Tag,
    /// Each session of an agent.
    Session,
}

impl TargetKind {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "Organization",
            Self::Team => "Team",
            Self::User => "User",
            Self::VirtualKey => "VirtualKey",
            Self::Tag => "Tag",
            Self::Session => "Session",
        }
    }
}

/// Says when a part of a limit is spent.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Which part, 1 to 1000.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000")
        .message("percent is a part of the limit: write 1 to 1000, such as 80"))]
    pub percent: i32,
}

/// Whether what does not fit is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is counted and told, and never refused.
    Observe,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_enforce(mode: &Mode) -> bool {
    *mode == Mode::Enforce
}

fn immutable_target() -> Rule {
    Rule::new("self.targetRef == oldSelf.targetRef")
        .message("targetRef can not be changed: make another Budget, and delete this one")
}

/// How a budget stands.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetStatus {
    /// Which generation of the object this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `ResolvedRefs`, `Programmed`, `Exhausted`, `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Whose spending it limits, such as `Team/engineering`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The limit of which the largest part is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tightest: Option<LimitStatus>,
    /// Each limit, in the order of the specification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitStatus>,
}
