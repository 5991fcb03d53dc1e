//! kill -9 of a ledger under load: what it acknowledged is there, exactly once.

use crate::books::Books;
use crate::cluster::Cluster;
use crate::ledger::Ledger;
use crate::load::{Load, Manner};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    a_ledger_alone(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: sixty deaths"]
async fn what_was_acknowledged_survives_kill_9_many_times() {
    a_ledger_alone(60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_ledgers_dies_and_the_other_notices_nothing() {
    one_of_two(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: sixty deaths"]
async fn one_of_two_ledgers_dies_many_times_and_the_other_notices_nothing() {
    one_of_two(60).await;
}

/// Another moment in each round.
fn moment(round: u64) -> u64 {
    40 + 37 * round % 101
}

async fn a_ledger_alone(rounds: u64) {
    let books = Books::in_file();
    let mut ledger = Ledger::start(&books);
    let load = Load::new(&ledger).await;
    for round in 0..rounds {
        let crew = load.start(&ledger, Manner::Mortal).await;
        crew.advance(moment(round)).await;
        ledger.kill();
        crew.end().await;
        load.check(&books).await;
        ledger = Ledger::start(&books);
        load.ask_again(&ledger).await;
        load.prove();
    }
    ledger.kill();
    load.check(&books).await;
}

async fn one_of_two(rounds: u64) {
    let books = Books::on_server(Cluster::shared().database());
    let (mut mortal, mut other) = (Ledger::start(&books), Ledger::start(&books));
    let load = Load::new(&mortal).await;
    for round in 0..rounds {
        let dying = load.start(&mortal, Manner::Mortal).await;
        let living = load.start(&other, Manner::Sure).await;
        dying.advance(moment(round)).await;
        mortal.kill();
        dying.end().await;
        living.advance(50).await;
        load.stop([living]).await;
        load.check(&books).await;
        load.ask_again(&other).await;
        // The same answers from one that was not there.
        let new = Ledger::start(&books);
        load.ask_again(&new).await;
        load.prove();
        (mortal, other) = (other, new);
    }
    load.check(&books).await;
}
