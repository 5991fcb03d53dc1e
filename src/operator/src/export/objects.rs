//! The objects themselves.

use super::judge::{Fate, Fates, is_plain};
use super::names::{Names, distinct};
use super::{ListedAccount, ListedRate, Settings, limits, yaml};
use crate::plan::ObjectName;
use crate::resources::{
    AllowedNamespaces, Budget, BudgetSpec, Extra, NamespacesFrom, Organization, OrganizationSpec, Rates,
    Reference, TargetKind, TargetRef, Team, TeamSpec, User, UserSpec, VirtualKey, VirtualKeySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use k8s_openapi::jiff;
use serde::Serialize;
use std::collections::BTreeSet;
use tollgate_domain::account::{AccountKind, AccountName};
use tollgate_domain::rate::RateKind;
use tollgate_domain::time::Timestamp;

/// What people call things, at most, in the definitions.
const DISPLAY_NAME_CHARS_MAX: usize = 128;
/// Kubernetes writes the name of each namespace into it.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// A custom resource.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Object {
    /// A budget.
    Budget(Budget),
    /// An organization.
    Organization(Organization),
    /// A team.
    Team(Team),
    /// A user.
    User(User),
    /// A key.
    VirtualKey(VirtualKey),
}

/// An object, and what is not the same by it.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The object.
    pub object: Object,
    /// What changes when it is applied, or stays elsewhere; each a sentence.
    pub notes: Vec<String>,
}

/// All objects, in the order of their application.
pub(super) fn write(fates: &Fates<'_>, names: &Names, settings: &Settings) -> Vec<Written> {
    let writer = Writer { fates, names, settings };
    let mut all = writer.budgets();
    all.extend(fates.objects(AccountKind::Organization).map(|account| writer.organization(account)));
    let default_team = settings.default_team.as_ref().filter(|name| writer.needs_default_team(name));
    all.extend(default_team.map(|name| writer.default_team(name)));
    all.extend(fates.objects(AccountKind::Team).map(|account| writer.team(account)));
    all.extend(fates.objects(AccountKind::User).map(|account| writer.user(account)));
    all.extend(fates.objects(AccountKind::Key).map(|account| writer.key(account)));
    all
}

struct Writer<'a> {
    fates: &'a Fates<'a>,
    names: &'a Names,
    settings: &'a Settings,
}

