//! The oracle: a ledger that keeps no balance. Whenever it is asked for a sum, it adds up all holds.
//!
//! It uses nothing of `domain` but plain types: prices, windows, rates and states are its own, and as naive as they can be.

mod admin;
mod holds;
mod sums;

use crate::bucket::Bucket;
use crate::plan::{Amount, Belongs, Message, Name, SessionsOf, Speed, Tokens, Who};
use crate::spans::{MINUTE_MS, SECOND_MS, Span};
use std::collections::{BTreeMap, BTreeSet};
use tollgate_domain::account::{AccountKind, AccountLabel};
use tollgate_domain::hold::{DenialReason, Outcome};
use tollgate_domain::rate::RateKind;

const TTL_MS: i64 = 15 * MINUTE_MS;
const GRACE_MS: i64 = 2 * MINUTE_MS;
const TOMBSTONE_MS: i64 = 2 * crate::spans::DAY_MS;
const SWEEP_MS: i64 = SECOND_MS;
/// How far a clock may be behind the books without anybody asking.
const BEHIND_MS: i64 = SECOND_MS;

/// What a store answers, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Decided(Decision, Vec<Outcome>),
    Outcomes(Vec<Outcome>),
    /// What was charged before a correction.
    Before(i64),
    Done,
    Invalid,
    NotFound,
    Conflict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Held { amount: i64, expires_at: i64, rates: Vec<RateShown> },
    Denied(Denial),
    Stale,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) reason: DenialReason,
    pub(crate) account: Option<AccountLabel>,
    /// Limit, posted, pending, requested.
    pub(crate) amounts: Option<(i64, i64, i64, i64)>,
    pub(crate) resets_at: Option<i64>,
    pub(crate) retry_after_ms: Option<u64>,
}

/// A rate as it stands: kind, limit, what is left, when all of it is.
pub(crate) type RateShown = (RateKind, u64, u64, i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Settled,
    Voided,
    Expired,
}

/// A limit with its amount as a number, and its model by its real name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cap {
    pub(crate) amount: i64,
    pub(crate) span: Span,
    pub(crate) model: Option<Name>,
    pub(crate) soft: bool,
    pub(crate) observe: bool,
    pub(crate) main: bool,
    pub(crate) thresholds: Vec<u16>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rated {
    /// Never given twice.
    id: u32,
    pub(crate) speed: Speed,
    bucket: Bucket,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) alive: bool,
    pub(crate) owners: Belongs,
    pub(crate) caps: Vec<Cap>,
    pub(crate) rates: Vec<Rated>,
    blocked: bool,
    tags: Vec<u8>,
    client_tags_bind: bool,
    session_limit: Option<i64>,
    session_limits: Vec<(SessionsOf, i64)>,
    revision: u32,
    /// When that was last changed.
    changed_at: i64,
}

/// Which requests of an account count together.
pub(crate) type Place = (Who, Span, Option<Name>);

#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) number: u32,
    key: u8,
    model: Name,
    fallback: bool,
    input: u64,
    output: u64,
    organization: Option<u8>,
    binding_tags: Vec<u8>,
    /// Who pays, outermost first; a tag's account that came later at the end.
    pub(crate) charged: Vec<Who>,
    /// Who paid when it was made.
    payers: Vec<Who>,
    /// What it is counted in.
    places: Vec<Place>,
    /// Those of them that came when it had ended.
    late: Vec<Place>,
    /// What it counted with in those when they were over: a correction does not reach them any more.
    over: BTreeMap<Place, i64>,
    rates: Vec<(u32, RateKind, u64)>,
    made_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) state: State,
    pub(crate) amount: i64,
    pub(crate) posted: i64,
    pub(crate) overrun: i64,
    pub(crate) sequence: u64,
    pub(crate) estimated: bool,
    pub(crate) would_deny: Option<DenialReason>,
    known: Option<Tokens>,
}

/// An event of a limit: which, soft or not, the start of the window, the part.
pub(crate) type Crossed = (Who, Span, Option<Name>, bool, i64, u16);

/// What a key's policy follows from.
pub(crate) type Version = Vec<(Who, u32)>;

#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    pub(crate) clock: i64,
    /// The latest moment that the books know of.
    latest: i64,
    /// The clock was behind that once, and nobody minded.
    pub(crate) set_back: bool,
    /// Of each store: until when nothing expires, and when it looks again.
    stores: Vec<(i64, i64)>,
    observe_all: bool,
    pub(crate) accounts: BTreeMap<Who, Account>,
    pub(crate) holds: Vec<Hold>,
    tombstones: BTreeMap<u32, (u8, i64)>,
    pub(crate) crossings: BTreeSet<Crossed>,
    /// The policies that the filter remembers.
    pub(crate) remembered: BTreeMap<u8, Version>,
    ids: u32,
}

impl Oracle {
    pub(crate) fn new(clock: i64, observe_all: bool) -> Self {
        Self {
            clock,
            latest: i64::MIN,
            set_back: false,
            stores: Vec::new(),
            observe_all,
            accounts: BTreeMap::new(),
            holds: Vec::new(),
            tombstones: BTreeMap::new(),
            crossings: BTreeSet::new(),
            remembered: BTreeMap::new(),
            ids: 0,
        }
    }

    /// Whether no limit refuses anything.
    pub(crate) const fn observes(&self) -> bool {
        self.observe_all
    }

    /// What the clock says.
    pub(crate) const fn now(&self) -> i64 {
        self.clock
    }

