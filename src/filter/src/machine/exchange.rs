//! One request on its way in: judged, held, forwarded, or refused.
//!
//! Events come as they come: the head, pieces of the body, the end, answers of the ledger, the passing of time. After
//! each of them [`Exchange::advance`] looks at everything that is known and takes the next step, so no order of events
//! needs a rule of its own.

mod ledger;

use super::Vm;
use super::answering::{AnswerHead, Answering, head_without_meter};
use super::effect::{BodyEdit, Effect, Forward, Route};
use super::policies::{DENIAL_FRESH_MS, FREE_FRESH_MS, Key};
use super::reports::Batch;
use super::ring::Slot;
use prost::Message;
use std::rc::Rc;
use tollgate_domain::answer::{self, Answer, Reader};
use tollgate_domain::api::{Api, Shape};
use tollgate_domain::catalogue::{Catalogue, Model};
use tollgate_domain::decision::{self, Admission, Denial};
use tollgate_domain::hold::Event;
use tollgate_domain::ids::{HoldId, KeyDigest};
use tollgate_domain::policy::Policy;
use tollgate_domain::request::body::{Body, BodyReader};
use tollgate_domain::request::head::{self, Head, Operation, Request};
use tollgate_domain::time::Timestamp;
use tollgate_proto::v1;

/// The sequence of an end: above any adjust's.
const LAST_SEQUENCE: u64 = 1 << 40;

#[derive(Debug)]
enum Phase {
    /// Waits for events, or for the next step.
    Judging,
    /// A call to the ledger is under way, or about to be repeated.
    Calling(Asked),
    /// The request has gone on.
    Forwarded,
    /// The client has its answer from us.
    Refused,
}

/// A call that has not been answered.
#[derive(Debug)]
struct Asked {
    what: What,
    since: Timestamp,
    /// When to ask again; `None`: a call is under way.
    again_at: Option<Timestamp>,
    /// Another exchange asks; this one waits for what it hears.
    follows: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Lookup,
    Hold,
}

/// What a hold was asked for, and what has to be known of it until it is reported.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) admission: Admission,
    pub(super) slot: Option<Slot>,
}

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    id: HoldId,
    reader: Reader,
    phase: Phase,
    request: Option<Request>,
    key: Option<KeyDigest>,
    remove: Vec<String>,
    body_reader: Option<BodyReader>,
    body: Option<Result<Rc<Body>, Denial>>,
    buffered: u64,
    complete: bool,
    stale: u32,
    held: Option<Held>,
    riding: Option<Batch>,
    /// Looks its key up for all that want to know.
    leads: bool,
    route: Option<Route>,
    answering: Option<Answering>,
}

impl Exchange {
    /// A request's head has come; `complete`: nothing follows.
    pub fn begin(
        vm: &mut Vm,
        id: HoldId,
        head: &Head<'_>,
        complete: bool,
        now: Timestamp,
    ) -> (Self, Vec<Effect>) {
        let reader = Reader { shape: head::shape(head), codex: head::is_codex(head) };
        let mut exchange = Self {
            id,
            reader,
            phase: Phase::Judging,
            request: None,
            key: None,
            remove: left_behind(head),
            body_reader: None,
            body: None,
            buffered: 0,
            complete,
            stale: 0,
            held: None,
            riding: None,
            leads: false,
            route: None,
            answering: None,
        };
        let effects = match exchange.read_head(vm, head) {
            Ok(()) => exchange.advance(vm, now),
            Err(denial) => exchange.refuse(vm, &denial),
        };
        (exchange, effects)
    }

    fn read_head(&mut self, vm: &Vm, head: &Head<'_>) -> Result<(), Denial> {
        let request = head::classify(head)?;
        if request.operation != Operation::Hello {
            self.key = Some(head::credential(head)?);
        }
        let announced = head::header(head, "content-length").next();
        let announced =
            announced.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
        if announced.unwrap_or(0_u64) > vm.config.body_bytes_max {
            return Err(Denial::BodyTooLarge);
        }
        self.body_reader = BodyReader::new(&request.operation);
        self.reader.shape = request.shape;
        self.request = Some(request);
        Ok(())
    }

