//! The admin port: who administers, and by what.

use crate::authority::Authority;
use crate::world::{MASTER, World, answer, is_cut_off};
use tokio::net::TcpStream;
use tollgate_proto::v1;
use tollgate_proto::v1::admin_client::AdminClient;
use tonic::Request;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_certificate_opens_what_it_should_and_a_sidecars_nothing() {
    let world = World::new().await;
    let of = &world.authority;
    let gateway = "spiffe://tollgate.dev/gateway";
    // The operator's service without the master key, and with it; the HTTP API likewise; a probe.
    let table = [
        ("no certificate", None, ["Unauthenticated", "ok"], [Some(401), Some(200)], Some(200)),
        ("the operator", Some(of.leaf("operator")), ["ok", "ok"], [Some(401), Some(200)], Some(200)),
        ("the gateway", Some(of.leaf("gateway")), ["PermissionDenied"; 2], [Some(401), Some(200)], Some(200)),
        ("a ledger", Some(of.leaf("ledger")), ["PermissionDenied"; 2], [Some(403); 2], Some(403)),
        ("payments", Some(of.leaf("ns/payments")), ["PermissionDenied"; 2], [Some(403); 2], Some(403)),
        ("somebody unknown", Some(of.leaf("console")), ["Unauthenticated"; 2], [Some(403); 2], Some(403)),
        (
            "two in one",
            Some(of.named(&[gateway, gateway])),
            ["Unauthenticated"; 2],
            [Some(403); 2],
            Some(403),
        ),
        ("a foreign authority", Some(Authority::new("x").leaf("operator")), ["cut off"; 2], [None; 2], None),
        ("one that has ended", Some(of.ended("operator")), ["cut off"; 2], [None; 2], None),
    ];
    for (name, leaf, operator, http, probe) in table {
        let leaf = leaf.as_ref();
        for (key, (operator, http)) in [None, Some(MASTER)].into_iter().zip(operator.into_iter().zip(http)) {
            let mut request = Request::new(v1::CrossingsRequest::default());
            if let Some(key) = key {
                request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
            }
            let done = match AdminClient::new(world.channel(world.admin, leaf)).crossings(request).await {
                Ok(_) => "ok".to_owned(),
                Err(status) if is_cut_off(&status) => "cut off".to_owned(),
                Err(status) => format!("{:?}", status.code()),
            };
            assert_eq!(done, operator, "{name} with {key:?}");
            assert_eq!(world.http(leaf, "/team/list", key).await, http, "{name} with {key:?}");
        }
        assert_eq!(world.http(leaf, "/health/liveness", None).await, probe, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_watchers_need_no_certificate() {
    let world = World::new().await;
    let get = async |path: &str| {
        answer(TcpStream::connect(world.metrics).await.unwrap(), path, None).await.unwrap()
    };
    assert_eq!(get("/health/liveness").await.0, 200);
    let (status, body) = get("/health/readiness").await;
    assert!(status == 200 && body.contains("healthy"), "{status} {body}");
    world.held(crate::world::PAYMENTS).await;
    let (status, body) = get("/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("\ntollgate_ledger_holds_total 1\n"), "{body}");
    assert!(body.contains("\ntollgate_ledger_batch_messages_bucket{le=\"+Inf\"} "), "{body}");
    assert_eq!(get("/team/list").await.0, 404, "nothing else is there");
}
