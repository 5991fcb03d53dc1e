//! `retire`: requests leave, what they cost stays.

use crate::books::{Books, HOUR_MS, NEW_YEAR, Place, digest, lived, said, settle};
use crate::cluster::Cluster;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use tollgate_domain::account::AccountKind;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_ledger::clock::Clock;
use tollgate_ledger::store::{
    AccountChange, AccountFilter, AccountRef, LimitSpec, Owners, Page, SpendFilter, Store,
};

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

/// Cut off in the middle, nothing is lost, and the file has what has left the books.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cut_off_leaves_whole_books() {
    let folder = tempfile::tempdir().unwrap();
    for (number, place) in Place::each(&folder).iter().enumerate() {
        many(place).await;
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
        assert_eq!((export(&file("first")).len(), export(&file("second")).len()), (200, 250));
        let report = place.run("verify", &[]);
        assert!(report.contains("2 holds: all of them agree"), "{report}");
    }
}

/// 450 requests that may go before one in the morning, and two later ones.
async fn many(place: &Place) {
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
}

/// A run over the 450 that goes on beside the test.
struct Run {
    child: Child,
    file: PathBuf,
}

impl Run {
    fn start(place: &Place, folder: &TempDir, name: &str) -> Self {
        let file = folder.path().join(name);
        let mut retire = place.command("retire");
        retire.args(["--before", "2026-01-01T01:00:00Z", "--export"]).arg(&file);
        let child = retire.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child, file }
    }

    /// What it said, and whether it has done its work.
    async fn end(self) -> (String, bool) {
        let output = tokio::task::spawn_blocking(|| self.child.wait_with_output().unwrap()).await.unwrap();
        let done = output.status.success();
        (said(output, i32::from(!done)), done)
    }

    fn ids(&self) -> Vec<String> {
        ids(&self.file)
    }
}

fn ids(file: &Path) -> Vec<String> {
    export(file).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

/// Somebody else in the database.
async fn session(place: &Place) -> Client {
    let Place::Postgres(address) = place else { panic!("not a database") };
    let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Keeps a hold: whoever drops it waits.
async fn keep(client: &Client, hold: i64) {
    client.batch_execute("BEGIN").await.unwrap();
    let nth = format!("SELECT hold FROM hold ORDER BY created_at, hold LIMIT 1 OFFSET {hold}");
    client.batch_execute(&format!("SELECT 1 FROM hold WHERE hold = ({nth}) FOR UPDATE")).await.unwrap();
}

/// Until so many sessions wait for a lock.
async fn until_waiting(client: &Client, sessions: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < sessions {
        tokio::task::yield_now().await;
    }
}

/// Two runs at once on a database: the second goes on from where the first is, and nothing is in both files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_runs_at_once_each_request_is_in_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Postgres(Cluster::shared().database());
    many(&place).await;
    let (other, watch) = (session(&place).await, session(&place).await);
    keep(&other, 100).await;
    let first = Run::start(&place, &folder, "first.jsonl");
    until_waiting(&watch, 1).await;
    let second = Run::start(&place, &folder, "second.jsonl");
    until_waiting(&watch, 2).await;
    other.batch_execute("COMMIT").await.unwrap();
    let files = [first.file.clone(), second.file.clone()];
    let (first, first_done) = first.end().await;
    let (second, second_done) = second.end().await;
    // Which of them is next is for the database to say.
    assert!(
        first_done || (first.contains("another run has begun") && first.contains("second.jsonl")),
        "{first}"
    );
    assert!(second_done, "{second}");
    assert_ne!(first_done, second.contains("first.jsonl has not finished"), "{second}");
    let all: Vec<String> = files.iter().flat_map(|file| ids(file)).collect();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (450, 450), "{first}{second}");
    let report = place.run("verify", &[]);
    assert!(report.contains("2 holds: all of them agree"), "{report}");
    assert_eq!(place.number("SELECT count(*) FROM meta WHERE name = 'retire_run'"), 0);
}

/// A file has one writer: the second run is refused, and leaves no file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_retired_by_one_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::file(&folder, "ledger.db");
    many(&place).await;
    let other = rusqlite::Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = Run::start(&place, &folder, "first.jsonl");
    let lock = File::open(folder.path().join("ledger.db.lock")).unwrap();
    while lock.try_lock().is_ok() {
        lock.unlock().unwrap();
        tokio::task::yield_now().await;
    }
    let second = Run::start(&place, &folder, "second.jsonl");
    let file = second.file.clone();
    let (second, done) = second.end().await;
    assert!(!done && second.contains("two never share one file"), "{second}");
    assert!(!file.exists());
    other.execute_batch("COMMIT").unwrap();
    let file = first.file.clone();
    let (first, done) = first.end().await;
    assert!(done && !first.contains("has not finished"), "{first}");
    assert_eq!(ids(&file).len(), 450);
}

