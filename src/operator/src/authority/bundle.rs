//! Whom everybody trusts: the authority that signs, the one that will, and those that did until what they signed has ended.

use super::facts::Facts;
use super::pair::Pair;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::collections::BTreeMap;

/// Certificates of authorities, each once, in one order, so that equal bundles are equal texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle(BTreeMap<(Timestamp, Vec<u8>), Trusted>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Trusted {
    pem: String,
    facts: Facts,
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

impl Bundle {
    /// Reads a bundle; what is no authority is left out.
    pub fn read(pem: &[u8]) -> Self {
        let mut bundle = Self::default();
        let text = String::from_utf8_lossy(pem);
        for block in text.split(BEGIN).skip(1) {
            if let Some((body, _)) = block.split_once(END) {
                bundle.add_pem(&format!("{BEGIN}{body}{END}\n"));
            }
        }
        bundle
    }

    /// Adds an authority.
    pub fn add(&mut self, authority: &Pair) {
        self.add_pem(authority.certificate());
    }

    fn add_pem(&mut self, pem: &str) {
        let facts = CertificateDer::from_pem_slice(pem.as_bytes()).ok().and_then(|der| Facts::of(&der));
        if let Some(facts) = facts.filter(|facts| facts.is_authority) {
            let trusted = Trusted { pem: format!("{}\n", pem.trim()), facts };
            self.0.insert((trusted.facts.from, trusted.facts.public_key.clone()), trusted);
        }
    }

    /// Keeps those of which this is true, told by when each begins and when the one after it does, if there is one.
    pub(super) fn retain(&mut self, keep: impl Fn(&Facts, Option<Timestamp>) -> bool) {
        let begins: Vec<Timestamp> = self.0.keys().map(|(from, _)| *from).collect();
        let mut after = begins.into_iter().skip(1);
        self.0.retain(|_, trusted| keep(&trusted.facts, after.next()));
    }

    /// In PEM, the newest first.
    pub fn pem(&self) -> String {
        self.0.values().rev().map(|trusted| trusted.pem.as_str()).collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
