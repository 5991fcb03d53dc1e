//! Clients that hold and settle, each one thing after the other, as fast as they are answered.

use crate::Failure;
use crate::accounts::digest;
use crate::figures::Latency;
use crate::ledger::Ledger;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tollgate_proto::v1;
use tollgate_proto::v1::ledger_client::LedgerClient;
use tonic::transport::Channel;

const MODEL: &str = "gpt-4.1-mini";
/// Envoy keeps one connection for each worker.
const CONNECTIONS: usize = 2;

/// How a settle travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settles {
    /// In a message of its own, which is waited for.
    Alone,
    /// With the next hold, as the filter sends them while requests follow each other.
    Riding,
}

/// A key, as the filter knows it.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    digest: Vec<u8>,
    version: Vec<u8>,
}

/// What a round saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) pairs_per_second: f64,
    pub(crate) pairs: f64,
    pub(crate) hold: Latency,
    pub(crate) cpu_us_each: f64,
}

/// Looks the keys with these numbers up.
pub(crate) async fn look_up(
    ledger: &Ledger,
    numbers: impl Iterator<Item = u32>,
) -> Result<Vec<Key>, Failure> {
    let mut client = ledger.connect().await?;
    let mut keys = Vec::new();
    for number in numbers {
        let digest = digest(number).to_vec();
        let ask = v1::LookupRequest { key_digest: digest.clone(), ..v1::LookupRequest::default() };
        let Some(v1::lookup_response::Verdict::Known(known)) = client.lookup(ask).await?.into_inner().verdict
        else {
            return Err(format!("key {number} is unknown").into());
        };
        keys.push(Key { digest, version: known.policy.ok_or("no policy")?.version });
    }
    Ok(keys)
}

/// Lets clients, spread over these ledgers, hold and settle for so long. Each goes through keys of its own.
pub(crate) async fn run(
    ledgers: &[Ledger],
    keys: &Arc<Vec<Key>>,
    clients: usize,
    settles: Settles,
    duration: Duration,
) -> Result<Seen, Failure> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        for ledger in ledgers {
            connections.push(ledger.connect().await?);
        }
    }
    let cpu = || ledgers.iter().map(Ledger::cpu_seconds).sum::<Result<f64, Failure>>();
    let (begin, cpu_before) = (Instant::now(), cpu()?);
    let clients = (0..clients).map(|number| Client {
        connection: connections[number % connections.len()].clone(),
        keys: keys.clone(),
        next_key: number,
        stride: clients,
        run: fresh_run(),
        round: 0,
        until: begin + duration,
        settles,
        holds_us: Vec::new(),
    });
    let clients: Vec<_> = clients.map(|client| tokio::spawn(client.spend())).collect();
    let mut holds_us = Vec::new();
    for client in clients {
        holds_us.extend(client.await??);
    }
    let (wall, cpu) = (begin.elapsed().as_secs_f64(), cpu()? - cpu_before);
    let pairs = holds_us.len() as f64;
    Ok(Seen {
        pairs_per_second: pairs / wall,
        pairs,
        hold: Latency::of(holds_us).ok_or("nothing was held")?,
        cpu_us_each: cpu * 1e6 / pairs,
    })
}

/// 128 bits that look random, as the filter's do: they fall all over the index.
fn hold_id(run: u64, round: u64) -> Vec<u8> {
    let mut id = Sha256::digest([run.to_be_bytes(), round.to_be_bytes()].concat()).to_vec();
    id.truncate(16);
    id
}

/// A number for each client of each round.
fn fresh_run() -> u64 {
    static RUNS: AtomicU64 = AtomicU64::new(1);
    RUNS.fetch_add(1, Ordering::Relaxed)
}

struct Client {
    connection: LedgerClient<Channel>,
    keys: Arc<Vec<Key>>,
    next_key: usize,
    stride: usize,
    run: u64,
    round: u64,
    until: Instant,
    settles: Settles,
    holds_us: Vec<u32>,
}

impl Client {
    /// How long each hold took.
    async fn spend(mut self) -> Result<Vec<u32>, Failure> {
        let mut waiting = Vec::new();
        while Instant::now() < self.until {
            let key = self.keys[self.next_key % self.keys.len()].clone();
            self.next_key += self.stride;
            self.round += 1;
            let id = hold_id(self.run, self.round);
            let riding = waiting.len();
            let ask = hold_request(&id, &key, std::mem::take(&mut waiting));
            let asked = Instant::now();
            let answer = self.connection.hold(ask).await?.into_inner();
            self.holds_us.push(u32::try_from(asked.elapsed().as_micros())?);
            let Some(v1::hold_response::Verdict::Held(_)) = answer.verdict else {
                return Err(format!("not held: {answer:?}").into());
            };
            check(&answer.outcomes, riding)?;
            waiting.push(settle_event(&id, &key));
            if self.settles == Settles::Alone {
                self.report(std::mem::take(&mut waiting)).await?;
            }
        }
        self.report(waiting).await?;
        Ok(self.holds_us)
    }

    async fn report(&mut self, events: Vec<v1::ReportEvent>) -> Result<(), Failure> {
        let count = events.len();
        if count == 0 {
            return Ok(());
        }
        let answer = self.connection.report(v1::ReportRequest { events }).await?.into_inner();
        check(&answer.outcomes, count)
    }
}

fn check(outcomes: &[v1::ReportOutcome], count: usize) -> Result<(), Failure> {
    let applied = outcomes.iter().filter(|outcome| outcome.result() == v1::ReportResult::Applied).count();
    if applied == count { Ok(()) } else { Err(format!("not settled: {outcomes:?}").into()) }
}

fn hold_request(id: &[u8], key: &Key, reports: Vec<v1::ReportEvent>) -> v1::HoldRequest {
    v1::HoldRequest {
        hold_id: id.to_vec(),
        key_digest: key.digest.clone(),
        policy_version: key.version.clone(),
        model: MODEL.into(),
        provider: v1::Provider::Openai.into(),
        api: v1::Api::ChatCompletions.into(),
        bounds: Some(v1::Bounds {
            input: 1_200,
            input_per_call: 1_200,
            output: 1_000,
            ..v1::Bounds::default()
        }),
        tags: vec!["project:payments-refactor".into(), "team:backend".into()],
        session: "0a7f2b1e-5a55-4b0e-9a3b-d6a6ef1c2b11".into(),
        client: "claude-cli".into(),
        reports,
        ..v1::HoldRequest::default()
    }
}

fn settle_event(id: &[u8], key: &Key) -> v1::ReportEvent {
    let settle = v1::Settle {
        usage: Some(v1::Usage { input: 321, output: 45, ..v1::Usage::default() }),
        end: v1::End::Complete.into(),
        model: Some(MODEL.into()),
        status: 200,
        duration_ms: 1_234,
        first_byte_ms: 321,
        ..v1::Settle::default()
    };
    v1::ReportEvent {
        hold_id: id.to_vec(),
        key_digest: key.digest.clone(),
        sequence: 1,
        event: Some(v1::report_event::Event::Settle(settle)),
    }
}
