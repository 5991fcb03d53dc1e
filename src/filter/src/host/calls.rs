//! Calls to the ledger, and carrying out what an exchange asks for.

use super::{Shared, log, metrics, now, upstream};
use crate::machine::reports::Batch;
use crate::machine::{Call, Effect, Exchange, Forward};
use prost::Message;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tollgate_domain::answer::Answer;
use tollgate_domain::time::Timestamp;
use tollgate_proto::v1;

/// What a call that has not been answered is about.
pub(super) enum Pending {
    Lookup(u32),
    Hold(u32),
    Reports(Batch),
}

/// From where an exchange is driven.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// From a callback about its request's headers, which go on by themselves.
    RequestHeaders,
    /// From another callback about it.
    Stream,
    /// From the root context, which has to take its place for every host call.
    Root,
}

const SERVICE: &str = "tollgate.ledger.v1.Ledger";
/// gRPC: the server is not there, did not answer in time, or broke off in its answer (Envoy's word for a reset after the
/// answer's head). Asking again is safe, because the ledger knows the hold by its id.
const TRANSIENT: [u32; 3] = [UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL];
const UNAVAILABLE: u32 = 14;
const DEADLINE_EXCEEDED: u32 = 4;
const INTERNAL: u32 = 13;
/// Pause after the ledger did not take reports.
const REPORTS_PAUSE_MS: i64 = 200;

/// Calls the ledger in the root's name, so that Envoy answers whatever becomes of the stream: the SDK remembers every call until
/// it is answered, and Envoy answers none of a stream that has gone.
fn dispatch_for(shared: &Shared, id: u32, driver: Driver, method: &str, message: &[u8]) -> Option<u32> {
    if driver == Driver::Root {
        return dispatch(shared, method, message);
    }
    hostcalls::set_effective_context(shared.root_id).ok()?;
    let token = dispatch(shared, method, message);
    hostcalls::set_effective_context(id).ok()?;
    token
}

fn dispatch(shared: &Shared, method: &str, message: &[u8]) -> Option<u32> {
    let (cluster, timeout_ms) = {
        let vm = shared.vm.borrow();
        (vm.config.ledger_cluster.clone(), vm.config.ledger_timeout_ms)
    };
    let timeout = Duration::from_millis(timeout_ms);
    let ledger = upstream::ledger(&cluster)?;
    hostcalls::dispatch_grpc_call(&ledger, SERVICE, method, Vec::new(), Some(message), timeout).ok()
}

/// Carries out what an exchange asks for.
pub(super) fn perform(
    shared: &Rc<Shared>,
    id: u32,
    exchange: &Rc<RefCell<Exchange>>,
    effects: Vec<Effect>,
    driver: Driver,
) {
    for effect in effects {
        match effect {
            Effect::Call(call) => {
                let sent = match &call {
                    Call::Lookup(request) => {
                        dispatch_for(shared, id, driver, "Lookup", &request.encode_to_vec())
                    }
                    Call::Hold(request) => dispatch_for(shared, id, driver, "Hold", &request.encode_to_vec()),
                };
                match (sent, call) {
                    (Some(token), Call::Lookup(_)) => remember(shared, token, Pending::Lookup(id)),
                    (Some(token), Call::Hold(_)) => remember(shared, token, Pending::Hold(id)),
                    (None, _) => {
                        let effects =
                            exchange.borrow_mut().call_failed(&mut shared.vm.borrow_mut(), true, now());
                        perform(shared, id, exchange, effects, driver);
                    }
                }
            }
            Effect::Respond(answer) => {
                shared.counters.refused.add(usize::from(answer.status >= 400));
                in_place_of(shared, id, driver, || respond(&answer));
            }
            Effect::Forward(forward) => in_place_of(shared, id, driver, || go_on(&forward, driver)),
        }
    }
}

fn remember(shared: &Shared, token: u32, pending: Pending) {
    shared.pending.borrow_mut().insert(token, pending);
}

/// Forgets the calls of a stream that has gone.
pub(super) fn forget(shared: &Shared, id: u32) {
    let of_it =
        |pending: &Pending| matches!(pending, Pending::Lookup(other) | Pending::Hold(other) if *other == id);
    shared.pending.borrow_mut().retain(|_, pending| !of_it(pending));
}

fn in_place_of(shared: &Shared, id: u32, driver: Driver, act: impl FnOnce()) {
    if driver != Driver::Root {
        return act();
    }
    if hostcalls::set_effective_context(id).is_ok() {
        act();
        // The root exists as long as the VM does.
        let _ = hostcalls::set_effective_context(shared.root_id);
    }
}

/// Answers the client.
pub(super) fn respond(answer: &Answer) {
    let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let headers = headers.chain([("content-type", "application/json")]).collect();
    if hostcalls::send_http_response(u32::from(answer.status), headers, Some(&answer.body)).is_err() {
        log(LogLevel::Error, "tollgate: an answer could not be sent; the request stays refused");
    }
}

/// Lets the request go on; one that cannot be changed as it must be is reset instead.
fn go_on(forward: &Forward, driver: Driver) {
    if change(forward).is_none() {
        log(LogLevel::Error, "tollgate: a request could not be changed, so it is reset");
        let _ = hostcalls::reset_http_request();
        return;
    }
    if driver != Driver::RequestHeaders {
        // Fails only if the stream is gone.
        let _ = hostcalls::resume_http_request();
    }
}

