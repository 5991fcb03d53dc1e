//! The one door to the clock. Only schedules of keys and certificates go by it; money goes by the ledger's.

use jiff::Timestamp;

/// This moment.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