    /// What decides the windows of an account: never before its latest hold.
    pub(crate) fn moment(&self, who: Who) -> i64 {
        let paid = self.holds.iter().filter(|hold| hold.payers.contains(&who));
        paid.map(|hold| hold.made_at).fold(self.clock, i64::max)
    }

    /// What decides the windows of a hold.
    fn moment_of_all(&self, charged: &[Who]) -> i64 {
        charged.iter().map(|who| self.moment(*who)).fold(self.clock, i64::max)
    }

    /// Something was written.
    fn wrote(&mut self) {
        self.latest = self.latest.max(self.clock);
    }

    /// The stores are opened, with the clock as it is.
    pub(crate) fn start(&mut self, stores: usize) {
        if self.clock < self.latest.saturating_sub(BEHIND_MS) {
            self.carry_over(self.latest - self.clock);
        }
        self.stores = vec![(self.clock + GRACE_MS, self.clock); stores];
    }

    /// The clock was set back: what it has measured goes on from where it was.
    fn carry_over(&mut self, back_ms: i64) {
        let (now, latest) = (self.clock, self.latest);
        for hold in self.holds.iter_mut().filter(|hold| hold.state == State::Pending) {
            if hold.expires_at > now {
                hold.expires_at = (hold.expires_at - back_ms).min(now + TTL_MS);
            }
        }
        let rates = self.accounts.values_mut().flat_map(|account| &mut account.rates);
        rates.for_each(|rated| rated.bucket.carry_over(latest, now));
        let ahead = self.accounts.iter().filter(|(_, account)| account.alive && account.changed_at > now);
        let ahead: Vec<Who> = ahead.map(|(who, _)| *who).collect();
        for who in ahead {
            self.count_since(who, now, &[]);
            self.cross_now(who);
        }
        for account in self.accounts.values_mut() {
            account.changed_at = account.changed_at.min(now);
        }
        self.latest = now;
        self.set_back = true;
    }

    /// What a store does by itself before a message.
    pub(crate) fn tend(&mut self, store: usize) {
        let (grace_until, due_at) = self.stores[store];
        if self.clock < due_at {
            return;
        }
        self.stores[store].1 = self.clock + SWEEP_MS;
        let now = self.now();
        self.tombstones.retain(|_, (_, at)| *at >= now - TOMBSTONE_MS);
        if self.clock < grace_until {
            return;
        }
        let mut due: Vec<usize> = (0..self.holds.len()).collect();
        due.retain(|index| {
            let hold = &self.holds[*index];
            hold.state == State::Pending && hold.expires_at <= now
        });
        due.sort_by_key(|index| self.holds[*index].expires_at);
        for index in due {
            self.expire(index);
        }
    }

    pub(crate) fn apply(&mut self, store: usize, message: &Message) -> Reply {
        self.tend(store);
        match message {
            Message::Hold(ask, news) => self.hold(ask, news),
            Message::Report(news) => Reply::Outcomes(news.iter().map(|news| self.report(news)).collect()),
            Message::Correct(hold, cost) => self.correct(*hold, *cost),
            Message::Make(who, spec) => self.make(*who, spec),
            Message::Change(who, change) => self.change(*who, change),
            Message::Delete(who) => self.delete(*who),
        }
    }

    /// The message with every amount as a number.
    pub(crate) fn resolved(&self, message: &Message) -> Message {
        let mut message = message.clone();
        if let Message::Make(who, change) | Message::Change(who, change) = &mut message {
            for limit in change.limits.iter_mut().flatten() {
                limit.amount = Amount::Just(self.amount(*who, limit));
            }
        }
        message
    }

    fn account(&self, who: Who) -> Option<&Account> {
        self.accounts.get(&who).filter(|account| account.alive)
    }

    /// The accounts above a key and its own, outermost first. A key in a team belongs to the team's organization, too.
    fn chain(&self, key: u8) -> Vec<Who> {
        let Some(account) = self.accounts.get(&Who::Key(key)) else { return Vec::new() };
        let Belongs { organization, team, user } = account.owners;
        let of_team = team.and_then(|team| self.accounts[&Who::Team(team)].owners.organization);
        let above =
            [organization.or(of_team).map(Who::Organization), team.map(Who::Team), user.map(Who::User)];
        above.into_iter().flatten().chain([Who::Key(key)]).collect()
    }

    /// `None`: no such key.
    pub(crate) fn version(&self, key: u8) -> Option<Version> {
        self.account(Who::Key(key))?;
        Some(self.chain(key).into_iter().map(|who| (who, self.accounts[&who].revision)).collect())
    }
}

/// How an account is called in a denial.
pub(crate) fn label(who: Who) -> AccountLabel {
    let alias = if let Who::Session(..) = who { String::new() } else { alias(who) };
    AccountLabel { kind: kind(who), alias }
}

pub(crate) fn kind(who: Who) -> AccountKind {
    match who {
        Who::Organization(_) => AccountKind::Organization,
        Who::Team(_) => AccountKind::Team,
        Who::User(_) => AccountKind::User,
        Who::Key(_) => AccountKind::Key,
        Who::Tag(..) => AccountKind::Tag,
        Who::Session(..) => AccountKind::Session,
    }
}

pub(crate) fn alias(who: Who) -> String {
    format!("{who:?}")
}

/// The name by which a model is priced.
pub(crate) fn real(name: Name) -> Name {
    if name == Name::Em { Name::M } else { name }
}
