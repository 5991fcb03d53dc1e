//! Which account an object stands for: one of its own, or one that the admin API has made and that the object takes over.
//!
//! An account that is taken over keeps its id, so that who knew it by that finds it. That it is this cluster's is said by its owner scope, where
//! for others the id says so.

use super::{Kind, ObjectName, Settings, World};
use tollgate_domain::account::{AccountKind, AccountName};

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
        (self.settings.is_platform(&name.namespace) && !self.is_of_an_object(said)).then_some(said)
    }

    /// Whether an id is that of an object of this cluster.
    pub(super) fn is_of_an_object(&self, id: &str) -> bool {
        id.strip_prefix(&self.settings.cluster).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The account of an object. A budget has none of its own.
    pub(super) fn account(&self, kind: Kind, name: &ObjectName) -> AccountName {
        let account_kind = match kind {
            Kind::Organization => AccountKind::Organization,
            Kind::Team => AccountKind::Team,
            Kind::User => AccountKind::User,
            Kind::VirtualKey | Kind::Budget | Kind::PriceBook => AccountKind::Key,
        };
        let id = self.adopted(kind, name).map(ToOwned::to_owned);
        let id = id.unwrap_or_else(|| format!("{}/{name}", self.settings.cluster));
        AccountName { kind: account_kind, scope: String::new(), id }
    }

    /// For whom the account is managed.
    pub(super) fn owner_scope(&self, kind: Kind, name: &ObjectName) -> String {
        match self.adopted(kind, name) {
            Some(_) => format!("{kind} {name}@{}", self.settings.cluster),
            None => format!("{kind} {name}"),
        }
    }

    /// For whom the account of a tag is managed: for all budgets on it.
    pub(super) fn tag_scope(&self, tag: &str) -> String {
        format!("Tag {}/{tag}", self.settings.cluster)
    }

    /// Whether an account that an operator manages is this cluster's.
    pub(super) fn is_ours(&self, account: &AccountName, owner_scope: &str) -> bool {
        let cluster = &self.settings.cluster;
        let of_tag = owner_scope.strip_prefix("Tag ").is_some_and(|tag| self.is_of_an_object(tag));
        let adopted = owner_scope.rsplit_once('@').is_some_and(|(_, of)| of == cluster);
        self.is_of_an_object(&account.id) || of_tag || (adopted && account.kind != AccountKind::Tag)
    }
}
