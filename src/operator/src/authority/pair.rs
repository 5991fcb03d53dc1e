//! A certificate with its key: read from PEM, or made.

use super::facts::Facts;
use super::leaf::Leaf;
use jiff::{SignedDuration, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// Of an authority: long enough that a change of it is rare, short enough that it happens.
pub(super) const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Of what it signs. There is no list of revoked ones: a stolen one ends by itself.
pub(super) const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Clocks of other machines may be so much behind.
pub(super) const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// A name that no certificate can have.
    #[error("{0:?} cannot stand in a certificate")]
    Name(String),
    /// The rest.
    #[error("a certificate was not made: {0}")]
    Rcgen(#[from] rcgen::Error),
}

/// A certificate and its key, as we or somebody else made them.
#[derive(Clone)]
pub struct Pair {
    certificate: String,
    key: Zeroizing<String>,
    facts: Facts,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Pair {
    /// Reads a pair. `None`: one of them cannot be read, or they are not each other's.
    pub fn read(certificate: &[u8], key: &[u8]) -> Option<Self> {
        let facts = Facts::of(&CertificateDer::from_pem_slice(certificate).ok()?)?;
        let key = Zeroizing::new(std::str::from_utf8(key).ok()?.to_owned());
        let certificate = std::str::from_utf8(certificate).ok()?.to_owned();
        let pair = Self { certificate, key, facts };
        pair.certified().ok().map(|_| pair)
    }

    /// As it is shown to others: with whatever stands between it and its authority.
    ///
    /// # Errors
    /// What cannot be read, or that the key is another certificate's.
    pub fn certified(&self) -> Result<CertifiedKey, rustls::Error> {
        let unreadable = |error| rustls::Error::General(format!("{error}"));
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(unreadable)?;
        CertifiedKey::from_der(chain.map_err(unreadable)?, key, &rustls::crypto::ring::default_provider())
    }

    fn made(certificate: &rcgen::Certificate, key: &KeyPair) -> Result<Self, MakeError> {
        let facts = Facts::of(certificate.der()).ok_or(rcgen::Error::CouldNotParseCertificate)?;
        Ok(Self { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()), facts })
    }

    /// Makes an authority.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn authority(now: Timestamp) -> Result<Self, MakeError> {
        let mut params = lasting(now, after(now, AUTHORITY_LIFE));
        // Each has a name of its own: some clients choose by the name among those that they trust.
        params.distinguished_name = named(&format!("Tollgate authority {}", now.as_second()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Self::made(&params.self_signed(&key)?, &key)
    }

    /// Makes what this authority signs.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn sign(&self, leaf: &Leaf, now: Timestamp) -> Result<Self, MakeError> {
        // Nobody trusts what outlives its authority.
        let mut params = lasting(now, after(now, LEAF_LIFE).min(self.facts.until));
        params.distinguished_name = named(&leaf.part.common_name());
        params.subject_alt_names = alternative_names(leaf)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let usages = [
            (leaf.part.serves(), ExtendedKeyUsagePurpose::ServerAuth),
            (leaf.part.calls(), ExtendedKeyUsagePurpose::ClientAuth),
        ];
        params.extended_key_usages =
            usages.into_iter().filter(|(does, _)| *does).map(|(_, usage)| usage).collect();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut own = CertificateParams::default();
        own.distinguished_name = named(&self.facts.name);
        let issuer = Issuer::new(own, KeyPair::from_pem(&self.key)?);
        Self::made(&params.signed_by(&key, &issuer)?, &key)
    }

    /// In PEM, with whatever stands between it and its authority.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// In PEM.
    pub fn key(&self) -> &Zeroizing<String> {
        &self.key
    }

    pub(super) const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// When it was made.
    pub(super) fn made_at(&self) -> Timestamp {
        after(self.facts.from, SKEW)
    }
}

fn lasting(from: Timestamp, until: Timestamp) -> CertificateParams {
    let after_1970 = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1) + after_1970(before(from, SKEW));
    params.not_after = date_time_ymd(1970, 1, 1) + after_1970(until);
    params
}

/// A moment later; at the end of time, the end of time.
pub(super) fn after(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.saturating_add(span).unwrap_or(Timestamp::MAX)
}

/// A moment earlier.
fn before(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.saturating_sub(span).unwrap_or(Timestamp::MIN)
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn alternative_names(leaf: &Leaf) -> Result<Vec<SanType>, MakeError> {
    let ascii = |name: &String| Ia5String::try_from(name.as_str()).map_err(|_| MakeError::Name(name.clone()));
    let uris = leaf.part.uri();
    let uris = uris.iter().map(|uri| Ok(SanType::URI(ascii(uri)?)));
    uris.chain(leaf.dns.iter().map(|name| Ok(SanType::DnsName(ascii(name)?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{LeafSecret, Part};
    use k8s_openapi::ByteString;
    use rustls::RootCertStore;
    use rustls::pki_types::UnixTime;
    use rustls::server::WebPkiClientVerifier;
    use std::sync::Arc;

    /// A root, an authority below it, and what that has signed for somebody who asked for no name.
    struct Issued {
        root: String,
        intermediate: String,
        leaf: String,
        key: KeyPair,
    }

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn issued() -> Issued {
        let [root_key, between_key, key] =
            std::array::from_fn(|_| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let root = authority("root").self_signed(&root_key).unwrap().pem();
        let by_root = Issuer::new(authority("root"), root_key);
        let intermediate = authority("between").signed_by(&between_key, &by_root).unwrap().pem();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let uri = Part::Operator.uri().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &Issuer::new(authority("between"), between_key)).unwrap().pem();
        Issued { root, intermediate, leaf, key }
    }

    impl Issued {
        /// The same key in the older form, which stands inside of the newer one.
        fn older_key(&self) -> String {
            let pkcs8 = self.key.serialize_der();
            let inner = pkcs8.windows(2).position(|at| at == [0x04, 0x6d]).unwrap() + 2;
            let base64 = serde_json::to_value(ByteString(pkcs8[inner..].to_vec())).unwrap();
            format!(
                "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
                base64.as_str().unwrap()
            )
        }

        /// As cert-manager writes it: the authorities between in `tls.crt`, and only the root in `ca.crt`.
        fn secret(&self, key: &str) -> LeafSecret {
            let certificate = format!("{}{}", self.leaf, self.intermediate);
            let entries = [("tls.crt", certificate.as_str()), ("tls.key", key), ("ca.crt", &self.root)];
            LeafSecret::read(&entries.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into())
        }
    }

    #[test]
    fn what_cert_manager_writes_is_read_and_shown_with_its_chain() {
        let issued = issued();
        for key in [issued.key.serialize_pem(), issued.older_key()] {
            let secret = issued.secret(&key);
            let pair = secret.pair.unwrap();
            assert_eq!(pair.facts().name, "");
            assert_eq!(pair.facts().uris, Part::Operator.uri().into_iter().collect());
            let shown = pair.certified().unwrap();
            let (leaf, between) = shown.cert.split_first().unwrap();
            assert_eq!(between.len(), 1);
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(secret.authorities.as_bytes()).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build().unwrap();
            verifier.verify_client_cert(leaf, between, UnixTime::now()).unwrap();
            verifier.verify_client_cert(leaf, &[], UnixTime::now()).unwrap_err();
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_none() {
        let (one, other) = (issued(), issued());
        assert!(one.secret(&other.key.serialize_pem()).pair.is_none());
        assert!(one.secret(&other.older_key()).pair.is_none());
        assert!(one.secret("").pair.is_none());
    }
}
