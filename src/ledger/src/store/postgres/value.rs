//! Values on their way to PostgreSQL and back: each parameter is encoded as the type that the statement gives it.

use super::super::sql::{Cell, Value};
use std::error::Error;
use std::fmt;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type};

type Encoded = Result<IsNull, Box<dyn Error + Sync + Send>>;

/// A parameter.
pub(super) struct Parameter<'a>(pub(super) Value<'a>);

/// tokio-postgres would log what a key or an account is called.
impl fmt::Debug for Parameter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&self.0))
    }
}

/// A value that does not fit the statement.
#[derive(Debug, thiserror::Error)]
#[error("{value} where the statement takes {wanted}")]
struct Unfitting {
    value: &'static str,
    wanted: String,
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, wanted: &Type, out: &mut BytesMut) -> Encoded {
        let unfitting = || Unfitting { value: name_of(&self.0), wanted: wanted.to_string() };
        match (self.0, wanted.clone()) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Int(value), Type::INT8) => value.to_sql(wanted, out),
            (Value::Int(value), Type::INT4) => i32::try_from(value)?.to_sql(wanted, out),
            (Value::Int(value), Type::INT2) => i16::try_from(value)?.to_sql(wanted, out),
            (Value::Flag(value), Type::BOOL) => value.to_sql(wanted, out),
            (Value::Text(value), _) if is_text(wanted) => value.to_sql(wanted, out),
            (Value::Blob(value), Type::BYTEA) => value.to_sql(wanted, out),
            (Value::Ints(values), Type::INT8_ARRAY) => values.to_sql(wanted, out),
            (Value::Blobs(values), Type::BYTEA_ARRAY) => values.to_sql(wanted, out),
            (Value::List(values), _) if matches!(wanted.kind(), Kind::Array(_)) => {
                values.iter().map(|value| Parameter(*value)).collect::<Vec<_>>().to_sql(wanted, out)
            }
            _ => Err(Box::new(unfitting())),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, wanted: &Type, out: &mut BytesMut) -> Encoded {
        self.to_sql(wanted, out)
    }
}

fn name_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Int(_) => "a number",
        Value::Flag(_) => "a flag",
        Value::Text(_) => "a text",
        Value::Blob(_) => "bytes",
        Value::Ints(_) => "a list of numbers",
        Value::Blobs(_) => "a list of bytes",
        Value::List(_) => "a list",
    }
}

fn is_text(of: &Type) -> bool {
    matches!(*of, Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN)
}

/// A column.
pub(super) struct Column(pub(super) Cell);

impl<'a> FromSql<'a> for Column {
    fn from_sql(found: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let cell = match *found {
            Type::INT8 => Cell::Int(i64::from_sql(found, raw)?),
            Type::INT4 => Cell::Int(i32::from_sql(found, raw)?.into()),
            Type::INT2 => Cell::Int(i16::from_sql(found, raw)?.into()),
            Type::NUMERIC => Cell::Int(whole(raw).ok_or("a sum that is not a whole number of 64 bits")?),
            Type::BOOL => Cell::Flag(bool::from_sql(found, raw)?),
            Type::BYTEA => Cell::Blob(<&[u8]>::from_sql(found, raw)?.to_vec()),
            _ if is_text(found) => Cell::Text(<&str>::from_sql(found, raw)?.to_owned()),
            _ => return Err(format!("a column of type {found}, which nothing here reads").into()),
        };
        Ok(Self(cell))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Cell::Null))
    }

    // What cannot be read is refused above, with a reason.
    fn accepts(of: &Type) -> bool {
        matches!(of.kind(), Kind::Simple | Kind::Pseudo)
    }
}

/// `sum` of 64-bit numbers is a decimal number of any size: groups of four digits, the first of which counts
/// 10,000 ^ `weight`.
fn whole(raw: &[u8]) -> Option<i64> {
    let mut words =
        raw.chunks_exact(2).map(|word| word.try_into().map(u16::from_be_bytes).unwrap_or_default());
    let groups = words.next()?;
    let weight = i32::from(words.next()?.cast_signed());
    let sign = words.next()?;
    let _digits_shown = words.next()?;
    let mut value = 0_i128;
    for (power, group) in
        (0..=weight).rev().zip(words.by_ref().take(groups.into()).chain(std::iter::repeat(0)))
    {
        // 64 bits have five groups.
        if power > 4 {
            return None;
        }
        value = value * 10_000 + i128::from(group);
    }
    // Groups that are left stand behind the point.
    let is_whole = i32::from(groups) <= weight + 1;
    match sign {
        0x0000 if is_whole => i64::try_from(value).ok(),
        0x4000 if is_whole => i64::try_from(-value).ok(),
        _ => None,
    }
}
