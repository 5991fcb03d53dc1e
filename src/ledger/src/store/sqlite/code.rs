//! How values stand in columns.

use crate::store::{HoldState, StoreError};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Row, RowIndex};
use std::str::FromStr;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;

/// Why a message was not carried out.
#[derive(Debug)]
pub(super) enum Failure {
    /// It cannot be, and has changed nothing.
    Refused(StoreError),
    /// The file failed, and with it everything that shares the transaction.
    File(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// A stored value that no release ever wrote.
pub(super) fn corrupt(column: &'static str) -> rusqlite::Error {
    let what = std::io::Error::other(format!("the books hold no valid {column}"));
    rusqlite::Error::FromSqlConversionFailure(0, Type::Null, Box::new(what))
}

pub(super) fn parsed<T: FromStr>(column: &'static str, text: &str) -> rusqlite::Result<T> {
    text.parse().map_err(|_| corrupt(column))
}

pub(super) fn money(row: &Row<'_>, index: impl RowIndex) -> rusqlite::Result<Nanodollars> {
    row.get(index).map(Nanodollars::new)
}

pub(super) fn instant(row: &Row<'_>, index: impl RowIndex) -> rusqlite::Result<Timestamp> {
    row.get(index).map(Timestamp::new)
}

pub(super) fn maybe_instant(row: &Row<'_>, index: impl RowIndex) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(Timestamp::new))
}

pub(super) fn digest(row: &Row<'_>, index: impl RowIndex) -> rusqlite::Result<KeyDigest> {
    row.get(index).map(KeyDigest::new)
}

/// Counts and limits as SQLite has them. Beyond `i64` nothing is meant.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> rusqlite::Result<u64> {
    u64::try_from(value).map_err(|_| FromSqlError::OutOfRange(value).into())
}

pub(super) const fn state_code(state: HoldState) -> i64 {
    match state {
        HoldState::Pending => 0,
        HoldState::Settled => 1,
        HoldState::Voided => 2,
        HoldState::Expired => 3,
    }
}

pub(super) fn state(code: i64) -> rusqlite::Result<HoldState> {
    [HoldState::Pending, HoldState::Settled, HoldState::Voided, HoldState::Expired]
        .into_iter()
        .find(|state| state_code(*state) == code)
        .ok_or(corrupt("state of a hold"))
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

pub(super) fn unpack_ids(bytes: &[u8]) -> rusqlite::Result<Vec<i64>> {
    let ids = unpack(bytes).ok_or(corrupt("list of balances"))?;
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

pub(super) fn unpack_bounds(bytes: &[u8]) -> rusqlite::Result<Bounds> {
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
pub(super) fn usage(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Usage>> {
    if row.get_ref(first)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    let class = |offset: usize| row.get::<_, i64>(first + offset).and_then(unsigned);
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

pub(super) fn list<T: FromStr>(column: &'static str, json: &str) -> rusqlite::Result<Vec<T>> {
    if json == "[]" {
        return Ok(Vec::new());
    }
    let texts: Vec<String> = serde_json::from_str(json).map_err(|_| corrupt(column))?;
    texts.iter().map(|text| parsed(column, text)).collect()
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
    fn half_a_number_is_none() {
        assert_eq!(unpack(&[0x80]), None);
        assert_eq!(unpack(&[0xFF; 11]), None);
        assert_eq!(unpack(&[]), Some(vec![]));
    }
}
