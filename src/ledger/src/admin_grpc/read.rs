//! Messages of an operator into values. Every field is checked, and what is wrong names it by its path.

use crate::owner_scope::{KUBERNETES, OwnerScope};
use crate::store::{
    AccountName, AccountSpec, Credential, Cursor, DesiredAccount, DesiredCredential, LimitSpec, Manager,
    Owners, RateSpec, TagScope,
};
use std::fmt;
use std::str::FromStr;
use tollgate_domain::account::AccountKind;
use tollgate_domain::ids::{KeyDigest, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::{Rate, RateKind};
use tollgate_domain::session::{SessionLimits, SessionPattern};
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{BillingDay, ROLLING_SECONDS_MIN, Window, Zone};
use tollgate_proto::convert::calendar_unit;
use tollgate_proto::v1;

/// Names of accounts, models, windows.
const TEXT_BYTES_MAX: usize = 256;
/// A custom resource's namespace and name can have this many together.
const SCOPE_BYTES_MAX: usize = 512;
const MODELS_MAX: usize = 256;
const LIMITS_MAX: usize = 32;
const RATES_MAX: usize = 32;
const THRESHOLDS_MAX: usize = 16;
const THRESHOLD_PERCENT_MAX: u32 = 1_000;
const CREDENTIALS_MAX: usize = 16;
/// Ten years: the longest span that the HTTP API takes, too.
const SPAN_SECONDS_MAX: u32 = 3_660 * 86_400;
/// A thousand million dollars. Beyond is absurd, and sums of several would not fit.
const NANODOLLARS_MAX: i64 = 1_000_000_000 * 1_000_000_000;
/// More tokens or requests than any provider serves.
const RATE_MAX: u64 = 1 << 50;
/// Beyond every table of time zones, and absurd: the year 9999.
const UNIX_MS_MAX: i64 = 253_402_300_799_999;

/// What is wrong with which field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.why)
    }
}

type Read<T> = Result<T, Fault>;

fn fault<T>(field: impl Into<String>, why: impl fmt::Display) -> Read<T> {
    Err(Fault { field: field.into(), why: why.to_string() })
}

/// A text without control characters: they would end up in tables and terminals. Empty: unset.
fn text(field: &str, value: String, bytes_max: usize) -> Read<Option<String>> {
    match value.len() {
        0 => Ok(None),
        length if length > bytes_max => fault(field, format!("is longer than {bytes_max} bytes")),
        _ if value.contains(char::is_control) => fault(field, "holds a control character"),
        _ => Ok(Some(value)),
    }
}

fn name_text(field: &str, value: String) -> Read<Option<String>> {
    text(field, value, TEXT_BYTES_MAX)
}

pub(super) fn required_text(field: &str, value: String) -> Read<String> {
    name_text(field, value)?.map_or_else(|| fault(field, "is missing"), Ok)
}

/// At most so many, each read by its path.
fn each<T, U>(field: &str, all: Vec<T>, max: usize, read: impl Fn(String, T) -> Read<U>) -> Read<Vec<U>> {
    if all.len() > max {
        return fault(field, format!("are more than {max}"));
    }
    all.into_iter().enumerate().map(|(index, one)| read(format!("{field}[{index}]"), one)).collect()
}

fn parsed<T: FromStr<Err: fmt::Display>>(field: String, text: &str) -> Read<T> {
    text.parse().or_else(|error: T::Err| fault(field, error))
}

fn money(field: impl Into<String>, value: i64) -> Read<Nanodollars> {
    match value {
        ..0 => fault(field, "is negative"),
        0..=NANODOLLARS_MAX => Ok(Nanodollars::new(value)),
        _ => fault(field, "is absurd: more than a thousand million dollars"),
    }
}

fn instant(field: impl Into<String>, value: i64) -> Read<Timestamp> {
    if (0..=UNIX_MS_MAX).contains(&value) {
        Ok(Timestamp::new(value))
    } else {
        fault(field, "is before 1970 or after 9999")
    }
}

