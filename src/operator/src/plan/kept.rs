//! Accounts that are left as they are although no object that counts stands for them.
//!
//! An account of an object's own is deleted when the object does not count any more, and is back with the key in its Secret as soon as it does. One
//! that was adopted would lose the keys that people hold, for good. So where a namespace is no longer the platform's, a selector picks
//! others, or `maxKeys` is lowered, it is left as it is, and so is who belongs to it, and whom it belongs to. Who deletes the object, or
//! one that it belongs to, deletes it.

use super::identity::Identities;
use super::verdict::{is_alive, named};
use super::{Kind, ObjectName, World};
use crate::resources::Reference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;
use tollgate_domain::account::AccountName;

type Of = (Kind, ObjectName);

/// Of the accounts for which `is_unwanted`, by their names and for whom they are managed, those that are left as they are.
pub(super) fn kept(
    world: &World,
    identities: Identities<'_>,
    is_unwanted: impl Fn(&AccountName, &str) -> bool,
) -> BTreeSet<AccountName> {
    let mut unwanted = Vec::new();
    let mut kept: BTreeSet<Of> = BTreeSet::new();
    for (of, owners) in living(world) {
        let (own, adopted) = identities.possible(of.0, &of.1);
        let is_unwanted = |(account, scope): &(AccountName, String)| is_unwanted(account, scope);
        let adopted = adopted.filter(is_unwanted);
        if adopted.is_some() || owners.iter().any(|owner| kept.contains(owner)) {
            kept.insert(of.clone());
        }
        let account = adopted.or_else(|| Some(own).filter(is_unwanted));
        unwanted.extend(account.map(|(account, _)| (of, owners, account)));
    }
    for (of, owners, _) in unwanted.iter().rev() {
        if kept.contains(of) {
            kept.extend(owners.iter().cloned());
        }
    }
    unwanted.into_iter().filter(|(of, ..)| kept.contains(of)).map(|(.., account)| account).collect()
}

/// Every object with an account of which nobody deletes it or whom it belongs to, and these. Owners come before who belongs to them.
fn living(world: &World) -> Vec<(Of, Vec<Of>)> {
    let mut all = Vec::new();
    let mut living = BTreeSet::new();
    let mut add = |kind, name: &ObjectName, meta: &ObjectMeta, owners: [Option<(Kind, &Reference)>; 2]| {
        let owners = owners.into_iter().flatten().map(|(kind, owner)| (kind, named(owner, &name.namespace)));
        let owners: Vec<Of> = owners.collect();
        if is_alive(meta) && owners.iter().all(|owner| living.contains(owner)) {
            living.insert((kind, name.clone()));
            all.push(((kind, name.clone()), owners));
        }
    };
    for (name, one) in &world.organizations {
        add(Kind::Organization, name, &one.metadata, [None, None]);
    }
    let of = |owner| (Kind::Organization, owner);
    for (name, one) in &world.teams {
        add(Kind::Team, name, &one.metadata, [one.spec.organization_ref.as_ref().map(of), None]);
    }
    for (name, one) in &world.users {
        add(Kind::User, name, &one.metadata, [one.spec.organization_ref.as_ref().map(of), None]);
    }
    for (name, one) in &world.virtual_keys {
        let user = one.spec.user_ref.as_ref().map(|user| (Kind::User, user));
        add(Kind::VirtualKey, name, &one.metadata, [Some((Kind::Team, &one.spec.team_ref)), user]);
    }
    all
}
