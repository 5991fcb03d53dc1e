//! Accounts as answers show them: LiteLLM's fields, with every amount exact to the nano-dollar.

use super::terms::{MODEL_RATES, Parts, RATES, main_duration, soft_of};
use crate::store::{AccountRecord, LimitRecord};
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tollgate_domain::ids::Tag;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::{RateKind, RateNow};
use tollgate_domain::session::SessionLimits;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{BillingDay, Zone};

/// An amount as a JSON number, written from its decimal text: no float could hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Money(pub(crate) Nanodollars);

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// One of an account's limits beside the main one. It may come back as it is in a body.
#[derive(Debug, Serialize)]
pub(crate) struct LimitView {
    budget_duration: Option<String>,
    time_zone: Option<&'static str>,
    billing_day: Option<u8>,
    rolling: bool,
    max_budget: Money,
    spend: Money,
    pending: Money,
    reset_at: Option<String>,
    observe: bool,
    thresholds: Vec<u16>,
}

impl From<&LimitRecord> for LimitView {
    fn from(limit: &LimitRecord) -> Self {
        let Parts { zone, day, rolling } = Parts::of(limit.spec.window);
        Self {
            budget_duration: limit.spec.duration.clone(),
            time_zone: zone.map(Zone::name),
            billing_day: day.map(BillingDay::get),
            rolling,
            max_budget: Money(limit.spec.amount),
            spend: Money(limit.posted),
            pending: Money(limit.pending),
            reset_at: limit.period.end.and_then(Timestamp::to_rfc3339),
            observe: limit.spec.observe,
            thresholds: limit.spec.thresholds.clone(),
        }
    }
}

/// A rate over all models, as it stands.
#[derive(Debug, Serialize)]
pub(crate) struct RateView {
    name: &'static str,
    limit: u64,
    remaining: u64,
    reset_at: Option<String>,
}

impl From<&RateNow> for RateView {
    fn from(now: &RateNow) -> Self {
        let name = RATES.iter().find(|(kind, _)| *kind == now.rate.kind);
        Self {
            name: name.map_or(now.rate.kind.as_str(), |(_, name)| name),
            limit: now.rate.limit,
            remaining: now.remaining,
            reset_at: now.resets_at.to_rfc3339(),
        }
    }
}

/// What every kind of account shows.
#[derive(Debug, Serialize)]
pub(crate) struct AccountView {
    spend: Money,
    pending: Money,
    max_budget: Option<Money>,
    soft_budget: Option<Money>,
    budget_duration: Option<String>,
    budget_reset_at: Option<String>,
    budget_time_zone: Option<&'static str>,
    budget_billing_day: Option<u8>,
    budget_rolling: bool,
    budget_limits: Vec<LimitView>,
    model_max_budget: BTreeMap<String, LimitView>,
    alert_thresholds: Vec<u16>,
    models: Vec<String>,
    tags: Vec<String>,
    forbidden_extras: Vec<&'static str>,
    required_tags: Vec<String>,
    observe: bool,
    rpm_limit: Option<u64>,
    tpm_limit: Option<u64>,
    tpd_limit: Option<u64>,
    max_parallel_requests: Option<u64>,
    model_rpm_limit: BTreeMap<String, u64>,
    model_tpm_limit: BTreeMap<String, u64>,
    rates: Vec<RateView>,
    observe_rates: bool,
    max_session_budget: Option<Money>,
    session_budgets: BTreeMap<String, Money>,
    client_tags_bind: bool,
    blocked: bool,
    metadata: Map<String, Value>,
    created_by: String,
    created_at: Option<String>,
    updated_at: Option<String>,
    last_active: Option<String>,
}

