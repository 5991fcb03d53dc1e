//! Ledgers as they run in earnest: several processes over one set of books, killed, raced, renewed, and left without a server.
//!
//! Whether the books are right is asked of the tables, by a reading that shares nothing with the ledger.

mod books;
#[path = "../filter/client.rs"]
mod client;
#[allow(dead_code, reason = "tests elsewhere use the rest")]
#[path = "../postgres/cluster.rs"]
mod cluster;
mod commits;
mod failover;
mod kill;
mod ledger;
mod load;
mod outages;
mod prices;
#[path = "../serve/process.rs"]
mod process;
mod races;
#[path = "../contract/reading.rs"]
mod reading;
mod releases;
#[path = "../tables/rows.rs"]
mod rows;
mod wait;
mod wire;
