//! The snapshot that plans are made from, kept up to date by what is seen and by what was done.
//!
//! What the operator writes comes back through its watches a moment later. Until then the answer to the write counts, and what the watch
//! still tells of the time before is left out: otherwise a plan would be made for a world that is past, and make a second key, for example.

use super::ledger::News;
use super::watch::Seen;
use crate::plan::{KeySecret, Kind, ObjectName, SecretRefusal, World, standing_from_wire};
use crate::resources::{Budget, Organization, PriceBook, Team, User, VirtualKey};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tollgate_domain::time::Timestamp;

/// What the API server refuses is asked for again after so long.
const SECRET_RETRY_MS: i64 = 60_000;

/// An object as it was at some moment of the API server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Versioned<T> {
    /// Which one.
    pub name: ObjectName,
    /// When: resource versions of one kind rise.
    pub version: u64,
    /// What is kept of it.
    pub object: T,
}

impl<T> Versioned<T> {
    /// What is kept of an object, by `keep`.
    pub(super) fn of<K: Resource>(object: K, keep: impl FnOnce(K) -> T) -> Self {
        let name = ObjectName::new(object.namespace().unwrap_or_default(), object.name_any());
        // Resource versions are numbers that can be compared, of every kind that etcd keeps.
        let version = object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default();
        Self { name, version, object: keep(object) }
    }

    /// A custom resource, as a whole but for what only the API server needs.
    pub(super) fn custom<K: Resource>(object: K) -> Versioned<Arc<K>> {
        Versioned::of(object, |mut object| {
            object.managed_fields_mut().clear();
            Arc::new(object)
        })
    }

    /// A Secret, without its secrets.
    pub(super) fn secret(secret: Secret) -> Versioned<KeySecret> {
        Versioned::of(secret, |secret| KeySecret::read(&secret))
    }

    /// The labels of a namespace.
    pub(super) fn namespace(namespace: Namespace) -> Versioned<BTreeMap<String, String>> {
        Versioned::of(namespace, |namespace| namespace.labels().clone())
    }
}

/// Something that was seen, heard, or done.
#[derive(Debug)]
pub(super) enum Change {
    /// Of organizations.
    Organizations(Seen<Versioned<Arc<Organization>>>),
    /// Of teams.
    Teams(Seen<Versioned<Arc<Team>>>),
    /// Of users.
    Users(Seen<Versioned<Arc<User>>>),
    /// Of keys.
    VirtualKeys(Seen<Versioned<Arc<VirtualKey>>>),
    /// Of budgets.
    Budgets(Seen<Versioned<Arc<Budget>>>),
    /// Of price books.
    PriceBooks(Seen<Versioned<Arc<PriceBook>>>),
    /// Of namespaces.
    Namespaces(Seen<Versioned<BTreeMap<String, String>>>),
    /// Of the Secrets of keys.
    Secrets(Seen<Versioned<KeySecret>>),
    /// Of the ledger.
    Ledger(News),
}

/// What must have been listed once before anything is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Listed {
    Kind(Kind),
    Namespaces,
    Secrets,
}

const LISTED: [Listed; 8] = [
    Listed::Kind(Kind::Organization),
    Listed::Kind(Kind::Team),
    Listed::Kind(Kind::User),
    Listed::Kind(Kind::VirtualKey),
    Listed::Kind(Kind::Budget),
    Listed::Kind(Kind::PriceBook),
    Listed::Namespaces,
    Listed::Secrets,
];

/// How soon a change wants a new plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Nothing is new.
    None,
    /// Money moved: within seconds.
    Money,
    /// Somebody waits for it.
    Now,
}

/// The snapshot.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    world: World,
    listed: BTreeSet<Listed>,
    versions: Versions,
    /// The ledger tells everything anew.
    restarting: bool,
}

/// Of which moment each object is, the gone ones that were seen to go, too.
#[derive(Debug, Default)]
struct Versions(BTreeMap<(Listed, ObjectName), u64>);

impl Versions {
    /// Whether this is not of a time before what is known.
    fn is_news<T>(&mut self, of: Listed, seen: &Versioned<T>) -> bool {
        let known = self.0.entry((of, seen.name.clone())).or_default();
        let news = seen.version >= *known;
        *known = seen.version.max(*known);
        news
    }

    /// A whole list came: of what is not on it nothing needs to be known any more.
    fn retain(&mut self, of: Listed, listed: &BTreeSet<ObjectName>) {
        self.0.retain(|(kind, name), _| *kind != of || listed.contains(name));
    }
}

impl Mirror {
    /// What is known.
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// Whether everything was listed once.
    pub(super) fn is_whole(&self) -> bool {
        LISTED.iter().all(|listed| self.listed.contains(listed))
    }

    /// For the answers of the ledger to what was asked of it.
    pub(super) fn ledger_mut(&mut self) -> &mut crate::plan::Ledger {
        &mut self.world.ledger
    }

