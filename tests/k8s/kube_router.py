"""kube-router on a cluster, for NetworkPolicies alone: the network stays as it is, and without it nobody enforces them."""

import os
import pathlib
import shutil

import images
from cluster import Cluster

NAMESPACE, NAME = "kube-system", "kube-router"
IMAGE = "tests.tollgate.dev/kube-router:1"
# What it runs, as Debian has it.
TOOLS = ["iptables", "iptables-save", "iptables-restore", "ipset"]
# What those load.
MATCHES = sorted(pathlib.Path("/usr/lib").glob("*/xtables/*.so"))
# What its own manifests let it do, as far as that is about policies.
RULES = [
    {"apiGroups": [""], "resources": ["namespaces", "pods", "nodes"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list", "watch"]},
]


def install(cluster: Cluster) -> None:
    images.load_one(cluster, image())
    field = {"fieldRef": {"fieldPath": "spec.nodeName"}}
    container = {
        "name": NAME,
        "image": IMAGE,
        "env": [{"name": "NODE_NAME", "valueFrom": field}],
        "securityContext": {"privileged": True, "runAsUser": 0},
    }
    template = {
        "metadata": {"labels": {"app": NAME}},
        "spec": {"serviceAccountName": NAME, "hostNetwork": True, "containers": [container]},
    }
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME}
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    metadata = {"name": NAME}
    rights = "rbac.authorization.k8s.io/v1"
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {"apiVersion": rights, "kind": "ClusterRole", "metadata": metadata, "rules": RULES},
            {"apiVersion": rights, "kind": "ClusterRoleBinding", "metadata": metadata, "roleRef": role, "subjects": [subject]},
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": metadata,
                "spec": {"selector": {"matchLabels": {"app": NAME}}, "template": template},
            },
        ],
        NAMESPACE,
    )
    cluster.rollout(f"daemonset/{NAME}", NAMESPACE)


def image() -> images.Image:
    files = {}
    for tool in TOOLS:
        found = shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin")
        assert found, f"{tool} is not there"
        files[f"/usr/bin/{tool}"] = pathlib.Path(found).resolve()
    files |= {str(path): path for path in MATCHES}
    for program in [*files.values()]:
        files |= images.libraries(program)
    files[f"/usr/bin/{NAME}"] = pathlib.Path(os.environ["TOLLGATE_KUBE_ROUTER"])
    return images.Image(IMAGE, [f"/usr/bin/{NAME}"], files)