/// Killed between the file and the books: the next run says which file has more than has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_killed_is_told_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    for (number, place) in Place::each(&folder).iter().enumerate() {
        many(place).await;
        // In its second transaction it comes no further.
        let mut other = None;
        if let Place::Sqlite(_) = place {
            place.alter(
                "CREATE TRIGGER stop BEFORE DELETE ON hold WHEN old.hold = 300 BEGIN
                     INSERT INTO meta WITH RECURSIVE forever (n) AS (SELECT 1 UNION ALL SELECT n FROM forever)
                         SELECT n, n FROM forever WHERE n = 2; END",
            );
        } else {
            let client = session(place).await;
            keep(&client, 300).await;
            other = Some(client);
        }
        let mut first = Run::start(place, &folder, &format!("{number}-first.jsonl"));
        while std::fs::read_to_string(&first.file).unwrap_or_default().lines().count() < 400 {
            tokio::task::yield_now().await;
        }
        first.child.kill().unwrap();
        first.child.wait().unwrap();
        match other {
            Some(client) => client.batch_execute("COMMIT").await.unwrap(),
            None => place.alter("DROP TRIGGER stop"),
        }
        let before = first.ids();
        let second = Run::start(place, &folder, &format!("{number}-second.jsonl"));
        let file = second.file.clone();
        let (second, done) = second.end().await;
        assert!(done, "{second}");
        assert!(second.contains(&format!("{number}-first.jsonl has not finished")), "{second}");
        let after = ids(&file);
        assert_eq!((before.len(), after.len()), (400, 250));
        assert_eq!(before[200..], after[..200], "what had not left comes again, under the same id");
        let report = place.run("verify", &[]);
        assert!(report.contains("2 holds: all of them agree"), "{report}");
    }
}

/// While a run is in the middle of a transaction, requests of the same accounts come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_go_on_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Postgres(Cluster::shared().database());
    many(&place).await;
    let books = place.open(&Clock::stopped(NEW_YEAR.plus_ms(5 * HOUR_MS))).await;
    let client = session(&place).await;
    keep(&client, 100).await;
    let run = Run::start(&place, &folder, "export.jsonl");
    until_waiting(&session(&place).await, 1).await;
    for key in [1, 2] {
        books.spend(key).await;
    }
    client.batch_execute("COMMIT").await.unwrap();
    let (said, done) = run.end().await;
    assert!(done && said.contains("450 requests with"), "{said}");
    books.spend(1).await;
    books.close().await;
    let report = place.run("verify", &[]);
    assert!(report.contains("5 holds: all of them agree"), "{report}");
}

/// A correction and its opposite leave the hold as it was, but for two lines of the journal that the run has not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_corrected_and_back_while_it_runs_stays_with_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Postgres(Cluster::shared().database());
    let books = place.open(&Clock::stopped(NEW_YEAR)).await;
    books.family().await;
    let mut holds = Vec::new();
    for _ in 0..450 {
        holds.push(books.spend(1).await);
    }
    for _ in 0..2 {
        books.advance(2 * HOUR_MS);
        books.tick().await;
        books.spend(1).await;
    }
    let client = session(&place).await;
    keep(&client, 100).await;
    let run = Run::start(&place, &folder, "export.jsonl");
    until_waiting(&session(&place).await, 1).await;
    // It has read everything, and is at the first 200. Whoever changes one that is long past waits for that.
    let store = books.store();
    let correct = tokio::spawn(async move {
        for cost in [70_000, 50_000] {
            store.correct(holds[449], Nanodollars::new(cost)).await.unwrap();
        }
    });
    until_waiting(&session(&place).await, 2).await;
    client.batch_execute("COMMIT").await.unwrap();
    correct.await.ok();
    let (said, done) = run.end().await;
    assert!(done, "{said}");
    books.close().await;
    let report = place.run("verify", &[]);
    assert!(report.contains("all of them agree"), "{said}{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correction_to_the_same_cost_writes_no_line() {
    let folder = tempfile::tempdir().unwrap();
    for place in &Place::each(&folder) {
        let books = place.open(&Clock::stopped(NEW_YEAR)).await;
        books.family().await;
        let hold = books.spend(1).await;
        let mut lines = 2;
        for (cost, before, more) in [(50_000, 50_000, 0), (70_000, 50_000, 1), (70_000, 70_000, 0)] {
            let corrected = books.store().correct(hold, Nanodollars::new(cost)).await.unwrap();
            assert_eq!(corrected, Nanodollars::new(before));
            lines += more;
            assert_eq!(place.number("SELECT count(*) FROM entry"), lines);
        }
        books.close().await;
    }
}

