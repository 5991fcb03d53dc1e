//! `tollgate-operator`.

fn main() {}
