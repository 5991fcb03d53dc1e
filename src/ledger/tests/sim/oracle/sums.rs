//! Sums over all holds, and the limits over them.

use super::{Cap, Denial, Hold, Oracle, Place, State, label, real};
use crate::plan::{Amount, Limit, Name, Who};
use crate::spans::Span;
use tollgate_domain::hold::DenialReason;

impl Hold {
    fn pending(&self) -> i64 {
        if self.state == State::Pending { self.amount } else { 0 }
    }

    /// Whether it was made on account of `who`: a tag counts whether it had an account then or not.
    pub(super) fn belongs(&self, who: Who) -> bool {
        match who {
            Who::Tag(organization, tag) => {
                self.binding_tags.contains(&tag)
                    && (organization.is_none() || organization == self.organization)
            }
            _ => self.charged.contains(&who),
        }
    }

    /// Where a change of it counts.
    fn still(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| !self.over.contains_key(place))
    }

    pub(super) fn is_of(&self, model: Option<Name>) -> bool {
        model.is_none_or(|model| model == self.model)
    }
}

impl Oracle {
    /// Posted and pending in the present window.
    pub(crate) fn sum(&self, place: Place) -> (i64, i64) {
        self.sum_at(place, self.moment(place.0))
    }

    fn sum_at(&self, (who, span, model): Place, now: i64) -> (i64, i64) {
        let counts = |hold: &&Hold| match (span, model) {
            // Over its life an account is charged while it is there, and a tag from its making on with what was before.
            (Span::Lifetime, None) => hold.charged.contains(&who),
            _ => hold.belongs(who) && hold.is_of(model) && span.counts(hold.made_at, now),
        };
        add(self.holds.iter().filter(counts))
    }

    pub(super) fn amount(&self, who: Who, limit: &Limit) -> i64 {
        match limit.amount {
            Amount::Just(amount) => amount,
            Amount::Beyond(more) => {
                let (posted, pending) = self.sum((who, limit.span, limit.model.map(real)));
                (posted + pending + more).max(0)
            }
        }
    }

    /// The smallest that the accounts of a key say of a session.
    pub(super) fn session_cap(&self, chain: &[Who], session: u8) -> Option<i64> {
        let said = chain.iter().map(|who| &self.accounts[who]);
        let said = said.flat_map(|account| {
            let of_it = account.session_limits.iter().filter(|(sessions, _)| sessions.has(session));
            account.session_limit.into_iter().chain(of_it.map(|(_, amount)| *amount))
        });
        said.min()
    }

    /// The limits of an account; of a session, what the accounts of its key say.
    pub(super) fn caps(&self, who: Who) -> Vec<Cap> {
        let Who::Session(key, session) = who else { return self.accounts[&who].caps.clone() };
        let least = self.session_cap(&self.chain(key), session);
        let cap = |amount| Cap {
            amount,
            span: Span::Lifetime,
            model: None,
            soft: false,
            observe: false,
            main: false,
            thresholds: Vec::new(),
        };
        least.map(cap).into_iter().collect()
    }

