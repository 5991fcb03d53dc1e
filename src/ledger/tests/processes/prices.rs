//! Replicas are started with a new price book one after another: all go over to it at once, and what was held by the old one is
//! settled by the old one.

use crate::books::{Books, Row};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::ledger::{BOOK, HOLD, Ledger, PRICE};
use crate::wait::{until, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tollgate_proto::v1::ReportResult;
use tollgate_proto::v1::hold_response::Verdict;

const BUDGET: i64 = 1_000_000_000_000_000;
const FILTERS: usize = 8;
/// A decision on an old policy is made again: once for the new prices, and once where the look-up came too early.
const STALE_MAX: u64 = 2;

/// With every price doubled.
fn dearer() -> String {
    BOOK.replace(r#""input": "1", "output": "2""#, r#""input": "2", "output": "4""#)
}

/// A filter whose requests go to the ledgers in turn.
struct Filter {
    ledgers: Vec<Client>,
    digest: Vec<u8>,
    version: Vec<u8>,
    number: u64,
    stale: u64,
}

impl Filter {
    /// What a new hold holds.
    async fn hold(&mut self, ids: &AtomicU64) -> i64 {
        let number = ids.fetch_add(1, Ordering::SeqCst);
        let id = [[9; 8], number.to_be_bytes()].concat();
        self.number += 1;
        let which = self.number as usize % self.ledgers.len();
        loop {
            let ledger = &mut self.ledgers[which];
            match within("an answer", ledger.ask(&id, &self.digest, &self.version)).await.unwrap() {
                Verdict::Held(held) => return held.amount_nanodollars,
                Verdict::Stale(stale) => {
                    self.stale += 1;
                    assert!(self.stale <= STALE_MAX, "it is sent to and fro");
                    self.version = stale.policy.unwrap().version;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_price_book_comes_to_all_at_once_and_old_holds_keep_the_old_one() {
    let books = Books::on_server(Cluster::shared().database());
    let (one, other) = (Ledger::start(&books), Ledger::start(&books));
    let digest = one.new_key(&one.new_team(BUDGET), BUDGET);
    let (mut first, mut second) = (one.client().await, other.client().await);
    let version = first.version(&digest).await.unwrap();
    let old = [[1; 16], [2; 16]];
    for id in &old {
        first.hold(id, &digest, &version).await.unwrap();
    }

    // The filters are at work all the time.
    let (ids, lowest) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicI64::new(HOLD)));
    let filters = (0..FILTERS).map(|number| {
        let ledgers = vec![first.clone(), second.clone()];
        let mut filter = Filter {
            ledgers,
            digest: digest.clone(),
            version: version.clone(),
            number: number as u64,
            stale: 0,
        };
        let (ids, lowest) = (ids.clone(), lowest.clone());
        tokio::spawn(async move {
            let mut after = 0;
            while after < 20 {
                let lowest = lowest.load(Ordering::SeqCst);
                let amount = filter.hold(&ids).await;
                assert!(amount >= lowest, "the old prices came back");
                after += u64::from(amount > HOLD);
            }
            filter.version
        })
    });
    let filters: Vec<_> = filters.collect();
    until("holds by the old book", || ids.load(Ordering::SeqCst) > 50).await;
    let new = Ledger::start_with(&books, &dearer()).unwrap();
    // From now on, nobody may hold by the old one.
    lowest.store(2 * HOLD, Ordering::SeqCst);
    let mut third = new.client().await;
    let newest = third.version(&digest).await.unwrap();
    assert_ne!(newest, version);
    for filter in filters {
        assert_eq!(within("the end of a filter", filter).await.unwrap(), newest);
    }
    for ledger in [&mut first, &mut second, &mut third] {
        assert_eq!(ledger.version(&digest).await.unwrap(), newest, "look-ups agree");
    }

    // A replica of before, started once more with its old file, takes the present prices.
    one.kill();
    let again = Ledger::start(&books);
    let mut fourth = again.client().await;
    for (number, ledger) in [&mut fourth, &mut second, &mut third].into_iter().enumerate() {
        let id = [[3; 15].as_slice(), &[number as u8]].concat();
        assert_eq!(ledger.hold(&id, &digest, &newest).await.unwrap().amount_nanodollars, 2 * HOLD);
        assert_eq!(ledger.settle(&id, &digest, 2).await.unwrap(), ReportResult::Applied);
    }
    for (id, ledger) in old.iter().zip([&mut fourth, &mut third]) {
        assert_eq!(ledger.settle(id, &digest, 2).await.unwrap(), ReportResult::Applied);
    }
    let rows = books.check().await;
    let settled = |posted| Row { state: 1, posted };
    for id in &old {
        assert_eq!(rows[id.as_slice()], settled(2 * PRICE), "by the old book");
    }
    for number in 0..3 {
        let id = [[3; 15].as_slice(), &[number]].concat();
        assert_eq!(rows[&id], settled(4 * PRICE), "by the new one");
    }
}
