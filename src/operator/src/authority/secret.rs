//! What the Secrets hold: the authority's, and one for each certificate.

use super::bundle::Bundle;
use super::pair::Pair;
use std::collections::BTreeMap;

/// A Secret's data.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";
/// The authority that will sign, once everybody has it in the bundle.
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";

fn pair(data: &Data, certificate: &str, key: &str) -> Option<Pair> {
    Pair::read(data.get(certificate)?, data.get(key)?)
}

fn put(data: &mut Data, certificate: &str, key: &str, pair: &Pair) {
    data.insert(certificate.to_owned(), pair.certificate().as_bytes().to_vec());
    data.insert(key.to_owned(), pair.key().as_bytes().to_vec());
}

/// The authority's Secret, as far as it can be read.
#[derive(Clone, Debug, Default)]
pub struct AuthoritySecret {
    /// Signs.
    pub current: Option<Pair>,
    /// Will sign.
    pub next: Option<Pair>,
    /// Is trusted.
    pub bundle: Bundle,
}

impl AuthoritySecret {
    /// Reads it; what cannot be read is not there.
    pub fn read(data: &BTreeMap<String, Vec<u8>>) -> Self {
        let is_authority = |pair: &Pair| pair.facts().is_authority;
        Self {
            current: pair(data, CERTIFICATE, KEY).filter(is_authority),
            next: pair(data, NEXT_CERTIFICATE, NEXT_KEY).filter(is_authority),
            bundle: data.get(AUTHORITIES).map_or_else(Bundle::default, |pem| Bundle::read(pem)),
        }
    }

    /// The data of the Secret.
    pub fn data(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data = Data::new();
        if let Some(current) = &self.current {
            put(&mut data, CERTIFICATE, KEY, current);
        }
        if let Some(next) = &self.next {
            put(&mut data, NEXT_CERTIFICATE, NEXT_KEY, next);
        }
        data.insert(AUTHORITIES.to_owned(), self.bundle.pem().into_bytes());
        data
    }
}

/// The Secret of a certificate, as far as it can be read.
#[derive(Clone, Debug, Default)]
pub struct LeafSecret {
    /// The certificate.
    pub pair: Option<Pair>,
    /// Whom its owner trusts, as the text is.
    pub authorities: String,
}

impl LeafSecret {
    /// Reads it; what cannot be read is not there.
    pub fn read(data: &BTreeMap<String, Vec<u8>>) -> Self {
        let authorities = data.get(AUTHORITIES).map(|pem| String::from_utf8_lossy(pem).into_owned());
        Self { pair: pair(data, CERTIFICATE, KEY), authorities: authorities.unwrap_or_default() }
    }

    /// The data of the Secret.
    pub fn data(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data = Data::new();
        if let Some(pair) = &self.pair {
            put(&mut data, CERTIFICATE, KEY, pair);
        }
        data.insert(AUTHORITIES.to_owned(), self.authorities.clone().into_bytes());
        data
    }
}
