//! What is counted and shown in Envoy's statistics, as `wasmcustom.tollgate.*`.

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// A number that goes up and down.
pub(super) struct Gauge {
    id: u32,
    shown: Option<u64>,
}

impl Gauge {
    pub(super) fn define(name: &str) -> Option<Self> {
        let id = hostcalls::define_metric(MetricType::Gauge, name).ok()?;
        Some(Self { id, shown: None })
    }

    pub(super) fn show(&mut self, value: u64) {
        if self.shown != Some(value) && hostcalls::record_metric(self.id, value).is_ok() {
            self.shown = Some(value);
        }
    }

    /// Shows it anew next time: another VM may have taken this one for dead.
    pub(super) fn doubt(&mut self) {
        self.shown = None;
    }
}

/// Sets somebody else's gauge to nothing.
pub(super) fn clear(name: &str) {
    if let Ok(id) = hostcalls::define_metric(MetricType::Gauge, name) {
        // A gauge that cannot be written says something old, and harms nothing else.
        let _ = hostcalls::record_metric(id, 0);
    }
}

/// Numbers that only rise, over all VMs.
#[derive(Default)]
pub(super) struct Counters {
    /// Requests that were refused here.
    pub(super) refused: Counter,
    /// Ends that were charged by an estimate, or by the hold.
    pub(super) estimated: Counter,
    /// Reports that the ledger will never take.
    pub(super) rejected: Counter,
    /// Answers in which a provider refused this installation's credential: somebody should look.
    pub(super) credential_refused: Counter,
}

impl Counters {
    pub(super) fn define() -> Self {
        Self {
            refused: Counter::define("tollgate.requests_refused"),
            estimated: Counter::define("tollgate.ends_estimated"),
            rejected: Counter::define("tollgate.reports_rejected"),
            credential_refused: Counter::define("tollgate.provider_credential_refused"),
        }
    }
}

/// A number that only rises.
#[derive(Default)]
pub(super) struct Counter(Option<u32>);

impl Counter {
    fn define(name: &str) -> Self {
        let id = hostcalls::define_metric(MetricType::Counter, name).ok();
        if let Some(id) = id {
            // Envoy shows it from now on, as nothing: what first appears as a one has not risen, to whoever watches it.
            let _ = hostcalls::record_metric(id, 0);
        }
        Self(id)
    }

    pub(super) fn add(&self, count: usize) {
        if let (Some(id), Ok(count)) = (self.0, i64::try_from(count))
            && count > 0
        {
            // Counting is no reason to fail.
            let _ = hostcalls::increment_metric(id, count);
        }
    }
}

/// Bytes as text.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
