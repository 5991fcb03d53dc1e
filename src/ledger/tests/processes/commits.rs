//! The answer to a COMMIT is lost: nobody knows whether it was carried out, so that nobody is told that it was; who asks again
//! finds out.

use crate::books::{Books, Row};
use crate::cluster::Cluster;
use crate::ledger::{Ledger, PRICE};
use crate::load::Load;
use crate::wait::until;
use crate::wire::{Break, Wire};
use tollgate_proto::v1::ReportResult;
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_whose_commit_is_lost_is_found_by_whoever_asks_again() {
    let place = Cluster::shared().database();
    let (books, wire) = (Books::on_server(place.clone()), Wire::to(&place));
    let wired = Ledger::start(&Books::on_server(wire.address.clone()));
    let direct = Ledger::start(&books);
    let load = Load::new(&direct).await;
    let (digest, version) = (&load.digest, &load.version);
    for (asked, place) in
        [&wired, &direct].into_iter().flat_map(|asked| [(asked, Break::Before), (asked, Break::After)])
    {
        let (mut client, mut other) = (wired.client().await, asked.client().await);
        let id = load.new_id();
        wire.set(&id, place);
        let refused = client.hold(&id, digest, version).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{place:?}: {refused}");
        assert!(wire.has_broken(), "{place:?}: {refused}");
        let open = (place == Break::After).then_some(Row { state: 0, posted: 0 });
        assert_eq!(books.check().await.get(&id).copied(), open, "{place:?}");
        recover(&wired).await;
        other.hold(&id, digest, version).await.unwrap();

        wire.set(&id, place);
        let refused = client.settle(&id, digest, 2).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{place:?}: {refused}");
        assert!(wire.has_broken(), "{place:?}: {refused}");
        recover(&wired).await;
        let known = if place == Break::After { ReportResult::Duplicate } else { ReportResult::Applied };
        assert_eq!(other.settle(&id, digest, 2).await.unwrap(), known, "{place:?}");
        assert_eq!(books.check().await[&id], Row { state: 1, posted: 2 * PRICE }, "{place:?}");
    }
}

/// A ledger that could not write refuses everything, and tries again by itself.
async fn recover(ledger: &Ledger) {
    until("another connection", || ledger.is_ready()).await;
}
