//! Accounts into messages for the ledger, and its messages into what is known of it: the one place that knows both.

use super::{Account, Credential, Limit, LimitStanding, RateLimit, Refusal, RefusalReason, Standing};
use tollgate_domain::account::{AccountKind, AccountName};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::RateKind;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{BillingDay, CalendarUnit, Window, Zone};
use tollgate_proto::v1;

/// The ledger said something that this operator does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger told of an account without a name or of an unknown kind")]
pub struct WireError;

fn kind(kind: AccountKind) -> v1::AccountKind {
    match kind {
        AccountKind::Organization => v1::AccountKind::Organization,
        AccountKind::Team => v1::AccountKind::Team,
        AccountKind::User => v1::AccountKind::User,
        AccountKind::Key => v1::AccountKind::Key,
        AccountKind::Tag => v1::AccountKind::Tag,
        AccountKind::Session => v1::AccountKind::Session,
        AccountKind::Customer => v1::AccountKind::Customer,
    }
}

/// An account's name as the ledger's.
pub fn name_to_wire(name: &AccountName) -> v1::AccountName {
    v1::AccountName { kind: kind(name.kind).into(), id: name.id.clone(), scope: name.scope.clone() }
}

/// The ledger's name of an account.
///
/// # Errors
/// [`WireError`] where it is missing, or of a kind that is not known.
pub fn name_from_wire(name: Option<v1::AccountName>) -> Result<AccountName, WireError> {
    let name = name.ok_or(WireError)?;
    let known = v1::AccountKind::try_from(name.kind).map_err(|_| WireError)?;
    let kind = AccountKind::ALL.into_iter().find(|one| kind(*one) == known).ok_or(WireError)?;
    Ok(AccountName { kind, scope: name.scope, id: name.id })
}