    /// A Secret of somebody else has the name that one of ours should have.
    pub(super) fn put_in_the_way(&mut self, name: ObjectName) {
        self.world.secrets.entry(name).or_default();
    }

    /// The API server does not take a Secret.
    pub(super) fn refuse_secret(&mut self, name: ObjectName, said: String, now: Timestamp) {
        let retry_at = now.plus_ms(SECRET_RETRY_MS);
        self.world.refused_secrets.insert(name, SecretRefusal { said, retry_at });
    }

    /// Perhaps it is gone by now.
    pub(super) fn take_out_of_the_way(&mut self, name: &ObjectName) {
        if self.world.secrets.get(name) == Some(&KeySecret::default()) {
            self.world.secrets.remove(name);
        }
    }

    /// Takes in a change.
    pub(super) fn take(&mut self, change: Change, now: Timestamp) -> Urgency {
        match change {
            Change::Organizations(seen) => {
                self.see(Listed::Kind(Kind::Organization), seen, |world| &mut world.organizations)
            }
            Change::Teams(seen) => self.see(Listed::Kind(Kind::Team), seen, |world| &mut world.teams),
            Change::Users(seen) => self.see(Listed::Kind(Kind::User), seen, |world| &mut world.users),
            Change::VirtualKeys(seen) => {
                self.see(Listed::Kind(Kind::VirtualKey), seen, |world| &mut world.virtual_keys)
            }
            Change::Budgets(seen) => self.see(Listed::Kind(Kind::Budget), seen, |world| &mut world.budgets),
            Change::PriceBooks(seen) => {
                self.see(Listed::Kind(Kind::PriceBook), seen, |world| &mut world.price_books)
            }
            Change::Secrets(seen) => {
                if let Seen::Is(Versioned { name, .. }) = &seen {
                    self.world.refused_secrets.remove(name);
                }
                self.see(Listed::Secrets, seen, |world| &mut world.secrets)
            }
            Change::Namespaces(seen) => self.see(Listed::Namespaces, seen, |world| &mut world.namespaces),
            Change::Ledger(news) => self.hear(news, now),
        }
    }

    /// Takes in what was seen of a kind, which is kept in `place`.
    fn see<N: Ord + From<ObjectName>, T: PartialEq>(
        &mut self,
        of: Listed,
        seen: Seen<Versioned<T>>,
        place: impl FnOnce(&mut World) -> &mut BTreeMap<N, T>,
    ) -> Urgency {
        let known = place(&mut self.world);
        match seen {
            Seen::Is(seen) => {
                // What was written comes back as it was answered.
                let is_news = self.versions.is_news(of, &seen);
                let name = seen.name.into();
                if !is_news || known.get(&name) == Some(&seen.object) {
                    return Urgency::None;
                }
                known.insert(name, seen.object);
                Urgency::Now
            }
            Seen::Gone(seen) => {
                let gone = self.versions.is_news(of, &seen) && known.remove(&seen.name.into()).is_some();
                if gone { Urgency::Now } else { Urgency::None }
            }
            Seen::All(all) => {
                self.listed.insert(of);
                let names: BTreeSet<ObjectName> = all.iter().map(|seen| seen.name.clone()).collect();
                self.versions.retain(of, &names);
                let names: BTreeSet<N> = names.into_iter().map(N::from).collect();
                known.retain(|name, _| names.contains(name));
                for seen in all {
                    if self.versions.is_news(of, &seen) {
                        known.insert(seen.name.into(), seen.object);
                    }
                }
                Urgency::Now
            }
        }
    }

