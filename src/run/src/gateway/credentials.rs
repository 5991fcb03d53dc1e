//! Credentials in files, as a Secret is mounted: read once at the start, and followed.
//!
//! Envoy could read such a file itself, but takes it to the last byte, and most Secrets that people make by hand end with a
//! line feed, which no header may hold. It also has no way to keep the last good one. So each is written anew, as Envoy wants it.

use crate::files::{self, FileError};
use crate::provider::Provider;
use crate::render::{VIRTUAL_KEY, provider_secrets, tls};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Kubernetes takes up to a minute to renew a mounted Secret; a second more is nothing. Asked for, because notices of the kernel
/// are counted for each user of a machine, and there may be hundreds of sidecars of one.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a credential opens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Opens {
    Provider(Provider),
    /// The gateway, for the agent in the same pod.
    Gateway,
}

impl Opens {
    /// Its secrets, by the names of their files.
    fn secrets(self, value: &str) -> Vec<(String, Value)> {
        match self {
            Self::Provider(provider) => provider_secrets(&[(provider, value.to_owned())]),
            Self::Gateway => {
                vec![(tls::file(VIRTUAL_KEY), tls::credential(VIRTUAL_KEY, &format!("Bearer {value}")))]
            }
        }
    }
}

/// Why a credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} holds no key: nothing, or a character that no key has", .0.display())]
    NoKey(PathBuf),
}

/// A credential that is followed.
#[derive(Debug)]
struct Followed {
    opens: Opens,
    file: PathBuf,
    /// Of the credential that Envoy has; the credential itself is not kept.
    digest: [u8; 32],
    /// What was wrong with the file last, said once.
    complaint: Option<String>,
}

/// All credentials of a gateway.
#[derive(Debug)]
pub(crate) struct Credentials {
    folder: PathBuf,
    all: Vec<Followed>,
}

impl Credentials {
    /// Writes the secrets of all of them into the folder.
    pub(crate) fn write(folder: &Path, credentials: &[(Opens, PathBuf)]) -> Result<Self, CredentialError> {
        let mut all = Vec::new();
        for (opens, file) in credentials {
            let key = read(file)?;
            write(folder, *opens, &key)?;
            all.push(Followed { opens: *opens, file: file.clone(), digest: digest(&key), complaint: None });
        }
        Ok(Self { folder: folder.to_owned(), all })
    }

    /// Writes them again when they have changed, for as long as it is asked to.
    pub(crate) async fn follow(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.renew();
        }
    }

    fn renew(&mut self) {
        for followed in &mut self.all {
            match followed.renew(&self.folder) {
                Ok(false) => {}
                Ok(true) => {
                    followed.complaint = None;
                    eprintln!("tollgate-run: {} has a new credential", followed.file.display());
                }
                Err(error) => followed.complain(&error.to_string()),
            }
        }
    }
}

impl Followed {
    /// Whether there was a new one.
    fn renew(&mut self, folder: &Path) -> Result<bool, CredentialError> {
        let key = read(&self.file)?;
        let digest = digest(&key);
        if digest == self.digest {
            return Ok(false);
        }
        write(folder, self.opens, &key)?;
        self.digest = digest;
        Ok(true)
    }

    fn complain(&mut self, error: &str) {
        if self.complaint.as_deref() != Some(error) {
            eprintln!("tollgate-run: {error}; the last credential stays");
            self.complaint = Some(error.to_owned());
        }
    }
}

fn read(file: &Path) -> Result<String, CredentialError> {
    let text = files::read(file)?;
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CredentialError::NoKey(file.to_owned()));
    }
    Ok(key.to_owned())
}

fn write(folder: &Path, opens: Opens, key: &str) -> Result<(), FileError> {
    for (name, secret) in opens.secrets(key) {
        files::write_private(&folder.join(name), &secret.to_string())?;
    }
    Ok(())
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn secret(folder: &Path, name: &str) -> Value {
        let file: Value = serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap();
        file["resources"][0]["generic_secret"]["secret"]["inline_string"].clone()
    }

    #[test]
    fn a_new_credential_is_written_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, "one\n").unwrap();
        let all = [(Opens::Provider(Provider::Anthropic), file.clone()), (Opens::Gateway, file.clone())];
        let mut credentials = Credentials::write(folder.path(), &all).unwrap();
        // What the file holds, and what Envoy has afterwards.
        let table =
            [("one\n", "one"), ("two", "two"), ("", "two"), ("th ree", "two"), (" three \n", "three")];
        for (text, expected) in table {
            fs::write(&file, text).unwrap();
            credentials.renew();
            assert_eq!(secret(folder.path(), "anthropic.json"), expected, "{text:?}");
            assert_eq!(secret(folder.path(), "anthropic-bearer.json"), format!("Bearer {expected}"));
            assert_eq!(secret(folder.path(), "virtual-key.json"), format!("Bearer {expected}"));
        }
        fs::remove_file(&file).unwrap();
        credentials.renew();
        assert_eq!(secret(folder.path(), "anthropic.json"), "three");
    }

    #[test]
    fn a_start_without_a_credential_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let all = [(Opens::Gateway, file.clone())];
        for text in [None, Some("\n")] {
            if let Some(text) = text {
                fs::write(&file, text).unwrap();
            }
            let error = Credentials::write(folder.path(), &all).unwrap_err().to_string();
            assert!(error.contains(file.to_str().unwrap()), "{error}");
        }
    }
}
