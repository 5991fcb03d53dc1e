//! Stopping: streams come to their end, every report is confirmed, then the parts end one after another.

use crate::envoy_admin::{EnvoyAdmin, Load};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often Envoy is asked.
const INTERVAL: Duration = Duration::from_millis(50);
/// Reports leave within some ticks once streams have ended; the ledger may be restarting.
const REPORTS_PATIENCE: Duration = Duration::from_secs(10);

/// Waits until nothing is open and every report is confirmed, for a bounded time.
pub(crate) async fn drain(envoy: &EnvoyAdmin, patience: Duration) {
    if envoy.drain().await.is_err() {
        return;
    }
    let started = Instant::now();
    let mut reports_since: Option<Instant> = None;
    // The end of a stream and its report in the gauge are a tick apart: nothing must be open twice in a row.
    let mut quiet = 0;
    while quiet < 3 {
        match envoy.load().await {
            Ok(Load { requests: 0, reports: 0 }) => quiet += 1,
            Ok(Load { requests: 0, .. }) => {
                quiet = 0;
                let since = *reports_since.get_or_insert_with(Instant::now);
                if since.elapsed() > REPORTS_PATIENCE {
                    eprintln!(
                        "tollgate-run: the ledger does not take the last reports; their holds will be charged"
                    );
                    return;
                }
            }
            Ok(load) => {
                quiet = 0;
                if started.elapsed() > patience {
                    eprintln!("tollgate-run: {} requests are still open, so they are cut", load.requests);
                    return;
                }
            }
            Err(_) => return,
        }
        sleep(INTERVAL).await;
    }
}
