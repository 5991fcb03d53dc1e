//! Clients that hold and settle, and what was acknowledged to them.

use crate::client::Client;
use crate::dice::Dice;
use crate::ledger::{INPUT, Ledger};
use crate::shim::Disk;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tollgate_proto::v1;

/// A group commit has company, and the trace stays short.
const CLIENTS: usize = 8;

/// A virtual key, and how long the trace was when it was acknowledged.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) digest: Vec<u8>,
    pub(crate) position: u64,
}

/// An acknowledged hold; settled, where `input` is there.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) position: u64,
    pub(crate) id: Vec<u8>,
    pub(crate) digest: Vec<u8>,
    pub(crate) input: Option<u64>,
}

/// What there is to remember over several lives of a ledger.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) keys: Vec<Key>,
    numbers: AtomicU64,
    log: Mutex<Vec<Acknowledged>>,
}

impl Load {
    pub(crate) fn make_keys(&mut self, ledger: &Ledger, disk: &Disk, count: usize) {
        for _ in 0..count {
            let digest = ledger.new_key();
            self.keys.push(Key { digest, position: disk.position() });
        }
    }

    /// An id that nobody had, anywhere among the others.
    pub(crate) fn new_id(&self) -> Vec<u8> {
        let mut dice = Dice::new(self.numbers.fetch_add(1, Ordering::SeqCst));
        [dice.roll().to_be_bytes(), dice.roll().to_be_bytes()].concat()
    }

    /// In the order in which the answers came.
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.log.lock().unwrap().clone()
    }

    /// What every hold came to, by what was acknowledged up to a position.
    pub(crate) fn known_at(&self, position: u64) -> BTreeMap<Vec<u8>, Option<u64>> {
        let log = self.log.lock().unwrap();
        let known = log.iter().filter(|event| event.position <= position);
        known.map(|event| (event.id.clone(), event.input)).collect()
    }

    /// A hold whose settle nobody has sent.
    pub(crate) fn open(&self) -> Option<Acknowledged> {
        let known = self.known_at(u64::MAX);
        let open = |event: &Acknowledged| stays_open(&event.id) && known[&event.id].is_none();
        self.acknowledged().into_iter().rev().find(open)
    }

    fn note(&self, disk: &Disk, id: &[u8], digest: &[u8], input: Option<u64>) {
        let position = disk.position();
        let event = Acknowledged { position, id: id.into(), digest: digest.into(), input };
        self.log.lock().unwrap().push(event);
    }
}

/// Holds and settles until the trace is so long, or the ledger refuses.
pub(crate) async fn run(load: &Arc<Load>, ledger: &Ledger, disk: &Arc<Disk>, until: u64) {
    let client = ledger.client().await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let digest = load.keys[number % load.keys.len()].digest.clone();
            tokio::spawn(spend(client.clone(), load.clone(), disk.clone(), digest, until))
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

async fn spend(mut client: Client, load: Arc<Load>, disk: Arc<Disk>, digest: Vec<u8>, until: u64) {
    let Ok(version) = client.version(&digest).await else { return };
    while disk.position() < until {
        if one(&mut client, &load, &disk, &digest, &version).await.is_err() {
            return;
        }
    }
}

/// One hold, and for most of them the settle.
pub(crate) async fn one(
    client: &mut Client,
    load: &Load,
    disk: &Disk,
    digest: &[u8],
    version: &[u8],
) -> Result<(), tonic::Status> {
    let id = load.new_id();
    client.hold(&id, digest, version).await?;
    load.note(disk, &id, digest, None);
    if stays_open(&id) {
        return Ok(());
    }
    let input = u64::from(id[1]) % INPUT;
    assert_eq!(client.settle(&id, digest, input).await?, v1::ReportResult::Applied);
    load.note(disk, &id, digest, Some(input));
    Ok(())
}

/// One after another, so that not even the smallest transaction has a place when this ends: holds until one is refused, then
/// settles of what was left open.
pub(crate) async fn until_nothing_fits(load: &Load, ledger: &Ledger, disk: &Disk) {
    let mut client = ledger.client().await;
    let digest = &load.keys[0].digest;
    let version = client.version(digest).await.unwrap();
    while one(&mut client, load, disk, digest, &version).await.is_ok() {}
    for event in load.acknowledged().iter().filter(|event| stays_open(&event.id)) {
        if client.settle(&event.id, &event.digest, 1).await.is_err() {
            return;
        }
        load.note(disk, &event.id, &event.digest, Some(1));
    }
}

/// One in four.
fn stays_open(id: &[u8]) -> bool {
    id[0].is_multiple_of(4)
}
