//! What fails is never taken for done, and says what may be done about it.

use super::{Database, config};
use crate::store::postgres::{Patience, Postgres};
use crate::store::sql::{Sql, SqlErrorKind, values};
use std::sync::Barrier;

const TABLE: &str =
    "CREATE TABLE v (n bigint PRIMARY KEY, x bigint CHECK (x < 100)); INSERT INTO v VALUES (1, 0), (2, 0)";

fn pid(sql: &Postgres) -> i64 {
    sql.query("SELECT pg_backend_pid()", &[]).unwrap()[0].int(0).unwrap()
}

fn add(sql: &Postgres, row: i64) -> crate::store::sql::Result<u64> {
    sql.execute("UPDATE v SET x = x + 1 WHERE n = $1", &values![row])
}

#[test]
fn a_transaction_of_which_a_statement_failed_is_not_committed() {
    let database = Database::new(TABLE);
    let sql = database.open();
    let cases = [
        ("INSERT INTO v VALUES (1, 0)", SqlErrorKind::Contended),
        ("UPDATE v SET x = 100 WHERE n = 1", SqlErrorKind::Other),
        ("SELECT * FROM nothing", SqlErrorKind::Other),
        ("SELECT now()", SqlErrorKind::Other),
        ("SELECT $1::bigint", SqlErrorKind::Other),
        ("SELECT pg_cancel_backend(pg_backend_pid())", SqlErrorKind::Other),
    ];
    for (statement, kind) in cases {
        sql.begin().unwrap();
        add(&sql, 1).unwrap();
        let error = sql.query(statement, &[]).unwrap_err();
        assert_eq!(error.kind, kind, "{statement}: {error}");
        assert_eq!(sql.commit().unwrap_err().kind, kind, "{statement}");
        assert_eq!(sql.commit().unwrap_err().kind, SqlErrorKind::Other, "nothing is open any more");
        assert_eq!(database.sql("SELECT sum(x) FROM v"), "0", "{statement}");
    }
    // One among many that were sent at once.
    sql.begin().unwrap();
    let each = [3, 1, 4].map(|number| values![number].to_vec());
    let error = sql.execute_each("INSERT INTO v VALUES ($1, 0)", &each).unwrap_err();
    assert_eq!(error.kind, SqlErrorKind::Contended, "{error}");
    assert!(sql.commit().is_err());
    sql.begin().unwrap();
    add(&sql, 1).unwrap();
    sql.commit().unwrap();
    assert_eq!(database.sql("SELECT count(*), sum(x) FROM v"), "2|1");
}

#[test]
fn a_warning_while_committing_is_no_success() {
    let database = Database::new(TABLE);
    let sql = database.open();
    sql.begin().unwrap();
    add(&sql, 1).unwrap();
    // Behind the driver's back: PostgreSQL then answers COMMIT with a warning, and with success.
    sql.execute("ROLLBACK", &[]).unwrap();
    let error = sql.commit().unwrap_err();
    assert_eq!(error.kind, SqlErrorKind::Unavailable, "{error}");
    sql.begin().unwrap();
    sql.commit().unwrap();
}

#[test]
fn of_two_in_a_deadlock_one_may_try_again() {
    let database = Database::new(TABLE);
    let met = Barrier::new(2);
    let run = |first: i64, second: i64| {
        let sql = database.open();
        sql.begin().unwrap();
        add(&sql, first).unwrap();
        met.wait();
        let outcome = add(&sql, second).and_then(|_| sql.commit());
        sql.rollback().unwrap();
        outcome
    };
    let outcomes = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(2, 1));
        [run(1, 2), other.join().unwrap()]
    });
    let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].kind, SqlErrorKind::Contended, "{}", failed[0]);
    assert_eq!(database.sql("SELECT sum(x) FROM v"), "2");
}

#[test]
fn of_two_that_change_what_both_have_read_one_may_try_again() {
    let database = Database::new(TABLE);
    let sql = database.open();
    sql.execute("BEGIN ISOLATION LEVEL REPEATABLE READ", &[]).unwrap();
    sql.query("SELECT * FROM v", &[]).unwrap();
    database.sql("UPDATE v SET x = 7");
    assert_eq!(add(&sql, 1).unwrap_err().kind, SqlErrorKind::Contended);
    sql.execute("ROLLBACK", &[]).unwrap();
}

#[test]
fn a_row_that_is_held_for_too_long_may_be_tried_again() {
    let database = Database::new(TABLE);
    let (holder, sql) = (database.open(), database.open());
    holder.begin().unwrap();
    add(&holder, 1).unwrap();
    sql.execute("SET lock_timeout = 1", &[]).unwrap();
    sql.begin().unwrap();
    assert_eq!(add(&sql, 1).unwrap_err().kind, SqlErrorKind::Contended);
    sql.rollback().unwrap();
    holder.rollback().unwrap();
}

