//! Accounts into messages for the ledger, and its messages into what is known of it: the one place that knows both.

use super::{
    Account, Credential, Limit, LimitStanding, PriceFault, RateLimit, Refusal, RefusalReason, Standing,
};
use tollgate_domain::account::AccountName;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{BillingDay, Window, Zone};
use tollgate_proto::convert::calendar_unit;
use tollgate_proto::v1;

/// The ledger said something that this operator does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the ledger told of an account without a name or of an unknown kind, or of a key without a digest, or refused for an unknown reason"
)]
pub struct WireError;

/// The ledger's name of an account.
///
/// # Errors
/// [`WireError`] where it is missing, or of a kind that is not known.
pub(crate) fn name_from_wire(name: Option<v1::AccountName>) -> Result<AccountName, WireError> {
    name.ok_or(WireError)?.try_into().map_err(|_| WireError)
}

impl From<&Account> for v1::DesiredAccount {
    fn from(account: &Account) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            name: Some(account.name.clone().into()),
            owner_scope: account.owner_scope.clone(),
            adopt: account.adopt,
            alias: account.alias.clone(),
            organization: text(&account.organization),
            team: text(&account.team),
            user: text(&account.user),
            models: account.models.clone(),
            limits: account.limits.iter().map(Into::into).collect(),
            rates: account.rates.iter().map(Into::into).collect(),
            session_limit: account.session_limit.map(Nanodollars::get),
            session_limits: account.session_limits.iter().map(Into::into).collect(),
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
            window: Some(limit.window.into()),
            observe: limit.observe,
            soft: limit.soft,
            model: limit.model.clone().unwrap_or_default(),
            thresholds_percent: limit.thresholds_percent.iter().map(|part| u32::from(*part)).collect(),
        }
    }
}

impl From<&RateLimit> for v1::DesiredRate {
    fn from(rate: &RateLimit) -> Self {
        Self {
            kind: v1::RateKind::from(rate.kind).into(),
            limit: rate.limit,
            model: String::new(),
            observe: false,
        }
    }
}

fn credential_from_wire(credential: v1::DesiredCredential) -> Result<Credential, WireError> {
    let digest = credential.digest.as_slice().try_into().map_err(|_| WireError)?;
    let expires_at = credential.expires_at_unix_ms.map(Timestamp::new);
    Ok(Credential { digest, name: credential.name, expires_at })
}

/// `None`: a window that no custom resource can name.
pub(crate) fn window_from_wire(window: Option<v1::Window>) -> Option<Window> {
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
            let unit = calendar_unit(calendar.unit)?;
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
            observe: desired.observe,
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
        credentials: status.credentials.into_iter().map(credential_from_wire).collect::<Result<_, _>>()?,
    };
    Ok((name, standing))
}

impl TryFrom<v1::Refusal> for Refusal {
    type Error = WireError;

    fn try_from(refusal: v1::Refusal) -> Result<Self, WireError> {
        let reason = match refusal.reason() {
            v1::RefusalReason::Invalid => RefusalReason::Invalid,
            v1::RefusalReason::Conflict => RefusalReason::Conflict,
            v1::RefusalReason::NotFound => RefusalReason::NotFound,
            v1::RefusalReason::Unspecified => return Err(WireError),
        };
        Ok(Self { reason, field: refusal.field, message: refusal.message })
    }
}

impl TryFrom<v1::PriceFault> for PriceFault {
    type Error = WireError;

    fn try_from(fault: v1::PriceFault) -> Result<Self, WireError> {
        let reason = match fault.reason() {
            v1::PriceFaultReason::Invalid => RefusalReason::Invalid,
            v1::PriceFaultReason::Conflict => RefusalReason::Conflict,
            v1::PriceFaultReason::NotFound => RefusalReason::NotFound,
            v1::PriceFaultReason::Unspecified => return Err(WireError),
        };
        Ok(Self { sheet: fault.sheet, reason, field: fault.field, message: fault.message })
    }
}
