//! What an exchange asks of the ledger, and what it makes of the answers.

use super::{Asked, Exchange, Held, LAST_SEQUENCE, Phase, What};
use crate::machine::Vm;
use crate::machine::answering::Answering;
use crate::machine::effect::{Call, Effect};
use crate::machine::policies::{Entry, Key};
use crate::machine::reports::Batch;
use prost::Message;
use std::rc::Rc;
use tollgate_domain::decision::{self, Denial};
use tollgate_domain::hold::{End, Event, HoldAsk, HoldDenied, Report, Settlement, Verdict};
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::policy::Exhausted;
use tollgate_domain::price::Modifiers;
use tollgate_domain::rate::RateNow;
use tollgate_domain::time::Timestamp;
use tollgate_proto::v1;

/// Policies that turn out to be old in a row, before the ledger is taken to be broken.
const STALE_MAX: u32 = 3;
/// How long to wait before a ledger that is away is asked again.
const RETRY_MS: i64 = 50;

impl Exchange {
    pub(super) fn hold(&mut self, vm: &mut Vm, mut held: Held, now: Timestamp) -> Vec<Effect> {
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

    pub(super) fn ask(&mut self, vm: &mut Vm, what: What, now: Timestamp) -> Vec<Effect> {
        let since = match &self.phase {
            Phase::Calling(asked) if asked.what == what => asked.since,
            _ => now,
        };
        let follows = what == What::Lookup && !self.lead(vm);
        self.phase = Phase::Calling(Asked { what, since, again_at: None, follows });
        let call = match what {
            _ if follows => None,
            What::Lookup => self.lookup_call(vm),
            What::Hold => self.hold_call(vm),
        };
        call.map(Effect::Call).into_iter().collect()
    }

    /// Becomes the one that looks its key up, unless another does.
    fn lead(&mut self, vm: &mut Vm) -> bool {
        self.leads = self.leads || self.key.is_some_and(|key| vm.lookups.insert(key));
        self.leads
    }

    /// Lets another one look the key up: this one knows, or has gone.
    pub(super) fn stop_leading(&mut self, vm: &mut Vm) {
        if std::mem::take(&mut self.leads)
            && let Some(key) = &self.key
        {
            vm.lookups.remove(key);
        }
    }

    /// Waits for what another one hears, for as long as that may take; then goes on with it, or asks itself.
    pub(super) fn follow(&mut self, vm: &mut Vm, since: Timestamp, now: Timestamp) -> Vec<Effect> {
        if self.key.is_some_and(|key| vm.lookups.contains(&key)) {
            let call_ms = i64::try_from(vm.config.ledger_timeout_ms).unwrap_or(i64::MAX);
            let patience_ms = vm.config.ledger_wait_ms.saturating_add(call_ms);
            let waits = (0..patience_ms).contains(&now.since_ms(since));
            return if waits { Vec::new() } else { self.give_up(vm) };
        }
        self.phase = Phase::Judging;
        let effects = self.advance(vm, now);
        if let Phase::Calling(Asked { what: What::Lookup, since: asked, .. }) = &mut self.phase {
            *asked = since;
        }
        effects
    }

    fn lookup_call(&self, vm: &mut Vm) -> Option<Call> {
        let key = self.key?;
        let known_version = vm.policies.version(&key);
        Some(Call::Lookup(v1::LookupRequest {
            key_digest: key.as_bytes().to_vec(),
            known_version,
            catalogue_revision: vm.policies.catalogue().revision(),
        }))
    }

    fn hold_call(&mut self, vm: &mut Vm) -> Option<Call> {
        let (key, api, request) = (self.key?, self.api()?, self.request.as_ref()?);
        let policy_version = vm.policies.version(&key);
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
            modifiers: with_tier(&body.modifiers, vm.config.service_tiers.get(&admission.model.provider)),
            fallback_models: admission.fallback_models.clone(),
            tags: admission.tags.clone(),
            session: request.client.session.clone(),
            // Only a label: one that cannot be printed is left out, not refused.
            end_user: body.end_user.clone().filter(|user| !user.contains(char::is_control)),
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
        self.stop_leading(vm);
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
            Some(Ok(Verdict::Held { rates, .. })) => self.held(vm, rates, now),
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

    fn held(&mut self, vm: &mut Vm, rates: Vec<RateNow>, now: Timestamp) -> Vec<Effect> {
        let (Some(held), Some(Ok(body)), Some(api)) = (&self.held, self.body.clone(), self.api()) else {
            return self.give_up(vm);
        };
        let forward = self.forward(&held.admission.model, &body);
        let withholds = self.asks_for_usage(&body);
        self.answering =
            Some(Answering::new(self.id, self.reader, api, &held.admission, rates, withholds, now));
        self.go_on(vm, forward)
    }

    fn hold_denied(&mut self, vm: &mut Vm, denied: HoldDenied, now: Timestamp) -> Vec<Effect> {
        let Some(key) = self.key else { return self.give_up(vm) };
        let Some(policy) = vm.policies.policy(&key) else { return self.give_up(vm) };
        let name = self.body.as_ref().and_then(|body| body.as_ref().ok()).map(|body| body.model.clone());
        let denial =
            decision::refused_hold(denied, &name.unwrap_or_default(), &policy, &vm.policies.catalogue());
        match &denial {
            Denial::KeyUnknown => self.remember(vm, Key::Unknown, now),
            Denial::BudgetSpent(budget) => {
                if let (Some(account), Some(amounts)) = (&budget.account, budget.amounts) {
                    let exhausted =
                        Exhausted { account: account.clone(), amounts, resets_at: budget.resets_at };
                    // What is spent may be this session's, this model's or a tag's. Of the key itself a look-up tells: the next request
                    // makes one.
                    let spent = Key::Virtual { policy, exhausted: Some(exhausted) };
                    vm.policies.insert(key, Entry::unconfirmed(spent, now));
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
}

/// What is asked for, with the tier that the provider gives where none is.
fn with_tier(asked: &Modifiers, declared: Option<&String>) -> Modifiers {
    let open = matches!(asked.service_tier.as_deref(), None | Some("auto"));
    let tier = declared.filter(|_| open).or(asked.service_tier.as_ref());
    Modifiers { service_tier: tier.cloned(), ..asked.clone() }
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
            let policy = match known.policy {
                Some(policy) => Rc::new(policy.try_into().ok()?),
                None => vm.policies.policy(&digest)?,
            };
            Key::Virtual { policy, exhausted: known.exhausted.map(Exhausted::try_from).transpose().ok()? }
        }
    };
    vm.policies.insert(digest, Entry { key, confirmed_at: now });
    Some(())
}
