//! `retire`: requests leave, what they cost stays.

use crate::books::{Books, HOUR_MS, NEW_YEAR, Place, lived, said, settle};
use crate::cluster::Cluster;
use serde_json::Value;
use std::path::Path;
use tollgate_domain::account::AccountKind;
use tollgate_ledger::clock::Clock;
use tollgate_ledger::store::{AccountFilter, Owners, Page, SpendFilter, Store};

const LATER: i64 = 40 * HOUR_MS;
const ALL: Page = Page { limit: 1_000, offset: 0 };

/// What people see of money.
async fn seen(books: &Books) -> String {
    let store = books.store();
    let mut seen = Vec::new();
    for kind in [AccountKind::Organization, AccountKind::Team, AccountKind::User, AccountKind::Key] {
        let filter = AccountFilter { kind, owners: Owners::default(), alias: None, digest: None };
        let accounts = store.accounts(filter, ALL).await.unwrap();
        assert!(!accounts.0.is_empty());
        seen.push(format!("{accounts:?}"));
    }
    let by_tag = |filter| store.spend_by_tag(filter);
    let to = Some(NEW_YEAR.plus_ms(4 * HOUR_MS));
    seen.push(format!("{:?}", by_tag(SpendFilter::default()).await.unwrap()));
    seen.push(format!("{:?}", by_tag(SpendFilter { to, ..SpendFilter::default() }).await.unwrap()));
    seen.join("\n")
}

