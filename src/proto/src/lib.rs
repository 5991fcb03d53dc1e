//! The wire: generated messages of `tollgate.ledger.v1`, and their conversions into the domain's types.
//!
//! Generated types say what arrived; [`convert`] says whether it means anything. Nothing outside this crate
//! builds a domain value from a message by hand.

/// Generated from `proto/tollgate/ledger/v1` by `make generate`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("generated/tollgate.ledger.v1.rs");
}

pub mod convert;

/// How many bytes a message takes.
pub fn encoded_len(message: &impl prost::Message) -> usize {
    message.encoded_len()
}
