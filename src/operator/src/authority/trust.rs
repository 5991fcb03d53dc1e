//! By whom clients know the ingress: what stands in the Secrets of keys as `ca.crt`.

use super::facts::Facts;
use super::keep::Own;
use crate::plan::CaBundle;
use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A kubelet takes a minute or more to bring a changed `ConfigMap`; this adds little.
const READ_EVERY: Duration = Duration::from_secs(30);
/// Not with each look, or the log is full of it.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Whose certificate the ingress shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// One of those between our own parts: by the authorities that the operator itself trusts.
    Own,
    /// A public one, which clients know anyway: nobody need be told.
    Public,
    /// A company's: by the authorities in this file, which somebody else renews.
    File(PathBuf),
}

impl FromStr for Trust {
    type Err = Infallible;

    /// `own`, `public`, or a file.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "own" => Self::Own,
            "public" => Self::Public,
            file => Self::File(file.into()),
        })
    }
}

/// Why a file tells nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unusable {
    /// It is not there, or no text.
    #[error("{0}")]
    Unreadable(String),
    /// There is no certificate in it.
    #[error("there is no certificate in it")]
    Empty,
    /// What should be a certificate is none.
    #[error("a certificate in it cannot be read")]
    Malformed,
}

/// Nothing is told any more: the certificates are not looked after.
#[derive(Debug, thiserror::Error)]
#[error("the certificates are not looked after any more")]
pub struct Gone;

/// Tells what clients are to be told, once it is known and whenever it has changed.
#[derive(Debug)]
pub struct Authorities {
    trust: Trust,
    own: watch::Receiver<Option<Own>>,
    /// What was told last.
    told: CaBundle,
    /// When it was said last that the file is no good.
    warned: Option<Instant>,
}

impl Authorities {
    /// Nothing is known yet.
    pub const fn new(trust: Trust, own: watch::Receiver<Option<Own>>) -> Self {
        Self { trust, own, told: CaBundle::Unknown, warned: None }
    }

    /// What is known now, or was before, where there is nothing better.
    pub async fn now(&mut self) -> CaBundle {
        if let Some(known) = self.read().await {
            self.told = known;
        }
        self.told.clone()
    }

    /// Waits until there is something new to tell.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn next(&mut self) -> Result<CaBundle, Gone> {
        let before = self.told.clone();
        loop {
            let now = self.now().await;
            if now != before {
                return Ok(now);
            }
            match self.trust {
                Trust::Own => self.own.changed().await.map_err(|_| Gone)?,
                Trust::Public => std::future::pending().await,
                Trust::File(_) => tokio::time::sleep(READ_EVERY).await,
            }
        }
    }

    /// `None`: there is nothing good.
    async fn read(&mut self) -> Option<CaBundle> {
        match &self.trust {
            Trust::Public => Some(CaBundle::None),
            Trust::Own => {
                let own = self.own.borrow_and_update();
                let authorities = own.as_ref().map(|own| own.operator.authorities.clone());
                authorities.filter(|authorities| !authorities.is_empty()).map(CaBundle::Known)
            }
            Trust::File(file) => {
                let file = file.clone();
                let read = read(&file).await;
                read.inspect_err(|why| self.warn(&file, why)).ok().map(CaBundle::Known)
            }
        }
    }

    fn warn(&mut self, file: &Path, why: &Unusable) {
        if self.warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        self.warned = Some(Instant::now());
        let meanwhile = match self.told {
            CaBundle::Unknown => "no Secret of a key is made until they are good",
            CaBundle::None | CaBundle::Known(_) => "those of before stay",
        };
        tracing::warn!(file = %file.display(), %why, meanwhile, "the gateway's authorities are no good");
    }
}

