//! What a body says of an account, whatever its kind: money, models, tags, state; as a whole for a new account, or as a
//! change of one that stands.

use super::error::ApiError;
use super::fields::{self, Fields, Patch};
use super::unenforced;
use crate::store::{AccountChange, AccountRecord, AccountSpec, LimitSpec, Owners, RateSpec};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tollgate_domain::account::AccountKind;
use tollgate_domain::extra::Extra;
use tollgate_domain::ids::Tag;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::{Rate, RateKind};
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{self, Window};

/// Limits of one account at most: each is checked on every request.
const LIMITS_MAX: usize = 8;

/// Fields that answers show by themselves although they are kept in the metadata; new metadata leaves them alone.
pub(crate) const SHOWN: [&str; 8] = [
    "soft_budget",
    "admins",
    "members",
    "members_with_roles",
    "user_email",
    "user_role",
    "teams",
    "sso_user_id",
];

/// What a body says of an account.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// What people call it.
    pub(crate) alias: Patch<String>,
    /// Its organization.
    pub(crate) organization: Patch<String>,
    /// A key's team.
    pub(crate) team: Patch<String>,
    /// A key's user.
    pub(crate) user: Patch<String>,
    models: Option<Vec<String>>,
    max_budget: Patch<Nanodollars>,
    budget_duration: Patch<String>,
    other_limits: Option<Vec<LimitSpec>>,
    blocked: Option<bool>,
    tags: Option<Vec<Tag>>,
    forbidden: Option<Vec<Extra>>,
    required_tags: Option<Vec<Tag>>,
    /// The main limit counts and shows, and refuses nothing.
    observe: Option<bool>,
    /// How long a key lives from now on.
    lifetime_ms: Patch<i64>,
    rpm_limit: Patch<u64>,
    tpm_limit: Patch<u64>,
    metadata: Option<Map<String, Value>>,
    /// Beside the metadata; `null` takes a field away.
    extras: Map<String, Value>,
}

impl Terms {
    /// Reads all that is left of a body about an account of this kind.
    pub(crate) fn read(mut fields: Fields, kind: AccountKind) -> Result<Self, ApiError> {
        let mut terms = Self {
            alias: named(&mut fields, alias_field(kind))?,
            models: fields.patch("models", fields::texts)?.map(Option::unwrap_or_default),
            max_budget: fields.patch("max_budget", fields::money)?,
            budget_duration: fields.patch("budget_duration", duration)?,
            other_limits: fields.patch("budget_limits", limits)?.map(Option::unwrap_or_default),
            blocked: fields.optional("blocked", fields::flag)?,
            observe: fields.optional("observe", fields::flag)?,
            forbidden: fields.patch("forbidden_extras", extras)?.map(Option::unwrap_or_default),
            required_tags: fields.patch("required_tags", required_tags)?.map(Option::unwrap_or_default),
            rpm_limit: fields.patch("rpm_limit", fields::count)?,
            tpm_limit: fields.patch("tpm_limit", fields::count)?,
            ..Self::default()
        };
        if kind != AccountKind::Organization {
            terms.organization = named(&mut fields, "organization_id")?;
        }
        if kind == AccountKind::Key {
            terms.team = named(&mut fields, "team_id")?;
            terms.user = named(&mut fields, "user_id")?;
            terms.lifetime_ms = fields.patch("duration", lifetime)?.map(Option::flatten);
        }
        terms.read_metadata(fields)?;
        Ok(terms)
    }

    fn read_metadata(&mut self, mut fields: Fields) -> Result<(), ApiError> {
        let tags = fields.patch("tags", fields::texts)?.map(Option::unwrap_or_default);
        let soft_budget = fields.patch("soft_budget", fields::money)?;
        let mut metadata = fields.patch("metadata", fields::map)?.map(Option::unwrap_or_default);
        // LiteLLM keeps a key's tags there.
        let inner =
            metadata.as_mut().and_then(|metadata| metadata.remove("tags")).filter(|tags| !tags.is_null());
        let inner = inner.map(metadata_tags).transpose()?;
        self.tags = match (tags, inner) {
            (None, None) => None,
            (tags, inner) => Some(read_tags("tags", tags.into_iter().chain(inner).flatten())?),
        };
        metadata.as_ref().map_or(Ok(()), unenforced::check_metadata)?;
        self.metadata = metadata;
        self.extras = unenforced::harmless(fields.rest())?;
        if let Some(amount) = soft_budget {
            // As a text: an amount never passes through a float.
            let amount = amount.map_or(Value::Null, |amount| Value::String(amount.to_string()));
            self.extras.insert("soft_budget".to_owned(), amount);
        }
        Ok(())
    }

    /// Keeps a field beside the metadata.
    pub(crate) fn keep(&mut self, name: &str, value: Value) {
        self.extras.insert(name.to_owned(), value);
    }

