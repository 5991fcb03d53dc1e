//! Accounts as they are shown. Everything here only reads.

use super::code::{
    corrupt, digest, instant, list, maybe_instant, money, parsed, session_limits, signed, thresholds,
    unsigned,
};
use super::limits::leaves_at;
use super::memory::Ground;
use crate::store::sql::{self, Row, Sql, Value, values};
use crate::store::{
    AccountFilter, AccountRecord, AccountRef, AccountSpec, Credential, LimitRecord, LimitSpec, Owners, Page,
    RateSpec, TagScope,
};
use tollgate_domain::account::{AccountKind, AccountLabel};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::rate::{Rate, RateNow};
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{Period, Window};

/// The row of a living account.
pub(super) fn find(db: &dyn Sql, account: &AccountRef, now: Timestamp) -> sql::Result<Option<i64>> {
    let named =
        "SELECT account FROM account WHERE kind = $1 AND scope = $2 AND id = $3 AND deleted_at IS NULL";
    let rows = match account {
        AccountRef::Id(kind, id) => db.query(named, &values![kind.as_str(), "", id])?,
        AccountRef::Tag { scope, tag } => {
            db.query(named, &values![AccountKind::Tag.as_str(), &scope.to_string(), tag])?
        }
        AccountRef::Key(digest) => db.query(
            "SELECT c.account FROM credential c JOIN account a ON a.account = c.account
             WHERE c.digest = $1 AND (c.revoked_at IS NULL OR c.revoked_at > $2) AND a.deleted_at IS NULL",
            &values![digest.as_bytes(), now.unix_ms()],
        )?,
        AccountRef::KeyAlias(alias) => db.query(
            "SELECT account FROM account WHERE kind = 'key' AND alias = $1 AND deleted_at IS NULL",
            &values![alias],
        )?,
    };
    rows.first().map(|row| row.int(0)).transpose()
}

/// The account in this row, with its balances in the windows of `now`.
pub(super) fn record(
    db: &dyn Sql,
    ground: &Ground,
    account: i64,
    now: Timestamp,
) -> sql::Result<AccountRecord> {
    let rows = db.query(
        r#"SELECT a.kind, a.id, a.alias, o.id, t.id, u.id, a.models, a.tags, a.budget_duration, a.blocked,
             a.expires_at, a.session_limit, a.client_tags_bind, a.metadata, a.created_by, a.created_at, a.updated_at,
             a.forbidden, a.required_tags, a.scope, a.session_limits
         FROM account a
             LEFT JOIN account o ON o.account = a.organization
             LEFT JOIN account t ON t.account = a.team
             LEFT JOIN account u ON u.account = a."user"
         WHERE a.account = $1"#,
        &values![account],
    )?;
    let mut record = read_account(rows.first().ok_or_else(|| corrupt("account"))?)?;
    record.spec.limits = limits(db, account)?;
    let rates = rates(db, account)?;
    record.spec.rates = rates.iter().map(|(spec, _)| spec.clone()).collect();
    for (RateSpec { rate, .. }, state) in rates.into_iter().filter(|(spec, _)| spec.model.is_none()) {
        let (remaining, resets_at) = rate.standing(state, now);
        let alias = record.spec.alias.clone().unwrap_or_default();
        let label = AccountLabel { kind: record.kind, alias };
        record.rates.push(RateNow { account: label, rate, remaining, resets_at });
    }
    record.credential = credential(db, account)?;
    let lifetime = standing(db, account, Window::Lifetime, "", now)?;
    // Windows never move back, whatever the clock says.
    let now = now.max(lifetime.charged_at.unwrap_or(now));
    (record.posted, record.pending) = (lifetime.posted, lifetime.pending);
    record.last_active_at = lifetime.charged_at;
    for spec in record.spec.limits.clone() {
        // Counted by the name that is priced, whatever it was called when the limit was set.
        let model = spec.model.as_deref().map(|name| ground.model(name)).unwrap_or_default();
        let Standing { period, posted, pending, .. } = standing(db, account, spec.window, &model, now)?;
        record.limits.push(LimitRecord { spec, period, posted, pending });
    }
    let main = record.spec.limits.iter().find(|limit| limit.main).map(|limit| limit.window);
    let duration = record.spec.budget_duration.as_deref();
    let shown = main.or_else(|| duration.and_then(|text| Window::from_duration(text).ok()));
    if let Some(window) = shown.filter(|window| *window != Window::Lifetime) {
        let shown = standing(db, account, window, "", now)?;
        record.main = Some((shown.period, shown.posted, shown.pending));
    }
    Ok(record)
}