/// The certificates in a file, and nothing else of it: it goes into Secrets that many can read.
async fn read(file: &Path) -> Result<String, Unusable> {
    let text = tokio::fs::read(file).await;
    let text = text.map_err(|error| Unusable::Unreadable(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|_| Unusable::Malformed)?;
    if certificates.is_empty() {
        return Err(Unusable::Empty);
    }
    // A client would refuse the whole file for one of them.
    let readable = certificates.iter().all(|certificate| Facts::of(certificate).is_some());
    readable.then(|| certificates.iter().map(pem).collect()).ok_or(Unusable::Malformed)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let certificate = Pem::new("CERTIFICATE", certificate.to_vec());
    pem::encode_config(&certificate, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{LeafSecret, Pair};

    fn authority(at_s: i64) -> String {
        let now = jiff::Timestamp::from_second(at_s).unwrap();
        Pair::authority(now).unwrap().certificate().to_owned()
    }

    fn nobody() -> watch::Receiver<Option<Own>> {
        watch::channel(None).1
    }

    #[test]
    fn three_cases_are_told_apart() {
        for (text, expected) in [
            ("own", Trust::Own),
            ("public", Trust::Public),
            ("/etc/authorities/ca.crt", Trust::File("/etc/authorities/ca.crt".into())),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
    }

    #[tokio::test]
    async fn a_file_is_followed_and_only_to_what_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        let mut told = Authorities::new(Trust::File(file.clone()), nobody());
        let (one, other) = (authority(1_000_000), authority(2_000_000));
        let key = Pair::authority(crate::clock::now()).unwrap().key().to_string();
        let malformed = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let table = [
            // Nothing is known before there is a good one.
            (None, None, Some(Unusable::Unreadable(String::new()))),
            (Some(String::new()), None, Some(Unusable::Empty)),
            (Some(one.clone()), Some(one.clone()), None),
            (Some("something else".to_owned()), None, Some(Unusable::Empty)),
            // A key that somebody has put there by mistake goes nowhere.
            (Some(format!("a comment\n{key}{one}\n\n{other}{key}")), Some(format!("{one}{other}")), None),
            (Some(key.clone()), None, Some(Unusable::Empty)),
            (Some(format!("{one}{malformed}")), None, Some(Unusable::Malformed)),
            (Some(one[..one.len() / 2].to_owned()), None, Some(Unusable::Malformed)),
            (Some(format!("{one}{other}")), Some(format!("{one}{other}")), None),
            (None, None, Some(Unusable::Unreadable(String::new()))),
            (Some(other.clone()), Some(other.clone()), None),
        ];
        for (text, expected, why) in table {
            match &text {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => drop(std::fs::remove_file(&file)),
            }
            let before = told.told.clone();
            let expected = expected.map_or(before, CaBundle::Known);
            assert_eq!(told.now().await, expected, "{text:?}");
            let kind = |why: &Option<Unusable>| why.as_ref().map(std::mem::discriminant);
            assert_eq!(kind(&read(&file).await.err()), kind(&why), "{text:?}");
        }
        std::fs::write(&file, &one).unwrap();
        assert_eq!(told.next().await.unwrap(), CaBundle::Known(one));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_file_is_said_once_a_minute() {
        let mut told = Authorities::new(Trust::File("/nowhere/ca.crt".into()), nobody());
        assert_eq!((told.now().await, told.warned.is_some()), (CaBundle::Unknown, true));
        let first = told.warned;
        told.now().await;
        assert_eq!(told.warned, first);
        told.warned = first.and_then(|at| at.checked_sub(WARN_EVERY));
        told.now().await;
        assert!(told.warned >= first);
    }

    #[tokio::test]
    async fn our_own_authorities_are_told_when_there_are_some_and_when_they_change() {
        let (own, seen) = watch::channel(None);
        let shown = |authorities: &str| {
            let operator = LeafSecret { pair: None, authorities: authorities.to_owned() };
            Some(Own { operator, webhook: LeafSecret::default() })
        };
        let mut told = Authorities::new(Trust::Own, seen);
        assert_eq!(told.now().await, CaBundle::Unknown);
        own.send_replace(shown(""));
        assert_eq!(told.now().await, CaBundle::Unknown, "somebody else may leave them out");
        own.send_replace(shown("one"));
        assert_eq!(told.next().await.unwrap(), CaBundle::Known("one".into()));
        own.send_replace(shown("one"));
        own.send_replace(shown("two"));
        assert_eq!(told.next().await.unwrap(), CaBundle::Known("two".into()));
        drop(own);
        told.next().await.unwrap_err();
    }

    #[tokio::test]
    async fn of_a_public_certificate_nobody_need_be_told() {
        assert_eq!(Authorities::new(Trust::Public, nobody()).next().await.unwrap(), CaBundle::None);
    }
}
