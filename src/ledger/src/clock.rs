//! The one door to the time of day.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tollgate_domain::time::Timestamp;

/// Says what time it is: the machine's, or what a test says.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Set(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is [set](Self::set); its clones go with it.
    pub fn stopped(at: Timestamp) -> Self {
        Self(Source::Set(Arc::new(AtomicI64::new(at.unix_ms()))))
    }

    /// Sets a stopped clock. The machine's is not ours to set.
    pub fn set(&self, at: Timestamp) {
        if let Source::Set(unix_ms) = &self.0 {
            unix_ms.store(at.unix_ms(), Ordering::SeqCst);
        }
    }

    /// The time. A machine that believes to live before 1970 is at its beginning.
    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Set(unix_ms) => Timestamp::new(unix_ms.load(Ordering::SeqCst)),
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }
}
