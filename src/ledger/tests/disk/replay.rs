//! A disk that loses power: replays a trace up to a point, and leaves of what was not synced whatever it likes.

use crate::dice::Dice;
use crate::trace::{Operation, Trace};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// The disk at a point of the trace.
pub(crate) struct Replay<'a> {
    trace: &'a Trace,
    next: usize,
    /// Every file that there ever was, whatever its name.
    files: Vec<File>,
    /// Descriptors; the folder itself has none.
    open: BTreeMap<u32, Option<usize>>,
    /// Names as the ledger sees them.
    names: BTreeMap<String, usize>,
    /// Names as they were at the folder's last sync, and what came since.
    kept_names: BTreeMap<String, usize>,
    waiting_names: Vec<(u64, Naming)>,
}

#[derive(Default)]
struct File {
    kept: Vec<u8>,
    /// Not synced, each with the position at which it was done.
    waiting: Vec<(u64, Change)>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Range<usize> },
    Truncate { length: usize },
}

#[derive(Clone)]
enum Naming {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

impl<'a> Replay<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        Self {
            trace,
            next: 0,
            files: Vec::new(),
            open: BTreeMap::new(),
            names: BTreeMap::new(),
            kept_names: BTreeMap::new(),
            waiting_names: Vec::new(),
        }
    }

    /// Goes on until `records` of the trace have been done.
    pub(crate) fn advance(&mut self, records: usize, dice: &mut Dice) {
        while self.next < records {
            let record = &self.trace.records[self.next];
            self.next += 1;
            self.apply(record.end, &record.operation, dice);
        }
    }

    fn apply(&mut self, end: u64, operation: &Operation, dice: &mut Dice) {
        match operation {
            Operation::Open { file, name, .. } if name == "." => {
                self.open.insert(*file, None);
            }
            Operation::Open { file, name, made } => {
                if *made {
                    assert!(!self.names.contains_key(name), "{name} went unseen");
                    let fresh = self.files.len();
                    self.files.push(File::default());
                    self.name(end, Naming::Link(name.clone(), fresh));
                }
                self.open.insert(*file, Some(self.names[name]));
            }
            Operation::Write { file, at, bytes } => {
                self.change(end, *file, Change::Write { at: *at, bytes: bytes.clone() })
            }
            Operation::Truncate { file, length } => {
                self.change(end, *file, Change::Truncate { length: *length });
            }
            Operation::Sync { file, began } => match self.open[file] {
                Some(file) => self.files[file].sync(*began, &self.trace.bytes),
                None => self.sync_names(*began),
            },
            Operation::FailedSync { file, began } => {
                let file = self.open[file].expect("only a file's sync fails");
                self.files[file].give_up(*began, dice, &self.trace.bytes);
            }
            Operation::Unlink { name } => self.name(end, Naming::Unlink(name.clone())),
            Operation::Rename { from, to } => self.name(end, Naming::Rename(from.clone(), to.clone())),
        }
    }

    fn change(&mut self, end: u64, file: u32, change: Change) {
        let file = self.open[&file].expect("nobody writes into a folder");
        self.files[file].waiting.push((end, change));
    }

    fn name(&mut self, end: u64, naming: Naming) {
        naming.clone().apply(&mut self.names);
        self.waiting_names.push((end, naming));
    }

    fn sync_names(&mut self, began: u64) {
        let mut waiting = std::mem::take(&mut self.waiting_names);
        let later = waiting.split_off(waiting.partition_point(|(end, _)| *end <= began));
        waiting.into_iter().for_each(|(_, naming)| naming.apply(&mut self.kept_names));
        self.waiting_names = later;
    }

    /// Loses power, and writes what the disk has kept into `folder`.
    pub(crate) fn lose_power(&self, dice: &mut Dice, folder: &Path) {
        let mut names = self.kept_names.clone();
        // Changes of names may be lost, but not change places.
        let kept = dice.below(self.waiting_names.len() + 1);
        self.waiting_names[..kept].iter().for_each(|(_, naming)| naming.clone().apply(&mut names));
        for (name, file) in names {
            let bytes = if name.ends_with("-shm") {
                // Never synced: whatever was in memory, or anything else.
                (0..32_768).map(|_| dice.roll() as u8).collect()
            } else {
                self.files[file].after_loss(dice, &self.trace.bytes)
            };
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

impl File {
    fn sync(&mut self, began: u64, trace: &[u8]) {
        for change in self.done_before(began) {
            change.apply(&mut self.kept, trace);
        }
    }

    /// Whatever reached the disk is there, and nothing else will be.
    fn give_up(&mut self, began: u64, dice: &mut Dice, trace: &[u8]) {
        let changes = self.done_before(began);
        lose(&mut self.kept, &changes, dice, trace);
    }

    fn done_before(&mut self, began: u64) -> Vec<Change> {
        let waiting = std::mem::take(&mut self.waiting);
        let (done, later) = waiting.into_iter().partition(|(end, _)| *end <= began);
        self.waiting = later;
        let done: Vec<(u64, Change)> = done;
        done.into_iter().map(|(_, change)| change).collect()
    }

    fn after_loss(&self, dice: &mut Dice, trace: &[u8]) -> Vec<u8> {
        let mut bytes = self.kept.clone();
        let changes: Vec<_> = self.waiting.iter().map(|(_, change)| change.clone()).collect();
        lose(&mut bytes, &changes, dice, trace);
        bytes
    }
}

/// Of each change nothing, all, or some sectors.
fn lose(bytes: &mut Vec<u8>, changes: &[Change], dice: &mut Dice, trace: &[u8]) {
    // Some losses take nearly everything, some nearly nothing.
    let likely = *dice.pick(&[0, 10, 50, 50, 90, 100]);
    for change in changes {
        if dice.percent(likely) {
            change.apply(bytes, trace);
        } else if let Change::Write { at, bytes: written } = change
            && dice.percent(likely)
        {
            torn(*at, written.clone(), dice).iter().for_each(|part| part.apply(bytes, trace));
        }
    }
}

/// The first sectors of a write, or any.
fn torn(at: usize, bytes: Range<usize>, dice: &mut Dice) -> Vec<Change> {
    let end = at + bytes.len();
    let mut cuts = vec![at];
    cuts.extend((at / SECTOR + 1..).map(|sector| sector * SECTOR).take_while(|cut| *cut < end));
    cuts.push(end);
    let mut sectors: Vec<_> = cuts
        .windows(2)
        .map(|pair| Change::Write {
            at: pair[0],
            bytes: bytes.start + pair[0] - at..bytes.start + pair[1] - at,
        })
        .collect();
    if dice.percent(50) {
        sectors.truncate(dice.below(sectors.len() + 1));
    } else {
        sectors.retain(|_| dice.percent(50));
    }
    sectors
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>, trace: &[u8]) {
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*at..end].copy_from_slice(&trace[bytes.clone()]);
            }
            Self::Truncate { length } => file.resize(*length, 0),
        }
    }
}

impl Naming {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, file) => {
                names.insert(name, file);
            }
            Self::Unlink(name) => {
                names.remove(&name);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
        }
    }
}
