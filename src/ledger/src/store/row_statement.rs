//! Statements that write one row of a table, in two forms: row by row for a database in this process; and, where each statement
//! costs a message and a plan, all rows at once, each column a list.

use super::sql::Value;
use std::fmt::Write as _;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Int,
    Flag,
    Text,
    Blob,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RowStatement {
    table: &'static str,
    one: String,
    many: String,
    /// The place of the column that names the row.
    key: usize,
}

impl RowStatement {
    /// Makes rows. The first column names them.
    pub(crate) fn insert(table: &'static str, columns: &[(&'static str, Type)]) -> Self {
        let names = list(columns, |_, (name, _)| (*name).to_owned());
        let params = list(columns, |index, _| format!("${}", index + 1));
        let one = format!("INSERT INTO {table} ({names}) VALUES ({params})");
        let many = format!("INSERT INTO {table} ({names}) SELECT * FROM {}", unnest(columns));
        Self { table, one, many, key: 0 }
    }

    /// Changes rows. The last column names them.
    pub(crate) fn update(table: &'static str, columns: &[(&'static str, Type)]) -> Self {
        let key = columns.len().saturating_sub(1);
        let (changed, named) = columns.split_at(key);
        let name = named.first().map_or("", |(name, _)| name);
        let set = list(changed, |index, (column, _)| format!("{column} = ${}", index + 1));
        let one = format!("UPDATE {table} SET {set} WHERE {name} = ${}", columns.len());
        let set = list(changed, |_, (column, _)| format!("{column} = now.{column}"));
        let names = list(columns, |_, (column, _)| (*column).to_owned());
        let from = unnest(columns);
        let many = format!(
            "UPDATE {table} SET {set} FROM {from} AS now ({names}) WHERE {table}.{name} = now.{name}"
        );
        Self { table, one, many, key }
    }

    /// For one row: a parameter for each column.
    pub(crate) fn one(&self) -> &str {
        &self.one
    }

    /// For many rows: a list for each column.
    pub(crate) fn many(&self) -> &str {
        &self.many
    }

    pub(crate) const fn table(&self) -> &'static str {
        self.table
    }

    /// The place of the column that names the row.
    pub(crate) const fn key(&self) -> usize {
        self.key
    }
}

/// The columns of these rows, which have as many cells as there are columns.
pub(crate) fn columns<'a, R>(rows: &'a [R], cells: impl Fn(&'a R) -> Vec<Value<'a>>) -> Vec<Vec<Value<'a>>> {
    let mut columns: Vec<Vec<Value<'a>>> = Vec::new();
    for row in rows {
        for (index, cell) in cells(row).into_iter().enumerate() {
            if columns.len() == index {
                columns.push(Vec::with_capacity(rows.len()));
            }
            columns[index].push(cell);
        }
    }
    columns
}

fn unnest(columns: &[(&'static str, Type)]) -> String {
    let lists = list(columns, |index, (_, of)| {
        let of = match of {
            Type::Int => "bigint",
            Type::Flag => "boolean",
            Type::Text => "text",
            Type::Blob => "bytea",
        };
        format!("${}::{of}[]", index + 1)
    });
    format!("unnest({lists})")
}

fn list<T>(items: &[T], text: impl Fn(usize, &T) -> String) -> String {
    let mut all = String::new();
    for (index, item) in items.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(all, "{comma}{}", text(index, item));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{RowStatement, Type, columns};
    use crate::store::sql::{Value, values};

    #[test]
    fn both_forms_name_the_same_columns() {
        let insert = RowStatement::insert("t", &[("n", Type::Int), ("\"user\"", Type::Text)]);
        assert_eq!(insert.one(), r#"INSERT INTO t (n, "user") VALUES ($1, $2)"#);
        assert_eq!(
            insert.many(),
            r#"INSERT INTO t (n, "user") SELECT * FROM unnest($1::bigint[], $2::text[])"#
        );
        assert_eq!(insert.key(), 0);
        let update = RowStatement::update("t", &[("a", Type::Flag), ("b", Type::Blob), ("n", Type::Int)]);
        assert_eq!(update.one(), "UPDATE t SET a = $1, b = $2 WHERE n = $3");
        assert_eq!(
            update.many(),
            "UPDATE t SET a = now.a, b = now.b FROM unnest($1::boolean[], $2::bytea[], $3::bigint[]) AS now (a, b, n) \
             WHERE t.n = now.n"
        );
        assert_eq!(update.key(), 2);
    }

    #[test]
    fn rows_become_columns() {
        let rows = [(1_i64, Some("a")), (2, None)];
        let found = columns(&rows, |(number, text)| values![*number, *text].to_vec());
        assert_eq!(found, [vec![Value::Int(1), Value::Int(2)], vec![Value::Text("a"), Value::Null],]);
    }
}
