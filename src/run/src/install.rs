//! `install`: from the image of the filter to a folder that Envoy's container shares.

use crate::files::{self, FileError};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};

/// The filter's name beside this program.
pub(crate) const FILTER: &str = "plugin.wasm";
/// This program's name there.
const PROGRAM: &str = "tollgate-run";

#[derive(Args)]
pub(crate) struct Install {
    /// The folder.
    folder: PathBuf,
    /// The filter, as the image has it.
    #[arg(long, default_value = "/plugin.wasm")]
    wasm: PathBuf,
}

/// Copies this program and the filter.
pub(crate) fn run(options: &Install) -> Result<(), FileError> {
    let own = std::env::current_exe().map_err(files::at(Path::new(PROGRAM)))?;
    for (from, name, mode) in [(own.as_path(), PROGRAM, 0o755), (options.wasm.as_path(), FILTER, 0o644)] {
        let bytes = fs::read(from).map_err(files::at(from))?;
        files::write(&options.folder.join(name), &bytes, mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn both_files_are_there_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let wasm = folder.path().join("from.wasm");
        let options = Install { folder: folder.path().to_owned(), wasm: wasm.clone() };
        for text in ["one", "another"] {
            fs::write(&wasm, text).unwrap();
            run(&options).unwrap();
            assert_eq!(fs::read_to_string(folder.path().join(FILTER)).unwrap(), text);
        }
        let mode = fs::metadata(folder.path().join(PROGRAM)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn an_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let options = Install { folder: folder.path().to_owned(), wasm: "/nowhere/plugin.wasm".into() };
        assert!(run(&options).unwrap_err().to_string().starts_with("/nowhere/plugin.wasm: "));
    }
}
