//! Holds, reports, corrections.

use super::{Decision, Denial, Hold, Oracle, Place, Reply, State, label, real};
use crate::plan::{Ask, Event, Name, News, Tokens, Who};
use std::collections::BTreeMap;
use tollgate_domain::hold::{DenialReason, Outcome};
use tollgate_domain::rate::RateKind;

/// Nano-dollars.
fn price(model: Name, (input, cached, output): Tokens) -> i64 {
    let (per_input, per_cached, per_output) = match model {
        Name::M | Name::Em => (1_000, 500, 2_000),
        Name::Dear | Name::New => (10_000, 10_000, 20_000),
    };
    (input * per_input + cached * per_cached + output * per_output).cast_signed()
}

const fn denied(reason: DenialReason) -> Decision {
    Decision::Denied(Denial { reason, account: None, amounts: None, resets_at: None, retry_after_ms: None })
}

impl Hold {
    pub(crate) const fn model(&self) -> Name {
        self.model
    }

    fn dearest(&self, tokens: Tokens) -> i64 {
        price(self.model, tokens).max(if self.fallback { price(Name::Dear, tokens) } else { 0 })
    }

    fn is_asked_by(&self, ask: &Ask) -> bool {
        (self.key, self.model, self.fallback, self.input, self.output)
            == (ask.key, ask.model, ask.fallback, ask.input, ask.output)
    }
}

impl Oracle {
    fn find(&self, number: u32) -> Option<usize> {
        self.holds.iter().position(|hold| hold.number == number)
    }

    pub(super) fn hold(&mut self, ask: &Ask, news: &[News]) -> Reply {
        let known = self.find(ask.number);
        if known.is_some_and(|index| !self.holds[index].is_asked_by(ask)) {
            return Reply::Invalid;
        }
        let outcomes = news.iter().map(|news| self.report(news)).collect();
        let decision = match self.find(ask.number).map(|index| &self.holds[index]) {
            None if self.tombstones.get(&ask.number).is_some_and(|(key, _)| *key == ask.key) => {
                denied(DenialReason::HoldEnded)
            }
            None => self.decide(ask),
            Some(Hold { state: State::Pending, amount, expires_at, .. }) => {
                Decision::Held { amount: *amount, expires_at: *expires_at, rates: Vec::new() }
            }
            Some(_) => denied(DenialReason::HoldEnded),
        };
        Reply::Decided(decision, outcomes)
    }

    fn decide(&mut self, ask: &Ask) -> Decision {
        let Some(version) = self.version(ask.key) else { return denied(DenialReason::KeyUnknown) };
        if self.remembered.get(&ask.key) != Some(&version) {
            return Decision::Stale;
        }
        let chain = self.chain(ask.key);
        if chain.iter().any(|who| self.accounts[who].blocked) {
            return denied(DenialReason::KeyBlocked);
        }
        if ask.model == Name::New {
            return denied(DenialReason::ModelUnknown);
        }
        let mut hold = self.draft(ask, &chain);
        let accounts = self.accounts.clone();
        match self.count_rates(&mut hold).and_then(|(rates, limited)| {
            let would_deny = self.afford(&hold.charged, hold.model, hold.amount, hold.made_at)?;
            Ok((rates, would_deny.or(limited.then_some(DenialReason::RateLimited))))
        }) {
            Ok((rates, would_deny)) => {
                let (amount, expires_at) = (hold.amount, hold.expires_at);
                // Of a hold, the books know its moment; once that may be one of before the clock was set back, it says nothing.
                if !self.set_back {
                    self.latest = self.latest.max(hold.made_at);
                }
                self.holds.push(Hold { would_deny, ..hold });
                Decision::Held { amount, expires_at, rates }
            }
            Err(denial) => {
                self.accounts = accounts;
                Decision::Denied(denial)
            }
        }
    }

