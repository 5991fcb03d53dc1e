//! A real PostgreSQL for tests: made in a temporary folder, reached by a socket in it, gone when the test process is.
//!
//! A shell that reads a pipe from this process stops the server and removes the folder at the end of the pipe: so nothing
//! stays behind when a test panics or its process is killed. `.make/postgres` finds or installs the programs.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const USER: &str = "tollgate";

/// What a ledger needs of the server, and a size for tests, whose queries end before they could be compiled. The timeouts of a small machine under load are the server's own.
const SETTINGS: &str = "
fsync = on
full_page_writes = on
synchronous_commit = on
shared_buffers = 32MB
jit = off
max_connections = 200
listen_addresses = ''
lc_messages = 'C'
";

/// After `kill -9`, the processes of the old server need a moment to notice that it is gone.
const STARTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// One server with its own folder.
pub(crate) struct Cluster {
    /// Holds the socket, the data and the log.
    folder: PathBuf,
    bin: PathBuf,
    /// Who runs the server: PostgreSQL refuses to be root.
    user: Option<String>,
    port: u16,
    databases: AtomicU32,
    /// Ends when its standard input does.
    watchdog: Child,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// It breaks off what is under way and closes its books.
    Fast,
    /// It stops where it stands, and recovers when it starts.
    Immediate,
}

impl Cluster {
    /// The cluster of this test process, for tests that leave the server alone.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let cluster = Self::make();
            cluster.start();
            cluster
        })
    }

    /// A cluster of one's own, not yet started.
    pub(crate) fn make() -> Self {
        let cluster = Self::empty();
        cluster.initialize();
        cluster.configure(SETTINGS);
        cluster.place_socket();
        cluster
    }

    /// A standby of a server that serves, and follows it once this returns. The primary confirms nothing from then on that the
    /// standby has not written to its disk.
    pub(crate) fn follower_of(primary: &Self) -> Self {
        let cluster = Self::empty();
        let mut copy = cluster.program("pg_basebackup");
        copy.args(["--checkpoint=fast", "--no-sync", "--wal-method=stream", "--write-recovery-conf"]);
        copy.arg("-h").arg(&primary.folder).args(["-p", &primary.port.to_string(), "-U", USER]);
        succeed("pg_basebackup", copy.arg("-D").arg(cluster.data()).output().unwrap());
        cluster.place_socket();
        cluster.start();
        let synchronous = "ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf();";
        primary.sql("postgres", synchronous);
        let follows =
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";
        for left in (0..STARTS).rev() {
            if primary.sql("postgres", follows) == "1" {
                return cluster;
            }
            assert!(left > 0, "the standby does not follow");
            std::thread::sleep(PAUSE);
        }
        cluster
    }

    /// Makes a standby the primary, and waits until it is.
    pub(crate) fn promote(&self) {
        let mut command = self.program("pg_ctl");
        command.args(["promote", "--wait", "--silent", "--timeout=120", "-D"]).arg(self.data());
        succeed("pg_ctl promote", command.output().unwrap());
    }

    fn empty() -> Self {
        let bin = programs();
        let folder = tempfile::Builder::new().prefix("tollgate-postgres-").tempdir().unwrap().keep();
        let user = user();
        let watchdog = watchdog(&folder, &bin, user.as_deref());
        let cluster = Self { folder, bin, user, port: 5432, databases: AtomicU32::new(0), watchdog };
        cluster.give(&cluster.folder);
        cluster
    }

    fn place_socket(&self) {
        self.configure(&format!("unix_socket_directories = '{}'\n", self.folder.display()));
    }

    /// Most servers compare text by a language, not by its bytes: so does this one, where it can, so that a query which relies
    /// on bytes fails here.
    fn initialize(&self) {
        let data = self.data();
        let initdb = |more: &[&str]| {
            let mut command = self.program("initdb");
            command.args(["--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions"]);
            command.arg(format!("--username={USER}")).arg("-D").arg(&data).args(more);
            command.output().unwrap()
        };
        if !initdb(&["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"]).status.success() {
            succeed("initdb", initdb(&["--locale=C"]));
        }
    }

    /// Adds settings; they count from the next start.
    pub(crate) fn configure(&self, settings: &str) {
        let path = self.data().join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "{settings}").unwrap();
    }

    /// Lets the server listen on a port of the loopback, too, and gives it.
    pub(crate) fn listen(&mut self) -> u16 {
        self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        self.configure(&format!("listen_addresses = '127.0.0.1'\nport = {}\n", self.port));
        self.port
    }

    /// Moves a file to where the server may read it, and nobody else.
    pub(crate) fn adopt(&self, file: &Path) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.join(file.file_name().unwrap());
        fs::copy(file, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.give(&path);
        path
    }

    /// Starts the server as one that waits for the records of another, and lets itself be read meanwhile.
    pub(crate) fn follow(&self) {
        let signal = self.data().join("standby.signal");
        fs::write(&signal, "").unwrap();
        self.give(&signal);
        self.configure("hot_standby = on");
        self.start();
    }

    /// Starts the server, and waits until it serves.
    pub(crate) fn start(&self) {
        let log = self.folder.join("log");
        for left in (0..STARTS).rev() {
            let mut command = self.program("pg_ctl");
            command.args(["start", "--wait", "--silent", "--timeout=120", "-D"]).arg(self.data());
            let done =
                command.arg("-l").arg(&log).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            if done.success() {
                return;
            }
            if left > 0 {
                std::thread::sleep(PAUSE);
            }
        }
        panic!("PostgreSQL does not start:\n{}", fs::read_to_string(log).unwrap_or_default());
    }

    /// Stops the server, and waits until it is gone.
    pub(crate) fn stop(&self, how: Stop) {
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let mut command = self.program("pg_ctl");
        command.args(["stop", "--wait", "--silent", "--timeout=120", "--mode", mode, "-D"]);
        succeed("pg_ctl stop", command.arg(self.data()).output().unwrap());
    }

    /// `kill -9` of the server process; what served its connections ends by itself.
    pub(crate) fn kill(&self) {
        let pid = self.pid();
        succeed("kill", Command::new("kill").args(["-9", &pid]).output().unwrap());
        while is_running(&pid) {
            std::thread::sleep(PAUSE);
        }
    }

    /// The number of the server process.
    pub(crate) fn pid(&self) -> String {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().trim().to_owned()
    }

    /// A new, empty database: its address.
    pub(crate) fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.address(&name)
    }

    /// The address of a database by the socket.
    pub(crate) fn address(&self, name: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://{USER}@{folder}:{}/{name}", self.port)
    }

    /// The address of a database that one of several servers has: whichever may be written to.
    pub(crate) fn any_address(servers: &[&Self], name: &str) -> String {
        let places = servers.iter().map(|server| {
            let folder = server.folder.display().to_string().replace('/', "%2F");
            format!("{folder}:{}", server.port)
        });
        let places = places.collect::<Vec<_>>().join(",");
        format!("postgres://{USER}@{places}/{name}?target_session_attrs=read-write")
    }

    /// The address of a database by the port of [`Self::listen`].
    pub(crate) fn remote_address(&self, host: &str, name: &str) -> String {
        format!("postgres://{USER}@{host}:{}/{name}", self.port)
    }

    /// Runs statements, each in a transaction of its own, and gives what they print: one line a row, columns parted by `|`.
    pub(crate) fn sql(&self, database: &str, statements: &str) -> String {
        let mut command = as_user(None, &self.bin.join("psql"));
        command.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            USER,
        ]);
        command.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string(), "-d", database]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("psql: {error}"));
        child.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
        let output = succeed(statements, child.wait_with_output().unwrap());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn program(&self, name: &str) -> Command {
        as_user(self.user.as_deref(), &self.bin.join(name))
    }

    fn give(&self, path: &Path) {
        if let Some(user) = &self.user {
            let output = Command::new("chown").arg(user).arg(path).output().unwrap();
            succeed("chown", output);
        }
    }
}

