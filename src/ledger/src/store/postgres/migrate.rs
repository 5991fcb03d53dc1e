//! The schema is brought up to date in one place, however many replicas start at once. Forward only: a released migration is
//! never edited.
//!
//! A release runs on its own schema and on the next one, so that replicas are renewed one after another: whoever comes first
//! migrates, and those of the release before go on.

use super::config::Config;
use super::error::{OpenError, describe, kind_of};
use super::session::{Patience, Session};
use crate::store::sql::SqlErrorKind;
use refinery::{Migration, Runner};
use std::error::Error;
use std::time::Duration;
use tokio::runtime::Handle;

/// Whoever has the row migrates. Advisory locks would do, if every database had them.
const MAKE_LOCK: &str =
    "CREATE TABLE IF NOT EXISTS tollgate_migration (only_row BOOLEAN PRIMARY KEY CHECK (only_row))";
const FILL_LOCK: &str = "INSERT INTO tollgate_migration (only_row) VALUES (TRUE) ON CONFLICT DO NOTHING";
const TAKE_LOCK: &str = "BEGIN; SELECT only_row FROM tollgate_migration FOR UPDATE";

/// `IF NOT EXISTS` may still fail while another does the same, once for each replica that starts.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Brings the schema up to date, and gives its version: the newest of `migrations`, or one more.
pub(crate) fn migrate(
    config: &Config,
    runtime: &Handle,
    migrations: &[(&str, &str)],
) -> Result<i64, OpenError> {
    runtime.block_on(async {
        let mut schema = Schema::open(config, migrations).await?;
        // Without rights to change the schema, a release still runs on one that fits.
        if schema.is_present().await? {
            return schema.version().await;
        }
        let lock = schema.lock().await?;
        if !schema.is_present().await? {
            schema.run().await?;
        }
        // Had it been lost in between, two would have migrated at once, in transactions of which one fails: the names of what
        // they make and the numbers in the history are unique.
        let _ = lock.batch_execute("COMMIT").await;
        schema.version().await
    })
}

struct Schema<'a> {
    config: &'a Config,
    session: Session,
    migrations: Vec<Migration>,
    known: i64,
}

impl<'a> Schema<'a> {
    async fn open(config: &'a Config, migrations: &[(&str, &str)]) -> Result<Self, OpenError> {
        let session = Session::connect(config, Patience::Patient).await?;
        let migrations: Result<Vec<_>, _> =
            migrations.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect();
        let migrations = migrations.map_err(|error| failed(config, error.to_string()))?;
        let known =
            migrations.iter().map(|migration| i64::from(migration.version())).max().unwrap_or_default();
        Ok(Self { config, session, migrations, known })
    }

    /// Zero where there is none.
    async fn version(&self) -> Result<i64, OpenError> {
        let newest = "SELECT coalesce(max(version), 0)::bigint FROM refinery_schema_history";
        match self.session.query_one(newest, &[]).await {
            Ok(row) => row.try_get(0).map_err(|error| self.failed(describe(&error))),
            Err(error) if error.code().is_some_and(|code| code.code() == "42P01") => Ok(0),
            Err(error) => Err(self.failed(describe(&error))),
        }
    }

    /// Whether every migration of this release has been run, as this release has it.
    async fn is_present(&mut self) -> Result<bool, OpenError> {
        let found = self.version().await?;
        let (place, known) = (self.config.to_string(), self.known);
        if found > known + 1 {
            return Err(OpenError::Newer { place, found, known });
        }
        if found < known || found == 0 {
            return Ok(false);
        }
        let applied = self.runner().get_applied_migrations_async(&mut *self.session).await;
        let applied = applied.map_err(|error| self.failed(chain(&error)))?;
        let is_absent = |own: &&Migration| !applied.contains(own);
        match self.migrations.iter().find(is_absent) {
            None => Ok(true),
            Some(own) => Err(self.failed(format!("{own} was run with another text"))),
        }
    }

    /// A session that has the row; the migrations have their own transactions, in the other one.
    async fn lock(&self) -> Result<Session, OpenError> {
        let session = Session::connect(self.config, Patience::Patient).await?;
        for sql in [MAKE_LOCK, FILL_LOCK, TAKE_LOCK] {
            self.insist(&session, sql).await?;
        }
        Ok(session)
    }

    async fn run(&mut self) -> Result<(), OpenError> {
        let runner = self.runner();
        runner.run_async(&mut *self.session).await.map(drop).map_err(|error| self.failed(chain(&error)))
    }

    /// A newer release's migrations are none of ours: they are there, and unknown.
    fn runner(&self) -> Runner {
        Runner::new(&self.migrations).set_abort_missing(false)
    }

    async fn insist(&self, session: &Session, sql: &str) -> Result<(), OpenError> {
        let mut tries = 0;
        while let Err(error) = session.batch_execute(sql).await {
            tries += 1;
            if tries == TRIES || !error.code().is_some_and(|code| is_contended(code.code())) {
                return Err(self.failed(describe(&error)));
            }
            // What failed may have begun a transaction.
            let _ = session.batch_execute("ROLLBACK").await;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn failed(&self, why: String) -> OpenError {
        failed(self.config, why)
    }
}

/// Another makes the same table: it is there already, it is half there, its row changes.
fn is_contended(code: &str) -> bool {
    kind_of(code) == SqlErrorKind::Contended || matches!(code, "42P07" | "42710" | "XX000")
}

fn failed(config: &Config, why: String) -> OpenError {
    OpenError::Migration { place: config.to_string(), why }
}

/// refinery says what it did, and below it the database why that failed.
fn chain(error: &refinery::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let why = error.downcast_ref().map_or_else(|| error.to_string(), describe);
        text.push_str(&format!(": {why}"));
        below = error.source();
    }
    text
}
