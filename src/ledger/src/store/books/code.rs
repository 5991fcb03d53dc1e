//! How values stand in columns.

use crate::store::sql::{self, Row, SqlError, SqlErrorKind};
use crate::store::{HoldState, StoreError};
use std::collections::BTreeMap;
use std::str::FromStr;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::session::SessionLimits;
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;

/// Why a message was not carried out.
#[derive(Debug)]
pub(super) enum Failure {
    /// It cannot be, and has changed nothing.
    Refused(StoreError),
    /// The database failed, and with it everything that shares the transaction.
    Database(SqlError),
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// A stored value that no release ever wrote.
pub(crate) fn corrupt(column: &str) -> SqlError {
    SqlError { kind: SqlErrorKind::Lasting, why: format!("the books hold no valid {column}") }
}

pub(super) fn parsed<T: FromStr>(column: &'static str, text: &str) -> sql::Result<T> {
    text.parse().map_err(|_| corrupt(column))
}

pub(super) fn money(row: &Row, index: usize) -> sql::Result<Nanodollars> {
    row.int(index).map(Nanodollars::new)
}

pub(super) fn instant(row: &Row, index: usize) -> sql::Result<Timestamp> {
    row.int(index).map(Timestamp::new)
}

pub(super) fn maybe_instant(row: &Row, index: usize) -> sql::Result<Option<Timestamp>> {
    Ok(row.maybe_int(index)?.map(Timestamp::new))
}

pub(super) fn digest(row: &Row, index: usize) -> sql::Result<KeyDigest> {
    fixed("digest", row.blob(index)?).map(KeyDigest::new)
}

/// Bytes of a known length.
pub(super) fn fixed<const N: usize>(column: &'static str, bytes: &[u8]) -> sql::Result<[u8; N]> {
    bytes.try_into().map_err(|_| corrupt(column))
}

/// Counts and limits as databases have them. Beyond `i64` nothing is meant.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> sql::Result<u64> {
    u64::try_from(value).map_err(|_| corrupt("count"))
}
pub(super) const fn state_code(state: HoldState) -> i64 {
    match state {
        HoldState::Pending => 0,
        HoldState::Settled => 1,
        HoldState::Voided => 2,
        HoldState::Expired => 3,
    }
}

pub(super) fn state(code: i64) -> sql::Result<HoldState> {
    [HoldState::Pending, HoldState::Settled, HoldState::Voided, HoldState::Expired]
        .into_iter()
        .find(|state| state_code(*state) == code)
        .ok_or_else(|| corrupt("state of a hold"))
}

