//! Servers that stop, servers that must not be used, and whom a connection trusts.

use super::cluster::{Cluster, Stop};
use super::{config, runtime};
use crate::store::postgres::{OpenError, Patience, Postgres, Unfit};
use crate::store::sql::{self, Sql, SqlErrorKind, values};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;

fn open(address: &str, runtime: &Handle) -> Result<Postgres, OpenError> {
    Postgres::open(&config(address), runtime, Patience::Hurried)
}

#[test]
fn a_server_that_comes_back_is_served_again_with_what_was_committed() {
    let runtime = runtime();
    let cluster = Cluster::make();
    cluster.start();
    let address = cluster.database();
    let sql = open(&address, runtime.handle()).unwrap();
    sql.execute("CREATE TABLE v (n bigint)", &[]).unwrap();
    let insert = |number: i64| sql.execute("INSERT INTO v VALUES ($1)", &values![number]);
    let ends: [&dyn Fn(&Cluster); 3] =
        [&|cluster| cluster.stop(Stop::Fast), &|cluster| cluster.stop(Stop::Immediate), &Cluster::kill];
    for (round, end) in (1..).zip(ends) {
        sql.begin().unwrap();
        insert(round).unwrap();
        sql.commit().unwrap();
        sql.begin().unwrap();
        insert(-round).unwrap();
        end(&cluster);
        assert_eq!(sql.commit().unwrap_err().kind, SqlErrorKind::Unavailable);
        for begin in [Postgres::begin, Postgres::begin_read] {
            begin(&sql).unwrap();
            assert_eq!(sql.query("SELECT 1", &[]).unwrap_err().kind, SqlErrorKind::Unavailable);
            sql.rollback().unwrap();
        }
        cluster.start();
        sql.begin().unwrap();
        let rows = sql.query("SELECT n FROM v ORDER BY n", &[]).unwrap();
        let found: Vec<i64> = rows.iter().map(|row| row.int(0).unwrap()).collect();
        assert_eq!(found, (1..=round).collect::<Vec<_>>());
        sql.rollback().unwrap();
    }
    assert!(matches!(open(&format!("{address}x"), runtime.handle()), Err(OpenError::Unreachable { .. })));
}

#[test]
fn a_server_that_forgets_is_refused() {
    let runtime = runtime();
    for setting in ["fsync", "full_page_writes"] {
        let cluster = Cluster::make();
        cluster.configure(&format!("{setting} = off"));
        cluster.start();
        match open(&cluster.address("postgres"), runtime.handle()) {
            Err(OpenError::Unfit { fault, .. }) => assert_eq!(fault, Unfit::Forgetful(setting)),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("{setting}=off is accepted"),
        }
    }
}

#[test]
fn a_commit_that_no_standby_has_confirmed_is_no_success() {
    let runtime = runtime();
    let cluster = Cluster::make();
    cluster.start();
    let address = cluster.database();
    let name = address.rsplit_once('/').unwrap().1;
    cluster.sql(name, "CREATE TABLE v (n bigint)");
    let sql = open(&address, runtime.handle()).unwrap();
    cluster.sql(name, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()");
    // Who waits for standbys hears of them from the server's checkpointer, which may be some commits behind.
    let mut commits = 0;
    let error = loop {
        commits += 1;
        assert!(commits <= 1_000, "no commit waits for a standby");
        sql.begin().unwrap();
        sql.execute("INSERT INTO v VALUES (1)", &[]).unwrap();
        if let Err(error) = commit_until_cancelled(&sql, &cluster, name) {
            break error;
        }
    };
    assert_eq!(error.kind, SqlErrorKind::Unavailable);
    // PostgreSQL itself has taken it for committed.
    assert_eq!(cluster.sql(name, "SELECT count(*) FROM v"), commits.to_string());
}

/// Commits; where that waits for a standby, the waiting is cancelled.
fn commit_until_cancelled(sql: &Postgres, cluster: &Cluster, name: &str) -> sql::Result<()> {
    const CANCEL: &str =
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                cluster.sql(name, CANCEL);
            }
        });
        let outcome = sql.commit();
        is_over.store(true, Ordering::Relaxed);
        outcome
    })
}

#[test]
fn a_standby_is_refused_and_the_primary_beside_it_found() {
    let runtime = runtime();
    let (primary, standby) = (Cluster::make(), Cluster::make());
    primary.start();
    standby.follow();
    let error = open(&standby.address("postgres"), runtime.handle()).err().unwrap().to_string();
    assert!(error.ends_with("database does not allow writes"), "{error}");
    // As libpq writes several hosts.
    let hosts = [standby.address("postgres"), primary.address("postgres")];
    let [standby_host, primary_host] =
        hosts.each_ref().map(|address| address.split_once('@').unwrap().1.split_once('/').unwrap().0);
    let sql = open(&format!("postgres://tollgate@{standby_host},{primary_host}/postgres"), runtime.handle())
        .unwrap();
    sql.execute("CREATE TABLE v (n bigint)", &[]).unwrap();
}

