//! Who a certificate of our own authority names: one URI among its alternative names, and nothing else of it, says so.

use crate::owner_scope::Namespace;
use std::fmt;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// What every identity begins with.
const TRUST_DOMAIN: &str = "spiffe://tollgate.dev/";

/// A part of Tollgate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A ledger.
    Ledger,
    /// The ingress: it acts for every key.
    Gateway,
    /// The operator: it administers.
    Operator,
    /// A sidecar: it acts for the keys of its namespace.
    Namespace(Namespace),
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nameless {
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// None of its alternative names is a URI, or several are.
    #[error("the certificate must have one URI among its alternative names, and has {0}")]
    Uris(usize),
    /// The URI is none of ours.
    #[error("the certificate names {0:?}, which is no part of Tollgate")]
    Unknown(String),
}

impl Identity {
    /// Reads the identity of a certificate that has been verified.
    ///
    /// # Errors
    /// [`Nameless`].
    pub fn of_certificate(der: &[u8]) -> Result<Self, Nameless> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Nameless::Unreadable)?;
        let names = certificate.subject_alternative_name().map_err(|_| Nameless::Unreadable)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        match uris.collect::<Vec<_>>().as_slice() {
            [uri] => Self::of_uri(uri).ok_or_else(|| Nameless::Unknown((*uri).to_owned())),
            uris => Err(Nameless::Uris(uris.len())),
        }
    }

    fn of_uri(uri: &str) -> Option<Self> {
        match uri.strip_prefix(TRUST_DOMAIN)? {
            "ledger" => Some(Self::Ledger),
            "gateway" => Some(Self::Gateway),
            "operator" => Some(Self::Operator),
            path => path.strip_prefix("ns/")?.parse().ok().map(Self::Namespace),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger => f.write_str("a ledger"),
            Self::Gateway => f.write_str("a gateway"),
            Self::Operator => f.write_str("the operator"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType, string::Ia5String};

    fn certificate(uris: &[&str], dns: &[&str]) -> Vec<u8> {
        let mut params =
            CertificateParams::new(dns.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let uri = |uri: &&str| SanType::URI(Ia5String::try_from(*uri).unwrap());
        params.subject_alt_names.extend(uris.iter().map(uri));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn one_uri_names_a_part_of_tollgate() {
        let namespace = |name: &str| Ok(Identity::Namespace(name.parse().unwrap()));
        let unknown = |uri: &str| Err(Nameless::Unknown(uri.to_owned()));
        let table: [(&[&str], &[&str], Result<Identity, Nameless>); 14] = [
            (&["spiffe://tollgate.dev/ledger"], &["tollgate-ledger"], Ok(Identity::Ledger)),
            (&["spiffe://tollgate.dev/gateway"], &[], Ok(Identity::Gateway)),
            (&["spiffe://tollgate.dev/operator"], &[], Ok(Identity::Operator)),
            (&["spiffe://tollgate.dev/ns/payments"], &[], namespace("payments")),
            (&[], &["tollgate-ledger"], Err(Nameless::Uris(0))),
            (&[], &[], Err(Nameless::Uris(0))),
            (&["spiffe://tollgate.dev/ns/a", "spiffe://tollgate.dev/gateway"], &[], Err(Nameless::Uris(2))),
            (&["spiffe://tollgate.dev/ns/"], &[], unknown("spiffe://tollgate.dev/ns/")),
            (&["spiffe://tollgate.dev/ns/a/b"], &[], unknown("spiffe://tollgate.dev/ns/a/b")),
            (&["spiffe://tollgate.dev/ns/A"], &[], unknown("spiffe://tollgate.dev/ns/A")),
            (&["spiffe://tollgate.dev/Gateway"], &[], unknown("spiffe://tollgate.dev/Gateway")),
            (&["spiffe://tollgate.dev/gateway/"], &[], unknown("spiffe://tollgate.dev/gateway/")),
            (&["spiffe://tollgate.dev.evil/gateway"], &[], unknown("spiffe://tollgate.dev.evil/gateway")),
            (&["https://tollgate.dev/gateway"], &[], unknown("https://tollgate.dev/gateway")),
        ];
        for (uris, dns, expected) in table {
            assert_eq!(Identity::of_certificate(&certificate(uris, dns)), expected, "{uris:?} {dns:?}");
        }
        assert_eq!(Identity::of_certificate(b"no certificate"), Err(Nameless::Unreadable));
    }
}
