//! The rules of Tollgate as plain values: money, prices, usage, windows, requests, answers and decisions.
//!
//! Nothing here reads a socket, a clock, the environment or a random source, nothing logs, and no float touches
//! an amount. The filter and the ledger both build on this crate, so what one counts the other prices alike.

#![deny(clippy::float_arithmetic)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::string_slice,
        clippy::unreachable
    )
)]

pub mod account;
pub mod allow;
pub mod answer;
pub mod api;
pub mod bounds;
pub mod catalogue;
pub mod decision;
pub mod estimate;
pub mod extra;
mod glob;
pub mod hold;
pub mod ids;
pub mod json;
pub mod key;
pub mod meter;
pub mod money;
pub mod policy;
pub mod price;
pub mod rate;
pub mod request;
pub mod session;
pub mod time;
pub mod usage;
pub mod window;
