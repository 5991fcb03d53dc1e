//! What stands in a certificate, as far as it decides anything.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use std::collections::BTreeSet;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Empty, where it has none: who signs for others may leave it out.
    pub(super) name: String,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) public_key: Vec<u8>,
    /// Names its own key, if it is an authority.
    pub(super) key_id: Option<Vec<u8>>,
    /// Names the key that signed it.
    pub(super) signer_id: Option<Vec<u8>>,
    pub(super) is_authority: bool,
    pub(super) uris: BTreeSet<String>,
    pub(super) dns: BTreeSet<String>,
    pub(super) serves: bool,
    pub(super) calls: bool,
}

impl Facts {
    /// `None`: it is no certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (rest, read) = X509Certificate::from_der(certificate).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let name = read.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let mut facts = Self {
            name: name.unwrap_or_default().to_owned(),
            from: Timestamp::from_second(read.validity().not_before.timestamp()).ok()?,
            until: Timestamp::from_second(read.validity().not_after.timestamp()).ok()?,
            public_key: read.public_key().subject_public_key.data.to_vec(),
            key_id: None,
            signer_id: None,
            is_authority: read.is_ca(),
            uris: BTreeSet::new(),
            dns: BTreeSet::new(),
            serves: false,
            calls: false,
        };
        for extension in read.extensions() {
            facts.learn(extension.parsed_extension());
        }
        Some(facts)
    }

    fn learn(&mut self, extension: &ParsedExtension<'_>) {
        match extension {
            ParsedExtension::SubjectKeyIdentifier(id) => self.key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.signer_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.serves = usage.server_auth;
                self.calls = usage.client_auth;
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::URI(uri) => drop(self.uris.insert((*uri).to_owned())),
                        GeneralName::DNSName(name) => drop(self.dns.insert((*name).to_owned())),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// When two thirds of its life are over: time enough to find out why it is not renewed.
    pub(super) fn renews_at(&self) -> Timestamp {
        let life_s = self.until.as_second().saturating_sub(self.from.as_second());
        Timestamp::from_second(self.from.as_second().saturating_add(life_s / 3 * 2)).unwrap_or(self.until)
    }

    /// Whether it is good at a moment.
    pub(super) fn is_good(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}
