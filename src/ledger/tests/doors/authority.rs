//! Certificates of our own making.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// By this one it is believed.
    pub(crate) certificate: String,
    /// What stands between that and what it signs, and comes along with each.
    between: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate, between: String::new() }
    }

    /// An authority below this one, and believed by it.
    pub(crate) fn below(&self, name: &str) -> Self {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        let between = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate: self.certificate.clone(), between }
    }

    /// A certificate with these URIs.
    pub(crate) fn named(&self, uris: &[&str]) -> Leaf {
        self.signed(uris, |_| ())
    }

    /// A certificate for a part of Tollgate, such as `ns/payments`.
    pub(crate) fn leaf(&self, path: &str) -> Leaf {
        self.named(&[&format!("spiffe://tollgate.dev/{path}")])
    }

    /// The same, which has ended.
    pub(crate) fn ended(&self, path: &str) -> Leaf {
        self.signed(&[&format!("spiffe://tollgate.dev/{path}")], |params| {
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    fn signed(&self, uris: &[&str], change: impl Fn(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new(vec!["tollgate-ledger".to_owned()]).unwrap();
        let uri = |uri: &&str| SanType::URI(Ia5String::try_from(*uri).unwrap());
        params.subject_alt_names.extend(uris.iter().map(uri));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem() + &self.between;
        Leaf { certificate, key: key.serialize_pem() }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}
