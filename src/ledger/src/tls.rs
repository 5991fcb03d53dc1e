//! TLS on our own listeners, by files that somebody else renews: a change takes effect without a restart, with the next
//! connection.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often the files are read at most. They are small, and usually in memory.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Where the certificates are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of this ledger, and what is between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose word on a client is believed.
    pub client_authorities: PathBuf,
}

/// Why the files are no good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct TlsError {
    file: PathBuf,
    why: String,
}

impl TlsError {
    fn new(file: &Path, why: impl ToString) -> Self {
        Self { file: file.to_owned(), why: why.to_string() }
    }
}

/// Who may come through a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Only those with a certificate.
    Certified,
    /// Those without one, too: they show something else.
    Anyone,
}

/// The settings that the files say, as they are now.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    present: Mutex<Present>,
}

#[derive(Debug)]
struct Present {
    configs: Configs,
    /// What was read last, good or bad: nothing is said twice of the same files.
    seen: Seen,
    read_at: Instant,
}

#[derive(Clone, Debug)]
struct Configs {
    certified: Arc<ServerConfig>,
    anyone: Arc<ServerConfig>,
}

/// A digest of the files, or why they cannot be read.
type Seen = Result<[u8; 32], TlsError>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let texts = Texts::read(&files)?;
        let present =
            Present { configs: texts.configs(&files)?, seen: Ok(texts.digest()), read_at: Instant::now() };
        Ok(Self { files, present: Mutex::new(present) })
    }

    /// The settings for a connection that comes now.
    pub fn config(&self, callers: Callers) -> Arc<ServerConfig> {
        self.config_at(callers, Instant::now())
    }

    fn config_at(&self, callers: Callers, now: Instant) -> Arc<ServerConfig> {
        // Each line of the work below leaves it whole.
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(present.read_at) >= READ_EVERY {
            present.read_at = now;
            self.renew(&mut present);
        }
        match callers {
            Callers::Certified => present.configs.certified.clone(),
            Callers::Anyone => present.configs.anyone.clone(),
        }
    }

    /// Takes what has changed. What is no good, such as a key that came before its certificate, changes nothing.
    fn renew(&self, present: &mut Present) {
        let texts = Texts::read(&self.files);
        let seen = texts.as_ref().map(Texts::digest).map_err(Clone::clone);
        if seen == present.seen {
            return;
        }
        match texts.and_then(|texts| texts.configs(&self.files)) {
            Ok(configs) => {
                present.configs = configs;
                tracing::info!("the certificates were renewed");
            }
            Err(error) => tracing::warn!(%error, "new certificates are no good: those of before stay"),
        }
        present.seen = seen;
    }
}

/// What is in the files.
struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authorities: Vec<u8>,
}

impl Texts {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |file: &PathBuf| std::fs::read(file).map_err(|error| TlsError::new(file, error));
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_authorities: read(&files.client_authorities)?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for text in [&self.certificate, &self.key, &self.client_authorities] {
            digest.update(text.len().to_be_bytes());
            digest.update(text);
        }
        digest.finalize().into()
    }

    fn configs(&self, files: &TlsFiles) -> Result<Configs, TlsError> {
        let chain = certificates(&files.certificate, &self.certificate)?;
        let key =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| TlsError::new(&files.key, error))?;
        let authorities = &files.client_authorities;
        let mut roots = RootCertStore::empty();
        for root in certificates(authorities, &self.client_authorities)? {
            roots.add(root).map_err(|error| TlsError::new(authorities, error))?;
        }
        let roots = Arc::new(roots);
        let config = |callers, protocols: &[&str]| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
            let verifier = match callers {
                Callers::Certified => verifier,
                Callers::Anyone => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|error| TlsError::new(authorities, error))?;
            let config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| TlsError::new(&files.certificate, error))?
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain.clone(), key.clone_key())
                .map_err(|error| TlsError::new(&files.key, error))?;
            Ok(Arc::new(unresumed(config, protocols)))
        };
        let certified = config(Callers::Certified, &["h2"])?;
        let anyone = config(Callers::Anyone, &["h2", "http/1.1"])?;
        Ok(Configs { certified, anyone })
    }
}

/// A session that is resumed would not show its certificate again, however old that has become.
fn unresumed(mut config: ServerConfig, protocols: &[&str]) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::new(file, error))?;
    if read.is_empty() { Err(TlsError::new(file, "there is no certificate in it")) } else { Ok(read) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    struct Pair {
        certificate: String,
        key: String,
    }

    fn pair() -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["ledger".to_owned()]).unwrap().self_signed(&key).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    struct Folder(TempDir);

    impl Folder {
        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.path().join(name), text).unwrap();
        }

        fn files(&self) -> TlsFiles {
            let [certificate, key, client_authorities] =
                ["tls.crt", "tls.key", "ca.crt"].map(|name| self.0.path().join(name));
            TlsFiles { certificate, key, client_authorities }
        }
    }

    fn folder(pair: &Pair) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("tls.crt", &pair.certificate);
        folder.write("tls.key", &pair.key);
        folder.write("ca.crt", &pair.certificate);
        folder
    }

    #[test]
    fn a_file_that_is_no_good_is_named() {
        let (one, other) = (pair(), pair());
        let cut = &one.certificate[..one.certificate.len() / 2];
        let table = [
            ("tls.crt", "", "there is no certificate in it"),
            ("tls.crt", cut, ""),
            ("tls.key", &other.key, "KeyMismatch"),
            ("tls.key", &one.certificate, ""),
            ("ca.crt", "", "there is no certificate in it"),
            ("ca.crt", &one.key, "there is no certificate in it"),
        ];
        for (file, text, why) in table {
            let folder = folder(&one);
            folder.write(file, text);
            let error = Tls::open(folder.files()).unwrap_err().to_string();
            assert!(error.contains(&format!("/{file}: ")) && error.contains(why), "{text:?}: {error}");
        }
        let folder = folder(&one);
        std::fs::remove_file(folder.files().key).unwrap();
        let error = Tls::open(folder.files()).unwrap_err().to_string();
        assert!(error.contains("/tls.key: No such file"), "{error}");
    }

    #[test]
    fn files_are_followed_once_a_second_and_only_to_what_is_good() {
        let (old, new) = (pair(), pair());
        let folder = folder(&old);
        let tls = Tls::open(folder.files()).unwrap();
        let start = tls.present.lock().unwrap().read_at;
        let at = |ms| tls.config_at(Callers::Certified, start + Duration::from_millis(ms));
        let first = at(0);
        folder.write("tls.key", &new.key);
        assert!(Arc::ptr_eq(&first, &at(999)), "not looked at yet");
        assert!(Arc::ptr_eq(&first, &at(1_000)), "a key without its certificate");
        folder.write("tls.crt", &new.certificate);
        assert!(Arc::ptr_eq(&first, &at(1_999)), "not looked at yet");
        let second = at(2_000);
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::remove_file(folder.files().client_authorities).unwrap();
        assert!(Arc::ptr_eq(&second, &at(3_000)), "a file that is missing");
        folder.write("ca.crt", &old.certificate);
        assert!(!Arc::ptr_eq(&second, &at(4_000)), "it is there again");
    }
}
