//! Making, changing and deleting accounts.

use super::balance::NewBalance;
use super::code::{Failure, corrupt, json_list, parsed, session_limits_json, signed, unsigned};
use super::keys::Count;
use super::memory::Books;
use super::meta;
use super::past::is_lifetime;
use super::records;
use crate::store::sql::{self, Row, Sql, SqlError, SqlErrorKind, values};
use crate::store::{
    AccountChange, AccountRecord, AccountRef, AccountSpec, Credential, LimitSpec, NewAccount, Owners,
    RateSpec, StoreError, TagScope,
};
use std::collections::BTreeSet;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::{KeyDigest, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::Rate;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// The last number that a rate of a file was given, in `meta`. Unset: none since this was kept.
const LAST_RATE: &str = "last_rate";

/// An account as a row.
#[derive(Clone, Copy, Debug)]
struct Existing {
    account: i64,
    alive: bool,
}

/// Owners as rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OwnerIds {
    organization: Option<i64>,
    team: Option<i64>,
    user: Option<i64>,
}

impl Books<'_> {
    /// Makes an account.
    pub(super) fn create(&mut self, new: &NewAccount) -> Result<AccountRecord, Failure> {
        let organization = new.spec.owners.organization.clone();
        let scope = TagScope::of_organization(organization.filter(|_| new.kind == AccountKind::Tag));
        self.create_in(&scope.to_string(), new)
    }

    /// Makes an account within a scope. One that was deleted is given back, with its balances: remaking opens no fresh money.
    pub(super) fn create_in(&mut self, scope: &str, new: &NewAccount) -> Result<AccountRecord, Failure> {
        check_kind(new)?;
        check_limits(&new.spec.limits)?;
        check_rates(&new.spec.rates)?;
        check_duration(new.spec.budget_duration.as_deref())?;
        if new.kind == AccountKind::Tag || new.spec.binds_tags() {
            self.lock_tags()?;
        }
        let owners = self.owner_ids(&new.spec.owners)?;
        let existing = self.free_account(scope, new)?;
        let mut locked: BTreeSet<i64> = owners.rows().chain(existing).collect();
        if new.kind == AccountKind::Tag {
            locked.extend(self.payers_of_tag(&new.id, owners.organization)?);
        }
        self.lock(&locked)?;
        self.observe_clock()?;
        // What others did before the locks were ours counts.
        let owners = self.still(owners, &new.spec.owners)?;
        if self.free_account(scope, new)? != existing {
            return Err(contended());
        }
        let owners = self.within_team(new.kind, owners, &new.spec.owners)?;
        self.check_alias(new.kind, new.spec.alias.as_deref(), existing)?;
        let now = self.now();
        let account = match existing {
            Some(account) => self.revive(account, new, owners, now)?,
            None => self.insert(scope, new, owners, now)?,
        };
        if let Some(credential) = &new.credential {
            self.add_credential(account, credential, now)?;
        }
        self.replace_limits(account, &new.spec.limits)?;
        self.replace_rates(account, &new.spec.rates, now)?;
        self.renew(account)?;
        if new.kind == AccountKind::Tag {
            self.renew_tags()?;
        }
        // Nobody charged a new account before, but a tag can have been on requests for long, and while its account was gone.
        let counts = self.charged(account)?.counts.clone();
        let known: Vec<Count> = match (existing, new.kind) {
            (_, AccountKind::Tag) => Vec::new(),
            (None, _) => counts,
            (Some(_), _) => counts.into_iter().filter(is_lifetime).collect(),
        };
        self.count_the_past(account, &known, now)?;
        self.record_crossed(account, now)?;
        self.record_of(account, now)
    }

    pub(super) fn update(
        &mut self,
        account: &AccountRef,
        change: &AccountChange,
    ) -> Result<AccountRecord, Failure> {
        let reference = account;
        let account = self.living(reference)?;
        let owners = change.owners.as_ref().map(|owners| self.owner_ids(owners)).transpose()?;
        let keys = if owners.is_some() { self.keys_with_organization(account)? } else { BTreeSet::new() };
        let locked = owners.iter().flat_map(OwnerIds::rows).chain(keys.iter().copied()).chain([account]);
        self.lock(&locked.collect())?;
        self.observe_clock()?;
        if self.living(reference)? != account {
            return Err(contended());
        }
        if owners.is_some() && self.keys_with_organization(account)? != keys {
            return Err(contended());
        }
        let now = self.now();
        let old = self.record_of(account, now)?;
        let before = self.charged(account)?.counts.clone();
        let spec = changed(old.spec, change);
        check_limits(&spec.limits)?;
        check_rates(&spec.rates)?;
        check_duration(spec.budget_duration.as_deref())?;
        if change.alias.is_some() {
            self.check_alias(old.kind, spec.alias.as_deref(), Some(account))?;
        }
        let mut owners = self.owner_ids(&spec.owners)?;
        if change.owners.is_some() {
            owners = self.within_team(old.kind, owners, &spec.owners)?;
            if owners.organization.is_some() {
                self.take_over(&keys, now)?;
            }
        }
        self.write_spec(account, &spec, owners, now)?;
        if change.limits.is_some() {
            self.replace_limits(account, &spec.limits)?;
        }
        if change.rates.is_some() {
            self.replace_rates(account, &spec.rates, now)?;
        }
        self.renew(account)?;
        self.count_the_past(account, &before, now)?;
        self.record_crossed(account, now)?;
        self.record_of(account, now)
    }

    /// The owners, if they are still the same.
    fn still(&self, owners: OwnerIds, named: &Owners) -> Result<OwnerIds, Failure> {
        if self.owner_ids(named)? == owners { Ok(owners) } else { Err(contended()) }
    }

    /// Forgets what is remembered of an account that has changed.
    fn renew(&mut self, account: i64) -> sql::Result<()> {
        self.flush()?;
        self.memory.forget_account(account);
        Ok(())
    }

    pub(super) fn record_of(&mut self, account: i64, now: Timestamp) -> Result<AccountRecord, Failure> {
        self.flush()?;
        Ok(records::record(self.db, self.ground, account, now)?)
    }

    pub(super) fn living(&self, account: &AccountRef) -> Result<i64, Failure> {
        let found = records::find(self.db, account, self.now())?;
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

    /// The owners of an account as its row names them: a key has the organization of its team, if that has one, and no other.
    fn within_team(&self, kind: AccountKind, owners: OwnerIds, named: &Owners) -> Result<OwnerIds, Failure> {
        let Some(team) = named.team.as_deref().filter(|_| kind == AccountKind::Key) else {
            return Ok(owners);
        };
        let Some((row, theirs)) = organization_of_team(self.db, team)? else { return Ok(owners) };
        match (owners.organization, &named.organization) {
            (Some(own), Some(name)) if own != row => Err(StoreError::foreign(name, team, &theirs).into()),
            _ => Ok(OwnerIds { organization: None, ..owners }),
        }
    }

    /// The keys of a team that have an organization of their own, because the team had none.
    fn keys_with_organization(&self, team: i64) -> sql::Result<BTreeSet<i64>> {
        let rows = self.db.query(
            "SELECT account FROM account WHERE team = $1 AND kind = 'key' AND organization IS NOT NULL",
            &values![team],
        )?;
        rows.iter().map(|row| row.int(0)).collect()
    }

    /// Their team has an organization now, which is theirs from the next hold on.
    fn take_over(&mut self, keys: &BTreeSet<i64>, now: Timestamp) -> sql::Result<()> {
        for key in keys {
            self.db.execute(
                "UPDATE account SET organization = NULL, updated_at = $1, revision = revision + 1 WHERE account = $2",
                &values![now.unix_ms(), *key],
            )?;
            self.renew(*key)?;
        }
        Ok(())
    }

    /// The deleted account that the new one continues, if there is one.
    fn free_account(&self, scope: &str, new: &NewAccount) -> Result<Option<i64>, Failure> {
        let by_id = self.db.query(
            "SELECT account, deleted_at FROM account WHERE kind = $1 AND scope = $2 AND id = $3",
            &values![new.kind.as_str(), scope, &new.id],
        )?;
        let by_id = by_id.first().map(Existing::read).transpose()?;
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

    fn account_of_digest(&self, digest: &KeyDigest) -> sql::Result<Option<Existing>> {
        let rows = self.db.query(
            "SELECT a.account, a.deleted_at FROM credential c JOIN account a ON a.account = c.account
             WHERE c.digest = $1",
            &values![digest.as_bytes()],
        )?;
        rows.first().map(Existing::read).transpose()
    }

    /// A key's alias names one living key.
    fn check_alias(&self, kind: AccountKind, alias: Option<&str>, own: Option<i64>) -> Result<(), Failure> {
        let Some(alias) = alias.filter(|_| kind == AccountKind::Key) else {
            return Ok(());
        };
        match records::find(self.db, &AccountRef::KeyAlias(alias.to_owned()), self.now())? {
            Some(other) if Some(other) != own => {
                Err(StoreError::Conflict(format!("a key with the alias {alias} exists")).into())
            }
            _ => Ok(()),
        }
    }

    fn insert(
        &mut self,
        scope: &str,
        new: &NewAccount,
        owners: OwnerIds,
        now: Timestamp,
    ) -> Result<i64, Failure> {
        let now_ms = now.unix_ms();
        let rows = self.db.query(
            "INSERT INTO account (kind, scope, id, created_by, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
             RETURNING account",
            &values![new.kind.as_str(), scope, &new.id, &new.created_by, now_ms, now_ms],
        )?;
        let account = rows.first().ok_or_else(|| corrupt("account"))?.int(0)?;
        self.write_spec(account, &new.spec, owners, now)?;
        let lifetime = NewBalance { account, window: Window::Lifetime, model: "", start: Timestamp::new(0) };
        lifetime.insert(self.db)?;
        Ok(account)
    }

    fn revive(
        &mut self,
        account: i64,
        new: &NewAccount,
        owners: OwnerIds,
        now: Timestamp,
    ) -> sql::Result<i64> {
        self.db.execute(
            "UPDATE account SET deleted_at = NULL, created_by = $1, created_at = $2, managed_by = 'api', owner_scope = ''
             WHERE account = $3",
            &values![&new.created_by, now.unix_ms(), account],
        )?;
        self.write_spec(account, &new.spec, owners, now)?;
        Ok(account)
    }

    fn write_spec(
        &self,
        account: i64,
        spec: &AccountSpec,
        owners: OwnerIds,
        now: Timestamp,
    ) -> sql::Result<()> {
        let tags: Vec<&str> = spec.tags.iter().map(Tag::as_str).collect();
        let forbidden: Vec<&str> = spec.forbidden.iter().map(|extra| extra.as_str()).collect();
        let required_tags: Vec<&str> = spec.required_tags.iter().map(Tag::as_str).collect();
        self.db.execute(
            r#"UPDATE account SET alias = $1, organization = $2, team = $3, "user" = $4, models = $5, tags = $6,
                 budget_duration = $7, blocked = $8, expires_at = $9, session_limit = $10, client_tags_bind = $11,
                 metadata = $12, updated_at = $13, forbidden = $14, required_tags = $15, session_limits = $16,
                 revision = revision + 1
             WHERE account = $17"#,
            &values![
                spec.alias.as_deref(),
                owners.organization,
                owners.team,
                owners.user,
                &json_list(&spec.models),
                &json_list(&tags),
                spec.budget_duration.as_deref(),
                spec.blocked,
                spec.expires_at.map(Timestamp::unix_ms),
                spec.session_limit.map(Nanodollars::get),
                spec.client_tags_bind,
                &serde_json::Value::Object(spec.metadata.clone()).to_string(),
                now.unix_ms(),
                &json_list(&forbidden),
                &json_list(&required_tags),
                &session_limits_json(&spec.session_limits),
                account,
            ],
        )?;
        Ok(())
    }

    fn add_credential(&self, account: i64, credential: &Credential, now: Timestamp) -> sql::Result<()> {
        self.db.execute(
            "INSERT INTO credential (digest, account, name, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (digest) DO UPDATE
                SET account = excluded.account, name = excluded.name, created_at = excluded.created_at,
                    revoked_at = NULL",
            &values![credential.digest.as_bytes(), account, &credential.name, now.unix_ms()],
        )?;
        Ok(())
    }

    fn replace_limits(&self, account: i64, limits: &[LimitSpec]) -> sql::Result<()> {
        self.db.execute("DELETE FROM budget_limit WHERE account = $1", &values![account])?;
        for limit in limits {
            let thresholds: Vec<String> = limit.thresholds.iter().map(u16::to_string).collect();
            self.db.execute(
                r#"INSERT INTO budget_limit (account, "window", amount, duration, main, observe, model, soft, thresholds)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"#,
                &values![
                    account,
                    &limit.window.to_string(),
                    limit.amount.get(),
                    limit.duration.as_deref(),
                    limit.main,
                    limit.observe,
                    limit.model.as_deref().unwrap_or_default(),
                    limit.soft,
                    &format!("[{}]", thresholds.join(",")),
                ],
            )?;
        }
        Ok(())
    }

    /// A rate that stays keeps what was counted, whatever its limit is now. A new one begins with nothing: it counts what comes.
    fn replace_rates(&mut self, account: i64, rates: &[RateSpec], now: Timestamp) -> sql::Result<()> {
        self.flush()?;
        let rows = self.db.query(
            "SELECT rate, kind, model, amount, state FROM rate WHERE account = $1 ORDER BY rate",
            &values![account],
        )?;
        let mut known = Vec::new();
        for row in &rows {
            let rate = Rate { kind: parsed("kind of rate", row.text(1)?)?, limit: unsigned(row.int(3)?)? };
            known.push((row.int(0)?, rate, row.text(2)?.to_owned(), row.int(4)?));
        }
        for spec in rates {
            let model = spec.model.as_deref().unwrap_or_default();
            let limit = signed(spec.rate.limit);
            let same = known.iter().position(|(_, rate, of, _)| rate.kind == spec.rate.kind && of == model);
            if let Some((row, before, _, state)) = same.map(|index| known.swap_remove(index)) {
                let state = spec.rate.rescaled(state, before, now);
                self.db.execute(
                    "UPDATE rate SET amount = $1, observe = $2, state = $3 WHERE rate = $4",
                    &values![limit, spec.observe, state, row],
                )?;
            } else if self.db.is_shared() {
                self.db.execute(
                    "INSERT INTO rate (account, kind, model, amount, observe) VALUES ($1, $2, $3, $4, $5)",
                    &values![account, spec.rate.kind.as_str(), model, limit, spec.observe],
                )?;
            } else {
                let number = self.next_rate()?;
                self.db.execute(
                    "INSERT INTO rate (rate, account, kind, model, amount, observe) VALUES ($1, $2, $3, $4, $5, $6)",
                    &values![number, account, spec.rate.kind.as_str(), model, limit, spec.observe],
                )?;
            }
        }
        for (row, ..) in known {
            self.db.execute("DELETE FROM rate WHERE rate = $1", &values![row])?;
        }
        Ok(())
    }

    /// A number that no rate ever had, because holds remember those that are gone. A sequence gives none twice; a file would give the
    /// last one again.
    fn next_rate(&self) -> sql::Result<i64> {
        let rows = self.db.query("SELECT coalesce(max(rate), 0) FROM rate", &[])?;
        let last = rows.first().map_or(Ok(0), |row| row.int(0))?;
        let number = last.max(meta::number(self.db, LAST_RATE)?.unwrap_or(0)).saturating_add(1);
        meta::set(self.db, LAST_RATE, &number.to_be_bytes())?;
        Ok(number)
    }
}

impl OwnerIds {
    fn rows(&self) -> impl Iterator<Item = i64> + use<> {
        [self.organization, self.team, self.user].into_iter().flatten()
    }
}

/// The organization of a team: its row and its id.
pub(super) fn organization_of_team(db: &dyn Sql, team: &str) -> sql::Result<Option<(i64, String)>> {
    let rows = db.query(
        "SELECT o.account, o.id FROM account t JOIN account o ON o.account = t.organization
         WHERE t.kind = 'team' AND t.scope = '' AND t.id = $1",
        &values![team],
    )?;
    rows.first().map(|row| Ok((row.int(0)?, row.text(1)?.to_owned()))).transpose()
}

/// Somebody was faster: the change is made again on what is true now.
pub(super) fn contended() -> Failure {
    SqlError { kind: SqlErrorKind::Contended, why: "an account has changed meanwhile".to_owned() }.into()
}

impl Existing {
    fn read(row: &Row) -> sql::Result<Self> {
        Ok(Self { account: row.int(0)?, alive: row.is_null(1) })
    }
}

fn check_kind(new: &NewAccount) -> Result<(), StoreError> {
    use AccountKind::{Customer, Key, Organization, Session, Tag, Team, User};
    match (new.kind, &new.credential) {
        (Key, None) => Err(StoreError::Invalid("a key account needs a key")),
        (Organization, None) if TagScope::from(new.id.as_str()).into_namespace().is_some() => {
            Err(StoreError::Invalid("such an id of an organization stands for the tags of a namespace"))
        }
        (Key, Some(_)) | (Organization | Team | User | Tag, None) => Ok(()),
        (Organization | Team | User | Tag, Some(_)) => {
            Err(StoreError::Invalid("only a key account has a key"))
        }
        (Session | Customer, _) => Err(StoreError::Invalid("accounts of this kind cannot be made")),
    }
}

/// The most that a threshold can be, in percent.
const THRESHOLD_MAX: u16 = 1_000;

fn check_limits(limits: &[LimitSpec]) -> Result<(), StoreError> {
    let twice = |(index, limit): (usize, &LimitSpec)| {
        let same = |other: &LimitSpec| {
            (other.window, &other.model, other.soft) == (limit.window, &limit.model, limit.soft)
        };
        limits.iter().take(index).any(same)
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
    if limits.iter().flat_map(|limit| &limit.thresholds).any(|percent| !(1..=THRESHOLD_MAX).contains(percent))
    {
        return Err(StoreError::Invalid("a threshold is between 1 and 1,000 percent"));
    }
    Ok(())
}

fn check_rates(rates: &[RateSpec]) -> Result<(), StoreError> {
    let twice = |(index, spec): (usize, &RateSpec)| {
        let same = |other: &RateSpec| (other.rate.kind, &other.model) == (spec.rate.kind, &spec.model);
        rates.iter().take(index).any(same)
    };
    if rates.iter().enumerate().any(twice) {
        return Err(StoreError::Invalid("an account has one rate of each kind for each model"));
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
        rates: or(&change.rates, old.rates),
        session_limit: or(&change.session_limit, old.session_limit),
        session_limits: or(&change.session_limits, old.session_limits),
        client_tags_bind: or(&change.client_tags_bind, old.client_tags_bind),
        metadata: or(&change.metadata, old.metadata),
    }
}

fn name(account: &AccountRef) -> String {
    match account {
        AccountRef::Id(kind, id) => format!("{kind} {id}"),
        AccountRef::Key(_) => "the key".to_owned(),
        AccountRef::KeyAlias(alias) => format!("a key with the alias {alias}"),
        AccountRef::Tag { tag, .. } => format!("tag {tag}"),
    }
}
