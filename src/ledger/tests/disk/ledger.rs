//! The real binary, and what is asked of it.

use crate::client::Client;
use crate::shim::Disk;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use tollgate_domain::key;

/// What each hold asks for, in tokens.
pub(crate) const INPUT: u64 = 50;
/// Of `m` below, in nano-dollars a token.
pub(crate) const PRICE: i64 = 1_000;

const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [{"name": "m", "provider": "openai", "mode": "chat",
    "context_window": 1000, "max_output": 100, "rates": [{"tier": "standard", "above": 0, "input": "1", "output": "2"}]}]}"#;

/// The binary, and where it listens.
pub(crate) struct Ledger {
    process: Child,
    grpc: String,
    admin: String,
    log: Receiver<String>,
    /// The ledger ends when this does, whatever becomes of the test.
    stdin: Option<ChildStdin>,
}

impl Ledger {
    /// Over the file in `folder`.
    ///
    /// # Errors
    /// What it said before it ended, and how it ended.
    pub(crate) fn start(folder: &Path) -> Result<Self, String> {
        Self::run(folder, serve(folder))
    }

    /// As [`start`](Self::start), on a disk that is watched.
    pub(crate) fn start_on(disk: &Disk) -> Result<Self, String> {
        let mut command = serve(&disk.folder());
        disk.under(&mut command);
        Self::run(&disk.folder(), command)
    }

    fn run(folder: &Path, mut command: Command) -> Result<Self, String> {
        std::fs::write(book(folder), BOOK).unwrap();
        let mut process = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
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
        let (sender, log) = channel();
        std::thread::spawn(move || lines.for_each(|line| drop(sender.send(line))));
        let field = |name: &str| {
            let rest = ready.split_once(&format!("{name}=")).unwrap().1;
            rest.split_whitespace().next().unwrap().to_owned()
        };
        Ok(Self { process, grpc: field("grpc"), admin: field("admin"), log, stdin })
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends it as it should end.
    pub(crate) fn close(mut self) {
        drop(self.stdin.take());
        let ended = self.process.wait().unwrap();
        assert!(ended.success(), "{ended}: {}", self.log.iter().collect::<Vec<_>>().join("\n"));
    }

    /// Waits until it ends by itself; gives what it said.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let ended = self.process.wait().unwrap();
        (ended, self.log.iter().collect::<Vec<_>>().join("\n"))
    }

    /// A `POST` of the admin API, which must succeed.
    pub(crate) fn post(&self, path: &str, body: &str) -> Value {
        let (status, answer) = self.ask("POST", path, body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "")
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

    /// A new team with a key; gives the key's digest.
    pub(crate) fn new_key(&self) -> Vec<u8> {
        let terms = r#""max_budget": 1000000, "budget_duration": "1mo""#;
        let team = self.post("/team/new", &format!(r#"{{"team_alias": "t", {terms}}}"#));
        let team = team["team_id"].as_str().unwrap();
        let made = self.post("/key/generate", &format!(r#"{{"team_id": "{team}", {terms}}}"#));
        key::digest(made["key"].as_str().unwrap().as_bytes()).as_bytes().to_vec()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.grpc, INPUT).await
    }
}

fn serve(folder: &Path) -> Command {
    let mut command = command();
    command
        .args(["serve", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--exit-with-stdin", "--db"])
        .arg(path(folder))
        .arg("--price-book")
        .arg(book(folder))
        .env("TOLLGATE_MASTER_KEY", "sk-master");
    command
}

/// `tollgate-ledger verify`.
pub(crate) fn verify(folder: &Path) -> Output {
    command().args(["verify", "--db"]).arg(path(folder)).output().unwrap()
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-ledger"));
    command.env_remove("RUST_LOG");
    command
}

pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("ledger.db")
}

/// Beside the folder: the disk is about the books alone.
fn book(folder: &Path) -> PathBuf {
    folder.with_extension("prices.json")
}
