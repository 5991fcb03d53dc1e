//! Which accounts have changed since a cursor.
//!
//! Three things change how an account stands: an entry of the journal that names one of its balances, what is said of it, and the end of
//! a window, which nobody writes down. Each is found by an index, so that an idle ledger has next to nothing to read.
//!
//! Nothing may be missed. Where one ledger writes alone, entries become visible in the order of their numbers, and the cursor is a
//! number. Where several write, each has blocks of numbers of its own, and a transaction can become visible after one that began
//! later: there the cursor is a time, and what is read goes back [`LOOK_BACK_MS`] behind it, longer than any transaction lasts. The same goes
//! for what is said of accounts, in both. So an account can come again as it was; whoever tells it on leaves that out.
//!
//! A cursor that is far behind gets every account, a page at a time, instead of a long stretch of the journal.

use super::apply::{is_exhausted, living_credentials};
use super::code::{corrupt, parsed, unpack_ids, unsigned};
use super::memory::Ground;
use super::records;
use crate::store::operated::{Mark, Scan, Which};
use crate::store::sql::{self, Sql, Value, values};
use crate::store::{AccountName, AccountNow, Changes, Cursor, Manager};
use std::collections::BTreeSet;
use tollgate_domain::account::AccountKind;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// Longer than a transaction lasts by far: it has few statements, and the session bounds each of them and the pauses between.
const LOOK_BACK_MS: i64 = 60_000;
/// Entries that are read at most; beyond, reading every account is less work.
const ENTRIES_MAX: i64 = 100_000;
/// Where entries are found by time, there is no telling how many there are.
const SHARED_BEHIND_MS_MAX: i64 = 10 * 60_000;
/// Long before entries can leave the books, exported.
const ALONE_BEHIND_MS_MAX: i64 = 24 * 3_600_000;

/// Sessions come and go with requests, and nobody specified them.
pub(super) const OF_INTEREST: &str = "kind IN ('organization', 'team', 'user', 'key', 'tag')";

/// At most so many accounts that have changed since `cursor`.
pub(super) fn changes(
    db: &dyn Sql,
    ground: &Ground,
    now: Timestamp,
    cursor: Option<&Cursor>,
    at_most: u32,
) -> sql::Result<Changes> {
    let until = Mark { entry: latest_entry(db)?, at_ms: now.unix_ms() };
    let known = cursor.filter(|cursor| cursor.epoch == ground.epoch);
    let (since, scan) = match (known, cursor) {
        (Some(cursor), _) => {
            let which = if is_far(db, cursor.since, until) { Which::Every } else { Which::Changed };
            (cursor.since, cursor.scan.unwrap_or(Scan { until, after: 0, which }))
        }
        (None, Some(_)) => (until, Scan { until, after: 0, which: Which::Restarted }),
        (None, None) => (until, Scan { until, after: 0, which: Which::Living }),
    };
    let limit = i64::from(at_most);
    let mut rows = match scan.which {
        Which::Changed => changed(db, since, now)?.into_iter().filter(|row| *row > scan.after).collect(),
        Which::Every => all(db, scan.after, "", limit)?,
        Which::Living | Which::Restarted => all(db, scan.after, "AND deleted_at IS NULL", limit)?,
    };
    let more = rows.len() > at_most as usize;
    rows.truncate(at_most as usize);
    let accounts = rows.iter().map(|row| account_now(db, ground, *row, now)).collect::<sql::Result<_>>()?;
    let next = match rows.last() {
        Some(last) if more => {
            Cursor { epoch: ground.epoch, since, scan: Some(Scan { after: *last, ..scan }) }
        }
        _ => Cursor { epoch: ground.epoch, since: scan.until, scan: None },
    };
    Ok(Changes {
        accounts,
        cursor: next,
        restarted: scan.which == Which::Restarted,
        more,
        looked_back: scan.which == Which::Changed,
    })
}

/// Where several ledgers write, the number says nothing.
fn latest_entry(db: &dyn Sql) -> sql::Result<i64> {
    if db.is_shared() {
        return Ok(0);
    }
    let rows = db.query("SELECT entry FROM entry ORDER BY entry DESC LIMIT 1", &[])?;
    rows.first().map_or(Ok(0), |row| row.int(0))
}

fn is_far(db: &dyn Sql, since: Mark, until: Mark) -> bool {
    let behind_ms_max = if db.is_shared() { SHARED_BEHIND_MS_MAX } else { ALONE_BEHIND_MS_MAX };
    let behind_ms = until.at_ms.saturating_sub(since.at_ms);
    // A clock that went back says nothing of what happened since.
    let backwards = behind_ms < -LOOK_BACK_MS / 2;
    backwards || behind_ms > behind_ms_max || until.entry.saturating_sub(since.entry) > ENTRIES_MAX
}

/// One row more than asked for, where there is one.
fn all(db: &dyn Sql, after: i64, which: &str, limit: i64) -> sql::Result<Vec<i64>> {
    let rows = db.query(
        &format!("SELECT account FROM account WHERE account > $1 AND {OF_INTEREST} {which} ORDER BY account LIMIT $2"),
        &values![after, limit.saturating_add(1)],
    )?;
    rows.iter().map(|row| row.int(0)).collect()
}

