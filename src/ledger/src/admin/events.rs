//! `/budget/events`: parts of limits that were spent, for people, and for scripts that remember how far they have read.

use super::App;
use super::auth::Admin;
use super::error::ApiError;
use super::query::Params;
use super::render::{Money, instant, token};
use crate::store::{AccountRef, Crossing, Store};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use tollgate_domain::account::AccountKind;
use tollgate_domain::time::Timestamp;

/// Events in one answer, unless told, and at most.
const EVENTS_DEFAULT: u64 = 100;
const EVENTS_MAX: u64 = 1_000;
/// All of the limit, in percent.
const WHOLE: u16 = 100;

/// A part of a limit that was spent, in the words of LiteLLM's webhook.
#[derive(Debug, Serialize)]
pub(crate) struct EventView {
    number: i64,
    event: &'static str,
    event_group: &'static str,
    at: Option<String>,
    /// The account's id; a key is named by its hash.
    id: Option<String>,
    /// Of a tag, within what it counts, where that is not the whole installation.
    scope: Option<String>,
    alias: Option<String>,
    model: Option<String>,
    threshold: u16,
    max_budget: Money,
    spend: Money,
    window: String,
    window_start: Option<String>,
    window_end: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Events {
    events: Vec<EventView>,
    /// What to ask for next: `after` this one.
    last: i64,
}

/// `GET /budget/events`
pub(crate) async fn list<S: Store>(
    _: Admin,
    State(app): State<Arc<App<S>>>,
    mut params: Params,
) -> Result<Json<Events>, ApiError> {
    let wrong = || ApiError::field("after", "must be the number of an event, or 0");
    let after = params.read("after", i64::from_str).map_err(|_| wrong())?.unwrap_or(0);
    if after < 0 {
        return Err(wrong());
    }
    let wrong = || ApiError::field("limit", format!("must be a whole number from 1 to {EVENTS_MAX}"));
    let limit = params.read("limit", u64::from_str).map_err(|_| wrong())?.unwrap_or(EVENTS_DEFAULT);
    if !(1..=EVENTS_MAX).contains(&limit) {
        return Err(wrong());
    }
    params.finish()?;
    let crossings = app.store.crossings(after, limit).await?;
    let last = crossings.last().map_or(after, |crossing| crossing.number);
    let mut tokens: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut events = Vec::with_capacity(crossings.len());
    for crossing in crossings {
        let id = match crossing.kind {
            // The id of a key's account means nothing to anybody.
            AccountKind::Key => match tokens.get(&crossing.id) {
                Some(token) => token.clone(),
                None => {
                    let key = AccountRef::Id(AccountKind::Key, crossing.id.clone());
                    let known = app.store.account(key).await?.as_ref().and_then(token);
                    tokens.insert(crossing.id.clone(), known.clone());
                    known
                }
            },
            _ => Some(crossing.id.clone()),
        };
        events.push(EventView::new(crossing, id));
    }
    Ok(Json(Events { events, last }))
}

impl EventView {
    fn new(crossing: Crossing, id: Option<String>) -> Self {
        let event = match (crossing.soft, crossing.threshold) {
            (true, _) => "soft_budget_crossed",
            (false, part) if part < WHOLE => "threshold_crossed",
            (false, _) => "budget_crossed",
        };
        Self {
            number: crossing.number,
            event,
            event_group: crossing.kind.as_str(),
            at: instant(crossing.at),
            id,
            scope: Some(crossing.scope)
                .filter(|scope| crossing.kind == AccountKind::Tag && !scope.is_empty()),
            alias: crossing.alias,
            model: crossing.model,
            threshold: crossing.threshold,
            max_budget: Money(crossing.limit),
            spend: Money(crossing.posted),
            window: crossing.window.to_string(),
            window_start: crossing.period.start.to_rfc3339(),
            window_end: crossing.period.end.and_then(Timestamp::to_rfc3339),
        }
    }
}
