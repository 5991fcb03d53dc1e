//! A sync that fails: nobody knows what is on the disk, and a second sync would not tell. The ledger ends, and a start recovers.

use crate::books;
use crate::dice::{Dice, seed};
use crate::ledger::Ledger;
use crate::load::{self, Load};
use crate::power_loss::recovers;
use crate::replay::Replay;
use crate::shim::Disk;
use crate::trace::{Operation, Trace};
use std::sync::Arc;
use tonic::Code;

/// The disk keeps whatever it likes of what it failed to sync, each time other parts.
const LOSSES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_synced_ends_the_ledger() {
    let (disk, load, ledger) = started().await;
    let mut client = ledger.client().await;
    let digest = &load.keys[0].digest;
    let version = client.version(digest).await.unwrap();
    disk.fail_syncs("-wal");
    let error = client.hold(&load.new_id(), digest, &version).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let (ended, log) = ledger.ended();
    assert!(!ended.success() && log.contains("the books cannot be written"), "{ended}: {log}");
    books::check(&disk.folder(), &load.known_at(u64::MAX)).unwrap();
    disk.mend();
    // What the failed sync left in memory looks as if it were on the disk: what comes after must not rest on it.
    let ledger = Ledger::start_on(&disk).unwrap();
    load::run(&load, &ledger, &disk, disk.position() + 1_000_000).await;
    ledger.kill();
    loses_nothing(&disk, &load).await;
}

/// The log has all of it still: whether the ledger ends or tries again, nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_synced_keeps_its_log() {
    let (disk, load, ledger) = started().await;
    disk.fail_syncs(".db");
    load::run(&load, &ledger, &disk, disk.position() + 20_000_000).await;
    disk.mend();
    ledger.kill();
    let ledger = Ledger::start_on(&disk).unwrap();
    load::run(&load, &ledger, &disk, disk.position() + 1_000_000).await;
    ledger.kill();
    loses_nothing(&disk, &load).await;
}

async fn started() -> (Arc<Disk>, Arc<Load>, Ledger) {
    let (disk, mut load) = (Arc::new(Disk::new()), Load::default());
    let ledger = Ledger::start_on(&disk).unwrap();
    load.make_keys(&ledger, &disk, 2);
    let load = Arc::new(load);
    load::run(&load, &ledger, &disk, disk.position() + 1_000_000).await;
    (disk, load, ledger)
}

/// Loses power at the end of the trace.
async fn loses_nothing(disk: &Disk, load: &Load) {
    let trace = Trace::read(&disk.trace());
    let failed = |operation: &Operation| matches!(operation, Operation::FailedSync { .. });
    assert!(trace.records.iter().any(|record| failed(&record.operation)), "no sync failed");
    let mut dice = Dice::new(seed());
    for loss in 0..LOSSES {
        let mut replay = Replay::new(&trace);
        replay.advance(trace.records.len(), &mut dice);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        replay.lose_power(&mut dice, &data);
        let recovered = recovers(&data, load, u64::MAX, &mut dice).await;
        assert_eq!(recovered, Ok(()), "TOLLGATE_SEED={}, loss {loss}", seed());
    }
}
