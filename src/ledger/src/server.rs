//! The listeners, from the first connection to the last answer.

use crate::clock::Clock;
use crate::counters::Counters;
use crate::door::{Door, Peer};
use crate::master::MasterKey;
use crate::service::LedgerService;
use crate::store::Operated;
use crate::{admin, admin_grpc};
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tollgate_proto::v1::ledger_server::LedgerServer;
use tonic::transport::Server;

/// How long requests in flight may take to end once the ledger is asked to: longer than a hold's own deadline of two seconds.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Bytes of the largest message on either port: a thousand reports or accounts with room to spare.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// How long a connection with TLS lives before its client is asked to make a new one, with the certificates of then: nobody goes on
/// for long by a certificate that has ended. Requests in flight are answered.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(3_600);

/// Where the ledger listens.
#[derive(Debug)]
pub struct Listeners {
    /// `tollgate.ledger.v1.Ledger`.
    pub grpc: Door,
    /// The admin API, and `tollgate.ledger.v1.Admin` beside it.
    pub admin: Door,
    /// Health and metrics without TLS: probes have no certificates, and nothing there is secret.
    pub metrics: Option<TcpListener>,
}

impl Listeners {
    /// Without TLS, and without metrics.
    pub fn plain(grpc: TcpListener, admin: TcpListener) -> Self {
        Self { grpc: Door::plain(grpc), admin: Door::plain(admin), metrics: None }
    }
}

/// Why the ledger stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The gRPC listener failed.
    #[error("gRPC: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// The admin listener, or that of the metrics, failed.
    #[error("HTTP: {0}")]
    Http(#[from] std::io::Error),
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
    let mut server = Server::builder();
    if listeners.grpc.has_tls() {
        server = server.max_connection_age(CONNECTION_AGE_MAX);
    }
    let grpc = server
        .add_service(LedgerServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .serve_with_incoming_shutdown(listeners.grpc.incoming(), until(stopped.clone()));
    let operator = admin_grpc::routes(store.clone(), master.clone(), stopped.clone());
    let watched = watched(store.clone());
    let people = admin::router(store, master).layer(axum::middleware::from_fn(admin::let_in));
    let routes = people.merge(operator).into_make_service_with_connect_info::<Peer>();
    let admin = axum::serve(listeners.admin, routes).with_graceful_shutdown(until(stopped.clone()));
    let metrics = async {
        match listeners.metrics {
            Some(listener) => {
                axum::serve(listener, watched).with_graceful_shutdown(until(stopped.clone())).await
            }
            None => Ok(()),
        }
    };
    let serve = async {
        let http = async { tokio::try_join!(admin.into_future(), metrics).map_err(ServeError::from) };
        let grpc = async { grpc.await.map_err(ServeError::from) };
        tokio::try_join!(grpc, http).map(|_| ())
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

/// What is for whoever watches the ledger.
fn watched<S: Operated>(store: Arc<S>) -> Router {
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(store.counters());
    metrics.merge(admin::health::routes(store))
}

async fn metrics(State(counters): State<Arc<Counters>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], counters.to_string())
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that `run` is gone, and with it the reason to serve.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