    /// What is stored and shown, but not enforced yet.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let rates = [("rpm_limit", self.rpm_limit), ("tpm_limit", self.tpm_limit)];
        let given = rates.into_iter().filter(|(_, limit)| limit.flatten().is_some());
        given.map(|(name, _)| format!("{name} is stored and shown, but not enforced yet")).collect()
    }

    /// A new account on these terms.
    pub(crate) fn into_spec(self, now: Timestamp) -> Result<AccountSpec, ApiError> {
        let budget_duration = self.budget_duration.flatten();
        let others = self.other_limits.unwrap_or_default();
        Ok(AccountSpec {
            alias: self.alias.flatten(),
            owners: Owners {
                organization: self.organization.flatten(),
                team: self.team.flatten(),
                user: self.user.flatten(),
            },
            models: self.models.unwrap_or_default(),
            limits: all_limits(
                self.max_budget.flatten(),
                budget_duration.as_deref(),
                self.observe.unwrap_or_default(),
                others,
            )?,
            budget_duration,
            blocked: self.blocked.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            forbidden: self.forbidden.unwrap_or_default(),
            required_tags: self.required_tags.unwrap_or_default(),
            expires_at: self.lifetime_ms.flatten().map(|span_ms| now.plus_ms(span_ms)),
            rates: changed_rates(&[], self.rpm_limit, self.tpm_limit),
            session_limit: None,
            client_tags_bind: false,
            metadata: overlaid(self.metadata.unwrap_or_default(), self.extras),
        })
    }

    /// These terms as a change of an account that stands.
    pub(crate) fn into_change(
        self,
        record: &AccountRecord,
        now: Timestamp,
    ) -> Result<AccountChange, ApiError> {
        let owners = &record.spec.owners;
        let own = |patch: &Patch<String>, present: &Option<String>| {
            patch.clone().unwrap_or_else(|| present.clone())
        };
        let owners =
            (self.organization.is_some() || self.team.is_some() || self.user.is_some()).then(|| Owners {
                organization: own(&self.organization, &owners.organization),
                team: own(&self.team, &owners.team),
                user: own(&self.user, &owners.user),
            });
        let (limits, budget_duration) = self.changed_limits(record)?;
        let metadata = (self.metadata.is_some() || !self.extras.is_empty()).then(|| {
            let mut present = record.spec.metadata.clone();
            let base = match self.metadata {
                None => present,
                Some(mut given) => {
                    given.extend(SHOWN.iter().filter_map(|name| present.remove_entry(*name)));
                    given
                }
            };
            overlaid(base, self.extras)
        });
        Ok(AccountChange {
            alias: self.alias,
            owners,
            models: self.models,
            limits,
            budget_duration,
            blocked: self.blocked,
            tags: self.tags,
            forbidden: self.forbidden,
            required_tags: self.required_tags,
            expires_at: self.lifetime_ms.map(|span_ms| span_ms.map(|span_ms| now.plus_ms(span_ms))),
            rates: (self.rpm_limit.is_some() || self.tpm_limit.is_some())
                .then(|| changed_rates(&record.spec.rates, self.rpm_limit, self.tpm_limit)),
            session_limit: None,
            client_tags_bind: None,
            metadata,
        })
    }

    /// All limits and the main duration, where any of them changes: what a body leaves out stays.
    fn changed_limits(
        &self,
        record: &AccountRecord,
    ) -> Result<(Option<Vec<LimitSpec>>, Patch<String>), ApiError> {
        let untouched = self.max_budget.is_none() && self.budget_duration.is_none();
        if untouched && self.other_limits.is_none() && self.observe.is_none() {
            return Ok((None, None));
        }
        let present = || record.limits.iter().map(|limit| &limit.spec);
        let main = present().find(|limit| limit.main);
        let amount = self.max_budget.unwrap_or_else(|| main.map(|main| main.amount));
        let duration = self.budget_duration.clone().unwrap_or_else(|| main_duration(record));
        let others = self.other_limits.clone();
        let others = others.unwrap_or_else(|| present().filter(|limit| !limit.main).cloned().collect());
        let observe = self.observe.unwrap_or_else(|| main.is_some_and(|main| main.observe));
        let limits = all_limits(amount, duration.as_deref(), observe, others)?;
        Ok((Some(limits), self.budget_duration.is_some().then_some(duration)))
    }
}

fn changed_rates(present: &[RateSpec], rpm: Patch<u64>, tpm: Patch<u64>) -> Vec<RateSpec> {
    let mut rates = present.to_vec();
    for (kind, patch) in [(RateKind::RequestsPerMinute, rpm), (RateKind::TokensPerMinute, tpm)] {
        let Some(limit) = patch else { continue };
        rates.retain(|spec| spec.rate.kind != kind || spec.model.is_some());
        let spec = |limit| RateSpec { rate: Rate { kind, limit }, model: None, observe: false };
        rates.extend(limit.map(spec));
    }
    rates
}

/// The duration of the window that `spend` shows, as whoever set it wrote it.
pub(crate) fn main_duration(record: &AccountRecord) -> Option<String> {
    let main = record.limits.iter().find(|limit| limit.spec.main);
    record.spec.budget_duration.clone().or_else(|| main.and_then(|main| main.spec.duration.clone()))
}

