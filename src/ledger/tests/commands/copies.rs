//! `backup`, `restore` and `import`: what comes out is what went in.

use crate::books::{Place, lived, said, tables};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tollgate_domain::hold::Verdict;
use tollgate_ledger::clock::Clock;

fn import(from: &Place, to: &Place, code: i32) -> String {
    let mut command = crate::books::command();
    command.args(["import", "--from", &from.word(), "--to", &to.word()]);
    said(command.output().unwrap(), code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_every_table_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let [file, database] = Place::each(&folder);
    lived(&file).await;
    let moved = import(&file, &database, 0);
    assert!(moved.contains("hold: 41 rows"), "{moved}");
    let back = Place::file(&folder, "back.db");
    import(&database, &back, 0);
    let (before, after) = (tables(file.path()), tables(back.path()));
    for (name, rows) in &before {
        assert_eq!(Some(rows), after.get(name), "{name}");
        // Nothing left a tombstone, no rate was set.
        assert!(!rows.is_empty() || ["tombstone", "rate"].contains(&name.as_str()), "{name} is not tested");
    }
    assert_eq!(before.len(), after.len());
}

/// New rows get numbers of their own, in every direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life_goes_on_in_the_other_database() {
    let folder = tempfile::tempdir().unwrap();
    let [file, database] = Place::each(&folder);
    lived(&file).await;
    import(&file, &database, 0);
    let back = Place::file(&folder, "back.db");
    let clock = Clock::stopped(crate::books::NEW_YEAR.plus_ms(30 * crate::books::HOUR_MS));
    for place in [&database, &back] {
        if !matches!(place, Place::Postgres(_)) {
            import(&database, place, 0);
        }
        let books = place.open(&clock).await;
        books.spend(1).await;
        books.advance(1);
        books.close().await;
        let report = place.run("verify", &[]);
        assert!(report.contains("all of them agree"), "{report}");
    }
    // PostgreSQL gives numbers in blocks: the file misses those, and still knows when one is gone.
    let last = back.number("SELECT max(entry) FROM entry");
    let gone = format!(
        "INSERT INTO meta VALUES ('retiring', x''); DELETE FROM entry WHERE entry = {}; DELETE FROM meta WHERE name = 'retiring'",
        last - 1
    );
    back.alter(&gone);
    let report = said(back.command("verify").output().unwrap(), 1);
    assert!(report.contains(&format!("entry {last}: {} is missing before it", last - 1)), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let [file, database] = Place::each(&folder);
    lived(&file).await;
    lived(&database).await;
    let copy = folder.path().join("copy.db");
    let copy = copy.to_str().unwrap();
    file.run("backup", &["--to", copy]);
    let before = (tables(file.path()), database.run("verify", &[]));
    let refused = "has books already";
    for (from, to) in [(&file, &database), (&database, &file)] {
        assert!(import(from, to, 1).contains(refused));
    }
    for place in [&file, &database] {
        let said = said(place.command("restore").args(["--from", copy]).output().unwrap(), 1);
        assert!(said.contains(refused), "{said}");
        let said = crate::books::said(place.command("backup").args(["--to", copy]).output().unwrap(), 1);
        assert!(said.contains(refused), "{said}");
    }
    let moved = said(database.command("restore").args(["--from", copy, "--replace"]).output().unwrap(), 1);
    assert!(moved.contains("a database cannot be moved"), "{moved}");
    assert_eq!(before, (tables(file.path()), database.run("verify", &[])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_books_are_not_moved() {
    let folder = tempfile::tempdir().unwrap();
    let [file, database] = Place::each(&folder);
    lived(&file).await;
    file.alter("UPDATE hold SET posted = posted + 1 WHERE hold = 1");
    let refused = import(&file, &database, 1);
    assert!(refused.contains("hold 1: it says"), "{refused}");
    assert_eq!(database.number("SELECT count(*) FROM account"), 0);
    let copy = folder.path().join("copy.db");
    let refused = said(file.command("backup").arg("--to").arg(&copy).output().unwrap(), 1);
    assert!(refused.contains("hold 1: it says"), "{refused}");
    assert!(!copy.exists(), "only a good copy has the name");
}

#[test]
fn a_file_that_is_served_is_not_moved() {
    let folder = tempfile::tempdir().unwrap();
    let [file, database] = Place::each(&folder);
    file.run("migrate", &[]);
    let _lock = std::fs::File::open(file.path().with_extension("db.lock")).unwrap();
    _lock.lock().unwrap();
    assert!(import(&file, &database, 1).contains("another ledger has"));
    let replaced = file.command("restore").arg("--replace").arg("--from").arg(file.path()).output().unwrap();
    assert!(said(replaced, 1).contains("another ledger has"));
}

/// While writers are at work, a copy has everything that was acknowledged before it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_misses_nothing_and_the_books_can_be_verified() {
    let folder = tempfile::tempdir().unwrap();
    for (number, place) in Place::each(&folder).iter().enumerate() {
        let books = Arc::new(place.open(&Clock::stopped(crate::books::NEW_YEAR)).await);
        books.family().await;
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = [1, 2]
            .map(|key| {
                let (books, stop) = (Arc::clone(&books), Arc::clone(&stop));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        books.spend(key).await;
                    }
                })
            })
            .into();
        for round in 0..3 {
            let mut acknowledged = Vec::new();
            for _ in 0..20 {
                acknowledged.push(books.spend(1).await);
            }
            let copy = folder.path().join(format!("copy-{number}-{round}.db"));
            let mut backup = place.command("backup");
            backup.arg("--to").arg(&copy);
            let output = tokio::task::spawn_blocking(move || backup.output().unwrap()).await.unwrap();
            assert!(said(output, 0).contains("is a good copy of"));
            let mut verify = place.command("verify");
            let output = tokio::task::spawn_blocking(move || verify.output().unwrap()).await.unwrap();
            assert!(said(output, 0).contains("all of them agree"));
            let rows = &tables(&copy)["hold"];
            for id in acknowledged {
                let id = rusqlite::types::Value::Blob(id.as_bytes().to_vec());
                let settled = rusqlite::types::Value::Integer(1);
                assert!(rows.iter().any(|row| row[1] == id && row[2] == settled), "{id:?} is settled");
            }
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        Arc::into_inner(books).unwrap().close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_books_serve_only_with_accept_gap_and_know_no_old_policy() {
    let folder = tempfile::tempdir().unwrap();
    let [file, database] = Place::each(&folder);
    let clock = Clock::stopped(crate::books::NEW_YEAR);
    let books = file.open(&clock).await;
    books.live().await;
    let old = books.version(1).await;
    let copy = folder.path().join("copy.db");
    let copy = copy.to_str().unwrap();
    file.run("backup", &["--to", copy]);
    // Lost with the disk.
    books.spend(1).await;
    books.close().await;
    let replaced = file.run("restore", &["--from", copy, "--replace"]);
    let given_back = database.run("restore", &["--from", copy]);
    for (said, place) in [(replaced, &file), (given_back, &database)] {
        assert!(said.contains("between 2026-01-01T10:00:00Z and 20"), "{said}");
        assert_eq!(place.number("SELECT count(*) FROM hold"), 41);
        refuses_to_serve(place);
        let books = place.open(&clock).await;
        let (_, verdict) = books.ask(1, &old).await;
        assert!(matches!(verdict, Verdict::Stale(..)), "{verdict:?}");
        books.spend(1).await;
        books.close().await;
        // Accepted once.
        assert_eq!(place.number("SELECT count(*) FROM meta WHERE name = 'gap'"), 0);
    }
    let aside = std::fs::read_dir(folder.path()).unwrap().flatten().map(|file| file.path());
    let aside = aside.into_iter().find(|path| path.to_string_lossy().contains(".replaced-")).unwrap();
    assert_eq!(tables(&aside)["hold"].len(), 42, "what was there is still there");
}

fn refuses_to_serve(place: &Place) {
    let mut serve = place.command("serve");
    serve.args(["--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--accept-clock", "--exit-with-stdin"]);
    let output = serve.env("TOLLGATE_MASTER_KEY", "sk-master").stdin(Stdio::null()).output().unwrap();
    let said = said(output, 1);
    assert!(said.contains("restored from a backup") && said.contains("--accept-gap"), "{said}");
}

/// A copy is one file: nothing beside it is needed, or left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    for (number, place) in Place::each(&folder).iter().enumerate() {
        lived(place).await;
        let copy = copies.path().join(format!("{number}.db"));
        place.run("backup", &["--to", copy.to_str().unwrap()]);
        assert_eq!(std::fs::read_dir(copies.path()).unwrap().count(), number + 1);
        // Nor can a reader make a log beside it: it can be read from where nothing can be written.
        assert_eq!(std::fs::read(&copy).unwrap()[18..20], [1, 1], "no write-ahead log");
    }
    let there: [&Path; 2] = [&copies.path().join("0.db"), &copies.path().join("1.db")];
    let [file, database] = there.map(|path| tables(path)["hold"].len());
    assert_eq!((file, database), (41, 41));
}
