//! The Secret of a key: what is read of it, and what is written into it.
//!
//! Of a Secret only digests are kept. What is remembered of earlier keys stands in its annotations, so that it goes when the Secret goes:
//! who deletes a Secret wants its keys to be worth nothing.

use super::{ObjectName, ObjectRef, time};
use crate::resources::GROUP;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::key;
use tollgate_domain::time::Timestamp;

/// By this label the Secrets of keys are found.
pub const SECRET_LABEL: &str = "tollgate.dev/virtual-key";
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
const OPERATOR: &str = "tollgate-operator";
const API_VERSION: &str = "tollgate.dev/v1alpha1";

const DIGEST: &str = "tollgate.dev/digest";
const ISSUED_AT: &str = "tollgate.dev/issued-at";
const ROTATED_FOR: &str = "tollgate.dev/rotated-for";
const PREVIOUS: &str = "tollgate.dev/previous";

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
    /// Entries that stay as they are: nobody knows what they should hold.
    pub kept: Vec<String>,
    /// When the key was made.
    pub issued_at: Timestamp,
    /// For which value of the annotation `tollgate.dev/rotate`.
    pub rotated_for: Option<String>,
    /// Keys before it that are to work on.
    pub previous: Vec<PreviousCredential>,
}

/// As it stands in the annotation.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPrevious {
    digest: String,
    name: String,
    expires_at: String,
}

impl KeySecret {
    /// Reads a Secret, and keeps nothing of its secrets. A key is what has the form of one: whatever somebody else writes there is
    /// none, so that no weak one ever counts.
    pub fn read(secret: &Secret) -> Self {
        let uid = secret.metadata.uid.clone().unwrap_or_default();
        let owners = secret.metadata.owner_references.iter().flatten();
        let owner = owners
            .filter(|owner| owner.controller == Some(true) && owner.kind == "VirtualKey")
            .find(|owner| owner.api_version.split('/').next() == Some(GROUP));
        let Some(owner) = owner else { return Self { uid, ..Self::default() } };
        let annotations = secret.metadata.annotations.as_ref();
        let annotation = |name: &str| annotations.and_then(|all| all.get(name)).map(String::as_str);
        let data = secret.data.iter().flatten();
        let entries: BTreeMap<String, KeyDigest> =
            data.map(|(name, value)| (name.clone(), key::digest(&value.0))).collect();
        let expected = annotation(DIGEST).and_then(|digest| digest.parse::<KeyDigest>().ok());
        let issued_at = annotation(ISSUED_AT).and_then(time::parse);
        let created_at = secret.metadata.creation_timestamp.as_ref().map(time::from_time);
        Self {
            uid,
            owner_uid: Some(owner.uid.clone()),
            key: expected.and_then(|digest| Self::present(secret, digest)),
            issued_at: issued_at.or(created_at),
            rotated_for: annotation(ROTATED_FOR).map(ToOwned::to_owned),
            previous: annotation(PREVIOUS).map(read_previous).unwrap_or_default(),
            entries,
        }
    }

    fn present(secret: &Secret, digest: KeyDigest) -> Option<PresentKey> {
        let text = Self::expose(secret, digest)?;
        Some(PresentKey { digest, name: key::masked(text) })
    }

    /// The key in a Secret, by its digest: for writing anew what stands beside it.
    pub fn expose(secret: &Secret, digest: KeyDigest) -> Option<&str> {
        let values = secret.data.as_ref()?.values();
        let mut texts = values.filter_map(|value| std::str::from_utf8(&value.0).ok());
        texts.find(|text| key::is_well_formed(text) && key::digest(text.as_bytes()) == digest)
    }
}

impl SecretContent {
    /// Whether there can be such a Secret only in the place of one that is there.
    pub fn is_partial(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The Secret with this key in it, under the control of `owner`, in the place of the one that is `present`.
    pub fn secret(
        &self,
        name: &ObjectName,
        owner: &ObjectRef,
        key: &str,
        present: Option<&Secret>,
    ) -> Secret {
        let texts = self.texts.iter().map(|(name, text)| (name.clone(), text.as_str()));
        let keys = self.key_entries.iter().map(|name| (name.clone(), key));
        let data = texts.chain(keys).map(|(name, text)| (name, ByteString(text.as_bytes().to_vec())));
        let present = present.and_then(|present| present.data.as_ref());
        let kept = self.kept.iter().filter_map(|name| Some((name.clone(), present?.get(name)?.clone())));
        let controller = OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: owner.kind.as_str().to_owned(),
            name: owner.name.name.clone(),
            uid: owner.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        };
        let labels = [(MANAGED_BY_LABEL, OPERATOR), (SECRET_LABEL, owner.name.name.as_str())];
        Secret {
            metadata: ObjectMeta {
                name: Some(name.name.clone()),
                namespace: Some(name.namespace.clone()),
                labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
                annotations: Some(self.annotations(&key::digest(key.as_bytes()))),
                owner_references: Some(vec![controller]),
                ..ObjectMeta::default()
            },
            data: Some(data.chain(kept).collect()),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        }
    }

