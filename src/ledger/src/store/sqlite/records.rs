//! Accounts as they are shown. Everything here only reads.

use super::code::{digest, instant, list, maybe_instant, money, parsed, signed, unsigned};
use crate::store::{
    AccountFilter, AccountRecord, AccountRef, AccountSpec, Credential, LimitRecord, LimitSpec, Owners, Page,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use tollgate_domain::account::AccountKind;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{Period, Window};

/// The row of a living account.
pub(super) fn find(file: &Connection, account: &AccountRef) -> rusqlite::Result<Option<i64>> {
    let row = |row: &Row<'_>| row.get(0);
    match account {
        AccountRef::Id(kind, id) => file
            .prepare_cached(
                "SELECT account FROM account
                 WHERE kind = ?1 AND scope = '' AND id = ?2 AND deleted_at IS NULL",
            )?
            .query_row(params![kind.as_str(), id], row),
        AccountRef::Key(digest) => file
            .prepare_cached(
                "SELECT c.account FROM credential c JOIN account a ON a.account = c.account
                 WHERE c.digest = ?1 AND c.revoked_at IS NULL AND a.deleted_at IS NULL",
            )?
            .query_row([digest.as_bytes()], row),
        AccountRef::KeyAlias(alias) => file
            .prepare_cached(
                "SELECT account FROM account WHERE kind = 'key' AND alias = ?1 AND deleted_at IS NULL",
            )?
            .query_row([alias], row),
    }
    .optional()
}

/// The account in this row, with its balances in the windows of `now`.
pub(super) fn record(file: &Connection, account: i64, now: Timestamp) -> rusqlite::Result<AccountRecord> {
    let mut record = file
        .prepare_cached(
            "SELECT a.kind, a.id, a.alias, o.id, t.id, u.id, a.models, a.tags, a.budget_duration, a.blocked,
                 a.expires_at, a.rpm_limit, a.tpm_limit, a.metadata, a.created_by, a.created_at, a.updated_at,
                 a.forbidden, a.required_tags
             FROM account a
                 LEFT JOIN account o ON o.account = a.organization
                 LEFT JOIN account t ON t.account = a.team
                 LEFT JOIN account u ON u.account = a.user
             WHERE a.account = ?1",
        )?
        .query_row([account], read_account)?;
    record.spec.limits = limits(file, account)?;
    record.credential = credential(file, account)?;
    let lifetime = standing(file, account, Window::Lifetime, now)?;
    (record.posted, record.pending) = (lifetime.posted, lifetime.pending);
    record.last_active_at = lifetime.charged_at;
    for spec in record.spec.limits.clone() {
        let Standing { period, posted, pending, .. } = standing(file, account, spec.window, now)?;
        record.limits.push(LimitRecord { spec, period, posted, pending });
    }
    let shown = record.spec.budget_duration.as_deref().and_then(|text| Window::from_duration(text).ok());
    if let Some(window) = shown {
        let shown = standing(file, account, window, now)?;
        record.main = Some((shown.period, shown.posted, shown.pending));
    }
    Ok(record)
}

fn read_account(row: &Row<'_>) -> rusqlite::Result<AccountRecord> {
    let count = |index: usize| row.get::<_, Option<i64>>(index)?.map(unsigned).transpose();
    let metadata = row.get_ref(13)?.as_str()?;
    let spec = AccountSpec {
        alias: row.get(2)?,
        owners: Owners { organization: row.get(3)?, team: row.get(4)?, user: row.get(5)? },
        models: list("models", row.get_ref(6)?.as_str()?)?,
        limits: Vec::new(),
        budget_duration: row.get(8)?,
        blocked: row.get(9)?,
        tags: list("tags", row.get_ref(7)?.as_str()?)?,
        forbidden: list("forbidden", row.get_ref(17)?.as_str()?)?,
        required_tags: list("required_tags", row.get_ref(18)?.as_str()?)?,
        expires_at: maybe_instant(row, 10)?,
        rpm_limit: count(11)?,
        tpm_limit: count(12)?,
        metadata: serde_json::from_str(metadata).map_err(|_| super::code::corrupt("metadata"))?,
    };
    Ok(AccountRecord {
        kind: parsed("kind of account", row.get_ref(0)?.as_str()?)?,
        id: row.get(1)?,
        spec,
        credential: None,
        limits: Vec::new(),
        posted: Nanodollars::ZERO,
        pending: Nanodollars::ZERO,
        main: None,
        created_by: row.get(14)?,
        created_at: instant(row, 15)?,
        updated_at: instant(row, 16)?,
        last_active_at: None,
    })
}

fn limits(file: &Connection, account: i64) -> rusqlite::Result<Vec<LimitSpec>> {
    file.prepare_cached(
        r#"SELECT amount, "window", duration, main, observe FROM budget_limit WHERE account = ?1
           ORDER BY budget_limit"#,
    )?
    .query_map([account], |row| {
        Ok(LimitSpec {
            amount: money(row, 0)?,
            window: parsed("window", row.get_ref(1)?.as_str()?)?,
            duration: row.get(2)?,
            main: row.get(3)?,
            observe: row.get(4)?,
        })
    })?
    .collect()
}

fn credential(file: &Connection, account: i64) -> rusqlite::Result<Option<Credential>> {
    file.prepare_cached(
        "SELECT digest, name FROM credential WHERE account = ?1
         ORDER BY revoked_at IS NOT NULL, created_at DESC LIMIT 1",
    )?
    .query_row([account], |row| Ok(Credential { digest: digest(row, 0)?, name: row.get(1)? }))
    .optional()
}

/// How one window of an account stands.
pub(super) struct Standing {
    pub(super) period: Period,
    pub(super) posted: Nanodollars,
    pub(super) pending: Nanodollars,
    charged_at: Option<Timestamp>,
}

/// The window of `now`. Without a row nothing was charged in it.
pub(super) fn standing(
    file: &Connection,
    account: i64,
    window: Window,
    now: Timestamp,
) -> rusqlite::Result<Standing> {
    let period = window.period_at(now).ok_or(super::code::corrupt("time"))?;
    let row = file
        .prepare_cached(
            r#"SELECT posted, pending, charged_at FROM balance
               WHERE account = ?1 AND "window" = ?2 AND window_start = ?3"#,
        )?
        .query_row(params![account, window.to_string(), period.start.unix_ms()], |row| {
            Ok((money(row, 0)?, money(row, 1)?, maybe_instant(row, 2)?))
        })
        .optional()?;
    let (posted, pending, charged_at) = row.unwrap_or_default();
    Ok(Standing { period, posted, pending, charged_at })
}

/// Accounts in the order of their making, and how many there are over all pages.
pub(super) fn records(
    file: &Connection,
    filter: &AccountFilter,
    page: Page,
    now: Timestamp,
) -> rusqlite::Result<(Vec<AccountRecord>, u64)> {
    let AccountFilter { kind, owners, alias, digest } = filter;
    let mut ids = Vec::new();
    for (kind, id) in [
        (AccountKind::Organization, &owners.organization),
        (AccountKind::Team, &owners.team),
        (AccountKind::User, &owners.user),
    ] {
        let row = id.as_ref().map(|id| find(file, &AccountRef::Id(kind, id.clone()))).transpose()?;
        // An owner that does not exist owns nothing.
        ids.push(row.map(|row| row.unwrap_or(-1)));
    }
    let digest = digest.as_ref().map(|digest| digest.as_bytes().as_slice());
    let rows: Vec<i64> = file
        .prepare_cached(
            "SELECT account FROM account a WHERE kind = ?1 AND deleted_at IS NULL
                 AND (?2 IS NULL OR organization = ?2) AND (?3 IS NULL OR team = ?3)
                 AND (?4 IS NULL OR user = ?4) AND (?5 IS NULL OR alias = ?5)
                 AND (?6 IS NULL OR EXISTS (SELECT 1 FROM credential c WHERE c.digest = ?6
                     AND c.account = a.account AND c.revoked_at IS NULL))
             ORDER BY account",
        )?
        .query_map(params![kind.as_str(), ids[0], ids[1], ids[2], alias, digest], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let total = rows.len() as u64;
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = usize::try_from(signed(page.limit)).unwrap_or(usize::MAX);
    let shown = rows.into_iter().skip(skip).take(take);
    let records = shown.map(|row| record(file, row, now)).collect::<Result<_, _>>()?;
    Ok((records, total))
}
