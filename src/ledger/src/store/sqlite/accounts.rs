//! Making, changing and deleting accounts.

use super::code::{Failure, json_list};
use super::keys::{Count, counts};
use super::memory::Books;
use super::records;
use crate::store::{
    AccountChange, AccountRecord, AccountRef, AccountSpec, Credential, LimitSpec, NewAccount, Owners,
    StoreError,
};
use rusqlite::{OptionalExtension, params};
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::{KeyDigest, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// An account as a row.
#[derive(Clone, Copy, Debug)]
struct Existing {
    account: i64,
    alive: bool,
}

/// Owners as rows.
#[derive(Clone, Copy, Debug, Default)]
struct OwnerIds {
    organization: Option<i64>,
    team: Option<i64>,
    user: Option<i64>,
}

impl Books<'_> {
    /// Makes an account. One that was deleted is given back, with its balances: remaking opens no fresh money.
    pub(super) fn create(&mut self, new: &NewAccount) -> Result<AccountRecord, Failure> {
        check_kind(new)?;
        check_limits(&new.spec.limits)?;
        check_duration(new.spec.budget_duration.as_deref())?;
        let owners = self.owner_ids(&new.spec.owners)?;
        let existing = self.free_account(new)?;
        self.check_alias(new.kind, new.spec.alias.as_deref(), existing)?;
        let now = self.now();
        let account = match existing {
            Some(account) => self.revive(account, new, owners, now)?,
            None => self.insert(new, owners, now)?,
        };
        if let Some(credential) = &new.credential {
            self.add_credential(account, credential, now)?;
        }
        let before = if existing.is_some() { Vec::new() } else { self.counts_of(&new.spec) };
        self.replace_limits(account, &new.spec.limits)?;
        self.count_the_past(account, &before, &self.counts_of(&new.spec), now)?;
        self.record_of(account, now)
    }

    pub(super) fn update(
        &mut self,
        account: &AccountRef,
        change: &AccountChange,
    ) -> Result<AccountRecord, Failure> {
        let account = self.living(account)?;
        let now = self.now();
        let old = self.record_of(account, now)?;
        let before = self.counts_of(&old.spec);
        let spec = changed(old.spec, change);
        check_limits(&spec.limits)?;
        check_duration(spec.budget_duration.as_deref())?;
        if change.alias.is_some() {
            self.check_alias(old.kind, spec.alias.as_deref(), Some(account))?;
        }
        let owners = self.owner_ids(&spec.owners)?;
        self.write_spec(account, &spec, owners, now)?;
        if change.limits.is_some() {
            self.replace_limits(account, &spec.limits)?;
        }
        self.count_the_past(account, &before, &self.counts_of(&spec), now)?;
        self.record_of(account, now)
    }

    /// Deletes accounts, and the keys of what is deleted.
    pub(super) fn delete(&mut self, accounts: &[AccountRef]) -> Result<Vec<AccountRecord>, Failure> {
        let rows: Vec<i64> = accounts.iter().map(|account| self.living(account)).collect::<Result<_, _>>()?;
        let now = self.now();
        let records = rows.iter().map(|row| self.record_of(*row, now)).collect::<Result<_, _>>()?;
        for row in rows {
            self.file
                .prepare_cached(
                    "UPDATE account SET deleted_at = ?2, updated_at = ?2, revision = revision + 1
                     WHERE deleted_at IS NULL AND (account = ?1
                        OR (kind IN ('key', 'team') AND organization = ?1)
                        OR (kind = 'key' AND (team = ?1 OR user = ?1
                            OR team IN (SELECT account FROM account WHERE organization = ?1))))",
                )?
                .execute(params![row, now.unix_ms()])?;
        }
        self.file
            .prepare_cached(
                "UPDATE credential SET revoked_at = ?1 WHERE revoked_at IS NULL
                     AND account IN (SELECT account FROM account WHERE deleted_at = ?1)",
            )?
            .execute([now.unix_ms()])?;
        Ok(records)
    }

    fn record_of(&mut self, account: i64, now: Timestamp) -> Result<AccountRecord, Failure> {
        self.flush()?;
        Ok(records::record(self.file, account, now)?)
    }

    fn living(&self, account: &AccountRef) -> Result<i64, Failure> {
        let found = records::find(self.file, account)?;
        found.ok_or_else(|| StoreError::NotFound(name(account)).into())
    }

    fn owner_ids(&self, owners: &Owners) -> Result<OwnerIds, Failure> {
        let row = |kind, id: &Option<String>| {
            let id = id.as_ref().map(|id| AccountRef::Id(kind, id.clone()));
            id.map(|id| self.living(&id)).transpose()
        };
        Ok(OwnerIds {
            organization: row(AccountKind::Organization, &owners.organization)?,
            team: row(AccountKind::Team, &owners.team)?,
            user: row(AccountKind::User, &owners.user)?,
        })
    }

    /// The deleted account that the new one continues, if there is one.
    fn free_account(&self, new: &NewAccount) -> Result<Option<i64>, Failure> {
        let by_id = self
            .file
            .prepare_cached(
                "SELECT account, deleted_at IS NULL FROM account WHERE kind = ?1 AND scope = '' AND id = ?2",
            )?
            .query_row(params![new.kind.as_str(), new.id], Existing::read)
            .optional()?;
        let by_key = match &new.credential {
            Some(credential) => self.account_of_digest(&credential.digest)?,
            None => None,
        };
        // A key comes before the id of its account: whoever holds it goes on spending from where he was.
        match (by_key, by_id) {
            (Some(found), _) if found.alive => Err(StoreError::Conflict("the key exists".into()).into()),
            (_, Some(found)) if found.alive => {
                Err(StoreError::Conflict(format!("{} {} exists", new.kind, new.id)).into())
            }
            (by_key, by_id) => Ok(by_key.or(by_id).map(|found| found.account)),
        }
    }

    fn account_of_digest(&self, digest: &KeyDigest) -> rusqlite::Result<Option<Existing>> {
        self.file
            .prepare_cached(
                "SELECT a.account, c.revoked_at IS NULL FROM credential c JOIN account a ON a.account = c.account
                 WHERE c.digest = ?1",
            )?
            .query_row([digest.as_bytes()], Existing::read)
            .optional()
    }

    /// A key's alias names one living key.
    fn check_alias(&self, kind: AccountKind, alias: Option<&str>, own: Option<i64>) -> Result<(), Failure> {
        let Some(alias) = alias.filter(|_| kind == AccountKind::Key) else {
            return Ok(());
        };
        match records::find(self.file, &AccountRef::KeyAlias(alias.to_owned()))? {
            Some(other) if Some(other) != own => {
                Err(StoreError::Conflict(format!("a key with the alias {alias} exists")).into())
            }
            _ => Ok(()),
        }
    }

    fn insert(&mut self, new: &NewAccount, owners: OwnerIds, now: Timestamp) -> rusqlite::Result<i64> {
        let account = self
            .file
            .prepare_cached(
                "INSERT INTO account (kind, id, created_by, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)",
            )?
            .insert(params![new.kind.as_str(), new.id, new.created_by, now.unix_ms()])?;
        self.write_spec(account, &new.spec, owners, now)?;
        self.file
            .prepare_cached(r#"INSERT INTO balance (account, "window", window_start) VALUES (?1, ?2, 0)"#)?
            .execute(params![account, Window::Lifetime.to_string()])?;
        Ok(account)
    }

    fn revive(
        &mut self,
        account: i64,
        new: &NewAccount,
        owners: OwnerIds,
        now: Timestamp,
    ) -> rusqlite::Result<i64> {
        self.file
            .prepare_cached(
                "UPDATE account SET deleted_at = NULL, created_by = ?2, created_at = ?3 WHERE account = ?1",
            )?
            .execute(params![account, new.created_by, now.unix_ms()])?;
        self.write_spec(account, &new.spec, owners, now)?;
        Ok(account)
    }

    fn write_spec(
        &self,
        account: i64,
        spec: &AccountSpec,
        owners: OwnerIds,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let tags: Vec<&str> = spec.tags.iter().map(Tag::as_str).collect();
        let forbidden: Vec<&str> = spec.forbidden.iter().map(|extra| extra.as_str()).collect();
        let required_tags: Vec<&str> = spec.required_tags.iter().map(Tag::as_str).collect();
        self.file
            .prepare_cached(
                "UPDATE account SET alias = ?2, organization = ?3, team = ?4, user = ?5, models = ?6, tags = ?7,
                     budget_duration = ?8, blocked = ?9, expires_at = ?10, rpm_limit = ?11, tpm_limit = ?12,
                     metadata = ?13, updated_at = ?14, forbidden = ?15, required_tags = ?16,
                     revision = revision + 1
                 WHERE account = ?1",
            )?
            .execute(params![
                account,
                spec.alias,
                owners.organization,
                owners.team,
                owners.user,
                json_list(&spec.models),
                json_list(&tags),
                spec.budget_duration,
                spec.blocked,
                spec.expires_at.map(Timestamp::unix_ms),
                spec.rpm_limit.map(super::code::signed),
                spec.tpm_limit.map(super::code::signed),
                serde_json::Value::Object(spec.metadata.clone()).to_string(),
                now.unix_ms(),
                json_list(&forbidden),
                json_list(&required_tags),
            ])?;
        Ok(())
    }

    fn add_credential(&self, account: i64, credential: &Credential, now: Timestamp) -> rusqlite::Result<()> {
        self.file
            .prepare_cached(
                "INSERT INTO credential (digest, account, name, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (digest) DO UPDATE
                    SET account = excluded.account, name = excluded.name, created_at = excluded.created_at,
                        revoked_at = NULL",
            )?
            .execute(params![credential.digest.as_bytes(), account, credential.name, now.unix_ms()])?;
        Ok(())
    }

    fn replace_limits(&self, account: i64, limits: &[LimitSpec]) -> rusqlite::Result<()> {
        self.file.prepare_cached("DELETE FROM budget_limit WHERE account = ?1")?.execute([account])?;
        for limit in limits {
            self.file
                .prepare_cached(
                    r#"INSERT INTO budget_limit (account, "window", amount, duration, main, observe)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)"#,
                )?
                .execute(params![
                    account,
                    limit.window.to_string(),
                    limit.amount.get(),
                    limit.duration,
                    limit.main,
                    limit.observe,
                ])?;
        }
        Ok(())
    }

    fn counts_of(&self, spec: &AccountSpec) -> Vec<Count> {
        let count =
            |limit: &LimitSpec| Count { window: limit.window, limit: Some((limit.amount, limit.observe)) };
        let limits: Vec<Count> = spec.limits.iter().map(count).collect();
        counts(&limits, spec.budget_duration.as_deref())
    }
}

impl Existing {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { account: row.get(0)?, alive: row.get(1)? })
    }
}

