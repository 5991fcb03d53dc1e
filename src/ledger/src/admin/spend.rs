//! `/spend/*`: what was spent, request by request and tag by tag.

use super::App;
use super::auth::Admin;
use super::error::ApiError;
use super::fields::{self, Fields};
use super::key::digest;
use super::query::Params;
use super::render::{Money, instant};
use crate::store::{HoldState, Owners, SpendFilter, SpendRecord, Store, TagSpend};
use axum::Json;
use axum::extract::State;
use chrono::{Days, NaiveDate};
use serde::Serialize;
use std::str::FromStr;
use std::sync::Arc;
use tollgate_domain::api::Api;
use tollgate_domain::hold::End;
use tollgate_domain::ids::{HoldId, Tag};
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;

/// Rows of one answer: as many as fit a megabyte or so. The next page has the older ones.
const PAGE_ROWS_DEFAULT: u64 = 1000;
const PAGE_ROWS_MAX: u64 = 1000;

/// One request, in the columns of LiteLLM's spend logs.
#[derive(Debug, Serialize)]
pub(crate) struct SpendRow {
    request_id: String,
    call_type: &'static str,
    api_key: String,
    spend: Money,
    total_tokens: Option<u64>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    #[serde(rename = "startTime")]
    start_time: Option<String>,
    #[serde(rename = "endTime")]
    end_time: Option<String>,
    #[serde(rename = "completionStartTime")]
    completion_start_time: Option<String>,
    model: String,
    model_group: String,
    custom_llm_provider: &'static str,
    user: Option<String>,
    team_id: Option<String>,
    organization_id: Option<String>,
    end_user: Option<String>,
    request_tags: Vec<String>,
    session_id: Option<String>,
    status: Option<&'static str>,
    cache_hit: &'static str,
    state: &'static str,
    metadata: RowMetadata,
}

/// What LiteLLM has no column for.
#[derive(Debug, Serialize)]
struct RowMetadata {
    usage: Option<UsageView>,
    estimated: bool,
    end: Option<&'static str>,
    client: Option<String>,
    provider_status: Option<u16>,
    /// How far the request went beyond a limit.
    overrun: Money,
    /// Why a limit that only observes would have refused the request.
    would_deny: Option<String>,
}

/// Tokens by class.
#[derive(Debug, Serialize)]
struct UsageView {
    input: u64,
    cache_read: u64,
    cache_write_5m: u64,
    cache_write_1h: u64,
    output: u64,
    web_searches: u64,
}

/// What was spent under one tag.
#[derive(Debug, Serialize)]
pub(crate) struct TagRow {
    individual_request_tag: String,
    log_count: u64,
    total_spend: Money,
}

/// `GET /spend/logs`
pub(crate) async fn logs<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<Vec<SpendRow>>, ApiError> {
    let (_, page) = params.page(PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX)?;
    let (from, to) = dates(&mut params)?;
    let filter = SpendFilter {
        key: params.text("api_key").map(|text| digest(&text)),
        user: params.text("user_id"),
        team: params.text("team_id"),
        request: params.read("request_id", HoldId::from_str)?,
        from,
        to,
    };
    if params.flag("summarize")? {
        return Err(ApiError::field("summarize", "is not served here: the answer is a row for each request"));
    }
    params.finish()?;
    let records = app.store.spend_logs(filter, page).await?;
    Ok(Json(records.into_iter().map(SpendRow::from).collect()))
}

/// `GET /spend/tags`
pub(crate) async fn tags<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<Vec<TagRow>>, ApiError> {
    let (from, to) = dates(&mut params)?;
    params.finish()?;
    let filter = SpendFilter { from, to, ..SpendFilter::default() };
    let tags = app.store.spend_by_tag(filter).await?;
    Ok(Json(tags.into_iter().map(TagRow::from).collect()))
}

/// A corrected request.
#[derive(Debug, Serialize)]
pub(crate) struct Corrected {
    request_id: String,
    spend_before: Money,
    spend: Money,
    /// `false`: that was its cost already, and nothing was written.
    changed: bool,
}

