//! What the ledger is to be asked for.
//!
//! An object that counts has its finalizer first and its account then; an account that no object stands for any more is deleted, whatever
//! became of the object, unless it was adopted (`kept.rs`). Owners are applied before who belongs to them, and deleted after.

use super::adoption;
use super::desired::Desires;
use super::identity::Identities;
use super::kept::kept;
use super::keys::{self, Adopted, Secrets, Step};
use super::ledger::{Applied, Outcome};
use super::verdict::{Verdict, Verdicts, is_alive};
use super::{
    Account, Action, Credential, IssueKey, KeySecret, Kind, Ledger, MANAGED_BY, ObjectName, ObjectRef,
    Refusal, RefusalReason, SecretRefusal, Settings, Standing, World,
};
use crate::resources::FINALIZER;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use tollgate_domain::account::AccountName;
use tollgate_domain::time::Timestamp;

const RETRY_FIRST_MS: i64 = 1_000;
const RETRY_LAST_MS: i64 = 5 * 60_000;
/// What the ledger refuses where an adopted key has no credential that works.
const CREDENTIALS: &str = "credentials";
/// Its owner may be there any moment.
const RETRY_OWNERLESS_MS: i64 = 15_000;

/// What is to be done about accounts and Secrets, and how each account stands with it.
#[derive(Default)]
pub(super) struct Program {
    finalizers: Vec<Action>,
    deletes: Vec<Action>,
    applies: Vec<Account>,
    keys: Vec<Action>,
    secrets: Vec<Action>,
    releases: Vec<Action>,
    states: BTreeMap<AccountName, State>,
    /// Accounts that the ledger has otherwise than they are wanted.
    behind: BTreeMap<AccountName, Behind>,
    late_secrets: BTreeMap<AccountName, Late>,
    pub(super) wake_at: Option<Timestamp>,
}

/// How an account stands with what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is so.
    Programmed,
    /// This plan asks for it, or for what comes before it.
    Asked,
    /// The ledger does not want it.
    Refused(Refusal),
    /// The Secret of its first key cannot be written, so it has none.
    WithoutSecret(Late),
    /// It has limits that nobody has written down here, so it is left as it is; in a sentence.
    Opens(String),
    /// The ledger is away.
    Away,
}

/// Why the ledger has an account otherwise than it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Behind {
    /// This plan asks it to change that.
    Asked,
    /// It refuses that, or is not asked: see the state.
    Stuck,
}

/// Why the Secret of a key is not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The API server does not take it, and says why.
    Refused(SecretRefusal),
    /// It would be a new one, and by whom clients know the ingress is not known.
    AuthoritiesUnknown,
}

impl Late {
    /// When it is tried again, though nothing happens.
    fn retry_at(&self) -> Option<Timestamp> {
        match self {
            Self::Refused(refusal) => Some(refusal.retry_at),
            Self::AuthoritiesUnknown => None,
        }
    }
}

impl Program {
    /// `None`: it is not wanted.
    pub(super) fn state(&self, account: &AccountName) -> Option<&State> {
        self.states.get(account)
    }

    /// Whether the ledger has nothing otherwise than it is wanted, as with most plans.
    pub(super) fn is_level(&self) -> bool {
        self.behind.is_empty()
    }

    /// Why the ledger has an account otherwise than it is wanted, if so.
    pub(super) fn behind(&self, account: &AccountName) -> Option<Behind> {
        self.behind.get(account).copied()
    }

    /// Why the Secret of a key account is not as it should be.
    pub(super) fn late_secret(&self, account: &AccountName) -> Option<&Late> {
        self.late_secrets.get(account)
    }

    /// In the order in which they are to be done.
    pub(super) fn into_actions(self) -> Vec<Action> {
        let applies = (!self.applies.is_empty()).then_some(Action::Apply(self.applies));
        let Self { mut finalizers, deletes, keys, secrets, releases, .. } = self;
        finalizers.extend(deletes);
        finalizers.extend(applies);
        finalizers.extend(keys);
        finalizers.extend(secrets);
        finalizers.extend(releases);
        finalizers
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        self.wake_at = self.wake_at.into_iter().chain(at).min();
    }
}