/// A server with a certificate for `localhost`, by an authority of one's own, and another authority beside it.
struct Encrypted {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Encrypted {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = |line: &str| {
            let output = Command::new("openssl").args(line.split(' ')).current_dir(folder.path()).output();
            let output = output.expect("this test needs openssl");
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        };
        for name in ["ca", "other"] {
            run(&format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
            ));
        }
        run("req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr");
        std::fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost").unwrap();
        run(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
        );
        let mut cluster = Cluster::make();
        cluster.listen();
        let adopt = |name: &str| cluster.adopt(&folder.path().join(name)).display().to_string();
        cluster.configure(&format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            adopt("server.pem"),
            adopt("server.key")
        ));
        cluster.start();
        Self { cluster, folder }
    }

    fn file(&self, name: &str) -> String {
        Path::new(self.folder.path()).join(name).display().to_string()
    }
}

#[test]
fn a_connection_trusts_whom_the_connection_string_says() {
    let runtime = runtime();
    let encrypted = Encrypted::new();
    let (ca, other) = (encrypted.file("ca.pem"), encrypted.file("other.pem"));
    // The settings, whether they connect to `localhost`, and to an address that the certificate does not name.
    let cases = [
        ("sslmode=disable".to_owned(), Some("f"), Some("f")),
        ("sslmode=prefer".to_owned(), Some("t"), Some("t")),
        ("sslmode=require".to_owned(), Some("t"), Some("t")),
        (format!("sslmode=require&sslrootcert={ca}"), Some("t"), Some("t")),
        (format!("sslmode=require&sslrootcert={other}"), None, None),
        (format!("sslmode=verify-ca&sslrootcert={ca}"), Some("t"), Some("t")),
        (format!("sslmode=verify-ca&sslrootcert={other}"), None, None),
        (format!("sslmode=verify-full&sslrootcert={ca}"), Some("t"), None),
        (format!("sslmode=verify-full&sslrootcert={other}"), None, None),
        (format!("sslmode=verify-full&sslrootcert={ca}.none"), None, None),
        ("sslmode=verify-full".to_owned(), None, None),
    ];
    for (settings, by_name, by_number) in &cases {
        for (host, wanted) in [("localhost", by_name), ("127.0.0.1", by_number)] {
            let address = format!("{}?{settings}", encrypted.cluster.remote_address(host, "postgres"));
            let ask = "SELECT left(ssl::text, 1) FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let found = open(&address, runtime.handle())
                .map(|sql| sql.query(ask, &[]).unwrap()[0].text(0).unwrap().to_owned());
            assert_eq!(
                found.as_ref().ok().map(String::as_str),
                *wanted,
                "{address}: {:?}",
                found.as_ref().err()
            );
        }
    }
}

#[test]
fn encryption_that_is_required_is_not_given_up() {
    let runtime = runtime();
    let mut cluster = Cluster::make();
    cluster.listen();
    cluster.start();
    let address = cluster.remote_address("localhost", "postgres");
    for (mode, connects) in [("disable", true), ("prefer", true), ("require", false), ("verify-full", false)]
    {
        let outcome = open(&format!("{address}?sslmode={mode}"), runtime.handle());
        assert_eq!(outcome.is_ok(), connects, "{mode}: {:?}", outcome.err());
    }
}

#[test]
fn a_server_that_stands_still_is_not_waited_for() {
    let runtime = runtime();
    let cluster = Cluster::make();
    cluster.start();
    let sql = open(&cluster.address("postgres"), runtime.handle()).unwrap();
    sql.begin().unwrap();
    let pid = sql.query("SELECT pg_backend_pid()", &[]).unwrap()[0].int(0).unwrap().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    let error = sql.query("SELECT 1", &[]).unwrap_err();
    assert_eq!(error.kind, SqlErrorKind::Unavailable, "{error}");
    assert_eq!(sql.commit().unwrap_err().kind, SqlErrorKind::Unavailable);
    sql.begin().unwrap();
    sql.rollback().unwrap();
    signal("-CONT");
}

/// `current_setting` is what a database says of itself: this one says what it is told.
#[test]
fn a_server_that_isolates_otherwise_is_refused() {
    let runtime = runtime();
    let address = Cluster::shared().database();
    let name = address.rsplit_once('/').unwrap().1;
    let sql = |statements: &str| Cluster::shared().sql(name, statements);
    sql(&format!("ALTER DATABASE {name} SET search_path = public, pg_catalog"));
    let table = [
        ("'read committed'", None),
        ("'serializable'", None),
        ("NULL", None),
        ("'repeatable read'", Some("repeatable read")),
        ("'snapshot'", Some("snapshot")),
    ];
    for (said, wanted) in table {
        sql(&format!(
            "CREATE OR REPLACE FUNCTION public.current_setting(text, boolean) RETURNS text LANGUAGE sql
             AS $$ SELECT {said}::text $$"
        ));
        let found = match open(&address, runtime.handle()) {
            Ok(_) => None,
            Err(OpenError::Unfit { fault: Unfit::Isolation(found), .. }) => Some(found),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found.as_deref(), wanted);
    }
}
