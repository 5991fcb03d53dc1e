//! `/user/*`.

use super::App;
use super::auth::Admin;
use super::error::ApiError;
use super::fields::{self, Fields};
use super::key::MadeKey;
use super::query::Params;
use super::render::{KeyView, TeamView, UserView};
use super::team::new_id;
use super::terms::Terms;
use crate::store::{AccountRef, Owners, Store};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use tollgate_domain::account::AccountKind;

/// LiteLLM's roles. Kept and shown: here only the master key administers.
const ROLES: [&str; 7] = [
    "proxy_admin",
    "proxy_admin_viewer",
    "org_admin",
    "internal_user",
    "internal_user_viewer",
    "team",
    "customer",
];

/// What `/user/new` says of the key that comes with the user, not of the user.
const OF_THE_KEY: [&str; 3] = ["key_alias", "duration", "team_id"];

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum NewUser {
    WithKey(Box<UserWithKey>),
    Alone(Box<UserView>),
}

/// A user and a first key. Where both have a field of a name, it is the user's.
#[derive(Serialize)]
pub(crate) struct UserWithKey {
    key: String,
    token: Option<String>,
    token_id: Option<String>,
    key_name: Option<String>,
    key_alias: Option<String>,
    team_id: Option<String>,
    expires: Option<String>,
    #[serde(flatten)]
    user: UserView,
}

#[derive(Serialize)]
pub(crate) struct UserInfo {
    user_id: String,
    user_info: UserView,
    keys: Vec<KeyView>,
    teams: Vec<TeamView>,
}

/// `POST /user/new`
pub(crate) async fn new<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<NewUser>, ApiError> {
    let id = new_id(&mut fields, "user_id")?;
    let role = fields.optional("user_role", role)?;
    let with_key = fields.optional("auto_create_key", fields::flag)?.unwrap_or(true);
    let of_the_key = if with_key { fields.part(&OF_THE_KEY) } else { Fields::default() };
    let mut key_terms = Terms::read(of_the_key, AccountKind::Key)?;
    key_terms.user = Some(Some(id.clone()));
    let mut terms = Terms::read(fields, AccountKind::User)?;
    if let Some(role) = role {
        terms.keep("user_role", Value::String(role));
    }
    app.check_organization(&terms).await?;
    terms.check_models(app.store.prices().catalogue())?;
    let record = app.create(AccountKind::User, id.clone(), terms.into_spec(app.clock.now())?).await?;
    let user = UserView::from(&record);
    let answer = if with_key {
        match app.make_key(None, key_terms).await {
            Ok(key) => NewUser::WithKey(Box::new(UserWithKey::new(key, user))),
            Err(why) => {
                // Both or none: the same call, mended, must not meet a user that it did not get.
                app.store.delete(vec![AccountRef::Id(AccountKind::User, id)]).await?;
                return Err(why);
            }
        }
    } else {
        NewUser::Alone(Box::new(user))
    };
    Ok(Json(answer))
}

/// `GET /user/info`
pub(crate) async fn info<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<UserInfo>, ApiError> {
    let id = params.required("user_id")?;
    params.finish()?;
    let record = app.account(AccountKind::User, "user_id", &id).await?;
    let keys = app.accounts(AccountKind::Key, Owners { user: Some(id), ..Owners::default() }).await?;
    let team_ids: BTreeSet<_> = keys.iter().filter_map(|key| key.spec.owners.team.clone()).collect();
    let mut teams = Vec::new();
    for team in team_ids {
        let team = app.store.account(AccountRef::Id(AccountKind::Team, team)).await?;
        teams.extend(team.as_ref().map(TeamView::from));
    }
    Ok(Json(UserInfo {
        user_id: record.id.clone(),
        user_info: UserView::from(&record),
        keys: app.key_views(&keys).await?,
        teams,
    }))
}

fn role(name: &str, raw: &serde_json::value::RawValue) -> Result<String, ApiError> {
    let role = fields::text(name, raw)?;
    if ROLES.contains(&role.as_str()) {
        Ok(role)
    } else {
        Err(ApiError::field(name, format!("must be one of {}", ROLES.join(", "))))
    }
}

impl UserWithKey {
    fn new(made: MadeKey, user: UserView) -> Self {
        let view = made.view;
        Self {
            key: made.key,
            token: view.token,
            token_id: made.token_id,
            key_name: view.key_name,
            key_alias: view.key_alias,
            team_id: view.team_id,
            expires: view.expires,
            user,
        }
    }
}
