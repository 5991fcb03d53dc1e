//! The admin API: HTTP and JSON for people and their scripts, in the paths and fields that LiteLLM's scripts use.
//!
//! A handler reads its body or query into a value that is right or an error that names the field, asks the store, and
//! renders the answer. Nothing here decides about money, and the only answer that holds a whole key is the one that
//! made it.

mod auth;
mod error;
mod events;
mod fields;
pub(crate) mod health;
mod key;
mod models;
mod organization;
mod own_key;
mod query;
mod random;
mod render;
mod spend;
mod tag;
mod team;
mod terms;
mod unenforced;
mod user;

use crate::clock::Clock;
use crate::door::Peer;
use crate::master::MasterKey;
use crate::permits;
use crate::store::{AccountFilter, AccountRecord, AccountRef, NewAccount, Owners, Page, Store};
use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use error::ApiError;
use std::sync::Arc;
use tokio::sync::Mutex;
use tollgate_domain::account::AccountKind;

/// Bytes of the largest body: a list of keys to delete is the longest that anybody sends.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Who made what the master key made; LiteLLM's name for the same.
const ADMIN: &str = "default_user_id";

/// What the handlers share.
struct App<S> {
    store: Arc<S>,
    master: MasterKey,
    clock: Clock,
    /// Held while an update reads what it leaves unchanged and writes it back.
    updates: Mutex<()>,
}

/// The admin API over `store`; all of it but the health checks wants the master key, or a virtual key that asks for itself.
pub fn router<S: Store>(store: Arc<S>, master: MasterKey) -> Router {
    let health = health::routes(store.clone());
    let app = App { store, master, clock: Clock::system(), updates: Mutex::new(()) };
    Router::new()
        .route("/key/generate", post(key::generate::<S>))
        .route("/key/info", get(key::info::<S>))
        .route("/key/update", post(key::update::<S>))
        .route("/key/delete", post(key::delete::<S>))
        .route("/key/block", post(key::block::<S>))
        .route("/key/unblock", post(key::unblock::<S>))
        .route("/key/list", get(key::list::<S>))
        .route("/team/new", post(team::new::<S>))
        .route("/team/update", post(team::update::<S>))
        .route("/team/delete", post(team::delete::<S>))
        .route("/team/block", post(team::block::<S>))
        .route("/team/unblock", post(team::unblock::<S>))
        .route("/team/info", get(team::info::<S>))
        .route("/team/list", get(team::list::<S>))
        .route("/organization/new", post(organization::new::<S>))
        .route("/organization/info", get(organization::info::<S>).post(organization::infos::<S>))
        .route("/organization/list", get(organization::list::<S>))
        .route("/tag/new", post(tag::new::<S>))
        .route("/tag/update", post(tag::update::<S>))
        .route("/tag/info", post(tag::infos::<S>))
        .route("/tag/delete", post(tag::delete::<S>))
        .route("/tag/list", get(tag::list::<S>))
        .route("/tag/summary", get(tag::summary::<S>))
        .route("/budget/events", get(events::list::<S>))
        .route("/user/new", post(user::new::<S>))
        .route("/user/info", get(user::info::<S>))
        .route("/spend/logs", get(spend::logs::<S>))
        .route("/spend/tags", get(spend::tags::<S>))
        .route("/spend/correct", post(spend::correct::<S>))
        .route("/v1/models", get(models::list::<S>))
        .route("/models", get(models::list::<S>))
        .merge(health)
        .fallback(async || ApiError::no_route())
        .method_not_allowed_fallback(async || ApiError::no_route())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::map_response(not_to_be_stored))
        .with_state(Arc::new(app))
}

/// Turns away whoever shows a certificate that has no business here, before a key is looked at.
pub async fn let_in(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, Response> {
    match permits::may_show_a_key(&peer) {
        Ok(()) => Ok(next.run(request).await),
        Err(refusal) => Err(ApiError::turned_away(&refusal).into_response()),
    }
}

/// Answers speak of keys and money: no cache on the way keeps them.
async fn not_to_be_stored(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Accounts that are read from the store at a time where all are wanted.
const ACCOUNTS_AT_A_TIME: u64 = 500;

impl<S: Store> App<S> {
    /// The account of this kind and id, which the caller named in `param`.
    async fn account(&self, kind: AccountKind, param: &str, id: &str) -> Result<AccountRecord, ApiError> {
        let record = self.store.account(AccountRef::Id(kind, id.to_owned())).await?;
        record.ok_or_else(|| ApiError::not_found(param, format!("{param}: {kind} {id:?} does not exist")))
    }

    /// Every account of a kind that belongs to these.
    async fn accounts(&self, kind: AccountKind, owners: Owners) -> Result<Vec<AccountRecord>, ApiError> {
        let mut all = Vec::new();
        loop {
            let filter = AccountFilter { kind, owners: owners.clone(), alias: None, digest: None };
            let page = Page { offset: all.len() as u64, limit: ACCOUNTS_AT_A_TIME };
            let (records, total) = self.store.accounts(filter, page).await?;
            let more = !records.is_empty();
            all.extend(records);
            if !more || all.len() as u64 >= total {
                return Ok(all);
            }
        }
    }

    /// Makes an account without a credential.
    async fn create(
        &self,
        kind: AccountKind,
        id: String,
        spec: crate::store::AccountSpec,
    ) -> Result<AccountRecord, ApiError> {
        let account = NewAccount { kind, id, spec, credential: None, created_by: ADMIN.to_owned() };
        Ok(self.store.create(account).await?)
    }
}