fn read_account(row: &Row) -> sql::Result<AccountRecord> {
    let spec = AccountSpec {
        alias: row.maybe_string(2)?,
        owners: Owners {
            organization: row.maybe_string(3)?,
            team: row.maybe_string(4)?,
            user: row.maybe_string(5)?,
        },
        models: list("models", row.text(6)?)?,
        limits: Vec::new(),
        budget_duration: row.maybe_string(8)?,
        blocked: row.flag(9)?,
        tags: list("tags", row.text(7)?)?,
        forbidden: list("forbidden", row.text(17)?)?,
        required_tags: list("required_tags", row.text(18)?)?,
        expires_at: maybe_instant(row, 10)?,
        rates: Vec::new(),
        session_limit: row.maybe_int(11)?.map(Nanodollars::new),
        session_limits: session_limits(row.text(20)?)?,
        client_tags_bind: row.flag(12)?,
        metadata: serde_json::from_str(row.text(13)?).map_err(|_| corrupt("metadata"))?,
    };
    let kind = parsed("kind of account", row.text(0)?)?;
    let scope = (kind == AccountKind::Tag).then(|| row.text(19)).transpose()?;
    Ok(AccountRecord {
        kind,
        id: row.text(1)?.to_owned(),
        namespace: scope.and_then(|scope| TagScope::from(scope).into_namespace()),
        spec,
        credential: None,
        limits: Vec::new(),
        rates: Vec::new(),
        posted: Nanodollars::ZERO,
        pending: Nanodollars::ZERO,
        main: None,
        created_by: row.text(14)?.to_owned(),
        created_at: instant(row, 15)?,
        updated_at: instant(row, 16)?,
        last_active_at: None,
    })
}

fn limits(db: &dyn Sql, account: i64) -> sql::Result<Vec<LimitSpec>> {
    let rows = db.query(
        r#"SELECT amount, "window", duration, main, observe, model, soft, thresholds FROM budget_limit
           WHERE account = $1 ORDER BY budget_limit"#,
        &values![account],
    )?;
    rows.iter()
        .map(|row| {
            Ok(LimitSpec {
                amount: money(row, 0)?,
                window: parsed("window", row.text(1)?)?,
                duration: row.maybe_string(2)?,
                main: row.flag(3)?,
                observe: row.flag(4)?,
                model: model(row.text(5)?),
                soft: row.flag(6)?,
                thresholds: thresholds(row.text(7)?)?,
            })
        })
        .collect()
}

fn rates(db: &dyn Sql, account: i64) -> sql::Result<Vec<(RateSpec, i64)>> {
    let rows = db.query(
        "SELECT kind, amount, model, observe, state FROM rate WHERE account = $1 ORDER BY rate",
        &values![account],
    )?;
    rows.iter()
        .map(|row| {
            let rate = Rate { kind: parsed("kind of rate", row.text(0)?)?, limit: unsigned(row.int(1)?)? };
            let spec = RateSpec { rate, model: model(row.text(2)?), observe: row.flag(3)? };
            Ok((spec, row.int(4)?))
        })
        .collect()
}