/// The alias's field of each kind of account.
fn alias_field(kind: AccountKind) -> &'static str {
    match kind {
        AccountKind::Organization => "organization_alias",
        AccountKind::Team => "team_alias",
        AccountKind::User => "user_alias",
        _ => "key_alias",
    }
}

/// A name; scripts send an empty one for none, which changes nothing.
fn named(fields: &mut Fields, name: &str) -> Result<Patch<String>, ApiError> {
    let patch = fields.patch(name, fields::text)?;
    Ok(patch.filter(|text| text.as_ref().is_none_or(|text| !text.trim().is_empty())))
}

fn duration(name: &str, raw: &RawValue) -> Result<String, ApiError> {
    let text = fields::text(name, raw)?;
    Window::from_duration(&text).map_err(|why| ApiError::field(name, why))?;
    Ok(text)
}

/// `forbidden_extras`: what no request may ask for.
fn extras(name: &str, raw: &RawValue) -> Result<Vec<Extra>, ApiError> {
    let extra = |text: String| {
        text.parse().map_err(|why| ApiError::field(name, format!("holds {text:?}, which {why}")))
    };
    fields::texts(name, raw)?.into_iter().map(extra).collect()
}

/// `required_tags`: names of tags that every request must carry.
fn required_tags(name: &str, raw: &RawValue) -> Result<Vec<Tag>, ApiError> {
    read_tags(name, fields::texts(name, raw)?.into_iter())
}

/// A span of life; LiteLLM's `-1` is no end.
fn lifetime(name: &str, raw: &RawValue) -> Result<Option<i64>, ApiError> {
    let text = fields::text(name, raw)?;
    if text == "-1" {
        return Ok(None);
    }
    window::span_ms(&text).map(Some).map_err(|why| ApiError::field(name, why))
}

/// `budget_limits`: each with a duration and an amount. What answers show of a limit may come back with it.
fn limits(name: &str, raw: &RawValue) -> Result<Vec<LimitSpec>, ApiError> {
    let limit = |mut limit: Fields| {
        let text = limit.required("budget_duration", duration)?;
        let amount = limit.required("max_budget", fields::money)?;
        let observe = limit.optional("observe", fields::flag)?.unwrap_or_default();
        for shown in ["reset_at", "spend", "pending"] {
            limit.take(shown);
        }
        limit.finish()?;
        let window = Window::from_duration(&text).map_err(|why| ApiError::field("budget_duration", why))?;
        Ok(LimitSpec { observe, ..LimitSpec::new(amount, window, Some(text)) })
    };
    let inside = |why: ApiError| ApiError::field(name, format!("has an entry whose {why}"));
    fields::objects(name, raw)?.into_iter().map(|fields| limit(fields).map_err(inside)).collect()
}

/// The main limit and the others: at most [`LIMITS_MAX`], and no window twice.
fn all_limits(
    max_budget: Option<Nanodollars>,
    duration: Option<&str>,
    observe: bool,
    others: Vec<LimitSpec>,
) -> Result<Vec<LimitSpec>, ApiError> {
    let window = duration.map_or(Ok(Window::Lifetime), Window::from_duration);
    let window = window.map_err(|why| ApiError::field("budget_duration", why))?;
    let duration = duration.map(str::to_owned);
    let main = max_budget.map(|amount| LimitSpec {
        main: true,
        observe,
        ..LimitSpec::new(amount, window, duration)
    });
    let limits: Vec<_> = main.into_iter().chain(others).collect();
    if limits.len() > LIMITS_MAX {
        return Err(ApiError::field("budget_limits", format!("makes more than {LIMITS_MAX} limits")));
    }
    for (index, limit) in limits.iter().enumerate() {
        if limits.iter().take(index).any(|earlier| earlier.window == limit.window) {
            let duration = limit.duration.as_deref().unwrap_or("lifetime");
            return Err(ApiError::field(
                "budget_limits",
                format!("limits the same window twice: {duration}"),
            ));
        }
    }
    Ok(limits)
}

fn metadata_tags(tags: Value) -> Result<Vec<String>, ApiError> {
    let wrong = |_| ApiError::field("metadata.tags", "must be a list of texts");
    serde_json::from_value(tags).map_err(wrong)
}

fn read_tags(name: &str, texts: impl Iterator<Item = String>) -> Result<Vec<Tag>, ApiError> {
    let mut tags: Vec<Tag> = Vec::new();
    for text in texts {
        let tag =
            text.parse().map_err(|why| ApiError::field(name, format!("holds {text:?}: a tag {why}")))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.len() > Tag::COUNT_MAX {
        return Err(ApiError::field(name, format!("holds more than {} tags", Tag::COUNT_MAX)));
    }
    Ok(tags)
}

fn overlaid(mut base: Map<String, Value>, extras: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in extras {
        if value.is_null() {
            base.remove(&name);
        } else {
            base.insert(name, value);
        }
    }
    base
}

#[cfg(test)]
mod tests;
