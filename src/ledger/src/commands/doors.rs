//! Where `serve` listens, and what it asks of those who come. Everything off loopback is TLS.

use super::Failure;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tollgate_ledger::door::Door;
use tollgate_ledger::server::Listeners;
use tollgate_ledger::tls::{Callers, Tls, TlsFiles};

#[derive(Args)]
pub(crate) struct DoorArgs {
    /// Where the filter finds the ledger (gRPC).
    #[arg(long, env = "TOLLGATE_LEDGER_GRPC", hide_env_values = true, default_value = "127.0.0.1:4001")]
    grpc: SocketAddr,
    /// Where the admin API listens (HTTP).
    #[arg(long, env = "TOLLGATE_LEDGER_ADMIN", hide_env_values = true, default_value = "127.0.0.1:4002")]
    admin: SocketAddr,
    /// Where probes find /health/liveness and /health/readiness, and Prometheus /metrics; never by TLS.
    #[arg(long, env = "TOLLGATE_LEDGER_METRICS", hide_env_values = true, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// The ledger's certificate, with what is between it and its authority (PEM). The files are followed without a restart.
    #[arg(long, env = "TOLLGATE_LEDGER_TLS_CERT", hide_env_values = true, value_name = "FILE", help_heading = TLS)]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, env = "TOLLGATE_LEDGER_TLS_KEY", hide_env_values = true, value_name = "FILE", help_heading = TLS)]
    tls_key: Option<PathBuf>,
    /// The authorities of the clients' certificates (PEM).
    #[arg(long, env = "TOLLGATE_LEDGER_TLS_CLIENT_CA", hide_env_values = true, value_name = "FILE", help_heading = TLS)]
    tls_client_ca: Option<PathBuf>,
    /// Listens off loopback without TLS: everybody who can reach the ledger can then spend, and read the master key on its way.
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key", "tls_client_ca"], help_heading = TLS)]
    insecure: bool,
}

const TLS: &str = "TLS, on both (all three files or none)";

impl DoorArgs {
    /// Whether others than this machine can come.
    pub(crate) fn are_off_loopback(&self) -> bool {
        !self.grpc.ip().is_loopback() || !self.admin.ip().is_loopback()
    }

    /// Reads the certificates.
    ///
    /// # Errors
    /// Where they are not good, some are missing, or there are none and others than this machine can come.
    pub(crate) fn tls(&self) -> Result<Option<Arc<Tls>>, Failure> {
        let Some(files) = self.files()? else {
            if self.are_off_loopback() && !self.insecure {
                let why = "off loopback the ledger wants TLS: give --tls-cert, --tls-key and --tls-client-ca, or --insecure \
                           where the network itself is trusted";
                return Err(why.into());
            }
            return Ok(None);
        };
        Ok(Some(Arc::new(Tls::open(files)?)))
    }

    fn files(&self) -> Result<Option<TlsFiles>, Failure> {
        let of = |file: &Option<PathBuf>| file.clone().filter(|file| !file.as_os_str().is_empty());
        match (of(&self.tls_cert), of(&self.tls_key), of(&self.tls_client_ca)) {
            (None, None, None) => Ok(None),
            (Some(certificate), Some(key), Some(client_authorities)) => {
                Ok(Some(TlsFiles { certificate, key, client_authorities }))
            }
            (certificate, key, client_authorities) => {
                let missing = [
                    ("--tls-cert", certificate.is_none()),
                    ("--tls-key", key.is_none()),
                    ("--tls-client-ca", client_authorities.is_none()),
                ];
                let missing = missing.iter().filter(|(_, missing)| *missing).map(|(name, _)| *name);
                let missing = missing.collect::<Vec<_>>().join(" and ");
                Err(format!(
                    "{missing} must be given, too: --tls-cert, --tls-key and --tls-client-ca belong together"
                )
                .into())
            }
        }
    }

    /// Listens.
    ///
    /// # Errors
    /// Where an address is not there or is taken.
    pub(crate) async fn listen(&self, tls: Option<Arc<Tls>>) -> Result<Listeners, Failure> {
        let (grpc, admin) = (bind(self.grpc).await?, bind(self.admin).await?);
        let metrics = match self.metrics {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let Some(tls) = tls else { return Ok(Listeners { metrics, ..Listeners::plain(grpc, admin) }) };
        let grpc = Door::tls(grpc, tls.clone(), Callers::Certified);
        Ok(Listeners { grpc, admin: Door::tls(admin, tls, Callers::Anyone), metrics })
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}").into())
}
