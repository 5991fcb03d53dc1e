//! `/key/*`: virtual keys and their accounts.

use super::auth::{Admin, Caller};
use super::error::ApiError;
use super::fields::{self, Fields};
use super::query::Params;
use super::render::{KeyView, token};
use super::terms::Terms;
use super::{ADMIN, App, own_key, random};
use crate::store::{
    AccountChange, AccountFilter, AccountRecord, AccountRef, AccountSpec, Credential, NewAccount, Owners,
    Store, StoreError,
};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::KeyDigest;
use tollgate_domain::key;

/// Keys on one page of `/key/list`: LiteLLM's default and its most.
const PAGE_KEYS_DEFAULT: u64 = 10;
const PAGE_KEYS_MAX: u64 = 100;

/// A key that has just been made: the only answer that holds the key itself.
#[derive(Serialize)]
pub(crate) struct MadeKey {
    pub(super) key: String,
    pub(super) token_id: Option<String>,
    #[serde(flatten)]
    pub(super) view: KeyView,
}

/// A key, named by its hash.
#[derive(Serialize)]
pub(crate) struct NamedKey {
    key: Option<String>,
    #[serde(flatten)]
    view: KeyView,
}

#[derive(Serialize)]
pub(crate) struct KeyInfo {
    key: Option<String>,
    info: KeyView,
}

#[derive(Serialize)]
pub(crate) struct DeletedKeys {
    deleted_keys: Vec<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ListedKeys {
    Hashes(Vec<String>),
    Views(Vec<KeyView>),
}

#[derive(Serialize)]
pub(crate) struct KeyList {
    keys: ListedKeys,
    total_count: u64,
    current_page: u64,
    total_pages: u64,
}

/// `POST /key/generate`
pub(crate) async fn generate<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<MadeKey>, ApiError> {
    let own = fields.optional("key", own_key::read)?;
    let terms = Terms::read(fields, AccountKind::Key)?;
    terms.check_models(app.store.prices().catalogue())?;
    Ok(Json(app.make_key(own, terms).await?))
}

/// `GET /key/info`
pub(crate) async fn info<S: Store>(
    caller: Caller,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<KeyInfo>, ApiError> {
    let asked = params.text("key").map(|text| digest(&text));
    params.finish()?;
    let record = match caller {
        Caller::Admin => {
            let asked = asked.ok_or_else(|| ApiError::field("key", "is missing"))?;
            app.key(AccountRef::Key(asked), "key").await?
        }
        Caller::Key(own) => {
            let itself = own.credential.as_ref().map(|credential| credential.digest);
            if asked.is_some_and(|asked| Some(asked) != itself) {
                return Err(ApiError::forbidden("A virtual key may read about itself only."));
            }
            *own
        }
    };
    Ok(Json(KeyInfo { key: token(&record), info: app.key_view(&record).await? }))
}

/// `POST /key/update`
pub(crate) async fn update<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<NamedKey>, ApiError> {
    let (account, param) = match fields.optional("key", fields::text)? {
        Some(key) => (AccountRef::Key(digest(&key)), "key"),
        None => {
            let alias = fields.optional("key_alias", fields::text)?;
            let alias = alias.ok_or_else(|| ApiError::field("key", "is missing"))?;
            (AccountRef::KeyAlias(alias), "key_alias")
        }
    };
    let terms = Terms::read(fields, AccountKind::Key)?;
    terms.check_models(app.store.prices().catalogue())?;
    let _turn = app.updates.lock().await;
    let record = app.key(account, param).await?;
    let change = terms.into_change(&record, app.clock.now())?;
    if let Some(owners) = &change.owners {
        app.check_owners(owners).await?;
        if let Some(user) = &owners.user {
            app.account(AccountKind::User, "user_id", user).await?;
        }
    }
    let record = app.store.update(AccountRef::Id(AccountKind::Key, record.id), change).await?;
    let answer = NamedKey { key: token(&record), view: app.key_view(&record).await? };
    Ok(Json(answer))
}

/// `POST /key/delete`
pub(crate) async fn delete<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<DeletedKeys>, ApiError> {
    let keys = fields.optional("keys", fields::texts)?.unwrap_or_default();
    let aliases = fields.optional("key_aliases", fields::texts)?.unwrap_or_default();
    fields.finish()?;
    let mut accounts: Vec<AccountRef> = Vec::new();
    let named = keys.iter().map(|key| AccountRef::Key(digest(key)));
    for account in named.chain(aliases.iter().cloned().map(AccountRef::KeyAlias)) {
        if !accounts.contains(&account) {
            accounts.push(account);
        }
    }
    if accounts.is_empty() {
        return Err(ApiError::field("keys", "or key_aliases must name a key"));
    }
    let records = app.store.delete(accounts).await?;
    let deleted_keys = match keys.is_empty() {
        true => aliases,
        // One key may have been named by both.
        false => records.iter().filter_map(token).collect::<BTreeSet<_>>().into_iter().collect(),
    };
    Ok(Json(DeletedKeys { deleted_keys }))
}

/// `POST /key/block`
pub(crate) async fn block<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    fields: Fields,
) -> Result<Json<KeyView>, ApiError> {
    app.set_key_blocked(fields, true).await
}

/// `POST /key/unblock`
pub(crate) async fn unblock<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    fields: Fields,
) -> Result<Json<KeyView>, ApiError> {
    app.set_key_blocked(fields, false).await
}

