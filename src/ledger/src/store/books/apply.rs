//! Accounts as an operator wants them. It says the whole account each time, so what is there already must be told from what is not:
//! applying the same again writes nothing.

use super::accounts::organization_of_team;
use super::code::{Failure, digest, maybe_instant, unsigned};
use super::memory::{Books, Ground};
use super::records;
use crate::store::sql::{self, Row, Sql, values};
use crate::store::{
    AccountChange, AccountName, AccountRef, AccountSpec, Applied, Credential, DesiredAccount,
    DesiredCredential, Manager, NewAccount, Refused, StoreError, TagScope,
};
use std::collections::BTreeSet;
use tollgate_domain::account::AccountKind;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::session::SessionPattern;
use tollgate_domain::time::Timestamp;

/// An account as its row says.
struct Current {
    account: i64,
    alive: bool,
    revision: u64,
    manager: Manager,
}

impl Current {
    fn find(db: &dyn Sql, name: &AccountName) -> sql::Result<Option<Self>> {
        let rows = db.query(
            "SELECT account, deleted_at, revision, managed_by, owner_scope FROM account
             WHERE kind = $1 AND scope = $2 AND id = $3",
            &values![name.kind.as_str(), &name.scope, &name.id],
        )?;
        let Some(row) = rows.first() else { return Ok(None) };
        let manager = Manager { name: row.text(3)?.to_owned(), scope: row.text(4)?.to_owned() };
        let revision = unsigned(row.int(2)?)?;
        Ok(Some(Self { account: row.int(0)?, alive: row.is_null(1), revision, manager }))
    }

    /// Whether it is what it should be.
    fn is(
        &self,
        db: &dyn Sql,
        ground: &Ground,
        desired: &DesiredAccount,
        now: Timestamp,
    ) -> sql::Result<bool> {
        if !self.alive || self.manager != desired.manager {
            return Ok(false);
        }
        let record = records::record(db, ground, self.account, now)?;
        let mut wanted = desired.spec.clone();
        wanted.blocked = desired.blocked.unwrap_or(record.spec.blocked);
        wanted.budget_duration = None;
        if let Some(team) = &wanted.owners.team
            && let Some((_, theirs)) = organization_of_team(db, team)?
        {
            // A key in a team has none of its own; another one is refused when it is applied.
            wanted.owners.organization.take_if(|own| *own == theirs);
        }
        wanted.metadata.clone_from(&record.spec.metadata);
        let present = credentials(db, self.account)?;
        let present = living(&present, now);
        let is_open = match desired.keeps_credentials() {
            true => !present.is_empty(),
            false => living(&desired.credentials, now) == present,
        };
        Ok(sorted(wanted) == sorted(record.spec) && is_open)
    }
}

/// The order of limits and rates means nothing.
fn sorted(mut spec: AccountSpec) -> AccountSpec {
    spec.limits.sort_by_key(|limit| (limit.window, limit.model.clone(), limit.soft));
    spec.rates.sort_by_key(|rate| (rate.rate.kind, rate.model.clone()));
    spec
}

/// Those that count, in one order.
fn living(all: &[DesiredCredential], now: Timestamp) -> Vec<&DesiredCredential> {
    let mut living: Vec<_> = all.iter().filter(|one| one.expires_at.is_none_or(|at| at > now)).collect();
    living.sort_by_key(|one| one.credential.digest);
    living
}

fn credentials(db: &dyn Sql, account: i64) -> sql::Result<Vec<DesiredCredential>> {
    let rows =
        db.query("SELECT digest, name, revoked_at FROM credential WHERE account = $1", &values![account])?;
    rows.iter()
        .map(|row| {
            let credential = Credential { digest: digest(row, 0)?, name: row.text(1)?.to_owned() };
            Ok(DesiredCredential { credential, expires_at: maybe_instant(row, 2)? })
        })
        .collect()
}