fn check_kind(new: &NewAccount) -> Result<(), StoreError> {
    match (new.kind, &new.credential) {
        (AccountKind::Key, None) => Err(StoreError::Invalid("a key account needs a key")),
        (AccountKind::Key, Some(_)) => Ok(()),
        (AccountKind::Organization | AccountKind::Team | AccountKind::User, None) => Ok(()),
        (AccountKind::Organization | AccountKind::Team | AccountKind::User, Some(_)) => {
            Err(StoreError::Invalid("only a key account has a key"))
        }
        (AccountKind::Tag | AccountKind::Session | AccountKind::Customer, _) => {
            Err(StoreError::Invalid("accounts of this kind cannot be made"))
        }
    }
}

fn check_limits(limits: &[LimitSpec]) -> Result<(), StoreError> {
    let twice = |(index, limit): (usize, &LimitSpec)| {
        limits.iter().take(index).any(|other| other.window == limit.window)
    };
    if limits.iter().enumerate().any(twice) {
        return Err(StoreError::Invalid("an account has one limit for each window"));
    }
    if limits.iter().filter(|limit| limit.main).count() > 1 {
        return Err(StoreError::Invalid("an account has one main limit"));
    }
    if limits.iter().any(|limit| limit.amount < Nanodollars::ZERO) {
        return Err(StoreError::Invalid("a limit is not negative"));
    }
    Ok(())
}

