//! What a body says of an account, whatever its kind: money, models, tags, state; as a whole for a new account, or as a
//! change of one that stands.

use super::error::ApiError;
use super::fields::{self, Fields, Patch};
use super::unenforced;
use crate::store::{AccountChange, AccountRecord, AccountSpec, Owners};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tollgate_domain::account::AccountKind;
use tollgate_domain::catalogue::Catalogue;
use tollgate_domain::extra::Extra;
use tollgate_domain::ids::Tag;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::session::{SessionLimits, SessionPattern};
use tollgate_domain::time::Timestamp;
use tollgate_domain::window;

mod limits;
mod rates;
mod windows;

use limits::LimitTerms;
pub(crate) use limits::soft_of;
use rates::RateTerms;
pub(crate) use rates::{OF_MODELS as MODEL_RATES, PLAIN as RATES};
pub(crate) use windows::Parts;

/// Fields that answers show by themselves although they are kept in the metadata; new metadata leaves them alone.
pub(crate) const SHOWN: [&str; 8] = [
    "description",
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
    limits: LimitTerms,
    rates: RateTerms,
    session_limit: Patch<Nanodollars>,
    session_limits: Option<SessionLimits>,
    client_tags_bind: Option<bool>,
    blocked: Option<bool>,
    tags: Option<Vec<Tag>>,
    forbidden: Option<Vec<Extra>>,
    required_tags: Option<Vec<Tag>>,
    /// How long a key lives from now on.
    lifetime_ms: Patch<i64>,
    metadata: Option<Map<String, Value>>,
    /// Beside the metadata; `null` takes a field away.
    extras: Map<String, Value>,
}

impl Terms {
    /// Reads all that is left of a body about an account of this kind.
    pub(crate) fn read(mut fields: Fields, kind: AccountKind) -> Result<Self, ApiError> {
        if kind == AccountKind::Tag {
            unenforced::check_tag(&mut fields)?;
        }
        let given = fields.patch("metadata", fields::one)?;
        let replaced = given.is_some();
        let mut metadata = given.flatten().unwrap_or_default();
        let mut terms = Self {
            alias: named(&mut fields, alias_field(kind))?,
            models: fields.patch("models", fields::texts)?.map(Option::unwrap_or_default),
            limits: LimitTerms::read(&mut fields, &mut metadata)?,
            rates: RateTerms::read(&mut fields, &mut metadata)?,
            session_limit: fields.patch("max_session_budget", fields::money)?,
            session_limits: fields.patch("session_budgets", session_limits)?.map(Option::unwrap_or_default),
            client_tags_bind: fields.optional("client_tags_bind", fields::flag)?,
            blocked: fields.optional("blocked", fields::flag)?,
            forbidden: fields.patch("forbidden_extras", extras)?.map(Option::unwrap_or_default),
            required_tags: fields.patch("required_tags", required_tags)?.map(Option::unwrap_or_default),
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
        let tags = fields.patch("tags", fields::texts)?.map(Option::unwrap_or_default);
        // LiteLLM keeps a key's tags there.
        let inner = metadata.optional("tags", |_, raw| fields::texts("metadata.tags", raw))?;
        if tags.is_some() || inner.is_some() {
            terms.tags = Some(read_tags("tags", tags.into_iter().chain(inner).flatten())?);
        }
        if replaced {
            terms.metadata = Some(free(metadata)?);
        }
        terms.extras = unenforced::harmless(fields.rest())?;
        Ok(terms)
    }

    /// Refuses a limit of a model that nobody can ask for: it would never count.
    pub(crate) fn check_models(&self, catalogue: &Catalogue) -> Result<(), ApiError> {
        let mut named = self.limits.models().chain(self.rates.models());
        match named.find(|(_, model)| catalogue.resolve(model).is_none()) {
            Some((name, model)) => {
                Err(ApiError::field(name, format!("names {model:?}, which has no price here")))
            }
            None => Ok(()),
        }
    }

    /// Keeps a field beside the metadata.
    pub(crate) fn keep(&mut self, name: &str, value: Value) {
        self.extras.insert(name.to_owned(), value);
    }

    /// A new account on these terms.
    pub(crate) fn into_spec(self, now: Timestamp) -> Result<AccountSpec, ApiError> {
        let (limits, budget_duration) = self.limits.into_specs()?;
        Ok(AccountSpec {
            alias: self.alias.flatten(),
            owners: Owners {
                organization: self.organization.flatten(),
                team: self.team.flatten(),
                user: self.user.flatten(),
            },
            models: self.models.unwrap_or_default(),
            limits,
            budget_duration,
            blocked: self.blocked.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            forbidden: self.forbidden.unwrap_or_default(),
            required_tags: self.required_tags.unwrap_or_default(),
            expires_at: self.lifetime_ms.flatten().map(|span_ms| now.plus_ms(span_ms)),
            rates: self.rates.changed(&[])?.unwrap_or_default(),
            session_limit: self.session_limit.flatten(),
            session_limits: self.session_limits.unwrap_or_default(),
            client_tags_bind: self.client_tags_bind.unwrap_or_default(),
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
        let (limits, budget_duration) = self.limits.into_change(record)?;
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
            rates: self.rates.changed(&record.spec.rates)?,
            session_limit: self.session_limit,
            session_limits: self.session_limits,
            client_tags_bind: self.client_tags_bind,
            metadata,
        })
    }
}

/// Takes a field that LiteLLM reads from the metadata, too: from the one place or the other, not from both. `null` and absence of
/// its members are one.
fn here_or_in_metadata<T>(
    fields: &mut Fields,
    metadata: &mut Fields,
    name: &str,
    read: impl Fn(&str, &RawValue) -> Result<Vec<T>, ApiError>,
) -> Result<Option<Vec<T>>, ApiError> {
    let here = fields.patch(name, &read)?;
    let there = metadata.patch(name, |_, raw| read(name, raw))?;
    if here.is_some() && there.is_some() {
        return Err(ApiError::field(name, "stands in the metadata, too"));
    }
    Ok(here.or(there).map(Option::unwrap_or_default))
}

/// `session_budgets`: for each pattern of sessions' names an amount.
fn session_limits(name: &str, raw: &RawValue) -> Result<SessionLimits, ApiError> {
    let members = fields::members_at_most(SessionLimits::COUNT_MAX, "patterns", name, raw)?;
    let read = |(pattern, raw): (String, Box<RawValue>)| {
        let known: SessionPattern = pattern
            .parse()
            .map_err(|why| ApiError::field(name, format!("has the pattern {pattern:?}, which {why}")))?;
        Ok((known, fields::money(&format!("{name}[{pattern:?}]"), &raw)?))
    };
    members.into_iter().map(read).collect()
}

/// Metadata that changes no decision.
fn free(metadata: Fields) -> Result<Map<String, Value>, ApiError> {
    let value = |(name, raw): (String, Box<RawValue>)| Ok((name, fields::value("metadata", &raw)?));
    let map = metadata.rest().into_iter().map(value).collect::<Result<_, ApiError>>()?;
    unenforced::check_metadata(&map)?;
    Ok(map)
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