/// Of a key, the credentials that work; of every other kind, none.
pub(super) fn living_credentials(
    db: &dyn Sql,
    kind: AccountKind,
    account: i64,
    now: Timestamp,
) -> sql::Result<Vec<DesiredCredential>> {
    if kind != AccountKind::Key {
        return Ok(Vec::new());
    }
    let all = credentials(db, account)?;
    Ok(living(&all, now).into_iter().cloned().collect())
}

/// The revision of an account that is what it should be. Only reads, because that is so nearly always.
pub(super) fn unchanged(
    db: &dyn Sql,
    ground: &Ground,
    desired: &DesiredAccount,
    now: Timestamp,
) -> sql::Result<Option<u64>> {
    let Some(current) = Current::find(db, &desired.name)? else { return Ok(None) };
    Ok(current.is(db, ground, desired, now)?.then_some(current.revision))
}

fn conflict(field: &str, why: String) -> Refused {
    Refused { field: field.to_owned(), error: StoreError::Conflict(why) }
}

fn managed(name: &str, manager: &Manager) -> StoreError {
    let Manager { name: by, scope } = manager;
    StoreError::Managed(if scope.is_empty() {
        format!("{name} is managed by {by}: change it there")
    } else {
        format!("{name} is managed by {by} ({scope}): change it there")
    })
}

/// Refuses an account that somebody else than the HTTP API manages: kind, id, who and for whom, alias.
pub(super) fn check_manager(row: &Row) -> Result<(), Failure> {
    let manager = Manager { name: row.text(2)?.to_owned(), scope: row.text(3)?.to_owned() };
    if manager.name == Manager::API {
        return Ok(());
    }
    let called = row.maybe_text(4)?.unwrap_or(row.text(1)?);
    Err(managed(&format!("{} {called}", row.text(0)?), &manager).into())
}

fn managed_by_another(name: &AccountName, manager: &Manager) -> Refused {
    Refused { field: "name".to_owned(), error: managed(&format!("{} {}", name.kind, name.id), manager) }
}

fn reference(name: &AccountName) -> AccountRef {
    match name.kind {
        AccountKind::Tag => {
            AccountRef::Tag { scope: TagScope::from(name.scope.as_str()), tag: name.id.clone() }
        }
        kind => AccountRef::Id(kind, name.id.clone()),
    }
}

/// Sessions that have a cap now, and whose cap would be gone, whatever the amounts are.
fn uncapped(present: &AccountSpec, desired: &AccountSpec) -> Option<String> {
    if desired.session_limit.is_some() {
        return None;
    }
    if present.session_limit.is_some() {
        return Some(SessionPattern::every().to_string());
    }
    let kept = |pattern: &SessionPattern| desired.session_limits.iter().any(|(other, _)| other == pattern);
    present.session_limits.iter().find(|(pattern, _)| !kept(pattern)).map(|(pattern, _)| pattern.to_string())
}

