//! What is to be done with the certificates that there are: a pure function of them and the time.
//!
//! An authority is replaced in three steps, so that at no moment anybody meets a certificate that it does not trust yet, or not any
//! more: the next one is made and goes into every bundle; when it has been there for long enough it signs, and everything is
//! signed anew; the one before leaves the bundles when all that it signed has ended.

use super::bundle::Bundle;
use super::leaf::Leaf;
use super::pair::{LEAF_LIFE, MakeError, Pair, SKEW, after};
use super::secret::{AuthoritySecret, LeafSecret};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// How long the next authority is trusted before it signs. A kubelet brings a changed Secret into its pods within two minutes.
pub(super) const SETTLE: SignedDuration = SignedDuration::from_hours(1);

/// What is done with the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityStep {
    /// Nothing.
    Keep,
    /// A new one signs at once: there is none, or none that is good.
    Make,
    /// The next one is made, and trusted.
    MakeNext,
    /// The next one signs from now on.
    Promote,
    /// The bundle is put right: it lacks one that is trusted, or holds one that has nothing left.
    Bundle,
}

/// Why a certificate is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is none, or it cannot be read.
    Missing,
    /// It is good for something else than is wanted.
    Different,
    /// Another authority signs now.
    Authority,
    /// Two thirds of its life are over.
    Age,
}

/// What is done with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafStep {
    /// Nothing.
    Keep,
    /// It is signed anew.
    Sign(Why),
    /// It stays, and its owner is told whom to trust.
    Bundle,
}

/// What is to be done, and what there will be then.
#[derive(Debug)]
pub struct Plan {
    /// With the authority.
    pub authority: AuthorityStep,
    /// The authority's Secret, after that.
    pub secret: AuthoritySecret,
    /// With each certificate, in the order in which they are wanted.
    pub leaves: Vec<LeafStep>,
}

/// Says what is to be done. A new authority is made here, because everything after it depends on it.
///
/// # Errors
/// [`MakeError`].
pub fn plan(
    present: AuthoritySecret,
    leaves: &[(Leaf, LeafSecret)],
    now: Timestamp,
) -> Result<Plan, MakeError> {
    let before = present.bundle.clone();
    let (step, mut secret) = renewed(present, now)?;
    secret.bundle = trusted(&secret, now);
    let bundled = step == AuthorityStep::Keep && secret.bundle != before;
    let authority = if bundled { AuthorityStep::Bundle } else { step };
    let bundle = secret.bundle.pem();
    let leaves = leaves.iter().map(|(wanted, present)| leaf_step(&secret, &bundle, wanted, present, now));
    let leaves = leaves.collect();
    Ok(Plan { authority, secret, leaves })
}

impl Plan {
    /// What a certificate's Secret holds after its step; `None`: it stays as it is.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn carry_out(
        &self,
        step: LeafStep,
        wanted: &Leaf,
        present: &LeafSecret,
        now: Timestamp,
    ) -> Result<Option<LeafSecret>, MakeError> {
        let authorities = self.secret.bundle.pem();
        let pair = match (step, &self.secret.current) {
            (LeafStep::Keep, _) | (LeafStep::Sign(_), None) => return Ok(None),
            (LeafStep::Bundle, _) => present.pair.clone(),
            (LeafStep::Sign(_), Some(authority)) => Some(authority.sign(wanted, now)?),
        };
        Ok(Some(LeafSecret { pair, authorities }))
    }
}

fn renewed(present: AuthoritySecret, now: Timestamp) -> Result<(AuthorityStep, AuthoritySecret), MakeError> {
    let is_good = |pair: &Pair| pair.facts().is_good(now);
    let AuthoritySecret { current, next, bundle } = present;
    let (current, next) = (current.filter(is_good), next.filter(is_good));
    Ok(match (current, next) {
        (None, None) => {
            let current = Some(Pair::authority(now)?);
            (AuthorityStep::Make, AuthoritySecret { current, next: None, bundle })
        }
        // Nobody else can sign.
        (None, Some(next)) => {
            (AuthorityStep::Promote, AuthoritySecret { current: Some(next), next: None, bundle })
        }
        (Some(_), Some(next)) if now >= after(next.made_at(), SETTLE) => {
            (AuthorityStep::Promote, AuthoritySecret { current: Some(next), next: None, bundle })
        }
        (Some(current), None) if now >= current.facts().renews_at() => {
            let next = Some(Pair::authority(now)?);
            (AuthorityStep::MakeNext, AuthoritySecret { current: Some(current), next, bundle })
        }
        (current, next) => (AuthorityStep::Keep, AuthoritySecret { current, next, bundle }),
    })
}

/// Everybody whose word is still out there. One that does not sign any more has signed nothing since its successor settled, so that
/// all of it has ended a life later.
fn trusted(secret: &AuthoritySecret, now: Timestamp) -> Bundle {
    let mut bundle = secret.bundle.clone();
    for authority in secret.current.iter().chain(&secret.next) {
        bundle.add(authority);
    }
    bundle.retain(|facts, successor_from| {
        let ended = successor_from.is_some_and(|from| {
            let signs_from = after(after(from, SKEW), SETTLE);
            now >= after(signs_from, LEAF_LIFE)
        });
        facts.until > now && !ended
    });
    bundle
}

fn leaf_step(
    secret: &AuthoritySecret,
    bundle: &str,
    wanted: &Leaf,
    present: &LeafSecret,
    now: Timestamp,
) -> LeafStep {
    let Some(pair) = &present.pair else { return LeafStep::Sign(Why::Missing) };
    let facts = pair.facts();
    let dns: BTreeSet<String> = wanted.dns.iter().cloned().collect();
    let uris: BTreeSet<String> = wanted.part.uri().into_iter().collect();
    let same = facts.uris == uris
        && facts.dns == dns
        && (facts.serves, facts.calls) == (wanted.part.serves(), wanted.part.calls());
    let signer = secret.current.as_ref().and_then(|authority| authority.facts().key_id.as_ref());
    if !same {
        LeafStep::Sign(Why::Different)
    } else if facts.signer_id.as_ref() != signer {
        LeafStep::Sign(Why::Authority)
    } else if now >= facts.renews_at() || !facts.is_good(now) {
        LeafStep::Sign(Why::Age)
    } else if present.authorities != bundle {
        LeafStep::Bundle
    } else {
        LeafStep::Keep
    }
}
