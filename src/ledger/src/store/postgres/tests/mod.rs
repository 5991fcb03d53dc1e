//! The driver against a real server.

#[allow(dead_code, reason = "tests elsewhere use the rest")]
#[path = "../../../../tests/postgres/cluster.rs"]
mod cluster;
mod dialect;
mod failures;
mod migrations;
mod plans;
mod server;
mod statements;
mod wire;

use self::cluster::Cluster;
use super::{Config, Patience, Postgres};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn config(address: &str) -> Config {
    address.parse().unwrap()
}

/// A database of one's own on the shared server.
struct Database {
    runtime: Runtime,
    address: String,
}

impl Database {
    fn new(statements: &str) -> Self {
        let address = Cluster::shared().database();
        let database = Self { runtime: runtime(), address };
        database.sql(statements);
        database
    }

    fn open(&self) -> Postgres {
        Postgres::open(&config(&self.address), self.runtime.handle(), Patience::Hurried).unwrap()
    }

    fn sql(&self, statements: &str) -> String {
        let (_, name) = self.address.rsplit_once('/').unwrap();
        Cluster::shared().sql(name, statements)
    }
}