/// A cluster of one's own ends with its test; the shared one with the process.
impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// Where PostgreSQL is: the folder that `TOLLGATE_POSTGRES_BIN` names, else on the path, else where Debian keeps it.
fn programs() -> PathBuf {
    let is_whole =
        |bin: &PathBuf| ["initdb", "postgres", "pg_ctl", "psql"].iter().all(|name| bin.join(name).exists());
    if let Some(named) = std::env::var_os("TOLLGATE_POSTGRES_BIN").map(PathBuf::from) {
        assert!(is_whole(&named), "TOLLGATE_POSTGRES_BIN names {}, where PostgreSQL is not", named.display());
        return named;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Links on the path lead to the folder with all the other programs.
    let on_path = std::env::split_paths(&path).filter_map(|folder| folder.join("initdb").canonicalize().ok());
    let on_path = on_path.filter_map(|program| program.parent().map(Path::to_owned));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut kept: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    kept.sort();
    on_path.chain(kept.into_iter().rev()).find(is_whole).expect(
        "these tests need a PostgreSQL: .make/postgres finds or installs one and prints the folder of its programs, which \
         TOLLGATE_POSTGRES_BIN names",
    )
}

/// A process that has ended, and whose parent has not asked how, is gone.
fn is_running(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}

/// `None`: whoever runs the tests.
fn user() -> Option<String> {
    let id = |args: &[&str]| Command::new("id").args(args).output().unwrap();
    if String::from_utf8_lossy(&id(&["-u"]).stdout).trim() != "0" {
        return None;
    }
    let known = |user: &&str| id(&["-u", user]).status.success();
    let user = ["postgres", "nobody"].into_iter().find(known);
    Some(user.expect("PostgreSQL does not run as root: make a user `postgres`").to_owned())
}

fn as_user(user: Option<&str>, program: &Path) -> Command {
    let mut command = match user {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--clear-groups", "--"]).arg(program);
            command
        }
    };
    // Nothing of the shell's own servers.
    let settings = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG"));
    settings.for_each(|(name, _)| {
        command.env_remove(name);
    });
    // Where the user may be.
    command.current_dir("/");
    command
}

/// Reads until this process is gone or lets go, then clears up. In a process group of its own, so that Ctrl-C leaves it its work.
fn watchdog(folder: &Path, bin: &Path, user: Option<&str>) -> Child {
    let pg_ctl = as_user(user, &bin.join("pg_ctl"));
    let words = std::iter::once(pg_ctl.get_program()).chain(pg_ctl.get_args());
    let script = r#"
        cat >/dev/null
        folder=$1; shift
        if [ -f "$folder/data/postmaster.pid" ]; then
            "$@" stop --wait --silent --mode immediate -D "$folder/data" >/dev/null 2>&1
        fi
        tries=0
        while ! rm -rf "$folder" 2>/dev/null && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
    "#;
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(folder)
        .args(words)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn succeed(what: &str, output: Output) -> Output {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}");
    output
}
