//! Both listeners, from the first connection to the last answer.

use crate::clock::Clock;
use crate::master::MasterKey;
use crate::service::LedgerService;
use crate::store::Operated;
use crate::{admin, admin_grpc};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tollgate_proto::v1::ledger_server::LedgerServer;
use tonic::transport::server::TcpIncoming;

/// How long requests in flight may take to end once the ledger is asked to: longer than a hold's own deadline of two seconds.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Bytes of the largest message on either port: a thousand reports or accounts with room to spare.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Where the ledger listens.
#[derive(Debug)]
pub struct Listeners {
    /// `tollgate.ledger.v1.Ledger`.
    pub grpc: TcpListener,
    /// The admin API, and `tollgate.ledger.v1.Admin` beside it.
    pub admin: TcpListener,
}

/// Why the ledger stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The gRPC listener failed.
    #[error("gRPC: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// The admin listener failed.
    #[error("admin API: {0}")]
    Admin(#[from] std::io::Error),
}

/// Serves until `shutdown`, then accepts nothing more, answers what is in flight, and drops the store.
///
/// # Errors
/// [`ServeError`].
pub async fn run<S: Operated>(
    listeners: Listeners,
    store: Arc<S>,
    master: MasterKey,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (stop, stopped) = watch::channel(false);
    let service = LedgerService::new(store.clone(), master.clone(), Clock::system());
    // Small answers that somebody waits for: sent at once.
    let incoming = TcpIncoming::from(listeners.grpc).with_nodelay(Some(true));
    let grpc = tonic::transport::Server::builder()
        .add_service(LedgerServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .serve_with_incoming_shutdown(incoming, until(stopped.clone()));
    let operator = admin_grpc::routes(store.clone(), master.clone(), stopped.clone());
    let admin = axum::serve(listeners.admin, admin::router(store, master).merge(operator))
        .with_graceful_shutdown(until(stopped.clone()));
    let serve = async {
        let admin = async { admin.await.map_err(ServeError::from) };
        let grpc = async { grpc.await.map_err(ServeError::from) };
        tokio::try_join!(grpc, admin).map(|_| ())
    };
    tokio::pin!(serve);
    tokio::select! {
        ended = &mut serve => return ended,
        () = shutdown => {}
    }
    stop.send_replace(true);
    tokio::time::timeout(DRAIN_MAX, serve).await.unwrap_or_else(|_| {
        tracing::warn!("requests in flight were cut off");
        Ok(())
    })
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that `run` is gone, and with it the reason to serve.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
