//! Whom Envoy shall call. By a cluster's name alone it would also put that name into `:authority`, and the names that other
//! people's gateways give their clusters (`grpcroute/...`, `outbound|...`) are no authorities: the ledger would refuse the call.

use prost::Message;

/// What the ledger is called, whatever its cluster is.
const AUTHORITY: &str = "ledger";

/// `envoy.config.core.v3.GrpcService`, as much of it as is said here. Envoy takes one in the place of a cluster's name.
#[derive(Clone, PartialEq, Message)]
struct GrpcService {
    #[prost(message, optional, tag = "1")]
    envoy_grpc: Option<EnvoyGrpc>,
}

#[derive(Clone, PartialEq, Message)]
struct EnvoyGrpc {
    #[prost(string, tag = "1")]
    cluster_name: String,
    #[prost(string, tag = "2")]
    authority: String,
}

/// The ledger in this cluster. The SDK takes text; up to [`crate::config::CLUSTER_BYTES_MAX`] the message is that.
pub(super) fn ledger(cluster: &str) -> Option<String> {
    let envoy_grpc = EnvoyGrpc { cluster_name: cluster.to_owned(), authority: AUTHORITY.to_owned() };
    let service = GrpcService { envoy_grpc: Some(envoy_grpc) };
    String::from_utf8(service.encode_to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CLUSTER_BYTES_MAX;

    #[test]
    fn the_message_is_text_up_to_the_longest_name() {
        assert_eq!(ledger("ledger").as_deref(), Some("\n\u{10}\n\u{6}ledger\u{12}\u{6}ledger"));
        let longest = "l".repeat(CLUSTER_BYTES_MAX);
        assert_eq!(ledger(&longest).map(|text| text.len()), Some(CLUSTER_BYTES_MAX + 12));
        assert_eq!(ledger(&format!("{longest}l")), None);
    }
}
