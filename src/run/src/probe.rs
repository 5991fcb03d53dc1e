//! `probe`: asks the gateway in the same pod, for probes that cannot reach it: a sidecar's listens on loopback alone.

use crate::http;
use clap::Args;
use std::io;

#[derive(Args)]
pub(crate) struct Probe {
    /// `/ready` or `/live`.
    #[arg(default_value = "/ready")]
    path: String,
    /// Where the gateway serves its health.
    #[arg(long, default_value_t = 4003)]
    metrics: u16,
}

/// Succeeds if the answer is 200.
pub(crate) async fn run(options: &Probe) -> io::Result<()> {
    match http::to_port(options.metrics, http::request("GET", &options.path)?).await? {
        (200, _) => Ok(()),
        (status, body) => {
            Err(io::Error::other(format!("{status}: {}", String::from_utf8_lossy(&body).trim_end())))
        }
    }
}
