//! Which objects count, and why the others do not.
//!
//! An object is judged for itself (is it accepted?) and for what it names (does that resolve?). Only a chain in which every
//! link counts is programmed: where it breaks, everything behind it goes out of the ledger.

use super::adoption::Adopters;
use super::limits::{self, span_seconds};
use super::models::narrowed;
use super::{Kind, ObjectName, Settings, World};
use crate::resources::{
    AllowedNamespaces, Budget, NamespacesFrom, Organization, Reference, TargetKind, Team, User, VirtualKey,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{Selector, SelectorExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tollgate_domain::session::{SessionLimits, SessionPattern};

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// A word, in CamelCase.
    pub(super) reason: &'static str,
    /// A sentence that says what to do.
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// What is thought of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// What is wrong with the object itself.
    pub(super) accepted: Option<Problem>,
    /// What is wrong with what it names.
    pub(super) resolved: Option<Problem>,
    /// Whether it is to be programmed. An object with a fault that leaves it as strict as it was still counts.
    pub(super) counts: bool,
}

impl Verdict {
    fn new(refused: Option<Problem>, unresolved: Option<Problem>, flaw: Option<Problem>) -> Self {
        let counts = refused.is_none() && unresolved.is_none();
        Self { accepted: refused.or(flaw), resolved: unresolved, counts }
    }

    fn refuse(&mut self, problem: Problem) {
        self.counts = false;
        self.accepted = Some(problem);
    }
}

/// What is thought of every object.
pub(super) struct Verdicts<'a> {
    pub(super) organizations: BTreeMap<&'a ObjectName, Verdict>,
    pub(super) teams: BTreeMap<&'a ObjectName, Verdict>,
    pub(super) users: BTreeMap<&'a ObjectName, Verdict>,
    pub(super) virtual_keys: BTreeMap<&'a ObjectName, Verdict>,
    pub(super) budgets: BTreeMap<&'a ObjectName, Verdict>,
    pub(super) price_books: BTreeMap<&'a ObjectName, Verdict>,
}

/// Whether nobody deletes it.
pub(super) fn is_alive(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_none()
}

/// What a reference in `namespace` names.
pub(super) fn named(reference: &Reference, namespace: &str) -> ObjectName {
    ObjectName::new(reference.namespace.as_deref().unwrap_or(namespace), &reference.name)
}

impl<'a> Verdicts<'a> {
    pub(super) fn new(world: &'a World, settings: &'a Settings) -> Self {
        let adopters = Adopters::new(world, settings);
        let mut verdicts = Self {
            organizations: BTreeMap::new(),
            teams: BTreeMap::new(),
            users: BTreeMap::new(),
            virtual_keys: BTreeMap::new(),
            budgets: BTreeMap::new(),
            price_books: BTreeMap::new(),
        };
        let Self { organizations, teams, users, virtual_keys, budgets, price_books } = &mut verdicts;
        organizations.extend(
            world
                .organizations
                .iter()
                .map(|(name, one)| (name, organization(name, one, settings, &adopters))),
        );
        let chain = Chain { world, settings, organizations, adopters: &adopters };
        teams.extend(world.teams.iter().map(|(name, one)| (name, chain.team(name, one))));
        users.extend(world.users.iter().map(|(name, one)| (name, chain.user(name, one))));
        *virtual_keys = keys(world, teams, users, &adopters);
        budgets.extend(world.budgets.iter().map(|(name, one)| (name, budget(name, one, world, settings))));
        refuse_patterns_beyond(world, budgets);
        let price_book = |name| Verdict::new(not_listed(name, Kind::PriceBook, settings), None, None);
        price_books.extend(world.price_books.keys().map(|name| (name, price_book(name))));
        verdicts
    }
}

/// Only who speaks for the platform says who may spend what.
fn not_listed(name: &ObjectName, kind: Kind, settings: &Settings) -> Option<Problem> {
    if settings.is_platform(&name.namespace) {
        return None;
    }
    let message = format!(
        "a {kind} counts only in namespace {} and in those that the platform lists: make it there, or add {} to platformNamespaces \
         of the installation",
        settings.release_namespace, name.namespace
    );
    Some(Problem::new("NamespaceNotListed", message))
}

fn bad_selector(allowed: Option<&AllowedNamespaces>) -> Option<Problem> {
    let selector = allowed?.selector.clone()?;
    let error = Selector::try_from(selector).err()?;
    let message = format!("spec.allowedNamespaces.selector can not be read, so it picks nothing: {error}");
    Some(Problem::new("InvalidSelector", message))
}

