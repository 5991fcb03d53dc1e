//! Builds the shim, and tells a ledger to run on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// A folder whose operations are written down and can be made to fail.
pub(crate) struct Disk {
    root: TempDir,
    lies: Option<&'static str>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let disk = Self { root: tempfile::tempdir().unwrap(), lies: None };
        std::fs::create_dir(disk.folder()).unwrap();
        std::fs::create_dir(disk.faults()).unwrap();
        disk
    }

    /// Files with this ending are never synced, though the disk says so.
    pub(crate) fn that_lies_about(ending: &'static str) -> Self {
        Self { lies: Some(ending), ..Self::new() }
    }

    /// Where the ledger keeps its file.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap().join("data")
    }

    fn faults(&self) -> PathBuf {
        self.root.path().join("faults")
    }

    pub(crate) fn trace(&self) -> PathBuf {
        self.root.path().join("trace")
    }

    /// How much has been written down: what was acknowledged by now was done before this.
    pub(crate) fn position(&self) -> u64 {
        std::fs::metadata(self.trace()).map_or(0, |trace| trace.len())
    }

    /// `room` more bytes fit into files with this ending (empty: into all).
    pub(crate) fn fill(&self, ending: &str, room: u64) {
        self.fault("full", ending, room);
    }

    /// No file with this ending can be synced.
    pub(crate) fn fail_syncs(&self, ending: &str) {
        self.fault("sync-error", ending, 0);
    }

    /// Nothing fails any more.
    pub(crate) fn mend(&self) {
        for fault in std::fs::read_dir(self.faults()).unwrap() {
            std::fs::remove_file(fault.unwrap().path()).unwrap();
        }
    }

    fn fault(&self, kind: &str, ending: &str, number: u64) {
        let draft = self.root.path().join("draft");
        std::fs::write(&draft, format!("{number} {ending}")).unwrap();
        std::fs::rename(draft, self.faults().join(kind)).unwrap();
    }

    /// Makes the command run on this disk.
    pub(crate) fn under(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("DISK_FOLDER", self.folder())
            .env("DISK_TRACE", self.trace())
            .env("DISK_FAULTS", self.faults());
        if let Some(ending) = self.lies {
            command.env("DISK_LIES", ending);
        }
    }
}

/// Compiled once for each run of the tests. A C compiler is there: SQLite was built by it.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(folder).unwrap();
        let (draft, library) =
            (folder.join(format!("disk-{}.so", std::process::id())), folder.join("disk.so"));
        let compiler = std::env::var_os("CC").unwrap_or("cc".into());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk/shim.c");
        let built = Command::new(compiler)
            .args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o"])
            .args([&draft, &source])
            .status()
            .unwrap();
        assert!(built.success(), "the shim was not built");
        std::fs::rename(draft, &library).unwrap();
        library
    })
}
