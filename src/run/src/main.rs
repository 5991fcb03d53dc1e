//! tollgate-run
fn main() {}
