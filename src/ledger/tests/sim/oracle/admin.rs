//! What admins do.

use super::{Account, Cap, Oracle, Place, Rated, Reply, State, real};
use crate::bucket::Bucket;
use crate::plan::{Belongs, Change, Speed, Who};
use crate::spans::Span;
use tollgate_domain::rate::Rate;

impl Oracle {
    pub(super) fn make(&mut self, who: Who, spec: &Change) -> Reply {
        if !self.owners_live(spec.owners.unwrap_or_default()) {
            return Reply::NotFound;
        }
        if self.account(who).is_some() {
            return Reply::Conflict;
        }
        let old = self.accounts.remove(&who).unwrap_or_default();
        // What a rate has counted outlives its account, as balances do.
        let fresh = Account { alive: true, rates: old.rates, revision: old.revision, ..Account::default() };
        self.accounts.insert(who, fresh);
        let lifetime = (who, Span::Lifetime, None);
        // A tag can have been on requests for long, and while its account was gone.
        for hold in self.holds.iter_mut().filter(|hold| hold.belongs(who) && !hold.charged.contains(&who)) {
            hold.charged.push(who);
            hold.places.push(lifetime);
        }
        self.put(who, spec, &[lifetime]);
        Reply::Done
    }

    pub(super) fn change(&mut self, who: Who, change: &Change) -> Reply {
        let Some(account) = self.account(who) else { return Reply::NotFound };
        if !self.owners_live(change.owners.unwrap_or(account.owners)) {
            return Reply::NotFound;
        }
        let before = self.places(who);
        self.put(who, change, &before);
        Reply::Done
    }

    fn put(&mut self, who: Who, change: &Change, before: &[Place]) {
        let caps: Option<Vec<Cap>> = change.limits.as_ref().map(|limits| {
            let cap = |limit: &crate::plan::Limit| Cap {
                amount: self.amount(who, limit),
                span: limit.span,
                model: limit.model.map(real),
                soft: limit.soft,
                observe: limit.observe,
                main: limit.main,
                thresholds: limit.thresholds.clone(),
            };
            limits.iter().map(cap).collect()
        });
        let now = self.now();
        self.wrote();
        let ids = &mut self.ids;
        let account = self.accounts.get_mut(&who).unwrap();
        account.changed_at = now;
        account.owners = change.owners.unwrap_or(account.owners);
        account.caps = caps.unwrap_or(std::mem::take(&mut account.caps));
        account.blocked = change.blocked.unwrap_or(account.blocked);
        account.tags = change.tags.clone().unwrap_or(std::mem::take(&mut account.tags));
        account.client_tags_bind = change.client_tags_bind.unwrap_or(account.client_tags_bind);
        account.session_limit = change.session_limit.unwrap_or(account.session_limit);
        account.session_limits =
            change.session_limits.clone().unwrap_or(std::mem::take(&mut account.session_limits));
        account.revision += 1;
        if let Some(speeds) = &change.rates {
            replace_rates(&mut account.rates, speeds, now, ids);
        }
        self.count_past(who, before);
        self.cross_now(who);
    }

    /// A window that was not counted before counts what was made in it.
    fn count_past(&mut self, who: Who, before: &[Place]) {
        self.count_since(who, self.moment(who), before);
    }

    /// Windows other than those of `before` count what was made in those that are open at a moment, and later.
    pub(super) fn count_since(&mut self, who: Who, moment: i64, before: &[Place]) {
        for place in self.places(who) {
            let (_, span, model) = place;
            if before.contains(&place) {
                continue;
            }
            for hold in &mut self.holds {
                let counts =
                    hold.belongs(who) && hold.is_of(model) && span.counts_or_will(hold.made_at, moment);
                if counts && !hold.places.contains(&place) {
                    hold.places.push(place);
                    if matches!(hold.state, State::Settled | State::Voided) {
                        hold.late.push(place);
                    }
                }
            }
        }
    }

    pub(super) fn delete(&mut self, who: Who) -> Reply {
        if self.account(who).is_none() {
            return Reply::NotFound;
        }
        let mut gone = vec![who];
        for (other, account) in self.accounts.iter().filter(|(_, account)| account.alive) {
            let Belongs { organization, team, user } = account.owners;
            let of_team = team.and_then(|team| self.accounts[&Who::Team(team)].owners.organization);
            let goes = match (who, other) {
                (Who::Organization(one), Who::Key(_) | Who::Team(_)) => {
                    organization == Some(one) || of_team == Some(one)
                }
                (Who::Team(one), Who::Key(_)) => team == Some(one),
                (Who::User(one), Who::Key(_)) => user == Some(one),
                _ => false,
            };
            if goes {
                gone.push(*other);
            }
        }
        let now = self.now();
        for who in gone {
            let account = self.accounts.get_mut(&who).unwrap();
            account.alive = false;
            account.revision += 1;
            account.changed_at = now;
        }
        self.wrote();
        Reply::Done
    }

    fn owners_live(&self, owners: Belongs) -> bool {
        let Belongs { organization, team, user } = owners;
        let owners = [organization.map(Who::Organization), team.map(Who::Team), user.map(Who::User)];
        owners.into_iter().flatten().all(|who| self.account(who).is_some())
    }

    /// The bucket of a rate that may have been taken away.
    pub(super) fn bucket(&mut self, id: u32) -> Option<&mut Bucket> {
        let rates = self.accounts.values_mut().flat_map(|account| &mut account.rates);
        rates.filter(|rated| rated.id == id).map(|rated| &mut rated.bucket).next()
    }

    /// What is left of each rate of all models.
    pub(crate) fn rates_of(&self, who: Who) -> Vec<super::RateShown> {
        let all = self.accounts[&who].rates.iter().filter(|rated| rated.speed.model.is_none());
        all.map(|rated| rated.shown(self.now())).collect()
    }

    /// The next moment at which an open hold expires.
    pub(crate) fn next_expiry(&self) -> Option<i64> {
        let open = self.holds.iter().filter(|hold| hold.state == State::Pending);
        open.map(|hold| hold.expires_at).min()
    }
}

/// A rate that stays keeps what was counted, whatever its limit is now.
fn replace_rates(rates: &mut Vec<Rated>, speeds: &[Speed], now: i64, ids: &mut u32) {
    let is = |speed: &Speed, other: &Speed| (speed.kind, speed.model) == (other.kind, other.model);
    rates.retain(|rated| speeds.iter().any(|speed| is(speed, &rated.speed)));
    for speed in speeds {
        let rate = Rate { kind: speed.kind, limit: speed.limit };
        match rates.iter_mut().find(|rated| is(speed, &rated.speed)) {
            Some(rated) => {
                rated.speed = *speed;
                rated.bucket.change(rate, now);
            }
            None => {
                *ids += 1;
                rates.push(Rated { id: *ids, speed: *speed, bucket: Bucket::new(rate) });
            }
        }
    }
}

impl Rated {
    pub(super) fn shown(&self, now: i64) -> super::RateShown {
        let (remaining, resets_at) = self.bucket.standing(now);
        (self.speed.kind, self.speed.limit, remaining, resets_at)
    }
}
