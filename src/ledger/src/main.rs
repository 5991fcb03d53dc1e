//! The ledger binary; `main` only wires.
fn main() {}
