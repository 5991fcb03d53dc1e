//! Rows that somebody else has: a ledger that comes to one stands still until it is let through.

use crate::cluster::Cluster;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};
use tollgate_domain::ids::HoldId;

/// Longer than anything takes; what comes after it never comes.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// A transaction of one's own, which has what others want.
pub(crate) struct Gate {
    client: Client,
    database: String,
}

impl Gate {
    async fn at(address: &str, taken: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("BEGIN; {taken}")).await.unwrap();
        let database = address.rsplit_once('/').unwrap().1.to_owned();
        Self { client, database }
    }

    /// Before the hold of this id is written; everything that is read for it has been read then.
    pub(crate) async fn before_writing(address: &str, hold: HoldId) -> Self {
        let id: String = hold.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let row = format!(
            "INSERT INTO hold (hold, id, state, digest, key, model, provider, api, bounds, price_revision, balances, amount,
                 created_at, expires_at)
             VALUES (-1, '\\x{id}', 0, '', 0, '', '', '', '', 0, '', 0, 0, 0)"
        );
        Self::at(address, &row).await
    }

    /// At the lock of the accounts of a kind.
    pub(crate) async fn at_accounts(address: &str, kind: &str) -> Self {
        let rows = format!(
            "SELECT balance FROM balance b JOIN account a ON a.account = b.account WHERE a.kind = '{kind}' FOR UPDATE OF b"
        );
        Self::at(address, &rows).await
    }

    /// Waits until so many stand at a gate, or it is so.
    pub(crate) async fn until_waiting(&self, count: usize, or: impl Fn() -> bool) {
        let ask = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'",
            self.database
        );
        let wait = async {
            while !or() {
                // By another connection: this one sees the activity of its transaction's beginning.
                let waiting = tokio::task::block_in_place(|| Cluster::shared().sql("postgres", &ask));
                if waiting.parse::<usize>().unwrap() >= count {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("somebody comes to the gate");
    }

    /// Lets everybody through, and leaves nothing.
    pub(crate) async fn open(self) {
        self.client.batch_execute("ROLLBACK").await.unwrap();
    }
}
