//! The ledger: it holds the authoritative budgets, decides every hold on its own rows, and keeps the journal.
//!
//! [`store`] is where the books are kept, [`rules`] what may be written into them; [`service`] speaks to the filter and
//! [`admin`] to people and their scripts, [`admin_grpc`] to an operator. All of them come in by a [`door`].

pub mod admin;
pub mod admin_grpc;
pub mod clock;
pub mod counters;
pub mod door;
pub mod identity;
pub mod master;
pub mod owner_scope;
mod permits;
pub mod rules;
pub mod server;
pub mod service;
pub mod store;
pub mod tls;
pub mod unknown_keys;
