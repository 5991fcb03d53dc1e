//! The real binary over a file on some disk, and what is asked of it.

use crate::client::Client;
use crate::process::{BOOK, Process, binary, serve};
use crate::shim::Disk;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use tollgate_domain::key;

pub(crate) use crate::process::PRICE;

/// What each hold asks for, in tokens.
pub(crate) const INPUT: u64 = 50;

/// A ledger over one file.
pub(crate) struct Ledger(Process);

impl Ledger {
    /// Over the file in `folder`.
    ///
    /// # Errors
    /// What it said before it ended, and how it ended.
    pub(crate) fn start(folder: &Path) -> Result<Self, String> {
        Self::run(folder, serve())
    }

    /// As [`start`](Self::start), on a disk that is watched.
    pub(crate) fn start_on(disk: &Disk) -> Result<Self, String> {
        let mut command = serve();
        disk.under(&mut command);
        Self::run(&disk.folder(), command)
    }

    fn run(folder: &Path, mut command: Command) -> Result<Self, String> {
        // Beside the folder: the disk is about the books alone.
        let prices = folder.with_extension("prices.json");
        std::fs::write(&prices, BOOK).unwrap();
        command.arg("--db").arg(path(folder)).arg("--price-book").arg(prices);
        Process::start(command).map(Self)
    }

    pub(crate) fn kill(self) {
        self.0.kill();
    }

    pub(crate) fn close(self) {
        self.0.close();
    }

    pub(crate) fn ended(self) -> (ExitStatus, String) {
        self.0.ended()
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Value {
        self.0.post(path, body)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.0.ask("GET", path, "")
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
        Client::connect(&self.0.grpc, INPUT).await
    }
}

/// `tollgate-ledger verify`.
pub(crate) fn verify(folder: &Path) -> Output {
    binary().args(["verify", "--db"]).arg(path(folder)).output().unwrap()
}

pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("ledger.db")
}
