//! Which clock decides what.
//!
//! - **The clock** ([`Books::now`]) says when something happens and measures spans: when a hold expires and when it is due, how a
//!   rate refills, how long a tombstone is kept, from when on a session is idle, whether a key has expired, when a line was written.
//!   It ticks, whatever the journal says.
//! - **The moment of a hold** ([`Books::moment`]) decides its windows: it is the clock's, but never before the latest hold on
//!   an account that is charged. So the window of an account never moves back and nothing that was spent is given back, while
//!   accounts on which nothing was spent ahead of the clock are not kept waiting for it.
//!
//! While a ledger runs its clock does not go back. Between two runs it can: where somebody says that this is right, what was
//! measured by the clock of before is carried over ([`judge`]). A rate stays as full as it was, a hold lives as long as it had left,
//! a credential that had ended stays ended, and limits that were set in the future count what lies in the windows that are
//! open now.

use super::code::Failure;
use super::memory::{Books, Ground, Memory};
use super::{StartError, meta};
use crate::store::clock_check::{self, ClockError};
use crate::store::sql::{self, Sql, values};
use std::collections::BTreeSet;
use tollgate_domain::time::Timestamp;

/// Lines that are looked at for the latest moment: where several ledgers write, the last number need not be the latest.
const LATEST: i64 = 5_000;

/// In `meta`: the last line when a clock behind the journal was taken to be right, and what it said. Unset is no line.
const SET_BACK: &str = "clock_set_back";

/// The latest moment that the books know of: of their lines, and of what was said of accounts. Of the lines before the clock was set
/// back, none counts any more, and of those since then no hold: its moment may be that of a hold before.
pub(crate) fn latest(db: &dyn Sql) -> sql::Result<Option<Timestamp>> {
    let (line, at) = set_back_at(db)?;
    let lines = db.query(
        "SELECT max(at) FROM (SELECT at, kind FROM entry WHERE entry > $1 ORDER BY entry DESC LIMIT $2) latest
         WHERE kind <> 'hold' OR $3",
        &values![line, LATEST, at.is_none()],
    )?;
    // By its index, in which there are no sessions: they come with holds.
    let accounts = db.query("SELECT max(updated_at) FROM account WHERE kind <> 'session'", &[])?;
    let moments = [&lines, &accounts].map(|rows| rows.first().map(|row| row.maybe_int(0)).transpose());
    let [line, account] = moments;
    Ok(line?.flatten().max(account?.flatten()).map(Timestamp::new).max(at))
}

/// Whether the clock was ever set back: what it measured and what is decided by moments can then seem to contradict each other.
pub(super) fn was_set_back(db: &dyn Sql) -> sql::Result<bool> {
    Ok(set_back_at(db)?.1.is_some())
}

fn set_back_at(db: &dyn Sql) -> sql::Result<(i64, Option<Timestamp>)> {
    let Some(stored) = meta::read::<16>(db, SET_BACK)? else { return Ok((0, None)) };
    let (line, at) = (stored.first_chunk(), stored.last_chunk());
    let (line, at) = (line.copied().unwrap_or_default(), at.copied().unwrap_or_default());
    Ok((i64::from_be_bytes(line), Some(Timestamp::new(i64::from_be_bytes(at)))))
}

/// Judges the clock by the journal. One that is behind it and accepted is the clock from now on.
pub(super) fn judge(db: &dyn Sql, ground: &Ground, accept: bool) -> Result<(), StartError> {
    if accept && db.is_shared() {
        // Of ledgers that start at once, only one sets the books back.
        db.query("SELECT value FROM meta WHERE name = 'epoch' FOR UPDATE", &[])?;
    }
    let now = ground.clock.now();
    match clock_check::check(now, latest(db)?) {
        Err(ClockError::Behind { latest, .. }) if accept => set_back(db, ground, now, latest),
        Err(error) if !accept => Err(error.into()),
        _ => Ok(()),
    }
}

