//! What the kubelet and Prometheus ask: three paths, over plain HTTP, and nothing else of Envoy's admin interface.

use crate::envoy_admin::EnvoyAdmin;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Whoever asks and says nothing is not waited for.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);
/// Probes and scrapes are few.
const CONNECTIONS_MAX: usize = 64;

/// How the gateway is.
#[derive(Debug)]
pub(crate) struct Health {
    envoy: EnvoyAdmin,
    draining: AtomicBool,
}

impl Health {
    pub(crate) fn new(envoy: EnvoyAdmin) -> Arc<Self> {
        Arc::new(Self { envoy, draining: AtomicBool::new(false) })
    }

    /// From now on nobody shall be sent here.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    async fn ready(&self) -> (StatusCode, &'static str) {
        if self.draining.load(Ordering::Relaxed) {
            (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        } else if self.envoy.is_ready().await {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "Envoy is not ready\n")
        }
    }

    async fn live(&self) -> (StatusCode, &'static str) {
        if self.envoy.is_alive().await {
            (StatusCode::OK, "alive\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "Envoy does not answer\n")
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        match self.envoy.metrics().await {
            Ok(metrics) => {
                let mut response = Response::new(Full::new(metrics));
                let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, format);
                response
            }
            Err(_) => text((StatusCode::SERVICE_UNAVAILABLE, "Envoy does not answer\n")),
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return text((StatusCode::METHOD_NOT_ALLOWED, "only GET\n"));
        }
        match request.uri().path() {
            "/ready" => text(self.ready().await),
            "/live" => text(self.live().await),
            "/metrics" => self.metrics().await,
            _ => text((StatusCode::NOT_FOUND, "there are /ready, /live and /metrics\n")),
        }
    }
}

fn text((status, text): (StatusCode, &'static str)) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

/// Answers, for as long as it is asked to.
pub(crate) async fn serve(listener: TcpListener, health: Arc<Health>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: what is open has to end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let health = health.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let health = health.clone();
                async move { Ok::<_, Infallible>(health.answer(&request).await) }
            });
            // A client that leaves early is its own affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_PATIENCE)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
            drop(place);
        });
    }
}
