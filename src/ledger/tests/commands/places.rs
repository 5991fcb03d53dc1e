//! How the place is said, what is said of it, and what is refused.

use crate::books::{Place, command, said};
use crate::cluster::Cluster;
use std::process::Stdio;

#[test]
fn exactly_one_place_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [file, database] = Place::each(&folder);
    let Place::Postgres(url) = &database else { panic!() };
    let both = said(file.command("verify").args(["--database-url", url]).output().unwrap(), 2);
    assert!(both.contains("two places are named"), "{both}");
    let both = said(file.command("verify").env("TOLLGATE_LEDGER_DATABASE_URL", url).output().unwrap(), 2);
    assert!(both.contains("two places are named"), "{both}");
    let none = said(command().arg("verify").output().unwrap(), 2);
    assert!(none.contains("say where the books are"), "{none}");
}

#[test]
fn a_place_comes_from_the_command_the_environment_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let [file, database] = Place::each(&folder);
    let Place::Postgres(url) = &database else { panic!() };
    let secret = folder.path().join("url");
    std::fs::write(&secret, format!("{url}\n")).unwrap();
    let from_file = command().arg("migrate").arg("--database-url-file").arg(&secret).output().unwrap();
    let from_environment =
        command().arg("migrate").env("TOLLGATE_LEDGER_DATABASE_URL", url).output().unwrap();
    for output in [from_file, from_environment] {
        assert!(said(output, 0).contains("has schema 4"));
    }
    let output = command().arg("migrate").env("TOLLGATE_LEDGER_DB", file.path()).output().unwrap();
    assert!(said(output, 0).contains("has schema 5"));
    let mut import = command();
    import.args(["import", "--from", "sqlite", "--to", "postgres", "--database-url", url]);
    assert!(said(import.arg("--db").arg(file.path()).output().unwrap(), 0).contains("all of them agree"));
}

#[test]
fn a_password_is_never_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let file = Place::file(&folder, "ledger.db");
    let urls = [
        "postgres://u:hunter2@127.0.0.1:1/d",
        "postgres://u:hunter2@127.0.0.1:1/d?sslmode=wrong",
        "postgres://u:hunter2?@127.0.0.1:1/d",
        "u:hunter2@127.0.0.1/d",
        "host=127.0.0.1 port=1 password=hunter2",
    ];
    for url in urls {
        for verb in ["migrate", "verify", "backup", "restore", "serve"] {
            let mut command = command();
            command.args([verb, "--database-url", url]).env("TOLLGATE_MASTER_KEY", "sk-master");
            command.env("RUST_LOG", "debug");
            match verb {
                "backup" => command.arg("--to").arg(folder.path().join("to")),
                "restore" => command.arg("--from").arg(file.path()),
                _ => &mut command,
            };
            let said = said(command.output().unwrap(), if verb == "verify" { 2 } else { 1 });
            assert!(!said.contains("hunter2"), "{verb} {url}: {said}");
        }
        let mut import = command();
        import.args(["import", "--from", &format!("postgres:{url}"), "--to", &file.word()]);
        assert!(!said(import.output().unwrap(), 1).contains("hunter2"), "import {url}");
        import.args(["--help"]).env("TOLLGATE_LEDGER_DATABASE_URL", url);
        assert!(!said(import.output().unwrap(), 0).contains("hunter2"), "help {url}");
    }
}

#[test]
fn the_schema_of_a_newer_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for place in Place::each(&folder) {
        place.run("migrate", &[]);
        place.alter("INSERT INTO refinery_schema_history VALUES (99, 'future', '2030-01-01T00:00:00Z', '1')");
        let to = folder.path().join("to");
        let to = to.to_str().unwrap();
        let verbs: [(&str, &[&str], i32); 4] = [
            ("migrate", &[], 1),
            ("verify", &[], 2),
            ("backup", &["--to", to], 1),
            ("retire", &["--before", "2026-01-01", "--export", to], 1),
        ];
        for (verb, more, code) in verbs {
            let refused = said(place.command(verb).args(more).output().unwrap(), code);
            assert!(
                refused.contains("has schema 99") && refused.contains("use a newer release"),
                "{refused}"
            );
        }
    }
}

/// Whoever copies must know every column; whoever verifies reads the next release's schema, too.
#[test]
fn one_schema_more_is_verified_and_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let database = Place::Postgres(Cluster::shared().database());
    database.run("migrate", &[]);
    database.alter("INSERT INTO refinery_schema_history VALUES (5, 'next', '2030-01-01T00:00:00Z', '1')");
    database.run("verify", &[]);
    let to = folder.path().join("to");
    let refused = said(database.command("backup").arg("--to").arg(&to).output().unwrap(), 1);
    assert!(refused.contains("has schema 5, this release knows 4"), "{refused}");
}

#[test]
fn a_start_refused_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = Place::file(&folder, "ledger.db");
    let mut serve = file.command("serve");
    serve.args(["--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert!(said(serve.output().unwrap(), 1).contains("TOLLGATE_MASTER_KEY must be set"));
    serve.env("TOLLGATE_MASTER_KEY", "sk-master").args(["--hold-ttl", "1s"]);
    assert!(said(serve.output().unwrap(), 2).contains("from two minutes to a day"));
}

#[test]
fn a_ledger_serves_a_file_or_a_database() {
    let folder = tempfile::tempdir().unwrap();
    for place in Place::each(&folder) {
        let mut serve = place.command("serve");
        serve.args(["--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--exit-with-stdin"]);
        serve.env("TOLLGATE_MASTER_KEY", "sk-master").stdin(Stdio::null());
        let said = said(serve.output().unwrap(), 0);
        assert!(said.contains("the ledger serves") && said.contains("standard input has ended"), "{said}");
        assert_eq!(place.number("SELECT count(*) FROM meta WHERE name = 'epoch'"), 1);
    }
}