    fn hear(&mut self, news: News, now: Timestamp) -> Urgency {
        let ledger = &mut self.world.ledger;
        let heard = match news {
            News::Away(reason) => {
                if ledger.synced || ledger.away_since.is_none() {
                    tracing::warn!(reason, "the ledger is away");
                }
                ledger.lose(now);
                return Urgency::Now;
            }
            News::Heard(heard) => heard,
        };
        if heard.restarted && !self.restarting {
            tracing::warn!("the ledger's books are others than before: everything is applied anew");
            ledger.restart();
        }
        self.restarting = heard.restarted && heard.more;
        for status in heard.accounts {
            match standing_from_wire(status) {
                Ok((name, standing)) => ledger.tell(name, standing),
                Err(error) => tracing::debug!(%error, "an account of a newer ledger is left out"),
            }
        }
        let back = !heard.more && !ledger.synced;
        if back {
            tracing::info!(accounts = ledger.standings.len(), "the ledger has told how everything stands");
            ledger.sync();
        }
        if back { Urgency::Now } else { Urgency::Money }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PresentKey;
    use tollgate_domain::ids::KeyDigest;
    use tollgate_proto::v1;

    const NOW: Timestamp = Timestamp::new(1_000);

    fn secret(version: u64, key: u8) -> Versioned<KeySecret> {
        let key = PresentKey { digest: KeyDigest::new([key; 32]), name: "sk-...".to_owned() };
        let object = KeySecret { key: Some(key), ..KeySecret::default() };
        Versioned { name: ObjectName::new("payments", "alice"), version, object }
    }

    fn key_of(mirror: &Mirror) -> Option<KeyDigest> {
        let secret = mirror.world().secrets.get(&ObjectName::new("payments", "alice"));
        secret.and_then(|secret| secret.key.as_ref()).map(|key| key.digest)
    }

    #[test]
    fn a_watch_that_tells_of_the_time_before_a_write_is_not_believed() {
        let table = [
            (
                "the write itself, as the watch tells it later",
                Seen::Is(secret(20, 2)),
                Urgency::None,
                Some(2),
            ),
            ("what was before", Seen::Is(secret(10, 1)), Urgency::None, Some(2)),
            ("that it was gone before", Seen::Gone(secret(15, 1)), Urgency::None, Some(2)),
            ("a list from before", Seen::All(vec![secret(10, 1)]), Urgency::Now, Some(2)),
            ("what came after", Seen::Is(secret(30, 3)), Urgency::Now, Some(3)),
            ("that it went after", Seen::Gone(secret(30, 2)), Urgency::Now, None),
            ("a list without it", Seen::All(Vec::new()), Urgency::Now, None),
        ];
        for (what, seen, urgency, key) in table {
            let mut mirror = Mirror::default();
            assert_eq!(mirror.take(Change::Secrets(Seen::Is(secret(20, 2))), NOW), Urgency::Now);
            assert_eq!(mirror.take(Change::Secrets(seen), NOW), urgency, "{what}");
            assert_eq!(key_of(&mirror), key.map(|key| KeyDigest::new([key; 32])), "{what}");
        }
    }

    #[test]
    fn nothing_is_planned_before_everything_was_listed() {
        let mut mirror = Mirror::default();
        let lists = [
            Change::Organizations(Seen::All(Vec::new())),
            Change::Teams(Seen::All(Vec::new())),
            Change::Users(Seen::All(Vec::new())),
            Change::VirtualKeys(Seen::All(Vec::new())),
            Change::Budgets(Seen::All(Vec::new())),
            Change::PriceBooks(Seen::All(Vec::new())),
            Change::Namespaces(Seen::All(Vec::new())),
            Change::Secrets(Seen::All(Vec::new())),
        ];
        for list in lists {
            assert!(!mirror.is_whole());
            mirror.take(list, NOW);
        }
        assert!(mirror.is_whole());
    }

    fn heard(more: bool, restarted: bool, ids: &[&str]) -> Change {
        let account = |id: &&str| v1::AccountStatus {
            name: Some(v1::AccountName {
                kind: v1::AccountKind::Team.into(),
                id: (*id).to_owned(),
                scope: String::new(),
            }),
            ..v1::AccountStatus::default()
        };
        let accounts = ids.iter().map(account).collect();
        let heard = v1::ChangesResponse { accounts, cursor: Vec::new(), restarted, more };
        Change::Ledger(News::Heard(Box::new(heard)))
    }

    fn teams(mirror: &Mirror) -> Vec<&str> {
        mirror.world().ledger.standings.keys().map(|name| name.id.as_str()).collect()
    }

    #[test]
    fn the_ledger_is_known_when_it_has_told_everything_and_anew_after_a_restore() {
        let mut mirror = Mirror::default();
        assert_eq!(mirror.take(heard(true, false, &["a"]), NOW), Urgency::Money);
        assert!(!mirror.world().ledger.synced);
        assert_eq!(mirror.take(heard(false, false, &["b"]), NOW), Urgency::Now);
        assert!(mirror.world().ledger.synced);
        assert_eq!(mirror.take(heard(false, false, &["b"]), NOW), Urgency::Money);
        // Other books: what was known of the old ones is forgotten once, and not with each part of the new ones.
        assert_eq!(mirror.take(heard(true, true, &["c"]), NOW), Urgency::Money);
        assert!(!mirror.world().ledger.synced);
        assert_eq!(mirror.take(heard(false, true, &["d"]), NOW), Urgency::Now);
        assert_eq!(teams(&mirror), ["c", "d"]);
        // Away: it is not forgotten, but not believed to be all.
        assert_eq!(mirror.take(Change::Ledger(News::Away("gone".to_owned())), NOW), Urgency::Now);
        assert_eq!((mirror.world().ledger.synced, teams(&mirror)), (false, vec!["c", "d"]));
    }

    #[test]
    fn what_is_in_the_way_is_forgotten_only_while_it_is_somebody_elses() {
        let mut mirror = Mirror::default();
        let name = ObjectName::new("payments", "alice");
        mirror.put_in_the_way(name.clone());
        assert!(mirror.world().secrets.contains_key(&name));
        mirror.take_out_of_the_way(&name);
        assert!(!mirror.world().secrets.contains_key(&name));
        mirror.take(Change::Secrets(Seen::Is(secret(20, 2))), NOW);
        mirror.put_in_the_way(name.clone());
        mirror.take_out_of_the_way(&name);
        assert!(mirror.world().secrets.contains_key(&name));
    }
}
