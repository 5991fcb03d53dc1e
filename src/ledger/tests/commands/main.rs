//! The verbs of the binary beside `serve`, over books in a file and in a real PostgreSQL.

mod books;
#[expect(dead_code, reason = "others stop and kill their servers")]
#[path = "../postgres/cluster.rs"]
mod cluster;
mod columns;
mod copies;
mod doors;
mod help;
mod places;
#[expect(dead_code, reason = "these ledgers are started with options of their own")]
#[path = "../serve/process.rs"]
mod process;
mod retire;
mod verify;
