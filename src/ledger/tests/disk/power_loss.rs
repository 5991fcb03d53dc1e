//! Power loss: a trace of everything that the ledger did to its folder is cut at many points; what was synced by then is there,
//! and of the rest whatever the disk liked. The ledger opens it, serves, and has all that it had acknowledged.

use crate::dice::{Dice, seed};
use crate::ledger::Ledger;
use crate::load::{self, Load};
use crate::replay::Replay;
use crate::shim::Disk;
use crate::trace::{Operation, Trace};
use crate::{books, ledger};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tollgate_proto::v1;

/// The log is folded into the file at 4,096 pages, 17 MB: once in each life of the ledger, and once more when it closes.
const LIVES: [u64; 2] = [24_000_000, 48_000_000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_loss_of_power() {
    survives_at(60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: a thousand cut points"]
async fn what_was_acknowledged_survives_a_loss_of_power_anywhere() {
    survives_at(1_000).await;
}

/// The test of the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_is_noticed() {
    for ending in ["-wal", ".db"] {
        let recorded = Recorded::new(Disk::that_lies_about(ending)).await;
        let wrong = recorded.losses(20).await;
        assert!(!wrong.is_empty(), "nobody noticed that {ending} was not synced");
    }
}

async fn survives_at(cuts: usize) {
    let recorded = Recorded::new(Disk::new()).await;
    let folds = recorded.places.folding.len();
    assert!(folds > 100, "the log was hardly folded into the file: {folds} writes");
    let acknowledged = recorded.load.acknowledged().len();
    assert!(acknowledged > 500, "only {acknowledged} answers");
    let wrong = recorded.losses(cuts).await;
    let first = wrong.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "TOLLGATE_SEED={}, {} of {cuts}:\n{first}", seed(), wrong.len());
}

/// Lives of a ledger, as the disk saw them.
struct Recorded {
    load: Arc<Load>,
    trace: Trace,
    places: Places,
}

impl Recorded {
    async fn new(disk: Disk) -> Self {
        let (disk, mut load) = (Arc::new(disk), Arc::new(Load::default()));
        for (life, until) in LIVES.into_iter().enumerate() {
            let ledger = Ledger::start_on(&disk).unwrap();
            Arc::get_mut(&mut load).unwrap().make_keys(&ledger, &disk, 2);
            load::run(&load, &ledger, &disk, until).await;
            if life == 0 {
                ledger.close();
            } else {
                ledger.kill();
            }
        }
        let trace = Trace::read(&disk.trace());
        let places = Places::of(&trace, load.keys[0].position);
        Self { load, places, trace }
    }

    /// Loses power at so many points; gives what was wrong.
    async fn losses(&self, cuts: usize) -> Vec<String> {
        let mut dice = Dice::new(seed());
        let mut replay = Replay::new(&self.trace);
        let mut wrong = Vec::new();
        for cut in self.places.choose(cuts, &mut dice) {
            replay.advance(cut, &mut dice);
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().join("data");
            std::fs::create_dir(&data).unwrap();
            replay.lose_power(&mut dice, &data);
            let position = cut.checked_sub(1).map_or(0, |last| self.trace.records[last].end);
            if let Err(why) = recovers(&data, &self.load, position, &mut dice).await {
                wrong.push(format!("at record {cut}: {why}"));
            }
        }
        wrong
    }
}

/// Opens what the disk has left, asks for more, and adds it all up.
pub(crate) async fn recovers(
    folder: &Path,
    load: &Load,
    position: u64,
    dice: &mut Dice,
) -> Result<(), String> {
    let ledger = Ledger::start(folder)?;
    let served = serves(&ledger, load, position, dice).await;
    ledger.kill();
    served?;
    books::check(folder, &load.known_at(position))
}

async fn serves(ledger: &Ledger, load: &Load, position: u64, dice: &mut Dice) -> Result<(), String> {
    let mut client = ledger.client().await;
    for key in load.keys.iter().filter(|key| key.position <= position) {
        let version = client.version(&key.digest).await?;
        let id = load.new_id();
        client.hold(&id, &key.digest, &version).await.map_err(|status| status.to_string())?;
        settles(&mut client, &id, &key.digest, ledger::INPUT, v1::ReportResult::Applied).await?;
    }
    let acknowledged = load.acknowledged();
    let settled: Vec<_> =
        acknowledged.iter().filter(|event| event.position <= position && event.input.is_some()).collect();
    if settled.is_empty() {
        return Ok(());
    }
    let again = dice.pick(&settled);
    settles(&mut client, &again.id, &again.digest, again.input.unwrap(), v1::ReportResult::Duplicate).await
}

async fn settles(
    client: &mut crate::client::Client,
    id: &[u8],
    digest: &[u8],
    input: u64,
    expected: v1::ReportResult,
) -> Result<(), String> {
    let result = client.settle(id, digest, input).await.map_err(|status| status.to_string())?;
    if result == expected { Ok(()) } else { Err(format!("a settle is {result:?}, not {expected:?}")) }
}

/// Numbers of records at which a loss of power is worth more than elsewhere.
struct Places {
    all: usize,
    /// Until the first key is there: the file is being made.
    first: usize,
    /// While the log is folded into the file.
    folding: Vec<usize>,
    /// Just before a sync is done, and just after.
    syncs: Vec<usize>,
}

impl Places {
    fn of(trace: &Trace, first_key: u64) -> Self {
        let mut names = HashMap::new();
        let first = trace.records.partition_point(|record| record.end <= first_key);
        let mut places = Self { all: trace.records.len(), first, folding: Vec::new(), syncs: Vec::new() };
        for (number, record) in trace.records.iter().enumerate() {
            match &record.operation {
                Operation::Open { file, name, .. } => drop(names.insert(*file, name)),
                Operation::Write { file, .. } if names[file] == "ledger.db" => {
                    places.folding.push(number + 1)
                }
                Operation::Sync { .. } => places.syncs.extend([number, number + 1]),
                _ => {}
            }
        }
        places
    }

    /// Some of each, in order.
    fn choose(&self, cuts: usize, dice: &mut Dice) -> Vec<usize> {
        let mut chosen: Vec<_> = (0..cuts)
            .map(|number| match number % 4 {
                0 => dice.below(self.all + 1),
                1 => dice.below(self.first + 1),
                2 => *dice.pick(&self.folding),
                _ => *dice.pick(&self.syncs),
            })
            .collect();
        chosen.sort_unstable();
        chosen
    }
}
