//! Files that end too early: a log without its end is normal, a file without its end is refused.

use crate::books;
use crate::dice::{Dice, seed};
use crate::ledger::{Ledger, path, verify};
use crate::load::{self, Load};
use crate::shim::Disk;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Holds that are acknowledged one after another, each with its settle.
const HOLDS: usize = 60;
const CUTS: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_its_end_has_what_was_synced_before() {
    spoiled_logs(shorten, |started, at| assert_eq!(started, Ok(()), "log of {at} bytes")).await;
}

/// SQLite cannot tell it from an end that is torn off there; whoever can may refuse it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_with_a_flipped_bit_is_never_taken_for_another() {
    spoiled_logs(|log, at| flip(log, at, 1), |_, _| ()).await;
}

/// Spoils the log from some place on, and looks for what was synced before it.
async fn spoiled_logs(spoil: impl Fn(&Path, usize), judge: impl Fn(Result<(), String>, usize)) {
    let disk = Disk::new();
    let (load, lengths) = one_by_one(&disk).await;
    let mut dice = Dice::new(seed());
    let log = |folder: &Path| folder.join("ledger.db-wal");
    let whole = length(&log(&disk.folder()));
    assert!(lengths.is_sorted() && lengths.last() <= Some(&whole), "the log was folded: {whole} {lengths:?}");
    for cut in 0..CUTS {
        let copy = Copy::of(&disk.folder());
        let at = if cut == 0 { 0 } else { dice.below(whole) };
        spoil(&log(&copy.data), at);
        let started = Ledger::start(&copy.data).map(Ledger::kill);
        let served = started.is_ok();
        judge(started, at);
        if !served {
            continue;
        }
        // An answer stands for everything before it.
        let synced = lengths.iter().take_while(|length| **length <= at).count();
        let position = synced.checked_sub(1).map_or(0, |last| load.acknowledged()[last].position);
        let sound = books::check(&copy.data, &load.known_at(position));
        assert_eq!(sound, Ok(()), "TOLLGATE_SEED={}, log spoiled at {at}", seed());
        let verified = verify(&copy.data);
        assert_eq!(verified.status.code(), Some(0), "log spoiled at {at}: {verified:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_without_its_end_is_refused() {
    let disk = Disk::new();
    let (..) = one_by_one(&disk).await;
    // Folds the log into the file.
    Ledger::start(&disk.folder()).unwrap().close();
    let mut dice = Dice::new(seed());
    let whole = length(&path(&disk.folder()));
    for _ in 0..CUTS {
        let copy = Copy::of(&disk.folder());
        // An empty file is a new one.
        let end = 1 + dice.below(whole - 1);
        shorten(&path(&copy.data), end);
        let verified = verify(&copy.data);
        assert_eq!(verified.status.code(), Some(1), "{end} of {whole} bytes: {verified:?}");
        assert!(!verified.stdout.is_empty() || !verified.stderr.is_empty(), "it says why");
        let started = Ledger::start(&copy.data).map(Ledger::kill);
        assert!(started.is_err(), "{end} of {whole} bytes are served");
    }
}

/// What was acknowledged, and how long the log was then.
pub(crate) async fn one_by_one(disk: &Disk) -> (Load, Vec<usize>) {
    let mut load = Load::default();
    let ledger = Ledger::start_on(disk).unwrap();
    load.make_keys(&ledger, disk, 2);
    let mut client = ledger.client().await;
    let mut lengths = Vec::new();
    for number in 0..HOLDS {
        let digest = load.keys[number % 2].digest.clone();
        let version = client.version(&digest).await.unwrap();
        load::one(&mut client, &load, disk, &digest, &version).await.unwrap();
        let log = length(&disk.folder().join("ledger.db-wal"));
        // The hold as well as its settle: the later length stands for both.
        lengths.resize(load.acknowledged().len(), log);
    }
    ledger.kill();
    (load, lengths)
}

/// A copy of the ledger's folder that may be spoiled.
pub(crate) struct Copy {
    pub(crate) data: PathBuf,
    _root: tempfile::TempDir,
}

impl Copy {
    pub(crate) fn of(folder: &Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        std::fs::create_dir(&data).unwrap();
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), data.join(file.file_name())).unwrap();
        }
        Self { data, _root: root }
    }
}

pub(crate) fn length(path: &Path) -> usize {
    std::fs::metadata(path).map_or(0, |file| file.len() as usize)
}

fn shorten(path: &Path, end: usize) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(end as u64).unwrap();
}

/// Turns the bits that `mask` has.
pub(crate) fn flip(path: &Path, at: usize, mask: u8) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ mask], at as u64).unwrap();
}
