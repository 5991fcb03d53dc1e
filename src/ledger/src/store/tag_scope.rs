//! Whose requests a tag's account counts, and how that stands in the scope of its name.

use crate::owner_scope::ClusterNamespace;
use std::fmt;

/// What the scope of a namespace's tag begins with. A blank and one slash tell it from the id that an operator gives an organization,
/// CLUSTER/NAMESPACE/NAME; an id of this form is refused to every organization.
const NAMESPACE: &str = "namespace ";

/// Whose requests a tag's account counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagScope {
    /// Everybody's. The scope is empty.
    Installation,
    /// Those of one organization. The scope is its id.
    Organization(String),
    /// Those of the keys that resources of one namespace have made. The scope is `namespace CLUSTER/NAMESPACE`.
    Namespace(ClusterNamespace),
}

impl TagScope {
    /// Of an organization, or, without one, of everybody.
    pub fn of_organization(id: Option<String>) -> Self {
        id.map_or(Self::Installation, Self::Organization)
    }

    /// The namespace, where it is one's.
    pub fn into_namespace(self) -> Option<ClusterNamespace> {
        match self {
            Self::Namespace(namespace) => Some(namespace),
            Self::Installation | Self::Organization(_) => None,
        }
    }
}

impl From<&str> for TagScope {
    fn from(text: &str) -> Self {
        match text.strip_prefix(NAMESPACE).and_then(|place| place.parse().ok()) {
            Some(namespace) => Self::Namespace(namespace),
            None => Self::of_organization(Some(text.to_owned()).filter(|id| !id.is_empty())),
        }
    }
}

impl fmt::Display for TagScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installation => Ok(()),
            Self::Organization(id) => f.write_str(id),
            Self::Namespace(namespace) => write!(f, "{NAMESPACE}{namespace}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_says_whose_requests_count() {
        let organization = |id: &str| TagScope::Organization(id.to_owned());
        let table = [
            ("", TagScope::Installation),
            ("acme", organization("acme")),
            ("kubernetes/tollgate/acme", organization("kubernetes/tollgate/acme")),
            ("kubernetes/payments", organization("kubernetes/payments")),
            ("namespace kubernetes/payments", TagScope::Namespace("kubernetes/payments".parse().unwrap())),
            ("namespace kubernetes/payments/acme", organization("namespace kubernetes/payments/acme")),
            ("namespace payments", organization("namespace payments")),
            ("namespace ", organization("namespace ")),
        ];
        for (text, scope) in table {
            assert_eq!(TagScope::from(text), scope);
            assert_eq!(scope.to_string(), text);
        }
    }
}
