//! Every account with all that is said of it, a part at a time: what is to be moved from the HTTP API to an operator's resources.

use super::{invalid, read, unavailable, write};
use crate::store::{Listed, Operated, RateSpec};
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::Tag;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_proto::{encoded_len, v1};
use tonic::Status;

/// Accounts in one answer, unless told, and at most.
const ACCOUNTS_DEFAULT: u32 = 100;
const ACCOUNTS_MAX: u32 = 500;
/// Beyond this, the rest comes in the next answer: whoever asks reads 4 MiB at most.
const BYTES_ENOUGH: usize = 1 << 20;

pub(super) async fn list(
    store: &impl Operated,
    v1::ListRequest { cursor, at_most }: v1::ListRequest,
) -> Result<v1::ListResponse, Status> {
    let at_most = match at_most {
        0 => ACCOUNTS_DEFAULT,
        1..=ACCOUNTS_MAX => at_most,
        _ => return Err(Status::invalid_argument("at_most is more than 500")),
    };
    let epoch = store.epoch();
    let after = match read::numbered_cursor(&cursor).map_err(|fault| invalid(&fault))? {
        Some((of, _)) if of != epoch => {
            return Err(Status::aborted("the cursor is of books from before a restore: begin anew"));
        }
        known => known.map_or(0, |(_, number)| number),
    };
    let found = store.listed(after, at_most).await.map_err(|error| unavailable(&error))?;
    let whole = found.len();
    let mut bytes = 0;
    let mut last = after;
    let mut accounts = Vec::with_capacity(whole);
    for listed in found {
        if bytes > BYTES_ENOUGH {
            break;
        }
        last = listed.number;
        let account = said(listed);
        bytes += encoded_len(&account);
        accounts.push(account);
    }
    let is_all = accounts.len() == whole && whole < at_most as usize;
    let cursor = if is_all { Vec::new() } else { read::numbered_cursor_bytes(epoch, last) };
    Ok(v1::ListResponse { accounts, cursor })
}

fn said(Listed { name, manager, spec, credentials, .. }: Listed) -> v1::ListedAccount {
    // A tag's organization is said by its scope.
    let organization = spec.owners.organization.filter(|_| name.kind != AccountKind::Tag);
    let texts = |tags: Vec<Tag>| tags.iter().map(ToString::to_string).collect();
    let account = v1::DesiredAccount {
        name: Some(name.into()),
        owner_scope: manager.scope,
        adopt: false,
        alias: spec.alias.unwrap_or_default(),
        organization: organization.unwrap_or_default(),
        team: spec.owners.team.unwrap_or_default(),
        user: spec.owners.user.unwrap_or_default(),
        models: spec.models,
        limits: spec.limits.into_iter().map(write::desired).collect(),
        rates: spec.rates.into_iter().map(rate).collect(),
        session_limit: spec.session_limit.map(Nanodollars::get),
        session_limits: spec.session_limits.iter().map(Into::into).collect(),
        tags: texts(spec.tags),
        required_tags: texts(spec.required_tags),
        client_tags_bind: spec.client_tags_bind,
        forbidden: spec.forbidden.into_iter().map(|extra| extra.as_str().to_owned()).collect(),
        blocked: Some(spec.blocked),
        expires_at_unix_ms: spec.expires_at.map(Timestamp::unix_ms),
        credentials: credentials.into_iter().map(write::credential).collect(),
    };
    let metadata = spec.metadata.into_iter().map(|(field, _)| field).collect();
    v1::ListedAccount { account: Some(account), managed_by: manager.name, metadata }
}

fn rate(RateSpec { rate, model, observe }: RateSpec) -> v1::DesiredRate {
    v1::DesiredRate {
        kind: v1::RateKind::from(rate.kind).into(),
        limit: rate.limit,
        model: model.unwrap_or_default(),
        observe,
    }
}
