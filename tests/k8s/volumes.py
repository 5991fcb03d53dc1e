"""Files of a volume claim that nobody else has mounted."""

import contextlib
from collections.abc import Iterator

import agents
from cluster import Cluster

PLACE = "/volume"


class Volume:
    def __init__(self, cluster: Cluster, namespace: str, pod: str):
        self.exec = ("exec", "--stdin", pod, f"--namespace={namespace}", "--", "/client")
        self.cluster = cluster

    def read(self, file: str) -> bytes:
        return self.cluster.pipe("kubectl", *self.exec, "read", f"{PLACE}/{file}")

    def write(self, file: str, content: bytes) -> None:
        self.cluster.pipe("kubectl", *self.exec, "write", f"{PLACE}/{file}", stdin=content)


@contextlib.contextmanager
def mounted(cluster: Cluster, namespace: str, claim: str) -> Iterator[Volume]:
    """Mounted by a pod of the same user as the ledger's."""
    name = f"{claim}-files"
    pod = agents.pod(name, volumeMounts=[{"name": "files", "mountPath": PLACE}])
    pod["spec"] |= {
        "securityContext": {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
        "volumes": [{"name": "files", "persistentVolumeClaim": {"claimName": claim}}],
    }
    cluster.apply(pod, namespace)
    try:
        cluster.wait(f"pod/{name}", "condition=Ready", namespace)
        yield Volume(cluster, namespace, name)
    finally:
        cluster.delete("pod", name, namespace)