    /// Whether the request still waits for a decision, so that nothing of it may go on.
    pub fn waits(&self) -> bool {
        matches!(self.phase, Phase::Judging | Phase::Calling(_))
    }

    /// Whether the request has gone on.
    pub fn is_forwarded(&self) -> bool {
        matches!(self.phase, Phase::Forwarded)
    }

    /// Names the request to the client and in the journal.
    pub fn id(&self) -> HoldId {
        self.id
    }

    /// More of the body has come; `complete`: it was the last.
    pub fn body(&mut self, vm: &mut Vm, bytes: &[u8], complete: bool, now: Timestamp) -> Vec<Effect> {
        if !self.waits() || self.complete {
            return Vec::new();
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.buffered.saturating_add(length) > vm.config.body_bytes_max {
            return self.refuse(vm, &Denial::BodyTooLarge);
        }
        if let Some(key) = &self.key
            && let known = vm.policies.get(key).is_some_and(|entry| !matches!(entry.key, Key::Unknown))
            && !vm.buffered.take(key, length, known)
        {
            return self.refuse(vm, &Denial::Overloaded);
        }
        self.buffered = self.buffered.saturating_add(length);
        if let Some(reader) = &mut self.body_reader {
            reader.feed(bytes);
        }
        self.complete = complete;
        if complete { self.advance(vm, now) } else { Vec::new() }
    }

    /// The request is over without a further piece of body: trailers have come.
    pub fn request_end(&mut self, vm: &mut Vm, now: Timestamp) -> Vec<Effect> {
        if !self.waits() || self.complete {
            return Vec::new();
        }
        self.complete = true;
        self.advance(vm, now)
    }

    /// Takes the next step, if what it needs is there.
    fn advance(&mut self, vm: &mut Vm, now: Timestamp) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Judging) {
            return Vec::new();
        }
        match self.next_step(vm, now) {
            Step::Wait => Vec::new(),
            Step::Respond(answer) => {
                self.leave(vm, Phase::Refused);
                vec![Effect::Respond(self.stamped(answer))]
            }
            Step::Deny(denial) => self.refuse(vm, &denial),
            Step::Lookup => self.ask(vm, What::Lookup, now),
            Step::Hold(held) => self.hold(vm, *held, now),
            Step::Forward(forward) => self.go_on(vm, forward),
        }
    }

    fn go_on(&mut self, vm: &mut Vm, forward: Forward) -> Vec<Effect> {
        self.route = Some(forward.route);
        self.leave(vm, Phase::Forwarded);
        vec![Effect::Forward(forward)]
    }

    fn next_step(&mut self, vm: &mut Vm, now: Timestamp) -> Step {
        let Some(operation) = self.request.as_ref().map(|request| request.operation.clone()) else {
            return Step::Wait;
        };
        let Some(key) = self.key else { return Step::Respond(hello()) };
        let Some(entry) = vm.policies.get(&key) else { return Step::Lookup };
        // A denial is final only on fresh word.
        let deny =
            |denial| if entry.is_fresh(now, DENIAL_FRESH_MS) { Step::Deny(denial) } else { Step::Lookup };
        let (policy, exhausted) = match &entry.key {
            Key::Virtual { policy, exhausted } => (policy, exhausted.as_ref()),
            Key::Administrator => return self.administrator(&operation),
            Key::Unknown => return deny(Denial::KeyUnknown),
        };
        // What costs nothing needs a valid key, and no money.
        let billed = matches!(operation, Operation::Answer(_));
        if let Err(denial) = decision::gate(policy, exhausted.filter(|_| billed), now) {
            return deny(denial);
        }
        if !billed && !entry.is_fresh(now, FREE_FRESH_MS) {
            return Step::Lookup;
        }
        let catalogue = vm.policies.catalogue();
        match operation {
            Operation::Hello => Step::Respond(hello()),
            Operation::Models(name) => match models(policy, &catalogue, name, self.reader.shape) {
                Ok(answer) => Step::Respond(answer),
                Err(denial) => deny(denial),
            },
            Operation::CountTokens | Operation::Answer(_) if !self.complete => Step::Wait,
            Operation::CountTokens => match self.count_tokens(vm, policy, &catalogue) {
                Ok(forward) => Step::Forward(forward),
                Err((denial, true)) => deny(denial),
                Err((denial, false)) => Step::Deny(denial),
            },
            Operation::Answer(api) => {
                let body = match self.read_body() {
                    Ok(body) => body,
                    Err(denial) => return Step::Deny(denial),
                };
                let Some(client) = self.request.as_ref().map(|request| &request.client) else {
                    return Step::Wait;
                };
                match decision::admit(policy, &catalogue, &vm.config.providers, api, client, &body) {
                    Ok(admission) => Step::Hold(Box::new(Held { admission, slot: None })),
                    Err(denial @ (Denial::TooManyTags | Denial::Field { .. })) => Step::Deny(denial),
                    Err(denial) => deny(denial),
                }
            }
        }
    }

    /// The master key reads the list of models from the ledger, and buys nothing.
    fn administrator(&self, operation: &Operation) -> Step {
        let Operation::Models(name) = operation else { return Step::Deny(Denial::KeyUnknown) };
        let path = name.as_ref().map_or_else(|| "/v1/models".to_owned(), |name| format!("/v1/models/{name}"));
        Step::Forward(Forward { route: Route::Admin, path, remove: Vec::new(), body: None })
    }

    /// The error's flag: whether it rests on the policy.
    fn count_tokens(
        &mut self,
        vm: &Vm,
        policy: &Policy,
        catalogue: &Catalogue,
    ) -> Result<Forward, (Denial, bool)> {
        let body = self.read_body().map_err(|denial| (denial, false))?;
        let model =
            decision::judge_model(policy, catalogue, &vm.config.providers, Api::Messages, &body.model)
                .map_err(|denial| (denial, true))?;
        Ok(self.forward(model, &body))
    }

    fn read_body(&mut self) -> Result<Rc<Body>, Denial> {
        if let Some(reader) = self.body_reader.take() {
            self.body = Some(reader.finish().map(Rc::new));
        }
        self.body.clone().unwrap_or(Err(Denial::Field { name: "body", why: "is missing" }))
    }

    fn forward(&self, model: &Model, body: &Body) -> Forward {
        let request = self.request.as_ref();
        let path = request.and_then(|request| request.operation.canonical_path()).unwrap_or_default();
        let query = request.and_then(|request| request.query.as_deref()).filter(|query| !query.is_empty());
        let edits = body.edits(&model.name, self.asks_for_usage(body));
        let body = (!edits.is_empty()).then_some(BodyEdit { edits, bytes: body.bytes });
        let path = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        Forward { route: Route::Provider(model.provider), path, remove: self.remove.clone(), body }
    }

    fn api(&self) -> Option<Api> {
        match self.request.as_ref()?.operation {
            Operation::Answer(api) => Some(api),
            _ => None,
        }
    }

    /// Streams of these APIs tell usage only when asked.
    fn asks_for_usage(&self, body: &Body) -> bool {
        body.stream
            && !body.wants_usage
            && matches!(self.api(), Some(Api::ChatCompletions | Api::Completions))
    }

    /// Time has passed.
    pub fn tick(&mut self, vm: &mut Vm, now: Timestamp) -> Vec<Effect> {
        match &self.phase {
            Phase::Calling(Asked { what, again_at: Some(at), .. }) if *at <= now => {
                let what = *what;
                self.ask(vm, what, now)
            }
            Phase::Calling(Asked { follows: true, since, .. }) => {
                let since = *since;
                self.follow(vm, since, now)
            }
            Phase::Forwarded => {
                let heartbeat_ms = vm.config.heartbeat_ms;
                let event =
                    self.answering.as_mut().and_then(|answering| answering.sign_of_life(heartbeat_ms, now));
                if let Some((sequence, event)) = event {
                    let report = self.report(sequence, event);
                    vm.reports.push(report, None);
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The head of an answer has come, from whomever. `None`: it is nothing of a provider's, and passes.
    pub fn answer_head(
        &mut self,
        status: u16,
        headers: &[(String, Vec<u8>)],
        details: &str,
        complete: bool,
        now: Timestamp,
    ) -> Option<AnswerHead> {
        match (&mut self.answering, self.route) {
            (Some(answering), _) => Some(answering.head(status, headers, details, complete, now)),
            (None, Some(Route::Provider(_))) => {
                Some(head_without_meter(self.id, self.reader, status, headers, details))
            }
            (None, _) => None,
        }
    }

    /// The answer's side, once the request has gone on to be billed.
    pub fn answering(&mut self) -> Option<&mut Answering> {
        self.answering.as_mut()
    }

    /// The exchange is over, however it came to that. `details` are Envoy's `response.code_details`. Gives whether its charge is
    /// not what the provider named.
    pub fn end(&mut self, vm: &mut Vm, details: &str, now: Timestamp) -> bool {
        if let Some(batch) = self.riding.take() {
            vm.reports.put_back(batch);
        }
        self.release_buffer(vm);
        self.stop_leading(vm);
        let mut estimated = false;
        let held = self.held.take();
        match (self.answering.take(), held) {
            (Some(answering), Some(held)) => {
                let event = answering.end(details, now);
                estimated = matches!(&event, Event::Settle(settlement) if settlement.estimated);
                self.queue(vm, event, held.slot);
            }
            // The hold was asked for and nobody knows whether it was made.
            (None, Some(held)) => self.queue(vm, Event::Void { status: 0 }, held.slot),
            (_, None) => {}
        }
        self.phase = Phase::Refused;
        estimated
    }

    fn queue(&self, vm: &mut Vm, event: Event, slot: Option<Slot>) {
        let report = self.report(LAST_SEQUENCE, event);
        if let Some(slot) = &slot {
            vm.ring.replace(slot, &v1::ReportEvent::from(report.clone()).encode_to_vec());
        }
        vm.reports.push(report, slot);
    }

    /// The ledger does not answer: the client is told, and a hold that may have been made is given back.
    fn give_up(&mut self, vm: &mut Vm) -> Vec<Effect> {
        if let Some(held) = self.held.take() {
            self.queue(vm, Event::Void { status: 503 }, held.slot);
        }
        self.refuse(vm, &Denial::LedgerAway)
    }

    fn refuse(&mut self, vm: &mut Vm, denial: &Denial) -> Vec<Effect> {
        if let Some(slot) = self.held.take().and_then(|held| held.slot) {
            vm.ring.release(slot);
        }
        self.leave(vm, Phase::Refused);
        vec![Effect::Respond(self.stamped(answer::denial(denial, self.reader)))]
    }

    fn stamped(&self, mut answer: Answer) -> Answer {
        answer.headers.push(("x-tollgate-request-id", self.id.to_string()));
        answer
    }

    fn leave(&mut self, vm: &mut Vm, phase: Phase) {
        self.release_buffer(vm);
        self.stop_leading(vm);
        self.phase = phase;
    }

    fn release_buffer(&mut self, vm: &mut Vm) {
        if let Some(key) = &self.key {
            vm.buffered.release(key, std::mem::take(&mut self.buffered));
        }
    }
}

/// Envoy finds no route for a request without this header; the virtual host removes it once the route is found.
const NEEDED_FOR_ROUTES: &str = "x-forwarded-proto";

fn left_behind(head: &Head<'_>) -> Vec<String> {
    let names = head.headers.iter().map(|(name, _)| name);
    names.filter(|name| head::stays_behind(name) && name.as_str() != NEEDED_FOR_ROUTES).cloned().collect()
}

enum Step {
    Wait,
    Respond(Answer),
    Deny(Denial),
    Lookup,
    Hold(Box<Held>),
    Forward(Forward),
}

fn hello() -> Answer {
    Answer { status: 200, headers: Vec::new(), body: b"{}".to_vec() }
}

fn models(
    policy: &Policy,
    catalogue: &Catalogue,
    name: Option<String>,
    shape: Shape,
) -> Result<Answer, Denial> {
    let Some(name) = name else { return Ok(answer::models(policy.models(catalogue), shape)) };
    match catalogue.resolve(&name) {
        Some(model) if policy.allows(model, catalogue) => Ok(answer::model(model, shape)),
        _ => {
            let allowed = policy.models(catalogue).map(|model| model.name.clone()).collect();
            Err(Denial::ModelNotAllowed { model: name, allowed })
        }
    }
}
