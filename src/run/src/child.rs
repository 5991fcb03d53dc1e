//! Children: started so that they die with us, restarted when they fail, stopped when we stop.

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::process::Child;
use tokio::time::{Instant, timeout};

/// The first argument by which this program becomes another one.
pub(crate) const SUBCOMMAND: &str = "become";

/// Asks the kernel to end this process with its parent, then becomes the command. The kernel keeps the wish over `exec`.
pub(crate) fn become_command(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = arguments.next().and_then(|text| text.to_str()?.parse().ok()).map(Pid::from_raw);
    let Some(program) = arguments.next() else { return ExitCode::FAILURE };
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() {
        eprintln!("tollgate-run: the kernel does not tie children to their parents here");
        return ExitCode::FAILURE;
    }
    // A parent that died before the wish was heard will not die again.
    if parent != Some(getppid()) {
        return ExitCode::FAILURE;
    }
    let error = std::process::Command::new(&program).args(arguments).exec();
    eprintln!("tollgate-run: {}: {error}", program.to_string_lossy());
    ExitCode::FAILURE
}

/// How a part is started.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// The file for what it has to say; `None`: it speaks where this program does.
    pub(crate) log: Option<PathBuf>,
}

impl Command {
    fn output(&self) -> io::Result<(Stdio, Stdio)> {
        let Some(log) = &self.log else { return Ok((Stdio::inherit(), Stdio::inherit())) };
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        Ok((log.try_clone()?.into(), log.into()))
    }
}

/// A part that runs.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) command: Command,
    child: Child,
    started: Instant,
    failures: u32,
}

/// A part that fails so often in a row is broken.
const FAILURES_MAX: u32 = 5;
/// What ran this long has not failed at its start.
const STABLE: Duration = Duration::from_secs(10);

impl Part {
    /// Starts it.
    pub(crate) fn start(command: Command) -> io::Result<Self> {
        let child = spawn(&command)?;
        Ok(Self { command, child, started: Instant::now(), failures: 0 })
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("{} ended: {status}", self.command.name),
            Err(error) => format!("{} is lost: {error}", self.command.name),
        }
    }

    /// Starts it again; `false`: it fails too often.
    pub(crate) async fn restart(&mut self) -> io::Result<bool> {
        self.failures = if self.started.elapsed() < STABLE { self.failures + 1 } else { 1 };
        if self.failures > FAILURES_MAX {
            return Ok(false);
        }
        if self.failures > 1 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.child = spawn(&self.command)?;
        self.started = Instant::now();
        Ok(true)
    }

    /// Asks it to end, and makes it after a while.
    pub(crate) async fn stop(&mut self, patience: Duration) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // Fails only if it has just ended.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if timeout(patience, self.child.wait()).await.is_err() {
            eprintln!("tollgate-run: {} does not end, so it is killed", self.command.name);
            let _ = self.child.kill().await;
        }
    }
}

fn spawn(command: &Command) -> io::Result<Child> {
    let (stdout, stderr) = command.output()?;
    let own = std::env::current_exe()?;
    tokio::process::Command::new(own)
        .arg(SUBCOMMAND)
        .arg(std::process::id().to_string())
        .arg(&command.program)
        .args(&command.arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(command.environment.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        // A Ctrl-C in the terminal is for the supervisor alone: it stops the parts in their order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}
