//! Who is let in, and with how much.

use crate::world::{World, team};
use tollgate_proto::v1;
use tollgate_proto::v1::admin_client::AdminClient;
use tonic::transport::Channel;
use tonic::{Code, Request};

pub(crate) async fn only_the_master_key_opens(world: World) {
    let channel = Channel::from_shared(world.served().address.clone()).unwrap().connect().await.unwrap();
    let table: [(&[&str], bool); 7] = [
        (&["Bearer sk-master"], true),
        (&["bearer  sk-master"], true),
        (&[], false),
        (&["sk-master"], false),
        (&["Bearer sk-maste"], false),
        (&["Basic sk-master"], false),
        (&["Bearer sk-master", "Bearer other"], false),
    ];
    for (lines, opens) in table {
        let mut client = AdminClient::new(channel.clone());
        let mut request = Request::new(v1::CrossingsRequest::default());
        for line in lines {
            request.metadata_mut().append("authorization", line.parse().unwrap());
        }
        let code = client.crossings(request).await.err().map(|status| status.code());
        assert_eq!(code, (!opens).then_some(Code::Unauthenticated), "{lines:?}");
    }
}

pub(crate) async fn absurd_messages_are_refused_whole(world: World) {
    let apply = async |managed_by: &str, accounts: Vec<v1::DesiredAccount>| {
        let request = v1::ApplyRequest { managed_by: managed_by.into(), accounts };
        world.client().apply(request).await.unwrap_err()
    };
    let table = [
        (apply("", vec![team("t")]).await, "managed_by"),
        (apply("api", vec![team("t")]).await, "managed_by"),
        (apply("k\n", vec![team("t")]).await, "managed_by"),
        (apply("k", vec![team("t"), team("t")]).await, "accounts[1].name"),
        (apply("k", (0..1_001).map(|n| team(&n.to_string())).collect()).await, "accounts"),
    ];
    for (status, field) in table {
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert!(status.message().starts_with(field), "{} {field}", status.message());
    }
    let long = v1::DesiredAccount { models: vec!["m".repeat(5 << 20)], ..team("t") };
    assert_eq!(apply("k", vec![long]).await.code(), Code::OutOfRange);
    for cursor in [vec![1], vec![0; 25], vec![1; 24], vec![1; 51]] {
        let changes = world.client().changes(v1::ChangesRequest { cursor: cursor.clone() }).await;
        let crossings = world.client().crossings(v1::CrossingsRequest { cursor, at_most: 0 }).await;
        for status in [changes.err(), crossings.err()] {
            let status = status.unwrap();
            assert_eq!(
                (status.code(), status.message()),
                (Code::InvalidArgument, "cursor is none of this service's")
            );
        }
    }
    for at_most in [1_001, u32::MAX] {
        let request = v1::CrossingsRequest { cursor: Vec::new(), at_most };
        let error = world.client().crossings(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().starts_with("at_most"), "{error}");
    }
    let delete = async |managed_by: &str, count: usize| {
        let accounts = vec![v1::DeletedAccount::default(); count];
        let request = v1::DeleteRequest { managed_by: managed_by.into(), accounts };
        world.client().delete(request).await.unwrap_err()
    };
    let table = [
        (delete("", 1).await, "managed_by"),
        (delete("api", 1).await, "managed_by"),
        (delete("k", 1_001).await, "accounts"),
    ];
    for (status, field) in table {
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert!(status.message().starts_with(field), "{} {field}", status.message());
    }
    let long = v1::DeletedAccount { owner_scope: "x".repeat(5 << 20), name: None };
    let request = v1::DeleteRequest { managed_by: "k".into(), accounts: vec![long] };
    assert_eq!(world.client().delete(request).await.unwrap_err().code(), Code::OutOfRange);
    let request = v1::ChangesRequest { cursor: vec![1; 5 << 20] };
    assert_eq!(world.client().changes(request).await.err().map(|error| error.code()), Some(Code::OutOfRange));
    let (result, _) = world.applied(team("t")).await;
    assert_eq!(result, v1::ApplyResult::Created, "nothing was applied before");
}