fn name(name: Option<v1::AccountName>) -> Read<AccountName> {
    let Some(name) = name else { return fault("name", "is missing") };
    let kind = match v1::AccountKind::try_from(name.kind) {
        Ok(v1::AccountKind::Organization) => AccountKind::Organization,
        Ok(v1::AccountKind::Team) => AccountKind::Team,
        Ok(v1::AccountKind::User) => AccountKind::User,
        Ok(v1::AccountKind::Key) => AccountKind::Key,
        Ok(v1::AccountKind::Tag) => AccountKind::Tag,
        _ => return fault("name.kind", "must be an organization, a team, a user, a key or a tag"),
    };
    let id = required_text("name.id", name.id)?;
    if kind == AccountKind::Tag {
        let _: Tag = parsed("name.id".to_owned(), &id)?;
    }
    let scope = name_text("name.scope", name.scope)?.unwrap_or_default();
    if kind != AccountKind::Tag && !scope.is_empty() {
        return fault("name.scope", "is only for tags");
    }
    Ok(AccountName { kind, scope, id })
}

fn managed(managed_by: &str, scope: String) -> Read<Manager> {
    let scope = text("owner_scope", scope, SCOPE_BYTES_MAX)?.unwrap_or_default();
    Ok(Manager { name: managed_by.to_owned(), scope })
}

/// An account to be deleted, and by whom.
pub(super) fn deleted(account: v1::DeletedAccount, managed_by: &str) -> Read<(AccountName, Manager)> {
    Ok((name(account.name)?, managed(managed_by, account.owner_scope)?))
}

/// An account as it should be.
pub(super) fn account(account: v1::DesiredAccount, managed_by: &str) -> Read<DesiredAccount> {
    let name = name(account.name)?;
    let credentials = each("credentials", account.credentials, CREDENTIALS_MAX, credential)?;
    check_credentials(name.kind, account.adopt, &credentials)?;
    let organization = name_text("organization", account.organization)?;
    let owners =
        owners(&name, organization, name_text("team", account.team)?, name_text("user", account.user)?)?;
    let limits = each("limits", account.limits, LIMITS_MAX, limit)?;
    distinct("limits", "has the window, model and kind of another", &limits, |a, b| {
        (a.window, &a.model, a.soft) == (b.window, &b.model, b.soft)
    })?;
    let rates = each("rates", account.rates, RATES_MAX, rate)?;
    distinct("rates", "has the kind and model of another", &rates, |a, b| {
        (a.rate.kind, &a.model) == (b.rate.kind, &b.model)
    })?;
    let tag = |field, text: String| parsed::<Tag>(field, &text);
    let spec = AccountSpec {
        alias: name_text("alias", account.alias)?,
        owners,
        models: each("models", account.models, MODELS_MAX, |field, model| required_text(&field, model))?,
        limits,
        budget_duration: None,
        blocked: false,
        tags: each("tags", account.tags, Tag::COUNT_MAX, tag)?,
        forbidden: each("forbidden", account.forbidden, 16, |field, text: String| parsed(field, &text))?,
        required_tags: each("required_tags", account.required_tags, Tag::COUNT_MAX, tag)?,
        expires_at: account.expires_at_unix_ms.map(|at| instant("expires_at_unix_ms", at)).transpose()?,
        rates,
        session_limit: account.session_limit.map(|limit| money("session_limit", limit)).transpose()?,
        session_limits: session_limits(account.session_limits)?,
        client_tags_bind: account.client_tags_bind,
        metadata: serde_json::Map::new(),
    };
    let manager = managed(managed_by, account.owner_scope)?;
    if manager.name == KUBERNETES {
        let _: OwnerScope = parsed("owner_scope".to_owned(), &manager.scope)?;
    }
    Ok(DesiredAccount { name, manager, adopt: account.adopt, spec, blocked: account.blocked, credentials })
}

