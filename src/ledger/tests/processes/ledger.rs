//! The real binary, and what is asked of its admin API.

use crate::books::Books;
use crate::client::Client;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use tollgate_domain::key;

/// What each hold asks for, in tokens.
pub(crate) const INPUT: u64 = 5;
/// Of `m` in [`BOOK`], in nano-dollars a token.
pub(crate) const PRICE: i64 = 1_000;
/// What each hold costs at most.
pub(crate) const HOLD: i64 = PRICE * INPUT as i64;

pub(crate) const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [{"name": "m", "provider": "openai", "mode": "chat",
    "context_window": 1000, "max_output": 100, "rates": [{"tier": "standard", "above": 0, "input": "1", "output": "2"}]}]}"#;

/// A process, and where it listens.
pub(crate) struct Ledger {
    process: Child,
    grpc: String,
    admin: String,
    /// The ledger ends when this does, whatever becomes of the test.
    _stdin: Option<ChildStdin>,
}

impl Ledger {
    pub(crate) fn start(books: &Books) -> Self {
        Self::start_with(books, BOOK).unwrap()
    }

    /// With this price book.
    ///
    /// # Errors
    /// What it said before it ended, and how it ended.
    pub(crate) fn start_with(books: &Books, prices: &str) -> Result<Self, String> {
        let mut process = serve(books, prices).spawn().unwrap();
        let stdin = process.stdin.take();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut before = Vec::new();
        let ready = lines.by_ref().find(|line| {
            before.push(line.clone());
            line.contains("the ledger serves")
        });
        let Some(ready) = ready else {
            let ended = process.wait().unwrap();
            return Err(format!("{ended}: {}", before.join("\n")));
        };
        // Somebody has to read on, or the ledger would wait for it.
        std::thread::spawn(move || lines.for_each(drop));
        let field = |name: &str| {
            let rest = ready.split_once(&format!("{name}=")).unwrap().1;
            rest.split_whitespace().next().unwrap().to_owned()
        };
        Ok(Self { process, grpc: field("grpc"), admin: field("admin"), _stdin: stdin })
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// A `POST` of the admin API, which must succeed.
    pub(crate) fn post(&self, path: &str, body: &str) -> Value {
        let (status, answer) = self.ask("POST", path, body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// Whether readiness says so; it says one of two things.
    pub(crate) fn is_ready(&self) -> bool {
        match self.ask("GET", "/health/readiness", "") {
            (200, _) => true,
            (503, _) => false,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.ask("GET", "/health/liveliness", "").0 == 200
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: l\r\nauthorization: Bearer sk-master\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A new team, within this budget in nano-dollars; gives its id.
    pub(crate) fn new_team(&self, budget: i64) -> String {
        let made = self.post("/team/new", &format!(r#"{{"max_budget": {}}}"#, dollars(budget)));
        made["team_id"].as_str().unwrap().to_owned()
    }

    /// A new key of the team; gives its digest.
    pub(crate) fn new_key(&self, team: &str, budget: i64) -> Vec<u8> {
        let terms = format!(r#"{{"team_id": "{team}", "max_budget": {}}}"#, dollars(budget));
        let made = self.post("/key/generate", &terms);
        key::digest(made["key"].as_str().unwrap().as_bytes()).as_bytes().to_vec()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.grpc, INPUT).await
    }
}

fn serve(books: &Books, prices: &str) -> Command {
    let file = books.price_file();
    std::fs::write(&file, prices).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-ledger"));
    command.args(["serve", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--exit-with-stdin"]);
    command.args(books.options()).arg("--price-book").arg(file);
    command.env("TOLLGATE_MASTER_KEY", "sk-master").env_remove("RUST_LOG");
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// As JSON has it.
fn dollars(nanodollars: i64) -> String {
    format!("{}.{:09}", nanodollars / 1_000_000_000, nanodollars % 1_000_000_000)
}
