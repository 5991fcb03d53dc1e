//! A ledger's admin API in this process, over books in a temporary folder.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::Arc;
use tempfile::TempDir;
use tollgate_domain::price::{BUILT_IN, PriceBook};
use tollgate_ledger::admin::router;
use tollgate_ledger::master::MasterKey;
use tollgate_ledger::store::{BooksStore, Settings, sqlite};
use tower::ServiceExt;

pub(crate) const MASTER: &str = "sk-master";

pub(crate) struct Api {
    pub(crate) store: Arc<BooksStore>,
    router: Router,
    _folder: TempDir,
}

/// An answer: its status and its text, so that a test sees each number as it was written.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|why| panic!("{why}: {}", self.text))
    }

    /// The answer to a call that must succeed.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// Status, type, parameter and message of an error, whose envelope must be whole.
    pub(crate) fn error(&self) -> (u16, String, Option<String>, String) {
        let json = self.json();
        let error = &json["error"];
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        assert_eq!(text("code"), Some(self.status.to_string()), "{}", self.text);
        (self.status, text("type").unwrap(), text("param"), text("message").unwrap())
    }
}

impl Api {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let book = Arc::new(PriceBook::parse(BUILT_IN).unwrap());
        let (store, _) = sqlite::open(folder.path().join("ledger.db"), Settings::new(book)).unwrap();
        let store = Arc::new(store);
        let router = router(store.clone(), MasterKey::new(MASTER.as_bytes()));
        Self { store, router, _folder: folder }
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Calls with a key; a body is sent as `curl -d` sends it.
    pub(crate) async fn call(&self, method: Method, path: &str, key: Option<&str>, body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.call(Method::POST, path, Some(MASTER), body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, Some(MASTER), "").await
    }

    /// Makes a key of these fields.
    pub(crate) async fn key(&self, body: &str) -> String {
        let answer = self.post("/key/generate", body).await.ok();
        answer["key"].as_str().unwrap().to_owned()
    }

    /// What `/key/info` says of a key.
    pub(crate) async fn info(&self, key: &str) -> Value {
        self.get(&format!("/key/info?key={key}")).await.ok()["info"].clone()
    }
}
