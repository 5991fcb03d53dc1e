//! What the ledger lists, into accounts.

use super::{ListedAccount, ListedLimit, ListedRate};
use crate::plan::{name_from_wire, window_from_wire};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::{Rate, RateKind};
use tollgate_domain::time::Timestamp;
use tollgate_proto::v1;

/// The ledger listed something that this operator does not understand: whatever it is, it would be lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger listed an account that this operator does not understand: {0}")]
pub struct NotListed(String);

impl TryFrom<v1::ListedAccount> for ListedAccount {
    type Error = NotListed;

    fn try_from(listed: v1::ListedAccount) -> Result<Self, NotListed> {
        let v1::ListedAccount { account, managed_by, metadata } = listed;
        let account = account.ok_or_else(|| NotListed("one of which nothing is said".into()))?;
        let name = name_from_wire(account.name).map_err(|error| NotListed(error.to_string()))?;
        let rate = |rate: v1::DesiredRate| self::rate(rate, &name.id);
        let rates = account.rates.into_iter().map(rate).collect::<Result<_, _>>()?;
        Ok(Self {
            managed_by,
            owner_scope: account.owner_scope,
            alias: said(account.alias),
            organization: said(account.organization),
            team: said(account.team),
            user: said(account.user),
            models: account.models,
            limits: account.limits.into_iter().map(limit).collect(),
            rates,
            session_limit: account.session_limit.map(Nanodollars::new),
            has_session_limits: !account.session_limits.is_empty(),
            tags: account.tags,
            required_tags: account.required_tags,
            client_tags_bind: account.client_tags_bind,
            forbidden: account.forbidden,
            blocked: account.blocked.unwrap_or_default(),
            expires_at: account.expires_at_unix_ms.map(Timestamp::new),
            credentials: account.credentials.len(),
            metadata,
            name,
        })
    }
}

fn said(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn limit(limit: v1::DesiredLimit) -> ListedLimit {
    ListedLimit {
        amount: Nanodollars::new(limit.amount),
        window: window_from_wire(limit.window),
        model: said(limit.model),
        observe: limit.observe,
        soft: limit.soft,
        thresholds_percent: limit.thresholds_percent,
    }
}

fn rate(rate: v1::DesiredRate, id: &str) -> Result<ListedRate, NotListed> {
    let kind = match rate.kind() {
        v1::RateKind::RequestsPerMinute => RateKind::RequestsPerMinute,
        v1::RateKind::TokensPerMinute => RateKind::TokensPerMinute,
        v1::RateKind::TokensPerDay => RateKind::TokensPerDay,
        v1::RateKind::Parallel => RateKind::Parallel,
        v1::RateKind::Unspecified => return Err(NotListed(format!("a rate of {id}"))),
    };
    Ok(ListedRate { rate: Rate { kind, limit: rate.limit }, model: said(rate.model), observe: rate.observe })
}
