//! Clients that never get as far as a request.

use crate::world::{PAYMENTS, World};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate_proto::v1::ledger_client::LedgerClient;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_tls_gets_an_end() {
    let world = World::new().await;
    for door in [world.grpc, world.admin] {
        let mut stream = TcpStream::connect(door).await.unwrap();
        stream.write_all(b"GET /team/list HTTP/1.1\r\nhost: l\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        // An alert, then the end; where the alert is lost in a reset, that is the end.
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await.expect("no end");
        assert!(!said.starts_with(b"HTTP"), "{said:?}");
    }
    let plain = LedgerClient::connect(format!("http://{}", world.grpc)).await;
    if let Ok(mut plain) = plain {
        plain.hold(world.ask(world.id(), PAYMENTS).await).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_slow_holds_up_nobody() {
    let world = World::new().await;
    let mut slow = Vec::new();
    for _ in 0..32 {
        let mut stream = TcpStream::connect(world.grpc).await.unwrap();
        // The beginning of a handshake, and no more of it.
        stream.write_all(&[22, 3, 1]).await.unwrap();
        slow.push(stream);
    }
    tokio::time::timeout(Duration::from_secs(5), world.held(PAYMENTS)).await.expect("others were held up");
}
