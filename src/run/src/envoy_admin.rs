//! Envoy's admin interface, on its Unix socket.

use crate::http;
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

/// What Envoy still has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Requests that are open.
    pub(crate) requests: u64,
    /// Reports that the ledger has not confirmed.
    pub(crate) reports: u64,
}

/// Envoy's admin interface.
#[derive(Clone, Debug)]
pub(crate) struct EnvoyAdmin {
    pub(crate) socket: PathBuf,
}

impl EnvoyAdmin {
    /// Tells clients to go with their next answer. Connections are taken on.
    pub(crate) async fn tell_clients_to_go(&self) -> io::Result<()> {
        self.post("/drain_listeners?graceful&skip_exit").await
    }

    /// Takes no new connection any more; open ones go on.
    pub(crate) async fn stop_listening(&self) -> io::Result<()> {
        self.post("/drain_listeners").await
    }

    /// Whether it serves: its configuration is loaded, its listeners are open.
    pub(crate) async fn is_ready(&self) -> bool {
        let Ok(request) = http::request("GET", "/ready") else { return false };
        matches!(http::to_socket(&self.socket, request).await, Ok((200, _)))
    }

    /// Whether its main thread answers.
    pub(crate) async fn is_alive(&self) -> bool {
        let Ok(request) = http::request("GET", "/ready") else { return false };
        http::to_socket(&self.socket, request).await.is_ok()
    }

    /// Everything it counts, in Prometheus' format.
    pub(crate) async fn metrics(&self) -> io::Result<Bytes> {
        let request = http::request("GET", "/stats/prometheus?usedonly")?;
        Ok(http::to_socket(&self.socket, request).await?.1)
    }

    async fn post(&self, path: &str) -> io::Result<()> {
        http::to_socket(&self.socket, http::request("POST", path)?).await.map(|_| ())
    }

    /// What is still open.
    pub(crate) async fn load(&self) -> io::Result<Load> {
        let request = http::request("GET", "/stats?filter=(downstream_rq_active$|reports_unconfirmed)")?;
        let (_, body) = http::to_socket(&self.socket, request).await?;
        Ok(parse_load(&String::from_utf8_lossy(&body)))
    }
}

/// What the shipped configurations call their listener.
const LISTENERS: [&str; 2] = ["ingress", "sidecar"];

fn parse_load(stats: &str) -> Load {
    let values: HashMap<&str, u64> = stats
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
        .collect();
    // One of each worker's filter.
    let sum_of =
        |part: &str| values.iter().filter(|(name, _)| name.contains(part)).map(|(_, value)| value).sum();
    let open = |listener| values.get(format!("http.{listener}.downstream_rq_active").as_str()).copied();
    Load {
        requests: LISTENERS.into_iter().filter_map(open).sum(),
        reports: sum_of(".tollgate.reports_unconfirmed."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_what_is_open_on_the_ingress_and_unconfirmed() {
        let stats = "http.admin.downstream_rq_active: 1\nhttp.ingress.downstream_rq_active: 2\n\
            wasmcustom.tollgate.reports_unconfirmed.0a: 3\nwasmcustom.tollgate.reports_unconfirmed.0b: 1\nx: No recorded values\n";
        assert_eq!(parse_load(stats), Load { requests: 2, reports: 4 });
        assert_eq!(parse_load("http.sidecar.downstream_rq_active: 1\n"), Load { requests: 1, reports: 0 });
        assert_eq!(parse_load(""), Load { requests: 0, reports: 0 });
    }
}
