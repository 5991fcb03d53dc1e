//! Tests that need more than one part of Tollgate: goldens, contracts, end to end.
