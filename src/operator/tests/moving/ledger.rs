//! The real ledger, what is asked of its admin API, and the real verb.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Of `m` in [`BOOK`], in nano-dollars a token.
pub(crate) const PRICE: i64 = 1_000;

const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [{"name": "m", "provider": "openai", "mode": "chat",
    "context_window": 1000, "max_output": 100, "rates": [{"tier": "standard", "above": 0, "input": "1", "output": "2"}]}]}"#;
pub(crate) const MASTER: &str = "sk-master";

pub(crate) struct Ledger {
    child: Child,
    pub(crate) grpc: String,
    pub(crate) admin: String,
    _folder: tempfile::TempDir,
}

/// What a program said.
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The ledger's program as the sources say it now: it is another package's, which cargo does not build for tests of this one. It comes with a
/// test of its own, among all packages, and without what cargo tells this test of its package: else the libraries would be built anew.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["test", "--quiet", "--workspace", "--no-run", "--test=commands", "--message-format=json"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        for (name, _) in std::env::vars_os() {
            let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_"];
            if of_package.iter().any(|start| name.to_string_lossy().starts_with(start)) {
                cargo.env_remove(name);
            }
        }
        let output = cargo.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "the ledger is not built");
        let said = String::from_utf8(output.stdout).unwrap();
        let artifacts = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut programs = artifacts
            .filter(|it| it["target"]["name"] == "tollgate-ledger" && it["profile"]["test"] == false);
        PathBuf::from(programs.find_map(|it| it["executable"].as_str().map(str::to_owned)).unwrap())
    })
}

impl Ledger {
    /// A ledger of its own, with empty books.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let prices = folder.path().join("prices.json");
        std::fs::write(&prices, BOOK).unwrap();
        let mut child = Command::new(program())
            .args([
                "serve",
                "--grpc",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--exit-with-stdin",
                "--price-book",
            ])
            .arg(prices)
            .arg("--db")
            .arg(folder.path().join("ledger.db"))
            .env("TOLLGATE_MASTER_KEY", MASTER)
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut before = Vec::new();
        let ready = lines.by_ref().find(|line| {
            before.push(line.clone());
            line.contains("the ledger serves")
        });
        let ready = ready.unwrap_or_else(|| panic!("{}", before.join("\n")));
        // Somebody has to read on, or the ledger would wait for it.
        std::thread::spawn(move || lines.for_each(drop));
        let field = |name: &str| {
            let rest = ready.split_once(&format!("{name}=")).unwrap().1;
            rest.split_whitespace().next().unwrap().to_owned()
        };
        Self { child, grpc: field("grpc"), admin: field("admin"), _folder: folder }
    }

    /// A `POST` of the admin API, which must succeed.
    pub(crate) fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask("POST", path, &body.to_string());
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// A `GET` of the admin API.
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// The status of a `POST` that does not succeed.
    pub(crate) fn refused(&self, path: &str, body: Value) -> u16 {
        self.ask("POST", path, &body.to_string()).0
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: l\r\nauthorization: Bearer {MASTER}\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The verb, which must succeed.
    pub(crate) fn export(&self, options: &[&str]) -> Said {
        let said = self.try_export(options);
        assert!(said.success, "{}", said.stderr);
        said
    }

    /// The verb. Of an option that is there twice, the one of the test counts.
    pub(crate) fn try_export(&self, options: &[&str]) -> Said {
        let mut verb = Command::new(env!("CARGO_BIN_EXE_tollgate-operator"));
        let address = format!("http://{}", self.admin);
        verb.env_clear().arg("export");
        for (option, value) in [("--namespace", "platform"), ("--ledger", &address), ("--master-key", MASTER)]
        {
            if !options.contains(&option) {
                verb.args([option, value]);
            }
        }
        if !options.contains(&"--release-namespace") {
            verb.args(["--release-namespace", "tollgate", "--platform-namespaces", "platform"]);
        }
        let output = verb.args(options).output().unwrap();
        Said {
            success: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