#[test]
fn a_connection_that_breaks_in_a_transaction_takes_it_along() {
    let database = Database::new(TABLE);
    let sql = database.open();
    sql.begin().unwrap();
    add(&sql, 1).unwrap();
    let former = pid(&sql);
    database.sql(&format!("SELECT pg_terminate_backend({former}, 60000)"));
    assert_eq!(add(&sql, 2).unwrap_err().kind, SqlErrorKind::Unavailable);
    // Not on another connection, where it would be a transaction of its own.
    assert_eq!(add(&sql, 2).unwrap_err().kind, SqlErrorKind::Unavailable);
    assert_eq!(sql.release(true).unwrap_err().kind, SqlErrorKind::Unavailable);
    assert_eq!(sql.commit().unwrap_err().kind, SqlErrorKind::Unavailable);
    sql.rollback().unwrap();
    assert_eq!(database.sql("SELECT sum(x) FROM v"), "0");

    sql.begin().unwrap();
    add(&sql, 1).unwrap();
    sql.commit().unwrap();
    assert_ne!(pid(&sql), former);
    assert_eq!(database.sql("SELECT sum(x) FROM v"), "1");
}

#[test]
fn a_commit_on_a_broken_connection_is_no_success() {
    let database = Database::new(TABLE);
    let sql = database.open();
    sql.begin().unwrap();
    add(&sql, 1).unwrap();
    database.sql(&format!("SELECT pg_terminate_backend({}, 60000)", pid(&sql)));
    let error = sql.commit().unwrap_err();
    assert_eq!(error.kind, SqlErrorKind::Unavailable);
    assert!(error.why.starts_with("nobody knows whether it was committed"), "{error}");
}

#[test]
fn a_connection_that_broke_while_nobody_used_it_is_made_anew() {
    let database = Database::new(TABLE);
    let sql = database.open();
    for _ in 0..3 {
        database.sql(&format!("SELECT pg_terminate_backend({}, 60000)", pid(&sql)));
        sql.begin().unwrap();
        add(&sql, 1).unwrap();
        sql.commit().unwrap();
    }
    assert_eq!(database.sql("SELECT sum(x) FROM v"), "3");
    let settings = "SELECT current_setting('lock_timeout'), current_setting('synchronous_commit')";
    let row = &sql.query(settings, &[]).unwrap()[0];
    assert_eq!((row.text(0).unwrap(), row.text(1).unwrap()), ("2s", "on"));
}

#[test]
fn statements_that_a_migration_has_overtaken_are_prepared_anew() {
    let database = Database::new(TABLE);
    let sql = database.open();
    sql.begin().unwrap();
    sql.query("SELECT * FROM v", &[]).unwrap();
    sql.commit().unwrap();
    database.sql("ALTER TABLE v ADD COLUMN y bigint");
    let columns = || sql.query("SELECT * FROM v", &[]).map(|rows| rows[0].0.len());
    // The transaction has done something already, and is not begun anew by itself.
    sql.begin().unwrap();
    sql.query("SELECT 1", &[]).unwrap();
    let error = columns().unwrap_err();
    assert_eq!(error.kind, SqlErrorKind::Contended, "{error}");
    sql.rollback().unwrap();
    sql.begin().unwrap();
    assert_eq!(columns().unwrap(), 3);
    sql.commit().unwrap();
    // This one has not.
    database.sql("ALTER TABLE v ADD COLUMN z bigint");
    sql.begin().unwrap();
    assert_eq!(columns().unwrap(), 4);
    sql.commit().unwrap();
}

#[test]
fn commits_are_synchronous_whatever_the_database_is_set_to() {
    for (set, kept) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        let database = Database::new("");
        let name = database.address.rsplit_once('/').unwrap().1;
        database.sql(&format!("ALTER DATABASE {name} SET synchronous_commit = {set}"));
        let sql = database.open();
        let found = sql.query("SELECT current_setting('synchronous_commit')", &[]).unwrap();
        assert_eq!(found[0].text(0).unwrap(), kept, "{set}");
    }
}

#[test]
fn a_database_that_became_read_only_is_left_for_one_that_is_not() {
    let database = Database::new(TABLE);
    let sql = database.open();
    let former = pid(&sql);
    sql.execute("SET default_transaction_read_only = on", &[]).unwrap();
    sql.begin().unwrap();
    assert_eq!(add(&sql, 1).unwrap_err().kind, SqlErrorKind::Unavailable);
    sql.rollback().unwrap();
    sql.begin().unwrap();
    add(&sql, 1).unwrap();
    sql.commit().unwrap();
    assert_ne!(pid(&sql), former);

    let name = database.address.rsplit_once('/').unwrap().1;
    database.sql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let opened = Postgres::open(&config(&database.address), database.runtime.handle(), Patience::Hurried);
    let error = opened.err().unwrap().to_string();
    assert!(error.ends_with("database does not allow writes"), "{error}");
}
