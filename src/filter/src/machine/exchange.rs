//! One request on its way in: judged, held, forwarded, or refused.
//!
//! Events come as they come: the head, pieces of the body, the end, answers of the ledger, the passing of time. After
//! each of them [`Exchange::advance`] looks at everything that is known and takes the next step, so no order of events
//! needs a rule of its own.

use super::Vm;
use super::answering::{AnswerHead, Answering, head_without_meter};
use super::policies::{DENIAL_FRESH_MS, Entry, FREE_FRESH_MS, Key};
use super::reports::Batch;
use super::ring::Slot;
use prost::Message;
use std::rc::Rc;
use tollgate_domain::answer::{self, Answer, Reader};
use tollgate_domain::api::{Api, Shape};
use tollgate_domain::catalogue::{Catalogue, Model, Provider};
use tollgate_domain::decision::{self, Admission, Denial};
use tollgate_domain::hold::{End, Event, HoldAsk, HoldDenied, Report, Settlement, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest};
use tollgate_domain::policy::{Exhausted, Policy};
use tollgate_domain::price::Modifiers;
use tollgate_domain::request::body::{Body, BodyReader};
use tollgate_domain::request::edit::Edits;
use tollgate_domain::request::head::{self, Head, Operation, Request};
use tollgate_domain::time::Timestamp;
use tollgate_proto::v1;

/// What the host has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the ledger.
    Call(Call),
    /// Answer the client; nothing goes to the provider.
    Respond(Answer),
    /// Let the request go on, changed.
    Forward(Forward),
}

/// A call to the ledger, and its request's bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `Lookup`
    Lookup(v1::LookupRequest),
    /// `Hold`
    Hold(Box<v1::HoldRequest>),
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a provider.
    Provider(Provider),
    /// To the ledger's admin API.
    Admin,
}

impl Route {
    /// The word by which Envoy's routes know it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider(provider) => provider.as_str(),
            Self::Admin => "admin",
        }
    }
}

/// A request that goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Where.
    pub route: Route,
    /// The path and query.
    pub path: String,
    /// Headers that stay behind.
    pub remove: Vec<String>,
    /// What changes in the body; `None`: there is none, or it passes as it is.
    pub body: Option<BodyEdit>,
}

/// Changes of a body.
#[derive(Clone, Debug, PartialEq)]
pub struct BodyEdit {
    /// The changes.
    pub edits: Edits,
    /// Bytes before them.
    pub bytes: u64,
}