fn owners(
    name: &AccountName,
    organization: Option<String>,
    team: Option<String>,
    user: Option<String>,
) -> Read<Owners> {
    use AccountKind::{Key, Tag, Team, User};
    let organization = match (name.kind, organization) {
        (Tag, Some(_)) => return fault("organization", "of a tag is said by name.scope"),
        (Tag, None) => match TagScope::from(name.scope.as_str()) {
            TagScope::Organization(id) => Some(id),
            TagScope::Installation | TagScope::Namespace(_) => None,
        },
        (Team | Key | User, organization) => organization,
        (_, Some(_)) => return fault("organization", "is only for teams, users and keys"),
        (_, None) => None,
    };
    match (name.kind, &team, &user) {
        (Key, _, _) | (_, None, None) => Ok(Owners { organization, team, user }),
        (_, Some(_), _) => fault("team", "is only for keys"),
        (_, None, Some(_)) => fault("user", "is only for keys"),
    }
}

fn distinct<T>(field: &str, why: &str, all: &[T], same: impl Fn(&T, &T) -> bool) -> Read<()> {
    for (index, one) in all.iter().enumerate() {
        if all.iter().take(index).any(|other| same(one, other)) {
            return fault(format!("{field}[{index}]"), why);
        }
    }
    Ok(())
}

fn credential(field: String, credential: v1::DesiredCredential) -> Read<DesiredCredential> {
    let Ok(digest) = KeyDigest::try_from(credential.digest.as_slice()) else {
        return fault(format!("{field}.digest"), "is not 32 bytes long");
    };
    let name = required_text(&format!("{field}.name"), credential.name)?;
    let expires_at = credential.expires_at_unix_ms;
    let expires_at = expires_at.map(|at| instant(format!("{field}.expires_at_unix_ms"), at)).transpose()?;
    Ok(DesiredCredential { credential: Credential { digest, name }, expires_at })
}

fn check_credentials(kind: AccountKind, adopt: bool, all: &[DesiredCredential]) -> Read<()> {
    match (kind, all) {
        (AccountKind::Key, []) if !adopt => return fault("credentials", "are missing"),
        (AccountKind::Key, _) | (_, []) => {}
        _ => return fault("credentials", "are only for keys"),
    }
    distinct("credentials", "has the digest of another", all, |a, b| {
        a.credential.digest == b.credential.digest
    })
}

fn session_limits(limits: Vec<v1::DesiredSessionLimit>) -> Read<SessionLimits> {
    let limits = each("session_limits", limits, SessionLimits::COUNT_MAX, |field, limit| {
        let pattern: SessionPattern = parsed(format!("{field}.pattern"), &limit.pattern)?;
        Ok((pattern, money(format!("{field}.amount"), limit.amount)?))
    })?;
    distinct("session_limits", "has the pattern of another", &limits, |(a, _), (b, _)| a == b)?;
    Ok(limits.into_iter().collect())
}

fn limit(field: String, limit: v1::DesiredLimit) -> Read<LimitSpec> {
    let amount = money(format!("{field}.amount"), limit.amount)?;
    let window = window(&format!("{field}.window"), limit.window)?;
    let percent = |field, percent: u32| match u16::try_from(percent) {
        Ok(part) if (1..=THRESHOLD_PERCENT_MAX).contains(&percent) => Ok(part),
        _ => fault(field, "is not 1 to 1,000"),
    };
    let mut thresholds =
        each(&format!("{field}.thresholds_percent"), limit.thresholds_percent, THRESHOLDS_MAX, percent)?;
    thresholds.sort_unstable();
    thresholds.dedup();
    let duration = (window != Window::Lifetime).then(|| window.to_string());
    Ok(LimitSpec {
        observe: limit.observe,
        model: name_text(&format!("{field}.model"), limit.model)?,
        soft: limit.soft,
        thresholds,
        ..LimitSpec::new(amount, window, duration)
    })
}

