//! `/tag/*`: tags that have an account of their own, within one organization or over the whole installation. Those of a namespace come
//! from custom resources: here they are shown, and nothing else.

use super::App;
use super::auth::Admin;
use super::error::ApiError;
use super::fields::{self, Fields};
use super::query::Params;
use super::render::{Money, TagView};
use super::spend::dates;
use super::terms::Terms;
use crate::owner_scope::{ClusterNamespace, Malformed};
use crate::store::{AccountRecord, AccountRef, Owners, SpendFilter, Store, TagScope};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::Tag;

/// What happened, and the tag that it happened to.
#[derive(Serialize)]
pub(crate) struct ToldTag {
    message: String,
    tag: TagView,
}

#[derive(Serialize)]
pub(crate) struct Told {
    message: String,
}

/// What was asked with one tag. What nobody counts is unknown, and not zero.
#[derive(Serialize)]
struct TagSummary {
    tag: String,
    unique_users: Option<u64>,
    total_requests: u64,
    successful_requests: Option<u64>,
    failed_requests: Option<u64>,
    total_tokens: Option<u64>,
    total_spend: Money,
}

#[derive(Serialize)]
pub(crate) struct TagSummaries {
    results: Vec<TagSummary>,
}

/// `POST /tag/new`
pub(crate) async fn new<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<ToldTag>, ApiError> {
    let name = fields.required("name", tag)?;
    let terms = read(fields)?;
    terms.check_models(app.store.prices().catalogue())?;
    app.check_organization(&terms).await?;
    let record = app.create(AccountKind::Tag, name, terms.into_spec(app.clock.now())?).await?;
    let message = format!("Tag {} created successfully", record.id);
    Ok(Json(ToldTag { message, tag: TagView::from(&record) }))
}

/// `POST /tag/update`
pub(crate) async fn update<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<ToldTag>, ApiError> {
    let name = fields.required("name", tag)?;
    let namespace = namespace(&mut fields)?;
    let mut terms = read(fields)?;
    terms.check_models(app.store.prices().catalogue())?;
    // It says which tag is meant: no tag moves to another organization.
    let scope = scope(terms.organization.take().flatten(), namespace)?;
    let _turn = app.updates.lock().await;
    let record = app.tag("name", &scope, &name).await?;
    let change = terms.into_change(&record, app.clock.now())?;
    let record = app.store.update(AccountRef::Tag { scope, tag: name }, change).await?;
    let message = format!("Tag {} updated successfully", record.id);
    Ok(Json(ToldTag { message, tag: TagView::from(&record) }))
}

/// `POST /tag/info`: each tag under its name.
pub(crate) async fn infos<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<BTreeMap<String, TagView>>, ApiError> {
    let names = fields.required("names", fields::texts)?;
    let scope = scope(organization(&mut fields)?, namespace(&mut fields)?)?;
    fields.finish()?;
    let mut infos = BTreeMap::new();
    for name in names {
        let record = app.tag("names", &scope, &name).await?;
        infos.insert(name, TagView::from(&record));
    }
    Ok(Json(infos))
}

/// `POST /tag/delete`
pub(crate) async fn delete<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<Told>, ApiError> {
    let name = fields.required("name", fields::text)?;
    let scope = scope(organization(&mut fields)?, namespace(&mut fields)?)?;
    fields.finish()?;
    app.tag("name", &scope, &name).await?;
    app.store.delete(vec![AccountRef::Tag { scope, tag: name.clone() }]).await?;
    Ok(Json(Told { message: format!("Tag {name} deleted successfully") }))
}

/// `GET /tag/list`: of every organization, unless told.
pub(crate) async fn list<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<Vec<TagView>>, ApiError> {
    let owners = Owners { organization: params.text("organization_id"), ..Owners::default() };
    params.finish()?;
    let tags = app.accounts(AccountKind::Tag, owners).await?;
    Ok(Json(tags.iter().map(TagView::from).collect()))
}

/// `GET /tag/summary`: of every tag that was on a request, whether it has an account or not.
pub(crate) async fn summary<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<TagSummaries>, ApiError> {
    let (from, to) = dates(&mut params)?;
    let only = params.text("tag_filter");
    params.finish()?;
    let spent = app.store.spend_by_tag(SpendFilter { from, to, ..SpendFilter::default() }).await?;
    let wanted = spent.into_iter().filter(|spent| only.as_ref().is_none_or(|only| *only == spent.tag));
    let summary = wanted.map(|spent| TagSummary {
        tag: spent.tag,
        unique_users: None,
        total_requests: spent.requests,
        successful_requests: None,
        failed_requests: None,
        total_tokens: None,
        total_spend: Money(spent.spent),
    });
    Ok(Json(TagSummaries { results: summary.collect() }))
}

/// What is said of a tag beside its name.
fn read(mut fields: Fields) -> Result<Terms, ApiError> {
    let description = fields.patch("description", fields::text)?;
    let mut terms = Terms::read(fields, AccountKind::Tag)?;
    if let Some(description) = description {
        terms.keep("description", description.map_or(Value::Null, Value::String));
    }
    Ok(terms)
}

/// The name of a tag that requests can carry.
fn tag(name: &str, raw: &RawValue) -> Result<String, ApiError> {
    let text = fields::text(name, raw)?;
    let tag: Tag = text.parse().map_err(|why| ApiError::field(name, format!("is {text:?}: a tag {why}")))?;
    Ok(tag.to_string())
}

fn organization(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let organization = fields.optional("organization_id", fields::text)?;
    Ok(organization.filter(|id| !id.trim().is_empty()))
}

fn namespace(fields: &mut Fields) -> Result<Option<ClusterNamespace>, ApiError> {
    fields.optional("namespace", |name, raw| {
        fields::text(name, raw)?.parse().map_err(|why: Malformed| ApiError::field(name, why))
    })
}

/// Which of the tags of one name is meant.
fn scope(organization: Option<String>, namespace: Option<ClusterNamespace>) -> Result<TagScope, ApiError> {
    match (organization, namespace) {
        (Some(_), Some(_)) => Err(ApiError::field("namespace", "is for a tag of no organization")),
        (None, Some(namespace)) => Ok(TagScope::Namespace(namespace)),
        (organization, None) => Ok(TagScope::of_organization(organization)),
    }
}

impl<S: Store> App<S> {
    async fn tag(&self, param: &str, scope: &TagScope, name: &str) -> Result<AccountRecord, ApiError> {
        let account = AccountRef::Tag { scope: scope.clone(), tag: name.to_owned() };
        let record = self.store.account(account).await?;
        record.ok_or_else(|| {
            let of = match scope {
                TagScope::Installation => String::new(),
                TagScope::Organization(id) => format!(" of organization {id:?}"),
                TagScope::Namespace(namespace) => format!(" of namespace {namespace}"),
            };
            ApiError::not_found(param, format!("{param}: tag {name:?}{of} does not exist"))
        })
    }
}
