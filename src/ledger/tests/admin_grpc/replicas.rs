//! Two ledgers on one database, both charged at once, while an operator listens to one of them and keeps losing its connection.

use crate::world::{World, key, lifetime, limit, next, spend, watch};
use std::collections::HashMap;
use tollgate_proto::v1;

const KEYS: u8 = 20;
const ROUNDS: u8 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_under_load_through_two_replicas() {
    let world = World::postgres().await;
    let other = world.open().await;
    for number in 1..=KEYS {
        let desired = key(&format!("key-{number}"), &[number]);
        let limits = vec![limit(1_000_000_000, lifetime())];
        world.applied(v1::DesiredAccount { limits, ..desired }).await;
    }
    let load = |store: std::sync::Arc<tollgate_ledger::store::BooksStore>, replica: u8| async move {
        for round in 0..ROUNDS {
            for number in 1..=KEYS {
                let mut id = [replica; 16];
                (id[0], id[1]) = (round, number);
                spend(&store, number, id, 1).await;
            }
        }
    };
    let loads = [(world.served().store.clone(), 1), (other.store.clone(), 2)]
        .map(|(store, replica)| tokio::spawn(load(store, replica)));

    // Each key was charged once in each round by each.
    let expected = i64::from(ROUNDS) * 2 * 1_000;
    let mut posted: HashMap<String, i64> = HashMap::new();
    let mut cursor = Vec::new();
    let clients = [world.client(), other.client.clone()];
    for turn in 0.. {
        let answer = next(&mut watch(&clients[turn % 2], &cursor).await).await;
        cursor = answer.cursor;
        for account in answer.accounts {
            posted.insert(account.name.unwrap().id, account.posted);
        }
        if posted.len() == usize::from(KEYS) && posted.values().all(|posted| *posted == expected) {
            break;
        }
        assert!(turn < 1_000, "an account's last word never came: {posted:?}");
    }
    for load in loads {
        load.await.unwrap();
    }
    other.end().await;
}
