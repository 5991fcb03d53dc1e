//! Withheld answers: requests wait until they are released together, for tests of races.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// Where withheld requests wait.
#[derive(Debug)]
pub(crate) struct Gate {
    releases: watch::Sender<u64>,
    waiting: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self { releases: watch::Sender::new(0), waiting: AtomicUsize::new(0) }
    }
}

/// One that waits; also when it goes away before its release.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gate {
    /// Waits for the next release.
    pub(crate) async fn wait(&self) {
        let mut releases = self.next();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        let _ = releases.changed().await;
    }

    /// What changes with the next release.
    pub(crate) fn next(&self) -> watch::Receiver<u64> {
        self.releases.subscribe()
    }

    /// Lets go all that wait, and says how many.
    pub(crate) fn release(&self) -> usize {
        let waiting = self.waiting();
        self.releases.send_modify(|count| *count = count.wrapping_add(1));
        waiting
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}