fn organization(
    name: &ObjectName,
    organization: &Organization,
    settings: &Settings,
    adopters: &Adopters<'_>,
) -> Verdict {
    let refused = not_listed(name, Kind::Organization, settings);
    let refused = refused.or_else(|| adopters.problem(Kind::Organization, name));
    Verdict::new(refused, None, bad_selector(organization.spec.allowed_namespaces.as_ref()))
}

/// What teams and users hang on.
struct Chain<'a, 'b> {
    world: &'a World,
    settings: &'b Settings,
    organizations: &'b BTreeMap<&'a ObjectName, Verdict>,
    adopters: &'b Adopters<'a>,
}

impl Chain<'_, '_> {
    fn refused(&self, kind: Kind, name: &ObjectName) -> Option<Problem> {
        not_listed(name, kind, self.settings).or_else(|| self.adopters.problem(kind, name))
    }

    fn team(&self, name: &ObjectName, team: &Team) -> Verdict {
        let limits = team.spec.per_key.iter().flat_map(|per_key| &per_key.limits).enumerate();
        let flaw = limits
            .map(|(index, limit)| limits::meaning(limit, &format!("spec.perKey.limits[{index}]")).1)
            .find_map(|problem| problem);
        Verdict::new(
            self.refused(Kind::Team, name),
            self.organization_of(name, team.spec.organization_ref.as_ref()),
            bad_selector(team.spec.allowed_namespaces.as_ref()).or(flaw),
        )
    }

    fn user(&self, name: &ObjectName, user: &User) -> Verdict {
        Verdict::new(
            self.refused(Kind::User, name),
            self.organization_of(name, user.spec.organization_ref.as_ref()),
            bad_selector(user.spec.allowed_namespaces.as_ref()),
        )
    }

    fn organization_of(&self, from: &ObjectName, reference: Option<&Reference>) -> Option<Problem> {
        let target = named(reference?, &from.namespace);
        let found = self.world.organizations.get(&target).map(|organization| Found {
            alive: is_alive(&organization.metadata),
            allowed: organization.spec.allowed_namespaces.as_ref(),
            verdict: self.organizations.get(&target),
        });
        unresolved("organizationRef", Kind::Organization, &target, &from.namespace, found, self.world)
    }
}

/// What a reference has found.
struct Found<'a> {
    alive: bool,
    allowed: Option<&'a AllowedNamespaces>,
    verdict: Option<&'a Verdict>,
}

/// Why a reference does not resolve.
fn unresolved(
    field: &str,
    kind: Kind,
    target: &ObjectName,
    from: &str,
    found: Option<Found<'_>>,
    world: &World,
) -> Option<Problem> {
    let Some(found) = found else {
        let message = format!("{field}: there is no {kind} {target}: make it, or name another");
        return Some(Problem::new("RefNotFound", message));
    };
    if from != target.namespace && !allows(found.allowed, &target.namespace, from, world) {
        let message = format!(
            "{field}: {kind} {target} does not let namespace {from} use it: whoever owns it can list the namespace in its \
             spec.allowedNamespaces"
        );
        return Some(Problem::new("RefNotPermitted", message));
    }
    if !found.alive {
        let message = format!("{field}: {kind} {target} is being deleted: name another, or make it anew");
        return Some(Problem::new("RefNotFound", message));
    }
    if !found.verdict.is_some_and(|verdict| verdict.counts) {
        let message = format!("{field}: {kind} {target} does not count itself: see its conditions");
        return Some(Problem::new("RefNotAccepted", message));
    }
    None
}

fn allows(allowed: Option<&AllowedNamespaces>, own: &str, from: &str, world: &World) -> bool {
    let Some(allowed) = allowed else { return own == from };
    match (allowed.from, &allowed.selector) {
        (NamespacesFrom::Same, _) => own == from,
        (NamespacesFrom::All, _) => true,
        (NamespacesFrom::Selector, None) => false,
        (NamespacesFrom::Selector, Some(selector)) => {
            let labels = world.namespaces.get(from);
            Selector::try_from(selector.clone())
                .is_ok_and(|selector| labels.is_some_and(|labels| selector.matches(labels)))
        }
    }
}

type ByName<'a> = BTreeMap<&'a ObjectName, Verdict>;

