//! The operator: what custom resources say becomes what the ledger holds, and how the ledger stands comes back as their status.

pub mod authority;
mod clock;
pub mod export;
#[cfg(test)]
mod fake_api;
pub mod inject;
pub mod plan;
pub mod resources;
pub mod runtime;
