//! The control API: what arrived, and what is held back.

use crate::script::Script;
use crate::serve::Mock;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get, post, put};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// The routes below `/mock/`, and the health check.
pub(crate) fn routes() -> Router<Arc<Mock>> {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/mock/requests", get(requests))
        .route("/mock/requests", delete(forget))
        .route("/mock/count", get(count))
        .route("/mock/held", get(held))
        .route("/mock/release", post(release))
        .route("/mock/defaults", put(defaults))
}

async fn requests(State(mock): State<Arc<Mock>>) -> Json<Value> {
    Json(mock.log.show())
}

async fn forget(State(mock): State<Arc<Mock>>) -> StatusCode {
    mock.log.forget();
    StatusCode::NO_CONTENT
}

async fn count(State(mock): State<Arc<Mock>>) -> Json<Value> {
    Json(json!({"count": mock.log.count()}))
}

async fn held(State(mock): State<Arc<Mock>>) -> Json<Value> {
    Json(json!({"held": mock.gate.waiting()}))
}

async fn release(State(mock): State<Arc<Mock>>) -> Json<Value> {
    Json(json!({"released": mock.gate.release()}))
}

async fn defaults(State(mock): State<Arc<Mock>>, body: Bytes) -> Result<StatusCode, (StatusCode, String)> {
    let bad = |error: String| (StatusCode::BAD_REQUEST, error);
    let defaults: BTreeMap<String, String> =
        serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    let defaults: Vec<(String, String)> = defaults.into_iter().collect();
    Script::parse(&HeaderMap::new(), &defaults).map_err(bad)?;
    *mock.defaults.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(defaults);
    Ok(StatusCode::NO_CONTENT)
}
