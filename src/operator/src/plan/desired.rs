//! The accounts that the ledger should have, from the objects that count.

use super::identity::Identities;
use super::limits::{self, Source};
use super::models::narrowed;
use super::verdict::{Verdicts, key_alias, named};
use super::{Account, Credential, Kind, ObjectName, RateLimit, Settings, World};
use crate::resources::{Budget, Limit, Mode, Rates, Reference, TargetKind, TargetRef, Team, VirtualKey};
use std::collections::{BTreeMap, BTreeSet};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::RateKind;
use tollgate_domain::session::{SessionLimits, SessionPattern};
use tollgate_domain::time::Timestamp;

/// Whose budgets: those of an object, or of a tag within their namespace.
type BudgetsOf<'a> = BTreeMap<(TargetKind, ObjectName), Vec<(&'a ObjectName, &'a Budget)>>;

/// Makes accounts of objects.
pub(super) struct Desires<'a> {
    world: &'a World,
    identities: Identities<'a>,
    budgets: BudgetsOf<'a>,
    /// The budgets on sessions, by their namespace.
    sessions: BTreeMap<&'a str, SessionLimits>,
}

impl<'a> Desires<'a> {
    pub(super) fn new(world: &'a World, settings: &'a Settings, verdicts: &Verdicts<'a>) -> Self {
        let mut budgets = BudgetsOf::new();
        let mut sessions: BTreeMap<&str, SessionLimits> = BTreeMap::new();
        for (name, budget) in &world.budgets {
            let alive = super::verdict::is_alive(&budget.metadata);
            if !alive || !verdicts.budgets.get(name).is_some_and(|verdict| verdict.counts) {
                continue;
            }
            let TargetRef { kind, name: target } = &budget.spec.target_ref;
            if *kind == TargetKind::Session
                && let Ok(pattern) = target.parse::<SessionPattern>()
            {
                let of_namespace = sessions.entry(name.namespace.as_str()).or_default();
                for limit in &budget.spec.limits {
                    of_namespace.tighten(pattern.clone(), limits::meaning(limit, "").0.amount);
                }
            }
            let target = ObjectName::new(&name.namespace, target);
            budgets.entry((*kind, target)).or_default().push((name, budget));
        }
        Self { world, identities: Identities::new(world, settings), budgets, sessions }
    }

    /// The id of the account of what is named in `namespace`.
    fn id_of(&self, kind: Kind, reference: &Reference, namespace: &str) -> String {
        self.identities.account(kind, &named(reference, namespace)).id
    }

    fn organization_id(&self, reference: Option<&Reference>, namespace: &str) -> Option<String> {
        reference.map(|organization| self.id_of(Kind::Organization, organization, namespace))
    }

    /// An account of which nothing but its name is said.
    fn bare(&self, kind: Kind, name: &ObjectName, display_name: Option<&String>) -> Account {
        Account {
            name: self.identities.account(kind, name),
            owner_scope: self.identities.owner_scope(kind, name),
            adopt: self.identities.adopted(kind, name).is_some(),
            alias: display_name.unwrap_or(&name.name).clone(),
            organization: None,
            team: None,
            user: None,
            models: vec![],
            limits: vec![],
            rates: vec![],
            session_limit: None,
            session_limits: SessionLimits::default(),
            tags: vec![],
            required_tags: vec![],
            client_tags_bind: false,
            forbidden: vec![],
            blocked: None,
            expires_at: None,
            credentials: vec![],
        }
    }

    pub(super) fn organization(&self, name: &ObjectName) -> Option<Account> {
        let spec = &self.world.organizations.get(name)?.spec;
        Some(Account {
            models: spec.models.clone(),
            limits: limits::rows(self.sources(TargetKind::Organization, name)),
            rates: rates(spec.rates.as_ref()),
            blocked: spec.blocked,
            ..self.bare(Kind::Organization, name, spec.display_name.as_ref())
        })
    }

    pub(super) fn team(&self, name: &ObjectName) -> Option<Account> {
        let spec = &self.world.teams.get(name)?.spec;
        let forbidden: BTreeSet<&str> = spec.forbidden.iter().map(|extra| extra.meant().as_str()).collect();
        Some(Account {
            organization: self.organization_id(spec.organization_ref.as_ref(), &name.namespace),
            models: spec.models.clone(),
            limits: limits::rows(self.sources(TargetKind::Team, name)),
            rates: rates(spec.rates.as_ref()),
            tags: distinct(&spec.tags),
            required_tags: distinct(&spec.required_tags),
            client_tags_bind: spec.client_tags_bind,
            forbidden: forbidden.into_iter().map(ToOwned::to_owned).collect(),
            blocked: spec.blocked,
            ..self.bare(Kind::Team, name, spec.display_name.as_ref())
        })
    }

    pub(super) fn user(&self, name: &ObjectName) -> Option<Account> {
        let spec = &self.world.users.get(name)?.spec;
        Some(Account {
            organization: self.organization_id(spec.organization_ref.as_ref(), &name.namespace),
            models: spec.models.clone(),
            limits: limits::rows(self.sources(TargetKind::User, name)),
            rates: rates(spec.rates.as_ref()),
            blocked: spec.blocked,
            ..self.bare(Kind::User, name, spec.display_name.as_ref())
        })
    }

