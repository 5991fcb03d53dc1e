//! Waiting for what must happen, without a guess how long it takes.

use std::future::Future;
use std::time::Duration;

/// Longer than anything takes on a machine that is busy with other things; what comes after it never comes.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            pause().await;
        }
    };
    within(what, wait).await;
}

/// Between two tries.
pub(crate) async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

/// Waits for the end, which must come.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    let late = |_| panic!("this never came: {what}");
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(late)
}
