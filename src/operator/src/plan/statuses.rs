//! The status of every object: conditions, money, and the events that a change of it means.
//!
//! An object of which this plan asks something of the ledger gets no status yet: the next plan, which comes with the answer, writes it once.
//! While the ledger is away, what is known of money stays, and after a while the conditions say that nothing newer is known.

mod price_books;

use super::conditions::{
    AUTHORITIES_UNKNOWN, Conditions, EXHAUSTED, LEDGER_UNAVAILABLE, PROGRAMMED, REFUSED_BY_LEDGER,
    SECRET_REFUSED, Word, find,
};
use super::desired::{alerts, expiry};
use super::identity::Identities;
use super::money;
use super::prices::Prices;
use super::program::{Behind, Late, Program, State, reference};
use super::verdict::{Verdict, Verdicts, is_alive};
use super::{
    Action, KeySecret, Kind, ObjectName, SecretRefusal, Standing, Status, World, events, keys, limits, time,
};
use crate::resources::{
    AccountStatus, Budget, BudgetStatus, Limit, LimitStatus, Mode, PreviousKey, TargetKind, VirtualKey,
    VirtualKeyStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tollgate_domain::account::AccountName;
use tollgate_domain::time::Timestamp;

/// A ledger that is started anew, or moves, is back before anybody should worry.
const GRACE_MS: i64 = 30_000;

/// What is known of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Everything.
    Synced,
    /// Nothing new, for too short a time to say so.
    Brief,
    /// Nothing new.
    Away,
}

/// Writes statuses.
pub(super) struct Statuses<'a> {
    world: &'a World,
    identities: Identities<'a>,
    program: &'a Program,
    prices: &'a Prices,
    now: Timestamp,
    reach: Reach,
    /// Keys that the ledger has otherwise than they are wanted.
    behind: Vec<(Behind, &'a ObjectName)>,
    statuses: Vec<Action>,
    wake_at: Option<Timestamp>,
}

/// What a status is made of, whatever the kind of its object.
struct About<'a> {
    kind: Kind,
    name: &'a ObjectName,
    meta: &'a ObjectMeta,
}

impl<'a> Statuses<'a> {
    pub(super) fn new(
        world: &'a World,
        identities: Identities<'a>,
        (program, prices): (&'a Program, &'a Prices),
        now: Timestamp,
    ) -> Self {
        let told_at = world.ledger.away_since.map(|since| since.plus_ms(GRACE_MS));
        let reach = match told_at {
            _ if world.ledger.synced => Reach::Synced,
            Some(told_at) if told_at <= now => Reach::Away,
            _ => Reach::Brief,
        };
        let wake_at = told_at.filter(|_| reach == Reach::Brief);
        let behind = |key| Some((program.behind(&identities.account(Kind::VirtualKey, key))?, key));
        // With most plans no key has to be looked at.
        let behind = match program.is_level() {
            true => vec![],
            false => world.virtual_keys.keys().filter_map(behind).collect(),
        };
        Self { world, identities, program, prices, now, reach, behind, statuses: vec![], wake_at }
    }

    pub(super) fn write(mut self, verdicts: &Verdicts<'a>) -> (Vec<Action>, Option<Timestamp>) {
        let world = self.world;
        for (name, one) in &world.organizations {
            self.account(
                Kind::Organization,
                name,
                &one.metadata,
                &one.status,
                verdicts.organizations.get(name),
            );
        }
        for (name, one) in &world.teams {
            self.account(Kind::Team, name, &one.metadata, &one.status, verdicts.teams.get(name));
        }
        for (name, one) in &world.users {
            self.account(Kind::User, name, &one.metadata, &one.status, verdicts.users.get(name));
        }
        for (name, one) in &world.virtual_keys {
            self.virtual_key(name, one, verdicts.virtual_keys.get(name));
        }
        for (name, one) in &world.budgets {
            self.budget(name, one, verdicts.budgets.get(name));
        }
        for (name, one) in &world.price_books {
            self.price_book(name, one, verdicts.price_books.get(name));
        }
        (self.statuses, self.wake_at)
    }

