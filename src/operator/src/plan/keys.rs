//! Keys and their Secrets: which key is in use, when another takes its place, and what the Secret holds beside it.

use super::limits::span_seconds;
use super::secret::{KeySecret, PreviousCredential, SecretContent};
use super::time::{self, SECOND_MS, floor};
use super::verdict::secret_name;
use super::{CaBundle, Credential, ObjectName, Settings, Standing};
use crate::resources::{ROTATE_ANNOTATION, SecretNames, VirtualKey};
use std::collections::BTreeMap;
use tollgate_domain::time::Timestamp;

/// The entry of a Secret with the authorities by which clients know the place where requests go.
const AUTHORITIES: &str = "ca.crt";
/// For how long an old key works on, unless the key says.
const OVERLAP_MS: i64 = 24 * 3_600 * SECOND_MS;
/// The ledger takes 16 credentials; one place is for the key that is made next, and one for the present one.
const PREVIOUS_MAX: usize = 14;

/// The Secrets of one key.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    /// The one that it should have.
    pub(super) wanted: Option<&'a KeySecret>,
    /// One that it had under another name.
    pub(super) former: Option<&'a KeySecret>,
}

/// What is known of the account of a key that was adopted.
#[derive(Clone, Copy)]
pub(super) struct Adopted<'a> {
    /// How it stands, once it is the key's.
    pub(super) told: Option<&'a Standing>,
    /// It has no credential that works.
    pub(super) none_works: bool,
}

/// What is to become of a key's Secret.
pub(super) enum Step {
    /// There is none, and needs none: what people hold of an adopted key works on.
    Keep,
    /// It is as it should be.
    Rest {
        /// The credentials that count.
        credentials: Vec<Credential>,
    },
    /// The key stays, what stands beside it is to be written anew.
    Rewrite {
        /// The credentials that count.
        credentials: Vec<Credential>,
        /// What the Secret should hold.
        content: SecretContent,
    },
    /// Another key is to be made.
    Issue {
        /// The credentials that are to work on beside it.
        credentials: Vec<Credential>,
        /// What the Secret should hold.
        content: SecretContent,
    },
}

/// What is to be done with the key, and when the next change of it falls due by itself.
pub(super) fn step(
    key: &VirtualKey,
    secrets: Secrets<'_>,
    adopted: Option<Adopted<'_>>,
    settings: &Settings,
    now: Timestamp,
) -> (Step, Option<Timestamp>) {
    if let Some(adopted) = adopted.filter(|_| secrets.wanted.is_none() && secrets.former.is_none()) {
        return adopted_step(key, adopted, settings, now);
    }
    let rotate_for = rotate_annotation(key);
    let present = secrets.wanted.and_then(|secret| Some((secret, secret.key.as_ref()?)));
    let Some((secret, present_key)) = present else {
        let previous = secrets.former.map(|former| succeeded(former, key, now)).unwrap_or_default();
        return (issue(key, previous, rotate_for, settings, now), None);
    };
    let due = rotation_due(key, secret);
    let by_hand = rotate_for.is_some() && rotate_for != secret.rotated_for.as_deref();
    if by_hand || due.is_some_and(|due| due <= now) {
        return (issue(key, succeeded(secret, key, now), rotate_for, settings, now), None);
    }
    let previous = living(&secret.previous, now);
    let next_expiry = previous.iter().map(|one| one.expires_at).min();
    let credentials = held(secrets, now);
    let content = SecretContent {
        previous,
        issued_at: secret.issued_at.unwrap_or(now),
        rotated_for: secret.rotated_for.clone(),
        ..beside_the_key(key, settings)
    };
    let wake_at = due.into_iter().chain(next_expiry).min();
    if content.is_in(secret, present_key.digest) {
        (Step::Rest { credentials }, wake_at)
    } else {
        (Step::Rewrite { credentials, content }, wake_at)
    }
}

/// The credentials that count while the API server does not take the Secret: those that somebody can hold.
pub(super) fn held(secrets: Secrets<'_>, now: Timestamp) -> Vec<Credential> {
    let Some(secret) = secrets.wanted.filter(|secret| secret.key.is_some()).or(secrets.former) else {
        return Vec::new();
    };
    let mut credentials = credentials(&living(&secret.previous, now));
    if let Some(key) = &secret.key {
        credentials.retain(|one| one.digest != key.digest);
        credentials.push(Credential { digest: key.digest, name: key.name.clone(), expires_at: None });
    }
    sort(&mut credentials);
    credentials
}

/// A key that was adopted and has no Secret: it is as it was until the first rotation, which lets old and new overlap as every one does.
fn adopted_step(
    key: &VirtualKey,
    adopted: Adopted<'_>,
    settings: &Settings,
    now: Timestamp,
) -> (Step, Option<Timestamp>) {
    let rotate_for = rotate_annotation(key);
    let had_one = key.status.as_ref().is_some_and(|status| status.issued_at.is_some());
    if had_one || adopted.none_works {
        return (issue(key, vec![], rotate_for, settings, now), None);
    }
    let made_at = key.metadata.creation_timestamp.as_ref().map(time::from_time);
    let due = made_at.and_then(|made_at| due_after(key, made_at));
    let is_due = rotate_for.is_some() || due.is_some_and(|due| due <= now);
    match adopted.told.map(|told| &told.credentials).filter(|held| is_due && !held.is_empty()) {
        Some(held) => (issue(key, followed(held, key, now), rotate_for, settings, now), None),
        None => (Step::Keep, due.filter(|_| !is_due)),
    }
}

