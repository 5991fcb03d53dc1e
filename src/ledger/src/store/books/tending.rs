//! What the ledger does by itself: it makes what every ledger finds at its start, expires, sums, forgets.

use super::check::{RETIRED_UNTIL, gap};
use super::code::{Failure, corrupt};
use super::memory::{Books, Epoch, Ground};
use super::prices::Prices;
use super::spent;
use super::sums::ROLLED_UNTIL;
use super::{Settings, StartError};
use super::{meta, moments};
use crate::clock::Clock;
use crate::store::sql::{self, Sql, values};
use std::sync::Arc;
use tollgate_domain::time::Timestamp;

/// After how long without a request a session's account ends: longer than anybody leaves an agent's session lying.
const SESSION_IDLE_MS: i64 = 30 * 86_400_000;
/// How often a round of all sessions begins.
const SESSIONS_EVERY_MS: i64 = 3_600_000;
/// Sessions that are looked at at once.
const SESSIONS_MAX: i64 = 256;

/// What is done now and then, each in a transaction of its own: one that fails must not keep the others from being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    /// Holds whose time is up are charged in full; old tombstones are forgotten.
    Expire,
    /// What is long past is summed.
    RollUp,
    /// Sessions of which nothing is heard end.
    EndSessions,
}

impl Chore {
    pub(super) const ALL: [Self; 3] = [Self::Expire, Self::RollUp, Self::EndSessions];
}

/// Makes what is not there yet, and reads it; judges the clock.
pub(super) fn begin(db: &dyn Sql, settings: &Settings, clock: Clock) -> Result<Ground, StartError> {
    accept_gap(db, settings.accept_gap)?;
    let mut fresh = Epoch::default();
    getrandom::fill(&mut fresh).map_err(|error| StartError::Database(format!("no random bytes: {error}")))?;
    let once = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    db.execute(once, &values!["epoch", &fresh])?;
    db.execute(once, &values![ROLLED_UNTIL, &i64::MIN.to_be_bytes()])?;
    // A row to lock, from the beginning.
    db.execute(once, &values![RETIRED_UNTIL, &i64::MIN.to_be_bytes()])?;
    spent::fill(db)?;
    let ground = Ground {
        epoch: meta::read(db, "epoch")?.ok_or_else(|| corrupt("epoch"))?,
        prices: Prices::begin(db, &settings.book)?,
        grace_until: clock.now().plus_ms(settings.expiry_grace_ms),
        grace_ms: settings.expiry_grace_ms,
        clock,
        hold_ttl_ms: settings.hold_ttl_ms,
        observe: settings.observe,
        counters: Arc::default(),
    };
    moments::judge(db, &ground, settings.accept_clock)?;
    Ok(ground)
}

/// Books that were given back from a backup serve only when somebody knows it.
fn accept_gap(db: &dyn Sql, accept: bool) -> Result<(), StartError> {
    match gap(db)? {
        None => Ok(()),
        Some((from, to)) if accept => {
            tracing::warn!(from = %shown(from), to = %shown(to), "books with a gap are taken into service");
            db.execute("DELETE FROM meta WHERE name = 'gap'", &[])?;
            Ok(())
        }
        Some((from, to)) => Err(StartError::Gap { from: shown(from), to: shown(to) }),
    }
}

fn shown(unix_ms: i64) -> String {
    Timestamp::new(unix_ms).to_rfc3339().unwrap_or_else(|| format!("{unix_ms} ms"))
}

impl Books<'_> {
    /// Does a little of what is due, and says whether more is waiting.
    pub(super) fn tend(&mut self, chore: Chore) -> Result<bool, Failure> {
        self.observe_clock()?;
        // A ledger without requests hears of other prices here: filters have the models from it.
        if self.db.is_shared() {
            self.take_prices()?;
        }
        match chore {
            Chore::Expire => self.sweep(),
            Chore::RollUp => self.roll_up(),
            Chore::EndSessions => self.end_sessions(),
        }
    }

    /// Writes something, to know whether that works again.
    pub(super) fn probe(&mut self) -> sql::Result<()> {
        self.observe_clock()?;
        let now = self.now().unix_ms().to_be_bytes();
        self.write(meta::SET, &values!["probe", &now])
    }

    /// Ends the accounts of sessions of which nothing was heard for long. Their balances stay, and one that speaks again goes on.
    /// It looks at some of those that live, in the order of their rows, and begins again after a while.
    fn end_sessions(&mut self) -> Result<bool, Failure> {
        let now = self.now();
        if now < self.memory.sessions_at {
            return Ok(false);
        }
        self.send()?;
        let living = self.db.query(
            r#"SELECT a.account, coalesce(b.charged_at, a.created_at)
               FROM account a LEFT JOIN balance b ON b.account = a.account AND b."window" = 'lifetime' AND b.model = ''
               WHERE a.kind = 'session' AND a.deleted_at IS NULL AND a.account > $1 ORDER BY a.account LIMIT $2"#,
            &values![self.memory.sessions_after, SESSIONS_MAX],
        )?;
        let idle_since = now.plus_ms(-SESSION_IDLE_MS).unix_ms();
        for row in &living {
            let account = row.int(0)?;
            self.memory.sessions_after = account;
            if row.int(1)? < idle_since {
                self.memory.sessions.clear();
                self.write(
                    "UPDATE account SET deleted_at = $1 WHERE account = $2",
                    &values![now.unix_ms(), account],
                )?;
            }
        }
        if i64::try_from(living.len()).is_ok_and(|count| count < SESSIONS_MAX) {
            self.memory.sessions_after = 0;
            self.memory.sessions_at = Timestamp::new(now.unix_ms().saturating_add(SESSIONS_EVERY_MS));
        }
        Ok(false)
    }
}