    /// The hold as it would be made.
    fn draft(&self, ask: &Ask, chain: &[Who]) -> Hold {
        let of = |who: &Who| &self.accounts[who];
        let mut tags: Vec<u8> = Vec::new();
        let mut add = |more: &[u8]| {
            for tag in more {
                if !tags.contains(tag) {
                    tags.push(*tag);
                }
            }
        };
        chain.iter().for_each(|who| add(&of(who).tags));
        if chain.iter().any(|who| of(who).client_tags_bind) {
            add(&ask.tags);
        }
        let organization = chain.iter().find_map(|who| match who {
            Who::Organization(organization) => Some(*organization),
            _ => None,
        });
        let mut charged = chain.to_vec();
        for tag in &tags {
            let everywhere = Who::Tag(None, *tag);
            let inside = organization.map(|organization| Who::Tag(Some(organization), *tag));
            charged.extend(
                [Some(everywhere), inside].into_iter().flatten().filter(|who| self.account(*who).is_some()),
            );
        }
        if let Some(session) = ask.session.filter(|session| self.session_cap(chain, *session).is_some()) {
            charged.push(Who::Session(ask.key, session));
        }
        let counted = charged.iter().flat_map(|who| self.places(*who));
        let places = counted.filter(|(.., model)| model.is_none_or(|model| model == ask.model)).collect();
        let mut hold = Hold {
            number: ask.number,
            key: ask.key,
            model: ask.model,
            fallback: ask.fallback,
            input: ask.input,
            output: ask.output,
            organization,
            binding_tags: tags,
            payers: charged.clone(),
            made_at: self.moment_of_all(&charged),
            charged,
            places,
            late: Vec::new(),
            over: BTreeMap::new(),
            rates: Vec::new(),
            expires_at: self.now() + super::TTL_MS,
            state: State::Pending,
            amount: 0,
            posted: 0,
            overrun: 0,
            sequence: 0,
            estimated: false,
            would_deny: None,
            known: None,
        };
        hold.amount = hold.dearest((ask.input, 0, ask.output));
        hold
    }

    /// Counts the hold in every rate; gives the tightest of each kind, and whether one that observes would have refused it.
    fn count_rates(&mut self, hold: &mut Hold) -> Result<(Vec<super::RateShown>, bool), Denial> {
        let (now, observe_all) = (self.now(), self.observe_all);
        let tokens = hold.input.div_ceil(3) + hold.output;
        let (mut shown, mut limited): (Vec<super::RateShown>, bool) = (Vec::new(), false);
        for who in &hold.charged {
            let Some(account) = self.accounts.get_mut(who) else { continue };
            for rated in &mut account.rates {
                let speed = rated.speed;
                if speed.model.is_some_and(|model| real(model) != hold.model) {
                    continue;
                }
                let units = match speed.kind {
                    RateKind::RequestsPerMinute | RateKind::Parallel => 1,
                    RateKind::TokensPerMinute | RateKind::TokensPerDay => tokens,
                };
                let observe = speed.observe || observe_all;
                match rated.bucket.take(units, now) {
                    Ok(()) => {}
                    Err(_) if observe => {
                        limited = true;
                        rated.bucket.force(units, now);
                    }
                    Err(retry_after_ms) => {
                        return Err(Denial {
                            reason: DenialReason::RateLimited,
                            account: Some(label(*who)),
                            amounts: None,
                            resets_at: None,
                            retry_after_ms: Some(retry_after_ms),
                        });
                    }
                }
                hold.rates.push((rated.id, speed.kind, units));
                if !observe {
                    let rate = rated.shown(now);
                    match shown.iter_mut().find(|known| known.0 == rate.0) {
                        Some(known) if known.2 <= rate.2 => {}
                        Some(known) => *known = rate,
                        None => shown.push(rate),
                    }
                }
            }
        }
        Ok((shown, limited))
    }

    pub(super) fn report(&mut self, news: &News) -> Outcome {
        let owner = match (self.find(news.hold), self.tombstones.get(&news.hold)) {
            (Some(index), _) => Some(self.holds[index].key),
            (None, tombstone) => tombstone.map(|(key, _)| *key),
        };
        if owner.is_some_and(|owner| owner != news.key) {
            return Outcome::Rejected("the hold belongs to another key");
        }
        let Some(index) = self.find(news.hold) else { return self.report_unknown(news, owner.is_some()) };
        let state = self.holds[index].state;
        match (news.event, state) {
            (Event::Adjust { exact, seen }, State::Pending) if news.sequence > self.holds[index].sequence => {
                self.adjust(index, news.sequence, exact, seen)
            }
            (Event::Adjust { .. }, _) => Outcome::Superseded,
            (Event::Settle { .. }, State::Settled) => Outcome::Duplicate,
            (Event::Settle { .. }, State::Voided) => Outcome::Rejected("the hold is voided"),
            (Event::Settle { used, model }, State::Pending | State::Expired) => {
                self.settle(index, news.sequence, used, model)
            }
            (Event::Void, State::Voided) => Outcome::Duplicate,
            (Event::Void, State::Settled) => Outcome::Rejected("the hold is settled"),
            (Event::Void, State::Pending | State::Expired) => self.void(index, news.sequence),
        }
    }

