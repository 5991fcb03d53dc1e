//! Many clients on the last cent: as many are admitted as fit, at one ledger and at several.

use crate::books::Books;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::ledger::{HOLD, Ledger, PRICE};
use std::sync::Arc;
use tokio::sync::Barrier;
use tollgate_proto::v1;
use tollgate_proto::v1::hold_response::Verdict;

const CLIENTS: usize = 64;
const REPLICAS: usize = 4;
/// So much that it limits nothing.
const PLENTY: i64 = 1_000_000_000_000;
/// What was spent before, in tokens.
const BEFORE: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_ledger_admits_exactly_what_fits() {
    races(&Books::in_file(), 1, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: a hundred races"]
async fn one_ledger_admits_exactly_what_fits_a_hundred_times() {
    races(&Books::in_file(), 1, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_ledgers_admit_exactly_what_fits() {
    races(&Books::on_server(Cluster::shared().database()), REPLICAS, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: a hundred races"]
async fn four_ledgers_admit_exactly_what_fits_a_hundred_times() {
    races(&Books::on_server(Cluster::shared().database()), REPLICAS, 100).await;
}

async fn races(books: &Books, replicas: usize, rounds: i64) {
    let ledgers: Vec<Ledger> = (0..replicas).map(|_| Ledger::start(books)).collect();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(ledgers[number % replicas].client().await);
    }
    for round in 0..rounds {
        race(&ledgers[0], &clients, round).await;
    }
    for ledger in ledgers {
        ledger.kill();
    }
    books.check().await;
}

/// A team's limit that four keys share, or a key's own.
async fn race(ledger: &Ledger, clients: &[Client], round: i64) {
    let limit = HOLD * (1 + round * 23 % 60) + round * 977 % HOLD;
    let (of_team, of_key, keys) = if round % 2 == 0 { (limit, PLENTY, 4) } else { (PLENTY, limit, 1) };
    let team = ledger.new_team(of_team);
    let digests: Vec<Vec<u8>> = (0..keys).map(|_| ledger.new_key(&team, of_key)).collect();
    let mut first = clients[0].clone();
    let mut versions = Vec::new();
    for digest in &digests {
        versions.push(first.version(digest).await.unwrap());
    }
    let id = |number: usize| [(round + 1).to_be_bytes(), (number as i64).to_be_bytes()].concat();
    first.hold(&id(CLIENTS), &digests[0], &versions[0]).await.unwrap();
    first.settle(&id(CLIENTS), &digests[0], BEFORE).await.unwrap();
    let fits = (limit - PRICE * BEFORE as i64) / HOLD;

    let start = Arc::new(Barrier::new(CLIENTS));
    let racers = clients.iter().enumerate().map(|(number, client)| {
        let (id, start, mut client) = (id(number), start.clone(), client.clone());
        let (digest, version) = (digests[number % keys].clone(), versions[number % keys].clone());
        tokio::spawn(async move {
            start.wait().await;
            is_admitted(client.ask(&id, &digest, &version).await.unwrap())
        })
    });
    let racers: Vec<_> = racers.collect();
    let mut admitted = 0;
    for racer in racers {
        admitted += i64::from(racer.await.unwrap());
    }
    assert_eq!(admitted, fits, "round {round}: a limit of {limit}");
}

/// Refused for money, or not at all.
fn is_admitted(verdict: Verdict) -> bool {
    let for_money = [v1::DenialReason::BudgetSpent, v1::DenialReason::BudgetTooSmall];
    match verdict {
        Verdict::Held(_) => true,
        Verdict::Denied(denied) if for_money.contains(&denied.reason()) => false,
        other => panic!("{other:?}"),
    }
}
