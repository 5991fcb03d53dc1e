//! Conversions between messages and the domain's types. Into the domain every field is checked and the error names
//! it; out of the domain nothing can fail.

use crate::v1;
use tollgate_domain::account::{AccountKind, AccountLabel, AccountName};
use tollgate_domain::allow::{AllowList, LevelList};
use tollgate_domain::api::Api;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::catalogue::{Catalogue, Mode, Model, Provider};
use tollgate_domain::hold::{
    DenialReason, End, Event, HoldAsk, HoldDenied, LookupAsk, Outcome, Report, Settlement, Verdict,
};
use tollgate_domain::ids::{HoldId, KeyDigest, ModelName, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::policy::{Amounts, Exhausted, Policy};
use tollgate_domain::price::Modifiers;
use tollgate_domain::rate::{Rate, RateKind, RateNow};
use tollgate_domain::session::SessionPattern;
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;
use tollgate_domain::window::{CalendarUnit, Window, Zone};

/// A message that means nothing: which field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {why}")]
pub struct Invalid {
    /// The field's path in the message.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

const fn invalid(field: &'static str, why: &'static str) -> Invalid {
    Invalid { field, why }
}

/// Texts longer than this are no names of anything.
const TEXT_BYTES_MAX: usize = 256;
/// Versions of policies are some tens of bytes.
const VERSION_BYTES_MAX: usize = 256;
/// Fallback models of one request at most.
const FALLBACK_MODELS_MAX: usize = 16;
/// Parts of one answer that were billed as other models: the meter keeps 64.
const EXTRA_MAX: usize = 64;
/// An end's, and nothing comes after it.
const SEQUENCE_MAX: u64 = 1 << 40;
/// Tokens beyond this are absurd: no provider's window comes near, and products with prices stay small.
pub const TOKENS_MAX: u64 = 1 << 40;

macro_rules! enum_pairs {
    ($from:ident, $into:ident, $domain:ty, $message:ty, $field:literal, {$($d:path => $m:path),+ $(,)?}) => {
        fn $into(value: $domain) -> $message {
            match value { $($d => $m),+ }
        }

        fn $from(value: i32) -> Result<$domain, Invalid> {
            match <$message>::try_from(value) {
                $(Ok($m) => Ok($d),)+
                _ => Err(invalid($field, "is unset or unknown")),
            }
        }
    };
}

enum_pairs!(provider_from, provider_into, Provider, v1::Provider, "provider", {
    Provider::Anthropic => v1::Provider::Anthropic,
    Provider::OpenAi => v1::Provider::Openai,
    Provider::Gemini => v1::Provider::Gemini,
});
enum_pairs!(api_from, api_into, Api, v1::Api, "api", {
    Api::Messages => v1::Api::Messages,
    Api::ChatCompletions => v1::Api::ChatCompletions,
    Api::Responses => v1::Api::Responses,
    Api::Embeddings => v1::Api::Embeddings,
    Api::Completions => v1::Api::Completions,
});
enum_pairs!(mode_from, mode_into, Mode, v1::Mode, "mode", {
    Mode::Chat => v1::Mode::Chat,
    Mode::Responses => v1::Mode::Responses,
    Mode::Embedding => v1::Mode::Embedding,
    Mode::Completion => v1::Mode::Completion,
});
enum_pairs!(kind_from, kind_into, AccountKind, v1::AccountKind, "account.kind", {
    AccountKind::Organization => v1::AccountKind::Organization,
    AccountKind::Team => v1::AccountKind::Team,
    AccountKind::User => v1::AccountKind::User,
    AccountKind::Key => v1::AccountKind::Key,
    AccountKind::Tag => v1::AccountKind::Tag,
    AccountKind::Session => v1::AccountKind::Session,
    AccountKind::Customer => v1::AccountKind::Customer,
});
enum_pairs!(end_from, end_into, End, v1::End, "settle.end", {
    End::Complete => v1::End::Complete,
    End::ClientLeft => v1::End::ClientLeft,
    End::UpstreamCut => v1::End::UpstreamCut,
    End::ErrorInAnswer => v1::End::ErrorInAnswer,
    End::NoUsage => v1::End::NoUsage,
    End::NotTerminal => v1::End::NotTerminal,
    End::FilterLost => v1::End::FilterLost,
});
enum_pairs!(reason_from, reason_into, DenialReason, v1::DenialReason, "denied.reason", {
    DenialReason::KeyUnknown => v1::DenialReason::KeyUnknown,
    DenialReason::KeyBlocked => v1::DenialReason::KeyBlocked,
    DenialReason::KeyExpired => v1::DenialReason::KeyExpired,
    DenialReason::ModelUnknown => v1::DenialReason::ModelUnknown,
    DenialReason::ModelNotAllowed => v1::DenialReason::ModelNotAllowed,
    DenialReason::ModelUnpriced => v1::DenialReason::ModelUnpriced,
    DenialReason::BudgetSpent => v1::DenialReason::BudgetSpent,
    DenialReason::BudgetTooSmall => v1::DenialReason::BudgetTooSmall,
    DenialReason::HoldEnded => v1::DenialReason::HoldEnded,
    DenialReason::RateLimited => v1::DenialReason::RateLimited,
    DenialReason::TagMissing => v1::DenialReason::TagMissing,
    DenialReason::ExtraForbidden => v1::DenialReason::ExtraForbidden,
});

enum_pairs!(rate_kind_from, rate_kind_into, RateKind, v1::RateKind, "rates.kind", {
    RateKind::RequestsPerMinute => v1::RateKind::RequestsPerMinute,
    RateKind::TokensPerMinute => v1::RateKind::TokensPerMinute,
    RateKind::TokensPerDay => v1::RateKind::TokensPerDay,
    RateKind::Parallel => v1::RateKind::Parallel,
});

fn tokens(field: &'static str, value: u64) -> Result<u64, Invalid> {
    if value <= TOKENS_MAX { Ok(value) } else { Err(invalid(field, "is absurdly large")) }
}

fn text(field: &'static str, value: String) -> Result<Option<String>, Invalid> {
    match value.len() {
        0 => Ok(None),
        // They would end up in tables and terminals.
        1..=TEXT_BYTES_MAX if value.contains(char::is_control) => {
            Err(invalid(field, "holds a control character"))
        }
        1..=TEXT_BYTES_MAX => Ok(Some(value)),
        _ => Err(invalid(field, "is longer than 256 bytes")),
    }
}

fn version(field: &'static str, value: Vec<u8>) -> Result<Vec<u8>, Invalid> {
    if value.len() <= VERSION_BYTES_MAX { Ok(value) } else { Err(invalid(field, "is longer than 256 bytes")) }
}

fn required_text(field: &'static str, value: String) -> Result<String, Invalid> {
    text(field, value)?.ok_or(invalid(field, "is empty"))
}

/// The digest of a virtual key.
///
/// # Errors
/// [`Invalid`] unless it has 32 bytes.
pub fn key_digest(bytes: &[u8]) -> Result<KeyDigest, Invalid> {
    KeyDigest::try_from(bytes).map_err(|_| invalid("key_digest", "must have 32 bytes"))
}

fn hold_id(bytes: &[u8]) -> Result<HoldId, Invalid> {
    let id = HoldId::try_from(bytes).map_err(|_| invalid("hold_id", "must have 16 bytes"))?;
    if id.as_bytes() == &[0; 16] { Err(invalid("hold_id", "is all zeros")) } else { Ok(id) }
}

impl TryFrom<v1::Usage> for Usage {
    type Error = Invalid;

    fn try_from(usage: v1::Usage) -> Result<Self, Invalid> {
        Ok(Self {
            input: tokens("usage.input", usage.input)?,
            cache_read: tokens("usage.cache_read", usage.cache_read)?,
            cache_write_5m: tokens("usage.cache_write_5m", usage.cache_write_5m)?,
            cache_write_1h: tokens("usage.cache_write_1h", usage.cache_write_1h)?,
            output: tokens("usage.output", usage.output)?,
            web_searches: tokens("usage.web_searches", usage.web_searches)?,
        })
    }
}

impl From<Usage> for v1::Usage {
    fn from(usage: Usage) -> Self {
        Self {
            input: usage.input,
            cache_read: usage.cache_read,
            cache_write_5m: usage.cache_write_5m,
            cache_write_1h: usage.cache_write_1h,
            output: usage.output,
            web_searches: usage.web_searches,
        }
    }
}

impl TryFrom<v1::Bounds> for Bounds {
    type Error = Invalid;

    fn try_from(bounds: v1::Bounds) -> Result<Self, Invalid> {
        Ok(Self {
            input: tokens("bounds.input", bounds.input)?,
            input_per_call: tokens("bounds.input_per_call", bounds.input_per_call)?,
            cache_write_5m: tokens("bounds.cache_write_5m", bounds.cache_write_5m)?,
            cache_write_1h: tokens("bounds.cache_write_1h", bounds.cache_write_1h)?,
            output: tokens("bounds.output", bounds.output)?,
            web_searches: tokens("bounds.web_searches", bounds.web_searches)?,
        })
    }
}

impl From<Bounds> for v1::Bounds {
    fn from(bounds: Bounds) -> Self {
        Self {
            input: bounds.input,
            cache_write_5m: bounds.cache_write_5m,
            cache_write_1h: bounds.cache_write_1h,
            output: bounds.output,
            web_searches: bounds.web_searches,
            input_per_call: bounds.input_per_call,
        }
    }
}

fn modifiers(
    service_tier: Option<String>,
    speed: Option<String>,
    inference_geo: Option<String>,
) -> Result<Modifiers, Invalid> {
    Ok(Modifiers {
        service_tier: text("service_tier", service_tier.unwrap_or_default())?,
        speed: text("speed", speed.unwrap_or_default())?,
        inference_geo: text("inference_geo", inference_geo.unwrap_or_default())?,
    })
}

impl TryFrom<v1::HoldRequest> for HoldAsk {
    type Error = Invalid;

    /// The waiting reports stay behind: take them out of the message first.
    fn try_from(ask: v1::HoldRequest) -> Result<Self, Invalid> {
        if ask.fallback_models.len() > FALLBACK_MODELS_MAX {
            return Err(invalid("fallback_models", "are more than 16"));
        }
        if ask.tags.len() > Tag::COUNT_MAX {
            return Err(invalid("tags", "are more than 16"));
        }
        let fallback = |name| required_text("fallback_models", name).map(ModelName::new);
        let tag = |tag: String| tag.parse().map_err(|_| invalid("tags", "hold a text that is no tag"));
        Ok(Self {
            id: hold_id(&ask.hold_id)?,
            key: key_digest(&ask.key_digest)?,
            policy_version: version("policy_version", ask.policy_version)?,
            model: ModelName::new(required_text("model", ask.model)?),
            provider: provider_from(ask.provider)?,
            api: api_from(ask.api)?,
            bounds: ask.bounds.ok_or(invalid("bounds", "are missing"))?.try_into()?,
            modifiers: modifiers(ask.service_tier, ask.speed, ask.inference_geo)?,
            fallback_models: ask.fallback_models.into_iter().map(fallback).collect::<Result<_, _>>()?,
            tags: ask.tags.into_iter().map(tag).collect::<Result<_, _>>()?,
            session: text("session", ask.session)?,
            end_user: text("end_user", ask.end_user)?,
            client: text("client", ask.client)?,
            catalogue_revision: ask.catalogue_revision,
        })
    }
}

impl From<HoldAsk> for v1::HoldRequest {
    /// Without waiting reports.
    fn from(ask: HoldAsk) -> Self {
        Self {
            hold_id: ask.id.as_bytes().to_vec(),
            key_digest: ask.key.as_bytes().to_vec(),
            policy_version: ask.policy_version,
            model: ask.model.to_string(),
            provider: provider_into(ask.provider).into(),
            api: api_into(ask.api).into(),
            bounds: Some(ask.bounds.into()),
            service_tier: ask.modifiers.service_tier,
            speed: ask.modifiers.speed,
            inference_geo: ask.modifiers.inference_geo,
            fallback_models: ask.fallback_models.iter().map(ModelName::to_string).collect(),
            tags: ask.tags.iter().map(Tag::to_string).collect(),
            session: ask.session.unwrap_or_default(),
            end_user: ask.end_user.unwrap_or_default(),
            client: ask.client.unwrap_or_default(),
            reports: Vec::new(),
            catalogue_revision: ask.catalogue_revision,
        }
    }
}

impl TryFrom<v1::LookupRequest> for LookupAsk {
    type Error = Invalid;

    fn try_from(ask: v1::LookupRequest) -> Result<Self, Invalid> {
        Ok(Self {
            key: key_digest(&ask.key_digest)?,
            known_version: version("known_version", ask.known_version)?,
            catalogue_revision: ask.catalogue_revision,
        })
    }
}

impl From<LookupAsk> for v1::LookupRequest {
    fn from(ask: LookupAsk) -> Self {
        Self {
            key_digest: ask.key.as_bytes().to_vec(),
            known_version: ask.known_version,
            catalogue_revision: ask.catalogue_revision,
        }
    }
}

impl TryFrom<v1::ReportEvent> for Report {
    type Error = Invalid;

    fn try_from(report: v1::ReportEvent) -> Result<Self, Invalid> {
        match report.sequence {
            0 => return Err(invalid("sequence", "must begin at 1")),
            1..=SEQUENCE_MAX => {}
            _ => return Err(invalid("sequence", "is absurdly large")),
        }
        let event = match report.event.ok_or(invalid("event", "is missing"))? {
            v1::report_event::Event::Adjust(adjust) => Event::Adjust {
                usage: adjust.usage.map(Usage::try_from).transpose()?,
                output_seen: tokens("adjust.output_seen", adjust.output_seen)?,
            },
            v1::report_event::Event::Settle(settle) => Event::Settle(settle.try_into()?),
            v1::report_event::Event::Void(void) => {
                Event::Void { status: status("void.status", void.status)? }
            }
        };
        Ok(Self {
            hold: hold_id(&report.hold_id)?,
            key: key_digest(&report.key_digest)?,
            sequence: report.sequence,
            event,
        })
    }
}

/// An HTTP status, or 0 where none was seen.
fn status(field: &'static str, value: u32) -> Result<u16, Invalid> {
    u16::try_from(value)
        .ok()
        .filter(|s| matches!(s, 0 | 100..=999))
        .ok_or(invalid(field, "is no HTTP status"))
}

impl From<Report> for v1::ReportEvent {
    fn from(report: Report) -> Self {
        let event = match report.event {
            Event::Adjust { usage, output_seen } => {
                v1::report_event::Event::Adjust(v1::Adjust { usage: usage.map(Into::into), output_seen })
            }
            Event::Settle(settlement) => v1::report_event::Event::Settle(settlement.into()),
            Event::Void { status } => v1::report_event::Event::Void(v1::Void { status: status.into() }),
        };
        Self {
            hold_id: report.hold.as_bytes().to_vec(),
            key_digest: report.key.as_bytes().to_vec(),
            sequence: report.sequence,
            event: Some(event),
        }
    }
}

impl TryFrom<v1::Settle> for Settlement {
    type Error = Invalid;

    fn try_from(settle: v1::Settle) -> Result<Self, Invalid> {
        if settle.extra.len() > EXTRA_MAX {
            return Err(invalid("settle.extra", "are more than 64"));
        }
        let extra = settle.extra.into_iter().map(|part| {
            let usage = part.usage.ok_or(invalid("settle.extra.usage", "is missing"))?;
            Ok((required_text("settle.extra.model", part.model)?, usage.try_into()?))
        });
        Ok(Self {
            usage: settle.usage.map(Usage::try_from).transpose()?,
            estimated: settle.estimated,
            end: end_from(settle.end)?,
            model: text("settle.model", settle.model.unwrap_or_default())?,
            modifiers: modifiers(settle.service_tier, settle.speed, settle.inference_geo)?,
            extra: extra.collect::<Result<_, Invalid>>()?,
            status: status("settle.status", settle.status)?,
            duration_ms: tokens("settle.duration_ms", settle.duration_ms)?,
            first_byte_ms: tokens("settle.first_byte_ms", settle.first_byte_ms)?,
        })
    }
}

impl From<Settlement> for v1::Settle {
    fn from(settlement: Settlement) -> Self {
        let extra = settlement.extra.into_iter();
        Self {
            usage: settlement.usage.map(Into::into),
            estimated: settlement.estimated,
            end: end_into(settlement.end).into(),
            model: settlement.model,
            service_tier: settlement.modifiers.service_tier,
            speed: settlement.modifiers.speed,
            inference_geo: settlement.modifiers.inference_geo,
            extra: extra.map(|(model, usage)| v1::ModelUsage { model, usage: Some(usage.into()) }).collect(),
            status: settlement.status.into(),
            duration_ms: settlement.duration_ms,
            first_byte_ms: settlement.first_byte_ms,
        }
    }
}

impl From<AccountName> for v1::AccountName {
    fn from(name: AccountName) -> Self {
        Self { kind: kind_into(name.kind).into(), id: name.id, scope: name.scope }
    }
}

impl TryFrom<v1::AccountName> for AccountName {
    type Error = Invalid;

    fn try_from(name: v1::AccountName) -> Result<Self, Invalid> {
        Ok(Self { kind: kind_from(name.kind)?, scope: name.scope, id: name.id })
    }
}

impl From<(&SessionPattern, Nanodollars)> for v1::DesiredSessionLimit {
    fn from((pattern, amount): (&SessionPattern, Nanodollars)) -> Self {
        Self { pattern: pattern.to_string(), amount: amount.get() }
    }
}

impl From<RateKind> for v1::RateKind {
    fn from(kind: RateKind) -> Self {
        rate_kind_into(kind)
    }
}

/// Windows that only the HTTP API can make, such as five calendar months, come without a kind.
impl From<Window> for v1::Window {
    fn from(window: Window) -> Self {
        use v1::window::{BillingDay, Calendar, Kind, Lifetime};
        let time_zone = |zone: Zone| if zone == Zone::UTC { String::new() } else { zone.name().to_owned() };
        let kind = match window {
            Window::Calendar(unit, zone) => calendar_unit_into(unit)
                .map(|unit| Kind::Calendar(Calendar { unit: unit.into(), time_zone: time_zone(zone) })),
            Window::Anchored { day, zone } => {
                Some(Kind::BillingDay(BillingDay { day: day.get().into(), time_zone: time_zone(zone) }))
            }
            Window::Rolling { seconds } => Some(Kind::RollingSeconds(seconds)),
            Window::Fixed { seconds } => Some(Kind::FixedSeconds(seconds)),
            Window::Lifetime => Some(Kind::Lifetime(Lifetime {})),
            _ => None,
        };
        Self { kind }
    }
}

const CALENDAR_UNITS: [(CalendarUnit, v1::CalendarUnit); 6] = [
    (CalendarUnit::Hour, v1::CalendarUnit::Hour),
    (CalendarUnit::Day, v1::CalendarUnit::Day),
    (CalendarUnit::Week, v1::CalendarUnit::Week),
    (CalendarUnit::Months(1), v1::CalendarUnit::Month),
    (CalendarUnit::Months(3), v1::CalendarUnit::Quarter),
    (CalendarUnit::Months(12), v1::CalendarUnit::Year),
];

fn calendar_unit_into(unit: CalendarUnit) -> Option<v1::CalendarUnit> {
    CALENDAR_UNITS.into_iter().find(|(own, _)| *own == unit).map(|(_, message)| message)
}

/// A unit of the calendar; `None`: unset or unknown.
pub fn calendar_unit(unit: i32) -> Option<CalendarUnit> {
    let told = v1::CalendarUnit::try_from(unit).ok()?;
    CALENDAR_UNITS.into_iter().find(|(_, message)| *message == told).map(|(own, _)| own)
}

impl TryFrom<v1::AccountLabel> for AccountLabel {
    type Error = Invalid;

    fn try_from(label: v1::AccountLabel) -> Result<Self, Invalid> {
        Ok(Self { kind: kind_from(label.kind)?, alias: label.alias })
    }
}

impl From<AccountLabel> for v1::AccountLabel {
    fn from(label: AccountLabel) -> Self {
        Self { kind: kind_into(label.kind).into(), alias: label.alias }
    }
}

impl From<v1::Amounts> for Amounts {
    fn from(amounts: v1::Amounts) -> Self {
        Self {
            limit: Nanodollars::new(amounts.limit_nanodollars),
            posted: Nanodollars::new(amounts.posted_nanodollars),
            pending: Nanodollars::new(amounts.pending_nanodollars),
            requested: Nanodollars::new(amounts.requested_nanodollars),
        }
    }
}

impl From<Amounts> for v1::Amounts {
    fn from(amounts: Amounts) -> Self {
        Self {
            limit_nanodollars: amounts.limit.get(),
            posted_nanodollars: amounts.posted.get(),
            pending_nanodollars: amounts.pending.get(),
            requested_nanodollars: amounts.requested.get(),
        }
    }
}

impl TryFrom<v1::Policy> for Policy {
    type Error = Invalid;

    fn try_from(policy: v1::Policy) -> Result<Self, Invalid> {
        let level = |list: v1::AllowList| {
            Ok(LevelList {
                level: kind_from(list.level)?,
                list: AllowList::new(&list.patterns),
                patterns: list.patterns,
            })
        };
        let tag = |tag: String| tag.parse().map_err(|_| invalid("policy.tags", "hold a text that is no tag"));
        // A filter that does not know what is forbidden must not let it pass.
        let extra = |word: &str| {
            word.parse().map_err(|_| invalid("policy.forbidden", "holds an extra that is not known"))
        };
        let accounts = policy.accounts.into_iter().map(AccountLabel::try_from);
        Ok(Self {
            version: policy.version,
            accounts: accounts.collect::<Result<_, _>>()?,
            blocked: policy.blocked.map(AccountLabel::try_from).transpose()?,
            expires_at: policy.expires_at_ms.map(Timestamp::new),
            allow_lists: policy.allow_lists.into_iter().map(level).collect::<Result<_, Invalid>>()?,
            tags: policy.tags.into_iter().map(tag).collect::<Result<_, _>>()?,
            forbidden: policy.forbidden.iter().map(|word| extra(word)).collect::<Result<_, _>>()?,
            required_tags: policy.required_tags.into_iter().map(tag).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Policy> for v1::Policy {
    fn from(policy: Policy) -> Self {
        let level =
            |list: LevelList| v1::AllowList { level: kind_into(list.level).into(), patterns: list.patterns };
        Self {
            version: policy.version,
            accounts: policy.accounts.into_iter().map(Into::into).collect(),
            blocked: policy.blocked.map(Into::into),
            expires_at_ms: policy.expires_at.map(Timestamp::unix_ms),
            allow_lists: policy.allow_lists.into_iter().map(level).collect(),
            tags: policy.tags.iter().map(Tag::to_string).collect(),
            forbidden: policy.forbidden.iter().map(ToString::to_string).collect(),
            required_tags: policy.required_tags.iter().map(Tag::to_string).collect(),
        }
    }
}

impl TryFrom<v1::Exhausted> for Exhausted {
    type Error = Invalid;

    fn try_from(exhausted: v1::Exhausted) -> Result<Self, Invalid> {
        Ok(Self {
            account: exhausted.account.ok_or(invalid("exhausted.account", "is missing"))?.try_into()?,
            amounts: exhausted.amounts.unwrap_or_default().into(),
            resets_at: exhausted.resets_at_ms.map(Timestamp::new),
        })
    }
}

impl From<Exhausted> for v1::Exhausted {
    fn from(exhausted: Exhausted) -> Self {
        Self {
            account: Some(exhausted.account.into()),
            amounts: Some(exhausted.amounts.into()),
            resets_at_ms: exhausted.resets_at.map(Timestamp::unix_ms),
        }
    }
}

impl TryFrom<v1::Denied> for HoldDenied {
    type Error = Invalid;

    fn try_from(denied: v1::Denied) -> Result<Self, Invalid> {
        Ok(Self {
            reason: reason_from(denied.reason)?,
            account: denied.account.map(AccountLabel::try_from).transpose()?,
            resets_at: denied.resets_at_ms.map(Timestamp::new),
            amounts: denied.amounts.map(Into::into),
            retry_after_ms: denied.retry_after_ms,
        })
    }
}

impl From<HoldDenied> for v1::Denied {
    fn from(denied: HoldDenied) -> Self {
        Self {
            reason: reason_into(denied.reason).into(),
            account: denied.account.map(Into::into),
            resets_at_ms: denied.resets_at.map(Timestamp::unix_ms),
            amounts: denied.amounts.map(Into::into),
            retry_after_ms: denied.retry_after_ms,
        }
    }
}

impl TryFrom<v1::RateStatus> for RateNow {
    type Error = Invalid;

    fn try_from(status: v1::RateStatus) -> Result<Self, Invalid> {
        Ok(Self {
            account: status.account.ok_or(invalid("rates.account", "is missing"))?.try_into()?,
            rate: Rate { kind: rate_kind_from(status.kind)?, limit: status.limit },
            remaining: status.remaining,
            resets_at: Timestamp::new(status.resets_at_ms),
        })
    }
}

impl From<RateNow> for v1::RateStatus {
    fn from(now: RateNow) -> Self {
        Self {
            account: Some(now.account.into()),
            kind: rate_kind_into(now.rate.kind).into(),
            limit: now.rate.limit,
            remaining: now.remaining,
            resets_at_ms: now.resets_at.unix_ms(),
        }
    }
}

/// A later ledger may know kinds that this filter cannot show, which is no reason to refuse a request that it admitted.
fn rates(statuses: Vec<v1::RateStatus>) -> Result<Vec<RateNow>, Invalid> {
    let known = |status: &v1::RateStatus| v1::RateKind::try_from(status.kind).is_ok();
    statuses.into_iter().filter(known).map(RateNow::try_from).collect()
}

impl TryFrom<v1::hold_response::Verdict> for Verdict {
    type Error = Invalid;

    fn try_from(verdict: v1::hold_response::Verdict) -> Result<Self, Invalid> {
        Ok(match verdict {
            v1::hold_response::Verdict::Held(held) => Self::Held {
                amount: Nanodollars::new(held.amount_nanodollars),
                expires_at: Timestamp::new(held.expires_at_ms),
                rates: rates(held.rates)?,
            },
            v1::hold_response::Verdict::Denied(denied) => Self::Denied(denied.try_into()?),
            v1::hold_response::Verdict::Stale(stale) => {
                let policy = stale.policy.ok_or(invalid("stale.policy", "is missing"))?;
                let catalogue = stale.catalogue.map(Catalogue::try_from).transpose()?;
                Self::Stale(Box::new(policy.try_into()?), catalogue.map(Box::new))
            }
        })
    }
}

impl From<Verdict> for v1::hold_response::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Held { amount, expires_at, rates } => Self::Held(v1::Held {
                amount_nanodollars: amount.get(),
                expires_at_ms: expires_at.unix_ms(),
                rates: rates.into_iter().map(Into::into).collect(),
            }),
            Verdict::Denied(denied) => Self::Denied(denied.into()),
            Verdict::Stale(policy, catalogue) => Self::Stale(v1::Stale {
                policy: Some((*policy).into()),
                catalogue: catalogue.as_deref().map(Into::into),
            }),
        }
    }
}

/// The answer to one report.
pub fn report_outcome(report: &v1::ReportEvent, outcome: Outcome) -> v1::ReportOutcome {
    let (result, reason) = match outcome {
        Outcome::Applied => (v1::ReportResult::Applied, ""),
        Outcome::Duplicate => (v1::ReportResult::Duplicate, ""),
        Outcome::Superseded => (v1::ReportResult::Superseded, ""),
        Outcome::Tombstone => (v1::ReportResult::Tombstone, ""),
        Outcome::Rejected(reason) => (v1::ReportResult::Rejected, reason),
    };
    v1::ReportOutcome {
        hold_id: report.hold_id.clone(),
        sequence: report.sequence,
        result: result.into(),
        reason: reason.to_owned(),
    }
}

impl TryFrom<v1::Catalogue> for Catalogue {
    type Error = Invalid;

    fn try_from(catalogue: v1::Catalogue) -> Result<Self, Invalid> {
        let model = |model: v1::Model| {
            Ok(Model {
                name: ModelName::new(required_text("catalogue.name", model.name)?),
                provider: provider_from(model.provider)?,
                mode: mode_from(model.mode)?,
                aliases: model.aliases,
                context_window: tokens("catalogue.context_window", model.context_window)?,
                max_output: tokens("catalogue.max_output", model.max_output)?,
                retired: model.retired_day.and_then(chrono::NaiveDate::from_epoch_days),
            })
        };
        let models = catalogue.models.into_iter().map(model).collect::<Result<_, Invalid>>()?;
        Self::new(catalogue.revision, models).map_err(|_| invalid("catalogue", "names a model twice"))
    }
}

impl From<&Catalogue> for v1::Catalogue {
    fn from(catalogue: &Catalogue) -> Self {
        let model = |model: &Model| v1::Model {
            name: model.name.to_string(),
            provider: provider_into(model.provider).into(),
            mode: mode_into(model.mode).into(),
            aliases: model.aliases.clone(),
            context_window: model.context_window,
            max_output: model.max_output,
            retired_day: model.retired.map(|day| day.to_epoch_days()),
        };
        Self { revision: catalogue.revision(), models: catalogue.models().iter().map(model).collect() }
    }
}

#[cfg(test)]
mod stored;
#[cfg(test)]
mod tests;