/// `POST /spend/correct`: what a request that has ended is charged from now on. The journal gets a compensating entry.
pub(crate) async fn correct<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut fields: Fields,
) -> Result<Json<Corrected>, ApiError> {
    let request = fields.required("request_id", |name, raw| {
        fields::text(name, raw)?.parse::<HoldId>().map_err(|why| ApiError::field(name, why))
    })?;
    let cost = fields.required("spend", fields::money)?;
    fields.finish()?;
    let before = app.store.correct(request, cost).await?;
    let request_id = request.to_string();
    Ok(Json(Corrected {
        request_id,
        spend_before: Money(before),
        spend: Money(cost),
        changed: before != cost,
    }))
}

/// From the first instant of `start_date` to the first after `end_date`, in UTC.
pub(super) fn dates(params: &mut Params) -> Result<(Option<Timestamp>, Option<Timestamp>), ApiError> {
    let start = params.read("start_date", date)?;
    let end = params.read("end_date", date)?;
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        return Err(ApiError::field("end_date", "is before start_date"));
    }
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0).map(|at| at.and_utc().into());
    let after = end.map(|end| end.checked_add_days(Days::new(1)).and_then(midnight).ok_or(END_OF_TIME));
    let after = after.transpose().map_err(|why| ApiError::field("end_date", why))?;
    Ok((start.and_then(midnight), after))
}

const END_OF_TIME: &str = "is beyond the calendar";

fn date(text: &str) -> Result<NaiveDate, &'static str> {
    // chrono alone would take 2026-1-5, too.
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| text.len() == 10);
    date.ok_or("must be a day as YYYY-MM-DD")
}

impl From<SpendRecord> for SpendRow {
    fn from(record: SpendRecord) -> Self {
        let usage = record.usage;
        let prompt_tokens = usage.and_then(|usage| usage.input_total());
        let completion_tokens = usage.map(|usage| usage.output);
        let Owners { organization, team, user } = record.owners.clone();
        Self {
            request_id: record.request.to_string(),
            call_type: call_type(record.api),
            api_key: record.key.to_string(),
            spend: Money(record.cost),
            total_tokens: prompt_tokens.zip(completion_tokens).and_then(|(p, c)| p.checked_add(c)),
            prompt_tokens,
            completion_tokens,
            start_time: instant(record.started_at),
            end_time: record.ended_at.and_then(instant),
            completion_start_time: record.first_byte_at.and_then(instant),
            model_group: record.model.clone(),
            custom_llm_provider: record.provider.as_str(),
            user,
            team_id: team,
            organization_id: organization,
            request_tags: record.tags.iter().map(Tag::to_string).collect(),
            status: status(&record),
            // No answer ever comes from a cache of ours.
            cache_hit: "False",
            state: state(record.state),
            metadata: RowMetadata {
                usage: usage.map(UsageView::from),
                estimated: record.estimated,
                end: record.end.map(End::as_str),
                client: record.client,
                provider_status: record.status,
                overrun: Money(record.overrun),
                would_deny: record.would_deny,
            },
            model: record.model,
            end_user: record.end_user,
            session_id: record.session,
        }
    }
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        let Usage { input, cache_read, cache_write_5m, cache_write_1h, output, web_searches } = usage;
        Self { input, cache_read, cache_write_5m, cache_write_1h, output, web_searches }
    }
}

impl From<TagSpend> for TagRow {
    fn from(spend: TagSpend) -> Self {
        let TagSpend { tag, requests, spent } = spend;
        Self { individual_request_tag: tag, log_count: requests, total_spend: Money(spent) }
    }
}

/// LiteLLM's words for the APIs.
fn call_type(api: Api) -> &'static str {
    match api {
        Api::Messages => "anthropic_messages",
        Api::ChatCompletions => "acompletion",
        Api::Responses => "aresponses",
        Api::Embeddings => "aembedding",
        Api::Completions => "atext_completion",
    }
}

fn state(state: HoldState) -> &'static str {
    match state {
        HoldState::Pending => "pending",
        HoldState::Settled => "settled",
        HoldState::Voided => "voided",
        HoldState::Expired => "expired",
    }
}

/// `success` for an answer that came to its end, `failure` for any other end, nothing while it is open.
fn status(record: &SpendRecord) -> Option<&'static str> {
    match (record.state, record.end) {
        (HoldState::Pending, _) => None,
        (HoldState::Settled, Some(End::Complete)) => Some("success"),
        _ => Some("failure"),
    }
}

#[cfg(test)]
mod tests;
