//! Who gets a certificate, and what stands in it.

use std::fmt;

/// A part of Tollgate that shows a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The ledger.
    Ledger,
    /// The ingress: the ledger lets it act for every key.
    Gateway,
    /// The operator: the ledger lets it administer.
    Operator,
    /// The webhook, which only the API server asks.
    Webhook,
    /// Sidecars of a namespace: the ledger lets them act for its keys.
    Namespace(String),
}

impl Part {
    /// The name by which the ledger knows it. The webhook is nobody to the ledger.
    pub fn uri(&self) -> Option<String> {
        let path = match self {
            Self::Ledger => "ledger",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Webhook => return None,
            Self::Namespace(name) => return Some(format!("spiffe://tollgate.dev/ns/{name}")),
        };
        Some(format!("spiffe://tollgate.dev/{path}"))
    }

    /// What stands in its certificate for people. A common name has 64 characters at most.
    pub fn common_name(&self) -> String {
        format!("Tollgate {self}").chars().take(64).collect()
    }

    /// Whether others connect to it.
    pub const fn serves(&self) -> bool {
        matches!(self, Self::Ledger | Self::Gateway | Self::Webhook)
    }

    /// Whether it connects to others. Each certificate is good for what its part does and no more: nobody can be a ledger by a
    /// sidecar's.
    pub const fn calls(&self) -> bool {
        matches!(self, Self::Gateway | Self::Operator | Self::Namespace(_))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger => f.write_str("ledger"),
            Self::Gateway => f.write_str("gateway"),
            Self::Operator => f.write_str("operator"),
            Self::Webhook => f.write_str("webhook"),
            Self::Namespace(name) => write!(f, "sidecars of {name}"),
        }
    }
}

/// A certificate that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Whose.
    pub part: Part,
    /// The names by which others reach it; of a part that serves.
    pub dns: Vec<String>,
}
