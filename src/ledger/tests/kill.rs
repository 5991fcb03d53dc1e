//! kill -9 of the real binary under load: what it acknowledged is there after the restart, exactly once.

use rusqlite::Connection;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tollgate_domain::key;
use tollgate_proto::v1;
use tollgate_proto::v1::ledger_client::LedgerClient;
use tonic::transport::Channel;

const ROUNDS: usize = 5;
const CLIENTS: u64 = 16;
const INPUT: u64 = 5;
/// Of `m` below, in nano-dollars a token.
const PRICE: i64 = 1_000;

const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [{"name": "m", "provider": "openai", "mode": "chat",
    "context_window": 1000, "max_output": 100, "rates": [{"tier": "standard", "above": 0, "input": "1", "output": "2"}]}]}"#;

/// The binary, and where it listens.
struct Ledger {
    process: Child,
    grpc: String,
    admin: String,
    /// The ledger ends when this does, whatever becomes of the test.
    _stdin: Option<ChildStdin>,
}

impl Ledger {
    fn start(folder: &Path) -> Self {
        let book = folder.join("book.json");
        std::fs::write(&book, BOOK).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_tollgate-ledger"))
            .args(["serve", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--exit-with-stdin"])
            .arg("--db")
            .arg(path(folder))
            .arg("--price-book")
            .arg(book)
            .env("TOLLGATE_MASTER_KEY", "sk-master")
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _stdin = process.stdin.take();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let ready = log.by_ref().map(Result::unwrap).find(|line| line.contains("the ledger serves")).unwrap();
        // Somebody has to read on, or the ledger would wait for it.
        std::thread::spawn(move || log.for_each(drop));
        let field = |name: &str| {
            let rest = ready.split_once(&format!("{name}=")).unwrap().1;
            rest.split_whitespace().next().unwrap().to_owned()
        };
        Self { process, grpc: field("grpc"), admin: field("admin"), _stdin }
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// A `POST` of the admin API, which must succeed.
    fn post(&self, path: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: l\r\nauthorization: Bearer sk-master\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    async fn client(&self) -> LedgerClient<Channel> {
        LedgerClient::connect(format!("http://{}", self.grpc)).await.unwrap()
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("ledger.db")
}

/// What the ledger has acknowledged: the holds, and of those the settled ones with their input.
#[derive(Default)]
struct Acknowledged(Mutex<HashMap<Vec<u8>, Option<u64>>>);

/// One client: holds and settles until the ledger is gone.
async fn spend(
    mut client: LedgerClient<Channel>,
    digest: Vec<u8>,
    version: Vec<u8>,
    ids: Arc<AtomicU64>,
    acknowledged: Arc<Acknowledged>,
) {
    loop {
        let number = ids.fetch_add(1, Ordering::SeqCst);
        let id = [[7; 8], number.to_be_bytes()].concat();
        let ask = hold_request(&id, &digest, &version);
        let Ok(answer) = client.hold(ask).await else { return };
        let verdict = answer.into_inner().verdict;
        assert!(matches!(verdict, Some(v1::hold_response::Verdict::Held(_))), "{verdict:?}");
        acknowledged.0.lock().unwrap().insert(id.clone(), None);
        if number.is_multiple_of(3) {
            continue;
        }
        let input = number % INPUT;
        let events = vec![settle_event(&id, &digest, input)];
        let Ok(answer) = client.report(v1::ReportRequest { events }).await else { return };
        assert_eq!(answer.into_inner().outcomes[0].result(), v1::ReportResult::Applied);
        acknowledged.0.lock().unwrap().insert(id, Some(input));
    }
}

fn hold_request(id: &[u8], digest: &[u8], version: &[u8]) -> v1::HoldRequest {
    v1::HoldRequest {
        hold_id: id.to_vec(),
        key_digest: digest.to_vec(),
        policy_version: version.to_vec(),
        model: "m".into(),
        provider: v1::Provider::Openai.into(),
        api: v1::Api::ChatCompletions.into(),
        bounds: Some(v1::Bounds { input: INPUT, input_per_call: INPUT, ..v1::Bounds::default() }),
        ..v1::HoldRequest::default()
    }
}

fn settle_event(id: &[u8], digest: &[u8], input: u64) -> v1::ReportEvent {
    let settle = v1::Settle {
        usage: Some(v1::Usage { input, ..v1::Usage::default() }),
        end: v1::End::Complete.into(),
        status: 200,
        ..v1::Settle::default()
    };
    v1::ReportEvent {
        hold_id: id.to_vec(),
        key_digest: digest.to_vec(),
        sequence: 1,
        event: Some(v1::report_event::Event::Settle(settle)),
    }
}

async fn version(client: &mut LedgerClient<Channel>, digest: &[u8]) -> Vec<u8> {
    let ask = v1::LookupRequest { key_digest: digest.to_vec(), ..v1::LookupRequest::default() };
    match client.lookup(ask).await.unwrap().into_inner().verdict {
        Some(v1::lookup_response::Verdict::Known(known)) => known.policy.unwrap().version,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::start(folder.path());
    let team =
        ledger.post("/team/new", r#"{"team_alias": "t", "max_budget": 1000000, "budget_duration": "1mo"}"#);
    let team = team["team_id"].as_str().unwrap();
    let made = ledger.post("/key/generate", &format!(r#"{{"team_id": "{team}", "max_budget": 1000000}}"#));
    let digest = key::digest(made["key"].as_str().unwrap().as_bytes()).as_bytes().to_vec();
    let (ids, acknowledged) = (Arc::new(AtomicU64::new(1)), Arc::new(Acknowledged::default()));
    for round in 0..ROUNDS {
        let mut client = ledger.client().await;
        let version = version(&mut client, &digest).await;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (ids, acknowledged) = (ids.clone(), acknowledged.clone());
                tokio::spawn(spend(client.clone(), digest.clone(), version.clone(), ids, acknowledged))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(150 + 70 * round as u64)).await;
        ledger.kill();
        for client in clients {
            client.await.unwrap();
        }
        check(folder.path(), &acknowledged);
        ledger = Ledger::start(folder.path());
    }
    let acknowledged = std::mem::take(&mut *acknowledged.0.lock().unwrap());
    let settled = acknowledged.values().flatten().count();
    assert!(settled > 10 * ROUNDS, "only {settled} settles were acknowledged");
    let (open, _) = acknowledged.iter().find(|(_, settled)| settled.is_none()).unwrap();
    let (open, mut client) = (open.clone(), ledger.client().await);
    let again = v1::ReportRequest { events: vec![settle_event(&open, &digest, 1); 2] };
    let outcomes = client.report(again).await.unwrap().into_inner().outcomes;
    let results: Vec<_> = outcomes.iter().map(v1::ReportOutcome::result).collect();
    assert!(results[1] == v1::ReportResult::Duplicate, "{results:?}");
    ledger.kill();
}

/// Every acknowledged hold and settle stands in the file once, and the balances are what they sum up to.
fn check(folder: &Path, acknowledged: &Acknowledged) {
    let file = Connection::open(path(folder)).unwrap();
    let known = stored(&file);
    for (id, settled) in acknowledged.0.lock().unwrap().iter() {
        let (state, posted) = known.get(id).expect("an acknowledged hold is there");
        if let Some(input) = settled {
            assert_eq!((*state, *posted), (1, *input as i64 * PRICE), "an acknowledged settle is there");
        }
    }
    let one = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let twice = "SELECT count(*) FROM (SELECT hold, kind FROM entry GROUP BY hold, kind HAVING count(*) > 1)";
    assert_eq!(one(twice), 0, "no hold is made or settled twice");
    let posted: i64 = known.values().map(|(_, posted)| posted).sum();
    let pending = known.values().filter(|(state, _)| *state == 0).count() as i64 * INPUT as i64 * PRICE;
    assert_eq!(one("SELECT count(*) FROM balance WHERE charged_at IS NOT NULL"), 3);
    for column in ["posted", "pending"] {
        let expected = if column == "posted" { posted } else { pending };
        for pick in ["min", "max"] {
            let sql = format!("SELECT {pick}({column}) FROM balance WHERE charged_at IS NOT NULL");
            assert_eq!(one(&sql), expected, "{pick} {column}");
        }
    }
}

/// State and posted of every hold.
fn stored(file: &Connection) -> HashMap<Vec<u8>, (i64, i64)> {
    let mut statement = file.prepare("SELECT id, state, posted FROM hold").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}
