//! Four ledgers on one PostgreSQL and one hot organization, beside a program that makes a transaction of each hold.

use crate::accounts::{self, Sizes};
use crate::figures::{Median, Report, Rounds, grouped};
use crate::ledger::Ledger;
use crate::load::{self, Settles};
use crate::postgres_server::Cluster;
use crate::unbatched::Unbatched;
use crate::{CLIENTS, Failure, Plan};
use std::sync::Arc;
use tokio_postgres::NoTls;
use tollgate_ledger::store::postgres;

const SIZES: Sizes = Sizes { teams: 16, users: 64, keys: 256 };
const REPLICAS: usize = 4;
/// Connections of the program without batches: the best of them counts.
const UNBATCHED: [usize; 3] = [4, 16, 64];
const TIMES_MIN: f64 = 10.0;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let cluster = tokio::task::spawn_blocking(|| {
        let cluster = Cluster::make();
        cluster.start();
        cluster
    });
    let cluster = cluster.await?;
    let (books, plain) = (cluster.database(), cluster.database());
    let (store, keeper) = postgres::open(books.parse()?, accounts::settings()?).await?;
    accounts::make(store, keeper, SIZES).await?;
    let unbatched = Unbatched::make(&plain, SIZES).await?;
    let ledgers = (0..REPLICAS).map(|_| Ledger::on_database(plan, &books));
    let ledgers: Vec<Ledger> = ledgers.collect::<Result<_, _>>()?;
    let keys = Arc::new(load::look_up(&ledgers[0], 0..SIZES.keys).await?);

    let mut rates = vec![Vec::new(); UNBATCHED.len()];
    let mut seen = vec![Vec::new(); CLIENTS.len()];
    let mut batches = vec![Vec::new(); CLIENTS.len()];
    for _ in 0..plan.rounds {
        for (connections, rates) in UNBATCHED.iter().zip(&mut rates) {
            rates.push(unbatched.run(*connections, plan.round).await?);
        }
        for (index, clients) in CLIENTS.iter().enumerate() {
            let before = transactions(&books).await?;
            let round = load::run(&ledgers, &keys, *clients, Settles::Alone, plan.round).await?;
            // Asking takes a number, too.
            let made = transactions(&books).await? - before - 1;
            batches[index].push(2.0 * round.pairs / made as f64);
            seen[index].push(round);
        }
    }
    let rates: Vec<Median> = rates.into_iter().map(|rates| Median::of(rates.into_iter())).collect();
    let best = rates.iter().map(|rate| rate.value).fold(0.0, f64::max);
    let mut rows = Vec::new();
    for (connections, rate) in UNBATCHED.iter().zip(&rates) {
        let none = String::new;
        rows.push(vec![
            format!("one by one, {connections} connections"),
            rate.to_string(),
            none(),
            none(),
            none(),
            none(),
        ]);
    }
    for ((clients, seen), batches) in CLIENTS.iter().zip(&seen).zip(batches) {
        let of = Rounds::of(seen);
        let times = 2.0 * of.rate.value / best;
        rows.push(vec![
            format!("{REPLICAS} ledgers, c = {clients}"),
            grouped(2.0 * of.rate.value),
            of.rate.to_string(),
            format!("{:.2} / {:.2}", of.p50_ms, of.p99_ms),
            format!("{:.0}", of.cpu_us),
            format!("{:.1}", Median::of(batches.into_iter()).value),
        ]);
        if *clients >= 64 {
            report.aim(
                format!(
                    "PostgreSQL, {REPLICAS} ledgers, c = {clients}, one hot organization: >= 10x one by one"
                ),
                format!(
                    "{times:.1}x ({} operations a second against {}; against one by one on {} connections {:.1}x)",
                    grouped(2.0 * of.rate.value),
                    grouped(best),
                    UNBATCHED[UNBATCHED.len() - 1],
                    2.0 * of.rate.value / rates[rates.len() - 1].value
                ),
                times >= TIMES_MIN,
            );
        }
    }
    report.fact(format!(
        "PostgreSQL: {} keys of {} users in {} teams of one organization; a hold and a settle are an operation each, and one by \
         one each operation is a transaction of four updates, the hold's row and a line of the journal, in one order, on connections \
         of its own.",
        SIZES.keys, SIZES.users, SIZES.teams
    ));
    report.table(
        "PostgreSQL | operations/s | hold + settle /s | hold p50 / p99 ms | CPU us of the ledgers | operations a transaction",
        rows,
    );
    Ok(())
}

/// How many transactions have written so far.
async fn transactions(database: &str) -> Result<i64, Failure> {
    let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
    tokio::spawn(connection);
    Ok(client.query_one("SELECT txid_current()", &[]).await?.get(0))
}
