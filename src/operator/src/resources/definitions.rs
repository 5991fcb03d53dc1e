//! The definitions of all custom resources, as the API server takes them.

use super::{Budget, Organization, PriceBook, Team, User, VirtualKey};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::core::Rule;

/// Every definition, in the order of their names.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![Budget::crd(), Organization::crd(), PriceBook::crd(), Team::crd(), User::crd(), VirtualKey::crd()]
}

/// Each definition as a document of YAML, by the name of its file.
///
/// # Errors
/// Never, as long as the definitions are plain data.
pub fn definitions_yaml() -> Result<Vec<(String, String)>, serde_yaml_ng::Error> {
    let written = |definition: &CustomResourceDefinition| {
        let name = format!("{}.yaml", definition.spec.names.plural);
        Ok((name, serde_yaml_ng::to_string(definition)?))
    };
    definitions().iter().map(written).collect()
}

/// Names are parts of names of accounts, which have a longest length.
pub(super) fn name_rule() -> Rule {
    Rule::new("self.metadata.name.size() <= 63").message(
        "metadata.name has at most 63 characters: write a shorter one, and the rest into spec.displayName",
    )
}
