//! The Secret of a key: what is read of it, and what is written into it.
//!
//! Of a Secret only digests are kept. What is remembered of earlier keys stands in its annotations, so that it goes when the Secret goes:
//! who deletes a Secret wants its keys to be worth nothing.

use k8s_openapi::api::core::v1::Secret;
use std::collections::BTreeMap;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::key::VirtualKey as Key;
use tollgate_domain::time::Timestamp;

/// What is kept of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySecret {
    /// Its own uid.
    pub uid: String,
    /// The uid of the `VirtualKey` that controls it, if one does.
    pub owner_uid: Option<String>,
    /// The key in it, unless there is none.
    pub key: Option<PresentKey>,
    /// When the key was made.
    pub issued_at: Option<Timestamp>,
    /// For which value of the annotation `tollgate.dev/rotate` it was made.
    pub rotated_for: Option<String>,
    /// Keys before it.
    pub previous: Vec<PreviousCredential>,
    /// The SHA-256 of each entry, by its name. Empty where no `VirtualKey` controls it.
    pub entries: BTreeMap<String, KeyDigest>,
}

/// A key in a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentKey {
    /// Its digest.
    pub digest: KeyDigest,
    /// Enough of it for a person to tell it.
    pub name: String,
}

/// A key that was in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PreviousCredential {
    /// Its digest.
    pub digest: KeyDigest,
    /// Enough of it for a person to tell it.
    pub name: String,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// All that a Secret should hold, but for the key itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretContent {
    /// Entries that are no secret.
    pub texts: BTreeMap<String, String>,
    /// Entries that hold the key.
    pub key_entries: Vec<String>,
    /// When the key was made.
    pub issued_at: Timestamp,
    /// For which value of the annotation `tollgate.dev/rotate`.
    pub rotated_for: Option<String>,
    /// Keys before it that are to work on.
    pub previous: Vec<PreviousCredential>,
}

impl KeySecret {
    /// Reads a Secret, and keeps nothing of its secrets.
    pub fn read(_secret: &Secret) -> Self {
        Self::default()
    }

    /// The key in a Secret, as it was read: for rewriting what stands beside it.
    pub fn expose(_secret: &Secret, _digest: &KeyDigest) -> Option<Key> {
        None
    }
}

/// Enough of a key for a person to tell it, as the admin API shows it.
pub fn masked(key: &str) -> String {
    format!("sk-...{}", key.get(key.len().saturating_sub(4)..).unwrap_or_default())
}
