"""Contour on a cluster, as its own manifests install it: a controller of Ingresses, with the Envoy that everybody here has."""

import os
import pathlib
import re
import tempfile

import definitions
import images
from cluster import Cluster

NAMESPACE = "projectcontour"
# Where it takes requests.
HOST = f"envoy.{NAMESPACE}.svc"


def install(cluster: Cluster) -> None:
    module = definitions.module("contour")
    program = pathlib.Path(os.environ["TOLLGATE_CONTOUR"]) / "contour"
    name = f"ghcr.io/projectcontour/contour:{definitions.version(module)}"
    images.load_one(cluster, images.Image(name, ["/bin/contour"], {"/bin/contour": program}))
    with tempfile.TemporaryDirectory() as folder:
        for manifest in sorted((module / "examples" / "contour").glob("*.yaml")):
            text = re.sub(r"docker\.io/envoyproxy/envoy:\S+", images.ENVOY, manifest.read_text())
            (pathlib.Path(folder) / manifest.name).write_text(text)
        cluster.apply(pathlib.Path(folder))
    for what in ("deployment/contour", "daemonset/envoy"):
        cluster.rollout(what, NAMESPACE)