    fn annotations(&self, digest: &KeyDigest) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::from([
            (DIGEST.to_owned(), digest.to_string()),
            (ISSUED_AT.to_owned(), time::text(self.issued_at)),
        ]);
        if let Some(value) = &self.rotated_for {
            annotations.insert(ROTATED_FOR.to_owned(), value.clone());
        }
        if !self.previous.is_empty() {
            annotations.insert(PREVIOUS.to_owned(), written_previous(&self.previous));
        }
        annotations
    }

    /// Whether a Secret with the key of this digest holds all of this. Other entries are nobody's business here.
    pub(super) fn is_in(&self, secret: &KeySecret, digest: KeyDigest) -> bool {
        let is = |name: &String, digest: KeyDigest| secret.entries.get(name) == Some(&digest);
        self.texts.iter().all(|(name, text)| is(name, key::digest(text.as_bytes())))
            && self.key_entries.iter().all(|name| is(name, digest))
    }
}

fn written_previous(previous: &[PreviousCredential]) -> String {
    let all: Vec<WrittenPrevious> = previous
        .iter()
        .map(|one| WrittenPrevious {
            digest: one.digest.to_string(),
            name: one.name.clone(),
            expires_at: time::text(one.expires_at),
        })
        .collect();
    serde_json::to_string(&all).unwrap_or_default()
}

/// What can not be read is no key: it has stopped to work.
fn read_previous(text: &str) -> Vec<PreviousCredential> {
    let all: Vec<WrittenPrevious> = serde_json::from_str(text).unwrap_or_default();
    let read = |one: WrittenPrevious| {
        let digest = one.digest.parse().ok()?;
        Some(PreviousCredential { digest, name: one.name, expires_at: time::parse(&one.expires_at)? })
    };
    all.into_iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use tollgate_domain::key::VirtualKey as Key;

    fn owner() -> ObjectRef {
        ObjectRef { kind: Kind::VirtualKey, name: ObjectName::new("a", "alice"), uid: "u1".into() }
    }

    fn content() -> SecretContent {
        SecretContent {
            texts: [("ANTHROPIC_BASE_URL".to_owned(), "http://tollgate".to_owned())].into(),
            key_entries: vec!["ANTHROPIC_API_KEY".into(), "OPENAI_API_KEY".into()],
            kept: vec![],
            issued_at: Timestamp::new(1_796_083_200_000),
            rotated_for: Some("1".into()),
            previous: vec![PreviousCredential {
                digest: KeyDigest::new([7; 32]),
                name: "sk-...abcd".into(),
                expires_at: Timestamp::new(1_796_169_600_000),
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let key = Key::from_entropy([3; 32]);
        let secret = content().secret(&ObjectName::new("a", "alice"), &owner(), key.expose(), None);
        let read = KeySecret::read(&secret);
        assert_eq!(read.owner_uid.as_deref(), Some("u1"));
        assert_eq!(read.key, Some(PresentKey { digest: key.digest(), name: key::masked(key.expose()) }));
        assert_eq!(read.issued_at, Some(content().issued_at));
        assert_eq!(read.rotated_for, content().rotated_for);
        assert_eq!(read.previous, content().previous);
        assert!(content().is_in(&read, key.digest()));
        let moved = SecretContent { key_entries: vec!["KEY".into()], ..content() };
        assert!(!moved.is_in(&read, key.digest()));
    }

    #[test]
    fn the_key_itself_is_nowhere_but_in_its_entries() {
        let key = Key::from_entropy([3; 32]);
        let secret = content().secret(&ObjectName::new("a", "alice"), &owner(), key.expose(), None);
        let metadata = serde_json::to_string(&secret.metadata).unwrap();
        assert!(!metadata.contains(key.expose()));
        assert!(!format!("{:?}", KeySecret::read(&secret)).contains(key.expose()));
    }

    #[test]
    fn what_somebody_else_writes_is_no_key() {
        let key = Key::from_entropy([3; 32]);
        let mut secret = content().secret(&ObjectName::new("a", "alice"), &owner(), key.expose(), None);
        for value in secret.data.as_mut().unwrap().values_mut() {
            *value = ByteString(b"sk-weak".to_vec());
        }
        assert_eq!(KeySecret::read(&secret).key, None);
        secret.metadata.owner_references = None;
        assert_eq!(KeySecret::read(&secret).owner_uid, None);
    }
}
