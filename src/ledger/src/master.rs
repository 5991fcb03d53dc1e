//! The master key: the one secret that administers the ledger.

use std::fmt;
use subtle::ConstantTimeEq;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::key;

/// The master key, known by its digest alone: neither its text nor its length is kept.
#[derive(Clone)]
pub struct MasterKey {
    digest: KeyDigest,
}

impl MasterKey {
    /// The key whose secret this is.
    pub fn new(secret: &[u8]) -> Self {
        Self { digest: key::digest(secret) }
    }

    /// Whether `secret` is the key, in a time that says nothing of either.
    pub fn matches(&self, secret: &[u8]) -> bool {
        self.matches_digest(&key::digest(secret))
    }

    /// Whether `digest` is the key's, in a time that says nothing of either.
    pub fn matches_digest(&self, digest: &KeyDigest) -> bool {
        self.digest.as_bytes().as_slice().ct_eq(digest.as_bytes().as_slice()).into()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_itself_matches() {
        let master = MasterKey::new(b"sk-master");
        assert!(master.matches(b"sk-master"));
        assert!(master.matches_digest(&key::digest(b"sk-master")));
        for other in [b"".as_slice(), b"sk-maste", b"sk-master ", b"SK-MASTER"] {
            assert!(!master.matches(other));
        }
        assert_eq!(format!("{master:?}"), "MasterKey(..)");
    }
}
