//! `/health/*`: for probes, which have no key.

use crate::store::Store;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tollgate_domain::ids::KeyDigest;

/// A store that takes longer is as good as away: a hold waits no longer for it either.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The routes, to be merged with routes of any state.
pub(crate) fn routes<S: Store, T: Clone + Send + Sync + 'static>(store: Arc<S>) -> Router<T> {
    Router::new()
        .route("/health/liveliness", get(alive))
        .route("/health/liveness", get(alive))
        .route("/health/readiness", get(ready::<S>))
        .with_state(store)
}

/// `GET /health/liveliness` and `GET /health/liveness`
async fn alive() -> Json<&'static str> {
    Json("I'm alive!")
}

/// `GET /health/readiness`: whether the store answers, and can be written.
async fn ready<S: Store>(State(store): State<Arc<S>>) -> Response {
    // No key has this digest; looking for it reads the store, where holds do and not behind long lists.
    if let Some(why) = store.trouble() {
        let body = Json(json!({"status": "unhealthy", "db": "not writable", "reason": why}));
        return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    }
    let read = store.lookup(KeyDigest::new([0; 32]), Vec::new());
    match tokio::time::timeout(READ_TIMEOUT, read).await {
        Ok(Ok(_)) => {
            let mut body = json!({"status": "healthy", "db": "connected"});
            // Requests are served, by the prices of before: no reason to send them elsewhere. The log says why, with names.
            if store.prices_held_back().is_some() {
                body["prices"] = "the newest price book is not in force".into();
            }
            Json(body).into_response()
        }
        Ok(Err(_)) | Err(_) => {
            let body = Json(json!({"status": "unhealthy", "db": "disconnected"}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}
