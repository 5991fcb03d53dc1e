//! The PostgreSQL store under the contract, on a real server.

use crate::cluster::Cluster;
use crate::reading::check;
use crate::rows;
use crate::world::Backend;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::NoTls;
use tollgate_ledger::store::postgres::{self, Config};
use tollgate_ledger::store::{BooksStore, Keeper, Place, Settings};

pub(crate) struct Postgres {
    /// How the database is reached.
    pub(crate) address: String,
    keeper: Option<Keeper>,
}

impl Postgres {
    pub(crate) fn config(&self) -> Config {
        self.address.parse().unwrap()
    }
}

impl Backend for Postgres {
    const ALONE: bool = false;

    fn new() -> Self {
        Self { address: Cluster::shared().database(), keeper: None }
    }

    async fn try_open(&mut self, settings: Settings) -> Result<Arc<BooksStore>, String> {
        let opened = postgres::open(self.config(), settings).await;
        let (store, keeper) = opened.map_err(|error| error.to_string())?;
        self.keeper = Some(keeper);
        Ok(Arc::new(store))
    }

    async fn close(&mut self, store: Arc<BooksStore>) {
        drop(store);
        assert!(self.keeper.take().unwrap().closed(Duration::from_secs(10)).await);
    }

    fn place(&self) -> Place {
        Place::Postgres(Box::new(self.config()))
    }

    async fn check(&self) {
        let (client, connection) = tokio_postgres::connect(&self.address, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            check(&mut |sql| runtime.block_on(rows::of_database(&client, sql)), Self::ALONE);
        });
        drop(client);
        connection.await.unwrap().unwrap();
    }
}
