//! The one door to the clock. Only schedules of keys go by it; money goes by the ledger's.

use std::time::{SystemTime, UNIX_EPOCH};
use tollgate_domain::time::Timestamp;

/// This moment.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