/// The credentials that an adopted account came with, when a key in a Secret takes their place.
fn followed(held: &[Credential], key: &VirtualKey, now: Timestamp) -> Vec<PreviousCredential> {
    let until = floor(now).plus_ms(overlap_ms(key));
    let ends = |one: &Credential| one.expires_at.map_or(until, |at| floor(at).min(until));
    let previous = held.iter().map(|one| PreviousCredential {
        digest: one.digest,
        name: one.name.clone(),
        expires_at: ends(one),
    });
    latest(previous.filter(|one| one.expires_at > now).collect())
}

/// As many as the ledger takes, those that end last.
fn latest(mut previous: Vec<PreviousCredential>) -> Vec<PreviousCredential> {
    previous.sort_by_key(|one| one.expires_at);
    let excess = previous.len().saturating_sub(PREVIOUS_MAX);
    previous.split_off(excess)
}

fn issue(
    key: &VirtualKey,
    previous: Vec<PreviousCredential>,
    rotate_for: Option<&str>,
    settings: &Settings,
    now: Timestamp,
) -> Step {
    let mut credentials = credentials(&previous);
    sort(&mut credentials);
    let content = SecretContent {
        previous,
        issued_at: floor(now),
        rotated_for: rotate_for.map(ToOwned::to_owned),
        ..beside_the_key(key, settings)
    };
    Step::Issue { credentials, content }
}

/// The keys that work on when another takes the place of a Secret's.
fn succeeded(secret: &KeySecret, key: &VirtualKey, now: Timestamp) -> Vec<PreviousCredential> {
    let until = floor(now).plus_ms(overlap_ms(key));
    let mut previous = living(&secret.previous, now);
    if let Some(present) = secret.key.as_ref().filter(|_| until > now) {
        previous.retain(|one| one.digest != present.digest);
        previous.push(PreviousCredential {
            digest: present.digest,
            name: present.name.clone(),
            expires_at: until,
        });
    }
    latest(previous)
}

fn living(previous: &[PreviousCredential], now: Timestamp) -> Vec<PreviousCredential> {
    previous.iter().filter(|one| one.expires_at > now).cloned().collect()
}

fn credentials(previous: &[PreviousCredential]) -> Vec<Credential> {
    let credential = |one: &PreviousCredential| Credential {
        digest: one.digest,
        name: one.name.clone(),
        expires_at: Some(one.expires_at),
    };
    previous.iter().map(credential).collect()
}

/// In one order, and each once: an annotation is anybody's to write.
fn sort(credentials: &mut Vec<Credential>) {
    credentials.sort();
    credentials.dedup_by_key(|one| one.digest);
}

fn rotate_annotation(key: &VirtualKey) -> Option<&str> {
    key.metadata
        .annotations
        .as_ref()?
        .get(ROTATE_ANNOTATION)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

fn rotation_due(key: &VirtualKey, secret: &KeySecret) -> Option<Timestamp> {
    due_after(key, secret.issued_at?)
}

/// When the key that there is since then has become as old as it may.
fn due_after(key: &VirtualKey, since: Timestamp) -> Option<Timestamp> {
    let every = span_seconds(&key.spec.rotation.as_ref()?.every)?;
    Some(since.plus_ms(i64::from(every).saturating_mul(SECOND_MS)))
}

fn overlap_ms(key: &VirtualKey) -> i64 {
    let Some(rotation) = &key.spec.rotation else { return OVERLAP_MS };
    let span_ms = |text: &str| span_seconds(text).map(|seconds| i64::from(seconds).saturating_mul(SECOND_MS));
    match (rotation.overlap.as_deref().and_then(span_ms), span_ms(&rotation.every)) {
        (Some(overlap), _) => overlap,
        (None, Some(every)) => OVERLAP_MS.min(every / 2),
        (None, None) => OVERLAP_MS,
    }
}

/// The entries of a key's Secret: the base URLs, who vouches for them, and where the key goes.
fn beside_the_key(key: &VirtualKey, settings: &Settings) -> SecretContent {
    let spec = key.spec.secret.clone().unwrap_or_default();
    let names: SecretNames = spec.names.unwrap_or_default();
    let name = |own: Option<String>, usual: &str| own.unwrap_or_else(|| usual.to_owned());
    let url = spec.url.as_deref().unwrap_or(&settings.base_url).trim_end_matches('/');
    let mut texts = BTreeMap::from([
        (name(names.anthropic_base_url, "ANTHROPIC_BASE_URL"), url.to_owned()),
        (name(names.openai_base_url, "OPENAI_BASE_URL"), format!("{url}/v1")),
    ]);
    let mut kept = Vec::new();
    match &settings.ca_bundle {
        // Another place has other authorities, and whoever named it knows them.
        _ if spec.url.is_some() => {}
        CaBundle::None => {}
        CaBundle::Unknown => kept.push(AUTHORITIES.to_owned()),
        CaBundle::Known(pem) => drop(texts.insert(AUTHORITIES.to_owned(), pem.clone())),
    }
    let mut key_entries = vec![
        name(names.anthropic_api_key, "ANTHROPIC_API_KEY"),
        name(names.openai_api_key, "OPENAI_API_KEY"),
    ];
    key_entries.dedup();
    SecretContent { texts, key_entries, kept, ..SecretContent::default() }
}

/// The Secret that a key should have.
pub(super) fn wanted_secret(name: &ObjectName, key: &VirtualKey) -> ObjectName {
    ObjectName::new(&name.namespace, secret_name(name, key))
}
