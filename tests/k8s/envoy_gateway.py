"""Envoy Gateway on a cluster, as its own chart installs it; and a registry, from which it fetches the filter's image."""

import os
import pathlib
import string
import tarfile
import tempfile
from collections.abc import Callable

import definitions
import images
import trustme
from cluster import Cluster
from installation import IMAGES, certificate

NAMESPACE = "envoy-gateway-system"
CLASS = "eg"
# Until its Envoys have taken up what is changed.
FOLLOWED = 60.0
REGISTRY = "registry"
REGISTRY_IMAGE = "tests.tollgate.dev/registry:1"
REGISTRY_HOST = f"{REGISTRY}.{REGISTRY}.svc"


def install(cluster: Cluster) -> None:
    """With what docs/kubernetes/envoy-gateway.md asks for, and nothing else."""
    module = definitions.module("envoy-gateway")
    image = f"docker.io/envoyproxy/gateway:{definitions.version(module)}"
    program = pathlib.Path(os.environ["TOLLGATE_ENVOY_GATEWAY"]) / "envoy-gateway"
    images.load_one(cluster, images.Image(image, ["/usr/local/bin/envoy-gateway"], {"/usr/local/bin/envoy-gateway": program}))
    chart = module / "charts" / "gateway-helm"
    # A release of it has the image's name filled in.
    values = string.Template((chart / "values.tmpl.yaml").read_text())
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(values.substitute(GatewayImage=image, GatewayImagePullPolicy="IfNotPresent"))
        file.flush()
        wanted = ["enableEnvoyPatchPolicy", "enableBackend"]
        cluster.helm(
            *("install", CLASS, str(chart), f"--namespace={NAMESPACE}", "--create-namespace", f"--values={file.name}"),
            *(f"--set=config.envoyGateway.extensionApis.{one}=true" for one in wanted),
            *("--wait", "--timeout=5m"),
            timeout=330,
        )
    cluster.apply(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": CLASS},
            "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
        }
    )
    cluster.wait(f"gatewayclass/{CLASS}", "condition=Accepted")


def registry(cluster: Cluster, authority: trustme.CA) -> str:
    """Serves the filter's image in the cluster, by TLS. Gives the image's name there."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(IMAGES / "tollgate-filter.tar") as archive:
        archive.extractall(folder, filter="data")
        layout = {f"/layout/{file.relative_to(folder)}": file for file in pathlib.Path(folder).rglob("*") if file.is_file()}
        client = pathlib.Path(os.environ["TOLLGATE_TEST_CLIENT"])
        images.load_one(cluster, images.Image(REGISTRY_IMAGE, ["/client"], {"/client": client, **layout}))
    container = {
        "name": REGISTRY,
        "image": REGISTRY_IMAGE,
        "args": ["registry", ":8443", "/layout", "/certificate/tls.crt", "/certificate/tls.key"],
        "volumeMounts": [{"name": "certificate", "mountPath": "/certificate"}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
    }
    spec = {"containers": [container], "volumes": [{"name": "certificate", "secret": {"secretName": REGISTRY}}]}
    metadata = {"name": REGISTRY, "labels": {"app": REGISTRY}}
    service = {"selector": {"app": REGISTRY}, "ports": [{"port": 443, "targetPort": 8443}]}
    cluster.kubectl("create", "namespace", REGISTRY)
    cluster.apply(
        [
            certificate(REGISTRY, authority, REGISTRY_HOST),
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": REGISTRY}, "spec": service},
        ],
        REGISTRY,
    )
    cluster.wait(f"pod/{REGISTRY}", "condition=Ready", REGISTRY)
    return f"{REGISTRY_HOST}/company/tollgate-filter:1"


def conditions(thing: dict) -> dict[str, str]:
    """Those of an object, or those that Envoy Gateway gives a policy or a route for each parent. Worst comes last."""
    status = thing.get("status", {})
    parents = status.get("ancestors", []) + status.get("parents", []) or [status]
    found = [one for parent in parents for one in parent.get("conditions", [])]
    return {one["type"]: one["status"] for one in sorted(found, key=lambda one: one["status"] == "False")}


def has(*wanted: str) -> Callable[[dict], bool]:
    """Whether all of these conditions hold."""
    return lambda thing: all(conditions(thing).get(kind) == "True" for kind in wanted)
