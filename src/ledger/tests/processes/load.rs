//! Clients that hold and settle, and what they were told: whatever was acknowledged must be there, once, and whatever was not may
//! be there or not.

use crate::books::{Books, Row};
use crate::client::Client;
use crate::ledger::{INPUT, Ledger, PRICE};
use crate::wait::{pause, until, within};
use futures_util::stream::{self, StreamExt};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;
use tollgate_proto::v1;
use tonic::{Code, Status};

/// Of each ledger: a group commit has company.
const CLIENTS: usize = 12;
/// Enough for every test.
const BUDGET: i64 = 1_000_000_000_000_000;

/// What becomes of a client whose message fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It ends with its ledger.
    Mortal,
    /// It may be told UNAVAILABLE, and nothing else, and sends the same again.
    Patient,
    /// Nothing may fail.
    Sure,
}

/// What one key's clients were told, over several lives of several ledgers.
pub(crate) struct Load {
    pub(crate) digest: Vec<u8>,
    pub(crate) version: Vec<u8>,
    numbers: AtomicU64,
    told: Mutex<HashMap<Vec<u8>, Told>>,
    is_over: AtomicBool,
}

/// What is known of a hold that was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    held: bool,
    /// The input of a settle that was sent.
    settle: Option<u64>,
    settled: bool,
    /// The ledgers were asked again, and gave the same answers.
    proven: bool,
}

/// The clients of one ledger.
pub(crate) struct Crew {
    clients: Vec<JoinHandle<()>>,
    tallies: Vec<Arc<Tally>>,
}

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    refused: AtomicU64,
}

impl Load {
    /// A new key in a new team; both have limits, so that each hold charges several balances.
    pub(crate) async fn new(ledger: &Ledger) -> Arc<Self> {
        let digest = ledger.new_key(&ledger.new_team(BUDGET), BUDGET);
        let version = ledger.client().await.version(&digest).await.unwrap();
        let (numbers, told, is_over) = (AtomicU64::new(1), Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { digest, version, numbers, told, is_over })
    }

    /// Clients of this ledger go to work.
    pub(crate) async fn start(self: &Arc<Self>, ledger: &Ledger, manner: Manner) -> Crew {
        let client = ledger.client().await;
        let tallies: Vec<Arc<Tally>> = (0..CLIENTS).map(|_| Arc::default()).collect();
        let spend = |tally: &Arc<Tally>| {
            let spender =
                Spender { client: client.clone(), load: self.clone(), tally: tally.clone(), manner };
            tokio::spawn(spender.spend())
        };
        Crew { clients: tallies.iter().map(spend).collect(), tallies }
    }

    /// The clients finish what they are at.
    pub(crate) async fn stop(&self, crews: impl IntoIterator<Item = Crew>) {
        self.is_over.store(true, Ordering::SeqCst);
        for client in crews.into_iter().flat_map(|crew| crew.clients) {
            within("the end of a client", client).await.unwrap();
        }
        self.is_over.store(false, Ordering::SeqCst);
    }

    /// An id that nobody had.
    pub(crate) fn new_id(&self) -> Vec<u8> {
        [[7; 8], self.numbers.fetch_add(1, Ordering::SeqCst).to_be_bytes()].concat()
    }

    fn note(&self, id: &[u8], change: impl FnOnce(&mut Told)) {
        change(self.told.lock().unwrap().entry(id.to_vec()).or_default());
    }

    /// The books say what was told. Nobody may be at work.
    pub(crate) async fn check(&self, books: &Books) {
        let mut rows = books.check().await;
        for (id, told) in self.told.lock().unwrap().iter() {
            let open = Row { state: 0, posted: 0 };
            let settled = told.settle.map(|input| Row { state: 1, posted: input as i64 * PRICE });
            match rows.remove(id) {
                None => assert!(!told.held, "an acknowledged hold is there: {id:02x?}"),
                row if told.settled => assert_eq!(row, settled, "an acknowledged settle is there: {id:02x?}"),
                row => assert!(row == Some(open) || row == settled, "{row:?}, {told:?}: {id:02x?}"),
            }
        }
        assert!(rows.is_empty(), "holds that nobody asked for: {rows:02x?}");
    }

    /// Every message is sent again, and whatever is open is settled: all get the answers that they had, if they had any.
    pub(crate) async fn ask_again(&self, ledger: &Ledger) {
        let client = ledger.client().await;
        let told = self.told.lock().unwrap().clone();
        let unproven = told.into_iter().filter(|(_, told)| !told.proven);
        let asks = unproven.map(|(id, told)| self.ask_again_about(client.clone(), id, told));
        stream::iter(asks).buffer_unordered(CLIENTS).for_each(async |()| {}).await;
    }

