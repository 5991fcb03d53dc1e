//! tollgate-mock-provider
fn main() {}
