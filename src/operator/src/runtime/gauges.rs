//! What is shown of the operator: whether it is alive and ready, and how much it does.

use super::mirror::Mirror;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counters and gauges.
#[derive(Debug, Default)]
pub struct Gauges {
    leads: AtomicBool,
    whole: AtomicBool,
    ledger_synced: AtomicBool,
    rounds: AtomicU64,
    actions: AtomicU64,
    failures: AtomicU64,
    virtual_keys: AtomicU64,
    budgets: AtomicU64,
}

impl Gauges {
    pub(super) fn set(&self, leads: bool, mirror: &Mirror) {
        let world = mirror.world();
        self.leads.store(leads, Relaxed);
        self.whole.store(mirror.is_whole(), Relaxed);
        self.ledger_synced.store(world.ledger.synced, Relaxed);
        self.virtual_keys.store(world.virtual_keys.len() as u64, Relaxed);
        self.budgets.store(world.budgets.len() as u64, Relaxed);
    }

    pub(super) fn planned(&self, actions: usize) {
        self.rounds.fetch_add(1, Relaxed);
        self.actions.fetch_add(actions as u64, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// In the text format of Prometheus.
    fn text(&self) -> String {
        let bool = |value: &AtomicBool| u64::from(value.load(Relaxed));
        let count = |value: &AtomicU64| value.load(Relaxed);
        let lines = [
            ("leads", "gauge", "Whether this replica works", bool(&self.leads)),
            ("ledger_synced", "gauge", "Whether the ledger is heard", bool(&self.ledger_synced)),
            ("virtual_keys", "gauge", "VirtualKeys that are known", count(&self.virtual_keys)),
            ("budgets", "gauge", "Budgets that are known", count(&self.budgets)),
            ("plans_total", "counter", "Plans that were made", count(&self.rounds)),
            ("actions_total", "counter", "Actions that plans asked for", count(&self.actions)),
            ("failures_total", "counter", "Actions that failed", count(&self.failures)),
        ];
        let mut text = String::new();
        for (name, sort, help, value) in lines {
            let name = format!("tollgate_operator_{name}");
            let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {sort}\n{name} {value}");
        }
        text
    }
}

/// `/live`, `/ready` and `/metrics`.
pub fn routes(gauges: Arc<Gauges>) -> Router {
    let ready = gauges.clone();
    Router::new()
        .route("/live", get(|| async { "ok" }))
        .route(
            "/ready",
            get(move || async move {
                match ready.whole.load(Relaxed) {
                    true => (StatusCode::OK, "ok"),
                    false => (StatusCode::SERVICE_UNAVAILABLE, "the API server has not been listed yet"),
                }
            }),
        )
        .route("/metrics", get(move || async move { gauges.text() }))
}
