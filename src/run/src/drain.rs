//! Stopping: streams come to their end, every report is confirmed, then the parts end one after another.

use crate::envoy_admin::{EnvoyAdmin, Load};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often Envoy is asked.
const INTERVAL: Duration = Duration::from_millis(50);
/// Reports leave within some ticks once streams have ended; the ledger may be restarting.
const REPORTS_PATIENCE: Duration = Duration::from_secs(10);

/// How long clients are only told to go, before no new connection is taken: whoever chooses for them needs a moment to see it.
const FAREWELL: Duration = Duration::from_secs(2);
/// The end of a stream and its report in the gauge are a tick apart: nothing must be open so often in a row.
const QUIET: u32 = 3;

/// Waits until nothing is open and every report is confirmed, for a bounded time.
pub(crate) async fn drain(envoy: &EnvoyAdmin, patience: Duration) {
    if envoy.tell_clients_to_go().await.is_err() {
        return;
    }
    let started = Instant::now();
    let mut listening = true;
    let mut reports_since: Option<Instant> = None;
    let mut quiet = 0;
    while listening || quiet < QUIET {
        let Ok(load) = envoy.load().await else { return };
        quiet = if load == Load::default() { quiet + 1 } else { 0 };
        if load.requests > 0 && started.elapsed() > patience {
            eprintln!("tollgate-run: {} requests are still open, so they are cut", load.requests);
            return;
        }
        let only_reports = load.requests == 0 && load.reports > 0;
        reports_since = only_reports.then(|| reports_since.unwrap_or_else(Instant::now));
        if reports_since.is_some_and(|since| since.elapsed() > REPORTS_PATIENCE) {
            eprintln!("tollgate-run: the ledger does not take the last reports; their holds will be charged");
            return;
        }
        // As long as connections are taken it is never quiet for good.
        if listening && (quiet >= QUIET || started.elapsed() >= FAREWELL) {
            if envoy.stop_listening().await.is_err() {
                return;
            }
            (listening, quiet) = (false, 0);
        }
        sleep(INTERVAL).await;
    }
}
