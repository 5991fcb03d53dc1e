//! What a disk can do to the books: lose what was not synced, fill up, fail to sync, alter what it keeps.
//!
//! The real binary runs on a disk that a preloaded shim (`shim.c`) watches and disturbs. Whether the books are right is asked of
//! the file, in SQL that shares nothing with the ledger.

mod altered;
mod books;
#[path = "../filter/client.rs"]
mod client;
mod dice;
mod ledger;
mod load;
mod no_space;
mod power_loss;
#[path = "../serve/process.rs"]
mod process;
mod replay;
mod shim;
mod sync_error;
mod torn;
mod trace;
