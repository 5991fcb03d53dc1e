//! What becomes of each account: an object, or nothing, and why.

use super::objects::unknown_extras;
use super::{Left, ListedAccount, Settings, limits, resource_of};
use crate::plan::ObjectName;
use std::collections::BTreeMap;
use tollgate_domain::account::{AccountKind, AccountName};

/// What the definitions of the custom resources take.
const MODELS_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 256;
const RATE_MAX: u64 = 1_000_000_000_000;

/// What becomes of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// An object is written for it.
    Object,
    /// It is that of a custom resource of this cluster.
    Is(ObjectName),
    /// It is that of a resource elsewhere.
    Elsewhere,
    /// It stays with the API.
    Left(Vec<String>),
}

/// What becomes of all of them.
pub(super) struct Fates<'a> {
    accounts: BTreeMap<&'a AccountName, (&'a ListedAccount, Fate)>,
}

impl<'a> Fates<'a> {
    pub(super) fn new(accounts: &'a [ListedAccount], settings: &Settings) -> Self {
        let mut fates = Self { accounts: BTreeMap::new() };
        // Owners before who belongs to them.
        for kind in [
            AccountKind::Organization,
            AccountKind::Team,
            AccountKind::User,
            AccountKind::Key,
            AccountKind::Tag,
        ] {
            for account in accounts.iter().filter(|account| account.name.kind == kind) {
                let fate = fates.judge(account, settings);
                fates.accounts.insert(&account.name, (account, fate));
            }
        }
        fates
    }

    /// In the order of their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a ListedAccount, &Fate)> {
        self.accounts.values().map(|(account, fate)| (*account, fate))
    }

    /// The accounts of a kind that become objects.
    pub(super) fn objects(&self, kind: AccountKind) -> impl Iterator<Item = &'a ListedAccount> {
        self.all()
            .filter(move |(account, fate)| account.name.kind == kind && **fate == Fate::Object)
            .map(|(account, _)| account)
    }

    /// What becomes of an owner.
    pub(super) fn owner(&self, kind: AccountKind, id: &str) -> Option<(&'a ListedAccount, &Fate)> {
        let name = AccountName { kind, scope: String::new(), id: id.to_owned() };
        self.accounts.get(&name).map(|(account, fate)| (*account, fate))
    }

    /// What stays with the API.
    pub(super) fn left(&self) -> Vec<Left> {
        let left = |(account, fate): (&ListedAccount, &Fate)| match fate {
            Fate::Left(why) => {
                Some(Left { account: account.name.clone(), alias: account.alias.clone(), why: why.clone() })
            }
            _ => None,
        };
        self.all().filter_map(left).collect()
    }

    fn judge(&self, account: &ListedAccount, settings: &Settings) -> Fate {
        if account.is_managed() {
            return resource_of(account, &settings.cluster).map_or(Fate::Elsewhere, Fate::Is);
        }
        let mut why = unsayable(account, settings);
        why.extend(self.unowned(account, settings));
        if why.is_empty() { Fate::Object } else { Fate::Left(why) }
    }

    /// Whom it belongs to, as far as no object can name that.
    fn unowned(&self, account: &ListedAccount, settings: &Settings) -> Vec<String> {
        let mut why = Vec::new();
        let is_key = account.name.kind == AccountKind::Key;
        if is_key && account.organization.is_some() {
            why.push("it belongs to an organization without a team of it".to_owned());
        } else if is_key && account.team.is_none() && settings.default_team.is_none() {
            why.push("it has no team (--default-team gives it one)".to_owned());
        }
        let owners = [
            (AccountKind::Organization, &account.organization),
            (AccountKind::Team, &account.team),
            (AccountKind::User, &account.user),
        ];
        let of_tag = account.name.kind == AccountKind::Tag;
        for (kind, id) in owners.into_iter().filter(|_| !of_tag) {
            let Some(id) = id else { continue };
            match self.owner(kind, id) {
                Some((_, Fate::Object | Fate::Is(_))) => {}
                Some((_, Fate::Left(_))) => why.push(format!("its {kind} {id:?} stays, too")),
                Some((_, Fate::Elsewhere)) => {
                    why.push(format!("its {kind} {id:?} is a resource of another cluster"))
                }
                None => why.push(format!("its {kind} {id:?} is not listed")),
            }
        }
        why
    }
}

/// What binds an account and has no words in a custom resource.
fn unsayable(account: &ListedAccount, settings: &Settings) -> Vec<String> {
    let mut why = Vec::new();
    let mut unless = |good: bool, what: &str| {
        if !good {
            why.push(what.to_owned());
        }
    };
    let id = &account.name.id;
    unless(is_plain(id), "its id is longer than 256 bytes, or has control characters");
    let is_own = id.strip_prefix(&settings.cluster).is_some_and(|rest| rest.starts_with('/'));
    unless(!is_own, "its id looks like that of a custom resource");
    let models = &account.models;
    let models_fit = models.len() <= MODELS_MAX && models.iter().all(|model| is_plain(model));
    unless(models_fit, "its models are too many, or one of them is empty or too long");
    unless(account.rates.iter().all(|rate| rate.model.is_none()), "rates of single models");
    unless(account.rates.iter().all(|rate| !rate.observe), "rates that only observe");
    unless(account.rates.iter().all(|rate| rate.rate.limit <= RATE_MAX), "a rate beyond 1000000000000");
    unless(account.session_limit.is_none(), "max_session_budget (write a Budget on sessions instead)");
    unless(!account.has_session_limits, "session_budgets (write Budgets on sessions instead)");
    let kind = account.name.kind;
    let is_team = kind == AccountKind::Team;
    unless(account.tags.is_empty() || is_team || kind == AccountKind::Key, "tags");
    unless(account.required_tags.is_empty() || is_team, "required_tags");
    unless(!account.client_tags_bind || is_team, "client_tags_bind");
    unless(account.forbidden.is_empty() || is_team, "forbidden_extras");
    let unknown = unknown_extras(account);
    unless(unknown.is_empty(), &format!("forbidden_extras that no Team has ({})", unknown.join(", ")));
    match kind {
        AccountKind::Key => {
            let expired = account.expires_at.is_some_and(|at| at <= settings.now);
            unless(!expired, "it has expired");
            unless(expired || account.credentials > 0, "no key of it works");
        }
        AccountKind::Tag => {
            unless(account.name.scope.is_empty(), "it is a tag of one organization alone");
            unless(account.rates.is_empty(), "rates of a tag");
            unless(!account.limits.is_empty(), "it has no limit, so there is nothing to write");
        }
        _ => unless(account.expires_at.is_none(), "it expires"),
    }
    why.extend(limits::unsayable(&account.limits));
    why
}

/// Whether a text fits into a field of a custom resource and into the ledger's.
pub(super) fn is_plain(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control)
}
