//! How Envoy is started.

use crate::child::Command;
use std::path::{Path, PathBuf};

/// The command of an Envoy with this configuration.
pub(crate) fn command(
    envoy: &Path,
    config: PathBuf,
    concurrency: Option<u16>,
    log: Option<PathBuf>,
) -> Command {
    let mut arguments: Vec<std::ffi::OsString> = vec![
        "-c".into(),
        config.into(),
        "--disable-hot-restart".into(),
        "--log-level".into(),
        "warning".into(),
        // Whoever looks at the log wants what has just happened; Envoy's default is ten seconds.
        "--file-flush-interval-msec".into(),
        "1000".into(),
        // Once it is told to drain, every answer tells its client to go.
        "--drain-time-s".into(),
        "2".into(),
        "--drain-strategy".into(),
        "immediate".into(),
    ];
    if let Some(concurrency) = concurrency {
        arguments.extend(["--concurrency".into(), concurrency.to_string().into()]);
    }
    Command { name: "envoy", program: envoy.to_owned(), arguments, environment: Vec::new(), log }
}
