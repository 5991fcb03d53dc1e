//! The webhook: the API server asks about each pod with the label, and gets a patch or a sentence.

use super::LABEL;
use super::judge::Refusal;
use super::patch::inject;
use super::settings::Settings;
use crate::authority::Own;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::Listener;
use axum::{Json, Router};
use k8s_openapi::ByteString;
use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Bytes of the largest question: an object may have 1.5 MiB, and an old one may come along.
const BODY_BYTES_MAX: usize = 4 << 20;
/// The API server is near.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes under way at once.
const HANDSHAKES_MAX: usize = 128;
/// How long to wait where the system has no descriptor to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The question: as much of an `AdmissionReview` as is needed.
#[derive(Deserialize)]
struct Review {
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

/// `POST /inject`.
pub fn routes(settings: Arc<Settings>) -> Router {
    Router::new()
        .route("/inject", post(answer))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(settings)
}

async fn answer(
    State(settings): State<Arc<Settings>>,
    Json(review): Json<Review>,
) -> Result<Json<Value>, StatusCode> {
    let request = review.request.ok_or(StatusCode::BAD_REQUEST)?;
    let done = if request.object["metadata"]["labels"][LABEL] == "true" {
        inject(&request.object, &request.namespace, &settings)
    } else {
        // The configuration asks about no such pod; somebody has changed it.
        Ok(json_patch::Patch(Vec::new()))
    };
    Ok(Json(json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": response(&request.uid, done),
    })))
}

fn response(uid: &str, done: Result<json_patch::Patch, Refusal>) -> Value {
    match done.map(|patch| (patch.0.is_empty(), serde_json::to_vec(&patch))) {
        Ok((true, _)) => json!({ "uid": uid, "allowed": true }),
        Ok((false, Ok(patch))) => {
            json!({ "uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": ByteString(patch) })
        }
        Ok((false, Err(error))) => refused(uid, 500, &error.to_string()),
        Err(refusal) => refused(uid, 422, &refusal.to_string()),
    }
}

fn refused(uid: &str, code: u16, why: &str) -> Value {
    json!({ "uid": uid, "allowed": false, "status": { "code": code, "message": why } })
}

/// Serves until `stop`, by the certificate that is the newest when somebody comes. Nobody is let in before there is one.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    own: watch::Receiver<Option<Own>>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(Door { listener, own, handshakes: JoinSet::new() }, routes).with_graceful_shutdown(stop).await
}

/// A listener with TLS. A handshake goes its own way, so that a slow client holds up nobody.
struct Door {
    listener: TcpListener,
    own: watch::Receiver<Option<Own>>,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl Listener for Door {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                accepted = self.listener.accept(), if self.handshakes.len() < HANDSHAKES_MAX => match accepted {
                    Ok((stream, from)) => self.welcome(stream, from),
                    Err(error) => {
                        tracing::debug!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Door {
    fn welcome(&mut self, stream: TcpStream, from: SocketAddr) {
        let config = self.own.borrow().as_ref().map(config);
        let acceptor = match config {
            Some(Ok(config)) => TlsAcceptor::from(config),
            Some(Err(error)) => return tracing::warn!(%error, "the webhook's certificate is no good"),
            None => return tracing::warn!("the webhook has no certificate yet"),
        };
        self.handshakes.spawn(async move {
            let agreed = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await;
            let agreed = agreed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let tell = |error: &io::Error| tracing::warn!(%from, %error, "no TLS with a client");
            agreed.inspect_err(tell).ok().map(|stream| (stream, from))
        });
    }
}

/// For each connection anew: the API server keeps few, and keeps them long.
fn config(own: &Own) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error>> {
    let pair = own.webhook.pair.as_ref().ok_or("there is none")?;
    let shown = SingleCertAndKey::from(pair.certified()?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