impl Writer<'_> {
    /// A budget is called by what it is on. Names of those that are there nobody knows here, so every one says what it is on.
    fn budgets(&self) -> Vec<Written> {
        let mut wanted = Vec::new();
        let mut specs = Vec::new();
        let kinds = [
            AccountKind::Organization,
            AccountKind::Team,
            AccountKind::User,
            AccountKind::Key,
            AccountKind::Tag,
        ];
        for account in kinds.into_iter().flat_map(|kind| self.fates.objects(kind)) {
            let (target, text) = self.target(account);
            let (mut of_account, mut notes) = limits::budgets(&target, &account.limits);
            if account.name.kind == AccountKind::Tag {
                of_account.iter_mut().for_each(|spec| spec.adopt = Some(account.name.id.clone()));
                notes.extend(kept(account));
            }
            for (index, spec) in of_account.into_iter().enumerate() {
                let number = if index == 0 { String::new() } else { format!("-{}", index + 1) };
                let key =
                    AccountName { scope: format!("{}{number}", account.name.scope), ..account.name.clone() };
                wanted.push((key.clone(), format!("{text}{number}")));
                specs.push((key, account, spec, std::mem::take(&mut notes)));
            }
        }
        let names = distinct(wanted, BTreeSet::new());
        let mut written: Vec<_> = specs
            .into_iter()
            .map(|(key, account, spec, notes)| {
                let name = names.get(&key).map(String::as_str).unwrap_or_default();
                Written { object: Object::Budget(self.budget(account, name, spec)), notes }
            })
            .collect();
        written.sort_by(|some, other| place(&some.object).cmp(&place(&other.object)));
        written
    }

    fn budget(&self, account: &ListedAccount, name: &str, spec: BudgetSpec) -> Budget {
        placed(Budget::new(name, spec), self.settings.namespace_of(account.name.kind))
    }

    /// What a budget on an account is on, and what it is called.
    fn target(&self, account: &ListedAccount) -> (TargetRef, String) {
        let kind = match account.name.kind {
            AccountKind::Organization => TargetKind::Organization,
            AccountKind::Team => TargetKind::Team,
            AccountKind::User => TargetKind::User,
            AccountKind::Tag => TargetKind::Tag,
            _ => TargetKind::VirtualKey,
        };
        let name = if kind == TargetKind::Tag { &account.name.id } else { self.names.get(&account.name) };
        (TargetRef { kind, name: name.to_owned() }, format!("{} {name}", account.name.kind))
    }

    fn organization(&self, account: &ListedAccount) -> Written {
        let mut notes = Vec::new();
        let name = self.names.get(&account.name);
        let spec = OrganizationSpec {
            display_name: display_name(account, name, &mut notes),
            adopt: Some(account.name.id.clone()),
            models: account.models.clone(),
            rates: rates(&account.rates),
            blocked: account.blocked.then_some(true),
            ..OrganizationSpec::default()
        };
        notes.extend(kept(account));
        let object = placed(Organization::new(name, spec), &self.settings.namespace);
        Written { object: Object::Organization(object), notes }
    }

    fn team(&self, account: &ListedAccount) -> Written {
        let mut notes = Vec::new();
        let name = self.names.get(&account.name);
        let spec = TeamSpec {
            display_name: display_name(account, name, &mut notes),
            adopt: Some(account.name.id.clone()),
            organization_ref: self.organization_of(account, &mut notes),
            allowed_namespaces: self.allowed_namespaces(),
            models: account.models.clone(),
            rates: rates(&account.rates),
            tags: account.tags.clone(),
            required_tags: account.required_tags.clone(),
            client_tags_bind: account.client_tags_bind,
            forbidden: Extra::ALL.into_iter().filter(|extra| forbids(account, *extra)).collect(),
            blocked: account.blocked.then_some(true),
            ..TeamSpec::default()
        };
        notes.extend(kept(account));
        self.team_object(name, spec, notes)
    }

    fn team_object(&self, name: &str, spec: TeamSpec, notes: Vec<String>) -> Written {
        let object = placed(Team::new(name, spec), &self.settings.namespace);
        Written { object: Object::Team(object), notes }
    }

    /// Unless it is there.
    fn needs_default_team(&self, name: &str) -> bool {
        let place = ObjectName::new(&self.settings.namespace, name);
        let is_there = |(account, fate): (&ListedAccount, &Fate)| {
            account.name.kind == AccountKind::Team && matches!(fate, Fate::Is(of) if *of == place)
        };
        let has_keys = self.fates.objects(AccountKind::Key).any(|key| key.team.is_none());
        has_keys && !self.fates.all().any(is_there)
    }

    fn default_team(&self, name: &str) -> Written {
        let note = "of keys that have no team in the ledger, and new there".to_owned();
        let spec = TeamSpec { allowed_namespaces: self.allowed_namespaces(), ..TeamSpec::default() };
        self.team_object(name, spec, vec![note])
    }

    fn user(&self, account: &ListedAccount) -> Written {
        let mut notes = Vec::new();
        let name = self.names.get(&account.name);
        let spec = UserSpec {
            display_name: display_name(account, name, &mut notes),
            adopt: Some(account.name.id.clone()),
            organization_ref: self.organization_of(account, &mut notes),
            allowed_namespaces: self.allowed_namespaces(),
            models: account.models.clone(),
            rates: rates(&account.rates),
            blocked: account.blocked.then_some(true),
        };
        notes.extend(kept(account));
        let object = placed(User::new(name, spec), &self.settings.namespace);
        Written { object: Object::User(object), notes }
    }

    fn key(&self, account: &ListedAccount) -> Written {
        let mut notes = Vec::new();
        let name = self.names.get(&account.name);
        let from = self.settings.namespace_of(AccountKind::Key);
        let team = self.reference(AccountKind::Team, account.team.as_deref(), from, &mut notes);
        let team = team.or_else(|| {
            notes.push("had no team".to_owned());
            let name = self.settings.default_team.as_ref()?;
            let is_there = !self.needs_default_team(name);
            let place = ObjectName::new(&self.settings.namespace, name);
            notes.extend(foreign(AccountKind::Team, &place, from).filter(|_| is_there));
            Some(reference_to(&place, from))
        });
        let spec = VirtualKeySpec {
            display_name: key_display_name(account, &mut notes),
            adopt: Some(account.name.id.clone()),
            // Whoever has none, and no default, was left out.
            team_ref: team.unwrap_or_else(|| Reference { name: String::new(), namespace: None }),
            user_ref: self.reference(AccountKind::User, account.user.as_deref(), from, &mut notes),
            models: account.models.clone(),
            tags: account.tags.clone(),
            rates: rates(&account.rates),
            expires_at: account.expires_at.map(whole_seconds),
            blocked: account.blocked.then_some(true),
            rotation: None,
            secret: None,
        };
        notes.extend(kept(account));
        let object = placed(VirtualKey::new(name, spec), from);
        Written { object: Object::VirtualKey(object), notes }
    }

    fn organization_of(&self, account: &ListedAccount, notes: &mut Vec<String>) -> Option<Reference> {
        let id = account.organization.as_deref();
        self.reference(AccountKind::Organization, id, &self.settings.namespace, notes)
    }

    /// How an object in `from` names the one of its owner.
    fn reference(
        &self,
        kind: AccountKind,
        id: Option<&str>,
        from: &str,
        notes: &mut Vec<String>,
    ) -> Option<Reference> {
        let (owner, fate) = self.fates.owner(kind, id?)?;
        let place = match fate {
            Fate::Is(place) => {
                notes.extend(foreign(kind, place, from));
                place.clone()
            }
            // It lets those in `from` use it.
            _ => ObjectName::new(self.settings.namespace_of(kind), self.names.get(&owner.name)),
        };
        Some(reference_to(&place, from))
    }

    /// From where keys name a team or a user that is written here, where that is another namespace than its own.
    fn allowed_namespaces(&self) -> Option<AllowedNamespaces> {
        let keys = self.settings.namespace_of(AccountKind::Key);
        let label = (NAMESPACE_LABEL.to_owned(), keys.to_owned());
        let selector = LabelSelector { match_labels: Some([label].into()), match_expressions: None };
        (keys != self.settings.namespace)
            .then_some(AllowedNamespaces { from: NamespacesFrom::Selector, selector: Some(selector) })
    }
}