    fn report_unknown(&mut self, news: &News, tombstone: bool) -> Outcome {
        match (news.event, tombstone) {
            (Event::Void, false) => {
                self.tombstones.insert(news.hold, (news.key, self.now()));
                Outcome::Tombstone
            }
            (Event::Void, true) => Outcome::Duplicate,
            (Event::Adjust { .. }, true) => Outcome::Superseded,
            (Event::Settle { .. }, true) => Outcome::Rejected("the hold is voided"),
            (_, false) => Outcome::Rejected("unknown hold"),
        }
    }

    fn adjust(&mut self, index: usize, sequence: u64, exact: Option<Tokens>, seen: u64) -> Outcome {
        let now = self.now();
        let hold = &mut self.holds[index];
        let known = exact.or(hold.known);
        let mut growth = 0;
        if exact.is_some() || seen > hold.output {
            let output = hold.output.max(seen);
            let needed = match known {
                Some((input, cached, known)) => hold.dearest((input, cached, known.max(output))),
                None => hold.dearest((hold.input, 0, output)).max(hold.amount),
            };
            growth = needed - hold.amount;
            hold.amount = needed;
        }
        hold.known = known.map(|(input, cached, output)| (input, cached, output.max(seen)));
        hold.sequence = sequence;
        hold.expires_at = hold.expires_at.max(now + super::TTL_MS);
        if growth != 0 {
            self.wrote();
            self.note_overrun(index, growth);
        }
        Outcome::Applied
    }

    fn settle(&mut self, index: usize, sequence: u64, used: Option<Tokens>, model: Option<Name>) -> Outcome {
        let hold = &self.holds[index];
        let (cost, estimated) = match (used, model.map_or(hold.model, real)) {
            (None, _) => (hold.amount, true),
            // No price: the dearer of the hold and of what was asked for.
            (Some(used), Name::New) => (price(hold.model, used).max(hold.amount), true),
            (Some(used), model) => (price(model, used), false),
        };
        let tokens = used.map(|(input, cached, output)| input + cached + output);
        self.end(index, State::Settled, cost, tokens);
        let hold = &mut self.holds[index];
        hold.sequence = hold.sequence.max(sequence);
        hold.estimated = estimated;
        Outcome::Applied
    }

    fn void(&mut self, index: usize, sequence: u64) -> Outcome {
        self.end(index, State::Voided, 0, Some(0));
        let hold = &mut self.holds[index];
        hold.sequence = hold.sequence.max(sequence);
        hold.estimated = false;
        Outcome::Applied
    }

    pub(super) fn expire(&mut self, index: usize) {
        let amount = self.holds[index].amount;
        self.end(index, State::Expired, amount, None);
        self.holds[index].estimated = true;
    }

    /// Ends the hold, or ends it otherwise after it has expired.
    fn end(&mut self, index: usize, state: State, cost: i64, tokens: Option<u64>) {
        let now = self.now();
        self.wrote();
        let hold = &mut self.holds[index];
        let was_open = hold.state == State::Pending;
        let posted = cost - hold.posted;
        let growth = posted - if was_open { hold.amount } else { 0 };
        (hold.state, hold.posted) = (state, cost);
        self.cross(index, posted);
        if state == State::Settled {
            self.note_overrun(index, growth);
        }
        for (id, kind, units) in self.holds[index].rates.clone() {
            let Some(bucket) = self.bucket(id) else { continue };
            match (kind, tokens) {
                (RateKind::Parallel, _) if was_open => bucket.release(),
                (RateKind::TokensPerMinute | RateKind::TokensPerDay, Some(used)) => {
                    bucket.correct(units, used, now)
                }
                _ => {}
            }
        }
    }

    pub(super) fn correct(&mut self, number: u32, cost: i64) -> Reply {
        let Some(index) = self.find(number) else { return Reply::NotFound };
        let hold = &mut self.holds[index];
        if hold.state == State::Pending {
            return Reply::Conflict;
        }
        if hold.posted == cost {
            return Reply::Before(cost);
        }
        hold.sequence += 1;
        let before = std::mem::replace(&mut hold.posted, cost);
        self.leave_what_is_over(index, before);
        self.wrote();
        self.cross(index, cost - before);
        self.note_overrun(index, cost - before);
        Reply::Before(before)
    }

    fn leave_what_is_over(&mut self, index: usize, posted: i64) {
        let hold = &self.holds[index];
        let is_over = |place: &&Place| !place.1.counts(hold.made_at, self.moment(place.0));
        let over: Vec<Place> = hold.late.iter().filter(is_over).copied().collect();
        for place in over {
            self.holds[index].over.entry(place).or_insert(posted);
        }
    }

    fn note_overrun(&mut self, index: usize, growth: i64) {
        if growth > 0 {
            let overrun = self.overrun(index, growth);
            self.holds[index].overrun = self.holds[index].overrun.max(overrun);
        }
    }
}
