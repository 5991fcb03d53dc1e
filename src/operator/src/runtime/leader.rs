//! One operator works at a time; the others watch, and know everything when their turn comes.

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;

/// A leader that is gone is followed after so many seconds.
const DURATION_SECONDS: u64 = 15;
/// A leader confirms so many seconds before the end.
const GRACE_SECONDS: u64 = 5;

/// Whether this replica leads, from now on. The lease is given back when the receiver is dropped.
///
/// # Errors
/// The lease can neither be read nor made.
pub async fn follow(
    client: Client,
    namespace: &str,
    lease: &str,
    identity: &str,
) -> Result<watch::Receiver<bool>, LeaseManagerError> {
    let manager = LeaseManagerBuilder::new(client, lease)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(DURATION_SECONDS)
        .with_grace(GRACE_SECONDS)
        .build()
        .await?;
    let (leads, _task) = manager.watch().await;
    Ok(leads)
}