/// Numbers in a row, each in LEB128: lists of row ids and of tokens stay a few bytes long.
pub(super) fn pack(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    for mut number in numbers {
        while number >= 0x80 {
            bytes.push((number & 0x7F) as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
    }
    bytes
}

/// Undoes [`pack`]. `None` where the bytes end in the middle of a number or hold one beyond `u64`.
pub(super) fn unpack(bytes: &[u8]) -> Option<Vec<u64>> {
    let mut numbers = Vec::with_capacity(bytes.len());
    let (mut number, mut shift) = (0_u64, 0_u32);
    for byte in bytes {
        let bits = u64::from(byte & 0x7F);
        if shift > 63 || (bits << shift) >> shift != bits {
            return None;
        }
        number |= bits << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(numbers)
}

pub(super) fn pack_ids(ids: &[i64]) -> Vec<u8> {
    pack(ids.iter().map(|id| id.cast_unsigned()))
}

pub(super) fn unpack_ids(bytes: &[u8]) -> sql::Result<Vec<i64>> {
    let ids = unpack(bytes).ok_or_else(|| corrupt("list of balances"))?;
    Ok(ids.into_iter().map(u64::cast_signed).collect())
}

pub(super) fn pack_bounds(bounds: &Bounds) -> Vec<u8> {
    pack([
        bounds.input,
        bounds.input_per_call,
        bounds.cache_write_5m,
        bounds.cache_write_1h,
        bounds.output,
        bounds.web_searches,
    ])
}

pub(super) fn unpack_bounds(bytes: &[u8]) -> sql::Result<Bounds> {
    match unpack(bytes).as_deref() {
        Some(&[input, input_per_call, cache_write_5m, cache_write_1h, output, web_searches]) => {
            Ok(Bounds { input, input_per_call, cache_write_5m, cache_write_1h, output, web_searches })
        }
        _ => Err(corrupt("bounds")),
    }
}

/// The classes of usage, in the order of their columns.
pub(super) fn classes(usage: &Usage) -> [u64; 6] {
    [
        usage.input,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.output,
        usage.web_searches,
    ]
}

/// The usage in six columns from `first` on; all of them are set, or none is.
pub(super) fn usage(row: &Row, first: usize) -> sql::Result<Option<Usage>> {
    if row.is_null(first) {
        return Ok(None);
    }
    let class = |offset: usize| row.int(first + offset).and_then(unsigned);
    Ok(Some(Usage {
        input: class(0)?,
        cache_read: class(1)?,
        cache_write_5m: class(2)?,
        cache_write_1h: class(3)?,
        output: class(4)?,
        web_searches: class(5)?,
    }))
}

/// Texts as a JSON list.
pub(super) fn json_list<T: AsRef<str>>(texts: &[T]) -> String {
    let quoted: Vec<String> =
        texts.iter().map(|text| serde_json::Value::from(text.as_ref()).to_string()).collect();
    format!("[{}]", quoted.join(","))
}

pub(super) fn list<T: FromStr>(column: &'static str, json: &str) -> sql::Result<Vec<T>> {
    if json == "[]" {
        return Ok(Vec::new());
    }
    let texts: Vec<String> = serde_json::from_str(json).map_err(|_| corrupt(column))?;
    texts.iter().map(|text| parsed(column, text)).collect()
}

/// Limits of sessions as a JSON object of patterns and nano-dollars.
pub(super) fn session_limits_json(limits: &SessionLimits) -> String {
    let members = limits.iter().map(|(pattern, amount)| (pattern.to_string(), amount.get().into()));
    serde_json::Value::Object(members.collect()).to_string()
}

pub(super) fn session_limits(json: &str) -> sql::Result<SessionLimits> {
    if json == "{}" {
        return Ok(SessionLimits::default());
    }
    const COLUMN: &str = "session_limits";
    let members: BTreeMap<String, i64> = serde_json::from_str(json).map_err(|_| corrupt(COLUMN))?;
    let limit = |(pattern, amount): (String, i64)| Ok((parsed(COLUMN, &pattern)?, Nanodollars::new(amount)));
    members.into_iter().map(limit).collect()
}

/// Parts in percent.
pub(super) fn thresholds(json: &str) -> sql::Result<Vec<u16>> {
    serde_json::from_str(json).map_err(|_| corrupt("thresholds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_survive_packing(numbers: Vec<u64>) {
            prop_assert_eq!(unpack(&pack(numbers.iter().copied())), Some(numbers));
        }

        #[test]
        fn no_bytes_break_the_unpacking(bytes: Vec<u8>) {
            let _ = unpack(&bytes);
        }
    }

    #[test]
    fn limits_of_sessions_survive_their_text() {
        let limits = [("ci-*", 5), ("a\"b", i64::MAX)];
        let limits = limits.map(|(pattern, amount)| (pattern.parse().unwrap(), Nanodollars::new(amount)));
        let limits: SessionLimits = limits.into_iter().collect();
        assert_eq!(session_limits(&session_limits_json(&limits)).unwrap(), limits);
        assert_eq!(session_limits_json(&SessionLimits::default()), "{}");
        for corrupt in ["", "[]", r#"{"ci-*": 0.5}"#, r#"{"ci-*": "5"}"#, r#"{"": 5}"#, r#"{"c i": 5}"#] {
            assert!(session_limits(corrupt).is_err(), "{corrupt}");
        }
    }

    #[test]
    fn half_a_number_is_none() {
        assert_eq!(unpack(&[0x80]), None);
        assert_eq!(unpack(&[0xFF; 11]), None);
        assert_eq!(unpack(&[]), Some(vec![]));
    }
}