/// `GET /key/list`
pub(crate) async fn list<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<KeyList>, ApiError> {
    let (current_page, page) = params.page(PAGE_KEYS_DEFAULT, PAGE_KEYS_MAX)?;
    let filter = AccountFilter {
        kind: AccountKind::Key,
        owners: Owners {
            organization: params.text("organization_id"),
            team: params.text("team_id"),
            user: params.text("user_id"),
        },
        alias: params.text("key_alias"),
        digest: params.text("key_hash").map(|text| digest(&text)),
    };
    let whole = params.flag("return_full_object")?;
    if params.flag("include_team_keys")? && filter.owners.user.is_some() {
        return Err(ApiError::field("include_team_keys", "is not served here together with user_id"));
    }
    params.read("sort_by", only("created_at"))?;
    params.read("sort_order", only("asc"))?;
    params.finish()?;
    let (records, total_count) = app.store.accounts(filter, page).await?;
    let keys = match whole {
        true => ListedKeys::Views(app.key_views(&records).await?),
        false => ListedKeys::Hashes(records.iter().filter_map(token).collect()),
    };
    let total_pages = total_count.div_ceil(page.limit);
    Ok(Json(KeyList { keys, total_count, current_page, total_pages }))
}

/// The digest of the key that a text names: by its value, or by its hash.
pub(crate) fn digest(text: &str) -> KeyDigest {
    text.parse().unwrap_or_else(|_| key::digest(text.as_bytes()))
}

fn only(served: &'static str) -> impl Fn(&str) -> Result<(), String> {
    move |text| if text == served { Ok(()) } else { Err(format!("is served as {served} only")) }
}

impl<S: Store> App<S> {
    /// Makes a key, with a secret of its own where the caller brings none.
    pub(super) async fn make_key(&self, own: Option<String>, terms: Terms) -> Result<MadeKey, ApiError> {
        let spec = terms.into_spec(self.clock.now())?;
        if own.as_ref().is_some_and(|own| self.master.matches(own.as_bytes())) {
            return Err(ApiError::field("key", "does not look random: leave it out and one is made"));
        }
        self.check_owners(&spec.owners).await?;
        if let Some(user) = &spec.owners.user {
            self.ensure_user(user).await?;
        }
        let secret = match own {
            Some(own) => own,
            None => random::virtual_key()?.expose().to_owned(),
        };
        let credential = Credential { digest: key::digest(secret.as_bytes()), name: key::masked(&secret) };
        let account = NewAccount {
            kind: AccountKind::Key,
            id: random::key_account_id()?,
            spec,
            credential: Some(credential),
            created_by: ADMIN.to_owned(),
        };
        let record = self.store.create(account).await?;
        Ok(MadeKey { key: secret, token_id: token(&record), view: self.key_view(&record).await? })
    }

    /// Refuses a team or an organization that does not exist, and a team of another organization, before anything is made for the key.
    async fn check_owners(&self, owners: &Owners) -> Result<(), ApiError> {
        if let Some(organization) = &owners.organization {
            self.account(AccountKind::Organization, "organization_id", organization).await?;
        }
        let Some(team) = &owners.team else { return Ok(()) };
        let team = self.account(AccountKind::Team, "team_id", team).await?;
        match (&owners.organization, &team.spec.owners.organization) {
            (Some(own), Some(theirs)) if own != theirs => {
                Err(StoreError::foreign(own, &team.id, theirs).into())
            }
            _ => Ok(()),
        }
    }

    /// Makes the user where there is none yet, as LiteLLM does.
    async fn ensure_user(&self, id: &str) -> Result<(), ApiError> {
        if self.store.account(AccountRef::Id(AccountKind::User, id.to_owned())).await?.is_some() {
            return Ok(());
        }
        let account = NewAccount {
            kind: AccountKind::User,
            id: id.to_owned(),
            spec: AccountSpec::default(),
            credential: None,
            created_by: ADMIN.to_owned(),
        };
        match self.store.create(account).await {
            // Another request made it meanwhile.
            Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    async fn key(&self, account: AccountRef, param: &str) -> Result<AccountRecord, ApiError> {
        self.store.account(account).await?.ok_or_else(|| ApiError::no_such_key(param))
    }

    async fn set_key_blocked(&self, mut fields: Fields, blocked: bool) -> Result<Json<KeyView>, ApiError> {
        let key = fields.required("key", fields::text)?;
        fields.finish()?;
        let change = AccountChange { blocked: Some(blocked), ..AccountChange::default() };
        let updated = self.store.update(AccountRef::Key(digest(&key)), change).await;
        let record = updated.map_err(|why| match why {
            StoreError::NotFound(_) => ApiError::no_such_key("key"),
            why => why.into(),
        })?;
        Ok(Json(self.key_view(&record).await?))
    }

    async fn key_view(&self, record: &AccountRecord) -> Result<KeyView, ApiError> {
        let organization = self.team_organization(record.spec.owners.team.as_deref()).await?;
        Ok(KeyView::new(record, organization))
    }

    /// Keys as answers show them, each with the organization of its team.
    pub(super) async fn key_views(&self, records: &[AccountRecord]) -> Result<Vec<KeyView>, ApiError> {
        let mut organizations: BTreeMap<&str, Option<String>> = BTreeMap::new();
        let mut views = Vec::with_capacity(records.len());
        for record in records {
            let organization = match record.spec.owners.team.as_deref() {
                None => None,
                Some(team) => match organizations.get(team) {
                    Some(organization) => organization.clone(),
                    None => {
                        let organization = self.team_organization(Some(team)).await?;
                        organizations.insert(team, organization.clone());
                        organization
                    }
                },
            };
            views.push(KeyView::new(record, organization));
        }
        Ok(views)
    }

    async fn team_organization(&self, team: Option<&str>) -> Result<Option<String>, ApiError> {
        let Some(team) = team else { return Ok(None) };
        let team = self.store.account(AccountRef::Id(AccountKind::Team, team.to_owned())).await?;
        Ok(team.and_then(|team| team.spec.owners.organization))
    }
}
