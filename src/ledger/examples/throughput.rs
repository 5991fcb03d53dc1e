//! How many requests a ledger carries, and what each costs it: 64 clients hold and settle over gRPC on four accounts with
//! full syncs. `cargo run --release -p tollgate-ledger --example throughput [seconds]`.
//!
//! The ledger runs in a child process, so that its CPU time is its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::{BUILT_IN, PriceBook};
use tollgate_domain::window::Window;
use tollgate_ledger::master::MasterKey;
use tollgate_ledger::server::{self, Listeners};
use tollgate_ledger::store::{AccountSpec, Credential, LimitSpec, NewAccount, Owners, Store};
use tollgate_ledger::store::{Settings, sqlite};
use tollgate_proto::v1;
use tollgate_proto::v1::ledger_client::LedgerClient;
use tonic::transport::Channel;

const CLIENTS: usize = 64;
/// Envoy keeps one connection for each worker.
const CONNECTIONS: usize = 2;
const DIGEST: [u8; 32] = [1; 32];
const MODEL: &str = "gpt-4.1-mini";
/// Clock ticks of `/proc/PID/stat` in a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    if let Some(path) = std::env::var_os("LEDGER_UNDER_LOAD") {
        return serve(Path::new(&path)).await;
    }
    let seconds = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    // Settles one by one, and in the batches that the filter sends.
    for batch in [1, 16] {
        measure(Duration::from_secs(seconds), batch).await?;
    }
    Ok(())
}

async fn serve(path: &Path) -> Result<(), Failure> {
    let (store, _keeper) = sqlite::open(path, Settings::new(Arc::new(PriceBook::parse(BUILT_IN)?)))?;
    let limit = LimitSpec {
        main: true,
        ..LimitSpec::new(Nanodollars::MAX, Window::from_duration("1mo")?, Some("1mo".into()))
    };
    let spec = |owners| AccountSpec { limits: vec![limit.clone()], owners, ..AccountSpec::default() };
    let account = |kind, id: &str, owners| NewAccount {
        kind,
        id: id.into(),
        spec: spec(owners),
        credential: None,
        created_by: "throughput".into(),
    };
    let none = Owners::default;
    store.create(account(AccountKind::Organization, "o", none())).await?;
    let in_organization = Owners { organization: Some("o".into()), ..none() };
    store.create(account(AccountKind::Team, "t", in_organization)).await?;
    store.create(account(AccountKind::User, "u", none())).await?;
    let of_team = Owners { team: Some("t".into()), user: Some("u".into()), ..none() };
    let credential = Some(Credential { digest: KeyDigest::new(DIGEST), name: "sk-...".into() });
    store.create(NewAccount { credential, ..account(AccountKind::Key, "k", of_team) }).await?;

    let bind = || TcpListener::bind("127.0.0.1:0");
    let listeners = Listeners { grpc: bind().await?, admin: bind().await? };
    println!("{}", listeners.grpc.local_addr()?);
    server::run(listeners, Arc::new(store), MasterKey::new(b"sk-master"), std::future::pending()).await?;
    Ok(())
}

async fn measure(duration: Duration, batch: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let mut ledger = Command::new(std::env::current_exe()?)
        .env("LEDGER_UNDER_LOAD", folder.path().join("ledger.db"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    BufReader::new(ledger.stdout.take().ok_or("no output")?).read_line(&mut address)?;
    let load = load(address.trim(), duration, batch, &ledger).await;
    ledger.kill()?;
    ledger.wait()?;
    load
}

async fn load(address: &str, duration: Duration, batch: usize, ledger: &Child) -> Result<(), Failure> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(LedgerClient::connect(format!("http://{address}")).await?);
    }
    let version = version(&mut connections[0]).await?;
    let pairs = Arc::new(AtomicU64::new(0));
    let (begin, cpu) = (Instant::now(), cpu_seconds(ledger)?);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let connection = connections[number % CONNECTIONS].clone();
            let spend = spend(connection, number, version.clone(), pairs.clone(), begin + duration, batch);
            tokio::spawn(spend)
        })
        .collect();
    for client in clients {
        client.await??;
    }
    let (wall, cpu) = (begin.elapsed().as_secs_f64(), cpu_seconds(ledger)? - cpu);
    let pairs = pairs.load(Ordering::SeqCst) as f64;
    println!(
        "{CLIENTS} clients, {batch} settles a report: {:.0} holds and settles a second, {:.1} us of CPU for each pair",
        pairs / wall,
        cpu * 1e6 / pairs
    );
    Ok(())
}

async fn version(client: &mut LedgerClient<Channel>) -> Result<Vec<u8>, Failure> {
    let ask = v1::LookupRequest { key_digest: DIGEST.to_vec(), ..v1::LookupRequest::default() };
    match client.lookup(ask).await?.into_inner().verdict {
        Some(v1::lookup_response::Verdict::Known(known)) => Ok(known.policy.ok_or("no policy")?.version),
        _ => Err("the key is unknown".into()),
    }
}

async fn spend(
    mut client: LedgerClient<Channel>,
    number: usize,
    version: Vec<u8>,
    pairs: Arc<AtomicU64>,
    until: Instant,
    batch: usize,
) -> Result<(), Failure> {
    let mut round = 0_u64;
    let mut events = Vec::with_capacity(batch);
    while Instant::now() < until {
        round += 1;
        let id = [(number as u64 + 1).to_be_bytes(), round.to_be_bytes()].concat();
        let answer = client.hold(hold_request(&id, &version)).await?.into_inner();
        let Some(v1::hold_response::Verdict::Held(_)) = answer.verdict else {
            return Err(format!("not held: {answer:?}").into());
        };
        events.push(settle_event(&id));
        if events.len() == batch {
            let events = std::mem::replace(&mut events, Vec::with_capacity(batch));
            let outcomes = client.report(v1::ReportRequest { events }).await?.into_inner().outcomes;
            if outcomes.iter().any(|outcome| outcome.result() != v1::ReportResult::Applied) {
                return Err(format!("not settled: {outcomes:?}").into());
            }
            pairs.fetch_add(batch as u64, Ordering::SeqCst);
        }
    }
    Ok(())
}

fn hold_request(id: &[u8], version: &[u8]) -> v1::HoldRequest {
    v1::HoldRequest {
        hold_id: id.to_vec(),
        key_digest: DIGEST.to_vec(),
        policy_version: version.to_vec(),
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
        ..v1::HoldRequest::default()
    }
}

fn settle_event(id: &[u8]) -> v1::ReportEvent {
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
        key_digest: DIGEST.to_vec(),
        sequence: 1,
        event: Some(v1::report_event::Event::Settle(settle)),
    }
}

/// User and system time of the process so far.
fn cpu_seconds(process: &Child) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
    let after_name = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let ticks = |index: usize| -> Result<f64, Failure> {
        Ok(after_name.split_whitespace().nth(index).ok_or("stat is short")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}