impl AccountView {
    /// The account, whose metadata the caller may have taken fields from that it shows by itself.
    pub(crate) fn new(record: &AccountRecord, mut metadata: Map<String, Value>) -> Self {
        // Between two windows `spend` shows that of `budget_duration`, else the whole life.
        let (reset_at, spend, pending) = match &record.main {
            Some((period, posted, pending)) => (period.end, *posted, *pending),
            None => (None, record.posted, record.pending),
        };
        let main = record.limits.iter().find(|limit| limit.spec.main);
        let parts = main.map(|main| Parts::of(main.spec.window)).unwrap_or_default();
        let more = |of_model: bool| {
            let more = record.limits.iter().filter(|limit| !limit.spec.main && !limit.spec.soft);
            more.filter(move |limit| limit.spec.model.is_some() == of_model)
        };
        let of_model = |limit: &LimitRecord| Some((limit.spec.model.clone()?, LimitView::from(limit)));
        let [model_rpm_limit, model_tpm_limit] = MODEL_RATES.map(|(kind, _)| model_rates(record, kind));
        let tags: Vec<String> = record.spec.tags.iter().map(Tag::to_string).collect();
        if !tags.is_empty() {
            metadata.insert("tags".to_owned(), tags.clone().into());
        }
        Self {
            spend: Money(spend),
            pending: Money(pending),
            max_budget: main.map(|main| Money(main.spec.amount)),
            soft_budget: soft_of(&record.spec.limits).map(|soft| Money(soft.amount)),
            budget_duration: main_duration(record),
            budget_reset_at: reset_at.and_then(Timestamp::to_rfc3339),
            budget_time_zone: parts.zone.map(Zone::name),
            budget_billing_day: parts.day.map(BillingDay::get),
            budget_rolling: parts.rolling,
            budget_limits: more(false).map(LimitView::from).collect(),
            model_max_budget: more(true).filter_map(of_model).collect(),
            alert_thresholds: main.map(|main| main.spec.thresholds.clone()).unwrap_or_default(),
            models: record.spec.models.clone(),
            tags,
            forbidden_extras: record.spec.forbidden.iter().map(|extra| extra.as_str()).collect(),
            required_tags: record.spec.required_tags.iter().map(Tag::to_string).collect(),
            observe: main.is_some_and(|main| main.spec.observe),
            rpm_limit: rate(record, RateKind::RequestsPerMinute),
            tpm_limit: rate(record, RateKind::TokensPerMinute),
            tpd_limit: rate(record, RateKind::TokensPerDay),
            max_parallel_requests: rate(record, RateKind::Parallel),
            model_rpm_limit,
            model_tpm_limit,
            rates: record.rates.iter().map(RateView::from).collect(),
            observe_rates: record.spec.rates.iter().any(|spec| spec.observe),
            max_session_budget: record.spec.session_limit.map(Money),
            session_budgets: session_budgets(&record.spec.session_limits),
            client_tags_bind: record.spec.client_tags_bind,
            blocked: record.spec.blocked,
            metadata,
            created_by: record.created_by.clone(),
            created_at: record.created_at.to_rfc3339(),
            updated_at: record.updated_at.to_rfc3339(),
            last_active: record.last_active_at.and_then(Timestamp::to_rfc3339),
        }
    }
}

fn session_budgets(limits: &SessionLimits) -> BTreeMap<String, Money> {
    limits.iter().map(|(pattern, amount)| (pattern.to_string(), Money(amount))).collect()
}

/// A key. Its secret is not among the fields: nobody keeps it.
#[derive(Debug, Serialize)]
pub(crate) struct KeyView {
    pub(super) token: Option<String>,
    pub(super) key_name: Option<String>,
    pub(super) key_alias: Option<String>,
    user_id: Option<String>,
    pub(super) team_id: Option<String>,
    organization_id: Option<String>,
    pub(super) expires: Option<String>,
    #[serde(flatten)]
    account: AccountView,
}

impl KeyView {
    /// The key, whose team belongs to this organization.
    pub(crate) fn new(record: &AccountRecord, team_organization: Option<String>) -> Self {
        let spec = &record.spec;
        Self {
            token: token(record),
            key_name: record.credential.as_ref().map(|credential| credential.name.clone()),
            key_alias: spec.alias.clone(),
            user_id: spec.owners.user.clone(),
            team_id: spec.owners.team.clone(),
            organization_id: spec.owners.organization.clone().or(team_organization),
            expires: spec.expires_at.and_then(Timestamp::to_rfc3339),
            account: AccountView::new(record, spec.metadata.clone()),
        }
    }
}

/// The digest of an account's key: what LiteLLM calls its token.
pub(crate) fn token(record: &AccountRecord) -> Option<String> {
    record.credential.as_ref().map(|credential| credential.digest.to_string())
}

/// A team.
#[derive(Debug, Serialize)]
pub(crate) struct TeamView {
    team_id: String,
    team_alias: Option<String>,
    organization_id: Option<String>,
    admins: Value,
    members: Value,
    members_with_roles: Value,
    #[serde(flatten)]
    account: AccountView,
}

impl From<&AccountRecord> for TeamView {
    fn from(record: &AccountRecord) -> Self {
        let mut metadata = record.spec.metadata.clone();
        let mut list = |name| metadata.remove(name).unwrap_or_else(|| Value::Array(Vec::new()));
        Self {
            team_id: record.id.clone(),
            team_alias: record.spec.alias.clone(),
            organization_id: record.spec.owners.organization.clone(),
            admins: list("admins"),
            members: list("members"),
            members_with_roles: list("members_with_roles"),
            account: AccountView::new(record, metadata),
        }
    }
}