/// Policies that turn out to be old in a row, before the ledger is taken to be broken.
const STALE_MAX: u32 = 3;
/// How long to wait before a ledger that is away is asked again.
const RETRY_MS: i64 = 50;
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
        let known = !matches!(self.phase, Phase::Calling(Asked { what: What::Lookup, .. }));
        if let Some(key) = &self.key
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
                    Err(denial @ Denial::TooManyTags) => Step::Deny(denial),
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

    fn hold(&mut self, vm: &mut Vm, mut held: Held, now: Timestamp) -> Vec<Effect> {
        held.slot = self.held.take().and_then(|before| before.slot);
        if held.slot.is_none() {
            held.slot = vm.ring.claim(&self.lost().encode_to_vec());
        }
        if held.slot.is_none() {
            return self.refuse(vm, &Denial::Overloaded);
        }
        self.held = Some(held);
        self.ask(vm, What::Hold, now)
    }

    /// What has to be reported if this VM does not live to report anything better.
    fn lost(&self) -> v1::ReportEvent {
        let settlement = Settlement {
            usage: None,
            estimated: true,
            end: End::FilterLost,
            model: None,
            modifiers: Modifiers::default(),
            extra: Vec::new(),
            status: 0,
            duration_ms: 0,
            first_byte_ms: 0,
        };
        self.report(LAST_SEQUENCE, Event::Settle(settlement)).into()
    }

    pub(super) fn report(&self, sequence: u64, event: Event) -> Report {
        let key = self.key.unwrap_or(KeyDigest::new([0; 32]));
        Report { hold: self.id, key, sequence, event }
    }

    fn ask(&mut self, vm: &mut Vm, what: What, now: Timestamp) -> Vec<Effect> {
        let since = match &self.phase {
            Phase::Calling(asked) if asked.what == what => asked.since,
            _ => now,
        };
        let call = match what {
            What::Lookup => self.lookup_call(vm),
            What::Hold => self.hold_call(vm),
        };
        self.phase = Phase::Calling(Asked { what, since, again_at: None });
        call.map(Effect::Call).into_iter().collect()
    }

    fn lookup_call(&self, vm: &mut Vm) -> Option<Call> {
        let key = self.key?;
        let known_version = match vm.policies.get(&key).map(|entry| entry.key) {
            Some(Key::Virtual { policy, .. }) => policy.version.clone(),
            _ => Vec::new(),
        };
        Some(Call::Lookup(v1::LookupRequest {
            key_digest: key.as_bytes().to_vec(),
            known_version,
            catalogue_revision: vm.policies.catalogue().revision(),
        }))
    }

    fn hold_call(&mut self, vm: &mut Vm) -> Option<Call> {
        let (key, api, request) = (self.key?, self.api()?, self.request.as_ref()?);
        let policy_version = match vm.policies.get(&key).map(|entry| entry.key) {
            Some(Key::Virtual { policy, .. }) => policy.version.clone(),
            _ => Vec::new(),
        };
        let admission = &self.held.as_ref()?.admission;
        let body = self.body.as_ref()?.as_ref().ok()?;
        let ask = HoldAsk {
            id: self.id,
            key,
            policy_version,
            model: admission.model.name.clone(),
            provider: admission.model.provider,
            api,
            bounds: admission.bounds,
            modifiers: body.modifiers.clone(),
            fallback_models: admission.fallback_models.clone(),
            tags: admission.tags.clone(),
            session: request.client.session.clone(),
            end_user: body.end_user.clone(),
            client: request.client.product.clone(),
            catalogue_revision: vm.policies.catalogue().revision(),
        };
        let mut message = v1::HoldRequest::from(ask);
        // Waiting reports ride along, so that the next call never meets its own predecessor's hold. Behind them stand those that
        // are under way already; their outcomes are the others' concern.
        let under_way = vm.reports.in_flight_of(&key);
        self.riding = vm.reports.take();
        message.reports = self.riding.as_ref().map(Batch::events).unwrap_or_default();
        message.reports.extend(under_way);
        Some(Call::Hold(Box::new(message)))
    }

    /// The ledger answered a look-up.
    pub fn lookup_answered(
        &mut self,
        vm: &mut Vm,
        response: v1::LookupResponse,
        now: Timestamp,
    ) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Calling(Asked { what: What::Lookup, .. })) {
            return Vec::new();
        }
        self.phase = Phase::Judging;
        let Some(key) = self.key else { return Vec::new() };
        match learn(vm, key, response, now) {
            Some(()) => self.advance(vm, now),
            None => self.refuse(vm, &Denial::LedgerAway),
        }
    }

    /// The ledger answered a hold. Gives the effects, and the reports that it will never take.
    pub fn hold_answered(
        &mut self,
        vm: &mut Vm,
        response: v1::HoldResponse,
        now: Timestamp,
    ) -> (Vec<Effect>, Vec<v1::ReportOutcome>) {
        let rejected =
            self.riding.take().map(|batch| vm.confirm(batch, &response.outcomes)).unwrap_or_default();
        if !matches!(self.phase, Phase::Calling(Asked { what: What::Hold, .. })) {
            return (Vec::new(), rejected);
        }
        self.phase = Phase::Judging;
        let effects = match response.verdict.map(Verdict::try_from) {
            Some(Ok(Verdict::Held { .. })) => self.held(vm, now),
            Some(Ok(Verdict::Denied(denied))) => self.hold_denied(vm, denied, now),
            Some(Ok(Verdict::Stale(policy, catalogue))) => {
                self.stale = self.stale.saturating_add(1);
                if let Some(catalogue) = catalogue {
                    vm.policies.set_catalogue(*catalogue);
                }
                self.remember(vm, Key::Virtual { policy: Rc::new(*policy), exhausted: None }, now);
                if self.stale > STALE_MAX { self.give_up(vm) } else { self.advance(vm, now) }
            }
            Some(Err(_)) | None => self.give_up(vm),
        };
        (effects, rejected)
    }

    fn remember(&self, vm: &mut Vm, key: Key, now: Timestamp) {
        if let Some(digest) = self.key {
            vm.policies.insert(digest, Entry { key, confirmed_at: now });
        }
    }

    fn held(&mut self, vm: &mut Vm, now: Timestamp) -> Vec<Effect> {
        let (Some(held), Some(Ok(body)), Some(api)) = (&self.held, self.body.clone(), self.api()) else {
            return self.give_up(vm);
        };
        let forward = self.forward(&held.admission.model, &body);
        let withholds = self.asks_for_usage(&body);
        self.answering = Some(Answering::new(self.id, self.reader, api, &held.admission, withholds, now));
        self.go_on(vm, forward)
    }

    fn hold_denied(&mut self, vm: &mut Vm, denied: HoldDenied, now: Timestamp) -> Vec<Effect> {
        let Some(key) = self.key else { return self.give_up(vm) };
        let policy = match vm.policies.get(&key).map(|entry| entry.key) {
            Some(Key::Virtual { policy, .. }) => policy,
            _ => return self.give_up(vm),
        };
        let name = self.body.as_ref().and_then(|body| body.as_ref().ok()).map(|body| body.model.clone());
        let denial =
            decision::refused_hold(denied, &name.unwrap_or_default(), &policy, &vm.policies.catalogue());
        match &denial {
            Denial::KeyUnknown => self.remember(vm, Key::Unknown, now),
            Denial::BudgetSpent(budget) => {
                if let (Some(account), Some(amounts)) = (&budget.account, budget.amounts) {
                    let exhausted =
                        Exhausted { account: account.clone(), amounts, resets_at: budget.resets_at };
                    self.remember(vm, Key::Virtual { policy, exhausted: Some(exhausted) }, now);
                }
            }
            _ => {}
        }
        // The ledger keeps nothing of a hold that it refused.
        if let Some(slot) = self.held.take().and_then(|held| held.slot) {
            vm.ring.release(slot);
        }
        self.refuse(vm, &denial)
    }

    /// A call was not answered: refused, timed out or not understood. `transient`: asking again may help.
    pub fn call_failed(&mut self, vm: &mut Vm, transient: bool, now: Timestamp) -> Vec<Effect> {
        if let Some(batch) = self.riding.take() {
            vm.reports.put_back(batch);
        }
        let Phase::Calling(asked) = &mut self.phase else { return Vec::new() };
        if transient && (0..vm.config.ledger_wait_ms).contains(&now.since_ms(asked.since)) {
            asked.again_at = Some(now.plus_ms(RETRY_MS));
            return Vec::new();
        }
        self.give_up(vm)
    }

    /// Time has passed.
    pub fn tick(&mut self, vm: &mut Vm, now: Timestamp) -> Vec<Effect> {
        match &self.phase {
            Phase::Calling(Asked { what, again_at: Some(at), .. }) if *at <= now => {
                let what = *what;
                self.ask(vm, what, now)
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

/// Remembers what a look-up said; `None`: it said nothing that can be understood.
fn learn(vm: &mut Vm, digest: KeyDigest, response: v1::LookupResponse, now: Timestamp) -> Option<()> {
    if let Some(catalogue) = response.catalogue {
        vm.policies.set_catalogue(catalogue.try_into().ok()?);
    }
    let key = match response.verdict? {
        v1::lookup_response::Verdict::Unknown(_) => Key::Unknown,
        v1::lookup_response::Verdict::Administrator(_) => Key::Administrator,
        v1::lookup_response::Verdict::Known(known) => {
            let policy = match (known.policy, vm.policies.get(&digest).map(|entry| entry.key)) {
                (Some(policy), _) => Rc::new(policy.try_into().ok()?),
                (None, Some(Key::Virtual { policy, .. })) => policy,
                (None, _) => return None,
            };
            Key::Virtual { policy, exhausted: known.exhausted.map(Exhausted::try_from).transpose().ok()? }
        }
    };
    vm.policies.insert(digest, Entry { key, confirmed_at: now });
    Some(())
}
