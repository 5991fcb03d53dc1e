//! Whole conversations, without Envoy: each scenario has a name, and ends with what the ledger would be told.

use super::ring::tests::Process;
use super::*;
use crate::machine::policies::DENIAL_FRESH_MS;
use tollgate_domain::account::{AccountKind, AccountLabel};
use tollgate_domain::answer::Answer;
use tollgate_domain::catalogue::{Mode, Model, Provider};
use tollgate_domain::hold::{DenialReason, End, Event, HoldDenied, Report, Verdict};
use tollgate_domain::ids::{HoldId, ModelName};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::{Amounts, Exhausted, Policy};
use tollgate_domain::rate::{Rate, RateKind, RateNow};
use tollgate_domain::request::head::Head;
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;
use tollgate_proto::v1;

const KEY: &str = "sk-tg-test";

/// One request, the VM it meets, and the time.
struct Talk {
    vm: Vm,
    now: Timestamp,
    exchange: Option<Exchange>,
    effects: Vec<Effect>,
}

fn config() -> Config {
    Config::parse(br#"{"providers":["anthropic","openai"],"slots":8,"body_bytes_max":1000}"#).unwrap()
}

fn vm(process: &Process, nonce: u8) -> Vm {
    Vm::new(config(), Ring::new(Box::new(process.clone()), 8, [nonce; 8]))
}

fn model(name: &str, alias: &str, provider: Provider) -> Model {
    Model {
        name: ModelName::new(name),
        provider,
        mode: Mode::Chat,
        aliases: vec![alias.to_owned()],
        context_window: 200_000,
        max_output: 64_000,
        retired: None,
    }
}

fn catalogue() -> v1::Catalogue {
    let models = vec![
        model("claude-x-20250101", "claude-x", Provider::Anthropic),
        model("gpt-x", "gpt", Provider::OpenAi),
        model("gemini-x", "gemini", Provider::Gemini),
    ];
    (&tollgate_domain::catalogue::Catalogue::new(7, models).unwrap()).into()
}

fn policy(version: u8) -> Policy {
    Policy {
        version: vec![version],
        accounts: Vec::new(),
        blocked: None,
        expires_at: None,
        allow_lists: Vec::new(),
        tags: Vec::new(),
        forbidden: Vec::new(),
        required_tags: Vec::new(),
    }
}

fn known(policy: Policy) -> v1::LookupResponse {
    looked_up(v1::Known { policy: Some(policy.into()), exhausted: None })
}

/// A key on whose limit of all models nothing is left.
fn exhausted(policy: Policy) -> v1::LookupResponse {
    let account = AccountLabel { kind: AccountKind::Team, alias: "engineering".into() };
    let exhausted = Exhausted { account, amounts: Amounts::default(), resets_at: None };
    looked_up(v1::Known { policy: Some(policy.into()), exhausted: Some(exhausted.into()) })
}

fn looked_up(known: v1::Known) -> v1::LookupResponse {
    v1::LookupResponse {
        verdict: Some(v1::lookup_response::Verdict::Known(known)),
        catalogue: Some(catalogue()),
    }
}

fn verdict(verdict: Verdict) -> v1::HoldResponse {
    v1::HoldResponse { verdict: Some(verdict.into()), outcomes: Vec::new() }
}

fn made() -> v1::HoldResponse {
    made_within(Vec::new())
}

fn made_within(rates: Vec<RateNow>) -> v1::HoldResponse {
    verdict(Verdict::Held { amount: Nanodollars::new(1), expires_at: Timestamp::new(0), rates })
}

fn stale(policy: Policy) -> v1::HoldResponse {
    verdict(Verdict::Stale(Box::new(policy), None))
}

fn denied(reason: DenialReason) -> v1::HoldResponse {
    let account = AccountLabel { kind: AccountKind::Team, alias: "engineering".into() };
    let amounts = Some(Amounts { limit: Nanodollars::new(5), ..Amounts::default() });
    verdict(Verdict::Denied(HoldDenied {
        reason,
        account: Some(account),
        resets_at: None,
        amounts,
        retry_after_ms: Some(6_001),
    }))
}

impl Talk {
    fn new() -> Self {
        Self::on(vm(&Process::default(), 1))
    }

    fn on(vm: Vm) -> Self {
        Self { vm, now: Timestamp::new(1_000_000), exchange: None, effects: Vec::new() }
    }

    fn head(&mut self, method: &str, path: &str, more: &[(&str, &str)], complete: bool) -> &mut Self {
        let mut headers: Vec<(String, Vec<u8>)> =
            more.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        headers.push(("x-api-key".into(), KEY.into()));
        let head = Head { method, path, headers: &headers };
        let id = HoldId::new([9; 16]);
        let (exchange, effects) = Exchange::begin(&mut self.vm, id, &head, complete, self.now);
        (self.exchange, self.effects) = (Some(exchange), effects);
        self
    }

    fn messages(&mut self) -> &mut Self {
        self.head("POST", "/v1/messages", &[("content-type", "application/json")], false)
    }

    fn step(&mut self, step: impl FnOnce(&mut Exchange, &mut Vm, Timestamp) -> Vec<Effect>) -> &mut Self {
        let exchange = self.exchange.as_mut().unwrap();
        self.effects = step(exchange, &mut self.vm, self.now);
        self
    }

    fn body(&mut self, body: &str) -> &mut Self {
        self.step(|exchange, vm, now| exchange.body(vm, body.as_bytes(), true, now))
    }

    fn ask(&mut self) -> &mut Self {
        self.body(r#"{"model":"claude-x","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#)
    }

    fn lookup(&mut self, response: v1::LookupResponse) -> &mut Self {
        self.step(|exchange, vm, now| exchange.lookup_answered(vm, response, now))
    }

    fn answer_hold(&mut self, response: v1::HoldResponse) -> &mut Self {
        self.step(|exchange, vm, now| exchange.hold_answered(vm, response, now).0)
    }

    /// A request of a known key, up to the hold call.
    fn up_to_the_hold(&mut self) -> &mut Self {
        self.messages().lookup(known(policy(1))).ask()
    }

    fn forwarded(&mut self) -> &mut Self {
        self.up_to_the_hold().answer_hold(made())
    }

    fn later(&mut self, ms: i64) -> &mut Self {
        self.now = self.now.plus_ms(ms);
        self
    }

    fn fail(&mut self) -> &mut Self {
        self.step(|exchange, vm, now| exchange.call_failed(vm, true, now))
    }

    fn tick(&mut self) -> &mut Self {
        self.step(|exchange, vm, now| exchange.tick(vm, now))
    }

    fn answer(&mut self, status: u16, kind: &str, chunks: &[&str], complete: bool) -> Vec<String> {
        let headers = vec![("content-type".to_owned(), kind.as_bytes().to_vec())];
        let exchange = self.exchange.as_mut().unwrap();
        let head = exchange.answer_head(status, &headers, "via_upstream", false, self.now).unwrap();
        assert!(matches!(head, AnswerHead::Pass { .. }));
        let answering = exchange.answering().unwrap();
        let (last, now) = (chunks.len(), self.now);
        let seen = |(index, chunk): (usize, &&str)| {
            let passed = answering.body(chunk.as_bytes(), complete && index + 1 == last, now);
            String::from_utf8(passed.unwrap_or_else(|| chunk.as_bytes().to_vec())).unwrap()
        };
        chunks.iter().enumerate().map(seen).collect()
    }

    fn end(&mut self, details: &str) -> &mut Self {
        self.exchange.as_mut().unwrap().end(&mut self.vm, details, self.now);
        self
    }

    /// What the ledger would be told now.
    fn reports(&mut self) -> Vec<Event> {
        let batch = self.vm.reports.take();
        let events = batch.map(|batch| batch.events()).unwrap_or_default();
        events.into_iter().map(|event| Report::try_from(event).unwrap().event).collect()
    }

    fn calls(&self) -> &'static str {
        match self.effects.as_slice() {
            [Effect::Call(Call::Lookup(_))] => "lookup",
            [Effect::Call(Call::Hold(_))] => "hold",
            [Effect::Forward(_)] => "forward",
            [Effect::Respond(_)] => "respond",
            [] => "wait",
            _ => "several",
        }
    }

    fn response(&self) -> &Answer {
        match self.effects.as_slice() {
            [Effect::Respond(answer)] => answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    fn denial(&self) -> (u16, String) {
        let answer = self.response();
        let name = answer.headers.iter().find(|(name, _)| *name == "x-tollgate-denial");
        (answer.status, name.map(|(_, value)| value.clone()).unwrap_or_default())
    }

    fn refused_as(&self, status: u16, name: &str) {
        assert_eq!(self.denial(), (status, name.to_owned()));
    }

    fn slots_free(&mut self) -> usize {
        let slots: Vec<_> = std::iter::from_fn(|| self.vm.ring.claim(b"x")).collect();
        let count = slots.len();
        slots.into_iter().for_each(|slot| self.vm.ring.release(slot));
        count
    }
}

fn settled(events: &[Event]) -> (End, bool, Option<Usage>) {
    match events {
        [Event::Settle(settlement)] => (settlement.end, settlement.estimated, settlement.usage),
        other => panic!("not one settle: {other:?}"),
    }
}

#[test]
fn an_allowed_request_is_looked_up_held_forwarded_metered_and_settled() {
    let mut talk = Talk::new();
    assert_eq!(talk.messages().calls(), "lookup");
    assert_eq!(talk.lookup(known(policy(1))).calls(), "wait");
    assert_eq!(talk.ask().calls(), "hold");
    let Effect::Call(Call::Hold(hold)) = talk.effects[0].clone() else { panic!() };
    assert_eq!((hold.model.as_str(), hold.policy_version), ("claude-x-20250101", vec![1]));
    assert_eq!(talk.answer_hold(made()).calls(), "forward");
    let Effect::Forward(forward) = talk.effects[0].clone() else { panic!() };
    assert_eq!(forward.route, Route::Provider(Provider::Anthropic));
    assert_eq!(forward.remove, ["x-api-key"]);
    let body = forward.body.expect("the alias becomes the model");
    assert_eq!(body.bytes, 80);
    talk.answer(
        200,
        "application/json",
        &[
            r#"{"type":"message","model":"claude-x-20250101","usage":{"input_tok"#,
            r#"ens":12,"output_tokens":3}}"#,
        ],
        true,
    );
    talk.end("via_upstream");
    let usage = Usage { input: 12, output: 3, ..Usage::default() };
    assert_eq!(settled(&talk.reports()), (End::Complete, false, Some(usage)));
}

#[test]
fn a_second_request_needs_no_look_up() {
    let mut talk = Talk::new();
    talk.forwarded();
    talk.later(3_600_000);
    assert_eq!(talk.messages().calls(), "wait");
    assert_eq!(talk.ask().calls(), "hold");
}

#[test]
fn an_unknown_key_is_refused_and_asked_for_again_a_second_later() {
    let unknown = || v1::LookupResponse {
        verdict: Some(v1::lookup_response::Verdict::Unknown(v1::Unknown {})),
        catalogue: None,
    };
    let mut talk = Talk::new();
    talk.messages().lookup(unknown()).refused_as(401, "key_unknown");
    talk.messages().refused_as(401, "key_unknown");
    talk.later(DENIAL_FRESH_MS + 1);
    assert_eq!(talk.messages().calls(), "lookup");
}

#[test]
fn what_the_head_is_refused_for_needs_no_ledger() {
    let table: [(&str, &str, &[(&str, &str)], u16, &str); 6] = [
        ("POST", "/v1/nothing", &[], 404, "unknown_operation"),
        ("POST", "/v1/batches", &[], 404, "operation_not_metered"),
        ("GET", "/v1/responses", &[("upgrade", "websocket")], 426, "websocket"),
        ("POST", "/v1/messages", &[("content-type", "text/plain")], 415, "media_type"),
        ("POST", "/v1/messages", &[("authorization", "Bearer other")], 401, "key_conflict"),
        ("POST", "/v1/messages", &[("content-length", "1001")], 413, "body_too_large"),
    ];
    for (method, path, headers, status, name) in table {
        Talk::new().head(method, path, headers, false).refused_as(status, name);
    }
}

#[test]
fn a_request_that_ends_with_its_head_has_no_body() {
    let mut talk = Talk::new();
    talk.head("POST", "/v1/messages", &[], true).lookup(known(policy(1))).refused_as(400, "malformed");
}

#[test]
fn a_request_that_ends_in_trailers_is_held_all_the_same() {
    let mut talk = Talk::new();
    talk.messages().lookup(known(policy(1)));
    talk.step(|exchange, vm, now| exchange.body(vm, br#"{"model":"claude-x","max_tokens":1}"#, false, now));
    assert_eq!(talk.calls(), "wait");
    talk.step(|exchange, vm, now| exchange.request_end(vm, now));
    assert_eq!(talk.calls(), "hold");
}

#[test]
fn a_body_that_grows_too_large_is_refused_before_its_end() {
    let mut talk = Talk::new();
    talk.messages().lookup(known(policy(1)));
    let part = vec![b' '; 600];
    talk.step(|exchange, vm, now| exchange.body(vm, &part, false, now));
    talk.step(|exchange, vm, now| exchange.body(vm, &part, false, now)).refused_as(413, "body_too_large");
}

#[test]
fn bodies_that_wait_are_bounded_together() {
    let mut talk = Talk::new();
    talk.vm.buffered = Buffered::new(100, 150);
    talk.messages().lookup(known(policy(1)));
    let part = vec![b' '; 101];
    talk.step(|exchange, vm, now| exchange.body(vm, &part, false, now)).refused_as(503, "overloaded");
    let other = tollgate_domain::ids::KeyDigest::new([2; 32]);
    assert!(talk.vm.buffered.take(&other, 100, true), "what was refused holds no room");
    talk.vm.buffered.release(&other, 100);
    assert!(!talk.vm.buffered.take(&other, 38, false), "who is not known yet gets a quarter of the room");
    assert!(talk.vm.buffered.take(&other, 37, false));
    talk.vm.buffered.release(&other, 37);
    assert_eq!(talk.vm.buffered.total, 0);
}

#[test]
fn a_spent_budget_is_remembered_by_a_look_up_and_lifted_by_the_next() {
    let mut talk = Talk::new();
    talk.up_to_the_hold().answer_hold(denied(DenialReason::BudgetSpent)).refused_as(402, "budget_spent");
    assert_eq!(talk.slots_free(), 8, "the ledger kept nothing");
    assert!(talk.reports().is_empty());
    assert_eq!(talk.messages().calls(), "lookup", "what the hold said may not be of the key");
    talk.lookup(exhausted(policy(1))).refused_as(402, "budget_spent");
    talk.messages().refused_as(402, "budget_spent");
    talk.later(DENIAL_FRESH_MS + 1);
    assert_eq!(talk.messages().calls(), "lookup");
    talk.lookup(known(policy(2)));
    assert_eq!(talk.ask().calls(), "hold");
}

#[test]
fn a_session_that_has_spent_its_budget_closes_no_other() {
    let mut talk = Talk::new();
    talk.up_to_the_hold().answer_hold(denied(DenialReason::BudgetSpent)).refused_as(402, "budget_spent");
    talk.messages().lookup(known(policy(1)));
    assert_eq!(talk.ask().calls(), "hold");
}

#[test]
fn a_stale_policy_is_replaced_and_decided_on_again() {
    let mut talk = Talk::new();
    assert_eq!(talk.up_to_the_hold().answer_hold(stale(policy(2))).calls(), "hold");
    let Effect::Call(Call::Hold(hold)) = talk.effects[0].clone() else { panic!() };
    assert_eq!(hold.policy_version, vec![2]);
    let blocked = tollgate_domain::account::AccountLabel {
        kind: tollgate_domain::account::AccountKind::Key,
        alias: String::new(),
    };
    talk.answer_hold(stale(Policy { blocked: Some(blocked), ..policy(3) })).refused_as(401, "key_blocked");
    assert_eq!(talk.slots_free(), 8);
}

#[test]
fn a_ledger_that_calls_everything_stale_is_given_up() {
    let mut talk = Talk::new();
    talk.up_to_the_hold();
    for version in 2..=4 {
        assert_eq!(talk.answer_hold(stale(policy(version))).calls(), "hold");
    }
    talk.answer_hold(stale(policy(5))).refused_as(503, "ledger_away");
    assert_eq!(talk.reports(), [Event::Void { status: 503 }]);
}

#[test]
fn a_ledger_that_restarts_is_waited_for() {
    let mut talk = Talk::new();
    assert_eq!(talk.up_to_the_hold().fail().calls(), "wait");
    assert_eq!(talk.tick().calls(), "wait", "not at once");
    assert_eq!(talk.later(60).tick().calls(), "hold");
    assert_eq!(talk.answer_hold(made()).calls(), "forward");
}

#[test]
fn a_ledger_that_stays_away_is_an_error_and_the_hold_is_given_back() {
    let mut talk = Talk::new();
    talk.up_to_the_hold();
    for _ in 0..10 {
        talk.fail().later(299).tick();
        assert_eq!(talk.calls(), "hold");
    }
    talk.later(20).fail().refused_as(503, "ledger_away");
    assert_eq!(talk.reports(), [Event::Void { status: 503 }], "nobody knows whether it was made");
    assert_eq!(talk.end("").reports(), [], "and it is told once");
}

#[test]
fn a_client_that_leaves_during_the_hold_call_has_it_given_back() {
    let mut talk = Talk::new();
    talk.up_to_the_hold().end("downstream_remote_disconnect");
    assert_eq!(talk.reports(), [Event::Void { status: 0 }]);
}

#[test]
fn reports_ride_along_with_a_hold_and_come_back_when_nobody_answers() {
    let mut talk = Talk::new();
    talk.forwarded().end("downstream_remote_disconnect");
    talk.up_to_the_hold();
    let Effect::Call(Call::Hold(hold)) = talk.effects[0].clone() else { panic!() };
    assert_eq!(hold.reports.len(), 1);
    assert!(talk.vm.reports.take().is_none());
    talk.end("downstream_remote_disconnect");
    assert_eq!(talk.reports().len(), 2, "the first settle, and the void of the second");
}

#[test]
fn a_hold_repeats_what_it_may_overtake_on_its_way() {
    let mut talk = Talk::new();
    talk.forwarded().end("downstream_remote_disconnect");
    let sent = talk.vm.reports.take().unwrap();
    talk.up_to_the_hold();
    let Effect::Call(Call::Hold(hold)) = talk.effects[0].clone() else { panic!() };
    assert_eq!(hold.reports, sent.events());
    // The answer to the hold ends nothing that the other message is about.
    talk.answer_hold(made());
    assert_eq!(talk.vm.reports.unconfirmed(), 1);
}

#[test]
fn a_client_that_leaves_while_it_streams_pays_for_what_it_got() {
    let mut talk = Talk::new();
    talk.forwarded();
    talk.answer(200, "text/event-stream", &[
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":900,\"output_tokens\":1}}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"123456789\"}}\n\n",
    ], false);
    let usage = Usage { input: 900, output: 3, ..Usage::default() };
    let adjust = Event::Adjust { usage: Some(Usage { output: 1, ..usage }), output_seen: 3 };
    assert_eq!(talk.tick().reports(), [adjust], "the exact input is told at once");
    assert_eq!(talk.tick().reports(), [], "and once");
    talk.end("downstream_remote_disconnect");
    assert_eq!(settled(&talk.reports()), (End::ClientLeft, true, Some(usage)));
}

#[test]
fn an_open_stream_gives_signs_of_life() {
    let mut talk = Talk::new();
    talk.forwarded();
    assert_eq!(talk.later(59_999).tick().reports(), []);
    assert_eq!(talk.later(1).tick().reports().len(), 1);
    assert_eq!(talk.later(59_999).tick().reports(), []);
    assert_eq!(talk.later(1).tick().reports().len(), 1);
}

#[test]
fn a_provider_that_refuses_our_credential_is_an_outage_to_the_client() {
    for status in [401, 403] {
        let mut talk = Talk::new();
        talk.forwarded();
        let exchange = talk.exchange.as_mut().unwrap();
        let head = exchange.answer_head(status, &[], "via_upstream", false, talk.now);
        assert!(matches!(head, Some(AnswerHead::Replace(answer)) if answer.status == 503));
        // Envoy tells of our answer, not of the provider's, which never comes to its end here.
        assert_eq!(talk.end("").reports(), [Event::Void { status }]);
    }
}

#[test]
fn a_providers_error_passes_and_costs_nothing() {
    let mut talk = Talk::new();
    talk.forwarded();
    let seen = talk.answer(529, "application/json", &[r#"{"type":"error"}"#], true);
    assert_eq!(seen, [r#"{"type":"error"}"#]);
    assert_eq!(talk.end("via_upstream").reports(), [Event::Void { status: 529 }]);
}

#[test]
fn headers_about_our_account_stay_here() {
    let mut talk = Talk::new();
    talk.forwarded();
    let names =
        ["set-cookie", "openai-organization", "anthropic-organization-id", "openai-project", "x-request-id"];
    let headers: Vec<_> = names.iter().map(|name| ((*name).to_owned(), b"x".to_vec())).collect();
    let exchange = talk.exchange.as_mut().unwrap();
    let Some(AnswerHead::Pass { remove, add }) =
        exchange.answer_head(200, &headers, "via_upstream", false, talk.now)
    else {
        panic!()
    };
    assert_eq!(remove, &names[..4]);
    assert_eq!(add, [("x-tollgate-request-id", "09".repeat(16))]);
}

/// How the rates of a key stand: requests and tokens by the minute, and open requests.
fn rates() -> Vec<RateNow> {
    let rate = |kind, limit, remaining| RateNow {
        account: tollgate_domain::account::AccountLabel {
            kind: tollgate_domain::account::AccountKind::Key,
            alias: "a".into(),
        },
        rate: Rate { kind, limit },
        remaining,
        resets_at: Timestamp::new(1_002_000),
    };
    vec![
        rate(RateKind::RequestsPerMinute, 60, 58),
        rate(RateKind::TokensPerMinute, 9_000, 7),
        rate(RateKind::Parallel, 4, 3),
    ]
}

/// The headers of an answer that the provider gave these headers, as the host leaves them: gone what is removed, and ours in the
/// place of the provider's.
fn seen_headers(talk: &mut Talk, status: u16, provider: &[(&str, &str)]) -> Vec<String> {
    let mut headers: Vec<(String, Vec<u8>)> =
        provider.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let exchange = talk.exchange.as_mut().unwrap();
    let head = exchange.answer_head(status, &headers, "via_upstream", false, talk.now);
    let Some(AnswerHead::Pass { remove, add }) = head else { panic!("{head:?}") };
    headers.retain(|(name, _)| !remove.contains(name) && add.iter().all(|(added, _)| added != name));
    headers.extend(add.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())));
    let text = |(name, value): (String, Vec<u8>)| format!("{name}: {}", String::from_utf8(value).unwrap());
    headers.into_iter().map(text).filter(|header| !header.starts_with("x-tollgate-")).collect()
}

#[test]
fn an_answer_tells_our_rates_in_the_place_of_the_providers() {
    let mut talk = Talk::new();
    talk.up_to_the_hold().answer_hold(made_within(rates()));
    let provider = [
        ("anthropic-ratelimit-requests-remaining", "3999"),
        ("anthropic-ratelimit-input-tokens-remaining", "2000000"),
    ];
    let expected = [
        "anthropic-ratelimit-input-tokens-remaining: 2000000",
        "anthropic-ratelimit-requests-limit: 60",
        "anthropic-ratelimit-requests-remaining: 58",
        "anthropic-ratelimit-requests-reset: 1970-01-01T00:16:42Z",
        "x-ratelimit-api_key-limit-requests: 60",
        "x-ratelimit-api_key-remaining-requests: 58",
        "anthropic-ratelimit-tokens-limit: 9000",
        "anthropic-ratelimit-tokens-remaining: 7",
        "anthropic-ratelimit-tokens-reset: 1970-01-01T00:16:42Z",
        "x-ratelimit-api_key-limit-tokens: 9000",
        "x-ratelimit-api_key-remaining-tokens: 7",
    ];
    assert_eq!(seen_headers(&mut talk, 200, &provider), expected);
}

#[test]
fn an_answer_in_openais_shape_tells_rates_as_openai_does() {
    let mut talk = Talk::new();
    talk.head("POST", "/v1/chat/completions", &[], false).lookup(known(policy(1)));
    talk.body(r#"{"model":"gpt-x","messages":[]}"#).answer_hold(made_within(rates()[..1].to_vec()));
    let provider = [("x-ratelimit-remaining-requests", "3999"), ("x-ratelimit-remaining-tokens", "8000")];
    let expected = [
        "x-ratelimit-remaining-tokens: 8000",
        "x-ratelimit-limit-requests: 60",
        "x-ratelimit-remaining-requests: 58",
        "x-ratelimit-reset-requests: 2s",
        "x-ratelimit-api_key-limit-requests: 60",
        "x-ratelimit-api_key-remaining-requests: 58",
    ];
    assert_eq!(seen_headers(&mut talk, 200, &provider), expected);
}

#[test]
fn a_providers_rates_stay_where_there_are_none_of_ours_or_it_refuses() {
    let provider = [("anthropic-ratelimit-requests-remaining", "0"), ("retry-after", "7")];
    let expected = ["anthropic-ratelimit-requests-remaining: 0", "retry-after: 7"];
    for (status, rates) in [(200, Vec::new()), (429, rates()), (529, rates())] {
        let mut talk = Talk::new();
        talk.up_to_the_hold().answer_hold(made_within(rates));
        assert_eq!(seen_headers(&mut talk, status, &provider), expected, "{status}");
    }
}

#[test]
fn a_rate_refuses_for_a_while_and_is_not_remembered() {
    let mut talk = Talk::new();
    let header = |talk: &Talk, name: &str| {
        let headers = &talk.response().headers;
        headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone())
    };
    talk.up_to_the_hold().answer_hold(denied(DenialReason::RateLimited)).refused_as(429, "rate_limited");
    assert_eq!(header(&talk, "retry-after").as_deref(), Some("7"));
    assert_eq!(header(&talk, "x-tollgate-account").as_deref(), Some("team"));
    assert_eq!(header(&talk, "x-tollgate-request-id"), Some("09".repeat(16)));
    assert_eq!(header(&talk, "x-should-retry"), None);
    let body: serde_json::Value = serde_json::from_slice(&talk.response().body).unwrap();
    assert_eq!(body["error"]["type"], "rate_limit_error");
    assert_eq!(talk.slots_free(), 8, "the ledger kept nothing");
    assert!(talk.reports().is_empty());
    assert_eq!(talk.up_to_the_hold().calls(), "hold", "it may pass at any moment");
}

#[test]
fn codex_reads_a_rate_in_openais_shape() {
    let mut talk = Talk::new();
    talk.head("POST", "/v1/responses", &[("originator", "codex_cli_rs")], false).lookup(known(policy(1)));
    talk.body(r#"{"model":"gpt-x","input":"hi"}"#).answer_hold(denied(DenialReason::RateLimited));
    talk.refused_as(429, "rate_limited");
    let body: serde_json::Value = serde_json::from_slice(&talk.response().body).unwrap();
    let error = &body["error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (&"rate_limit_exceeded".into(), &"rate_limit_exceeded".into())
    );
}

#[test]
fn texts_that_cannot_be_printed_reach_no_ledger() {
    let mut talk = Talk::new();
    talk.messages().lookup(known(policy(1)));
    talk.body(r#"{"model":"claude-x","max_tokens":1,"metadata":{"user_id":"a\u0007b"}}"#);
    let Effect::Call(Call::Hold(hold)) = talk.effects[0].clone() else { panic!() };
    assert_eq!(hold.end_user, "");
    talk.messages();
    talk.body(r#"{"model":"claude-x","max_tokens":1,"service_tier":"a\u0007b"}"#).refused_as(400, "field");
}

#[test]
fn a_chat_stream_is_asked_for_usage_that_its_client_does_not_see() {
    let mut talk = Talk::new();
    talk.head("POST", "/v1/chat/completions", &[], false).lookup(known(policy(1)));
    talk.body(r#"{"model":"gpt-x","stream":true,"messages":[]}"#).answer_hold(made());
    let Effect::Forward(forward) = talk.effects[0].clone() else { panic!() };
    let edits = forward.body.unwrap().edits;
    let sent = edits.apply(0, br#"{"model":"gpt-x","stream":true,"messages":[]}"#);
    let sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["stream_options"]["include_usage"], true);
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
    let word =
        "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n";
    let seen = talk.answer(200, "text/event-stream", &[word, usage, "data: [DONE]\n\n"], true);
    assert_eq!(seen.concat(), format!("{word}data: [DONE]\n\n"));
    let usage = Usage { input: 5, output: 2, ..Usage::default() };
    assert_eq!(settled(&talk.end("via_upstream").reports()), (End::Complete, false, Some(usage)));
}

#[test]
fn models_are_those_of_the_policy_on_word_of_five_seconds_at_most() {
    let mut talk = Talk::new();
    assert_eq!(talk.head("GET", "/v1/models", &[], true).calls(), "lookup");
    talk.lookup(known(policy(1)));
    assert!(String::from_utf8_lossy(&talk.response().body).contains("gpt-x"));
    assert_eq!(talk.later(5_000).head("GET", "/v1/models/gpt", &[], true).response().status, 200);
    assert_eq!(talk.later(1).head("GET", "/v1/models", &[], true).calls(), "lookup");
    talk.lookup(known(policy(1)));
    talk.head("GET", "/v1/models/other", &[], true).refused_as(403, "model_not_allowed");
}

#[test]
fn the_master_key_reads_models_and_buys_nothing() {
    let administrator = || v1::LookupResponse {
        verdict: Some(v1::lookup_response::Verdict::Administrator(v1::Administrator {})),
        catalogue: None,
    };
    let mut talk = Talk::new();
    talk.head("GET", "/v1/models", &[], true).lookup(administrator());
    let Effect::Forward(forward) = talk.effects[0].clone() else { panic!() };
    assert_eq!((forward.route, forward.remove), (Route::Admin, vec![]));
    talk.messages().refused_as(401, "key_unknown");
}

#[test]
fn counting_tokens_costs_nothing_but_needs_an_allowed_model() {
    let mut talk = Talk::new();
    talk.head("POST", "/v1/messages/count_tokens", &[], false).lookup(known(policy(1)));
    assert_eq!(talk.body(r#"{"model":"claude-x","messages":[]}"#).calls(), "forward");
    assert!(talk.end("via_upstream").reports().is_empty());
    talk.head("POST", "/v1/messages/count_tokens", &[], false);
    talk.body(r#"{"model":"claude-unheard-of"}"#).refused_as(403, "model_unknown");
}

#[test]
fn claude_codes_check_needs_no_key() {
    assert_eq!(Talk::new().head("HEAD", "/api/hello", &[], true).response().status, 200);
}

#[test]
fn a_model_that_was_just_allowed_is_asked_for_before_it_is_refused() {
    let only_gpt = || {
        let patterns = vec!["gpt-x".to_owned()];
        let list = tollgate_domain::allow::AllowList::new(&patterns);
        let level = tollgate_domain::account::AccountKind::Key;
        Policy { allow_lists: vec![tollgate_domain::allow::LevelList { level, list, patterns }], ..policy(1) }
    };
    let mut talk = Talk::new();
    talk.messages().lookup(known(only_gpt())).ask().refused_as(403, "model_not_allowed");
    talk.later(DENIAL_FRESH_MS + 1).messages();
    assert_eq!(talk.ask().calls(), "lookup");
    assert_eq!(talk.lookup(known(policy(2))).calls(), "hold");
}

#[test]
fn a_model_without_an_upstream_is_refused_by_name() {
    let mut talk = Talk::new();
    talk.head("POST", "/v1/chat/completions", &[], false).lookup(known(policy(1)));
    talk.body(r#"{"model":"gemini-x"}"#).refused_as(403, "provider_missing");
}

#[test]
fn a_full_ring_refuses() {
    let mut talk = Talk::new();
    while talk.vm.ring.claim(b"x").is_some() {}
    talk.up_to_the_hold().refused_as(503, "overloaded");
}

#[test]
fn what_a_lost_vm_held_is_charged_by_another() {
    let process = Process::default();
    let mut lost = Talk::on(vm(&process, 1));
    lost.forwarded();
    drop(lost);
    let mut heir = Talk::on(vm(&process, 2));
    for _ in 0..20 {
        heir.vm.beat();
    }
    assert_eq!(settled(&heir.reports()), (End::FilterLost, true, None));
}

#[test]
fn an_end_that_nobody_confirmed_survives_its_vm() {
    let process = Process::default();
    let mut lost = Talk::on(vm(&process, 1));
    lost.forwarded();
    lost.answer(200, "application/json", &[r#"{"usage":{"input_tokens":12,"output_tokens":3}}"#], true);
    lost.end("via_upstream");
    drop(lost);
    let mut heir = Talk::on(vm(&process, 2));
    for _ in 0..20 {
        heir.vm.beat();
    }
    let usage = Usage { input: 12, output: 3, ..Usage::default() };
    assert_eq!(settled(&heir.reports()), (End::Complete, false, Some(usage)));
}

#[test]
fn a_confirmed_end_frees_its_slot() {
    let mut talk = Talk::new();
    talk.forwarded().end("downstream_remote_disconnect");
    assert_eq!(talk.slots_free(), 7);
    let batch = talk.vm.reports.take().unwrap();
    let outcome = v1::ReportOutcome {
        hold_id: vec![9; 16],
        sequence: 1,
        result: v1::ReportResult::Applied.into(),
        reason: String::new(),
    };
    talk.vm.confirm(batch, &[outcome]);
    assert_eq!(talk.slots_free(), 8);
}

#[test]
fn a_hold_is_sized_by_the_tier_that_the_operator_declares_where_the_client_names_none() {
    let tier = |declared: bool, asked: &str| {
        let mut talk = Talk::new();
        if declared {
            talk.vm.config.service_tiers.insert(Provider::Anthropic, "priority".to_owned());
        }
        talk.messages().lookup(known(policy(1)));
        talk.body(&format!(r#"{{"model":"claude-x","max_tokens":1{asked}}}"#));
        let Effect::Call(Call::Hold(hold)) = talk.effects[0].clone() else { panic!() };
        hold.service_tier
    };
    assert_eq!(tier(false, ""), None);
    assert_eq!(tier(true, "").as_deref(), Some("priority"));
    assert_eq!(tier(true, r#","service_tier":"auto""#).as_deref(), Some("priority"));
    assert_eq!(tier(true, r#","service_tier":"standard_only""#).as_deref(), Some("standard_only"));
}

/// Another request of the same key on the same VM.
fn another(talk: &mut Talk) -> (Exchange, Vec<Effect>) {
    let headers = vec![("x-api-key".to_owned(), KEY.into())];
    let head = Head { method: "GET", path: "/v1/models", headers: &headers };
    Exchange::begin(&mut talk.vm, HoldId::new([8; 16]), &head, true, talk.now)
}

#[test]
fn one_look_up_serves_all_that_want_to_know() {
    let mut talk = Talk::new();
    assert_eq!(talk.messages().calls(), "lookup");
    let (mut other, effects) = another(&mut talk);
    assert_eq!(effects, []);
    assert_eq!(other.tick(&mut talk.vm, talk.now), [], "nobody knows yet");
    talk.lookup(known(policy(1)));
    let effects = other.tick(&mut talk.vm, talk.now);
    assert!(matches!(effects.as_slice(), [Effect::Respond(answer)] if answer.status == 200));
}

#[test]
fn a_look_up_whose_client_left_is_made_by_the_next_one() {
    let mut talk = Talk::new();
    talk.messages();
    let (mut other, _) = another(&mut talk);
    talk.end("downstream_remote_disconnect");
    let effects = other.tick(&mut talk.vm, talk.now);
    assert!(matches!(effects.as_slice(), [Effect::Call(Call::Lookup(_))]));
    let (mut third, effects) = another(&mut talk);
    assert_eq!(effects, []);
    other.call_failed(&mut talk.vm, false, talk.now);
    let effects = third.tick(&mut talk.vm, talk.now);
    assert!(matches!(effects.as_slice(), [Effect::Call(Call::Lookup(_))]));
}

#[test]
fn nobody_waits_for_another_ones_look_up_forever() {
    let mut talk = Talk::new();
    talk.messages();
    let (mut other, _) = another(&mut talk);
    let later = talk.now.plus_ms(4_999);
    assert_eq!(other.tick(&mut talk.vm, later), []);
    let effects = other.tick(&mut talk.vm, later.plus_ms(1));
    assert!(matches!(effects.as_slice(), [Effect::Respond(answer)] if answer.status == 503));
    assert!(talk.vm.lookups.len() == 1, "it did not lead");
}
