//! What a key is: whose accounts it charges, and the policy that follows from them.

use super::code::{corrupt, list, maybe_instant, money, parsed, session_limits, thresholds, unsigned};
use super::memory::Ground;
use crate::owner_scope::{ClusterNamespace, KUBERNETES, Namespace, OwnerScope};
use crate::store::TagScope;
use crate::store::sql::{self, Row, Sql, SqlError, SqlErrorKind, Value, values};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tollgate_domain::account::{AccountKind, AccountLabel};
use tollgate_domain::allow::{AllowList, LevelList};
use tollgate_domain::extra::Extra;
use tollgate_domain::ids::{KeyDigest, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::Policy;
use tollgate_domain::rate::{Rate, RateKind};
use tollgate_domain::session::{SessionLimits, SessionPattern};
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// A key, as a request of it is judged and charged.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) policy: Policy,
    /// The rows of its accounts, outermost first, and the revision of each.
    pub(super) accounts: Vec<(i64, i64)>,
    pub(super) owners: OwnerRows,
    /// The id of its account, within which sessions are named.
    pub(super) id: String,
    /// The id of its organization, within which tags are named; empty: none.
    pub(super) organization: String,
    /// The scope of the tags of the namespace that has made it; empty: none has.
    pub(super) namespace: String,
    /// How much each of its sessions may spend.
    pub(super) session_limits: SessionLimits,
    /// Tags that clients send bind, as pinned ones do.
    pub(super) client_tags_bind: bool,
    /// The namespace whose own resource has made it; `None`: somebody else has.
    pub(super) home: Option<Namespace>,
}

impl Key {
    /// Within what there can be accounts of its tags beside those of the whole installation; empty: none.
    pub(super) fn tag_scopes(&self) -> [&str; 2] {
        [&self.organization, &self.namespace]
    }
}

/// The rows that stand in a hold for its owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnerRows {
    pub(super) key: i64,
    pub(super) organization: Option<i64>,
    pub(super) team: Option<i64>,
    pub(super) user: Option<i64>,
}

/// An account, as it is charged.
#[derive(Clone, Debug)]
pub(super) struct Charged {
    pub(super) revision: i64,
    pub(super) label: Arc<AccountLabel>,
    /// Every window in which it is counted, the lifetime first, then its limits', the main one first.
    pub(super) counts: Vec<Count>,
    /// Its rates.
    pub(super) rates: Vec<Rated>,
}

/// One window in which an account is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) window: Window,
    /// Only requests of this model; empty: all.
    pub(super) model: String,
    pub(super) limits: Vec<Cap>,
}

/// An amount over a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cap {
    pub(super) amount: Nanodollars,
    /// Never a reason to refuse.
    pub(super) observe: bool,
    /// Only warns.
    pub(super) soft: bool,
    /// At which parts an event is recorded, in percent.
    pub(super) thresholds: Arc<[u16]>,
}

/// A rate, and the row that keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rated {
    pub(super) row: i64,
    pub(super) rate: Rate,
    /// Only requests of this model; empty: all.
    pub(super) model: String,
    pub(super) observe: bool,
}

/// A key, and its accounts as they are charged.
pub(super) type Loaded = (Key, Vec<(i64, Charged)>);

/// A key and its accounts, in one reading.
pub(super) fn load_key(db: &dyn Sql, digest: &KeyDigest, ground: &Ground) -> sql::Result<Option<Loaded>> {
    Ok(load_keys(db, &[digest], ground)?.pop().flatten())
}

const CREDENTIAL: &str = r#"SELECT a.account, a.organization, a.team, a."user", c.revoked_at, a.revision
    FROM credential c JOIN account a ON a.account = c.account
    WHERE c.digest = $1 AND (c.revoked_at IS NULL OR c.revoked_at > $2) AND a.deleted_at IS NULL"#;