    /// How the account of an object stands. One that it would adopt and has not is no business of its readers.
    fn standing(&self, kind: Kind, name: &ObjectName) -> Option<&'a Standing> {
        let scope = self.identities.owner_scope(kind, name);
        self.world.ledger.standing_of(&self.identities.account(kind, name), &scope)
    }

    /// `Programmed`; `None`: it is too early to say.
    fn programmed(&self, verdict: &Verdict, state: Option<&State>) -> Option<Word> {
        if !verdict.counts {
            let reason = if verdict.resolved.is_some() { "UnresolvedRefs" } else { "NotAccepted" };
            return Some(Word::new(false, reason, "The ledger is not asked for what does not count."));
        }
        match (state, self.reach) {
            (_, Reach::Brief) => None,
            (_, Reach::Away) => Some(Word::new(
                None,
                LEDGER_UNAVAILABLE,
                "The ledger does not answer. What it holds goes on to count; what was changed since waits for it.",
            )),
            (Some(State::Programmed), Reach::Synced) => {
                Some(Word::new(true, PROGRAMMED, "The ledger holds it."))
            }
            (Some(State::Refused(refusal)), Reach::Synced) => Some(Word::new(
                false,
                REFUSED_BY_LEDGER,
                format!("The ledger refuses it: {}.", refusal.message),
            )),
            (Some(State::WithoutSecret(late)), Reach::Synced) => Some(late_secret(late)),
            (Some(State::Opens(why)), Reach::Synced) => {
                Some(Word::new(false, "LimitsMissing", format!("{why}.")))
            }
            (Some(State::Asked | State::Away) | None, Reach::Synced) => None,
        }
    }

    /// Publishes what the change means, and writes it.
    fn set(&mut self, about: &About<'_>, before: &Status, status: Status) {
        if *before == status {
            return;
        }
        let object = reference(about.kind, about.name, about.meta);
        let events = events::of(&object, about.meta, before, &status);
        self.statuses.push(Action::SetStatus { object, status, events });
    }

    /// An object that is being deleted is of no more interest, unless the ledger keeps it from that.
    fn is_of_interest(&self, meta: &ObjectMeta) -> bool {
        is_alive(meta) || self.reach == Reach::Away
    }

    fn account(
        &mut self,
        kind: Kind,
        name: &ObjectName,
        meta: &ObjectMeta,
        status: &Option<AccountStatus>,
        verdict: Option<&Verdict>,
    ) {
        let Some(verdict) = verdict.filter(|_| self.is_of_interest(meta)) else { return };
        let about = About { kind, name, meta };
        let before = status.clone().unwrap_or_default();
        let account = self.identities.account(kind, name);
        let Some(programmed) = self.programmed(verdict, self.program.state(&account)) else { return };
        let mut conditions = Conditions::new(&before.conditions, meta.generation, self.now);
        conditions.judge(verdict);
        conditions.add(PROGRAMMED, programmed);
        let told = (&before.spending, before.limits.as_slice());
        let (spending, limits) = money::now(told, self.standing(kind, name), self.reach == Reach::Synced);
        let after = AccountStatus {
            observed_generation: meta.generation,
            conditions: conditions.finish(None),
            spending,
            limits,
        };
        self.set(&about, &Status::Account(before), Status::Account(after));
    }

    fn virtual_key(&mut self, name: &ObjectName, key: &VirtualKey, verdict: Option<&Verdict>) {
        let meta = &key.metadata;
        let Some(verdict) = verdict.filter(|_| self.is_of_interest(meta)) else { return };
        let about = About { kind: Kind::VirtualKey, name, meta };
        let before = key.status.clone().unwrap_or_default();
        let account = self.identities.account(Kind::VirtualKey, name);
        let Some(programmed) = self.programmed(verdict, self.program.state(&account)) else { return };
        let standing = self.standing(Kind::VirtualKey, name).filter(|standing| !standing.deleted);
        let mut conditions = Conditions::new(&before.conditions, meta.generation, self.now);
        conditions.judge(verdict);
        conditions.add(PROGRAMMED, programmed);
        match (self.reach, standing) {
            (Reach::Synced, Some(standing)) => conditions.add(EXHAUSTED, exhausted_key(standing)),
            _ => conditions.keep(EXHAUSTED),
        }
        let told = (&before.spending, before.limits.as_slice());
        let (spending, limits) = money::now(told, standing, self.reach == Reach::Synced);
        let (expired, expires_at) = self.expiry(key);
        let late = self.program.late_secret(&account).map(late_secret);
        let secret_name = keys::wanted_secret(name, key);
        let secret = self.world.secrets.get(&secret_name).filter(|secret| secret.owner_uid == meta.uid);
        let present = secret.and_then(|secret| Some((secret, secret.key.as_ref()?)));
        // Of an adopted key that people hold, the ledger knows as much.
        let held = standing.filter(|_| key.spec.adopt.is_some()).map(|standing| &standing.credentials);
        let held = held.and_then(|held| held.iter().find(|one| one.expires_at.is_none()));
        // That it has had a Secret is known by this alone while the API server takes none.
        let rotated_at = before.issued_at.clone().filter(|_| key.spec.adopt.is_some());
        let after = VirtualKeyStatus {
            observed_generation: meta.generation,
            conditions: conditions.finish(late.or(expired)),
            secret_name: present.map(|_| secret_name.name.clone()),
            key_name: present.map(|(_, key)| &key.name).or(held.map(|held| &held.name)).cloned(),
            issued_at: present.and_then(|(secret, _)| secret.issued_at).map(time::to_time).or(rotated_at),
            previous: present.map(|(secret, _)| self.previous(secret)).unwrap_or_default(),
            expires_at: expires_at.map(time::to_time),
            spending,
            limits,
        };
        self.set(&about, &Status::VirtualKey(before), Status::VirtualKey(after));
    }

    fn previous(&self, secret: &KeySecret) -> Vec<PreviousKey> {
        let living = secret.previous.iter().filter(|one| one.expires_at > self.now);
        living
            .map(|one| PreviousKey { key_name: one.name.clone(), expires_at: time::to_time(one.expires_at) })
            .collect()
    }

    /// Why a key that the ledger holds is not ready all the same.
    fn expiry(&mut self, key: &VirtualKey) -> (Option<Word>, Option<Timestamp>) {
        let expires_at = expiry(key);
        let Some(at) = expires_at else { return (None, None) };
        if at > self.now {
            self.wake_at = self.wake_at.into_iter().chain([at]).min();
            return (None, expires_at);
        }
        let message =
            format!("The key is refused since {}: write a later expiresAt, or leave it out.", time::text(at));
        (Some(Word::new(false, "Expired", message)), expires_at)
    }

    fn budget(&mut self, name: &ObjectName, budget: &Budget, verdict: Option<&Verdict>) {
        let meta = &budget.metadata;
        let Some(verdict) = verdict.filter(|_| is_alive(meta)) else { return };
        let about = About { kind: Kind::Budget, name, meta };
        let before = budget.status.clone().unwrap_or_default();
        let target = &budget.spec.target_ref;
        let account = self.target(name, budget);
        let programmed = match &account {
            Some((account, _)) => self.budget_programmed(verdict, account),
            None => self.session_budget_programmed(name, verdict),
        };
        let Some(programmed) = programmed else { return };
        let standing = account.filter(|_| verdict.counts);
        let standing = standing.and_then(|(account, scope)| self.world.ledger.standing_of(&account, &scope));
        let limits = self.budget_limits(budget, standing, &before);
        let mut conditions = Conditions::new(&before.conditions, meta.generation, self.now);
        conditions.judge(verdict);
        conditions.add(PROGRAMMED, programmed);
        match exhausted_budget(budget, &limits) {
            Some(word) if self.reach == Reach::Synced => conditions.add(EXHAUSTED, word),
            _ => conditions.keep(EXHAUSTED),
        }
        let after = BudgetStatus {
            observed_generation: meta.generation,
            conditions: conditions.finish(None),
            target: Some(format!("{}/{}", target.kind.as_str(), target.name)),
            tightest: money::tightest(&limits),
            limits,
        };
        self.set(&about, &Status::Budget(before), Status::Budget(after));
    }

    /// Whose account a budget is on, and for whom that is managed; of sessions, nobody's.
    fn target(&self, name: &ObjectName, budget: &Budget) -> Option<(AccountName, String)> {
        let target = ObjectName::new(&name.namespace, &budget.spec.target_ref.name);
        let kind = match budget.spec.target_ref.kind {
            TargetKind::Organization => Kind::Organization,
            TargetKind::Team => Kind::Team,
            TargetKind::User => Kind::User,
            TargetKind::VirtualKey => Kind::VirtualKey,
            TargetKind::Tag => return Some(self.identities.tag(&target)),
            TargetKind::Session => return None,
        };
        Some((self.identities.account(kind, &target), self.identities.owner_scope(kind, &target)))
    }

    /// A budget is programmed with the account of its target.
    fn budget_programmed(&self, verdict: &Verdict, account: &AccountName) -> Option<Word> {
        if !verdict.counts {
            return self.programmed(verdict, None);
        }
        let state = self.program.state(account);
        if state.is_none() && self.reach == Reach::Synced {
            let message = "The ledger does not have the target: see its conditions.";
            return Some(Word::new(false, "TargetNotProgrammed", message));
        }
        self.programmed(verdict, state)
    }

    /// Sessions have no account of their own: their cap stands on each key that it concerns. One that the ledger does not have yet begins with
    /// all of its caps; one that it has otherwise than it is wanted may go on without this one. Only whose key it is makes a budget wait for
    /// it: others could hold up the platform's budgets for everybody.
    fn session_budget_programmed(&self, name: &ObjectName, verdict: &Verdict) -> Option<Word> {
        let state = match self.behind(name) {
            Some((Behind::Stuck, key)) if verdict.counts && self.reach == Reach::Synced => {
                let is_own = key.namespace == name.namespace;
                let (reason, has) = match is_own {
                    true => ("TargetNotProgrammed", "The ledger has"),
                    false => (PROGRAMMED, "The ledger holds it, but has"),
                };
                let message = format!(
                    "{has} {} {key} as it was before, perhaps without this cap on its sessions: see its conditions.",
                    Kind::VirtualKey
                );
                return Some(Word::new(!is_own, reason, message));
            }
            Some(_) => State::Asked,
            None => State::Programmed,
        };
        self.programmed(verdict, Some(&state))
    }

    /// A key whose sessions a budget caps, and that the ledger has otherwise than it is wanted; one that changes now before one that does not,
    /// and one of the budget's own namespace before others.
    fn behind(&self, budget: &ObjectName) -> Option<(Behind, &'a ObjectName)> {
        let concerned = self.behind.iter().copied().filter(|(_, key)| {
            self.identities.speaking_of(&key.namespace).contains(&budget.namespace.as_str())
        });
        concerned.min_by_key(|(behind, key)| (*behind, key.namespace != budget.namespace, *key))
    }

    fn budget_limits(
        &self,
        budget: &Budget,
        standing: Option<&Standing>,
        before: &BudgetStatus,
    ) -> Vec<LimitStatus> {
        let alerts = alerts(budget);
        let limit = |(index, limit): (usize, &Limit)| {
            let (meant, _) = limits::meaning(limit, "");
            let known = money::of_limit(&meant, money::counted(standing, &meant), &alerts);
            let last = before.limits.get(index).filter(|last: &&LimitStatus| {
                (&last.amount, &last.period, &last.model) == (&known.amount, &known.period, &known.model)
            });
            match last {
                Some(last) if self.reach != Reach::Synced => last.clone(),
                _ => known,
            }
        };
        budget.spec.limits.iter().enumerate().map(limit).collect()
    }
}