fn keys<'a>(world: &'a World, teams: &ByName<'a>, users: &ByName<'a>, adopters: &Adopters<'a>) -> ByName<'a> {
    let mut verdicts: ByName<'a> = world
        .virtual_keys
        .iter()
        .map(|(name, key)| {
            (
                name,
                Verdict::new(
                    adopters.problem(Kind::VirtualKey, name).or_else(|| key_refused(name, key, world)),
                    key_unresolved(name, key, world, teams, users),
                    None,
                ),
            )
        })
        .collect();
    refuse_younger(world, &mut verdicts);
    verdicts
}

fn key_unresolved(
    name: &ObjectName,
    key: &VirtualKey,
    world: &World,
    teams: &ByName<'_>,
    users: &ByName<'_>,
) -> Option<Problem> {
    let target = named(&key.spec.team_ref, &name.namespace);
    let team = world.teams.get(&target).map(|team| Found {
        alive: is_alive(&team.metadata),
        allowed: team.spec.allowed_namespaces.as_ref(),
        verdict: teams.get(&target),
    });
    let of_team = unresolved("teamRef", Kind::Team, &target, &name.namespace, team, world);
    of_team.or_else(|| {
        let target = named(key.spec.user_ref.as_ref()?, &name.namespace);
        let user = world.users.get(&target).map(|user| Found {
            alive: is_alive(&user.metadata),
            allowed: user.spec.allowed_namespaces.as_ref(),
            verdict: users.get(&target),
        });
        unresolved("userRef", Kind::User, &target, &name.namespace, user, world)
    })
}

/// What is wrong with a key, without looking at other keys.
fn key_refused(name: &ObjectName, key: &VirtualKey, world: &World) -> Option<Problem> {
    let secret = ObjectName::new(&name.namespace, secret_name(name, key));
    let uid = key.metadata.uid.as_deref();
    if world.secrets.get(&secret).is_some_and(|found| found.owner_uid.as_deref() != uid) {
        let message = format!(
            "Secret {} exists and is not of this key, so it is left alone: delete it, or write another spec.secret.name",
            secret.name
        );
        return Some(Problem::new("SecretConflict", message));
    }
    if let Some(rotation) = &key.spec.rotation
        && span_seconds(&rotation.every).is_none_or(|seconds| seconds < 60)
    {
        let message = "spec.rotation.every is no span of at least a minute: write it like 720h";
        return Some(Problem::new("InvalidRotation", message));
    }
    let team = world.teams.get(&named(&key.spec.team_ref, &name.namespace))?;
    let per_key = team.spec.per_key.as_ref()?;
    if narrowed(&per_key.models, &key.spec.models).is_none() {
        let message = format!(
            "none of spec.models is among those that the team gives each key ({}): write some of these, or leave models out",
            per_key.models.join(", ")
        );
        return Some(Problem::new("ModelsNotAllowed", message));
    }
    None
}

/// The name of the Secret that holds a key.
pub(super) fn secret_name<'a>(name: &'a ObjectName, key: &'a VirtualKey) -> &'a str {
    key.spec.secret.as_ref().and_then(|secret| secret.name.as_deref()).unwrap_or(&name.name)
}

/// What a key is called in the ledger, where no two may be called the same.
pub(super) fn key_alias(name: &ObjectName, key: &VirtualKey) -> String {
    key.spec.display_name.clone().unwrap_or_else(|| name.to_string())
}

/// Objects by their age; of one moment, by their name.
pub(super) fn oldest_first<K: Resource>(objects: &BTreeMap<ObjectName, Arc<K>>) -> Vec<(&ObjectName, &K)> {
    let mut by_age: Vec<_> = objects.iter().map(|(name, one)| (name, one.as_ref())).collect();
    by_age.sort_by_key(|(name, one)| (one.meta().creation_timestamp.as_ref(), *name));
    by_age
}

