//! What the installation says of sidecars.

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// One YAML document; the chart writes it, and gives the same to people who use the command.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The image with the filter and the supervisor.
    pub filter_image: String,
    /// Envoy's image.
    pub envoy_image: String,
    /// How both are pulled.
    #[serde(default = "if_not_present")]
    pub image_pull_policy: String,
    /// The ingress, to sidecars that say who asks: `https://HOST`.
    pub ingress: String,
    /// The authorities by which the ingress is known come along with the key; otherwise it is known by those of Envoy's image. Older
    /// charts, and pages that people have kept, call it after the one case that there was.
    #[serde(default = "yes", alias = "ownAuthority")]
    pub authorities_with_key: bool,
    /// The ledger, to sidecars that decide themselves: `HOST:PORT`.
    pub ledger: String,
    /// Where sidecars may decide themselves. Each of these namespaces holds the providers' credentials.
    #[serde(default)]
    pub direct_namespaces: BTreeSet<String>,
    /// The providers, to sidecars that decide themselves.
    #[serde(default)]
    pub providers: BTreeMap<String, Provider>,
    /// By whom providers are believed, to the same; `None`: by those of Envoy's image.
    #[serde(default)]
    pub authorities: Option<Authorities>,
    /// Settings of the filter that differ from their defaults.
    #[serde(default)]
    pub filter: Map<String, Value>,
    /// Memory and processor of a sidecar.
    #[serde(default)]
    pub resources: ResourceRequirements,
}

/// A provider's credential, in a Secret of the pod's namespace.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provider {
    /// The Secret.
    pub secret: String,
    /// The entry in it.
    #[serde(default = "api_key")]
    pub entry: String,
    /// Another address than its own.
    pub url: Option<String>,
}

/// Certificate authorities, in a `ConfigMap` of the pod's namespace.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authorities {
    /// The `ConfigMap`.
    pub config_map: String,
    /// The entry in it.
    pub entry: String,
}

fn if_not_present() -> String {
    "IfNotPresent".to_owned()
}

const fn yes() -> bool {
    true
}

fn api_key() -> String {
    "api-key".to_owned()
}
