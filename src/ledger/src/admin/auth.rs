//! Who asks: the admin with the master key, or a virtual key about itself.

use super::App;
use super::error::ApiError;
use crate::store::{AccountRecord, AccountRef, Store};
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use std::sync::Arc;
use tollgate_domain::key;
use tollgate_domain::time::Timestamp;

/// Proof that the request carries the master key.
pub(crate) struct Admin;

/// Whoever may read about a key.
pub(crate) enum Caller {
    /// The master key: about every key.
    Admin,
    /// A virtual key: about itself.
    Key(Box<AccountRecord>),
}

impl<S: Store> FromRequestParts<Arc<App<S>>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App<S>>) -> Result<Self, ApiError> {
        if app.master.matches(credential(&parts.headers)?) { Ok(Self) } else { Err(invalid()) }
    }
}

impl<S: Store> FromRequestParts<Arc<App<S>>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App<S>>) -> Result<Self, ApiError> {
        let secret = credential(&parts.headers)?;
        if app.master.matches(secret) {
            return Ok(Self::Admin);
        }
        let record = app.store.account(AccountRef::Key(key::digest(secret))).await?.ok_or_else(invalid)?;
        in_force(&record, app.clock.now())?;
        Ok(Self::Key(Box::new(record)))
    }
}

/// One wording for every key that does not open the door, so that guessing learns nothing.
fn invalid() -> ApiError {
    ApiError::unauthorized("token_not_found_in_db", "Authentication Error, the key is not valid here.")
}

fn in_force(record: &AccountRecord, now: Timestamp) -> Result<(), ApiError> {
    if record.spec.blocked {
        return Err(ApiError::unauthorized("auth_error", "Authentication Error, the key is blocked."));
    }
    if record.spec.expires_at.is_some_and(|expiry| expiry <= now) {
        return Err(ApiError::unauthorized("expired_key", "Authentication Error, the key has expired."));
    }
    Ok(())
}

/// The one credential of a request: `authorization: Bearer`, or `x-api-key`.
fn credential(headers: &HeaderMap) -> Result<&[u8], ApiError> {
    let bearer = headers.get_all(AUTHORIZATION).iter().map(|value| bearer(value.as_bytes()));
    let plain = headers.get_all("x-api-key").iter().map(|value| value.as_bytes().trim_ascii());
    let mut found = bearer.chain(plain).filter(|secret| !secret.is_empty());
    let first = found.next().ok_or_else(|| {
        ApiError::unauthorized(
            "auth_error",
            "Authentication Error, no key was sent: authorization: Bearer KEY.",
        )
    })?;
    if found.any(|other| other != first) {
        return Err(ApiError::unauthorized(
            "auth_error",
            "Authentication Error, two different keys were sent.",
        ));
    }
    Ok(first)
}

/// What stands after `Bearer`; nothing for any other scheme.
fn bearer(value: &[u8]) -> &[u8] {
    match value.trim_ascii().split_at_checked(7) {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") => secret.trim_ascii(),
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_one_credential() {
        let table: [(&[(&str, &str)], Option<&str>); 9] = [
            (&[("authorization", "Bearer sk-a")], Some("sk-a")),
            (&[("authorization", "bearer  sk-a ")], Some("sk-a")),
            (&[("x-api-key", "sk-a")], Some("sk-a")),
            (&[("authorization", "Bearer sk-a"), ("x-api-key", "sk-a")], Some("sk-a")),
            (&[("authorization", "Bearer sk-a"), ("x-api-key", "sk-b")], None),
            (&[("x-api-key", "sk-a"), ("x-api-key", "sk-b")], None),
            (&[("authorization", "Basic sk-a")], None),
            (&[("authorization", "Bearer")], None),
            (&[], None),
        ];
        for (lines, expected) in table {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(credential(&headers).ok(), expected.map(str::as_bytes), "{lines:?}");
        }
    }
}