fn set_back(db: &dyn Sql, ground: &Ground, now: Timestamp, latest: Timestamp) -> Result<(), StartError> {
    let back_ms = latest.since_ms(now);
    tracing::warn!(back_ms, "the clock is behind the journal, and taken to be right");
    keep_rates(db, now, back_ms)?;
    keep_holds(db, now, back_ms, ground.hold_ttl_ms)?;
    keep_revoked(db, now, latest)?;
    let mut memory = Memory::new(db)?;
    let mut books = Books { db, ground, memory: &mut memory };
    books.count_what_is_open(now).map_err(|failure| match failure {
        Failure::Database(error) => StartError::from(error),
        Failure::Refused(error) => StartError::Database(error.to_string()),
    })?;
    let rows = db.query("SELECT coalesce(max(entry), 0) FROM entry", &[])?;
    let line = rows.first().map_or(Ok(0), |row| row.int(0))?;
    meta::set(db, SET_BACK, &[line.to_be_bytes(), now.unix_ms().to_be_bytes()].concat())?;
    Ok(())
}

/// A rate that is used until some moment ahead of the clock is used as much as it was.
fn keep_rates(db: &dyn Sql, now: Timestamp, back_ms: i64) -> sql::Result<()> {
    const NS_PER_MS: i64 = 1_000_000;
    let (now_ns, back_ns) = (now.unix_ms().saturating_mul(NS_PER_MS), back_ms.saturating_mul(NS_PER_MS));
    db.execute(
        "UPDATE rate SET state = state - $1 WHERE kind <> 'parallel' AND state > $2",
        &values![back_ns, now_ns.max(0)],
    )
    .map(drop)
}

/// An open hold lives as long as it had left when the journal ended.
fn keep_holds(db: &dyn Sql, now: Timestamp, back_ms: i64, ttl_ms: i64) -> sql::Result<()> {
    db.execute(
        "UPDATE hold SET expires_at = CASE WHEN expires_at - $1 < $2 THEN expires_at - $1 ELSE $2 END
         WHERE state = 0 AND expires_at > $3",
        &values![back_ms, now.plus_ms(ttl_ms).unix_ms(), now.unix_ms()],
    )
    .map(drop)
}

/// A credential that had ended stays ended.
fn keep_revoked(db: &dyn Sql, now: Timestamp, latest: Timestamp) -> sql::Result<()> {
    db.execute(
        "UPDATE credential SET revoked_at = $1 WHERE revoked_at > $2 AND revoked_at <= $3",
        &values![now.unix_ms(), now.unix_ms(), latest.unix_ms()],
    )
    .map(drop)
}

impl Books<'_> {
    /// What the clock says.
    pub(super) fn now(&self) -> Timestamp {
        self.ground.clock.now()
    }

    /// The moment of a hold on these accounts.
    pub(super) fn moment(&mut self, accounts: &[i64], now: Timestamp) -> Result<Timestamp, Failure> {
        let mut moment = now;
        for account in accounts {
            moment = self.moment_of(*account, moment)?;
        }
        Ok(moment)
    }

    /// The moment that decides the windows of an account: never before its latest hold.
    pub(super) fn moment_of(&mut self, account: i64, now: Timestamp) -> Result<Timestamp, Failure> {
        let (_, lifetime) = self.current_balance(account, 0, now)?;
        let charged_at = self.balance(lifetime)?.charged_at;
        Ok(now.max(charged_at.map_or(now, Timestamp::new)))
    }

    /// Accounts whose limits were set ahead of the clock have counted the windows that were open then: they count those that are
    /// open now, too, and those that come in which there is something. What was said of them is said now.
    fn count_what_is_open(&mut self, now: Timestamp) -> Result<(), Failure> {
        let rows = self.db.query(
            "SELECT account FROM account
             WHERE updated_at > $1 AND kind <> 'session' AND deleted_at IS NULL
                 AND account IN (SELECT account FROM budget_limit)",
            &values![now.unix_ms()],
        )?;
        let accounts = rows.iter().map(|row| row.int(0)).collect::<sql::Result<BTreeSet<_>>>()?;
        self.lock(&accounts)?;
        for account in accounts {
            self.count_again(account, now)?;
            let moment = self.moment_of(account, now)?;
            self.record_crossed(account, moment)?;
        }
        self.flush()?;
        let now = now.unix_ms();
        self.db.execute(
            "UPDATE account SET updated_at = $1 WHERE updated_at > $2 AND kind <> 'session'",
            &values![now, now],
        )?;
        Ok(())
    }
}