/// The object, in its namespace.
fn placed<K: kube::Resource>(mut object: K, namespace: &str) -> K {
    object.meta_mut().namespace = Some(namespace.to_owned());
    object
}

fn reference_to(place: &ObjectName, from: &str) -> Reference {
    let namespace = Some(place.namespace.clone()).filter(|namespace| namespace != from);
    Reference { name: place.name.clone(), namespace }
}

/// What has to be so for an object in `from` to name one that is there already.
fn foreign(kind: AccountKind, place: &ObjectName, from: &str) -> Option<String> {
    (place.namespace != from).then(|| {
        format!("{kind} {place} is in another namespace: its allowedNamespaces have to let {from} use it")
    })
}

/// The order of objects of one kind.
fn place(object: &Object) -> (Option<&str>, Option<&str>) {
    let meta = object.meta();
    (meta.namespace.as_deref(), meta.name.as_deref())
}

fn forbids(account: &ListedAccount, extra: Extra) -> bool {
    account.forbidden.iter().any(|forbidden| forbidden == extra.meant().as_str())
}

/// What is forbidden in words that no custom resource has: of a ledger that is newer than this operator.
pub(super) fn unknown_extras(account: &ListedAccount) -> Vec<&str> {
    let is_known = |word: &str| Extra::ALL.into_iter().any(|extra| extra.meant().as_str() == word);
    account.forbidden.iter().map(String::as_str).filter(|word| !is_known(word)).collect()
}

/// What people call it, unless its name says so.
fn display_name(account: &ListedAccount, name: &str, notes: &mut Vec<String>) -> Option<String> {
    let alias = account.alias.as_ref().filter(|alias| *alias != name)?;
    if is_plain(alias) && alias.chars().count() <= DISPLAY_NAME_CHARS_MAX {
        return Some(alias.clone());
    }
    notes.push(format!(
        "is called {alias:?} in the ledger, which is too long for displayName, or has control characters"
    ));
    None
}

/// What people call a key: without one, its namespace and name.
fn key_display_name(account: &ListedAccount, notes: &mut Vec<String>) -> Option<String> {
    let alias = display_name(account, "", notes)?;
    if alias.contains('/') {
        notes.push(format!("is called {alias:?} in the ledger; displayName of a key has no slash"));
        return None;
    }
    Some(alias)
}

/// What only the admin API knows, and goes on to show.
fn kept(account: &ListedAccount) -> Option<String> {
    let names: Vec<String> = account.metadata.iter().map(|name| format!("{name:?}")).collect();
    (!names.is_empty()).then(|| format!("keeps its metadata in the ledger: {}", names.join(", ")))
}

fn rates(all: &[ListedRate]) -> Option<Rates> {
    let of = |kind: RateKind| {
        let found = all.iter().find(|rate| rate.rate.kind == kind)?;
        i64::try_from(found.rate.limit).ok()
    };
    let rates = Rates {
        requests_per_minute: of(RateKind::RequestsPerMinute),
        tokens_per_minute: of(RateKind::TokensPerMinute),
        tokens_per_day: of(RateKind::TokensPerDay),
        parallel_requests: of(RateKind::Parallel),
    };
    (rates != Rates::default()).then_some(rates)
}

/// Instants of Kubernetes are whole seconds; the earlier one, so that nothing works longer than it did.
fn whole_seconds(at: Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(at.unix_ms().div_euclid(1_000)).unwrap_or_default())
}

impl Object {
    /// As a document.
    ///
    /// # Errors
    /// Never, as long as objects are plain data.
    pub fn yaml(&self) -> Result<String, serde_json::Error> {
        Ok(yaml::document(&serde_json::to_value(self)?))
    }

    /// Its name and namespace, among others.
    pub fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        match self {
            Self::Budget(one) => &one.metadata,
            Self::Organization(one) => &one.metadata,
            Self::Team(one) => &one.metadata,
            Self::User(one) => &one.metadata,
            Self::VirtualKey(one) => &one.metadata,
        }
    }

    /// The kind, as it is written.
    pub const fn kind(&self) -> crate::plan::Kind {
        use crate::plan::Kind;
        match self {
            Self::Budget(_) => Kind::Budget,
            Self::Organization(_) => Kind::Organization,
            Self::Team(_) => Kind::Team,
            Self::User(_) => Kind::User,
            Self::VirtualKey(_) => Kind::VirtualKey,
        }
    }
}
