//! What goes in comes out, in the order in which it was sent.

use super::Database;
use crate::store::sql::{Cell, Row, Sql, SqlErrorKind, Value, values};

#[test]
fn each_type_comes_back_as_it_went() {
    let database = Database::new(
        "CREATE TABLE v (n int, i8 bigint, i4 int, i2 smallint, f boolean, t text, c varchar(9), b bytea)",
    );
    let sql = database.open();
    let insert = "INSERT INTO v VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let blob: &[u8] = &[0, 1, 255];
    let rows = [
        values![1_i64, i64::MIN, i64::from(i32::MAX), -1_i64, true, "ä'\"\\", "", blob],
        values![2_i64, i64::MAX, 0_i64, i64::from(i16::MIN), false, "", "x", &[]],
        [
            Value::Int(3),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
        ],
    ];
    for row in &rows {
        assert_eq!(sql.execute(insert, row).unwrap(), 1);
    }
    let found = sql.query("SELECT n, i8, i4, i2, f, t, c, b FROM v ORDER BY n", &[]).unwrap();
    let wanted = rows.map(|row| Row(row.iter().map(cell).collect()));
    assert_eq!(found, wanted);

    let among = sql.query("SELECT n FROM v WHERE i8 = ANY ($1)", &[Value::Ints(&[i64::MAX, 7])]).unwrap();
    assert_eq!(among, [Row(vec![Cell::Int(2)])]);
    let among = sql.query("SELECT n FROM v WHERE b = ANY ($1)", &[Value::Blobs(&[&[9], blob])]).unwrap();
    assert_eq!(among, [Row(vec![Cell::Int(1)])]);
}

fn cell(value: &Value<'_>) -> Cell {
    match *value {
        Value::Int(value) => Cell::Int(value),
        Value::Flag(value) => Cell::Flag(value),
        Value::Text(value) => Cell::Text(value.to_owned()),
        Value::Blob(value) => Cell::Blob(value.to_owned()),
        _ => Cell::Null,
    }
}

#[test]
fn a_sum_is_a_number_or_an_error() {
    let database = Database::new("");
    let sql = database.open();
    let whole = [
        "0",
        "1",
        "-1",
        "10000",
        "-10000",
        "12340000",
        "100000001",
        "9223372036854775807",
        "-9223372036854775808",
        "1000000000000000000",
    ];
    for number in whole {
        let found =
            sql.query(&format!("SELECT sum(n) FROM (VALUES ({number}::numeric)) AS t (n)"), &[]).unwrap();
        assert_eq!(found[0].int(0).unwrap().to_string(), number);
    }
    for number in ["0.5", "9223372036854775808", "1e30", "0.00001", "'NaN'", "10000.0001"] {
        let error = sql.query(&format!("SELECT {number}::numeric"), &[]).unwrap_err();
        assert_eq!(error.kind, SqlErrorKind::Other, "{number}: {error}");
    }
    assert_eq!(sql.query("SELECT 1.00::numeric", &[]).unwrap()[0].int(0).unwrap(), 1);
}

#[test]
fn a_value_that_does_not_fit_is_refused_before_it_is_sent() {
    let database = Database::new("CREATE TABLE v (i4 int, t text)");
    let sql = database.open();
    let cases = [
        ("INSERT INTO v (i4) VALUES ($1)", values![i64::MAX].to_vec()),
        ("INSERT INTO v (i4) VALUES ($1)", values!["1"].to_vec()),
        ("INSERT INTO v (t) VALUES ($1)", values![1_i64].to_vec()),
        ("INSERT INTO v (t) VALUES ($1)", vec![]),
        ("SELECT now()", vec![]),
    ];
    for (statement, params) in cases {
        let error = sql.query(statement, &params).unwrap_err();
        assert_eq!(error.kind, SqlErrorKind::Other, "{statement}: {error}");
    }
    assert_eq!(database.sql("SELECT count(*) FROM v"), "0");
}

