//! Certificates change while the ledger serves.

use crate::authority::{Authority, Leaf};
use crate::world::{PAYMENTS, World, channel, mount};
use std::time::Duration;
use tollgate_proto::v1::ledger_client::LedgerClient;
use tonic::transport::Channel;

/// The files are read at most once a second, and only when somebody comes.
const SOON: Duration = Duration::from_secs(30);

/// Whether a new connection gets an answer.
async fn works(world: &World, leaf: &Leaf, authority: &str) -> bool {
    let channel = channel(world.grpc, Some(leaf), authority).connect_lazy();
    holds(world, &mut LedgerClient::new(channel)).await
}

async fn holds(world: &World, client: &mut LedgerClient<Channel>) -> bool {
    client.hold(world.ask(world.id(), PAYMENTS).await).await.is_ok()
}

/// Comes again and again, until it is as it should be.
async fn until(world: &World, leaf: &Leaf, authority: &str, expected: bool) {
    let seen = async {
        while works(world, leaf, authority).await != expected {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, seen).await.expect("the files were not followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_replaced_without_a_gap() {
    let world = World::new().await;
    let folder = world.folder.path();
    let (old, new) = (&world.authority, Authority::new("the next"));
    let (old_gateway, new_gateway) = (old.leaf("gateway"), new.leaf("gateway"));
    let mut stays = world.client(Some(&old_gateway));
    assert!(holds(&world, &mut stays).await);
    assert!(!works(&world, &new_gateway, &old.certificate).await, "not trusted yet");
    // Both are trusted, and the ledger still shows a certificate of the old one.
    let both = format!("{}{}", new.certificate, old.certificate);
    mount(folder, &old.leaf("ledger"), &both);
    until(&world, &new_gateway, &old.certificate, true).await;
    assert!(works(&world, &old_gateway, &old.certificate).await);
    // The ledger shows one of the new authority.
    mount(folder, &new.leaf("ledger"), &both);
    until(&world, &new_gateway, &new.certificate, true).await;
    assert!(works(&world, &old_gateway, &new.certificate).await);
    // The old authority leaves.
    mount(folder, &new.leaf("ledger"), &new.certificate);
    until(&world, &old_gateway, &new.certificate, false).await;
    assert!(works(&world, &new_gateway, &new.certificate).await);
    assert!(holds(&world, &mut stays).await, "a connection that was there goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_good_change_nothing() {
    let world = World::new().await;
    let gateway = world.gateway();
    let own = &world.authority.certificate;
    let broken = Leaf { key: "half a key".into(), ..world.authority.leaf("ledger") };
    mount(world.folder.path(), &broken, own);
    // Longer than the files are left alone.
    let end = tokio::time::Instant::now() + Duration::from_millis(2_200);
    while tokio::time::Instant::now() < end {
        assert!(works(&world, &gateway, own).await);
    }
    let next = Authority::new("the next");
    mount(world.folder.path(), &next.leaf("ledger"), own);
    until(&world, &gateway, &next.certificate, true).await;
}

/// As cert-manager writes it: what is between in `tls.crt`, and only the root in `ca.crt`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_below_another_authority_is_known_by_its_root() {
    let world = World::new().await;
    let root = Authority::new("root");
    let between = root.below("between");
    mount(world.folder.path(), &between.leaf("ledger"), &root.certificate);
    until(&world, &between.leaf("gateway"), &root.certificate, true).await;
    let stranger = Authority::new("another root").below("between");
    assert!(!works(&world, &stranger.leaf("gateway"), &root.certificate).await);
}