/// A limit that is added after its window's requests have left counts them, in every zone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_in_any_zone_counts_what_has_left() {
    const COST: i64 = 50_000;
    const QUARTER_MS: i64 = 15 * 60_000;
    let begin = NEW_YEAR.plus_ms(-11 * HOUR_MS);
    // Spans are counted from a Monday, the fifth of January 1970: this one has lasted as long since, and begins again.
    let odd = begin.plus_ms(67 * 60_000).unix_ms() / 1_000 - 4 * 86_400;
    // (window, where its present one begins); all of them begin while something is spent.
    let table = [
        ("calendar/month:1/Australia/Adelaide".to_owned(), "2025-12-31T13:30:00Z"),
        ("calendar/month:1/Asia/Kolkata".to_owned(), "2025-12-31T18:30:00Z"),
        ("calendar/month:1/Asia/Kathmandu".to_owned(), "2025-12-31T18:15:00Z"),
        ("calendar/month:1/Pacific/Chatham".to_owned(), "2025-12-31T10:15:00Z"),
        // Inside a quarter, which counts whole: never too little.
        (format!("fixed/{odd}"), "2025-12-31T14:00:00Z"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (number, place) in Place::each(&folder).iter().enumerate() {
        let books = place.open(&Clock::stopped(begin)).await;
        books.family().await;
        let mut spent = Vec::new();
        for step in 0..30 {
            books.clock().set(begin.plus_ms(step * QUARTER_MS + 5 * 60_000));
            books.spend(1).await;
            spent.push(books.clock().now());
        }
        books.advance(6 * HOUR_MS);
        books.spend(1).await;
        spent.push(books.clock().now());
        books.tick().await;
        books.close().await;
        let file = folder.path().join(format!("{number}.jsonl"));
        place.run("retire", &["--before", "2026-02-01", "--export", file.to_str().unwrap()]);
        assert_eq!(place.number("SELECT count(*) FROM hold"), 1, "the last is not summed yet");

        let books = place.open(&Clock::stopped(NEW_YEAR.plus_ms(24 * HOUR_MS))).await;
        let amount = Nanodollars::new(10_000_000);
        let limit = |window: &str| LimitSpec::new(amount, window.parse().unwrap(), Some(window.into()));
        let limits: Vec<LimitSpec> = table.iter().map(|(window, _)| limit(window)).collect();
        for account in [AccountRef::Key(digest(1)), AccountRef::Id(AccountKind::Organization, "org".into())] {
            let change = AccountChange { limits: Some(limits.clone()), ..AccountChange::default() };
            let record = books.store().update(account, change).await.unwrap();
            for ((window, from), limit) in table.iter().zip(&record.limits) {
                let from: Timestamp = from.parse::<chrono::DateTime<chrono::Utc>>().unwrap().into();
                let counted = spent.iter().filter(|at| **at >= from).count();
                assert!((2..=31).contains(&counted));
                assert_eq!(limit.posted.get(), COST * counted as i64, "{window}");
            }
        }
        books.close().await;
        let report = place.run("verify", &[]);
        assert!(report.contains("all of them agree"), "{report}");
    }
}

/// Books whose sums are from before the tags of each key were among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_that_lack_the_tags_of_keys_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    for place in &Place::each(&folder) {
        let clock = Clock::stopped(NEW_YEAR);
        let books = place.open(&clock).await;
        books.family().await;
        let tagged = AccountChange { tags: Some(vec!["t".parse().unwrap()]), ..AccountChange::default() };
        books.store().update(AccountRef::Key(digest(1)), tagged).await.unwrap();
        books.spend(1).await;
        books.advance(3 * HOUR_MS);
        books.spend(1).await;
        books.tick().await;
        books.close().await;

        let of_keys =
            "FROM spent WHERE tag <> '' AND payer IN (SELECT account FROM account WHERE kind = 'key')";
        let count = format!("SELECT count(*) {of_keys}");
        assert_eq!(place.number(&count), 1);
        place.alter(&format!("DELETE {of_keys}"));
        place.alter("UPDATE meta SET name = 'spent_until' WHERE name = 'spent_with_keys_until'");
        place.open(&clock).await.close().await;
        assert_eq!(place.number(&count), 1);
        let report = place.run("verify", &[]);
        assert!(report.contains("2 holds: all of them agree"), "{report}");
    }
}