impl Books<'_> {
    /// Makes an account what it should be. What refuses it is found before anything is written.
    pub(super) fn apply_account(
        &mut self,
        desired: &DesiredAccount,
    ) -> Result<Result<(Applied, u64), Refused>, Failure> {
        if desired.name.kind == AccountKind::Tag || desired.spec.binds_tags() {
            self.lock_tags()?;
        }
        let current = self.locked(&desired.name)?;
        let now = self.now();
        if let Some(refused) = self.refusal(desired, current.as_ref(), now)? {
            return Ok(Err(refused));
        }
        let applied = match &current {
            Some(current) if current.is(self.db, self.ground, desired, now)? => {
                return Ok(Ok((Applied::Unchanged, current.revision)));
            }
            Some(current) if current.alive => {
                self.update(&reference(&desired.name), &change(desired))?;
                Applied::Changed
            }
            _ => {
                self.create_in(&desired.name.scope, &new(desired))?;
                Applied::Created
            }
        };
        let Some(current) = Current::find(self.db, &desired.name)? else {
            return Err(super::code::corrupt("account").into());
        };
        self.db.execute(
            "UPDATE account SET managed_by = $1, owner_scope = $2 WHERE account = $3",
            &values![&desired.manager.name, &desired.manager.scope, current.account],
        )?;
        if !desired.keeps_credentials() {
            self.set_credentials(current.account, &desired.credentials, now)?;
        }
        Ok(Ok((applied, current.revision)))
    }

    /// Deletes an account for whoever manages it.
    pub(super) fn remove_account(
        &mut self,
        name: &AccountName,
        manager: &Manager,
    ) -> Result<Result<bool, Refused>, Failure> {
        if name.kind == AccountKind::Tag {
            self.lock_tags()?;
        }
        let Some(current) = self.locked(name)?.filter(|current| current.alive) else {
            return Ok(Ok(false));
        };
        if current.manager != *manager {
            return Ok(Err(managed_by_another(name, &current.manager)));
        }
        self.delete(&[reference(name)], false)?;
        Ok(Ok(true))
    }

    /// Refuses to let the HTTP API change what somebody else manages. To block an account, and to let it go again, is for anybody: it
    /// is no part of what was specified.
    pub(super) fn check_unmanaged(
        &mut self,
        account: &AccountRef,
        change: &AccountChange,
    ) -> Result<(), Failure> {
        let only_blocks = change.blocked.is_some()
            && AccountChange { blocked: change.blocked, ..AccountChange::default() } == *change;
        let now = self.now();
        match records::find(self.db, account, now)? {
            Some(row) if !only_blocks => {
                self.lock(&BTreeSet::from([row]))?;
                let account = self.db.query(
                    "SELECT kind, id, managed_by, owner_scope, alias FROM account WHERE account = $1",
                    &values![row],
                )?;
                Ok(account.iter().try_for_each(check_manager)?)
            }
            _ => Ok(()),
        }
    }

    /// The account, once its lock is taken.
    fn locked(&mut self, name: &AccountName) -> Result<Option<Current>, Failure> {
        let found = Current::find(self.db, name)?;
        let locked = match found {
            Some(found) => {
                self.lock(&BTreeSet::from([found.account]))?;
                Current::find(self.db, name)?
            }
            None => None,
        };
        self.observe_clock()?;
        Ok(locked)
    }

    fn refusal(
        &self,
        desired: &DesiredAccount,
        current: Option<&Current>,
        now: Timestamp,
    ) -> Result<Option<Refused>, Failure> {
        if let Some(current) = current.filter(|current| current.alive && current.manager != desired.manager) {
            let free = current.manager.name == Manager::API && desired.adopt;
            if !free {
                return Ok(Some(managed_by_another(&desired.name, &current.manager)));
            }
            let present = records::record(self.db, self.ground, current.account, now)?;
            if let Some(uncapped) = uncapped(&present.spec, &desired.spec) {
                let why = format!(
                    "{} {} caps sessions ({uncapped}), and what takes it over does not: write a Budget on these sessions, or take \
                     max_session_budget and session_budgets away",
                    desired.name.kind, desired.name.id
                );
                return Ok(Some(conflict("session_limits", why)));
            }
        }
        if desired.adopt && current.is_none() {
            let error = StoreError::NotFound(format!("{} {}", desired.name.kind, desired.name.id));
            return Ok(Some(Refused { field: "name".to_owned(), error }));
        }
        let owners = &desired.spec.owners;
        let organization = if desired.name.kind == AccountKind::Tag { "name.scope" } else { "organization" };
        for (field, kind, id) in [
            (organization, AccountKind::Organization, &owners.organization),
            ("team", AccountKind::Team, &owners.team),
            ("user", AccountKind::User, &owners.user),
        ] {
            let Some(id) = id else { continue };
            if records::find(self.db, &AccountRef::Id(kind, id.clone()), now)?.is_none() {
                let error = StoreError::NotFound(format!("{kind} {id}"));
                return Ok(Some(Refused { field: field.to_owned(), error }));
            }
        }
        let own = current.map(|current| current.account);
        if let Some(alias) = desired.spec.alias.as_ref().filter(|_| desired.name.kind == AccountKind::Key) {
            let other = records::find(self.db, &AccountRef::KeyAlias(alias.clone()), now)?;
            if other.is_some_and(|other| Some(other) != own) {
                return Ok(Some(conflict("alias", format!("a key with the alias {alias} exists"))));
            }
        }
        for (index, one) in desired.credentials.iter().enumerate() {
            let rows = self.db.query(
                "SELECT a.account, a.id FROM credential c JOIN account a ON a.account = c.account
                 WHERE c.digest = $1",
                &values![one.credential.digest.as_bytes()],
            )?;
            if let Some(row) = rows.first()
                && Some(row.int(0)?) != own
            {
                let why = format!("the key belongs to key {}", row.text(1)?);
                return Ok(Some(conflict(&format!("credentials[{index}].digest"), why)));
            }
        }
        if desired.keeps_credentials() && !self.is_open(current, now)? {
            let error = StoreError::NotFound(format!("a credential of key {} that works", desired.name.id));
            return Ok(Some(Refused { field: "credentials".to_owned(), error }));
        }
        Ok(None)
    }

    /// Whether a key has a credential that works.
    fn is_open(&self, key: Option<&Current>, now: Timestamp) -> Result<bool, Failure> {
        let Some(key) = key.filter(|key| key.alive) else { return Ok(false) };
        Ok(!living_credentials(self.db, AccountKind::Key, key.account, now)?.is_empty())
    }

    /// Lets these credentials count, and no others.
    fn set_credentials(
        &self,
        account: i64,
        desired: &[DesiredCredential],
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.db.execute(
            "UPDATE credential SET revoked_at = $1 WHERE account = $2 AND (revoked_at IS NULL OR revoked_at > $3)",
            &values![now.unix_ms(), account, now.unix_ms()],
        )?;
        for DesiredCredential { credential, expires_at } in desired {
            let written = self.db.execute(
                "INSERT INTO credential (digest, account, name, created_at, revoked_at) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (digest) DO UPDATE SET name = excluded.name, revoked_at = excluded.revoked_at
                     WHERE credential.account = excluded.account",
                &values![
                    credential.digest.as_bytes(),
                    account,
                    &credential.name,
                    now.unix_ms(),
                    expires_at.map(Timestamp::unix_ms),
                ],
            )?;
            if written == 0 {
                return Err(StoreError::Conflict("a key belongs to another account".into()).into());
            }
        }
        Ok(())
    }
}

