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

pub use config::{Config, ConfigError};
pub(crate) use driver::Postgres;
pub use error::{OpenError, Unfit};
pub(crate) use migrate::migrate;
pub(crate) use session::Patience;

#[cfg(test)]
mod tests;
