//! `/organization/*`.

use super::App;
use super::auth::Admin;
use super::error::ApiError;
use super::fields::{self, Fields};
use super::query::Params;
use super::render::{OrganizationView, TeamView};
use super::team::new_id;
use super::terms::Terms;
use crate::store::{AccountRecord, Owners, Store};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use tollgate_domain::account::AccountKind;

#[derive(Serialize)]
pub(crate) struct OrganizationInfo {
    #[serde(flatten)]
    view: OrganizationView,
    members: Vec<Value>,
    teams: Vec<TeamView>,
}

/// `POST /organization/new`
pub(crate) async fn new<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<OrganizationView>, ApiError> {
    let id = new_id(&mut fields, "organization_id")?;
    let terms = Terms::read(fields, AccountKind::Organization)?;
    if terms.alias.clone().flatten().is_none() {
        return Err(ApiError::field("organization_alias", "is missing"));
    }
    terms.check_models(app.store.prices().catalogue())?;
    let record = app.create(AccountKind::Organization, id, terms.into_spec(app.clock.now())?).await?;
    Ok(Json(OrganizationView::from(&record)))
}

/// `GET /organization/info`
pub(crate) async fn info<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<OrganizationInfo>, ApiError> {
    let id = params.required("organization_id")?;
    params.finish()?;
    let record = app.account(AccountKind::Organization, "organization_id", &id).await?;
    Ok(Json(app.organization_info(&record).await?))
}

/// `POST /organization/info`: the older form, about several.
pub(crate) async fn infos<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<Vec<OrganizationInfo>>, ApiError> {
    let ids = fields.required("organizations", fields::texts)?;
    fields.finish()?;
    let mut infos = Vec::with_capacity(ids.len());
    for id in ids {
        let record = app.account(AccountKind::Organization, "organizations", &id).await?;
        infos.push(app.organization_info(&record).await?);
    }
    Ok(Json(infos))
}

/// `GET /organization/list`
pub(crate) async fn list<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    params: Params,
) -> Result<Json<Vec<OrganizationView>>, ApiError> {
    params.finish()?;
    let organizations = app.accounts(AccountKind::Organization, Owners::default()).await?;
    Ok(Json(organizations.iter().map(OrganizationView::from).collect()))
}

impl<S: Store> App<S> {
    async fn organization_info(&self, record: &AccountRecord) -> Result<OrganizationInfo, ApiError> {
        let owners = Owners { organization: Some(record.id.clone()), ..Owners::default() };
        let teams = self.accounts(AccountKind::Team, owners).await?;
        Ok(OrganizationInfo {
            view: OrganizationView::from(record),
            members: Vec::new(),
            teams: teams.iter().map(TeamView::from).collect(),
        })
    }
}