/// Where several keys want the same thing, the oldest has it.
fn refuse_younger<'a>(world: &'a World, verdicts: &mut ByName<'a>) {
    let mut secrets = BTreeSet::new();
    let mut aliases = BTreeSet::new();
    let mut counts: BTreeMap<ObjectName, i64> = BTreeMap::new();
    for (name, key) in oldest_first(&world.virtual_keys) {
        let Some(verdict) = verdicts.get_mut(name).filter(|verdict| verdict.counts) else { continue };
        if !is_alive(&key.metadata) {
            continue;
        }
        let team = named(&key.spec.team_ref, &name.namespace);
        let most = world.teams.get(&team).and_then(|team| team.spec.max_keys);
        let count = counts.entry(team.clone()).or_default();
        if most.is_some_and(|most| *count >= i64::from(most)) {
            let message = format!(
                "team {team} has all of its maxKeys, which older keys have taken: delete one of them, or let the team have more"
            );
            verdict.refuse(Problem::new("TooManyKeys", message));
        } else if secrets.contains(&(&name.namespace, secret_name(name, key))) {
            let message = format!(
                "an older VirtualKey keeps its key in Secret {}: write another spec.secret.name",
                secret_name(name, key)
            );
            verdict.refuse(Problem::new("SecretConflict", message));
        } else if aliases.contains(&key_alias(name, key)) {
            let message = format!(
                "an older VirtualKey is called {}: write another spec.displayName, or leave it out",
                key_alias(name, key)
            );
            verdict.refuse(Problem::new("NameTaken", message));
        } else {
            *count = count.saturating_add(1);
            secrets.insert((&name.namespace, secret_name(name, key)));
            aliases.insert(key_alias(name, key));
        }
    }
}

fn budget(name: &ObjectName, budget: &Budget, world: &World, settings: &Settings) -> Verdict {
    // The account of a tag that the admin API has made is nobody's own namespace's.
    let foreign = (budget.spec.adopt.is_some() && name.namespace != settings.release_namespace).then(|| {
        let message = format!(
            "spec.adopt of a {} counts only in namespace {}: make it there, or without adopt",
            Kind::Budget,
            settings.release_namespace
        );
        Problem::new("AdoptionNotPermitted", message)
    });
    let mut limits = budget.spec.limits.iter().enumerate();
    let flaw = limits.find_map(|(index, limit)| limits::meaning(limit, &format!("spec.limits[{index}]")).1);
    Verdict::new(
        not_listed(name, Kind::Budget, settings).or(foreign).or_else(|| no_pattern(budget)),
        target_missing(name, budget, world),
        flaw,
    )
}

/// Patterns of sessions in one namespace. Two namespaces concern a key, its own and the release's, and the ledger takes so many of a key.
const PATTERNS_MAX: usize = SessionLimits::COUNT_MAX / 2;

/// Where a namespace has more patterns than fit, the oldest budgets have theirs: of the others no key shall hear, which would be refused.
fn refuse_patterns_beyond<'a>(world: &'a World, verdicts: &mut ByName<'a>) {
    let mut patterns: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, budget) in oldest_first(&world.budgets) {
        if budget.spec.target_ref.kind != TargetKind::Session || !is_alive(&budget.metadata) {
            continue;
        }
        let Some(verdict) = verdicts.get_mut(name).filter(|verdict| verdict.counts) else { continue };
        let of_namespace = patterns.entry(&name.namespace).or_default();
        let pattern = budget.spec.target_ref.name.as_str();
        if of_namespace.len() >= PATTERNS_MAX && !of_namespace.contains(pattern) {
            let message = format!(
                "older budgets of namespace {} have all of the {PATTERNS_MAX} patterns of sessions that it can have: delete one of them",
                name.namespace
            );
            verdict.refuse(Problem::new("TooManyPatterns", message));
        } else {
            of_namespace.insert(pattern);
        }
    }
}

/// The schema lets no such budget pass.
fn no_pattern(budget: &Budget) -> Option<Problem> {
    let target = &budget.spec.target_ref;
    let why = target.name.parse::<SessionPattern>().err().filter(|_| target.kind == TargetKind::Session)?;
    Some(Problem::new("InvalidTarget", format!("targetRef.name {why}: make another Budget")))
}

fn target_missing(name: &ObjectName, budget: &Budget, world: &World) -> Option<Problem> {
    let target = ObjectName::new(&name.namespace, &budget.spec.target_ref.name);
    let meta = match budget.spec.target_ref.kind {
        TargetKind::Tag | TargetKind::Session => return None,
        TargetKind::Organization => world.organizations.get(&target).map(|one| &one.metadata),
        TargetKind::Team => world.teams.get(&target).map(|one| &one.metadata),
        TargetKind::User => world.users.get(&target).map(|one| &one.metadata),
        TargetKind::VirtualKey => world.virtual_keys.get(&target).map(|one| &one.metadata),
    };
    if meta.is_some_and(is_alive) {
        return None;
    }
    let kind = budget.spec.target_ref.kind.as_str();
    let message = format!("targetRef: there is no {kind} {target}: make it, or name another in a new Budget");
    Some(Problem::new("RefNotFound", message))
}
