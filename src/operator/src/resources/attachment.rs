//! Who belongs to whom, and who lets whom: as in Gateway API, the owner of the money says from where it may be used.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{KubeSchema, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names an object.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its namespace; left out: the one of the object that names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// From which namespaces an object may be named.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.from) && self.from == 'Selector') == has(self.selector)")
    .message("selector goes with from: Selector: write both, or neither"))]
pub struct AllowedNamespaces {
    /// `Same` (the default), `All`, or `Selector`.
    #[serde(default, skip_serializing_if = "is_same")]
    pub from: NamespacesFrom,
    /// Which labels the namespace has; with `Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The object's own.
    #[default]
    Same,
    /// Every one.
    All,
    /// Those whose labels the selector picks.
    Selector,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_same(from: &NamespacesFrom) -> bool {
    *from == NamespacesFrom::Same
}

/// A reference that was given stays what it is, and one that was not is not added: the account's past would move with it.
pub(super) fn immutable(field: &str) -> Rule {
    Rule::new(format!(
        "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    ))
    .message(
        format!("{field} can not be changed: delete the object and make it anew, or make another").as_str(),
    )
}
