//! The real binary as it serves, and what is asked of its admin API.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// Of `m` in [`BOOK`], in nano-dollars a token.
pub(crate) const PRICE: i64 = 1_000;

pub(crate) const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [{"name": "m", "provider": "openai", "mode": "chat",
    "context_window": 1000, "max_output": 100, "rates": [{"tier": "standard", "above": 0, "input": "1", "output": "2"}]}]}"#;

/// The binary, whatever the environment of the test says.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-ledger"));
    command.env_remove("RUST_LOG");
    command
}

/// `serve`, on ports that are free; over which books and prices is still to be said.
pub(crate) fn serve() -> Command {
    let mut command = binary();
    command
        .args(["serve", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--exit-with-stdin"])
        .env("TOLLGATE_MASTER_KEY", "sk-master")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A ledger, and where it listens.
pub(crate) struct Process {
    child: Child,
    pub(crate) grpc: String,
    admin: String,
    #[allow(dead_code, reason = "few suites watch")]
    pub(crate) metrics: String,
    log: Receiver<String>,
    /// The ledger ends when this does, whatever becomes of the test.
    stdin: Option<ChildStdin>,
}

#[allow(dead_code, reason = "not every suite ends its ledgers in every way")]
impl Process {
    /// Waits until it serves.
    ///
    /// # Errors
    /// What it said before it ended, and how it ended.
    pub(crate) fn start(mut command: Command) -> Result<Self, String> {
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut before = Vec::new();
        let ready = lines.by_ref().find(|line| {
            before.push(line.clone());
            line.contains("the ledger serves")
        });
        let Some(ready) = ready else {
            let ended = child.wait().unwrap();
            return Err(format!("{ended}: {}", before.join("\n")));
        };
        // Somebody has to read on, or the ledger would wait for it.
        let (sender, log) = channel();
        std::thread::spawn(move || lines.for_each(|line| drop(sender.send(line))));
        let field = |name: &str| {
            let rest = ready.split_once(&format!("{name}=")).unwrap().1;
            rest.split_whitespace().next().unwrap().to_owned()
        };
        Ok(Self { child, grpc: field("grpc"), admin: field("admin"), metrics: field("metrics"), log, stdin })
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as it should end.
    pub(crate) fn close(mut self) {
        drop(self.stdin.take());
        let (ended, said) = self.ended();
        assert!(ended.success(), "{ended}: {said}");
    }

    /// Waits until it ends by itself; gives what it said.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let ended = self.child.wait().unwrap();
        (ended, self.log.iter().collect::<Vec<_>>().join("\n"))
    }

    /// A `POST` of the admin API, which must succeed.
    pub(crate) fn post(&self, path: &str, body: &str) -> Value {
        let (status, answer) = self.ask("POST", path, body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// The status, and the body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
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
}
