//! The admin API.

use crate::master::MasterKey;
use crate::store::Store;
use std::sync::Arc;

/// The admin API over a store.
pub fn router<S: Store>(_store: Arc<S>, _master: MasterKey) -> axum::Router {
    axum::Router::new()
}
