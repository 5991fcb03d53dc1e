//! A full disk: what cannot be written is refused at once and changes nothing, readiness says so, and when there is space again
//! the ledger goes on by itself.

use crate::books;
use crate::client::Client;
use crate::ledger::{INPUT, Ledger};
use crate::load::{self, Load};
use crate::shim::Disk;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tollgate_proto::v1;
use tonic::Code;

/// Where the room ends: the ending of the files, and the bytes that still fit.
const FULL: &[(&str, u64)] = &[
    ("", 0),
    ("-wal", 0),
    // Within a page, between pages, and within the head of a page.
    ("-wal", 10_000),
    ("-wal", 3 * 4_120),
    ("", 4_120 + 7),
    // Later in the load, with other clients waiting.
    ("", 500_000),
];

/// Refusals that are asked for in all.
const REFUSALS: usize = 20;
/// For all of them together. A filter waits two seconds for one.
const AT_ONCE: Duration = Duration::from_secs(10);
/// For the ledger to find that there is space.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_cleanly_and_the_ledger_goes_on_by_itself() {
    let (disk, mut load) = (Arc::new(Disk::new()), Load::default());
    let mut ledger = Ledger::start_on(&disk).unwrap();
    load.make_keys(&ledger, &disk, 3);
    let load = Arc::new(load);
    for (ending, room) in FULL {
        load::run(&load, &ledger, &disk, disk.position() + 300_000).await;
        disk.fill(ending, *room);
        load::run(&load, &ledger, &disk, u64::MAX).await;
        let refused = refuses(&ledger, &load, &format!("{room} bytes for {ending}")).await;
        disk.mend();
        resumes(&ledger, &load, &refused).await;
    }
    // Full, and then killed.
    disk.fill("", 100_000);
    load::run(&load, &ledger, &disk, u64::MAX).await;
    ledger.kill();
    books::check(&disk.folder(), &load.known_at(u64::MAX)).unwrap();
    disk.mend();
    ledger = Ledger::start_on(&disk).unwrap();
    load::run(&load, &ledger, &disk, disk.position() + 300_000).await;
    ledger.close();
    books::check(&disk.folder(), &load.known_at(u64::MAX)).unwrap();
}

/// The log cannot be folded into the file: it grows, and nobody is refused for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_folded_is_kept() {
    let (disk, mut load) = (Arc::new(Disk::new()), Load::default());
    let ledger = Ledger::start_on(&disk).unwrap();
    load.make_keys(&ledger, &disk, 3);
    let load = Arc::new(load);
    disk.fill(".db", 10_000);
    let end = disk.position() + 20_000_000;
    load::run(&load, &ledger, &disk, end).await;
    assert!(disk.position() >= end, "somebody was refused");
    let log = std::fs::metadata(disk.folder().join("ledger.db-wal")).unwrap().len();
    assert!(log > 4_096 * 4_096, "{log} bytes are no reason to fold");
    disk.mend();
    load::run(&load, &ledger, &disk, disk.position() + 1_000_000).await;
    ledger.kill();
    books::check(&disk.folder(), &load.known_at(u64::MAX)).unwrap();
}

/// The index of the log, which SQLite keeps beside it, grows with the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_a_log_whose_index_must_grow() {
    let (disk, mut load) = (Arc::new(Disk::new()), Load::default());
    let ledger = Ledger::start_on(&disk).unwrap();
    load.make_keys(&ledger, &disk, 3);
    let load = Arc::new(load);
    // Its first part is for 4,062 pages of the log, which is folded at 4,096.
    disk.fill("-shm", 0);
    load::run(&load, &ledger, &disk, u64::MAX).await;
    load::until_nothing_fits(&load, &ledger, &disk).await;
    let refused = refuses(&ledger, &load, "no index").await;
    disk.mend();
    resumes(&ledger, &load, &refused).await;
    load::run(&load, &ledger, &disk, disk.position() + 1_000_000).await;
    ledger.kill();
    books::check(&disk.folder(), &load.known_at(u64::MAX)).unwrap();
}

/// Every hold and settle; gives the id of a hold that was refused.
async fn refuses(ledger: &Ledger, load: &Load, place: &str) -> Vec<u8> {
    let mut client = ledger.client().await;
    let digest = &load.keys[0].digest;
    let version = client.version(digest).await.expect("what is read is still read");
    let open = load.open().expect("some are left open");
    let id = load.new_id();
    let refusals = async {
        for _ in 0..REFUSALS / 2 {
            let error = client.hold(&id, digest, &version).await.unwrap_err();
            assert_eq!(error.code(), Code::Unavailable, "{place}: {error}");
            let error = client.settle(&open.id, &open.digest, 1).await.unwrap_err();
            assert_eq!(error.code(), Code::Unavailable, "{place}: {error}");
        }
    };
    timeout(AT_ONCE, refusals).await.expect("a full disk is answered at once");
    let (status, body) = ledger.get("/health/readiness");
    assert!(status == 503 && body.contains("not writable"), "{place}: {status} {body}");
    assert_eq!(ledger.get("/health/liveness").0, 200);
    id
}

/// Nobody has to ask for a hold before the ledger is ready again; and then the first one succeeds.
async fn resumes(ledger: &Ledger, load: &Load, refused: &[u8]) {
    let ready = async {
        while ledger.get("/health/readiness").0 != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, ready).await.expect("the ledger finds that there is space");
    let mut client: Client = ledger.client().await;
    let digest = &load.keys[0].digest;
    let version = client.version(digest).await.unwrap();
    client.hold(refused, digest, &version).await.unwrap();
    assert_eq!(client.settle(refused, digest, INPUT).await.unwrap(), v1::ReportResult::Applied);
    assert_eq!(client.settle(refused, digest, INPUT).await.unwrap(), v1::ReportResult::Duplicate);
}
