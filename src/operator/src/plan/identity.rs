//! Which account an object stands for: one of its own, or one that the admin API has made and that the object takes over.
//!
//! An account that is taken over keeps its id, so that who knew it by that finds it. That it is this cluster's is said by its owner scope, where
//! for others the id says so.

use super::{Kind, ObjectName, Settings, World};
use tollgate_domain::account::{AccountKind, AccountName};

/// An account, and for whom it is managed.
pub(super) type Managed = (AccountName, String);

/// Names accounts of objects.
#[derive(Clone, Copy)]
pub(super) struct Identities<'a> {
    world: &'a World,
    settings: &'a Settings,
}

impl<'a> Identities<'a> {
    pub(super) const fn new(world: &'a World, settings: &'a Settings) -> Self {
        Self { world, settings }
    }

    /// What an object says that it adopts, whether it may or not.
    pub(super) fn said(&self, kind: Kind, name: &ObjectName) -> Option<&'a str> {
        let world = self.world;
        let said = match kind {
            Kind::Organization => &world.organizations.get(name)?.spec.adopt,
            Kind::Team => &world.teams.get(name)?.spec.adopt,
            Kind::User => &world.users.get(name)?.spec.adopt,
            Kind::VirtualKey => &world.virtual_keys.get(name)?.spec.adopt,
            Kind::Budget | Kind::PriceBook => return None,
        };
        said.as_deref()
    }

    /// The id that an object adopts. Only who speaks for the platform decides about accounts that were there before; and what is an
    /// object's own is nobody else's.
    pub(super) fn adopted(&self, kind: Kind, name: &ObjectName) -> Option<&'a str> {
        let said = self.said(kind, name)?;
        (self.may_adopt(kind, &name.namespace) && !self.is_of_an_object(said)).then_some(said)
    }

    /// Where an object adopts. Keys are made by the people of a namespace, also of one that the platform lists; in the release's there are
    /// none but the platform's.
    fn may_adopt(&self, kind: Kind, namespace: &str) -> bool {
        match kind {
            Kind::VirtualKey => namespace == self.settings.release_namespace,
            _ => self.settings.is_platform(namespace),
        }
    }

    /// Where it is said what sessions of the keys of a namespace may spend: in the release's, which speaks of all keys, and in their own.
    /// They may be one.
    pub(super) fn speaking_of<'b>(&self, keys: &'b str) -> [&'b str; 2]
    where
        'a: 'b,
    {
        [&self.settings.release_namespace, keys]
    }

    /// Whether an id is that of an object of this cluster.
    pub(super) fn is_of_an_object(&self, id: &str) -> bool {
        id.strip_prefix(&self.settings.cluster).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The account of an object. A budget has none of its own.
    pub(super) fn account(&self, kind: Kind, name: &ObjectName) -> AccountName {
        self.adopted(kind, name).map_or_else(|| self.own(kind, name), |id| account(kind, id.to_owned()))
    }

    fn own(&self, kind: Kind, name: &ObjectName) -> AccountName {
        account(kind, format!("{}/{name}", self.settings.cluster))
    }

    /// For whom the account is managed.
    pub(super) fn owner_scope(&self, kind: Kind, name: &ObjectName) -> String {
        match self.adopted(kind, name) {
            Some(_) => self.adopted_scope(kind, name),
            None => format!("{kind} {name}"),
        }
    }

    fn adopted_scope(&self, kind: Kind, name: &ObjectName) -> String {
        format!("{kind} {name}@{}", self.settings.cluster)
    }

    /// The accounts that the ledger may have of an object, and for whom they are managed: its own, and the one that it says it adopts,
    /// whether it still may or not.
    pub(super) fn possible(&self, kind: Kind, name: &ObjectName) -> (Managed, Option<Managed>) {
        let own = (self.own(kind, name), format!("{kind} {name}"));
        let said =
            self.said(kind, name).map(|id| (account(kind, id.to_owned()), self.adopted_scope(kind, name)));
        (own, said)
    }

    /// The account of a tag on which there are budgets in a namespace, and for whom it is managed: for all of these. The release namespace's
    /// word is for every key, another's for its own.
    pub(super) fn tag(&self, tag: &ObjectName) -> Managed {
        let Settings { cluster, release_namespace, .. } = self.settings;
        let scope = match tag.namespace == *release_namespace {
            true => String::new(),
            false => format!("namespace {cluster}/{}", tag.namespace),
        };
        let name = AccountName { kind: AccountKind::Tag, scope, id: tag.name.clone() };
        (name, format!("Tag {cluster}/{}", tag.name))
    }

    /// Whether an account that an operator manages is this cluster's. Of one that was adopted its scope alone says so: its id is whatever
    /// the admin API was told, which may look like another cluster's.
    pub(super) fn is_ours(&self, account: &AccountName, owner_scope: &str) -> bool {
        if account.kind == AccountKind::Tag {
            return owner_scope.strip_prefix("Tag ").is_some_and(|tag| self.is_of_an_object(tag));
        }
        match owner_scope.rsplit_once('@') {
            Some((_, of)) => of == self.settings.cluster,
            None => self.is_of_an_object(&account.id),
        }
    }
}

fn account(kind: Kind, id: String) -> AccountName {
    let kind = match kind {
        Kind::Organization => AccountKind::Organization,
        Kind::Team => AccountKind::Team,
        Kind::User => AccountKind::User,
        Kind::VirtualKey | Kind::Budget | Kind::PriceBook => AccountKind::Key,
    };
    AccountName { kind, scope: String::new(), id }
}