impl From<&Account> for v1::DesiredAccount {
    fn from(account: &Account) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            name: Some(name_to_wire(&account.name)),
            owner_scope: account.owner_scope.clone(),
            adopt: false,
            alias: account.alias.clone(),
            organization: text(&account.organization),
            team: text(&account.team),
            user: text(&account.user),
            models: account.models.clone(),
            limits: account.limits.iter().map(Into::into).collect(),
            rates: account.rates.iter().map(Into::into).collect(),
            session_limit: account.session_limit.map(Nanodollars::get),
            tags: account.tags.clone(),
            required_tags: account.required_tags.clone(),
            client_tags_bind: account.client_tags_bind,
            forbidden: account.forbidden.clone(),
            blocked: account.blocked,
            expires_at_unix_ms: account.expires_at.map(Timestamp::unix_ms),
            credentials: account.credentials.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Credential> for v1::DesiredCredential {
    fn from(credential: &Credential) -> Self {
        Self {
            digest: credential.digest.as_bytes().to_vec(),
            name: credential.name.clone(),
            expires_at_unix_ms: credential.expires_at.map(Timestamp::unix_ms),
        }
    }
}

impl From<&Limit> for v1::DesiredLimit {
    fn from(limit: &Limit) -> Self {
        Self {
            amount: limit.amount.get(),
            window: Some(window_to_wire(limit.window)),
            observe: limit.observe,
            soft: limit.soft,
            model: limit.model.clone().unwrap_or_default(),
            thresholds_percent: limit.thresholds_percent.iter().map(|part| u32::from(*part)).collect(),
        }
    }
}

impl From<&RateLimit> for v1::DesiredRate {
    fn from(rate: &RateLimit) -> Self {
        let kind = match rate.kind {
            RateKind::RequestsPerMinute => v1::RateKind::RequestsPerMinute,
            RateKind::TokensPerMinute => v1::RateKind::TokensPerMinute,
            RateKind::TokensPerDay => v1::RateKind::TokensPerDay,
            RateKind::Parallel => v1::RateKind::Parallel,
        };
        Self { kind: kind.into(), limit: rate.limit, model: String::new(), observe: false }
    }
}

fn window_to_wire(window: Window) -> v1::Window {
    use v1::window::{BillingDay, Calendar, Kind, Lifetime};
    let time_zone = |zone: Zone| if zone == Zone::UTC { String::new() } else { zone.name().to_owned() };
    let kind = match window {
        Window::Calendar(unit, zone) => {
            let unit = match unit {
                CalendarUnit::Hour => v1::CalendarUnit::Hour,
                CalendarUnit::Day => v1::CalendarUnit::Day,
                CalendarUnit::Week => v1::CalendarUnit::Week,
                CalendarUnit::Months(1) => v1::CalendarUnit::Month,
                CalendarUnit::Months(3) => v1::CalendarUnit::Quarter,
                CalendarUnit::Months(12) => v1::CalendarUnit::Year,
                CalendarUnit::Months(_) => v1::CalendarUnit::Unspecified,
            };
            Kind::Calendar(Calendar { unit: unit.into(), time_zone: time_zone(zone) })
        }
        Window::Anchored { day, zone } => {
            Kind::BillingDay(BillingDay { day: day.get().into(), time_zone: time_zone(zone) })
        }
        Window::Rolling { seconds } => Kind::RollingSeconds(seconds),
        Window::Fixed { seconds } => Kind::FixedSeconds(seconds),
        Window::Lifetime => Kind::Lifetime(Lifetime {}),
        // Unset: the ledger refuses it, by the name of the field.
        _ => return v1::Window { kind: None },
    };
    v1::Window { kind: Some(kind) }
}

/// `None`: a window that no custom resource can name.
fn window_from_wire(window: Option<v1::Window>) -> Option<Window> {
    use v1::window::Kind;
    let zone = |name: &str| if name.is_empty() { Some(Zone::UTC) } else { name.parse().ok() };
    Some(match window?.kind? {
        Kind::Lifetime(_) => Window::Lifetime,
        Kind::RollingSeconds(seconds) => Window::Rolling { seconds },
        Kind::FixedSeconds(seconds) => Window::Fixed { seconds },
        Kind::BillingDay(billing) => {
            let day = BillingDay::new(u8::try_from(billing.day).ok()?).ok()?;
            Window::Anchored { day, zone: zone(&billing.time_zone)? }
        }
        Kind::Calendar(calendar) => {
            let unit = match v1::CalendarUnit::try_from(calendar.unit).ok()? {
                v1::CalendarUnit::Hour => CalendarUnit::Hour,
                v1::CalendarUnit::Day => CalendarUnit::Day,
                v1::CalendarUnit::Week => CalendarUnit::Week,
                v1::CalendarUnit::Month => CalendarUnit::Months(1),
                v1::CalendarUnit::Quarter => CalendarUnit::Months(3),
                v1::CalendarUnit::Year => CalendarUnit::Months(12),
                v1::CalendarUnit::Unspecified => return None,
            };
            Window::Calendar(unit, zone(&calendar.time_zone)?)
        }
    })
}

/// What the ledger tells of an account.
///
/// # Errors
/// [`WireError`] where it does not say of which.
pub fn standing_from_wire(status: v1::AccountStatus) -> Result<(AccountName, Standing), WireError> {
    let name = name_from_wire(status.name)?;
    let limit = |limit: v1::LimitStatus| {
        let desired = limit.limit.unwrap_or_default();
        LimitStanding {
            window: window_from_wire(desired.window),
            model: Some(desired.model).filter(|model| !model.is_empty()),
            soft: desired.soft,
            amount: Nanodollars::new(desired.amount),
            starts_at: Timestamp::new(limit.window_start_unix_ms),
            ends_at: limit.window_end_unix_ms.map(Timestamp::new),
            posted: Nanodollars::new(limit.posted),
            pending: Nanodollars::new(limit.pending),
        }
    };
    let standing = Standing {
        managed_by: status.managed_by,
        owner_scope: status.owner_scope,
        revision: status.revision,
        deleted: status.deleted,
        blocked: status.blocked,
        limits: status.limits.into_iter().map(limit).collect(),
        posted: Nanodollars::new(status.posted),
        pending: Nanodollars::new(status.pending),
        last_used_at: status.last_used_at_unix_ms.map(Timestamp::new),
        exhausted: status.exhausted,
    };
    Ok((name, standing))
}

impl From<v1::Refusal> for Refusal {
    fn from(refusal: v1::Refusal) -> Self {
        let reason = match v1::RefusalReason::try_from(refusal.reason) {
            Ok(v1::RefusalReason::Conflict) => RefusalReason::Conflict,
            Ok(v1::RefusalReason::NotFound) => RefusalReason::NotFound,
            _ => RefusalReason::Invalid,
        };
        Self { reason, field: refusal.field, message: refusal.message }
    }
}
