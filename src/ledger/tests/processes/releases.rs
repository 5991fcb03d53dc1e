//! Replicas are renewed one after another: those of a release go on when the next one has extended the schema.

use crate::books::Books;
use crate::cluster::Cluster;
use crate::ledger::{BOOK, Ledger};
use crate::load::{Crew, Load, Manner};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// What the next release could do to it.
const EXTEND: &str = "
    BEGIN;
    ALTER TABLE hold ADD COLUMN of_the_next_release TEXT NOT NULL DEFAULT 'x';
    ALTER TABLE balance ADD COLUMN of_the_next_release BIGINT NOT NULL DEFAULT 7;
    CREATE INDEX hold_of_the_next_release ON hold (of_the_next_release, created_at);
    CREATE INDEX balance_of_the_next_release ON balance (of_the_next_release);
    INSERT INTO refinery_schema_history SELECT max(version) + 1, 'next', '2030-01-01T00:00:00Z', '1'
        FROM refinery_schema_history;
    COMMIT";
const ONE_MORE: &str =
    "INSERT INTO refinery_schema_history SELECT max(version) + 1, 'later', '2030-01-02T00:00:00Z', '2'
    FROM refinery_schema_history";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_runs_on_its_own_schema_and_on_the_next() {
    let address = Cluster::shared().database();
    let books = Books::on_server(address.clone());
    let mut ledgers = vec![Ledger::start(&books), Ledger::start(&books)];
    let load = Load::new(&ledgers[0]).await;
    let mut crews = Vec::new();
    for ledger in &ledgers {
        crews.push(load.start(ledger, Manner::Sure).await);
    }
    advance(&crews).await;
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    extend(&client).await;
    advance(&crews).await;
    let late = Ledger::start_with(&books, BOOK).expect("a release runs on the next schema");
    crews.push(load.start(&late, Manner::Sure).await);
    ledgers.push(late);
    advance(&crews).await;

    client.batch_execute(ONE_MORE).await.unwrap();
    let refused = Ledger::start_with(&books, BOOK).err().expect("two releases are too many");
    assert!(refused.contains("use a newer release"), "{refused}");
    advance(&crews).await;
    load.stop(crews).await;
    load.check(&books).await;
    for ledger in &ledgers {
        load.ask_again(ledger).await;
    }
    load.check(&books).await;
}

async fn advance(crews: &[Crew]) {
    for crew in crews {
        crew.advance(100).await;
    }
}

/// Two tables in one transaction, against ledgers that lock them in another order: whoever migrates may have to try again.
async fn extend(client: &Client) {
    while let Err(error) = client.batch_execute(EXTEND).await {
        assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error:?}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}
