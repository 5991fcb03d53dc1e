//! What callers see while the store is away.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use tollgate_domain::hold::{HoldAsk, Outcome, Report, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::{BUILT_IN, PriceBook};
use tollgate_ledger::admin::router;
use tollgate_ledger::counters::Counters;
use tollgate_ledger::master::MasterKey;
use tollgate_ledger::store::{
    AccountChange, AccountFilter, AccountRecord, AccountRef, Crossing, Found, NewAccount, Page, Reach,
    SpendFilter, SpendRecord, Store, StoreError, TagSpend,
};
use tower::ServiceExt;

/// A store that nothing reaches.
struct Away;

/// Why, in words that are for the log alone.
fn away<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("disk /var/lib/secret-path is full".into()))
}

impl Store for Away {
    async fn hold_within(
        &self,
        _: Reach,
        _: HoldAsk,
        _: Vec<Report>,
    ) -> Result<(Verdict, Vec<Outcome>), StoreError> {
        away()
    }

    async fn report_within(&self, _: Reach, _: Vec<Report>) -> Result<Vec<Outcome>, StoreError> {
        away()
    }

    async fn correct(&self, _: HoldId, _: Nanodollars) -> Result<Nanodollars, StoreError> {
        away()
    }

    async fn lookup_within(&self, _: Reach, _: KeyDigest, _: Vec<u8>) -> Result<Found, StoreError> {
        away()
    }

    fn prices(&self) -> Arc<PriceBook> {
        Arc::new(PriceBook::parse(BUILT_IN).unwrap())
    }

    async fn create(&self, _: NewAccount) -> Result<AccountRecord, StoreError> {
        away()
    }

    async fn update(&self, _: AccountRef, _: AccountChange) -> Result<AccountRecord, StoreError> {
        away()
    }

    async fn delete(&self, _: Vec<AccountRef>) -> Result<Vec<AccountRecord>, StoreError> {
        away()
    }

    async fn account(&self, _: AccountRef) -> Result<Option<AccountRecord>, StoreError> {
        away()
    }

    async fn accounts(&self, _: AccountFilter, _: Page) -> Result<(Vec<AccountRecord>, u64), StoreError> {
        away()
    }

    async fn spend_logs(&self, _: SpendFilter, _: Page) -> Result<Vec<SpendRecord>, StoreError> {
        away()
    }

    async fn spend_by_tag(&self, _: SpendFilter) -> Result<Vec<TagSpend>, StoreError> {
        away()
    }

    fn counters(&self) -> Arc<Counters> {
        Arc::default()
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    async fn crossings(&self, _: i64, _: u64) -> Result<Vec<Crossing>, StoreError> {
        away()
    }
}

async fn call(router: &Router, request: Request<Body>) -> (u16, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_store_that_is_away_is_a_503_that_says_no_more() {
    let router = router(Arc::new(Away), MasterKey::new(b"sk-master"));
    let paths = ["/key/list", "/key/info?key=sk-a", "/team/info?team_id=t", "/spend/logs", "/spend/tags"];
    let gets = paths.map(|path| Request::get(path).header("x-api-key", "sk-master").body(Body::empty()));
    let posts = ["/key/generate", "/user/new", "/team/new"];
    let posts = posts.map(|path| Request::post(path).header("x-api-key", "sk-master").body(Body::from("{}")));
    let own = Request::get("/key/info").header("x-api-key", "sk-somebody").body(Body::empty());
    for request in gets.into_iter().chain(posts).chain([own]) {
        let request = request.unwrap();
        let path = request.uri().clone();
        let (status, body) = call(&router, request).await;
        assert_eq!((status, &body["error"]["type"]), (503, &json!("no_db_connection")), "{path}");
        assert!(!body.to_string().contains("secret-path"), "{body}");
    }
}

#[tokio::test]
async fn probes_tell_the_process_from_its_store() {
    let router = router(Arc::new(Away), MasterKey::new(b"sk-master"));
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(call(&router, get("/health/liveness")).await, (200, json!("I'm alive!")));
    let unhealthy = json!({"status": "unhealthy", "db": "disconnected"});
    assert_eq!(call(&router, get("/health/readiness")).await, (503, unhealthy));
}