pub(super) fn changed(db: &dyn Sql, since: Mark, now: Timestamp) -> sql::Result<BTreeSet<i64>> {
    let mut accounts = charged(db, since)?;
    // In other words than `OF_INTEREST`, so that the moment is looked for and not the kind: sessions are not in its index.
    let said = db.query(
        "SELECT account FROM account WHERE updated_at >= $1 AND kind <> 'session' AND kind <> 'customer'",
        &values![since.at_ms.saturating_sub(LOOK_BACK_MS)],
    )?;
    for row in &said {
        accounts.insert(row.int(0)?);
    }
    accounts.extend(rolled(db, Timestamp::new(since.at_ms), now)?);
    Ok(accounts)
}

/// Accounts whose balances entries have moved.
fn charged(db: &dyn Sql, since: Mark) -> sql::Result<BTreeSet<i64>> {
    let lists = if db.is_shared() {
        db.query(
            "SELECT DISTINCT balances FROM entry WHERE at >= $1",
            &values![since.at_ms.saturating_sub(LOOK_BACK_MS)],
        )?
    } else {
        db.query("SELECT DISTINCT balances FROM entry WHERE entry > $1", &values![since.entry])?
    };
    let mut balances = BTreeSet::new();
    for row in &lists {
        balances.extend(unpack_ids(row.blob(0)?)?);
    }
    let mut accounts = BTreeSet::new();
    if balances.is_empty() {
        return Ok(accounts);
    }
    let of = |which: &str| {
        format!(
            "SELECT DISTINCT b.account FROM balance b JOIN account a ON a.account = b.account
             WHERE {which} AND a.{OF_INTEREST}"
        )
    };
    if db.is_shared() {
        let balances: Vec<i64> = balances.into_iter().collect();
        for row in db.query(&of("b.balance = ANY ($1)"), &[Value::Ints(&balances)])? {
            accounts.insert(row.int(0)?);
        }
    } else {
        let one = of("b.balance = $1");
        for balance in balances {
            for row in db.query(&one, &values![balance])? {
                accounts.insert(row.int(0)?);
            }
        }
    }
    Ok(accounts)
}

/// Accounts with a limit whose window has ended since, or out of whose rolling window something has left. There are few different windows,
/// and each is looked at once.
fn rolled(db: &dyn Sql, since: Timestamp, now: Timestamp) -> sql::Result<BTreeSet<i64>> {
    let windows = db.query(
        r#"WITH RECURSIVE known ("window") AS (
               SELECT min("window") FROM budget_limit
               UNION ALL
               SELECT (SELECT min(l."window") FROM budget_limit l WHERE l."window" > known."window")
               FROM known WHERE known."window" IS NOT NULL)
           SELECT "window" FROM known WHERE "window" IS NOT NULL"#,
        &[],
    )?;
    let mut accounts = BTreeSet::new();
    for row in &windows {
        let text = row.text(0)?;
        let window: Window = parsed("window", text)?;
        let (before, after) = (window.counts_from(since), window.counts_from(now));
        let (Some(before), Some(after)) = (before, after) else { continue };
        if before >= after {
            continue;
        }
        let rows = if window.is_rolling() {
            db.query(
                r#"SELECT l.account FROM budget_limit l
                   JOIN balance b ON b.account = l.account AND b."window" = l."window"
                   WHERE l."window" = $1 AND b.window_start >= $2 AND b.window_start < $3"#,
                &values![text, before.unix_ms(), after.unix_ms()],
            )?
        } else {
            db.query(
                r#"SELECT l.account FROM budget_limit l JOIN account a ON a.account = l.account
                   WHERE l."window" = $1 AND a.deleted_at IS NULL"#,
                &values![text],
            )?
        };
        for row in &rows {
            accounts.insert(row.int(0)?);
        }
    }
    Ok(accounts)
}

fn account_now(db: &dyn Sql, ground: &Ground, account: i64, now: Timestamp) -> sql::Result<AccountNow> {
    let rows = db.query(
        "SELECT kind, scope, id, managed_by, owner_scope, revision, deleted_at FROM account WHERE account = $1",
        &values![account],
    )?;
    let row = rows.first().ok_or_else(|| corrupt("account"))?;
    let kind: AccountKind = parsed("kind of account", row.text(0)?)?;
    let name = AccountName { kind, scope: row.text(1)?.to_owned(), id: row.text(2)?.to_owned() };
    let manager = Manager { name: row.text(3)?.to_owned(), scope: row.text(4)?.to_owned() };
    let revision = unsigned(row.int(5)?)?;
    let alive = row.is_null(6);
    let record = if alive { Some(Box::new(records::record(db, ground, account, now)?)) } else { None };
    let exhausted = record.as_deref().is_some_and(|record| is_exhausted(record, ground.observe));
    let credentials = if alive { living_credentials(db, kind, account, now)? } else { Vec::new() };
    Ok(AccountNow { name, manager, revision, record, exhausted, credentials })
}
