//! Ids and secrets from the operating system's randomness.

use super::error::ApiError;
use std::fmt::Write;
use tollgate_domain::key::VirtualKey;

fn bytes<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(ApiError::internal)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing into a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// An id of the form that LiteLLM gives teams, users and organizations: a UUID of version 4.
pub(crate) fn id() -> Result<String, ApiError> {
    let mut bytes = bytes::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let groups = [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]];
    Ok(groups.map(hex).join("-"))
}

/// The id of a key's account, which outlives the key's secret.
pub(crate) fn key_account_id() -> Result<String, ApiError> {
    Ok(format!("key-{}", hex(&bytes::<16>()?)))
}

/// A new virtual key.
pub(crate) fn virtual_key() -> Result<VirtualKey, ApiError> {
    Ok(VirtualKey::from_entropy(bytes()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_uuids() {
        let id = id().unwrap();
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert_eq!(key_account_id().unwrap().len(), 36);
        assert_ne!(key_account_id().unwrap(), key_account_id().unwrap());
    }
}
