//! The real ledger in a process of its own, and what it costs.

use crate::{Failure, Plan};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use tollgate_proto::v1::ledger_client::LedgerClient;
use tonic::transport::Channel;

/// Clock ticks of `/proc/PID/stat` in a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A ledger that serves.
pub(crate) struct Ledger {
    process: Child,
    grpc: String,
    /// From the start of the process until it served.
    pub(crate) started_in: Duration,
    /// It ends when this does, whatever becomes of this process.
    _stdin: Option<ChildStdin>,
}

impl Ledger {
    /// On a file of its own.
    pub(crate) fn on_file(plan: &Plan, file: &Path) -> Result<Self, Failure> {
        Self::start(plan, OsStr::new("--db"), file.as_os_str())
    }

    /// On a database that others use, too.
    pub(crate) fn on_database(plan: &Plan, url: &str) -> Result<Self, Failure> {
        Self::start(plan, OsStr::new("--database-url"), OsStr::new(url))
    }

    fn start(plan: &Plan, option: &OsStr, books: &OsStr) -> Result<Self, Failure> {
        let begin = Instant::now();
        let mut command = Command::new(&plan.ledger);
        // Nothing of the shell's own ledger.
        let settings =
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TOLLGATE_"));
        settings.for_each(|(name, _)| {
            command.env_remove(name);
        });
        let mut process = command
            .args(["serve", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--exit-with-stdin"])
            .args([option, books])
            .env("TOLLGATE_MASTER_KEY", "sk-master")
            .env("RUST_LOG", "info")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take();
        let mut log = BufReader::new(process.stderr.take().ok_or("no log")?).lines();
        let mut said = String::new();
        let ready = loop {
            let line = log.next().ok_or_else(|| format!("the ledger does not serve:\n{said}"))??;
            if line.contains("the ledger serves") {
                break line;
            }
            said.push_str(&line);
            said.push('\n');
        };
        let started_in = begin.elapsed();
        // Somebody has to read on, or the ledger would wait for it.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        let grpc = ready.split_once("grpc=").and_then(|(_, rest)| rest.split_whitespace().next());
        let grpc = grpc.ok_or("the ledger does not say where it listens")?.to_owned();
        Ok(Self { process, grpc, started_in, _stdin: stdin })
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<LedgerClient<Channel>, Failure> {
        Ok(LedgerClient::connect(format!("http://{}", self.grpc)).await?)
    }

    /// User and system time of the process so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, Failure> {
        let stat = self.proc("stat")?;
        // Fields 14 and 15 of proc(5); what is left behind the name begins with field 3.
        let after_name = stat.rsplit_once(')').ok_or("no name in stat")?.1;
        let ticks = |index: usize| -> Result<f64, Failure> {
            Ok(after_name.split_whitespace().nth(index).ok_or("stat is short")?.parse()?)
        };
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    /// The most that was in memory at once, in MB.
    pub(crate) fn memory_mb(&self) -> Result<f64, Failure> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.split_whitespace().next().ok_or("no number")?.parse::<f64>()? / 1024.0)
    }

    fn proc(&self, file: &str) -> Result<String, Failure> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id()))?)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