/// An object with an account.
struct Subject<'a> {
    of: ObjectRef,
    meta: &'a ObjectMeta,
    verdict: Option<&'a Verdict>,
    account: AccountName,
}

impl Subject<'_> {
    fn has_finalizer(&self) -> bool {
        self.meta.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
    }

    fn counts(&self) -> bool {
        is_alive(self.meta) && self.verdict.is_some_and(|verdict| verdict.counts)
    }
}

/// When what was refused so often, the last time `at` this moment, is asked for again: later and later, up to `last_ms`.
pub(super) fn retry_at(at: Timestamp, attempts: u32, last_ms: i64) -> Timestamp {
    let doublings = attempts.saturating_sub(1).min(16);
    at.plus_ms(RETRY_FIRST_MS.saturating_mul(1 << doublings).min(last_ms))
}

pub(super) fn reference(kind: Kind, name: &ObjectName, meta: &ObjectMeta) -> ObjectRef {
    ObjectRef { kind, name: name.clone(), uid: meta.uid.clone().unwrap_or_default() }
}

/// Makes a program.
pub(super) struct Programmer<'a> {
    world: &'a World,
    settings: &'a Settings,
    identities: Identities<'a>,
    desires: &'a Desires<'a>,
    now: Timestamp,
    /// Accounts of ours that the ledger has, and for whom.
    existing: BTreeMap<AccountName, String>,
    /// Accounts that are to be there, with or without being asked for now, and for whom.
    wanted: BTreeMap<AccountName, String>,
    program: Program,
}

impl<'a> Programmer<'a> {
    pub(super) fn new(
        world: &'a World,
        settings: &'a Settings,
        desires: &'a Desires<'a>,
        now: Timestamp,
    ) -> Self {
        let identities = Identities::new(world, settings);
        let existing = existing(&world.ledger, identities);
        let (wanted, program) = (BTreeMap::new(), Program::default());
        Self { world, settings, identities, desires, now, existing, wanted, program }
    }

    pub(super) fn program(mut self, verdicts: &Verdicts<'a>) -> Program {
        let world = self.world;
        for (name, one) in &world.organizations {
            let subject =
                self.subject(Kind::Organization, name, &one.metadata, verdicts.organizations.get(name));
            self.owner(&subject, self.desires.organization(name));
        }
        for (name, one) in &world.teams {
            let subject = self.subject(Kind::Team, name, &one.metadata, verdicts.teams.get(name));
            self.owner(&subject, self.desires.team(name));
        }
        for (name, one) in &world.users {
            let subject = self.subject(Kind::User, name, &one.metadata, verdicts.users.get(name));
            self.owner(&subject, self.desires.user(name));
        }
        self.virtual_keys(verdicts);
        for account in self.desires.tags() {
            self.want(account);
        }
        self.delete_unwanted();
        self.program
    }

