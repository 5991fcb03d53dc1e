//! `/team/*`.

use super::auth::Admin;
use super::error::ApiError;
use super::fields::{self, Fields};
use super::query::Params;
use super::render::{KeyView, TeamView};
use super::terms::Terms;
use super::{App, random};
use crate::store::{AccountChange, AccountRef, Owners, Store};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use tollgate_domain::account::AccountKind;

#[derive(Serialize)]
pub(crate) struct UpdatedTeam {
    team_id: String,
    data: TeamView,
}

#[derive(Serialize)]
pub(crate) struct DeletedTeams {
    deleted_teams: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct TeamInfo {
    team_id: String,
    team_info: TeamView,
    keys: Vec<KeyView>,
    team_memberships: Vec<Value>,
}

/// `POST /team/new`
pub(crate) async fn new<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<TeamView>, ApiError> {
    let id = new_id(&mut fields, "team_id")?;
    let terms = Terms::read(fields, AccountKind::Team)?;
    app.check_organization(&terms).await?;
    terms.check_models(app.store.prices().catalogue())?;
    let record = app.create(AccountKind::Team, id, terms.into_spec(app.clock.now())?).await?;
    Ok(Json(TeamView::from(&record)))
}

/// `POST /team/update`
pub(crate) async fn update<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<UpdatedTeam>, ApiError> {
    let id = fields.required("team_id", fields::text)?;
    let terms = Terms::read(fields, AccountKind::Team)?;
    app.check_organization(&terms).await?;
    terms.check_models(app.store.prices().catalogue())?;
    let _turn = app.updates.lock().await;
    let record = app.account(AccountKind::Team, "team_id", &id).await?;
    let change = terms.into_change(&record, app.clock.now())?;
    let record = app.store.update(AccountRef::Id(AccountKind::Team, id), change).await?;
    let answer = UpdatedTeam { team_id: record.id.clone(), data: TeamView::from(&record) };
    Ok(Json(answer))
}

/// `POST /team/delete`: the team's keys go with it.
pub(crate) async fn delete<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<DeletedTeams>, ApiError> {
    let mut ids = fields.required("team_ids", fields::texts)?;
    fields.finish()?;
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    if ids.is_empty() {
        return Err(ApiError::field("team_ids", "must name a team"));
    }
    for id in &ids {
        app.account(AccountKind::Team, "team_ids", id).await?;
    }
    let accounts = ids.iter().map(|id| AccountRef::Id(AccountKind::Team, id.clone())).collect();
    app.store.delete(accounts).await?;
    Ok(Json(DeletedTeams { deleted_teams: ids }))
}

/// `POST /team/block`
pub(crate) async fn block<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    fields: Fields,
) -> Result<Json<TeamView>, ApiError> {
    app.set_team_blocked(fields, true).await
}

/// `POST /team/unblock`
pub(crate) async fn unblock<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    fields: Fields,
) -> Result<Json<TeamView>, ApiError> {
    app.set_team_blocked(fields, false).await
}

/// `GET /team/info`
pub(crate) async fn info<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<TeamInfo>, ApiError> {
    let id = params.required("team_id")?;
    params.finish()?;
    let record = app.account(AccountKind::Team, "team_id", &id).await?;
    let owners = Owners { team: Some(id), ..Owners::default() };
    let keys = app.accounts(AccountKind::Key, owners).await?;
    Ok(Json(TeamInfo {
        team_id: record.id.clone(),
        team_info: TeamView::from(&record),
        keys: app.key_views(&keys).await?,
        team_memberships: Vec::new(),
    }))
}

/// `GET /team/list`
pub(crate) async fn list<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<Vec<TeamView>>, ApiError> {
    let owners = Owners { organization: params.text("organization_id"), ..Owners::default() };
    params.finish()?;
    let teams = app.accounts(AccountKind::Team, owners).await?;
    Ok(Json(teams.iter().map(TeamView::from).collect()))
}

/// The id that the caller wants for a new account, or a random one.
pub(crate) fn new_id(fields: &mut Fields, name: &str) -> Result<String, ApiError> {
    match fields.optional(name, fields::text)? {
        Some(id) if !id.trim().is_empty() => Ok(id),
        _ => random::id(),
    }
}

impl<S: Store> App<S> {
    /// Refuses an organization that does not exist.
    pub(super) async fn check_organization(&self, terms: &Terms) -> Result<(), ApiError> {
        if let Some(Some(id)) = &terms.organization {
            self.account(AccountKind::Organization, "organization_id", id).await?;
        }
        Ok(())
    }

    async fn set_team_blocked(&self, mut fields: Fields, blocked: bool) -> Result<Json<TeamView>, ApiError> {
        let id = fields.required("team_id", fields::text)?;
        fields.finish()?;
        self.account(AccountKind::Team, "team_id", &id).await?;
        let change = AccountChange { blocked: Some(blocked), ..AccountChange::default() };
        let record = self.store.update(AccountRef::Id(AccountKind::Team, id), change).await?;
        Ok(Json(TeamView::from(&record)))
    }
}
