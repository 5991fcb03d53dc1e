//! A small model of everything that actions change: an API server with finalizers and Secrets, and a ledger with owners, revisions and unique
//! names. It knows nothing of the plan but its actions.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use k8s_openapi::jiff;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tollgate_domain::account::{AccountKind, AccountName};
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::key::{VirtualKey as Key, masked};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::{Overlay, PriceBook, SheetErrorKind, SheetFault};
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;
use tollgate_operator::plan::{
    Account, Action, CaBundle, Credential, Event, IssueKey, KeySecret, Kind, LimitStanding, ObjectName,
    ObjectRef, Plan, PriceFault, Refusal, RefusalReason, SecretRefusal, Settings, Standing, Status, World,
    plan,
};
use tollgate_operator::resources::{BudgetStatus, PriceBookStatus, VirtualKeyStatus};

/// 2026-12-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::new(1_796_083_200_000);
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// An account as the model's ledger has it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) account: Account,
    /// `api` or `kubernetes`.
    pub(crate) managed_by: &'static str,
    pub(crate) revision: u64,
    pub(crate) deleted: bool,
    pub(crate) posted: Nanodollars,
}

/// What the model's ledger was started with.
const BOOK: &str = r#"{"format": "tollgate-price-book/1", "models": [
    {"name": "claude-x", "provider": "anthropic", "mode": "chat", "aliases": ["x"], "context_window": 1000, "max_output": 100,
     "rates": [{"tier": "standard", "above": 0, "input": "2", "output": "8"}]},
    {"name": "plain", "provider": "openai", "mode": "chat", "context_window": 1000, "max_output": 100,
     "rates": [{"tier": "standard", "above": 0, "input": "1", "output": "4"}]}]}"#;

/// Everything.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    pub(crate) secrets: BTreeMap<ObjectName, Secret>,
    pub(crate) ledger: BTreeMap<AccountName, Held>,
    /// What lies over the book, by scope.
    pub(crate) overlays: BTreeMap<String, Overlay>,
    /// The ledger takes no message with prices, and says this.
    pub(crate) no_prices: Option<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) carried_out: Vec<Action>,
    /// Why no Secret is taken, if none is.
    pub(crate) no_secrets: Option<String>,
    /// How many keys were made.
    /// Keys that were asked for, and those that were made.
    pub(crate) asked: u8,
    pub(crate) made: u8,
    revisions: u64,
    uids: u32,
}

pub(crate) fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectName::new(namespace, name)
}

pub(crate) fn account(kind: AccountKind, object: &str) -> AccountName {
    AccountName { kind, scope: String::new(), id: format!("kubernetes/{object}") }
}