#[test]
fn many_statements_at_once_are_run_one_after_another() {
    let database = Database::new(
        "CREATE TABLE log (at bigserial, n bigint); CREATE TABLE sum (n bigint); INSERT INTO sum VALUES (0)",
    );
    let sql = database.open();
    // More than any buffer of the way holds.
    let numbers = 0..20_000_i64;
    let each: Vec<Vec<Value<'_>>> = numbers.clone().map(|number| values![number].to_vec()).collect();
    sql.begin().unwrap();
    sql.execute_each("INSERT INTO log (n) VALUES ($1)", &each).unwrap();
    sql.commit().unwrap();
    let rows = sql.query("SELECT n FROM log ORDER BY at", &[]).unwrap();
    assert!(rows.iter().map(|row| row.int(0).unwrap()).eq(numbers));

    let add = "UPDATE sum SET n = n * 2 + $1 RETURNING n";
    let read = "SELECT n FROM sum";
    let (one, two) = (values![1_i64], values![2_i64]);
    let all: &[(&str, &[Value<'_>])] = &[(add, &one), (read, &[]), (add, &two), (read, &[]), (add, &one)];
    for start in [[1, 1, 4, 4, 9], [19, 19, 40, 40, 81]] {
        let answers = sql.query_all(all).unwrap();
        let found: Vec<i64> = answers.iter().map(|rows| rows[0].int(0).unwrap()).collect();
        assert_eq!(found, start);
    }
}

#[test]
fn what_follows_a_statement_that_was_refused_is_not_sent() {
    let database = Database::new("CREATE TABLE v (n int)");
    let sql = database.open();
    let each = [values![1_i64].to_vec(), values!["x"].to_vec(), values![3_i64].to_vec()];
    assert_eq!(sql.execute_each("INSERT INTO v VALUES ($1)", &each).unwrap_err().kind, SqlErrorKind::Other);
    // Without a transaction, so that one can see.
    assert_eq!(database.sql("SELECT n FROM v"), "1");
}

#[test]
fn a_reader_sees_one_moment_and_cannot_write() {
    let database = Database::new("CREATE TABLE v (n int); INSERT INTO v VALUES (1)");
    let (reader, writer) = (database.open(), database.open());
    let count = |sql: &dyn Sql| sql.query("SELECT count(*) FROM v", &[]).unwrap()[0].int(0).unwrap();
    reader.begin_read().unwrap();
    assert_eq!(count(&reader), 1);
    writer.execute("INSERT INTO v VALUES (2)", &[]).unwrap();
    assert_eq!(count(&reader), 1);
    reader.commit().unwrap();
    reader.begin_read().unwrap();
    assert_eq!(count(&reader), 2);
    assert!(reader.execute("INSERT INTO v VALUES (3)", &[]).is_err());
    reader.rollback().unwrap();
    assert_eq!(count(&reader), 2);
    // A writer sees what others have committed since.
    writer.begin().unwrap();
    assert_eq!(count(&writer), 2);
    database.sql("INSERT INTO v VALUES (4)");
    assert_eq!(count(&writer), 3);
    writer.rollback().unwrap();
}

#[test]
fn savepoints_undo_what_failed_since() {
    let database = Database::new("CREATE TABLE v (n int PRIMARY KEY)");
    let sql = database.open();
    let insert = |number: i64| sql.execute("INSERT INTO v VALUES ($1)", &values![number]);
    sql.begin().unwrap();
    insert(1).unwrap();
    sql.savepoint().unwrap();
    insert(2).unwrap();
    insert(1).unwrap_err();
    assert_eq!(insert(3).unwrap_err().kind, SqlErrorKind::Contended, "until it is undone");
    sql.release(true).unwrap();
    sql.savepoint().unwrap();
    insert(4).unwrap();
    sql.release(false).unwrap();
    sql.savepoint().unwrap();
    insert(5).unwrap();
    sql.release(true).unwrap();
    sql.commit().unwrap();
    assert_eq!(database.sql("SELECT n FROM v ORDER BY n"), "1\n4");
}

#[test]
fn the_clock_is_the_servers() {
    let database = Database::new("");
    let sql = database.open();
    let server = || {
        database.sql("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint").parse().unwrap()
    };
    let before: i64 = server();
    let found = sql.clock_ms().unwrap().unwrap();
    let after: i64 = server();
    assert!((before..=after).contains(&found), "{before} {found} {after}");
    assert!(sql.is_shared());
}
