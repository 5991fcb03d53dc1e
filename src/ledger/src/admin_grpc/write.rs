//! Values into messages for an operator.

use super::read::Fault;
use super::unavailable;
use crate::store::{
    AccountName, AccountNow, Applied, Crossing, DesiredCredential, LimitRecord, LimitSpec, Refused,
    StoreError,
};
use tollgate_domain::time::Timestamp;
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
        name: Some(account.name.into()),
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
        status.credentials = account.credentials.into_iter().map(credential).collect();
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

pub(super) fn desired(spec: LimitSpec) -> v1::DesiredLimit {
    v1::DesiredLimit {
        amount: spec.amount.get(),
        window: Some(spec.window.into()),
        observe: spec.observe,
        soft: spec.soft,
        model: spec.model.unwrap_or_default(),
        thresholds_percent: spec.thresholds.into_iter().map(u32::from).collect(),
    }
}

pub(super) fn credential(
    DesiredCredential { credential, expires_at }: DesiredCredential,
) -> v1::DesiredCredential {
    v1::DesiredCredential {
        digest: credential.digest.as_bytes().to_vec(),
        name: credential.name,
        expires_at_unix_ms: expires_at.map(Timestamp::unix_ms),
    }
}

pub(super) fn crossing(crossing: Crossing) -> v1::LimitCrossing {
    v1::LimitCrossing {
        at_unix_ms: crossing.at.unix_ms(),
        name: Some(AccountName { kind: crossing.kind, scope: crossing.scope, id: crossing.id }.into()),
        alias: crossing.alias.unwrap_or_default(),
        window: Some(crossing.window.into()),
        window_start_unix_ms: crossing.period.start.unix_ms(),
        window_end_unix_ms: crossing.period.end.map(Timestamp::unix_ms),
        model: crossing.model.unwrap_or_default(),
        soft: crossing.soft,
        threshold_percent: crossing.threshold.into(),
        amount: crossing.limit.get(),
        posted: crossing.posted.get(),
    }
}
