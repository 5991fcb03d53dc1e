//! The only place that knows proxy-wasm: callbacks become events, effects become host calls.
//!
//! The SDK's trait methods unwrap what the host answers, so everything here goes by `hostcalls`, which gives the errors that a
//! filter can meet as values; on answers that no host may give it panics, and Envoy replaces the VM.
//! What all contexts of a VM share lives behind `RefCell`s that are never borrowed across a host call.

mod calls;
mod http;
mod metrics;
mod random;
mod shared_data;
mod upstream;

use crate::config::Config;
use crate::machine::ring::Ring;
use crate::machine::{Exchange, Vm};
use calls::Pending;
use http::Http;
use metrics::{Counters, Gauge};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tollgate_domain::time::Timestamp;

#[allow(unsafe_code)] // The SDK's entry point is an exported symbol.
mod entry {
    use super::{LogLevel, Root};

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Info);
        proxy_wasm::set_root_context(|id| Box::new(Root::new(id)));
    }}
}

/// What the contexts of one VM share.
struct Shared {
    root_id: u32,
    vm: RefCell<Vm>,
    exchanges: RefCell<BTreeMap<u32, Rc<RefCell<Exchange>>>>,
    pending: RefCell<BTreeMap<u32, Pending>>,
    /// No reports are sent before, because the ledger did not answer the last ones.
    reports_after: Cell<Timestamp>,
    counters: Counters,
}

/// Gauges of each VM by its name; whoever reads them sums them up.
#[derive(Default)]
struct Metrics {
    unconfirmed: Option<Gauge>,
    open: Option<Gauge>,
}

const UNCONFIRMED: &str = "tollgate.reports_unconfirmed";
const OPEN: &str = "tollgate.requests_open";

/// The root context: settings, the passing of time, and the reports.
struct Root {
    id: u32,
    shared: Option<Rc<Shared>>,
    metrics: Metrics,
    beat_at: Timestamp,
}

/// How often a VM shows that it lives.
const BEAT_MS: i64 = 1_000;

/// Now. Envoy always knows; if it did not, everything remembered would look old, which is safe.
fn now() -> Timestamp {
    let since =
        hostcalls::get_current_time().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    Timestamp::new(since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0))
}

fn log(level: LogLevel, message: &str) {
    // Nobody to tell if even this fails.
    let _ = hostcalls::log(level, message);
}

impl Root {
    fn new(id: u32) -> Self {
        Self { id, shared: None, metrics: Metrics::default(), beat_at: Timestamp::new(0) }
    }

    fn configure(&mut self, bytes: usize) -> Result<(), String> {
        let json = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, bytes);
        let json = json.ok().flatten().unwrap_or_default();
        let config = Config::parse(&json).map_err(|error| error.to_string())?;
        let nonce = random::bytes().ok_or("the host gives no random bytes")?;
        hostcalls::set_tick_period(Duration::from_millis(config.tick_ms))
            .map_err(|_| "the host gives no ticks")?;
        let ring = Ring::new(Box::new(shared_data::Envoy), config.slots, nonce);
        self.metrics = Metrics {
            unconfirmed: Gauge::define(&format!("{UNCONFIRMED}.{}", metrics::hex(&nonce))),
            open: Gauge::define(&format!("{OPEN}.{}", metrics::hex(&nonce))),
        };
        self.shared = Some(Rc::new(Shared {
            root_id: self.id,
            vm: RefCell::new(Vm::new(config, ring)),
            exchanges: RefCell::default(),
            pending: RefCell::default(),
            reports_after: Cell::new(Timestamp::new(0)),
            counters: Counters::define(),
        }));
        Ok(())
    }
}

impl Context for Root {
    fn on_grpc_call_response(&mut self, token: u32, status: u32, bytes: usize) {
        if let Some(shared) = &self.shared {
            calls::answered(shared, token, status, bytes, true);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, bytes: usize) -> bool {
        match self.configure(bytes) {
            Ok(()) => true,
            Err(error) => {
                log(LogLevel::Critical, &format!("tollgate: {error}"));
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(shared) = &self.shared else { return };
        let now = now();
        if !(0..BEAT_MS).contains(&now.since_ms(self.beat_at)) {
            self.beat_at = now;
            for gauge in [&mut self.metrics.unconfirmed, &mut self.metrics.open].into_iter().flatten() {
                gauge.doubt();
            }
            let (adopted, dead) = shared.vm.borrow_mut().beat();
            for nonce in &dead {
                // Its reports are ours now, and so is their part of the sum.
                metrics::clear(&format!("{UNCONFIRMED}.{}", metrics::hex(nonce)));
                metrics::clear(&format!("{OPEN}.{}", metrics::hex(nonce)));
            }
            if adopted > 0 {
                log(LogLevel::Warn, &format!("tollgate: reporting {adopted} requests that a lost VM left"));
            }
        }
        calls::tick_exchanges(shared, now);
        calls::send_reports(shared, now);
        let unconfirmed = shared.vm.borrow().reports.unconfirmed();
        if let Some(gauge) = &mut self.metrics.unconfirmed {
            gauge.show(unconfirmed);
        }
        if let Some(gauge) = &mut self.metrics.open {
            gauge.show(u64::try_from(shared.exchanges.borrow().len()).unwrap_or(u64::MAX));
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http::new(id, self.shared.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