/// The labels of a namespace, and the one that each has.
fn labels_of(namespace: &str, labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = [("kubernetes.io/metadata.name", namespace)];
    let all = labels.iter().chain(&own);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let settings = Settings {
            cluster: "kubernetes".into(),
            release_namespace: "tollgate".into(),
            platform_namespaces: ["platform".to_owned()].into(),
            base_url: "http://tollgate.tollgate".into(),
            ca_bundle: CaBundle::None,
        };
        let mut world = World::default();
        world.ledger.sync();
        for namespace in ["tollgate", "platform", "payments", "search"] {
            world.namespaces.insert(namespace.into(), labels_of(namespace, &[]));
        }
        Self {
            world,
            settings,
            now: START,
            secrets: BTreeMap::new(),
            ledger: BTreeMap::new(),
            overlays: BTreeMap::new(),
            no_prices: None,
            events: vec![],
            carried_out: vec![],
            no_secrets: None,
            asked: 0,
            made: 0,
            revisions: 0,
            uids: 0,
        }
    }

    /// A cluster with these manifests, settled.
    pub(crate) fn with(manifests: &str) -> Self {
        let mut cluster = Self::new();
        cluster.apply(manifests);
        cluster.settle();
        cluster
    }

    pub(crate) fn label(&mut self, namespace: &str, labels: &[(&str, &str)]) {
        self.world.namespaces.insert(namespace.into(), labels_of(namespace, labels));
    }

    /// As `kubectl apply` does: what is there keeps its identity.
    pub(crate) fn apply(&mut self, manifests: &str) {
        for document in serde_yaml_ng::Deserializer::from_str(manifests) {
            let mut value = serde_yaml_ng::Value::deserialize(document).unwrap();
            if value.is_null() {
                continue;
            }
            let kind = value["kind"].as_str().unwrap().to_owned();
            if value.get("apiVersion").is_none() {
                value["apiVersion"] = "tollgate.dev/v1alpha1".into();
            }
            match kind.as_str() {
                "Organization" => self.put(value, |world| &mut world.organizations),
                "Team" => self.put(value, |world| &mut world.teams),
                "User" => self.put(value, |world| &mut world.users),
                "VirtualKey" => self.put(value, |world| &mut world.virtual_keys),
                "Budget" => self.put(value, |world| &mut world.budgets),
                "PriceBook" => self.put(value, |world| &mut world.price_books),
                other => panic!("{other}"),
            }
        }
    }

    fn put<K: DeserializeOwned + kube::Resource + HasStatus>(
        &mut self,
        value: serde_yaml_ng::Value,
        list: impl Fn(&mut World) -> &mut BTreeMap<ObjectName, Arc<K>>,
    ) {
        let mut object: K = serde_yaml_ng::from_value(value).unwrap();
        let meta = object.meta_mut();
        let name = ObjectName::new(
            meta.namespace.clone().unwrap_or_else(|| "tollgate".to_owned()),
            meta.name.clone().unwrap(),
        );
        meta.namespace = Some(name.namespace.clone());
        match list(&mut self.world).get(&name).cloned() {
            Some(before) => {
                let old = before.meta();
                meta.uid.clone_from(&old.uid);
                meta.finalizers.clone_from(&old.finalizers);
                meta.creation_timestamp.clone_from(&old.creation_timestamp);
                meta.generation = old.generation.map(|generation| generation + 1);
                object.keep_status(&before);
            }
            None => {
                self.uids += 1;
                meta.uid = Some(format!("uid-{}", self.uids));
                meta.generation = Some(1);
                if meta.creation_timestamp.is_none() {
                    meta.creation_timestamp = Some(time(self.now));
                }
            }
        }
        list(&mut self.world).insert(name, Arc::new(object));
    }

    /// As `kubectl delete` does: who has a finalizer stays for a while.
    pub(crate) fn delete(&mut self, kind: Kind, object: &str) {
        let now = time(self.now);
        let name = name(object);
        let kept = self.meta(kind, &name).is_some_and(|meta| {
            meta.deletion_timestamp = Some(now);
            meta.finalizers.iter().flatten().next().is_some()
        });
        if !kept {
            self.forget(kind, &name);
        }
    }

    fn forget(&mut self, kind: Kind, name: &ObjectName) {
        let world = &mut self.world;
        match kind {
            Kind::Organization => drop(world.organizations.remove(name)),
            Kind::Team => drop(world.teams.remove(name)),
            Kind::User => drop(world.users.remove(name)),
            Kind::VirtualKey => drop(world.virtual_keys.remove(name)),
            Kind::Budget => drop(world.budgets.remove(name)),
            Kind::PriceBook => drop(world.price_books.remove(name)),
        }
    }

    pub(crate) fn meta(&mut self, kind: Kind, name: &ObjectName) -> Option<&mut ObjectMeta> {
        let world = &mut self.world;
        Some(match kind {
            Kind::Organization => &mut Arc::make_mut(world.organizations.get_mut(name)?).metadata,
            Kind::Team => &mut Arc::make_mut(world.teams.get_mut(name)?).metadata,
            Kind::User => &mut Arc::make_mut(world.users.get_mut(name)?).metadata,
            Kind::VirtualKey => &mut Arc::make_mut(world.virtual_keys.get_mut(name)?).metadata,
            Kind::Budget => &mut Arc::make_mut(world.budgets.get_mut(name)?).metadata,
            Kind::PriceBook => &mut Arc::make_mut(world.price_books.get_mut(name)?).metadata,
        })
    }

    pub(crate) fn annotate(&mut self, key: &str, annotation: &str, value: &str) {
        let meta = self.meta(Kind::VirtualKey, &name(key)).unwrap();
        meta.annotations.get_or_insert_default().insert(annotation.into(), value.into());
    }

    pub(crate) fn delete_secret(&mut self, secret: &str) {
        self.secrets.remove(&name(secret)).unwrap();
        self.world.secrets.remove(&name(secret));
    }

    pub(crate) fn put_secret(&mut self, name: &ObjectName, mut secret: Secret) {
        self.uids += 1;
        secret.metadata.uid = Some(format!("uid-{}", self.uids));
        secret.metadata.creation_timestamp = Some(time(self.now));
        self.world.secrets.insert(name.clone(), KeySecret::read(&secret));
        self.world.refused_secrets.remove(name);
        self.secrets.insert(name.clone(), secret);
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.world, &self.settings, self.now)
    }

    /// Carries out plans until there is nothing left to do.
    pub(crate) fn settle(&mut self) {
        self.carried_out.clear();
        for _ in 0..30 {
            let actions = self.plan().actions;
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.carry_out(action);
            }
        }
        panic!("there is always something left to do: {:#?}", self.plan().actions);
    }

    /// Lets time pass, up to each moment that a plan asked for.
    pub(crate) fn pass(&mut self, until: Timestamp) {
        self.settle();
        for _ in 0..1_000 {
            match self.plan().wake_at.filter(|at| *at <= until) {
                Some(at) => self.now = at.max(self.now),
                None => break,
            }
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    pub(crate) fn carry_out(&mut self, action: Action) {
        self.carried_out.push(action.clone());
        match action {
            Action::AddFinalizer(of) => {
                if let Some(meta) = self.meta_of(&of) {
                    meta.finalizers = Some(vec![tollgate_operator::resources::FINALIZER.into()]);
                }
            }
            Action::RemoveFinalizer(of) => self.remove_finalizer(&of),
            Action::Apply(accounts) => accounts.into_iter().for_each(|account| {
                let _ = self.apply_account(account);
            }),
            Action::Delete(accounts) => accounts.iter().for_each(|(name, _)| self.delete_account(name)),
            Action::SetPrices { scope, overlay } => self.set_prices(&scope, overlay),
            Action::Issue(issue) => self.issue(&issue),
            Action::Rewrite { secret, .. } if self.no_secrets.is_some() => self.refuse_secret(secret),
            Action::Rewrite { key, secret, digest, content } => {
                let before = self.secrets.get(&secret).unwrap();
                let text = KeySecret::expose(before, digest).unwrap().to_owned();
                let uid = before.metadata.uid.clone();
                let mut after = content.secret(&secret, &key, &text, Some(before));
                after.metadata.uid = uid;
                self.world.secrets.insert(secret.clone(), KeySecret::read(&after));
                self.world.refused_secrets.remove(&secret);
                self.secrets.insert(secret, after);
            }
            Action::DeleteSecret { secret, uid } => {
                if self.secrets.get(&secret).is_some_and(|found| found.metadata.uid.as_ref() == Some(&uid)) {
                    self.secrets.remove(&secret);
                    self.world.secrets.remove(&secret);
                }
            }
            Action::SetStatus { object, status, events } => {
                for event in events {
                    if self.events.iter().all(|known| known.name != event.name) {
                        self.events.push(event);
                    }
                }
                self.set_status(&object, status);
            }
        }
    }

    fn meta_of(&mut self, of: &ObjectRef) -> Option<&mut ObjectMeta> {
        self.meta(of.kind, &of.name).filter(|meta| meta.uid.as_ref() == Some(&of.uid))
    }

    fn remove_finalizer(&mut self, of: &ObjectRef) {
        let Some(meta) = self.meta_of(of) else { return };
        meta.finalizers = None;
        if meta.deletion_timestamp.is_some() {
            self.forget(of.kind, &of.name);
        }
    }

    fn set_status(&mut self, of: &ObjectRef, status: Status) {
        if self.meta_of(of).is_none() {
            return;
        }
        let world = &mut self.world;
        match (of.kind, status) {
            (Kind::Organization, Status::Account(status)) => {
                Arc::make_mut(world.organizations.get_mut(&of.name).unwrap()).status = written(&status);
            }
            (Kind::Team, Status::Account(status)) => {
                Arc::make_mut(world.teams.get_mut(&of.name).unwrap()).status = written(&status);
            }
            (Kind::User, Status::Account(status)) => {
                Arc::make_mut(world.users.get_mut(&of.name).unwrap()).status = written(&status);
            }
            (Kind::VirtualKey, Status::VirtualKey(status)) => {
                Arc::make_mut(world.virtual_keys.get_mut(&of.name).unwrap()).status = written(&status);
            }
            (Kind::Budget, Status::Budget(status)) => {
                Arc::make_mut(world.budgets.get_mut(&of.name).unwrap()).status = written(&status);
            }
            (Kind::PriceBook, Status::PriceBook(status)) => {
                Arc::make_mut(world.price_books.get_mut(&of.name).unwrap()).status = written(&status);
            }
            (kind, status) => panic!("{kind}: {status:?}"),
        }
    }

    fn refuse_secret(&mut self, secret: ObjectName) {
        let said = self.no_secrets.clone().unwrap();
        let retry_at = self.now.plus_ms(60_000);
        self.world.refused_secrets.insert(secret, SecretRefusal { said, retry_at });
    }

    fn issue(&mut self, issue: &IssueKey) {
        // That is tried before the ledger hears of a key.
        self.asked += 1;
        if self.no_secrets.is_some() {
            return self.refuse_secret(issue.secret.clone());
        }
        self.made += 1;
        let key = Key::from_entropy([self.made; 32]);
        let credential = Credential { digest: key.digest(), name: masked(key.expose()), expires_at: None };
        if self.apply_account(issue.account_with(credential)).is_err() {
            return;
        }
        if self.secrets.get(&issue.secret).map(|secret| secret.metadata.uid.clone().unwrap())
            != issue.secret_uid
        {
            return;
        }
        let present = self.secrets.get(&issue.secret);
        let secret = issue.content.secret(&issue.secret, &issue.key, key.expose(), present);
        self.put_secret(&issue.secret, secret);
    }

    /// All of it, or nothing.
    fn set_prices(&mut self, scope: &str, overlay: Overlay) {
        if let Some(said) = &self.no_prices {
            let answer = Err(vec![PriceFault::of_all(said)]);
            return self.world.ledger.answer_prices(overlay, answer, self.now);
        }
        let answer = match self.priced(scope, Some(&overlay)) {
            Ok(_) => {
                self.overlays.remove(scope);
                if !overlay.sheets.is_empty() {
                    self.overlays.insert(scope.to_owned(), overlay.clone());
                }
                Ok(())
            }
            Err(faults) => Err(faults.into_iter().map(price_fault).collect()),
        };
        self.world.ledger.answer_prices(overlay, answer, self.now);
    }

    fn priced(&self, scope: &str, overlay: Option<&Overlay>) -> Result<PriceBook, Vec<SheetFault>> {
        let others = self.overlays.iter().filter(|(of, _)| overlay.is_none() || *of != scope);
        let all = others.map(|(_, overlay)| overlay).chain(overlay);
        PriceBook::parse(BOOK).unwrap().under(all.flat_map(|overlay| &overlay.sheets))
    }

    /// The prices that are in force.
    pub(crate) fn prices(&self) -> PriceBook {
        self.priced("", None).unwrap()
    }

    fn apply_account(&mut self, account: Account) -> Result<u64, Refusal> {
        let answer = self.judge(&account);
        if answer.is_ok() {
            self.hold(&account);
        }
        let answer = answer.map(|()| self.ledger[&account.name].revision);
        let name = account.name.clone();
        self.world.ledger.answer(account, answer.clone(), self.now);
        self.tell(&name);
        answer
    }

    /// The order of credentials means nothing to a ledger, and who adopts is forgotten once it is done.
    fn hold(&mut self, account: &Account) {
        let mut account = account.clone();
        let before = self.ledger.get(&account.name);
        if keeps_credentials(&account) {
            account.credentials = before.map(|held| held.account.credentials.clone()).unwrap_or_default();
        }
        account.adopt = false;
        account.credentials.sort();
        if before
            .is_some_and(|held| !held.deleted && held.account == account && held.managed_by == "kubernetes")
        {
            return;
        }
        self.put_account(account, "kubernetes");
    }

    fn put_account(&mut self, account: Account, managed_by: &'static str) {
        self.revisions += 1;
        let (name, revision) = (account.name.clone(), self.revisions);
        let posted = self.ledger.get(&name).map_or(Nanodollars::ZERO, |held| held.posted);
        self.ledger.insert(name, Held { account, managed_by, revision, deleted: false, posted });
    }

    /// An account that the admin API makes.
    pub(crate) fn make_by_api(&mut self, account: Account) {
        let name = account.name.clone();
        self.put_account(account, "api");
        self.tell(&name);
    }

    /// A key in the ledger like that of `payments/agent`, which no object stands for.
    pub(crate) fn hold_key(&mut self, id: &str, alias: &str) {
        let mut key = self.ledger[&account(AccountKind::Key, "payments/agent")].clone();
        key.account.name.id = id.into();
        key.account.alias = alias.into();
        self.ledger.insert(key.account.name.clone(), key);
    }

    fn living(&self) -> impl Iterator<Item = (&AccountName, &Held)> {
        self.ledger.iter().filter(|(_, held)| !held.deleted)
    }

    fn judge(&self, account: &Account) -> Result<(), Refusal> {
        let refuse_field = |reason, field: &str, message: &str| {
            Err(Refusal { reason, field: field.into(), message: message.into() })
        };
        let refuse = |reason, message: &str| refuse_field(reason, "", message);
        let there = self.ledger.get(&account.name);
        if let Some(held) = there.filter(|held| !held.deleted) {
            let own = held.managed_by == "kubernetes" && held.account.owner_scope == account.owner_scope;
            let taken_over = held.managed_by == "api" && account.adopt;
            if !own && !taken_over {
                return refuse(
                    RefusalReason::Conflict,
                    &format!("{} is managed by {}", account.name.id, held.managed_by),
                );
            }
        }
        if account.adopt && there.is_none() {
            return refuse(RefusalReason::NotFound, &format!("{} does not exist", account.name.id));
        }
        let owners = [
            (AccountKind::Organization, &account.organization),
            (AccountKind::Team, &account.team),
            (AccountKind::User, &account.user),
        ];
        for (kind, id) in owners {
            let Some(id) = id else { continue };
            if !self.living().any(|(name, _)| (name.kind, &name.id) == (kind, id)) {
                return refuse(RefusalReason::NotFound, &format!("{kind} {id} does not exist"));
            }
        }
        if account.name.kind == AccountKind::Key {
            if account.credentials.is_empty() && !account.adopt {
                return refuse(RefusalReason::Invalid, "credentials are missing");
            }
            let taken = |(name, held): (&AccountName, &Held)| {
                name.kind == AccountKind::Key && *name != account.name && held.account.alias == account.alias
            };
            if self.living().any(taken) {
                return refuse(
                    RefusalReason::Conflict,
                    &format!("a key with the alias {} exists", account.alias),
                );
            }
            let works = there.is_some_and(|held| !held.deleted && !self.living_credentials(held).is_empty());
            if keeps_credentials(account) && !works {
                return refuse_field(RefusalReason::NotFound, "credentials", "a credential does not exist");
            }
        }
        Ok(())
    }

    fn living_credentials(&self, held: &Held) -> Vec<Credential> {
        let all = held.account.credentials.iter();
        all.filter(|one| one.expires_at.is_none_or(|at| at > self.now)).cloned().collect()
    }

    fn delete_account(&mut self, name: &AccountName) {
        let below = |held: &Held| {
            let account = &held.account;
            let ids = [&account.organization, &account.team, &account.user];
            account.name == *name
                || (account.name.kind == AccountKind::Key && ids.contains(&&Some(name.id.clone())))
        };
        let gone: Vec<_> =
            self.living().filter(|(_, held)| below(held)).map(|(name, _)| name.clone()).collect();
        for gone in gone {
            self.revisions += 1;
            let held = self.ledger.get_mut(&gone).unwrap();
            held.deleted = true;
            held.revision = self.revisions;
        }
        self.world.ledger.answer_deleted(name);
        for name in self.ledger.keys().cloned().collect::<Vec<_>>() {
            self.tell(&name);
        }
    }

    /// The ledger tells how an account stands.
    pub(crate) fn tell(&mut self, name: &AccountName) {
        let Some(held) = self.ledger.get(name) else { return };
        let limits = held.account.limits.iter().map(|limit| {
            let period = limit.window.period_at(self.now).unwrap();
            LimitStanding {
                window: Some(limit.window),
                model: limit.model.clone(),
                soft: limit.soft,
                observe: limit.observe,
                amount: limit.amount,
                starts_at: period.start,
                ends_at: period.end.filter(|_| !matches!(limit.window, Window::Rolling { .. })),
                posted: held.posted,
                pending: Nanodollars::ZERO,
            }
        });
        let spent = |limit: &tollgate_operator::plan::Limit| {
            !limit.soft && !limit.observe && limit.model.is_none() && held.posted >= limit.amount
        };
        let standing = Standing {
            managed_by: held.managed_by.into(),
            owner_scope: held.account.owner_scope.clone(),
            revision: held.revision,
            deleted: held.deleted,
            blocked: held.account.blocked.unwrap_or(false),
            limits: if held.deleted { vec![] } else { limits.collect() },
            posted: held.posted,
            pending: Nanodollars::ZERO,
            last_used_at: (held.posted > Nanodollars::ZERO).then_some(self.now),
            exhausted: held.account.limits.iter().any(spent),
            credentials: if held.deleted { vec![] } else { self.living_credentials(held) },
        };
        self.world.ledger.tell(name.clone(), standing);
    }

    /// A request has spent so much of an account.
    pub(crate) fn spend(&mut self, account: &AccountName, dollars: &str) {
        self.ledger.get_mut(account).unwrap().posted = dollars.parse().unwrap();
        self.tell(account);
    }

    /// The operator starts anew, with an empty memory, and hears everything from the ledger.
    pub(crate) fn restart_operator(&mut self) {
        self.world.ledger = tollgate_operator::plan::Ledger::default();
        self.hear_everything();
    }

    /// The ledger's books are of another history, and everything is told anew.
    pub(crate) fn hear_everything(&mut self) {
        self.world.ledger.restart();
        for (name, held) in self.ledger.clone() {
            if !held.deleted {
                self.tell(&name);
            }
        }
        self.world.ledger.sync();
    }

    /// What the ledger has, as long as it has it.
    pub(crate) fn held(&self, kind: AccountKind, object: &str) -> Option<&Account> {
        self.ledger.get(&account(kind, object)).filter(|held| !held.deleted).map(|held| &held.account)
    }

    pub(crate) fn key(&self, object: &str) -> &Account {
        self.held(AccountKind::Key, object).unwrap_or_else(|| panic!("no key {object}"))
    }

    /// The credentials that work now.
    pub(crate) fn works(&self, object: &str) -> BTreeSet<KeyDigest> {
        let Some(account) = self.held(AccountKind::Key, object) else { return BTreeSet::new() };
        let living = account.credentials.iter().filter(|one| one.expires_at.is_none_or(|at| at > self.now));
        living.map(|one| one.digest).collect()
    }

    /// The digest of the key in a Secret.
    pub(crate) fn in_secret(&self, secret: &str) -> KeyDigest {
        self.world.secrets[&name(secret)].key.clone().unwrap().digest
    }

    pub(crate) fn key_status(&self, object: &str) -> VirtualKeyStatus {
        self.world.virtual_keys[&name(object)].status.clone().unwrap_or_default()
    }

    pub(crate) fn budget_status(&self, object: &str) -> BudgetStatus {
        self.world.budgets[&name(object)].status.clone().unwrap_or_default()
    }

    pub(crate) fn price_book_status(&self, object: &str) -> PriceBookStatus {
        self.world.price_books[&name(object)].status.clone().unwrap_or_default()
    }

    /// How often an event of this reason was published.
    pub(crate) fn heard(&self, reason: &str) -> usize {
        self.events.iter().filter(|event| event.reason == reason).count()
    }
}

fn price_fault(fault: SheetFault) -> PriceFault {
    let reason = match fault.error.kind() {
        SheetErrorKind::Unknown => RefusalReason::NotFound,
        SheetErrorKind::Conflict => RefusalReason::Conflict,
        SheetErrorKind::Invalid => RefusalReason::Invalid,
    };
    PriceFault { sheet: fault.sheet, reason, field: fault.field, message: fault.error.to_string() }
}

fn keeps_credentials(account: &Account) -> bool {
    account.adopt && account.name.kind == AccountKind::Key && account.credentials.is_empty()
}

/// What comes back from an API server is what was sent there as JSON.
fn written<T: serde::Serialize + DeserializeOwned>(status: &T) -> Option<T> {
    Some(serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap())
}

pub(crate) fn time(at: Timestamp) -> Time {
    Time(jiff::Timestamp::from_millisecond(at.unix_ms()).unwrap())
}

/// A condition, as `status reason`.
pub(crate) fn condition(conditions: &[Condition], kind: &str) -> String {
    let found = conditions.iter().find(|condition| condition.type_ == kind);
    found.map(|one| format!("{} {}", one.status, one.reason)).unwrap_or_default()
}

/// Kinds that have a status to keep.
pub(crate) trait HasStatus {
    fn keep_status(&mut self, before: &Self);
}

macro_rules! has_status {
    ($($kind:ty),*) => {
        $(impl HasStatus for $kind {
            fn keep_status(&mut self, before: &Self) {
                self.status.clone_from(&before.status);
            }
        })*
    };
}

has_status!(
    tollgate_operator::resources::Organization,
    tollgate_operator::resources::Team,
    tollgate_operator::resources::User,
    tollgate_operator::resources::VirtualKey,
    tollgate_operator::resources::Budget,
    tollgate_operator::resources::PriceBook
);