    fn subject<'b>(
        &self,
        kind: Kind,
        name: &ObjectName,
        meta: &'b ObjectMeta,
        verdict: Option<&'b Verdict>,
    ) -> Subject<'b> {
        let account = self.identities.account(kind, name);
        Subject { of: reference(kind, name, meta), meta, verdict, account }
    }

    fn owner(&mut self, subject: &Subject<'_>, account: Option<Account>) {
        match account.filter(|_| subject.counts()) {
            Some(account) if self.may_be_programmed(subject, &account) => self.want(account),
            Some(account) => self.wait(account.name),
            None => self.release(subject, &[]),
        }
    }

    /// The finalizer first; and nobody before its owners.
    fn may_be_programmed(&mut self, subject: &Subject<'_>, account: &Account) -> bool {
        let finalized = subject.has_finalizer();
        if !finalized {
            self.program.finalizers.push(Action::AddFinalizer(subject.of.clone()));
        }
        let owners = super::owners_of(account);
        let owned = owners.iter().all(|owner| self.wanted.contains_key(owner));
        owned && (finalized || self.existing.contains_key(&subject.account))
    }

    fn wait(&mut self, account: AccountName) {
        let state = if self.world.ledger.synced { State::Asked } else { State::Away };
        self.program.states.insert(account, state);
    }

    /// An account that should be there as it is said here.
    fn want(&mut self, account: Account) {
        if self.would_open(&account) {
            return;
        }
        let name = account.name.clone();
        let (state, retry_at) = self.standing_of(&account);
        self.program.wake(retry_at);
        if state == State::Asked {
            self.program.applies.push(account);
        }
        self.note(name, state);
    }

    /// How an account stands with what is wanted of it.
    fn note(&mut self, account: AccountName, state: State) {
        let is_there = self.existing.contains_key(&account);
        let behind = match &state {
            State::Asked if is_there => Some(Behind::Asked),
            State::Refused(_) if is_there => Some(Behind::Stuck),
            State::Opens(_) => Some(Behind::Stuck),
            _ => None,
        };
        self.program.behind.extend(behind.map(|behind| (account.clone(), behind)));
        self.program.states.insert(account, state);
    }

    /// Notes that an account is wanted, and whether it is left as it is, because a limit of it would be lost.
    fn would_open(&mut self, account: &Account) -> bool {
        self.wanted.insert(account.name.clone(), account.owner_scope.clone());
        let ledger = &self.world.ledger;
        let told = ledger.standings.get(&account.name).filter(|_| ledger.synced);
        let Some(opened) = adoption::opens(account, told) else { return false };
        self.note(account.name.clone(), State::Opens(opened));
        true
    }

    /// How the account stands, and when to ask for it again if nothing changes.
    fn standing_of(&self, account: &Account) -> (State, Option<Timestamp>) {
        let ledger = &self.world.ledger;
        if !ledger.synced {
            return (State::Away, None);
        }
        match ledger.applied.get(&account.name) {
            Some(Applied { account: before, outcome: Outcome::Applied { revision } })
                if before == account =>
            {
                let told = ledger.standings.get(&account.name);
                // Somebody else has changed it since, or these are other books.
                let is_stale = told.is_some_and(|told| told.revision > *revision);
                (if is_stale { State::Asked } else { State::Programmed }, None)
            }
            Some(Applied { account: before, outcome }) if before == account => self.retry(outcome),
            _ => (State::Asked, None),
        }
    }

    fn retry(&self, outcome: &Outcome) -> (State, Option<Timestamp>) {
        let Outcome::Refused { refusal, at, attempts } = outcome else { return (State::Asked, None) };
        let last = match refusal.reason {
            RefusalReason::NotFound => RETRY_OWNERLESS_MS,
            RefusalReason::Conflict | RefusalReason::Invalid => RETRY_LAST_MS,
        };
        let retry_at = retry_at(*at, *attempts, last);
        if retry_at <= self.now {
            (State::Asked, None)
        } else {
            (State::Refused(refusal.clone()), Some(retry_at))
        }
    }

    fn virtual_keys(&mut self, verdicts: &Verdicts<'a>) {
        let world = self.world;
        let mut owned: BTreeMap<&str, Vec<(&ObjectName, &KeySecret)>> = BTreeMap::new();
        for (name, secret) in &world.secrets {
            if let Some(uid) = &secret.owner_uid {
                owned.entry(uid).or_default().push((name, secret));
            }
        }
        for (name, key) in &world.virtual_keys {
            let subject =
                self.subject(Kind::VirtualKey, name, &key.metadata, verdicts.virtual_keys.get(name));
            let secrets = owned.get(subject.of.uid.as_str()).map_or(&[][..], Vec::as_slice);
            self.virtual_key(&subject, name, secrets);
        }
    }

    fn virtual_key(&mut self, subject: &Subject<'_>, name: &ObjectName, owned: &[(&ObjectName, &KeySecret)]) {
        let Some(key) = self.world.virtual_keys.get(name).filter(|_| subject.counts()) else {
            return self.release(subject, owned);
        };
        let wanted = keys::wanted_secret(name, key);
        let (there, former): (Vec<_>, Vec<_>) = owned.iter().partition(|(name, _)| **name == wanted);
        let secrets = Secrets {
            wanted: there.first().map(|(_, secret)| *secret),
            former: former.first().map(|(_, secret)| *secret),
        };
        let adopted = self.identities.adopted(Kind::VirtualKey, name);
        let adopted = adopted.map(|_| Adopted {
            told: self.told(Kind::VirtualKey, name).filter(|told| !told.deleted),
            none_works: self.none_works(&subject.account),
        });
        let (step, due_at) = keys::step(key, secrets, adopted, self.settings, self.now);
        if let Some(late) = self.late(&wanted, secrets, &step) {
            self.program.late_secrets.insert(subject.account.clone(), late.clone());
            if late.retry_at().is_none_or(|at| at > self.now) {
                self.program.wake(late.retry_at());
                return self.wait_for_secret(subject, name, keys::held(secrets, self.now), late);
            }
        }
        self.program.wake(due_at);
        let credentials = match &step {
            Step::Rest { credentials }
            | Step::Rewrite { credentials, .. }
            | Step::Issue { credentials, .. } => credentials.clone(),
            Step::Keep => vec![],
        };
        let Some(account) = self.desires.key(name, credentials) else { return };
        if !self.may_be_programmed(subject, &account) {
            return self.wait(account.name);
        }
        match step {
            Step::Issue { content, .. } => {
                let secret_uid = secrets.wanted.map(|secret| secret.uid.clone());
                let issue =
                    IssueKey { key: subject.of.clone(), account, secret: wanted, secret_uid, content };
                self.issue(issue);
            }
            Step::Rewrite { content, .. } => {
                let present = secrets.wanted.and_then(|secret| secret.key.as_ref());
                self.program.secrets.extend(present.map(|present| Action::Rewrite {
                    key: subject.of.clone(),
                    secret: wanted,
                    digest: present.digest,
                    content,
                }));
                self.want(account);
            }
            Step::Rest { .. } | Step::Keep => {
                self.want(account);
                self.delete_secrets(&former);
            }
        }
    }

    /// Why a Secret that is to be written is late.
    fn late(&self, wanted: &ObjectName, secrets: Secrets<'_>, step: &Step) -> Option<Late> {
        match step {
            Step::Rest { .. } | Step::Keep => None,
            Step::Issue { content, .. } if content.is_partial() && secrets.wanted.is_none() => {
                Some(Late::AuthoritiesUnknown)
            }
            Step::Issue { .. } | Step::Rewrite { .. } => {
                self.world.refused_secrets.get(wanted).cloned().map(Late::Refused)
            }
        }
    }

    /// Nothing is written for a while. A key that somebody holds works on, and so does one that the ledger alone knows: what is said of its
    /// account counts all the same.
    fn wait_for_secret(
        &mut self,
        subject: &Subject<'_>,
        name: &ObjectName,
        held: Vec<Credential>,
        late: Late,
    ) {
        let held = if held.is_empty() { self.told_credentials(name) } else { held };
        let nobody_holds_one = held.is_empty();
        let Some(account) = self.desires.key(name, held) else { return };
        if !nobody_holds_one && self.may_be_programmed(subject, &account) {
            return self.want(account);
        }
        self.wanted.insert(account.name.clone(), account.owner_scope.clone());
        self.program.states.insert(account.name, State::WithoutSecret(late));
    }

    /// The credentials of a key that the ledger has and that work.
    fn told_credentials(&self, name: &ObjectName) -> Vec<Credential> {
        let told = self.told(Kind::VirtualKey, name).filter(|told| !told.deleted);
        let credentials = told.map(|told| told.credentials.clone()).unwrap_or_default();
        credentials.into_iter().filter(|one| one.expires_at.is_none_or(|at| at > self.now)).collect()
    }

    /// How the account of an object stands, once it is the object's.
    fn told(&self, kind: Kind, name: &ObjectName) -> Option<&'a Standing> {
        let scope = self.identities.owner_scope(kind, name);
        self.world.ledger.standing_of(&self.identities.account(kind, name), &scope)
    }

    /// Whether the ledger has said that an account that is to keep its credentials has none.
    fn none_works(&self, key: &AccountName) -> bool {
        self.world.ledger.applied.get(key).is_some_and(|applied| {
            let refused =
                matches!(&applied.outcome, Outcome::Refused { refusal, .. } if refusal.field == CREDENTIALS);
            refused && applied.account.credentials.is_empty()
        })
    }

    /// A key whose account was refused is not made over and over.
    fn issue(&mut self, issue: IssueKey) {
        if self.would_open(&issue.account) {
            return;
        }
        let name = issue.account.name.clone();
        let ledger = &self.world.ledger;
        // That an account which was to keep its keys has none is why one is made.
        let before = ledger.applied.get(&name).filter(|before| {
            before.account.is_but_for_credentials(&issue.account) && !before.account.credentials.is_empty()
        });
        let (state, retry_at) = match before {
            _ if !ledger.synced => (State::Away, None),
            Some(Applied { outcome: outcome @ Outcome::Refused { .. }, .. }) => self.retry(outcome),
            _ => (State::Asked, None),
        };
        self.program.wake(retry_at);
        if state == State::Asked {
            self.program.keys.push(Action::Issue(Box::new(issue)));
        }
        self.note(name, state);
    }

    fn delete_secrets(&mut self, secrets: &[(&ObjectName, &KeySecret)]) {
        self.program.secrets.extend(
            secrets.iter().map(|(name, secret)| Action::DeleteSecret {
                secret: (*name).clone(),
                uid: secret.uid.clone(),
            }),
        );
    }

    /// An object that is being deleted is let go once the ledger has nothing of it, and its Secret is gone.
    fn release(&mut self, subject: &Subject<'_>, secrets: &[(&ObjectName, &KeySecret)]) {
        if is_alive(subject.meta) || !subject.has_finalizer() || !self.world.ledger.synced {
            return;
        }
        if self.existing.contains_key(&subject.account) {
            return;
        }
        self.delete_secrets(secrets);
        if secrets.is_empty() {
            self.program.releases.push(Action::RemoveFinalizer(subject.of.clone()));
        }
    }

    /// What belongs to others goes first.
    fn delete_unwanted(&mut self) {
        if !self.world.ledger.synced {
            return;
        }
        // An account that another object takes over is given back first.
        let is_unwanted = |name: &AccountName, scope: &str| {
            let is_of_it = |of: &String| of == scope;
            self.existing.get(name).is_some_and(is_of_it) && !self.wanted.get(name).is_some_and(is_of_it)
        };
        let unwanted = self.existing.iter().rev().filter(|(name, scope)| is_unwanted(name, scope));
        let mut unwanted: Vec<_> = unwanted.map(|(name, scope)| (name.clone(), scope.clone())).collect();
        // Who is kept is a question to every object, and most plans have nothing to ask.
        if !unwanted.is_empty() {
            let kept = kept(self.world, self.identities, is_unwanted);
            unwanted.retain(|(name, _)| !kept.contains(name));
        }
        if !unwanted.is_empty() {
            self.program.deletes.push(Action::Delete(unwanted));
        }
    }
}

/// Accounts that the ledger has and that are ours to delete: what it told, and what it has answered and not told yet.
fn existing(ledger: &Ledger, identities: Identities<'_>) -> BTreeMap<AccountName, String> {
    let told = ledger
        .standings
        .iter()
        .filter(|(name, told)| {
            !told.deleted && told.managed_by == MANAGED_BY && identities.is_ours(name, &told.owner_scope)
        })
        .map(|(name, told)| (name.clone(), told.owner_scope.clone()));
    let answered = ledger.applied.iter().filter(|(name, applied)| {
        let Outcome::Applied { revision } = applied.outcome else { return false };
        // A deletion that came later counts; one that came before is what it was made anew after.
        ledger.standings.get(name).is_none_or(|told| !told.deleted || told.revision < revision)
    });
    let answered = answered.map(|(name, applied)| (name.clone(), applied.account.owner_scope.clone()));
    answered.chain(told).collect()
}
