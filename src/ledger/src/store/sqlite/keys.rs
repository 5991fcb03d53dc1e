//! What a key is: whose accounts it charges, and the policy that follows from them.

use super::code::{list, maybe_instant, money, parsed};
use super::open::Epoch;
use rusqlite::{Connection, OptionalExtension, Row};
use std::sync::Arc;
use tollgate_domain::account::{AccountKind, AccountLabel};
use tollgate_domain::allow::{AllowList, LevelList};
use tollgate_domain::extra::Extra;
use tollgate_domain::ids::{KeyDigest, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::Policy;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// A key, as a request of it is judged and charged.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) policy: Policy,
    /// The rows of its accounts, outermost first.
    pub(super) accounts: Vec<i64>,
    pub(super) owners: OwnerRows,
}

/// The rows that stand in a hold for its owners.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnerRows {
    pub(super) key: i64,
    pub(super) organization: Option<i64>,
    pub(super) team: Option<i64>,
    pub(super) user: Option<i64>,
}

/// An account, as it is charged.
#[derive(Clone, Debug)]
pub(super) struct Charged {
    pub(super) label: Arc<AccountLabel>,
    /// Every window in which it is counted, the lifetime first, then its limits', the main one first.
    pub(super) counts: Vec<Count>,
}

/// One window in which an account is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) window: Window,
    /// How much, and whether it only observes.
    pub(super) limit: Option<(Nanodollars, bool)>,
}

/// A key and its accounts, in one reading.
pub(super) fn load_key(
    connection: &Connection,
    digest: &KeyDigest,
    epoch: &Epoch,
    price_revision: u64,
) -> rusqlite::Result<Option<(Key, Vec<(i64, Charged)>)>> {
    let Some(owners) = owners_of(connection, digest)? else {
        return Ok(None);
    };
    let team_organization = match owners.team {
        Some(team) => connection
            .prepare_cached("SELECT organization FROM account WHERE account = ?1")?
            .query_row([team], |row| row.get::<_, Option<i64>>(0))?,
        None => None,
    };
    let mut rows: Vec<i64> = Vec::new();
    let chain = [owners.organization, team_organization, owners.team, owners.user, Some(owners.key)];
    for row in chain.into_iter().flatten() {
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let organization = owners.organization.or(team_organization);
    let owners = OwnerRows { organization, ..owners };
    let mut draft = Draft::new(epoch);
    let mut charged = Vec::with_capacity(rows.len());
    for row in &rows {
        let level = load_level(connection, *row)?;
        charged.push((*row, level.charged(connection, *row)?));
        draft.add(*row, level);
    }
    let policy = draft.finish(price_revision);
    Ok(Some((Key { policy, accounts: rows, owners }, charged)))
}

/// An account by its row.
pub(super) fn load_charged(connection: &Connection, account: i64) -> rusqlite::Result<Charged> {
    load_level(connection, account)?.charged(connection, account)
}

fn owners_of(connection: &Connection, digest: &KeyDigest) -> rusqlite::Result<Option<OwnerRows>> {
    connection
        .prepare_cached(
            "SELECT a.account, a.organization, a.team, a.user
             FROM credential c JOIN account a ON a.account = c.account
             WHERE c.digest = ?1 AND c.revoked_at IS NULL AND a.deleted_at IS NULL",
        )?
        .query_row([digest.as_bytes()], |row| {
            Ok(OwnerRows {
                key: row.get(0)?,
                organization: row.get(1)?,
                team: row.get(2)?,
                user: row.get(3)?,
            })
        })
        .optional()
}

/// What one account says about requests of a key.
struct Level {
    label: AccountLabel,
    patterns: Vec<String>,
    tags: Vec<Tag>,
    forbidden: Vec<Extra>,
    required_tags: Vec<Tag>,
    budget_duration: Option<String>,
    blocked: bool,
    expires_at: Option<Timestamp>,
    revision: i64,
}

fn load_level(connection: &Connection, account: i64) -> rusqlite::Result<Level> {
    connection
        .prepare_cached(
            "SELECT kind, alias, models, tags, budget_duration, blocked, expires_at, revision, forbidden,
                 required_tags
             FROM account WHERE account = ?1",
        )?
        .query_row([account], Level::read)
}

impl Level {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let kind: AccountKind = parsed("kind of account", row.get_ref(0)?.as_str()?)?;
        Ok(Self {
            label: AccountLabel { kind, alias: row.get::<_, Option<String>>(1)?.unwrap_or_default() },
            patterns: list("models", row.get_ref(2)?.as_str()?)?,
            tags: list("tags", row.get_ref(3)?.as_str()?)?,
            forbidden: list("forbidden", row.get_ref(8)?.as_str()?)?,
            required_tags: list("required_tags", row.get_ref(9)?.as_str()?)?,
            budget_duration: row.get(4)?,
            blocked: row.get(5)?,
            expires_at: maybe_instant(row, 6)?,
            revision: row.get(7)?,
        })
    }

    fn charged(&self, connection: &Connection, account: i64) -> rusqlite::Result<Charged> {
        let limits = limits_of(connection, account)?;
        Ok(Charged {
            label: Arc::new(self.label.clone()),
            counts: counts(&limits, self.budget_duration.as_deref()),
        })
    }
}

fn limits_of(connection: &Connection, account: i64) -> rusqlite::Result<Vec<Count>> {
    connection
        .prepare_cached(
            r#"SELECT "window", amount, observe FROM budget_limit WHERE account = ?1
               ORDER BY main DESC, budget_limit"#,
        )?
        .query_map([account], |row| {
            let window = parsed("window", row.get_ref(0)?.as_str()?)?;
            Ok(Count { window, limit: Some((money(row, 1)?, row.get(2)?)) })
        })?
        .collect()
}

/// The windows in which an account with these limits is counted. The lifetime is always among them, and so is the
/// window that `spend` shows.
pub(super) fn counts(limits: &[Count], budget_duration: Option<&str>) -> Vec<Count> {
    let of = |window| limits.iter().find(|count| count.window == window).copied();
    let lifetime = of(Window::Lifetime).unwrap_or(Count { window: Window::Lifetime, limit: None });
    let mut counts = vec![lifetime];
    counts.extend(limits.iter().filter(|count| count.window != Window::Lifetime));
    let shown = budget_duration.and_then(|text| Window::from_duration(text).ok());
    if let Some(window) = shown.filter(|window| counts.iter().all(|count| count.window != *window)) {
        counts.push(Count { window, limit: None });
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

/// A policy that grows level by level, outermost first.
struct Draft {
    policy: Policy,
}

impl Draft {
    fn new(epoch: &Epoch) -> Self {
        let policy = Policy {
            version: epoch.to_vec(),
            accounts: Vec::new(),
            blocked: None,
            expires_at: None,
            allow_lists: Vec::new(),
            tags: Vec::new(),
            forbidden: Vec::new(),
            required_tags: Vec::new(),
        };
        Self { policy }
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
        for tag in level.tags {
            if !policy.tags.contains(&tag) && policy.tags.len() < Tag::COUNT_MAX {
                policy.tags.push(tag);
            }
        }
        merge(&mut policy.forbidden, level.forbidden);
        merge(&mut policy.required_tags, level.required_tags);
        policy.accounts.push(level.label);
    }

    fn finish(mut self, price_revision: u64) -> Policy {
        self.policy.version.extend(price_revision.to_be_bytes());
        self.policy
    }
}
