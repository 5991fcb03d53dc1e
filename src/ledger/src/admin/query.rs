//! The parameters of a query, each taken by name; what nobody took is refused, because a filter that is not
//! understood must not be mistaken for one that matched everything.

use super::error::ApiError;
use crate::store::Page;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use std::collections::BTreeMap;
use std::str::FromStr;

/// The parameters of a query. An empty value counts as none.
pub(crate) struct Params(BTreeMap<String, String>);

impl<T: Sync> FromRequestParts<T> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| ApiError::bad("The query cannot be read."))?;
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            if params.contains_key(&name) {
                return Err(ApiError::field(&name, "is given twice"));
            }
            params.insert(name, value);
        }
        params.retain(|_, value| !value.is_empty());
        Ok(Self(params))
    }
}

impl Params {
    /// The value of a parameter.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// The value of a parameter that must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.text(name).ok_or_else(|| ApiError::field(name, "is missing"))
    }

    /// The value of a parameter, read by `read`.
    pub(crate) fn read<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ApiError> {
        self.text(name).map(|text| read(&text).map_err(|why| ApiError::field(name, why))).transpose()
    }

    /// `true` or `false`; absent is false.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        let flag = self.read(name, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("must be true or false"),
        })?;
        Ok(flag.unwrap_or(false))
    }

    /// `page`, counted from 1, of `size` entries: at most `size_max`, `size_default` unless told. Returns the page's
    /// number beside it.
    pub(crate) fn page(&mut self, size_default: u64, size_max: u64) -> Result<(u64, Page), ApiError> {
        let number = self.read("page", u64::from_str).map_err(|_| page_error())?.unwrap_or(1);
        let size_error = || ApiError::field("size", format!("must be a whole number from 1 to {size_max}"));
        let limit = self.read("size", u64::from_str).map_err(|_| size_error())?.unwrap_or(size_default);
        if !(1..=size_max).contains(&limit) {
            return Err(size_error());
        }
        let offset = number.checked_sub(1).and_then(|before| before.checked_mul(limit));
        // A store counts rows in signed integers.
        let offset = offset.filter(|offset| i64::try_from(*offset).is_ok()).ok_or_else(page_error)?;
        Ok((number, Page { offset, limit }))
    }

    /// Refuses what is left.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.0.into_keys().next() {
            Some(name) => Err(ApiError::field(&name, "is not a parameter that is served here")),
            None => Ok(()),
        }
    }
}

fn page_error() -> ApiError {
    ApiError::field("page", "must be a whole number, at least 1")
}