    /// The windows in which an account is counted: its life, then those of its limits, the main one first.
    pub(super) fn places(&self, who: Who) -> Vec<Place> {
        let mut places = vec![(who, Span::Lifetime, None)];
        let mut caps = self.caps(who);
        caps.sort_by_key(|cap| !cap.main);
        for cap in caps {
            let place = (who, cap.span, cap.model);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The first limit, outermost first, that does not take so much more; and what one that observes would have said.
    pub(super) fn afford(
        &self,
        charged: &[Who],
        model: Name,
        amount: i64,
        moment: i64,
    ) -> Result<Option<DenialReason>, Denial> {
        let mut would_deny = None;
        for (cap, place) in charged.iter().flat_map(|who| self.hard_caps(*who)) {
            if cap.model.is_some_and(|of| of != model) {
                continue;
            }
            let (posted, pending) = self.sum_at(place, moment);
            let reason = match () {
                () if posted >= cap.amount => DenialReason::BudgetSpent,
                () if posted + pending + amount > cap.amount => DenialReason::BudgetTooSmall,
                () => continue,
            };
            if cap.observe || self.observe_all {
                would_deny = would_deny.or(Some(reason));
                continue;
            }
            return Err(Denial {
                reason,
                account: Some(label(place.0)),
                amounts: Some((cap.amount, posted, pending, amount)),
                resets_at: self.resets_at(place, moment),
                retry_after_ms: None,
            });
        }
        Ok(would_deny)
    }

    /// The limits that refuse, in the order in which they do.
    fn hard_caps(&self, who: Who) -> Vec<(Cap, Place)> {
        let caps = self.caps(who);
        let mut ordered = Vec::new();
        for place in self.places(who) {
            let here = |cap: &&Cap| (cap.span, cap.model) == (place.1, place.2) && !cap.soft;
            let mut here: Vec<&Cap> = caps.iter().filter(here).collect();
            here.sort_by_key(|cap| !cap.main);
            ordered.extend(here.into_iter().map(|cap| (cap.clone(), place)));
        }
        ordered
    }

    /// When the window ends or, where it rolls, when the first of it is free again.
    fn resets_at(&self, (who, span, model): Place, now: i64) -> Option<i64> {
        if !matches!(span, Span::Rolling(_)) {
            return span.period(now).1;
        }
        let counts = |hold: &&Hold| hold.belongs(who) && hold.is_of(model) && span.counts(hold.made_at, now);
        let mut spent: Vec<&Hold> = self.holds.iter().filter(counts).collect();
        spent.sort_by_key(|hold| hold.made_at);
        let bucket = |hold: &Hold| span.period(hold.made_at).0;
        let mut starts: Vec<i64> = spent.iter().map(|hold| bucket(hold)).collect();
        starts.dedup();
        let posted = |start: &i64| {
            spent.iter().filter(|hold| bucket(hold) == *start).map(|hold| hold.posted).sum::<i64>() > 0
        };
        starts.into_iter().find(posted).and_then(|start| span.leaves_at(start))
    }

    /// What a look-up says: the first limit of every model on which nothing is left.
    pub(crate) fn exhausted(&self, key: u8) -> Option<Denial> {
        let moment = self.moment_of_all(&self.chain(key));
        for (cap, place) in self.chain(key).into_iter().flat_map(|who| self.hard_caps(who)) {
            let (posted, pending) = self.sum_at(place, moment);
            if cap.model.is_none() && !cap.observe && !self.observe_all && posted >= cap.amount {
                return Some(Denial {
                    reason: DenialReason::BudgetSpent,
                    account: Some(label(place.0)),
                    amounts: Some((cap.amount, posted, pending, 0)),
                    resets_at: self.resets_at(place, moment),
                    retry_after_ms: None,
                });
            }
        }
        None
    }

    /// What is counted together with a hold, in the window in which it was made; `None`: it has rolled out.
    fn sum_around(&self, index: usize, place: Place) -> Option<(i64, i64)> {
        let (who, span, _) = place;
        let (now, made_at) = (self.moment(who), self.holds[index].made_at);
        let rolls = matches!(span, Span::Rolling(_));
        if rolls && !span.counts(made_at, now) {
            return None;
        }
        let together = |hold: &&Hold| {
            let same = span == Span::Lifetime || span.period(hold.made_at) == span.period(made_at);
            hold.places.contains(&place) && if rolls { span.counts(hold.made_at, now) } else { same }
        };
        let sums = self.holds.iter().filter(together);
        Some(sums.fold((0, 0), |(posted, pending), hold| {
            (posted + hold.over.get(&place).unwrap_or(&hold.posted), pending + hold.pending())
        }))
    }

    /// The hold has grown by this much: how far beyond a limit.
    pub(super) fn overrun(&self, index: usize, growth: i64) -> i64 {
        let mut most = 0;
        for place in self.holds[index].still() {
            let Some((posted, pending)) = self.sum_around(index, *place) else { continue };
            for (cap, of) in self.hard_caps(place.0) {
                if of == *place && !cap.observe && !self.observe_all {
                    most = most.max((posted + pending - cap.amount).min(growth));
                }
            }
        }
        most
    }

    /// So much was posted for the hold: which parts of limits were crossed by it.
    pub(super) fn cross(&mut self, index: usize, posted: i64) {
        if posted <= 0 {
            return;
        }
        let made_at = self.holds[index].made_at;
        for place in self.holds[index].still().copied().collect::<Vec<_>>() {
            let Some((after, _)) = self.sum_around(index, place) else { continue };
            self.cross_at(place, place.1.period(made_at).0, after - posted, after);
        }
    }

    /// What a changed limit finds crossed already.
    pub(super) fn cross_now(&mut self, who: Who) {
        for place in self.places(who) {
            let (posted, _) = self.sum(place);
            self.cross_at(place, place.1.period(self.moment(who)).0, 0, posted);
        }
    }

    fn cross_at(&mut self, place: Place, start: i64, before: i64, after: i64) {
        let (who, span, model) = place;
        for cap in self.caps(who).iter().filter(|cap| (cap.span, cap.model) == (span, model)) {
            for threshold in &cap.thresholds {
                let part = i128::from(cap.amount) * i128::from(*threshold);
                if i128::from(before) * 100 < part && part <= i128::from(after) * 100 {
                    self.crossings.insert((who, span, model, cap.soft, start, *threshold));
                }
            }
        }
    }
}

fn add<'a>(holds: impl Iterator<Item = &'a Hold>) -> (i64, i64) {
    holds.fold((0, 0), |(posted, pending), hold| (posted + hold.posted, pending + hold.pending()))
}