/// A user.
#[derive(Debug, Serialize)]
pub(crate) struct UserView {
    user_id: String,
    user_alias: Option<String>,
    user_email: Value,
    user_role: Value,
    sso_user_id: Value,
    organization_id: Option<String>,
    teams: Value,
    #[serde(flatten)]
    account: AccountView,
}

impl From<&AccountRecord> for UserView {
    fn from(record: &AccountRecord) -> Self {
        let mut metadata = record.spec.metadata.clone();
        let mut field = |name| metadata.remove(name).unwrap_or_default();
        Self {
            user_id: record.id.clone(),
            user_alias: record.spec.alias.clone(),
            user_email: field("user_email"),
            user_role: field("user_role"),
            sso_user_id: field("sso_user_id"),
            organization_id: record.spec.owners.organization.clone(),
            teams: Some(field("teams"))
                .filter(|teams| !teams.is_null())
                .unwrap_or_else(|| Vec::<Value>::new().into()),
            account: AccountView::new(record, metadata),
        }
    }
}

/// The account's rate of this kind, over all models.
fn rate(record: &AccountRecord, kind: RateKind) -> Option<u64> {
    let rates = &record.spec.rates;
    rates.iter().find(|spec| spec.rate.kind == kind && spec.model.is_none()).map(|spec| spec.rate.limit)
}

/// The account's rates of this kind, of single models.
fn model_rates(record: &AccountRecord, kind: RateKind) -> BTreeMap<String, u64> {
    let rates = record.spec.rates.iter().filter(|spec| spec.rate.kind == kind);
    rates.filter_map(|spec| Some((spec.model.clone()?, spec.rate.limit))).collect()
}

/// The budget of an organization or a tag, in the table of its own that LiteLLM shows it in.
#[derive(Debug, Serialize)]
struct BudgetTable {
    budget_id: String,
    max_budget: Option<Money>,
    soft_budget: Option<Money>,
    budget_duration: Option<String>,
    budget_reset_at: Option<String>,
    rpm_limit: Option<u64>,
    tpm_limit: Option<u64>,
    max_parallel_requests: Option<u64>,
}

impl BudgetTable {
    /// The budget of the account of this id.
    fn new(id: &str, account: &AccountView) -> Self {
        Self {
            budget_id: id.to_owned(),
            max_budget: account.max_budget,
            soft_budget: account.soft_budget,
            budget_duration: account.budget_duration.clone(),
            budget_reset_at: account.budget_reset_at.clone(),
            rpm_limit: account.rpm_limit,
            tpm_limit: account.tpm_limit,
            max_parallel_requests: account.max_parallel_requests,
        }
    }
}

/// An organization.
#[derive(Debug, Serialize)]
pub(crate) struct OrganizationView {
    organization_id: String,
    organization_alias: Option<String>,
    /// LiteLLM gives every organization a budget of its own; the organization's id names it.
    budget_id: String,
    updated_by: String,
    litellm_budget_table: BudgetTable,
    #[serde(flatten)]
    account: AccountView,
}

impl From<&AccountRecord> for OrganizationView {
    fn from(record: &AccountRecord) -> Self {
        let account = AccountView::new(record, record.spec.metadata.clone());
        Self {
            organization_id: record.id.clone(),
            organization_alias: record.spec.alias.clone(),
            budget_id: record.id.clone(),
            updated_by: record.created_by.clone(),
            litellm_budget_table: BudgetTable::new(&record.id, &account),
            account,
        }
    }
}

/// A tag with an account of its own.
#[derive(Debug, Serialize)]
pub(crate) struct TagView {
    name: String,
    description: Value,
    organization_id: Option<String>,
    /// The namespace whose keys' requests it counts, as CLUSTER/NAMESPACE.
    namespace: Option<String>,
    /// LiteLLM routes by tags, so a tag has models there. Here it has none.
    model_info: Map<String, Value>,
    litellm_budget_table: BudgetTable,
    #[serde(flatten)]
    account: AccountView,
}

impl From<&AccountRecord> for TagView {
    fn from(record: &AccountRecord) -> Self {
        let mut metadata = record.spec.metadata.clone();
        let description = metadata.remove("description").unwrap_or_default();
        let account = AccountView::new(record, metadata);
        Self {
            name: record.id.clone(),
            description,
            organization_id: record.spec.owners.organization.clone(),
            namespace: record.namespace.as_ref().map(ToString::to_string),
            model_info: Map::new(),
            litellm_budget_table: BudgetTable::new(&record.id, &account),
            account,
        }
    }
}

/// An instant to the millisecond, as spend logs carry it.
pub(crate) fn instant(at: Timestamp) -> Option<String> {
    at.to_utc().map(|at| at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

#[cfg(test)]
mod tests;
