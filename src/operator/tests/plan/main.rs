//! The plan, carried out on a small model of an API server and a ledger: scenarios with names, and worlds by chance.

mod adoption;
mod cluster;
mod export;
mod keys;
mod limits;
mod prices;
mod properties;
mod references;
mod scenarios;
mod statuses;
