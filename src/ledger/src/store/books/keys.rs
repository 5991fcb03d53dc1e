//! What a key is: whose accounts it charges, and the policy that follows from them.

use super::code::{list, maybe_instant, money, parsed, thresholds, unsigned};
use super::memory::Ground;
use crate::store::sql::{self, Row, Sql, SqlError, SqlErrorKind, values};
use std::sync::Arc;
use tollgate_domain::account::{AccountKind, AccountLabel};
use tollgate_domain::allow::{AllowList, LevelList};
use tollgate_domain::extra::Extra;
use tollgate_domain::ids::{KeyDigest, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::Policy;
use tollgate_domain::rate::{Rate, RateKind};
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
    /// How much each of its sessions may spend.
    pub(super) session_limit: Option<Nanodollars>,
    /// Tags that clients send bind, as pinned ones do.
    pub(super) client_tags_bind: bool,
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

/// A key and its accounts, in one reading.
pub(super) fn load_key(
    db: &dyn Sql,
    digest: &KeyDigest,
    ground: &Ground,
) -> sql::Result<Option<(Key, Vec<(i64, Charged)>)>> {
    let found = db.query(
        r#"SELECT a.account, a.organization, a.team, a."user", c.revoked_at, a.revision
           FROM credential c JOIN account a ON a.account = c.account
           WHERE c.digest = $1 AND (c.revoked_at IS NULL OR c.revoked_at > $2) AND a.deleted_at IS NULL"#,
        &values![digest.as_bytes(), ground.clock.now().unix_ms()],
    )?;
    let Some(found) = found.first() else {
        return Ok(None);
    };
    let revoked_at = maybe_instant(found, 4)?;
    let owners = owner_rows(found)?;
    let mut read = vec![(owners.key, found.int(5)?)];
    let (owners, rows) = chain(db, owners, &mut read)?;
    let mut draft = Draft::new(ground);
    let mut charged = Vec::with_capacity(rows.len());
    for row in &rows {
        let level = load_level(db, *row)?;
        if read.iter().any(|(account, revision)| account == row && *revision != level.revision) {
            // Who belongs to whom has changed between two statements: what was read is of no moment.
            let why = "a key has changed while it was read".to_owned();
            return Err(SqlError { kind: SqlErrorKind::Contended, why });
        }
        charged.push((*row, level.charged(db, *row, ground)?));
        draft.add(*row, level);
    }
    let mut key = draft.finish(owners, ground.prices.present().revision());
    // Of several credentials of one account, each can end by itself.
    key.policy.expires_at = key.policy.expires_at.into_iter().chain(revoked_at).min();
    Ok(Some((key, charged)))
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
///
/// `read` gets the revisions that the owners were read with.
fn chain(db: &dyn Sql, owners: OwnerRows, read: &mut Vec<(i64, i64)>) -> sql::Result<(OwnerRows, Vec<i64>)> {
    let mut team_organization = None;
    if let Some(team) = owners.team {
        let rows =
            db.query("SELECT organization, revision FROM account WHERE account = $1", &values![team])?;
        if let Some(row) = rows.first() {
            team_organization = row.maybe_int(0)?;
            read.push((team, row.int(1)?));
        }
    }
    let organization = team_organization.or(owners.organization);
    let chain = [organization, owners.team, owners.user, Some(owners.key)];
    let rows = chain.into_iter().flatten().collect();
    Ok((OwnerRows { organization, ..owners }, rows))
}

/// An account by its row.
pub(super) fn load_charged(db: &dyn Sql, account: i64, ground: &Ground) -> sql::Result<Charged> {
    load_level(db, account)?.charged(db, account, ground)
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
    session_limit: Option<Nanodollars>,
    client_tags_bind: bool,
    revision: i64,
}

fn load_level(db: &dyn Sql, account: i64) -> sql::Result<Level> {
    let rows = db.query(
        "SELECT kind, alias, models, tags, budget_duration, blocked, expires_at, revision, forbidden, required_tags,
             scope, id, session_limit, client_tags_bind
         FROM account WHERE account = $1",
        &values![account],
    )?;
    Level::read(rows.first().ok_or_else(|| super::code::corrupt("account"))?)
}

impl Level {
    fn read(row: &Row) -> sql::Result<Self> {
        let kind: AccountKind = parsed("kind of account", row.text(0)?)?;
        let id = row.text(11)?.to_owned();
        let alias = row.maybe_string(1)?;
        // People know a tag by its id.
        let alias = if kind == AccountKind::Tag { alias.or(Some(id.clone())) } else { alias };
        Ok(Self {
            label: AccountLabel { kind, alias: alias.unwrap_or_default() },
            scope: row.text(10)?.to_owned(),
            id,
            patterns: list("models", row.text(2)?)?,
            tags: list("tags", row.text(3)?)?,
            forbidden: list("forbidden", row.text(8)?)?,
            required_tags: list("required_tags", row.text(9)?)?,
            budget_duration: row.maybe_string(4)?,
            blocked: row.flag(5)?,
            expires_at: maybe_instant(row, 6)?,
            session_limit: row.maybe_int(12)?.map(Nanodollars::new),
            client_tags_bind: row.flag(13)?,
            revision: row.int(7)?,
        })
    }

    fn charged(&self, db: &dyn Sql, account: i64, ground: &Ground) -> sql::Result<Charged> {
        let (caps, has_main) = if self.label.kind == AccountKind::Session {
            (session_cap(db, &self.scope)?, false)
        } else {
            limits_of(db, account, ground)?
        };
        Ok(Charged {
            revision: self.revision,
            label: Arc::new(self.label.clone()),
            counts: counts(caps, self.budget_duration.as_deref().filter(|_| !has_main)),
            rates: rates_of(db, account, ground)?,
        })
    }
}

/// The cap of a session: the smallest that the accounts of its key say now, so that a change works on sessions that run.
fn session_cap(db: &dyn Sql, key: &str) -> sql::Result<Vec<(Window, String, Cap)>> {
    let found = db.query(
        r#"SELECT account, organization, team, "user" FROM account WHERE kind = 'key' AND scope = '' AND id = $1"#,
        &values![key],
    )?;
    let Some(found) = found.first() else {
        return Ok(Vec::new());
    };
    let (_, rows) = chain(db, owner_rows(found)?, &mut Vec::new())?;
    let mut least: Option<Nanodollars> = None;
    for row in rows {
        least = smaller(least, load_level(db, row)?.session_limit);
    }
    let cap = |amount| {
        (Window::Lifetime, String::new(), Cap { amount, observe: false, soft: false, thresholds: [].into() })
    };
    Ok(least.map(cap).into_iter().collect())
}

fn smaller(one: Option<Nanodollars>, other: Option<Nanodollars>) -> Option<Nanodollars> {
    [one, other].into_iter().flatten().min()
}

/// The limits of an account, and whether one of them is the main one, whose window `spend` shows.
fn limits_of(db: &dyn Sql, account: i64, ground: &Ground) -> sql::Result<(Vec<(Window, String, Cap)>, bool)> {
    let rows = db.query(
        r#"SELECT "window", amount, observe, model, soft, thresholds, main FROM budget_limit WHERE account = $1
           ORDER BY main DESC, budget_limit"#,
        &values![account],
    )?;
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

fn rates_of(db: &dyn Sql, account: i64, ground: &Ground) -> sql::Result<Vec<Rated>> {
    let rows = db.query(
        "SELECT rate, kind, amount, model, observe FROM rate WHERE account = $1 ORDER BY rate",
        &values![account],
    )?;
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
fn merge<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
}

/// A key that grows level by level, outermost first.
struct Draft {
    policy: Policy,
    accounts: Vec<(i64, i64)>,
    session_limit: Option<Nanodollars>,
    client_tags_bind: bool,
    organization: String,
    id: String,
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
            session_limit: None,
            client_tags_bind: false,
            organization: String::new(),
            id: String::new(),
        }
    }

    fn add(&mut self, account: i64, level: Level) {
        let policy = &mut self.policy;
        policy.version.extend(super::code::pack([account, level.revision].map(i64::cast_unsigned)));
        if level.blocked && policy.blocked.is_none() {
            policy.blocked = Some(level.label.clone());
        }
        policy.expires_at = [policy.expires_at, level.expires_at].into_iter().flatten().min();
        let list = AllowList::new(&level.patterns);
        if !list.is_empty() {
            policy.allow_lists.push(LevelList { level: level.label.kind, list, patterns: level.patterns });
        }
        merge(&mut policy.tags, level.tags);
        merge(&mut policy.forbidden, level.forbidden);
        merge(&mut policy.required_tags, level.required_tags);
        match level.label.kind {
            AccountKind::Organization => self.organization = level.id,
            AccountKind::Key => self.id = level.id,
            _ => {}
        }
        policy.accounts.push(level.label);
        self.accounts.push((account, level.revision));
        self.session_limit = smaller(self.session_limit, level.session_limit);
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
            session_limit: self.session_limit,
            client_tags_bind: self.client_tags_bind,
        }
    }
}
