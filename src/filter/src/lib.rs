//! The filter inside Envoy: it looks up the virtual key, asks the ledger for a hold, lets the request through, and
//! reports what the answer used.
//!
//! [`machine`] takes events and gives effects, without a host; [`host`] is the only place that knows proxy-wasm;
//! [`config`] is parsed once, before the first request. A panic here takes down a worker's VM, so the lints deny whatever
//! could panic.

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

pub mod config;
pub mod host;
pub mod machine;