fn late_secret(late: &Late) -> Word {
    match late {
        Late::Refused(SecretRefusal { said, .. }) => Word::new(
            false,
            SECRET_REFUSED,
            format!("The API server does not take the Secret, and is asked again every minute: {said}"),
        ),
        Late::AuthoritiesUnknown => Word::new(
            false,
            AUTHORITIES_UNKNOWN,
            "The Secret is made when the authorities are known by which clients know the gateway. The operator's log says what is wrong with them.",
        ),
    }
}

fn exhausted_key(standing: &Standing) -> Word {
    if standing.exhausted {
        Word::new(true, EXHAUSTED, "Nothing is left on a limit of the key, so its requests are refused.")
    } else {
        Word::new(false, "Available", "No limit of the key is used up.")
    }
}

/// `None`: nothing is known.
fn exhausted_budget(budget: &Budget, limits: &[LimitStatus]) -> Option<Word> {
    let mut known = limits.iter().filter(|limit| limit.posted.is_some()).peekable();
    known.peek()?;
    let Some(spent) = known.find(|limit| limit.used_percent.is_some_and(|used| used >= 100)) else {
        return Some(Word::new(false, "Available", "No limit is used up."));
    };
    let resets =
        spent.resets_at.as_ref().map(|at| format!(" It begins anew at {}.", at.0)).unwrap_or_default();
    let what = format!("The limit of {} USD ({}) is spent.{resets}", spent.amount, spent.period);
    Some(match budget.spec.mode {
        Mode::Enforce => Word::new(true, EXHAUSTED, what),
        Mode::Observe => Word::new(
            true,
            "Observed",
            format!("{what} Nothing is refused, because the budget only observes."),
        ),
    })
}

/// Whether a condition turned true.
pub(super) fn turned_true(
    before: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    after: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    kind: &str,
) -> bool {
    !super::conditions::holds(before, kind) && find(after, kind).is_some_and(|one| one.status == "True")
}
