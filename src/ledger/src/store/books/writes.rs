//! What a transaction writes, gathered until it is sent: where the database is far away, a statement for each kind of row, not for
//! each row.

use crate::store::row_statement::{RowStatement, columns};
use crate::store::sql::Value;
use std::collections::HashSet;

/// A parameter that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owned {
    Null,
    Int(i64),
    Flag(bool),
    Text(String),
    Blob(Vec<u8>),
}

/// Writes that wait, in parts that are sent in order.
#[derive(Debug, Default)]
pub(super) struct Writes {
    parts: Vec<Part>,
    /// Parts before this one take no more rows: something that follows must come after all of them.
    closed: usize,
    /// Rows that parts since then write: none is written twice by them, so that their order says nothing.
    touched: HashSet<(&'static str, i64)>,
}

#[derive(Debug)]
enum Part {
    Rows(&'static RowStatement, Vec<Vec<Owned>>),
    One(&'static str, Vec<Owned>),
}

impl Owned {
    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Int(value) => Self::Int(*value),
            Value::Flag(value) => Self::Flag(*value),
            Value::Text(value) => Self::Text((*value).to_owned()),
            Value::Blob(value) => Self::Blob(value.to_vec()),
            // Lists are made from rows here, and never given.
            Value::Null | Value::Ints(_) | Value::Blobs(_) | Value::List(_) => Self::Null,
        }
    }

    fn as_value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Int(value) => Value::Int(*value),
            Self::Flag(value) => Value::Flag(*value),
            Self::Text(value) => Value::Text(value),
            Self::Blob(value) => Value::Blob(value),
        }
    }
}

impl Writes {
    /// Adds a row to those that the same statement writes.
    pub(super) fn add_row(&mut self, statement: &'static RowStatement, params: &[Value<'_>]) {
        if let Some(Value::Int(row)) = params.get(statement.key())
            && !self.touched.insert((statement.table(), *row))
        {
            self.close();
            self.touched.insert((statement.table(), *row));
        }
        let row = params.iter().map(Owned::of).collect();
        let open = self.parts.iter_mut().skip(self.closed);
        let same = open.filter_map(|part| match part {
            Part::Rows(known, rows) if std::ptr::eq(*known, statement) => Some(rows),
            _ => None,
        });
        match same.last() {
            Some(rows) => rows.push(row),
            None => self.parts.push(Part::Rows(statement, vec![row])),
        }
    }

    /// Adds a statement that comes after everything before it, and before everything after it.
    pub(super) fn add(&mut self, sql: &'static str, params: &[Value<'_>]) {
        self.parts.push(Part::One(sql, params.iter().map(Owned::of).collect()));
        self.close();
    }

    fn close(&mut self) {
        self.closed = self.parts.len();
        self.touched.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives all statements to `send`, with their parameters.
    pub(super) fn send<T>(&self, send: impl FnOnce(&[(&str, &[Value<'_>])]) -> T) -> T {
        let lists: Vec<Vec<Vec<Value<'_>>>> = self.parts.iter().map(Part::columns).collect();
        let params: Vec<Vec<Value<'_>>> =
            self.parts.iter().zip(&lists).map(|(part, lists)| part.params(lists)).collect();
        let statements: Vec<(&str, &[Value<'_>])> =
            self.parts.iter().zip(&params).map(|(part, params)| (part.sql(), params.as_slice())).collect();
        send(&statements)
    }
}

impl Part {
    /// A single row needs no lists.
    fn sql(&self) -> &str {
        match self {
            Self::Rows(statement, rows) if rows.len() == 1 => statement.one(),
            Self::Rows(statement, _) => statement.many(),
            Self::One(sql, _) => sql,
        }
    }

    fn columns(&self) -> Vec<Vec<Value<'_>>> {
        match self {
            Self::Rows(_, rows) if rows.len() > 1 => {
                columns(rows, |row| row.iter().map(Owned::as_value).collect())
            }
            _ => Vec::new(),
        }
    }

    fn params<'a>(&'a self, lists: &'a [Vec<Value<'a>>]) -> Vec<Value<'a>> {
        match self {
            Self::Rows(_, rows) if rows.len() > 1 => lists.iter().map(|list| Value::List(list)).collect(),
            Self::Rows(_, rows) => rows.iter().flatten().map(Owned::as_value).collect(),
            Self::One(_, params) => params.iter().map(Owned::as_value).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Writes;
    use crate::store::row_statement::{RowStatement, Type};
    use crate::store::sql::values;
    use std::sync::LazyLock;

    static MAKE: LazyLock<RowStatement> =
        LazyLock::new(|| RowStatement::insert("t", &[("n", Type::Int), ("a", Type::Int)]));
    static CHANGE: LazyLock<RowStatement> =
        LazyLock::new(|| RowStatement::update("t", &[("a", Type::Int), ("n", Type::Int)]));

    /// What is sent: how each statement begins, and how many parameters of how many rows.
    fn sent(writes: &Writes) -> Vec<String> {
        writes.send(|statements| {
            statements.iter().map(|(sql, params)| format!("{} {params:?}", &sql[..6])).collect()
        })
    }

    #[test]
    fn rows_of_one_statement_are_sent_together() {
        let mut writes = Writes::default();
        writes.add_row(&MAKE, &values![1_i64, 10_i64]);
        writes.add_row(&CHANGE, &values![20_i64, 7_i64]);
        writes.add_row(&MAKE, &values![2_i64, 11_i64]);
        assert_eq!(
            sent(&writes),
            ["INSERT [List([Int(1), Int(2)]), List([Int(10), Int(11)])]", "UPDATE [Int(20), Int(7)]",]
        );
    }

    #[test]
    fn a_row_that_is_written_again_is_written_after_what_came_before() {
        let mut writes = Writes::default();
        writes.add_row(&MAKE, &values![1_i64, 10_i64]);
        writes.add_row(&CHANGE, &values![20_i64, 1_i64]);
        writes.add_row(&CHANGE, &values![21_i64, 1_i64]);
        writes.add_row(&CHANGE, &values![22_i64, 2_i64]);
        assert_eq!(
            sent(&writes),
            [
                "INSERT [Int(1), Int(10)]",
                "UPDATE [Int(20), Int(1)]",
                "UPDATE [List([Int(21), Int(22)]), List([Int(1), Int(2)])]",
            ]
        );
    }

    #[test]
    fn any_other_statement_keeps_its_place() {
        let mut writes = Writes::default();
        writes.add_row(&MAKE, &values![1_i64, 10_i64]);
        writes.add("DELETE FROM t", &[]);
        writes.add_row(&MAKE, &values![2_i64, 11_i64]);
        assert_eq!(sent(&writes), ["INSERT [Int(1), Int(10)]", "DELETE []", "INSERT [Int(2), Int(11)]"]);
        writes.clear();
        assert!(writes.is_empty());
    }
}
