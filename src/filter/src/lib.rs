//! tollgate-filter
