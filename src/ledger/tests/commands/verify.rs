//! `verify` tells good books from altered ones, and both from none.

use crate::books::{NEW_YEAR, Place, lived, said};
use tollgate_ledger::clock::Clock;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_books_are_clean() {
    let folder = tempfile::tempdir().unwrap();
    for place in Place::each(&folder) {
        lived(&place).await;
        let report = place.run("verify", &[]);
        assert!(report.contains("41 holds: all of them agree"), "{report}");
    }
}

/// One amount in each table that money stands in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_amount_is_named_by_table_and_row() {
    for (alter, fault) in [
        ("UPDATE entry SET posted = posted + 1 WHERE entry = 7", "entry 7: it was altered"),
        ("UPDATE balance SET posted = posted + 1 WHERE balance = 3", "balance 3: it was altered"),
        ("UPDATE hold SET posted = posted + 1 WHERE hold = (SELECT min(hold) + 4 FROM hold)", "hold 5: "),
        (
            "UPDATE rollup SET posted = posted + 1 WHERE hour = (SELECT min(hour) FROM rollup) AND key = 4",
            "rollup of account 4, hour 2026-01-01T0",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for place in Place::each(&folder) {
            lived(&place).await;
            place.alter(alter);
            let report = said(place.command("verify").output().unwrap(), 1);
            assert!(report.contains(fault), "{alter}: {report}");
            assert!(report.contains("they do not agree"), "{report}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_neither_good_nor_altered() {
    let folder = tempfile::tempdir().unwrap();
    for place in Place::each(&folder) {
        let report = said(place.command("verify").output().unwrap(), 2);
        assert!(report.starts_with("error: "), "{report}");
    }
}

/// Each start looks at every balance, and at what the journal has got since the last one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_finds_what_was_altered_since_the_last() {
    let folder = tempfile::tempdir().unwrap();
    for (what, alter) in [
        ("entry ", "UPDATE entry SET posted = posted + 1 WHERE entry = (SELECT max(entry) FROM entry)"),
        ("balance 1: it was altered", "UPDATE balance SET posted = posted + 1 WHERE balance = 1"),
        ("an open hold names it", "UPDATE hold SET balances = '\\x7f' WHERE state = 0"),
        ("its open holds are", "UPDATE hold SET amount = amount + 1 WHERE state = 0"),
    ] {
        let each = Place::each(&folder);
        for place in each.iter().filter(|place| !alter.contains("\\x") || matches!(place, Place::Postgres(_)))
        {
            let clock = Clock::stopped(NEW_YEAR);
            if let Place::Sqlite(path) = place {
                std::fs::remove_file(path).ok();
            }
            let books = place.open(&clock).await;
            books.family().await;
            books.spend(1).await;
            books.close().await;
            let books = place.open(&clock).await;
            books.spend(1).await;
            books.hold(2).await;
            books.close().await;
            place.open(&clock).await.close().await;
            let books = place.open(&clock).await;
            books.hold(2).await;
            books.close().await;
            place.alter(alter);
            let refused = place.refusal(&clock).await;
            assert!(refused.contains("altered or damaged") && refused.contains(what), "{what}: {refused}");
        }
    }
}
