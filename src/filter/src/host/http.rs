//! One stream of Envoy's, as events of an exchange.

use super::calls::{self, Driver};
use super::{Shared, log, now, random};
use crate::machine::{AnswerHead, Exchange};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, LogLevel, MapType};
use std::cell::RefCell;
use std::rc::Rc;
use tollgate_domain::answer::{self, Reader};
use tollgate_domain::decision::Denial;
use tollgate_domain::ids::HoldId;
use tollgate_domain::request::head::{self, Head};

/// The context of one stream.
pub(super) struct Http {
    id: u32,
    shared: Option<Rc<Shared>>,
    exchange: Option<Rc<RefCell<Exchange>>>,
    /// Bytes of the request's body that the exchange has seen.
    seen: usize,
}

type Headers = Vec<(String, Vec<u8>)>;

fn headers(map: MapType) -> Option<Headers> {
    hostcalls::get_map_bytes(map).ok()
}

fn pseudo<'a>(headers: &'a Headers, name: &str) -> &'a str {
    let value = headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice());
    value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

/// Envoy's own words on where an answer came from, or how it broke.
fn code_details() -> String {
    let details = hostcalls::get_property(vec!["response", "code_details"]).ok().flatten();
    details.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

impl Http {
    pub(super) fn new(id: u32, shared: Option<Rc<Shared>>) -> Self {
        Self { id, shared, exchange: None, seen: 0 }
    }

    fn begin(&mut self, complete: bool) -> Option<Action> {
        let headers = headers(MapType::HttpRequestHeaders)?;
        let head =
            Head { method: pseudo(&headers, ":method"), path: pseudo(&headers, ":path"), headers: &headers };
        let (Some(shared), Some(id)) = (self.shared.clone(), random::bytes()) else {
            let reader = Reader { shape: head::shape(&head), codex: head::is_codex(&head) };
            calls::respond(&answer::denial(&Denial::Overloaded, reader));
            return Some(Action::Pause);
        };
        crash_if_asked(&shared, &head);
        let (exchange, effects) =
            Exchange::begin(&mut shared.vm.borrow_mut(), HoldId::new(id), &head, complete, now());
        let exchange = Rc::new(RefCell::new(exchange));
        self.exchange = Some(Rc::clone(&exchange));
        shared.exchanges.borrow_mut().insert(self.id, Rc::clone(&exchange));
        let forwarded = effects.iter().any(|effect| matches!(effect, crate::machine::Effect::Forward(_)));
        calls::perform(&shared, self.id, &exchange, effects, Driver::RequestHeaders);
        Some(if forwarded { Action::Continue } else { Action::Pause })
    }

    fn parts(&self) -> Option<(Rc<Shared>, Rc<RefCell<Exchange>>)> {
        Some((self.shared.clone()?, self.exchange.clone()?))
    }

    /// The next bytes of the request's body: while it is held back, the host counts all that it holds.
    fn more_body(&mut self, bytes: usize) -> Vec<u8> {
        let length = bytes.saturating_sub(self.seen);
        let chunk = hostcalls::get_buffer(BufferType::HttpRequestBody, self.seen, length).ok().flatten();
        self.seen = bytes.max(self.seen);
        chunk.unwrap_or_default()
    }
}

impl Context for Http {
    fn on_grpc_call_response(&mut self, token: u32, status: u32, bytes: usize) {
        if let Some(shared) = &self.shared {
            calls::answered(shared, token, status, bytes, false);
        }
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _: usize, complete: bool) -> Action {
        self.begin(complete).unwrap_or(Action::Pause)
    }

    fn on_http_request_body(&mut self, bytes: usize, complete: bool) -> Action {
        let Some((shared, exchange)) = self.parts() else { return Action::Pause };
        if !exchange.borrow().waits() {
            return if exchange.borrow().is_forwarded() { Action::Continue } else { Action::Pause };
        }
        let chunk = self.more_body(bytes);
        let effects = exchange.borrow_mut().body(&mut shared.vm.borrow_mut(), &chunk, complete, now());
        calls::perform(&shared, self.id, &exchange, effects, Driver::Stream);
        Action::Pause
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        let Some((shared, exchange)) = self.parts() else { return Action::Pause };
        if !exchange.borrow().waits() {
            return if exchange.borrow().is_forwarded() { Action::Continue } else { Action::Pause };
        }
        let effects = exchange.borrow_mut().request_end(&mut shared.vm.borrow_mut(), now());
        calls::perform(&shared, self.id, &exchange, effects, Driver::Stream);
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _: usize, complete: bool) -> Action {
        let Some((shared, exchange)) = self.parts() else { return Action::Continue };
        let Some(headers) = headers(MapType::HttpResponseHeaders) else { return Action::Continue };
        let status = pseudo(&headers, ":status").parse().unwrap_or(0);
        let head = exchange.borrow_mut().answer_head(status, &headers, &code_details(), complete, now());
        match head {
            None => Action::Continue,
            Some(AnswerHead::Replace(answer)) => {
                shared.counters.credential_refused.add(1);
                log(LogLevel::Error, "tollgate: a provider refuses this installation's credential");
                calls::respond(&answer);
                Action::Pause
            }
            Some(AnswerHead::Pass { remove, add }) => {
                for name in remove {
                    // A header that cannot be removed is not there.
                    let _ = hostcalls::remove_map_value(MapType::HttpResponseHeaders, &name);
                }
                for (name, value) in add {
                    let _ = hostcalls::set_map_value(MapType::HttpResponseHeaders, name, Some(&value));
                }
                Action::Continue
            }
        }
    }

    fn on_http_response_body(&mut self, bytes: usize, complete: bool) -> Action {
        let Some((_, exchange)) = self.parts() else { return Action::Continue };
        let mut exchange = exchange.borrow_mut();
        let Some(answering) = exchange.answering() else { return Action::Continue };
        let chunk = if answering.reads_body() {
            hostcalls::get_buffer(BufferType::HttpResponseBody, 0, bytes).ok().flatten().unwrap_or_default()
        } else {
            Vec::new()
        };
        if let Some(passed) = answering.body(&chunk, complete, now())
            && passed != chunk
            && hostcalls::set_buffer(BufferType::HttpResponseBody, 0, bytes, &passed).is_err()
        {
            log(LogLevel::Error, "tollgate: a chunk of usage could not be withheld");
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        if let Some(exchange) = &self.exchange
            && let Some(answering) = exchange.borrow_mut().answering()
        {
            answering.trailers();
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        let Some((shared, exchange)) = self.parts() else { return };
        shared.exchanges.borrow_mut().remove(&self.id);
        // A call whose stream has gone is never answered here.
        calls::forget(&shared, self.id);
        let estimated = exchange.borrow_mut().end(&mut shared.vm.borrow_mut(), &code_details(), now());
        shared.counters.estimated.add(usize::from(estimated));
        self.exchange = None;
    }
}

/// Tests have to see what becomes of open requests when a VM dies; nothing else sets this.
fn crash_if_asked(shared: &Shared, head: &Head<'_>) {
    let vm = shared.vm.borrow();
    let Some(name) = &vm.config.test_crash_header else { return };
    if head.headers.iter().any(|(other, _)| other == name) {
        std::process::abort();
    }
}
