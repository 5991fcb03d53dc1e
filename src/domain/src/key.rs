//! Virtual keys: how they look, and the digest that stands for them everywhere else.
//!
//! `sk-tg-`, then 256 random bits in base62 (43 characters), then a checksum (6 characters), so that a secret
//! scanner can tell a Tollgate key from a random word without asking anybody.

use crate::ids::KeyDigest;
use sha2::{Digest, Sha256};
use std::fmt;

/// How every generated virtual key starts.
pub const PREFIX: &str = "sk-tg-";

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of 256 bits in base62.
const SECRET_CHARS: usize = 43;
/// Characters of 32 bits in base62.
const CHECKSUM_CHARS: usize = 6;

/// The digest under which a secret is known: SHA-256 of its bytes, as LiteLLM stores its keys, so that those can be
/// moved over.
pub fn digest(secret: &[u8]) -> KeyDigest {
    KeyDigest::new(Sha256::digest(secret).into())
}

/// Enough of a key for a person to tell it: `sk-...` and its last four characters. A key that somebody brings along is at least eight
/// times as long.
pub fn masked(secret: &str) -> String {
    format!("sk-...{}", secret.get(secret.len().saturating_sub(4)..).unwrap_or_default())
}

/// A generated virtual key. It is shown once; its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct VirtualKey(String);

impl VirtualKey {
    /// A key made of 256 random bits.
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        let secret = base62::<SECRET_CHARS>(&entropy);
        Self(format!("{PREFIX}{secret}{}", checksum(&secret)))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The digest that stands for it.
    pub fn digest(&self) -> KeyDigest {
        digest(self.0.as_bytes())
    }
}

impl fmt::Debug for VirtualKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VirtualKey(..)")
    }
}

/// Whether the text is a generated virtual key with an intact checksum. The data path does not ask this: to a
/// stranger, a malformed key and an unknown one look the same.
pub fn is_well_formed(text: &str) -> bool {
    let Some(body) = text.strip_prefix(PREFIX) else {
        return false;
    };
    let Some((secret, sum)) = body.split_at_checked(SECRET_CHARS) else {
        return false;
    };
    body.bytes().all(|b| b.is_ascii_alphanumeric()) && sum == checksum(secret)
}

/// The first 32 bits of the secret's SHA-256, in base62.
fn checksum(secret: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    let first = digest.first_chunk::<4>().copied().unwrap_or_default();
    base62::<CHECKSUM_CHARS>(&first)
}

/// The bytes as a big-endian number in base62, padded to `N` characters.
fn base62<const N: usize>(bytes: &[u8]) -> String {
    let mut digits = [0_u8; N];
    for &byte in bytes {
        let mut carry = u32::from(byte);
        for digit in digits.iter_mut().rev() {
            let value = u32::from(*digit).saturating_mul(256).saturating_add(carry);
            *digit = u8::try_from(value % 62).unwrap_or_default();
            carry = value / 62;
        }
    }
    digits.iter().filter_map(|d| ALPHABET.get(usize::from(*d))).map(|c| char::from(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_has_a_form_that_scanners_can_tell() {
        let key = VirtualKey::from_entropy([7; 32]);
        assert_eq!(key.expose().len(), PREFIX.len() + 49);
        assert!(is_well_formed(key.expose()));
        assert_eq!(format!("{key:?}"), "VirtualKey(..)");
        assert!(VirtualKey::from_entropy([0; 32]).expose().starts_with("sk-tg-000000"));
        assert!(is_well_formed(VirtualKey::from_entropy([255; 32]).expose()));
    }

    #[test]
    fn the_digest_is_the_sha256_of_the_text() {
        // printf sk-1234 | sha256sum
        let expected = "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b";
        assert_eq!(digest(b"sk-1234").to_string(), expected);
    }

    proptest! {
        #[test]
        fn a_changed_character_breaks_the_checksum(entropy: [u8; 32], at in 6_usize..55) {
            let key = VirtualKey::from_entropy(entropy);
            let mut text = key.expose().to_owned().into_bytes();
            text[at] = if text[at] == b'x' { b'y' } else { b'x' };
            prop_assert!(!is_well_formed(std::str::from_utf8(&text).unwrap()));
        }
    }
}
