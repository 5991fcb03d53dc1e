//! What a ledger without batches would do: for each operation a transaction of its own, with four balances, the row of the hold
//! (made by one operation, ended by the next) and a line of the journal.

use crate::Failure;
use crate::accounts::Sizes;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// Its tables, in a database of their own on the same server.
pub(crate) struct Unbatched {
    address: String,
    sizes: Sizes,
    entry: Arc<AtomicI64>,
}

const TABLES: &str = "
    CREATE TABLE balance (balance BIGINT PRIMARY KEY, amount BIGINT NOT NULL, posted BIGINT NOT NULL, pending BIGINT NOT NULL)
        WITH (fillfactor = 50);
    CREATE TABLE entry (entry BIGINT PRIMARY KEY, at BIGINT NOT NULL, kind TEXT NOT NULL, hold BIGINT, balances BYTEA NOT NULL,
        posted BIGINT NOT NULL, pending BIGINT NOT NULL, checksum BIGINT NOT NULL);
    CREATE INDEX entry_at ON entry (at);
    CREATE TABLE hold (hold BIGINT PRIMARY KEY, id BYTEA NOT NULL UNIQUE, state BIGINT NOT NULL, digest BYTEA NOT NULL,
        key BIGINT NOT NULL, model TEXT NOT NULL, bounds BYTEA NOT NULL, balances BYTEA NOT NULL, amount BIGINT NOT NULL,
        posted BIGINT NOT NULL DEFAULT 0, created_at BIGINT NOT NULL, expires_at BIGINT NOT NULL, ended_at BIGINT)
        WITH (fillfactor = 80);
    CREATE INDEX hold_due ON hold (expires_at) WHERE state = 0;
    CREATE INDEX hold_made ON hold (created_at);
    CREATE INDEX hold_of_key ON hold (key, created_at) WHERE state = 1";

impl Unbatched {
    pub(crate) async fn make(address: &str, sizes: Sizes) -> Result<Self, Failure> {
        let client = connect(address).await?;
        client.batch_execute(TABLES).await?;
        let last = i64::from(sizes.teams + sizes.users + sizes.keys);
        client
            .execute("INSERT INTO balance SELECT n, 4611686018427387904, 0, 0 FROM generate_series(0, $1::bigint) n", &[&last])
            .await?;
        Ok(Self { address: address.to_owned(), sizes, entry: Arc::default() })
    }

    /// Operations a second, on so many connections.
    pub(crate) async fn run(&self, connections: usize, duration: Duration) -> Result<f64, Failure> {
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(connect(&self.address).await?);
        }
        let begin = Instant::now();
        let work = clients.into_iter().enumerate().map(|(number, client)| {
            let (sizes, entry) = (self.sizes, self.entry.clone());
            tokio::spawn(work(client, number as u32, sizes, entry, begin + duration))
        });
        let mut done = 0.0;
        for worker in work.collect::<Vec<_>>() {
            done += worker.await??;
        }
        Ok(done / begin.elapsed().as_secs_f64())
    }
}

async fn connect(address: &str) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn work(
    mut client: Client,
    number: u32,
    sizes: Sizes,
    entry: Arc<AtomicI64>,
    until: Instant,
) -> Result<f64, Failure> {
    let update = client
        .prepare(
            "UPDATE balance SET pending = pending + $1 WHERE balance = $2 AND posted + pending + $1 <= amount",
        )
        .await?;
    let insert = client.prepare("INSERT INTO entry VALUES ($1, $1, 'hold', $1, $2, 0, $3, 0)").await?;
    let make = client
        .prepare("INSERT INTO hold VALUES ($1, $2, 0, $3, $4, 'claude-sonnet-4-5', $5, $5, 1, 0, $1, $1)")
        .await?;
    let end = client.prepare("UPDATE hold SET state = 1, posted = 1, ended_at = $1 WHERE hold = $1").await?;
    let mut open = None;
    let mut key = number;
    let mut done = 0.0;
    while Instant::now() < until {
        key = key.wrapping_add(7);
        // The hot row last, so that its lock is kept for as short as can be.
        let team = 1 + key % sizes.teams;
        let user = 1 + sizes.teams + key % sizes.users;
        let own = 1 + sizes.teams + sizes.users + key % sizes.keys;
        let transaction = client.transaction().await?;
        for balance in [own, user, team, 0] {
            if transaction.execute(&update, &[&1_i64, &i64::from(balance)]).await? != 1 {
                return Err("a limit was reached".into());
            }
        }
        let line = entry.fetch_add(1, Ordering::Relaxed);
        match open.take() {
            None => {
                // In no order, as ids are.
                let id = line.wrapping_mul(-7_046_029_254_386_353_131).to_be_bytes();
                let digest = [0_u8; 32];
                let list = [0_u8; 32];
                let row: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                    [&line, &id.as_slice(), &digest.as_slice(), &i64::from(own), &list.as_slice()];
                transaction.execute(&make, &row).await?;
                open = Some(line);
            }
            Some(hold) => drop(transaction.execute(&end, &[&hold]).await?),
        }
        transaction.execute(&insert, &[&line, &[0_u8; 64].as_slice(), &1_i64]).await?;
        transaction.commit().await?;
        done += 1.0;
    }
    Ok(done)
}
