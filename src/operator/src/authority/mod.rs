//! The certificates between our own parts: an authority that the operator keeps by itself, and what it signs. Nothing here lasts
//! long, so nothing here is ever renewed by hand.
//!
//! [`plan`] says what is to be done, [`pair`] makes it, and [`keep`] reads and writes the Secrets. [`trust`] is what clients are told.

mod bundle;
mod facts;
mod keep;
mod leaf;
mod pair;
mod plan;
mod secret;
#[cfg(test)]
mod tests;
mod trust;

pub use bundle::Bundle;
pub use keep::{KeepError, Own, SIDECAR_SECRET, Settings, keep, read_own};
pub use leaf::{Leaf, Part};
pub use pair::{MakeError, Pair};
pub use plan::{AuthorityStep, LeafStep, Plan, Why, plan};
pub use secret::{AuthoritySecret, LeafSecret};
pub use trust::{Authorities, Gone, Trust};
