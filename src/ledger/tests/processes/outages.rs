//! The server dies, stands still, may not be written to, or is gone: the ledgers say so, never acknowledge what is not there, and
//! come back by themselves.

use crate::books::Books;
use crate::cluster::{Cluster, Stop};
use crate::ledger::Ledger;
use crate::load::{Crew, Load, Manner};
use crate::wait::until;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// A ledger whose server is gone answers before this.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Two ledgers under load over a server of their own.
struct World {
    cluster: Cluster,
    books: Books,
    ledgers: [Ledger; 2],
    load: Arc<Load>,
}

impl World {
    async fn new() -> Self {
        let cluster = Cluster::make();
        cluster.start();
        let books = Books::on_server(cluster.database());
        let ledgers = [Ledger::start(&books), Ledger::start(&books)];
        let load = Load::new(&ledgers[0]).await;
        Self { cluster, books, ledgers, load }
    }

    async fn work(&self) -> [Crew; 2] {
        let [one, other] = &self.ledgers;
        [self.load.start(one, Manner::Patient).await, self.load.start(other, Manner::Patient).await]
    }

    async fn until_ready(&self, ready: bool) {
        for ledger in &self.ledgers {
            until("readiness, or its end", || ledger.is_ready() == ready).await;
        }
    }

    /// Everything that was acknowledged is there, once.
    async fn end(self, crews: [Crew; 2]) {
        advance(&crews, 50).await;
        self.until_ready(true).await;
        self.load.stop(crews).await;
        self.load.check(&self.books).await;
        for ledger in &self.ledgers {
            self.load.ask_again(ledger).await;
        }
        self.load.check(&self.books).await;
    }
}

async fn advance(crews: &[Crew; 2], more: u64) {
    for crew in crews {
        crew.advance(more).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_of_the_server() {
    the_server_dies(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: twenty deaths"]
async fn what_was_acknowledged_survives_kill_9_of_the_server_many_times() {
    the_server_dies(20).await;
}

async fn the_server_dies(rounds: u64) {
    let world = World::new().await;
    let crews = world.work().await;
    for round in 0..rounds {
        advance(&crews, 20 + 37 * round % 101).await;
        world.cluster.kill();
        for crew in &crews {
            crew.be_refused(2).await;
        }
        world.until_ready(false).await;
        world.cluster.start();
    }
    world.end(crews).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_of_a_connection() {
    connections_die(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: twenty deaths"]
async fn what_was_acknowledged_survives_kill_9_of_a_connection_many_times() {
    connections_die(20).await;
}

/// Whoever is killed may have left the shared memory in a mess, so that the server lets all others go, too, and recovers.
async fn connections_die(rounds: u64) {
    /// One that is at work.
    const BUSY: &str = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tollgate-ledger'
        ORDER BY xact_start NULLS LAST LIMIT 1";
    const ALL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'tollgate-ledger'";
    let world = World::new().await;
    let crews = world.work().await;
    for round in 0..rounds {
        advance(&crews, 20 + 37 * round % 101).await;
        signal("-KILL", &[world.cluster.sql("postgres", BUSY)]);
        advance(&crews, 50).await;
        // The polite way, which the others survive.
        world.cluster.sql("postgres", ALL);
    }
    world.end(crews).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stood_still_is_waited_for() {
    the_server_stands_still(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: outlasts every timeout"]
async fn a_server_that_stands_still_for_long_is_given_up_and_found_again() {
    the_server_stands_still(true).await;
}

async fn the_server_stands_still(until_refused: bool) {
    let world = World::new().await;
    let crews = world.work().await;
    advance(&crews, 50).await;
    let frozen = Frozen::new(&world.cluster.pid());
    world.until_ready(false).await;
    if until_refused {
        for crew in &crews {
            crew.be_refused(1).await;
        }
    }
    drop(frozen);
    world.end(crews).await;
}

/// A server that stands still until this is dropped, whatever becomes of the test: it could not even be stopped.
struct Frozen(Vec<String>);

impl Frozen {
    fn new(server: &str) -> Self {
        signal("-STOP", &[server.to_owned()]);
        // It makes no more of them now.
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
        let mut all: Vec<String> = children.split_whitespace().map(str::to_owned).collect();
        all.push(server.to_owned());
        signal("-STOP", &all);
        Self(all)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(name: &str, processes: &[String]) {
    // One that has ended meanwhile needs none.
    let sent = Command::new("kill").arg(name).args(processes).output().unwrap();
    assert!(sent.status.success() || processes.len() > 1, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_only_be_read_acknowledges_nothing() {
    let world = World::new().await;
    let crews = world.work().await;
    advance(&crews, 50).await;
    let reload = "SELECT pg_reload_conf();";
    world.cluster.sql("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = on; {reload}"));
    // From then on it is known to everybody.
    for crew in &crews {
        crew.be_refused(1).await;
    }
    let before = crews.each_ref().map(Crew::answered);
    for crew in &crews {
        crew.be_refused(3).await;
    }
    assert_eq!(crews.each_ref().map(Crew::answered), before);
    world.until_ready(false).await;
    world.cluster.sql("postgres", &format!("ALTER SYSTEM RESET default_transaction_read_only; {reload}"));
    world.end(crews).await;
}

/// A primary that was demoted goes on answering. Nobody asks for anything: the ledgers notice by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_ledger_says_that_its_server_may_only_be_read() {
    let world = World::new().await;
    world.until_ready(true).await;
    let reload = "SELECT pg_reload_conf();";
    world.cluster.sql("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = on; {reload}"));
    world.until_ready(false).await;
    world.cluster.sql("postgres", &format!("ALTER SYSTEM RESET default_transaction_read_only; {reload}"));
    world.until_ready(true).await;
    let crews = world.work().await;
    world.end(crews).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_a_ledger_says_so_and_comes_back_by_itself() {
    let world = World::new().await;
    let (digest, version) = (&world.load.digest, &world.load.version);
    for how in [Stop::Fast, Stop::Immediate] {
        world.until_ready(true).await;
        world.cluster.stop(how);
        // Nobody asks for anything: they notice by themselves.
        world.until_ready(false).await;
        for ledger in &world.ledgers {
            assert!(ledger.is_alive(), "a restart would not help");
            let mut client = ledger.client().await;
            for _ in 0..3 {
                let id = world.load.new_id();
                let hold = tokio::time::timeout(ANSWER_MAX, client.hold(&id, digest, version));
                let refused = hold.await.expect("an answer").unwrap_err();
                assert_eq!(refused.code(), Code::Unavailable, "{how:?}: {refused}");
            }
        }
        world.cluster.start();
    }
    world.until_ready(true).await;
    let crews = world.work().await;
    world.end(crews).await;
}
