//! The books in PostgreSQL, for several replicas of the ledger: a driver below [`super::sql`].
//!
//! It uses nothing that CockroachDB, YugabyteDB and Citus lack: no advisory locks, no `LISTEN`, no triggers, no temporary
//! tables, no PL/pgSQL. A pooler between the ledger and the database must give out whole sessions, because statements stay
//! prepared and settings stay set.

mod config;
mod driver;
mod error;
mod migrate;
mod session;
mod tls;
mod value;

use super::books::{BooksStore, CheckError, Connections, Keeper, Settings, Start, check_at_start};
use super::sql::Sql;
use tokio::runtime::Handle;

pub use config::{Config, ConfigError};
pub(crate) use driver::Postgres;
pub use error::{OpenError, Unfit};
pub(crate) use migrate::migrate;
pub(crate) use session::Patience;

/// Every migration, in order. Forward only: a released one is never edited.
pub(crate) const MIGRATIONS: &[(&str, &str)] = &[
    ("V1__books", include_str!("../../../migrations/postgres/V1__books.sql")),
    ("V2__growth", include_str!("../../../migrations/postgres/V2__growth.sql")),
    ("V3__overlays", include_str!("../../../migrations/postgres/V3__overlays.sql")),
    ("V4__session_limits", include_str!("../../../migrations/postgres/V4__session_limits.sql")),
];

/// The newest schema that this release knows.
pub(crate) const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// Connections for look-ups: each takes one at a time, and a look-up is a few round trips.
const LOOKUPS: usize = 4;
/// Connections for what people ask.
const LISTS: usize = 2;

/// Opens the books in a database, on the newest schema; it is made where it is missing. Other ledgers may have them open.
///
/// # Errors
/// [`OpenError`].
pub async fn open(config: Config, settings: Settings) -> Result<(BooksStore, Keeper), OpenError> {
    let runtime = Handle::current();
    // The driver blocks: not on a thread of the runtime.
    let opening = tokio::task::spawn_blocking(move || open_blocking(&config, &runtime, settings));
    opening.await.map_err(|error| OpenError::Start(super::StartError::Database(error.to_string())))?
}

fn open_blocking(
    config: &Config,
    runtime: &Handle,
    settings: Settings,
) -> Result<(BooksStore, Keeper), OpenError> {
    migrate(config, runtime, MIGRATIONS)?;
    check(config, runtime)?;
    let connect = || Postgres::open(config, runtime, Patience::Hurried);
    let connect_each = |count: usize| -> Result<Vec<Box<dyn Sql + Send>>, OpenError> {
        (0..count).map(|_| Ok(Box::new(connect()?) as Box<dyn Sql + Send>)).collect()
    };
    let writer = connect()?;
    let start = Start::read(&writer, &settings).map_err(OpenError::Start)?;
    let connections = Connections {
        lookups: connect_each(LOOKUPS)?,
        lists: connect_each(LISTS)?,
        writer: Box::new(writer),
        guard: None,
    };
    let failed = |error: std::io::Error| OpenError::Start(super::StartError::Database(error.to_string()));
    let _inside = runtime.enter();
    BooksStore::start(connections, start).map_err(failed)
}

/// Looks whether the books are what was written, while other ledgers may write.
fn check(config: &Config, runtime: &Handle) -> Result<(), OpenError> {
    let db = Postgres::open(config, runtime, Patience::Patient)?;
    match check_at_start(&db) {
        Ok(_) => Ok(()),
        Err(CheckError::Altered(report)) => {
            Err(OpenError::Altered { place: config.to_string(), report: Box::new(report) })
        }
        Err(CheckError::Database(error)) => Err(OpenError::Start(error.into())),
    }
}

#[cfg(test)]
mod tests;
