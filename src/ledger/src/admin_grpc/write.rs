//! Values into messages for an operator.

use super::read::Fault;
use super::unavailable;
use crate::store::{AccountName, AccountNow, Applied, Crossing, LimitRecord, LimitSpec, Refused, StoreError};
use tollgate_domain::account::AccountKind;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{CalendarUnit, Window, Zone};
use tollgate_proto::v1;
use tonic::Status;

pub(super) fn fault(fault: Fault) -> v1::Refusal {
    let message = fault.to_string();
    v1::Refusal { reason: v1::RefusalReason::Invalid.into(), field: fault.field, message }
}

/// A store that is away refuses nothing: whoever asked must ask again.
pub(super) fn refused(Refused { field, error }: Refused) -> Result<v1::Refusal, Status> {
    let mut field = field;
    let reason = match &error {
        StoreError::Unavailable(_) => return Err(unavailable(&error)),
        StoreError::Invalid(_) => v1::RefusalReason::Invalid,
        StoreError::NotFound(_) => v1::RefusalReason::NotFound,
        StoreError::Conflict(_) | StoreError::Managed(_) => v1::RefusalReason::Conflict,
        StoreError::Foreign(_) => {
            "organization".clone_into(&mut field);
            v1::RefusalReason::Conflict
        }
    };
    Ok(v1::Refusal { reason: reason.into(), field, message: error.to_string() })
}

pub(super) fn applied(applied: Applied, revision: u64) -> v1::apply_outcome::Applied {
    let result = match applied {
        Applied::Created => v1::ApplyResult::Created,
        Applied::Changed => v1::ApplyResult::Changed,
        Applied::Unchanged => v1::ApplyResult::Unchanged,
    };
    v1::apply_outcome::Applied { result: result.into(), revision }
}

pub(super) fn deleted(existed: bool) -> v1::delete_outcome::Deleted {
    let result = if existed { v1::DeleteResult::Deleted } else { v1::DeleteResult::Absent };
    v1::delete_outcome::Deleted { result: result.into() }
}

pub(super) fn status(account: AccountNow) -> v1::AccountStatus {
    let mut status = v1::AccountStatus {
        name: Some(name(account.name)),
        managed_by: account.manager.name,
        owner_scope: account.manager.scope,
        revision: account.revision,
        deleted: account.record.is_none(),
        exhausted: account.exhausted,
        ..v1::AccountStatus::default()
    };
    if let Some(record) = account.record {
        status.alias = record.spec.alias.unwrap_or_default();
        status.blocked = record.spec.blocked;
        status.limits = record.limits.into_iter().map(limit).collect();
        status.posted = record.posted.get();
        status.pending = record.pending.get();
        status.last_used_at_unix_ms = record.last_active_at.map(Timestamp::unix_ms);
    }
    status
}

fn limit(limit: LimitRecord) -> v1::LimitStatus {
    let LimitRecord { spec, period, posted, pending } = limit;
    let available = spec.amount.get().saturating_sub(posted.get()).saturating_sub(pending.get());
    v1::LimitStatus {
        limit: Some(desired(spec)),
        window_start_unix_ms: period.start.unix_ms(),
        window_end_unix_ms: period.end.map(Timestamp::unix_ms),
        posted: posted.get(),
        pending: pending.get(),
        available,
    }
}

fn desired(spec: LimitSpec) -> v1::DesiredLimit {
    v1::DesiredLimit {
        amount: spec.amount.get(),
        window: Some(window(spec.window)),
        observe: spec.observe,
        soft: spec.soft,
        model: spec.model.unwrap_or_default(),
        thresholds_percent: spec.thresholds.into_iter().map(u32::from).collect(),
    }
}

pub(super) fn crossing(crossing: Crossing) -> v1::LimitCrossing {
    v1::LimitCrossing {
        at_unix_ms: crossing.at.unix_ms(),
        name: Some(name(AccountName { kind: crossing.kind, scope: crossing.scope, id: crossing.id })),
        alias: crossing.alias.unwrap_or_default(),
        window: Some(window(crossing.window)),
        window_start_unix_ms: crossing.period.start.unix_ms(),
        window_end_unix_ms: crossing.period.end.map(Timestamp::unix_ms),
        model: crossing.model.unwrap_or_default(),
        soft: crossing.soft,
        threshold_percent: crossing.threshold.into(),
        amount: crossing.limit.get(),
        posted: crossing.posted.get(),
    }
}

fn name(name: AccountName) -> v1::AccountName {
    let kind = match name.kind {
        AccountKind::Organization => v1::AccountKind::Organization,
        AccountKind::Team => v1::AccountKind::Team,
        AccountKind::User => v1::AccountKind::User,
        AccountKind::Key => v1::AccountKind::Key,
        AccountKind::Tag => v1::AccountKind::Tag,
        AccountKind::Session => v1::AccountKind::Session,
        AccountKind::Customer => v1::AccountKind::Customer,
    };
    v1::AccountName { kind: kind.into(), id: name.id, scope: name.scope }
}

/// Windows that only the HTTP API can make, such as five calendar months, come without a kind.
fn window(window: Window) -> v1::Window {
    use v1::window::{BillingDay, Calendar, Kind, Lifetime};
    let time_zone = |zone: Zone| if zone == Zone::UTC { String::new() } else { zone.name().to_owned() };
    let calendar = |unit: v1::CalendarUnit, zone| {
        Some(Kind::Calendar(Calendar { unit: unit.into(), time_zone: time_zone(zone) }))
    };
    let kind = match window {
        Window::Calendar(CalendarUnit::Hour, zone) => calendar(v1::CalendarUnit::Hour, zone),
        Window::Calendar(CalendarUnit::Day, zone) => calendar(v1::CalendarUnit::Day, zone),
        Window::Calendar(CalendarUnit::Week, zone) => calendar(v1::CalendarUnit::Week, zone),
        Window::Calendar(CalendarUnit::Months(1), zone) => calendar(v1::CalendarUnit::Month, zone),
        Window::Calendar(CalendarUnit::Months(3), zone) => calendar(v1::CalendarUnit::Quarter, zone),
        Window::Calendar(CalendarUnit::Months(12), zone) => calendar(v1::CalendarUnit::Year, zone),
        Window::Anchored { day, zone } => {
            Some(Kind::BillingDay(BillingDay { day: day.get().into(), time_zone: time_zone(zone) }))
        }
        Window::Rolling { seconds } => Some(Kind::RollingSeconds(seconds)),
        Window::Fixed { seconds } => Some(Kind::FixedSeconds(seconds)),
        Window::Lifetime => Some(Kind::Lifetime(Lifetime {})),
        _ => None,
    };
    v1::Window { kind }
}
