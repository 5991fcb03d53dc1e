//! `/models`: for the master key, every model that has a price. A virtual key's own list is the data path's.

use super::App;
use super::auth::Admin;
use crate::store::Store;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use std::sync::Arc;
use tollgate_domain::answer;
use tollgate_domain::api::Shape;

/// `GET /v1/models` and `GET /models`
pub(crate) async fn list<S: Store>(_: Admin, State(app): State<Arc<App<S>>>) -> impl IntoResponse {
    let answer = answer::models(app.store.prices().catalogue().models().iter(), Shape::OpenAi);
    ([(CONTENT_TYPE, "application/json")], answer.body)
}