fn check_duration(duration: Option<&str>) -> Result<(), StoreError> {
    match duration.map(Window::from_duration) {
        Some(Err(_)) => Err(StoreError::Invalid("budget_duration is no duration")),
        _ => Ok(()),
    }
}

fn changed(old: AccountSpec, change: &AccountChange) -> AccountSpec {
    fn or<T: Clone>(change: &Option<T>, old: T) -> T {
        change.clone().unwrap_or(old)
    }
    AccountSpec {
        alias: or(&change.alias, old.alias),
        owners: or(&change.owners, old.owners),
        models: or(&change.models, old.models),
        limits: or(&change.limits, old.limits),
        budget_duration: or(&change.budget_duration, old.budget_duration),
        blocked: or(&change.blocked, old.blocked),
        tags: or(&change.tags, old.tags),
        forbidden: or(&change.forbidden, old.forbidden),
        required_tags: or(&change.required_tags, old.required_tags),
        expires_at: or(&change.expires_at, old.expires_at),
        rpm_limit: or(&change.rpm_limit, old.rpm_limit),
        tpm_limit: or(&change.tpm_limit, old.tpm_limit),
        metadata: or(&change.metadata, old.metadata),
    }
}

fn name(account: &AccountRef) -> String {
    match account {
        AccountRef::Id(kind, id) => format!("{kind} {id}"),
        AccountRef::Key(_) => "the key".to_owned(),
        AccountRef::KeyAlias(alias) => format!("a key with the alias {alias}"),
    }
}