fn export(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_requests_cost_stays_when_they_leave() {
    let folder = tempfile::tempdir().unwrap();
    for (number, place) in Place::each(&folder).iter().enumerate() {
        lived(place).await;
        let clock = Clock::stopped(NEW_YEAR.plus_ms(LATER));
        let books = place.open(&clock).await;
        // Beyond the grace of the start: what is still open expires, and everything is summed.
        books.advance(HOUR_MS);
        books.tick().await;
        books.advance(HOUR_MS);
        books.spend(1).await;
        books.tick().await;
        let before = seen(&books).await;
        books.close().await;
        let file = |name: &str| folder.path().join(format!("{number}-{name}.jsonl"));

        // The first five hours, then the rest: the second run folds what the first carried forward.
        let first = file("first");
        let args = ["--before", "2026-01-01T05:30:00Z", "--export", first.to_str().unwrap()];
        let said = place.run("retire", &args);
        assert!(said.contains("16 requests with "), "{said}");
        assert!(said.contains("until 2026-01-01T05:00:00Z"), "whole hours: {said}");
        assert_eq!(place.number("SELECT count(*) FROM hold"), 26);
        let report = place.run("verify", &[]);
        assert!(report.contains("26 holds: all of them agree"), "{report}");
        let second = file("second");
        let args = ["--before", "2026-02-01", "--export", second.to_str().unwrap()];
        let said = place.run("retire", &args);
        assert!(said.contains("25 requests with "), "{said}");
        assert_eq!(place.number("SELECT count(*) FROM hold"), 1, "the last one is not summed yet");
        let balances =
            place.number("SELECT count(*) FROM balance WHERE window_start < 1767312000000 AND posted <> 0");
        assert_eq!(place.number("SELECT count(*) FROM entry"), balances + 2, "one line for each balance");
        let report = place.run("verify", &[]);
        assert!(report.contains("all of them agree"), "{report}");

        let books = place.open(&clock).await;
        assert_eq!(seen(&books).await, before);
        books.spend(1).await;
        books.close().await;
        let report = place.run("verify", &[]);
        assert!(report.contains("2 holds: all of them agree"), "{report}");

        let lines = [export(&first), export(&second)].concat();
        assert_eq!(lines.len(), 41);
        let posted = lines.iter().map(|line| line["posted"].as_i64().unwrap()).sum::<i64>();
        let settled = lines.iter().filter(|line| line["state"] == "settled").count();
        assert_eq!((posted, settled), (20 * 50_000 + 11 * 100_000, 20));
        for line in &lines {
            let entries = line["entries"].as_array().unwrap();
            assert!(
                entries.len() >= 2 && entries.iter().all(|entry| entry["hold"] == line["hold"]),
                "{line}"
            );
            let sum = entries.iter().map(|entry| entry["posted"].as_i64().unwrap()).sum::<i64>();
            assert_eq!(line["posted"], sum);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_or_not_summed_stays() {
    let folder = tempfile::tempdir().unwrap();
    for (number, place) in Place::each(&folder).iter().enumerate() {
        // The last sums were made an hour ago, and the last hold is open.
        lived(place).await;
        let file = folder.path().join(format!("{number}.jsonl"));
        let said = place.run("retire", &["--before", "2026-02-01", "--export", file.to_str().unwrap()]);
        assert!(
            said.contains("only whole hours that are summed may go: until 2026-01-01T09:00:00Z"),
            "{said}"
        );
        assert_eq!(place.number("SELECT count(*) FROM hold WHERE state = 0"), 2);
        let report = place.run("verify", &[]);
        assert!(report.contains("9 holds: all of them agree"), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_young_leaves_and_no_file_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    for (number, place) in Place::each(&folder).iter().enumerate() {
        lived(place).await;
        let file = folder.path().join(format!("{number}.jsonl"));
        let retire = |before: &str| {
            let mut command = place.command("retire");
            command.args(["--before", before, "--export"]).arg(&file);
            said(command.output().unwrap(), 1)
        };
        assert!(retire("2999-01-01").contains("only what is older than 7 days may go"));
        assert!(!file.exists());
        std::fs::write(&file, "mine").unwrap();
        assert!(retire("2026-02-01").contains("File exists"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        assert_eq!(place.number("SELECT count(*) FROM hold"), 41);
    }
}

/// In a database, ledgers serve meanwhile: what they still change stays, with all of its lines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_reports_meanwhile_lose_nothing() {
    const HOLDS: usize = 600;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Postgres(Cluster::shared().database());
    let books = place.open(&Clock::stopped(NEW_YEAR)).await;
    books.family().await;
    let mut holds = Vec::new();
    for _ in 0..HOLDS {
        holds.push(books.hold(1).await);
    }
    for _ in 0..3 {
        books.advance(2 * HOUR_MS);
        books.tick().await;
        books.spend(2).await;
    }
    let file = folder.path().join("export.jsonl");
    let mut retire = place.command("retire");
    retire.args(["--before", "2026-02-01", "--export"]).arg(&file);
    let retiring = tokio::task::spawn_blocking(move || said(retire.output().unwrap(), 0));
    for hold in holds.into_iter().rev() {
        books.end(1, hold, settle(50)).await;
        if retiring.is_finished() {
            break;
        }
    }
    let said = retiring.await.unwrap();
    books.close().await;
    let report = place.run("verify", &[]);
    assert!(report.contains("all of them agree"), "{said}{report}");
    assert!(place.number("SELECT count(*) FROM hold WHERE state = 1") > 0, "{said}");
}

/// Cut off in the middle, nothing is lost: what was exported and not dropped is exported again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cut_off_leaves_whole_books() {
    let folder = tempfile::tempdir().unwrap();
    for (number, place) in Place::each(&folder).iter().enumerate() {
        let books = place.open(&Clock::stopped(NEW_YEAR)).await;
        books.family().await;
        for _ in 0..450 {
            books.spend(1).await;
        }
        for _ in 0..2 {
            books.advance(2 * HOUR_MS);
            books.spend(1).await;
            books.tick().await;
        }
        books.close().await;
        place.alter(match place {
            Place::Sqlite(_) => {
                "CREATE TRIGGER stop BEFORE DELETE ON hold WHEN old.hold = 300 BEGIN SELECT RAISE(ABORT, 'cut off'); END"
            }
            Place::Postgres(_) => {
                "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF old.hold = 300 THEN RAISE 'cut off'; END IF; RETURN old; END $$;
                 CREATE TRIGGER stop BEFORE DELETE ON hold FOR EACH ROW EXECUTE FUNCTION stop()"
            }
        });
        let file = |name: &str| folder.path().join(format!("{number}-{name}.jsonl"));
        let mut retire = place.command("retire");
        retire.args(["--before", "2026-01-01T01:00:00Z", "--export"]).arg(file("first"));
        assert!(said(retire.output().unwrap(), 1).contains("cut off"));
        assert_eq!(place.number("SELECT count(*) FROM hold"), 252, "whole transactions");
        let report = place.run("verify", &[]);
        assert!(report.contains("252 holds: all of them agree"), "{report}");
        place.alter(match place {
            Place::Sqlite(_) => "DROP TRIGGER stop",
            Place::Postgres(_) => "DROP TRIGGER stop ON hold",
        });
        place.run(
            "retire",
            &["--before", "2026-01-01T01:00:00Z", "--export", file("second").to_str().unwrap()],
        );
        assert_eq!((export(&file("first")).len(), export(&file("second")).len()), (450, 250));
        let report = place.run("verify", &[]);
        assert!(report.contains("2 holds: all of them agree"), "{report}");
    }
}
