//! The primary dies, and its standby takes over: the ledgers find it by themselves, with everything that was acknowledged.

use crate::books::Books;
use crate::cluster::Cluster;
use crate::ledger::Ledger;
use crate::load::{Load, Manner};
use crate::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_on_the_standby_that_takes_over() {
    let primary = Cluster::make();
    primary.start();
    let database = primary.database();
    let (_, name) = database.rsplit_once('/').unwrap();
    let standby = Cluster::follower_of(&primary);
    let books = Books::on_server(Cluster::any_address(&[&primary, &standby], name));
    let ledgers = [Ledger::start(&books), Ledger::start(&books)];
    let load = Load::new(&ledgers[0]).await;
    let crews =
        [load.start(&ledgers[0], Manner::Patient).await, load.start(&ledgers[1], Manner::Patient).await];
    for crew in &crews {
        crew.advance(100).await;
    }

    primary.kill();
    for crew in &crews {
        crew.be_refused(2).await;
    }
    let before = crews.each_ref().map(|crew| crew.answered());
    for (crew, ledger) in crews.iter().zip(&ledgers) {
        until("unreadiness: a standby serves nobody", || !ledger.is_ready()).await;
        crew.be_refused(2).await;
    }
    assert_eq!(crews.each_ref().map(|crew| crew.answered()), before);

    standby.promote();
    for (crew, ledger) in crews.iter().zip(&ledgers) {
        crew.advance(100).await;
        until("readiness", || ledger.is_ready()).await;
    }
    load.stop(crews).await;
    load.check(&books).await;
    for ledger in &ledgers {
        load.ask_again(ledger).await;
    }
    load.check(&books).await;
}
