//! One schema, whoever starts, and how far ahead of a release it may be.

use super::{Database, config};
use crate::store::postgres::{OpenError, migrate};
use std::sync::Barrier;

const ALL: [(&str, &str); 4] = [
    ("V1__one", "CREATE TABLE one (n bigint PRIMARY KEY); INSERT INTO one VALUES (1);"),
    ("V2__two", "CREATE TABLE two (n bigint); INSERT INTO two SELECT n FROM one;"),
    ("V3__three", "ALTER TABLE two ADD COLUMN m bigint;"),
    ("V4__four", "CREATE TABLE four (n bigint);"),
];

fn run(database: &Database, migrations: &[(&str, &str)]) -> Result<i64, OpenError> {
    migrate(&config(&database.address), database.runtime.handle(), migrations)
}

#[test]
fn a_release_runs_on_its_own_schema_and_on_the_next() {
    let database = Database::new("");
    assert_eq!(run(&database, &ALL[..2]).unwrap(), 2);
    assert_eq!(run(&database, &ALL[..2]).unwrap(), 2);
    assert_eq!(run(&database, &ALL[..3]).unwrap(), 3);
    assert_eq!(run(&database, &ALL[..2]).unwrap(), 3);
    match run(&database, &ALL[..1]) {
        Err(OpenError::Newer { found: 3, known: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(run(&database, &ALL).unwrap(), 4);
    assert_eq!(database.sql("SELECT count(*) FROM two"), "1");
}

#[test]
fn replicas_that_start_at_once_migrate_once() {
    const REPLICAS: usize = 8;
    for _ in 0..3 {
        let database = Database::new("");
        let met = Barrier::new(REPLICAS);
        std::thread::scope(|scope| {
            for _ in 0..REPLICAS {
                scope.spawn(|| {
                    met.wait();
                    assert_eq!(run(&database, &ALL).unwrap(), 4);
                });
            }
        });
        assert_eq!(database.sql("SELECT count(*) FROM two"), "1");
        assert_eq!(database.sql("SELECT count(*) FROM refinery_schema_history"), "4");
    }
}

#[test]
fn a_migration_that_fails_leaves_what_was_and_says_why() {
    let database = Database::new("");
    let wrong = [ALL[0], ("V2__two", "CREATE TABLE two (n bigint); INSERT INTO nothing VALUES (1);")];
    let error = run(&database, &wrong).unwrap_err().to_string();
    assert!(error.contains("nothing") && error.contains("42P01"), "{error}");
    assert_eq!(
        database.sql("SELECT to_regclass('two') IS NULL, max(version) FROM refinery_schema_history"),
        "t|1"
    );
    assert_eq!(run(&database, &ALL[..2]).unwrap(), 2);
}

#[test]
fn a_migration_that_was_edited_after_it_was_run_is_found() {
    let database = Database::new("");
    run(&database, &ALL[..1]).unwrap();
    let edited = [("V1__one", "CREATE TABLE one (n bigint)")];
    let error = run(&database, &edited).unwrap_err().to_string();
    assert!(error.contains("V1__one"), "{error}");
    let and_more = [edited[0], ALL[1]];
    assert!(matches!(run(&database, &and_more), Err(OpenError::Migration { .. })));
    assert_eq!(database.sql("SELECT to_regclass('two') IS NULL"), "t");
}

#[test]
fn a_schema_that_is_there_needs_no_right_to_change_it() {
    let database = Database::new("");
    run(&database, &ALL).unwrap();
    let role = database.address.rsplit_once('/').unwrap().1.to_owned() + "_user";
    database.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT ON refinery_schema_history TO {role}; \
         REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    ));
    let address = database.address.replace("tollgate@", &format!("{role}@"));
    assert_eq!(migrate(&config(&address), database.runtime.handle(), &ALL).unwrap(), 4);
}