fn change(forward: &Forward) -> Option<()> {
    for name in &forward.remove {
        hostcalls::remove_map_value(MapType::HttpRequestHeaders, name).ok()?;
    }
    hostcalls::set_map_value(MapType::HttpRequestHeaders, ":path", Some(&forward.path)).ok()?;
    if let Some(edit) = &forward.body {
        let bytes = usize::try_from(edit.bytes).ok()?;
        let body = hostcalls::get_buffer(BufferType::HttpRequestBody, 0, bytes).ok()??;
        let body = edit.edits.apply(0, &body);
        hostcalls::set_buffer(BufferType::HttpRequestBody, 0, bytes, &body).ok()?;
        let length = body.len().to_string();
        hostcalls::set_map_value(MapType::HttpRequestHeaders, "content-length", Some(&length)).ok()?;
    }
    // The route is chosen by what only the filter can say: no header of a client's reaches this place.
    hostcalls::set_property(vec!["tollgate.route"], Some(forward.route.as_str().as_bytes())).ok()?;
    hostcalls::call_foreign_function("clear_route_cache", None).ok()?;
    Some(())
}

/// The ledger answered, or will not.
pub(super) fn answered(shared: &Rc<Shared>, token: u32, status: u32, bytes: usize, from_root: bool) {
    let Some(pending) = shared.pending.borrow_mut().remove(&token) else { return };
    let message = if status == 0 {
        hostcalls::get_buffer(BufferType::GrpcReceiveBuffer, 0, bytes).ok().map(Option::unwrap_or_default)
    } else {
        None
    };
    match pending {
        Pending::Reports(batch) => reports_answered(shared, batch, message),
        Pending::Lookup(id) => exchange_answered(shared, id, status, from_root, |exchange, shared| {
            let response = v1::LookupResponse::decode(message?.as_slice()).ok()?;
            Some(exchange.lookup_answered(&mut shared.vm.borrow_mut(), response, now()))
        }),
        Pending::Hold(id) => exchange_answered(shared, id, status, from_root, |exchange, shared| {
            let response = v1::HoldResponse::decode(message?.as_slice()).ok()?;
            let (effects, rejected) = exchange.hold_answered(&mut shared.vm.borrow_mut(), response, now());
            note_rejected(shared, &rejected);
            Some(effects)
        }),
    }
}

fn exchange_answered(
    shared: &Rc<Shared>,
    id: u32,
    status: u32,
    from_root: bool,
    understand: impl FnOnce(&mut Exchange, &Shared) -> Option<Vec<Effect>>,
) {
    let Some(exchange) = shared.exchanges.borrow().get(&id).cloned() else { return };
    let understood = understand(&mut exchange.borrow_mut(), shared);
    let effects = match understood {
        Some(effects) => effects,
        None => {
            let transient = TRANSIENT.contains(&status);
            exchange.borrow_mut().call_failed(&mut shared.vm.borrow_mut(), transient, now())
        }
    };
    perform(shared, id, &exchange, effects, if from_root { Driver::Root } else { Driver::Stream });
}

fn reports_answered(shared: &Shared, batch: Batch, message: Option<Vec<u8>>) {
    let response = message.and_then(|bytes| v1::ReportResponse::decode(bytes.as_slice()).ok());
    match response {
        Some(response) => {
            let rejected = shared.vm.borrow_mut().confirm(batch, &response.outcomes);
            note_rejected(shared, &rejected);
        }
        None => {
            shared.vm.borrow_mut().reports.put_back(batch);
            shared.reports_after.set(now().plus_ms(REPORTS_PAUSE_MS));
        }
    }
}

fn note_rejected(shared: &Shared, rejected: &[v1::ReportOutcome]) {
    shared.counters.rejected.add(rejected.len());
    for outcome in rejected {
        let hold = metrics::hex(&outcome.hold_id);
        log(
            LogLevel::Error,
            &format!("tollgate: the ledger rejects a report of hold {hold}: {}", outcome.reason),
        );
    }
}

/// Time has passed for every exchange.
pub(super) fn tick_exchanges(shared: &Rc<Shared>, now: Timestamp) {
    let exchanges: Vec<_> =
        shared.exchanges.borrow().iter().map(|(id, exchange)| (*id, Rc::clone(exchange))).collect();
    for (id, exchange) in exchanges {
        let effects = exchange.borrow_mut().tick(&mut shared.vm.borrow_mut(), now);
        perform(shared, id, &exchange, effects, Driver::Root);
    }
}

/// Sends what waits for the ledger.
pub(super) fn send_reports(shared: &Shared, now: Timestamp) {
    let pause = shared.reports_after.get().since_ms(now);
    // A pause longer than any of ours is a clock that went backwards.
    if (1..=REPORTS_PAUSE_MS).contains(&pause) {
        return;
    }
    loop {
        let Some(batch) = shared.vm.borrow_mut().reports.take() else { return };
        let message = v1::ReportRequest { events: batch.events() }.encode_to_vec();
        match dispatch(shared, "Report", &message) {
            Some(token) => remember(shared, token, Pending::Reports(batch)),
            None => {
                shared.vm.borrow_mut().reports.put_back(batch);
                shared.reports_after.set(now.plus_ms(REPORTS_PAUSE_MS));
                return;
            }
        }
    }
}