/// Keys, and `None` for those that are none. However many they are, the database is asked three times.
pub(super) fn load_keys(
    db: &dyn Sql,
    digests: &[&KeyDigest],
    ground: &Ground,
) -> sql::Result<Vec<Option<Loaded>>> {
    let now = ground.clock.now().unix_ms();
    let asks: Vec<_> = digests.iter().map(|digest| values![digest.as_bytes(), now]).collect();
    let asks: Vec<(&str, &[Value<'_>])> = asks.iter().map(|ask| (CREDENTIAL, ask.as_slice())).collect();
    let found = db.query_all(&asks)?;
    let found = found.iter().map(|rows| rows.first().map(Credential::of).transpose());
    let found: Vec<Option<Credential>> = found.collect::<sql::Result<_>>()?;
    let teams = Teams::read(db, found.iter().flatten().filter_map(|credential| credential.owners.team))?;
    let chains: Vec<_> =
        found.iter().map(|found| found.as_ref().map(|found| chain(found.owners, &teams))).collect();
    let accounts: BTreeSet<i64> = chains.iter().flatten().flat_map(|(_, rows)| rows).copied().collect();
    let levels = load_levels(db, &accounts.into_iter().collect::<Vec<_>>())?;
    let keys = found.into_iter().zip(chains).map(|(credential, chain)| {
        let (Some(credential), Some((owners, rows))) = (credential, chain) else { return Ok(None) };
        credential.key(owners, &rows, &teams, &levels, ground).map(Some)
    });
    keys.collect()
}

/// A credential that is in force, and the account that it is of.
struct Credential {
    owners: OwnerRows,
    revoked_at: Option<Timestamp>,
    revision: i64,
}

impl Credential {
    /// A row of [`CREDENTIAL`].
    fn of(row: &Row) -> sql::Result<Self> {
        Ok(Self { owners: owner_rows(row)?, revoked_at: maybe_instant(row, 4)?, revision: row.int(5)? })
    }

    /// The key, of what was read of its accounts.
    fn key(
        &self,
        owners: OwnerRows,
        rows: &[i64],
        teams: &Teams,
        levels: &HashMap<i64, Read>,
        ground: &Ground,
    ) -> sql::Result<Loaded> {
        let mut draft = Draft::new(ground);
        let mut charged = Vec::with_capacity(rows.len());
        for row in rows {
            let read = levels.get(row).ok_or_else(|| corrupt("account"))?;
            let revision = read.level.revision;
            let is_of_another =
                (*row == owners.key && self.revision != revision) || !teams.are_of(*row, revision);
            if is_of_another {
                // Who belongs to whom has changed between two statements: what was read is of no moment.
                let why = "a key has changed while it was read".to_owned();
                return Err(SqlError { kind: SqlErrorKind::Contended, why });
            }
            charged.push((*row, read.charged(ground)?));
            draft.add(*row, &read.level);
        }
        let mut key = draft.finish(owners, ground.prices.present().revision());
        // Of several credentials of one account, each can end by itself.
        key.policy.expires_at = key.policy.expires_at.into_iter().chain(self.revoked_at).min();
        Ok((key, charged))
    }
}

/// The organizations of teams, and the revisions that they were read with.
#[derive(Debug, Default)]
struct Teams(HashMap<i64, (Option<i64>, i64)>);

impl Teams {
    fn read(db: &dyn Sql, teams: impl Iterator<Item = i64>) -> sql::Result<Self> {
        let teams: BTreeSet<i64> = teams.collect();
        let asks: Vec<_> = teams.iter().map(|team| values![*team]).collect();
        let ask = "SELECT organization, revision FROM account WHERE account = $1";
        let asks: Vec<(&str, &[Value<'_>])> = asks.iter().map(|params| (ask, params.as_slice())).collect();
        let found = db.query_all(&asks)?;
        let mut read = HashMap::new();
        for (team, rows) in teams.into_iter().zip(&found) {
            if let Some(row) = rows.first() {
                read.insert(team, (row.maybe_int(0)?, row.int(1)?));
            }
        }
        Ok(Self(read))
    }

    fn organization(&self, team: i64) -> Option<i64> {
        self.0.get(&team).and_then(|(organization, _)| *organization)
    }

    /// Whether a team was read with this revision; no other account was read here.
    fn are_of(&self, account: i64, revision: i64) -> bool {
        self.0.get(&account).is_none_or(|(_, read)| *read == revision)
    }
}

/// The columns `account, organization, team, user`.
fn owner_rows(row: &Row) -> sql::Result<OwnerRows> {
    Ok(OwnerRows {
        key: row.int(0)?,
        organization: row.maybe_int(1)?,
        team: row.maybe_int(2)?,
        user: row.maybe_int(3)?,
    })
}

/// The accounts that a key charges, outermost first. The organization of a key is that of its team, if that has one.
fn chain(owners: OwnerRows, teams: &Teams) -> (OwnerRows, Vec<i64>) {
    let organization = owners.team.and_then(|team| teams.organization(team)).or(owners.organization);
    let chain = [organization, owners.team, owners.user, Some(owners.key)];
    (OwnerRows { organization, ..owners }, chain.into_iter().flatten().collect())
}

/// An account by its row.
pub(super) fn load_charged(db: &dyn Sql, account: i64, ground: &Ground) -> sql::Result<Charged> {
    let read = load_levels(db, &[account])?.remove(&account).ok_or_else(|| corrupt("account"))?;
    if read.level.label.kind != AccountKind::Session {
        return read.charged(ground);
    }
    let cap = session_cap(db, &read.level.scope, &read.level.id)?;
    Ok(Charged { counts: counts(cap, None), ..read.charged(ground)? })
}

const LEVEL: &str = "SELECT kind, alias, models, tags, budget_duration, blocked, expires_at, revision, forbidden, required_tags,
        scope, id, session_limit, client_tags_bind, managed_by, owner_scope, session_limits
    FROM account WHERE account = $1";
const LIMITS: &str = r#"SELECT "window", amount, observe, model, soft, thresholds, main FROM budget_limit WHERE account = $1
    ORDER BY main DESC, budget_limit"#;
const RATES: &str = "SELECT rate, kind, amount, model, observe FROM rate WHERE account = $1 ORDER BY rate";

/// What was read of an account.
struct Read {
    level: Level,
    limits: Vec<Row>,
    rates: Vec<Row>,
}

/// What these accounts say, by their rows; those that are none are left out.
fn load_levels(db: &dyn Sql, accounts: &[i64]) -> sql::Result<HashMap<i64, Read>> {
    let params: Vec<_> = accounts.iter().map(|account| values![*account]).collect();
    let each = params.iter().flat_map(|params| [LEVEL, LIMITS, RATES].map(|ask| (ask, params.as_slice())));
    let found = db.query_all(&each.collect::<Vec<_>>())?;
    let mut found = found.into_iter();
    let mut read = HashMap::with_capacity(accounts.len());
    for account in accounts {
        let (Some(level), Some(limits), Some(rates)) = (found.next(), found.next(), found.next()) else {
            return Err(corrupt("answer"));
        };
        if let Some(level) = level.first() {
            read.insert(*account, Read { level: Level::read(level)?, limits, rates });
        }
    }
    Ok(read)
}

/// What one account says about requests of a key.
struct Level {
    label: AccountLabel,
    scope: String,
    id: String,
    patterns: Vec<String>,
    tags: Vec<Tag>,
    forbidden: Vec<Extra>,
    required_tags: Vec<Tag>,
    budget_duration: Option<String>,
    blocked: bool,
    expires_at: Option<Timestamp>,
    session_limits: SessionLimits,
    client_tags_bind: bool,
    home: Option<Namespace>,
    namespace: String,
    revision: i64,
}

impl Level {
    fn read(row: &Row) -> sql::Result<Self> {
        let kind: AccountKind = parsed("kind of account", row.text(0)?)?;
        let id = row.text(11)?.to_owned();
        let alias = row.maybe_string(1)?;
        // People know a tag by its id.
        let alias = if kind == AccountKind::Tag { alias.or(Some(id.clone())) } else { alias };
        let mut session_limits = session_limits(row.text(16)?)?;
        if let Some(amount) = row.maybe_int(12)? {
            session_limits.tighten(SessionPattern::every(), Nanodollars::new(amount));
        }
        Ok(Self {
            label: AccountLabel { kind, alias: alias.unwrap_or_default() },
            scope: row.text(10)?.to_owned(),
            namespace: tags_of_home(&id, row.text(14)?, row.text(15)?),
            id,
            patterns: list("models", row.text(2)?)?,
            tags: list("tags", row.text(3)?)?,
            forbidden: list("forbidden", row.text(8)?)?,
            required_tags: list("required_tags", row.text(9)?)?,
            budget_duration: row.maybe_string(4)?,
            blocked: row.flag(5)?,
            expires_at: maybe_instant(row, 6)?,
            session_limits,
            client_tags_bind: row.flag(13)?,
            home: home(row.text(14)?, row.text(15)?),
            revision: row.int(7)?,
        })
    }
}

/// The namespace that has made a key, by who manages its account and for whom.
fn home(managed_by: &str, owner_scope: &str) -> Option<Namespace> {
    owner(managed_by, owner_scope)?.of_key().cloned()
}

/// The scope of the tags of the namespace that has made a key, by its id and who manages its account; empty: none has.
pub(super) fn tags_of_home(id: &str, managed_by: &str, owner_scope: &str) -> String {
    let home = owner(managed_by, owner_scope).and_then(|owner| owner.home_of_key(id));
    home.map_or_else(String::new, |home| TagScope::Namespace(home).to_string())
}

fn owner(managed_by: &str, owner_scope: &str) -> Option<OwnerScope> {
    (managed_by == KUBERNETES).then(|| owner_scope.parse().ok()).flatten()
}

/// The keys that resources of a namespace have made, also those that are deleted: by who manages them now.
pub(super) fn made_in(db: &dyn Sql, home: &ClusterNamespace) -> sql::Result<BTreeSet<i64>> {
    let rows = db.query(
        "SELECT account, id, managed_by, owner_scope FROM account
         WHERE kind = 'key' AND managed_by = $1 AND owner_scope LIKE $2",
        &values![KUBERNETES, &format!("VirtualKey {}/%", home.namespace())],
    )?;
    // Which cluster has made it, the pattern does not tell.
    let scope = TagScope::Namespace(home.clone()).to_string();
    let mut keys = BTreeSet::new();
    for row in &rows {
        if tags_of_home(row.text(1)?, row.text(2)?, row.text(3)?) == scope {
            keys.insert(row.int(0)?);
        }
    }
    Ok(keys)
}

/// The namespace that has made a key which may not be in force any more: what is open of it still ends.
pub(super) fn former_home(db: &dyn Sql, digest: &KeyDigest) -> sql::Result<Option<Namespace>> {
    let rows = db.query(
        "SELECT a.managed_by, a.owner_scope FROM credential c JOIN account a ON a.account = c.account WHERE c.digest = $1",
        &values![digest.as_bytes()],
    )?;
    rows.first().map_or(Ok(None), |row| Ok(home(row.text(0)?, row.text(1)?)))
}

impl Read {
    fn charged(&self, ground: &Ground) -> sql::Result<Charged> {
        let (caps, has_main) = caps_of(&self.limits, ground)?;
        let level = &self.level;
        Ok(Charged {
            revision: level.revision,
            label: Arc::new(level.label.clone()),
            counts: counts(caps, level.budget_duration.as_deref().filter(|_| !has_main)),
            rates: rates_of(&self.rates, ground)?,
        })
    }
}

/// The cap of a session: the smallest that the accounts of its key say now, so that a change works on sessions that run.
fn session_cap(db: &dyn Sql, key: &str, session: &str) -> sql::Result<Vec<(Window, String, Cap)>> {
    let found = db.query(
        r#"SELECT account, organization, team, "user" FROM account WHERE kind = 'key' AND scope = '' AND id = $1"#,
        &values![key],
    )?;
    let Some(found) = found.first() else {
        return Ok(Vec::new());
    };
    let owners = owner_rows(found)?;
    let (_, rows) = chain(owners, &Teams::read(db, owners.team.into_iter())?);
    let least =
        load_levels(db, &rows)?.values().filter_map(|read| read.level.session_limits.of(session)).min();
    let cap = |amount| {
        (Window::Lifetime, String::new(), Cap { amount, observe: false, soft: false, thresholds: [].into() })
    };
    Ok(least.map(cap).into_iter().collect())
}

/// The limits of an account, and whether one of them is the main one, whose window `spend` shows.
fn caps_of(rows: &[Row], ground: &Ground) -> sql::Result<(Vec<(Window, String, Cap)>, bool)> {
    let has_main = rows.first().map_or(Ok(false), |row| row.flag(6))?;
    let caps = rows
        .iter()
        .map(|row| {
            let cap = Cap {
                amount: money(row, 1)?,
                observe: row.flag(2)?,
                soft: row.flag(4)?,
                thresholds: thresholds(row.text(5)?)?.into(),
            };
            Ok((parsed("window", row.text(0)?)?, ground.model(row.text(3)?), cap))
        })
        .collect::<sql::Result<_>>()?;
    Ok((caps, has_main))
}

fn rates_of(rows: &[Row], ground: &Ground) -> sql::Result<Vec<Rated>> {
    rows.iter()
        .map(|row| {
            let kind: RateKind = parsed("kind of rate", row.text(1)?)?;
            Ok(Rated {
                row: row.int(0)?,
                rate: Rate { kind, limit: unsigned(row.int(2)?)? },
                model: ground.model(row.text(3)?),
                observe: row.flag(4)?,
            })
        })
        .collect()
}

/// The windows in which an account with these limits is counted. The lifetime is always among them, and so is the
/// window that `spend` shows: that of the main limit or, where there is none, of `budget_duration`.
pub(super) fn counts(
    caps: impl IntoIterator<Item = (Window, String, Cap)>,
    budget_duration: Option<&str>,
) -> Vec<Count> {
    let count = |window, model| Count { window, model, limits: Vec::new() };
    let mut counts = vec![count(Window::Lifetime, String::new())];
    let place = |counts: &mut Vec<Count>, window: Window, model: String| {
        let known = counts.iter().position(|count| count.window == window && count.model == model);
        known.unwrap_or_else(|| {
            counts.push(count(window, model));
            counts.len() - 1
        })
    };
    for (window, model, cap) in caps {
        let at = place(&mut counts, window, model);
        counts[at].limits.push(cap);
    }
    if let Some(window) = budget_duration.and_then(|text| Window::from_duration(text).ok()) {
        place(&mut counts, window, String::new());
    }
    counts
}

/// Adds what is not there yet.
fn merge<T: PartialEq + Clone>(all: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}

/// A key that grows level by level, outermost first.
struct Draft {
    policy: Policy,
    accounts: Vec<(i64, i64)>,
    session_limits: SessionLimits,
    client_tags_bind: bool,
    organization: String,
    namespace: String,
    id: String,
    home: Option<Namespace>,
}

impl Draft {
    fn new(ground: &Ground) -> Self {
        let policy = Policy {
            version: ground.epoch.to_vec(),
            accounts: Vec::new(),
            blocked: None,
            expires_at: None,
            allow_lists: Vec::new(),
            tags: Vec::new(),
            forbidden: Vec::new(),
            required_tags: Vec::new(),
        };
        Self {
            policy,
            accounts: Vec::new(),
            session_limits: SessionLimits::default(),
            client_tags_bind: false,
            organization: String::new(),
            namespace: String::new(),
            id: String::new(),
            home: None,
        }
    }

    fn add(&mut self, account: i64, level: &Level) {
        let policy = &mut self.policy;
        policy.version.extend(super::code::pack([account, level.revision].map(i64::cast_unsigned)));
        if level.blocked && policy.blocked.is_none() {
            policy.blocked = Some(level.label.clone());
        }
        policy.expires_at = [policy.expires_at, level.expires_at].into_iter().flatten().min();
        let list = AllowList::new(&level.patterns);
        if !list.is_empty() {
            let patterns = level.patterns.clone();
            policy.allow_lists.push(LevelList { level: level.label.kind, list, patterns });
        }
        merge(&mut policy.tags, &level.tags);
        merge(&mut policy.forbidden, &level.forbidden);
        merge(&mut policy.required_tags, &level.required_tags);
        match level.label.kind {
            AccountKind::Organization => self.organization = level.id.clone(),
            AccountKind::Key => {
                self.id = level.id.clone();
                self.namespace = level.namespace.clone();
                self.home = level.home.clone();
            }
            _ => {}
        }
        policy.accounts.push(level.label.clone());
        self.accounts.push((account, level.revision));
        self.session_limits.tighten_by(&level.session_limits);
        self.client_tags_bind |= level.client_tags_bind;
    }

    fn finish(mut self, owners: OwnerRows, price_revision: u64) -> Key {
        self.policy.version.extend(price_revision.to_be_bytes());
        Key {
            policy: self.policy,
            accounts: self.accounts,
            owners,
            id: self.id,
            organization: self.organization,
            namespace: self.namespace,
            session_limits: self.session_limits,
            client_tags_bind: self.client_tags_bind,
            home: self.home,
        }
    }
}