/// A model's name, or none.
fn model(text: &str) -> Option<String> {
    Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn credential(db: &dyn Sql, account: i64) -> sql::Result<Option<Credential>> {
    let rows = db.query(
        "SELECT digest, name FROM credential WHERE account = $1
         ORDER BY revoked_at IS NOT NULL, created_at DESC LIMIT 1",
        &values![account],
    )?;
    rows.first()
        .map(|row| Ok(Credential { digest: digest(row, 0)?, name: row.text(1)?.to_owned() }))
        .transpose()
}

/// How one window of an account stands.
pub(super) struct Standing {
    pub(super) period: Period,
    pub(super) posted: Nanodollars,
    pub(super) pending: Nanodollars,
    /// As a limit over it would say.
    pub(super) resets_at: Option<Timestamp>,
    charged_at: Option<Timestamp>,
}

/// The window of `now`. Without a row nothing was charged in it.
pub(super) fn standing(
    db: &dyn Sql,
    account: i64,
    window: Window,
    model: &str,
    now: Timestamp,
) -> sql::Result<Standing> {
    let absurd = || corrupt("time");
    let mut period = window.period_at(now).ok_or_else(absurd)?;
    let from = window.counts_from(now).ok_or_else(absurd)?;
    let rows = db.query(
        r#"SELECT posted, pending, charged_at, window_start FROM balance
           WHERE account = $1 AND "window" = $2 AND model = $3 AND window_start >= $4 AND window_start <= $5
           ORDER BY window_start"#,
        &values![account, &window.to_string(), model, from.unix_ms(), period.start.unix_ms()],
    )?;
    let (mut posted, mut pending, mut charged_at) = (Nanodollars::ZERO, Nanodollars::ZERO, None);
    let mut resets_at = period.end.filter(|_| !window.is_rolling());
    for row in &rows {
        if window.is_rolling() && resets_at.is_none() && row.int(0)? > 0 {
            resets_at = leaves_at(window, instant(row, 3)?);
        }
        posted = posted.plus(money(row, 0)?).map_err(|_| corrupt("amount"))?;
        pending = pending.plus(money(row, 1)?).map_err(|_| corrupt("amount"))?;
        charged_at = charged_at.max(maybe_instant(row, 2)?);
    }
    if window.is_rolling() {
        period = Period { start: from, end: None };
    }
    Ok(Standing { period, posted, pending, resets_at, charged_at })
}

/// The time for these accounts: never earlier than their latest hold.
pub(super) fn not_before(db: &dyn Sql, accounts: &[i64], now: Timestamp) -> sql::Result<Timestamp> {
    let places: Vec<String> = (1..=accounts.len()).map(|place| format!("${place}")).collect();
    let params: Vec<Value<'_>> = accounts.iter().map(|account| Value::Int(*account)).collect();
    let rows = db.query(
        &format!(
            r#"SELECT max(charged_at) FROM balance WHERE account IN ({}) AND "window" = 'lifetime' AND model = ''"#,
            places.join(", ")
        ),
        &params,
    )?;
    let latest = rows.first().map(|row| maybe_instant(row, 0)).transpose()?.flatten();
    Ok(now.max(latest.unwrap_or(now)))
}

/// Accounts in the order of their making, and how many there are over all pages. A key in a team belongs to the team's
/// organization, too.
pub(super) fn records(
    db: &dyn Sql,
    ground: &Ground,
    filter: &AccountFilter,
    page: Page,
    now: Timestamp,
) -> sql::Result<(Vec<AccountRecord>, u64)> {
    let AccountFilter { kind, owners, alias, digest } = filter;
    let mut statement = String::from("FROM account a WHERE kind = $1 AND deleted_at IS NULL");
    let mut params = vec![Value::from(kind.as_str())];
    for (kind, id, condition) in [
        (
            AccountKind::Organization,
            &owners.organization,
            "(organization = $ OR team IN (SELECT account FROM account WHERE organization = $ AND kind = 'team'))",
        ),
        (AccountKind::Team, &owners.team, "team = $"),
        (AccountKind::User, &owners.user, r#""user" = $"#),
    ] {
        let Some(id) = id else { continue };
        // An owner that does not exist owns nothing.
        let owner = find(db, &AccountRef::Id(kind, id.clone()), now)?.unwrap_or(-1);
        params.push(Value::Int(owner));
        statement.push_str(&format!(" AND {}", condition.replace('$', &format!("${}", params.len()))));
    }
    if let Some(alias) = alias {
        params.push(Value::Text(alias));
        statement.push_str(&format!(" AND alias = ${}", params.len()));
    }
    if let Some(digest) = digest {
        params.extend([Value::Blob(digest.as_bytes()), Value::Int(now.unix_ms())]);
        let (digest, now) = (params.len() - 1, params.len());
        statement.push_str(&format!(
            " AND account IN (SELECT account FROM credential
                 WHERE digest = ${digest} AND (revoked_at IS NULL OR revoked_at > ${now}))"
        ));
    }
    let total = db.query(&format!("SELECT count(*) {statement}"), &params)?;
    let total = total.first().map_or(Ok(0), |row| unsigned(row.int(0)?))?;
    params.extend([Value::Int(signed(page.limit)), Value::Int(signed(page.offset))]);
    let (limit, offset) = (params.len() - 1, params.len());
    let rows = db.query(
        &format!("SELECT account {statement} ORDER BY account LIMIT ${limit} OFFSET ${offset}"),
        &params,
    )?;
    let records = rows.iter().map(|row| record(db, ground, row.int(0)?, now)).collect::<Result<_, _>>()?;
    Ok((records, total))
}