fn window(field: &str, window: Option<v1::Window>) -> Read<Window> {
    use v1::window::Kind;
    let zone = |kind: &str, text: String| match text.as_str() {
        "" => Ok(Zone::UTC),
        name => parsed(format!("{field}.{kind}.time_zone"), name),
    };
    let span = |name: &str, seconds: u32, min: u32| {
        if (min..=SPAN_SECONDS_MAX).contains(&seconds) {
            Ok(seconds)
        } else {
            fault(format!("{field}.{name}"), format!("is not {min} seconds to ten years"))
        }
    };
    match window.and_then(|window| window.kind) {
        None => fault(field, "is missing"),
        Some(Kind::Lifetime(_)) => Ok(Window::Lifetime),
        Some(Kind::RollingSeconds(seconds)) => {
            Ok(Window::Rolling { seconds: span("rolling_seconds", seconds, ROLLING_SECONDS_MIN)? })
        }
        Some(Kind::FixedSeconds(seconds)) => {
            Ok(Window::Fixed { seconds: span("fixed_seconds", seconds, 1)? })
        }
        Some(Kind::BillingDay(billing)) => {
            let day = u8::try_from(billing.day).ok().and_then(|day| BillingDay::new(day).ok());
            match day {
                Some(day) => Ok(Window::Anchored { day, zone: zone("billing_day", billing.time_zone)? }),
                None => fault(format!("{field}.billing_day.day"), "is not 1 to 31"),
            }
        }
        Some(Kind::Calendar(calendar)) => {
            let Some(unit) = calendar_unit(calendar.unit) else {
                return fault(format!("{field}.calendar.unit"), "is unset or unknown");
            };
            Ok(Window::Calendar(unit, zone("calendar", calendar.time_zone)?))
        }
    }
}

fn rate(field: String, rate: v1::DesiredRate) -> Read<RateSpec> {
    let kind = match v1::RateKind::try_from(rate.kind) {
        Ok(v1::RateKind::RequestsPerMinute) => RateKind::RequestsPerMinute,
        Ok(v1::RateKind::TokensPerMinute) => RateKind::TokensPerMinute,
        Ok(v1::RateKind::TokensPerDay) => RateKind::TokensPerDay,
        Ok(v1::RateKind::Parallel) => RateKind::Parallel,
        _ => return fault(format!("{field}.kind"), "is unset or unknown"),
    };
    if rate.limit > RATE_MAX {
        return fault(format!("{field}.limit"), "is absurd");
    }
    let model = name_text(&format!("{field}.model"), rate.model)?;
    Ok(RateSpec { rate: Rate { kind, limit: rate.limit }, model, observe: rate.observe })
}

/// `None`: from the beginning.
pub(super) fn cursor(bytes: &[u8]) -> Read<Option<Cursor>> {
    match (bytes, Cursor::from_bytes(bytes)) {
        ([], _) => Ok(None),
        (_, Some(cursor)) => Ok(Some(cursor)),
        (_, None) => fault("cursor", "is none of this service's"),
    }
}

/// The history of the books, and a number in it.
pub(super) fn numbered_cursor(bytes: &[u8]) -> Read<Option<([u8; 8], i64)>> {
    match (bytes.split_first_chunk::<8>(), bytes) {
        (_, []) => Ok(None),
        (Some((epoch, number)), _) if number.len() == 8 => {
            let number = number.try_into().map_or(0, i64::from_be_bytes);
            Ok(Some((*epoch, number)))
        }
        _ => fault("cursor", "is none of this service's"),
    }
}

/// Undone by [`numbered_cursor`].
pub(super) fn numbered_cursor_bytes(epoch: [u8; 8], number: i64) -> Vec<u8> {
    [epoch, number.to_be_bytes()].concat()
}