fn change(desired: &DesiredAccount) -> AccountChange {
    let spec = desired.spec.clone();
    AccountChange {
        alias: Some(spec.alias),
        owners: Some(spec.owners),
        models: Some(spec.models),
        limits: Some(spec.limits),
        budget_duration: Some(None),
        blocked: desired.blocked,
        tags: Some(spec.tags),
        forbidden: Some(spec.forbidden),
        required_tags: Some(spec.required_tags),
        expires_at: Some(spec.expires_at),
        rates: Some(spec.rates),
        session_limit: Some(spec.session_limit),
        session_limits: Some(spec.session_limits),
        client_tags_bind: Some(spec.client_tags_bind),
        metadata: None,
    }
}

fn new(desired: &DesiredAccount) -> NewAccount {
    NewAccount {
        kind: desired.name.kind,
        id: desired.name.id.clone(),
        spec: AccountSpec { blocked: desired.blocked.unwrap_or(false), ..desired.spec.clone() },
        credential: desired.credentials.first().map(|one| one.credential.clone()),
        created_by: desired.manager.name.clone(),
    }
}

/// Whether nothing is left on one of these limits.
pub(super) fn is_exhausted(record: &crate::store::AccountRecord, observe_all: bool) -> bool {
    let spent = |limit: &crate::store::LimitRecord| {
        let spec = &limit.spec;
        let refuses = !observe_all && !spec.observe && !spec.soft && spec.model.is_none();
        refuses && limit.posted >= spec.amount.max(Nanodollars::ZERO)
    };
    record.limits.iter().any(spent)
}