    /// The account of a key; its credentials come from its Secret.
    pub(super) fn key(&self, name: &ObjectName, credentials: Vec<Credential>) -> Option<Account> {
        let key = self.world.virtual_keys.get(name)?;
        let team_name = named(&key.spec.team_ref, &name.namespace);
        let team = self.world.teams.get(&team_name)?;
        let per_key = team.spec.per_key.clone().unwrap_or_default();
        let (session_limit, session_limits) = self.session_limits(name);
        Some(Account {
            alias: key_alias(name, key),
            team: Some(self.identities.account(Kind::Team, &team_name).id),
            user: key.spec.user_ref.as_ref().map(|user| self.id_of(Kind::User, user, &name.namespace)),
            models: narrowed(&per_key.models, &key.spec.models)?,
            limits: limits::rows(self.key_sources(name, team)),
            rates: lower(&rates(per_key.rates.as_ref()), &rates(key.spec.rates.as_ref())),
            session_limit,
            session_limits,
            tags: distinct(&key.spec.tags),
            blocked: key.spec.blocked,
            expires_at: expiry(key),
            credentials,
            ..self.bare(Kind::VirtualKey, name, None)
        })
    }

    /// What each session of a key may spend, and those of some names: the release namespace's word is for every key,
    /// another's for its own.
    fn session_limits(&self, key: &ObjectName) -> (Option<Nanodollars>, SessionLimits) {
        let mut limits = SessionLimits::default();
        for namespace in self.identities.speaking_of(&key.namespace) {
            self.sessions.get(namespace).into_iter().for_each(|said| limits.tighten_by(said));
        }
        (limits.take_every(), limits)
    }

    /// The accounts of tags on which there are budgets.
    pub(super) fn tags(&self) -> Vec<Account> {
        let targets = self.budgets.keys().filter(|(kind, _)| *kind == TargetKind::Tag);
        targets.map(|(_, target)| self.tag(target)).collect()
    }

    fn tag(&self, target: &ObjectName) -> Account {
        let (name, owner_scope) = self.identities.tag(target);
        Account {
            name,
            owner_scope,
            adopt: self.budgets_on_tag(target).any(|budget| budget.spec.adopt.is_some()),
            alias: target.name.clone(),
            limits: limits::rows(self.sources(TargetKind::Tag, target)),
            ..self.bare(Kind::Budget, target, None)
        }
    }

    fn budgets_on_tag(&self, tag: &ObjectName) -> impl Iterator<Item = &'a Budget> {
        let budgets = self.budgets.get(&(TargetKind::Tag, tag.clone()));
        budgets.into_iter().flatten().map(|(_, budget)| *budget)
    }

    fn key_sources(&self, name: &ObjectName, team: &Team) -> Vec<Source> {
        let per_key = team.spec.per_key.iter().flat_map(|per_key| &per_key.limits);
        let mut sources: Vec<Source> = per_key.map(|limit| source(limit, false, vec![])).collect();
        sources.extend(self.sources(TargetKind::VirtualKey, name));
        sources
    }

    fn sources(&self, kind: TargetKind, name: &ObjectName) -> Vec<Source> {
        let budgets = self.budgets.get(&(kind, name.clone()));
        let budgets = budgets.into_iter().flatten();
        budgets
            .flat_map(|(_, budget)| {
                let observe = budget.spec.mode == Mode::Observe;
                let alerts = alerts(budget);
                budget.spec.limits.iter().map(move |limit| source(limit, observe, alerts.clone()))
            })
            .collect()
    }
}

/// From when on a key is refused.
pub(super) fn expiry(key: &VirtualKey) -> Option<Timestamp> {
    key.spec.expires_at.as_ref().map(super::time::from_time)
}

/// The parts at which a budget tells, rising.
pub(super) fn alerts(budget: &Budget) -> Vec<u16> {
    let percents = budget.spec.alerts.iter().filter_map(|alert| u16::try_from(alert.percent).ok());
    percents.filter(|percent| *percent > 0).collect::<BTreeSet<_>>().into_iter().collect()
}

fn source(limit: &Limit, observe: bool, alerts: Vec<u16>) -> Source {
    Source { meant: limits::meaning(limit, "").0, observe, alerts }
}

fn distinct(all: &[String]) -> Vec<String> {
    all.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

fn rates(rates: Option<&Rates>) -> Vec<RateLimit> {
    let Some(rates) = rates else { return vec![] };
    let all = [
        (RateKind::RequestsPerMinute, rates.requests_per_minute),
        (RateKind::TokensPerMinute, rates.tokens_per_minute),
        (RateKind::TokensPerDay, rates.tokens_per_day),
        (RateKind::Parallel, rates.parallel_requests),
    ];
    // The schema has no negative ones; if one comes all the same, nothing passes.
    let limit = |limit: i64| u64::try_from(limit).unwrap_or(0);
    all.into_iter().filter_map(|(kind, rate)| Some(RateLimit { kind, limit: limit(rate?) })).collect()
}

/// Of two limits on the same rate, the lower one.
fn lower(some: &[RateLimit], others: &[RateLimit]) -> Vec<RateLimit> {
    let mut lowest: BTreeMap<RateKind, u64> = BTreeMap::new();
    for rate in some.iter().chain(others) {
        let limit = lowest.entry(rate.kind).or_insert(rate.limit);
        *limit = rate.limit.min(*limit);
    }
    lowest.into_iter().map(|(kind, limit)| RateLimit { kind, limit }).collect()
}