    async fn ask_again_about(&self, mut client: Client, id: Vec<u8>, told: Told) {
        let (digest, version) = (&self.digest, &self.version);
        let input = told.settle.unwrap_or(1);
        if told.settle.is_none() {
            client.hold(&id, digest, version).await.unwrap();
        }
        let result = client.settle(&id, digest, input).await.unwrap();
        match told {
            Told { settled: true, .. } => assert_eq!(result, v1::ReportResult::Duplicate),
            Told { settle: None, .. } => assert_eq!(result, v1::ReportResult::Applied),
            _ => assert!(is_applied(result), "{result:?}"),
        }
        assert_eq!(client.settle(&id, digest, input).await.unwrap(), v1::ReportResult::Duplicate);
        let late = client.ask(&id, digest, version).await.unwrap();
        assert!(!matches!(late, v1::hold_response::Verdict::Held(_)), "it has ended: {late:?}");
        self.note(&id, |told| {
            *told = Told { held: true, settle: Some(input), settled: true, ..*told };
        });
    }

    /// What was asked again by now need not be asked again: it stays in the checks of the books.
    pub(crate) fn prove(&self) {
        self.told.lock().unwrap().values_mut().for_each(|told| told.proven = told.settled);
    }
}

fn is_applied(result: v1::ReportResult) -> bool {
    matches!(result, v1::ReportResult::Applied | v1::ReportResult::Duplicate)
}

impl Crew {
    /// Messages that were carried out.
    pub(crate) fn answered(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.answered.load(Ordering::SeqCst)).sum()
    }

    /// Waits until so many more messages were carried out.
    pub(crate) async fn advance(&self, more: u64) {
        let goal = self.answered() + more;
        until("more answers", || {
            assert!(!self.clients.iter().all(JoinHandle::is_finished), "the clients have failed");
            self.answered() >= goal
        })
        .await;
    }

    /// Waits until every client was refused, so many more times.
    pub(crate) async fn be_refused(&self, more: u64) {
        for tally in &self.tallies {
            let goal = tally.refused.load(Ordering::SeqCst) + more;
            until("a refusal", || tally.refused.load(Ordering::SeqCst) >= goal).await;
        }
    }

    /// Waits until the clients have ended because their ledger has.
    pub(crate) async fn end(self) {
        for client in self.clients {
            within("the end of a client", client).await.unwrap();
        }
    }
}

struct Spender {
    client: Client,
    load: Arc<Load>,
    tally: Arc<Tally>,
    manner: Manner,
}

impl Spender {
    async fn spend(self) {
        while self.one().await.is_some() {}
    }

    /// One hold, and for two of three the settle. `None`: it is over.
    async fn one(&self) -> Option<()> {
        let load = &self.load;
        let id = load.new_id();
        load.note(&id, |_| {});
        let (digest, version) = (load.digest.as_slice(), load.version.as_slice());
        let hold = async |mut client: Client| client.hold(&id, digest, version).await;
        self.insist(hold).await?;
        load.note(&id, |told| told.held = true);
        if id[15].is_multiple_of(3) {
            return Some(());
        }
        let input = u64::from(id[15]) % INPUT;
        load.note(&id, |told| told.settle = Some(input));
        let settle = async |mut client: Client| client.settle(&id, digest, input).await;
        let (result, is_first) = self.insist(settle).await?;
        assert!(
            if is_first { result == v1::ReportResult::Applied } else { is_applied(result) },
            "{result:?}"
        );
        load.note(&id, |told| told.settled = true);
        Some(())
    }

    /// Sends it until it is answered, and says whether it was answered the first time.
    async fn insist<T, F>(&self, send: impl Fn(Client) -> F) -> Option<(T, bool)>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut is_first = true;
        while !self.load.is_over.load(Ordering::SeqCst) {
            let status = match within("an answer", send(self.client.clone())).await {
                Ok(answer) => {
                    self.tally.answered.fetch_add(1, Ordering::SeqCst);
                    return Some((answer, is_first));
                }
                Err(status) => status,
            };
            match self.manner {
                Manner::Mortal => return None,
                Manner::Patient => assert_eq!(status.code(), Code::Unavailable, "{status}"),
                Manner::Sure => panic!("{status}"),
            }
            self.tally.refused.fetch_add(1, Ordering::SeqCst);
            is_first = false;
            pause().await;
        }
        None
    }
}
