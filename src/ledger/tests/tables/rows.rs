//! Rows of the books, read without the ledger, out of a file or a database.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// A value; a flag is a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

pub(crate) type Rows = Vec<Vec<Cell>>;

#[allow(dead_code, reason = "not every suite reads every kind")]
impl Cell {
    pub(crate) fn int(&self) -> i64 {
        self.maybe_int().unwrap()
    }

    pub(crate) fn maybe_int(&self) -> Option<i64> {
        match self {
            Self::Null => None,
            Self::Int(value) => Some(*value),
            other => panic!("not a number: {other:?}"),
        }
    }

    pub(crate) fn text(&self) -> &str {
        self.maybe_text().unwrap()
    }

    pub(crate) fn maybe_text(&self) -> Option<&str> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text),
            other => panic!("not a text: {other:?}"),
        }
    }

    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.as_bytes()),
            Self::Blob(bytes) => Some(bytes),
            other => panic!("not bytes: {other:?}"),
        }
    }

    /// A list of numbers, each in LEB128.
    pub(crate) fn numbers(&self) -> Vec<i64> {
        let Self::Blob(bytes) = self else { panic!("not a list: {self:?}") };
        let (mut numbers, mut number, mut shift) = (Vec::new(), 0, 0);
        for byte in bytes {
            number |= i64::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                numbers.push(number);
                (number, shift) = (0, 0);
            }
        }
        numbers
    }
}

pub(crate) fn of_file(file: &Connection, sql: &str) -> Rows {
    let mut statement = file.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let cell = |index| match row.get_ref(index).unwrap() {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(value) => Cell::Int(value),
            ValueRef::Text(text) => Cell::Text(String::from_utf8(text.to_vec()).unwrap()),
            ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
            ValueRef::Real(_) => panic!("a float in the books"),
        };
        all.push((0..columns).map(cell).collect());
    }
    all
}

pub(crate) async fn of_database(client: &Client, sql: &str) -> Rows {
    let cell = |row: &tokio_postgres::Row, index: usize| match *row.columns()[index].type_() {
        Type::INT8 => row.get::<_, Option<i64>>(index).map_or(Cell::Null, Cell::Int),
        Type::BOOL => row.get::<_, Option<bool>>(index).map_or(Cell::Null, |flag| Cell::Int(flag.into())),
        Type::TEXT => row.get::<_, Option<String>>(index).map_or(Cell::Null, Cell::Text),
        Type::BYTEA => row.get::<_, Option<Vec<u8>>>(index).map_or(Cell::Null, Cell::Blob),
        ref other => panic!("a column of type {other}"),
    };
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (0..row.len()).map(|index| cell(row, index)).collect()).collect()
}
