"""The ledger's gRPC services, to whoever has a certificate."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator

import grpc
from cluster import Cluster
from installation import NAMESPACE, RELEASE, ROOT

PROTO = ROOT / "src" / "proto" / "proto"
LEDGER_PORT, ADMIN_PORT = 4001, 4002

sys.path.append(str(PROTO))
ledger, ledger_services = grpc.protos_and_services("tollgate/ledger/v1/ledger.proto")
admin, admin_services = grpc.protos_and_services("tollgate/ledger/v1/admin.proto")


@contextlib.contextmanager
def channel(cluster: Cluster, port: int, secret: dict[str, bytes]) -> Iterator[grpc.Channel]:
    """A connection to the ledger with the certificate in a Secret."""
    credentials = grpc.ssl_channel_credentials(secret["ca.crt"], secret["tls.key"], secret["tls.crt"])
    service = f"{RELEASE}-ledger"
    # It is reached by a port of this machine.
    options = [("grpc.ssl_target_name_override", f"{service}.{NAMESPACE}.svc"), ("grpc.enable_http_proxy", 0)]
    with cluster.forward(f"service/{service}", port, NAMESPACE) as here:
        with grpc.secure_channel(f"127.0.0.1:{here}", credentials, options) as made:
            yield made


def outcome(call, request, **metadata: str) -> str:
    """`OK`, or how a call is refused."""
    try:
        answer = call(request, timeout=20, metadata=tuple(metadata.items()))
        # A stream is refused with its first message.
        if isinstance(answer, Iterator):
            next(answer)
    except grpc.RpcError as refusal:
        return refusal.code().name
    return "OK"
