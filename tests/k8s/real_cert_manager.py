"""cert-manager itself on a cluster, as its own chart installs it."""

import contextlib
import datetime
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator

import definitions
import images
from cert_manager import CERTIFICATES, skip_where_there_is_one
from cluster import PATIENCE, Cluster, Refused
from stack import wait_until

NAMESPACE = RELEASE = "cert-manager"
PARTS = ("controller", "webhook", "cainjector")
SELF_SIGNED = {"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "probe"}, "spec": {"selfSigned": {}}}


@contextlib.contextmanager
def installed(cluster: Cluster) -> Iterator[None]:
    """With its definitions, which go with it."""
    skip_where_there_is_one(cluster)
    module = definitions.module("cert-manager")
    program = pathlib.Path(os.environ["TOLLGATE_CERT_MANAGER"])
    for part in PARTS:
        # By the names that the chart has for them.
        image = f"quay.io/jetstack/cert-manager-{part}:{definitions.version(module)}"
        images.load_one(cluster, images.Image(image, ["/cert-manager", part], {"/cert-manager": program}))
    with tempfile.TemporaryDirectory() as folder:
        # A release of the chart has its version filled in.
        where, tag = f"--destination={folder}", definitions.version(module)
        cluster.helm("package", str(module / "deploy" / "charts" / "cert-manager"), f"--version={tag}", f"--app-version={tag}", where)
        (chart,) = pathlib.Path(folder).glob("*.tgz")
        cluster.helm(
            *("install", RELEASE, str(chart), f"--namespace={NAMESPACE}", "--create-namespace"),
            *("--set=crds.enabled=true", "--set=crds.keep=false"),
            # A Job that waits as is done below, in an image of its own; and what is scraped.
            *("--set=startupapicheck.enabled=false", "--set=prometheus.enabled=false"),
            *("--wait", "--timeout=5m"),
            timeout=330,
        )
    wait_until(lambda: takes_issuers(cluster), "the API server believes the webhook", PATIENCE)
    yield
    cluster.helm("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--wait", "--timeout=2m", timeout=150)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def takes_issuers(cluster: Cluster) -> bool:
    """Whether the webhook answers: until the injector has told the API server of its authority, nothing of cert-manager's can be made."""
    try:
        cluster.kubectl("create", "--dry-run=server", "--filename=-", f"--namespace={NAMESPACE}", stdin=json.dumps(SELF_SIGNED))
    except Refused as refusal:
        if "failed calling webhook" not in str(refusal):
            raise
        return False
    return True


def renew(cluster: Cluster, namespace: str, name: str) -> None:
    """What `cmctl renew` does, and waits until it is done."""
    before = cluster.get(CERTIFICATES, name, namespace)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    wish = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "asked for", "lastTransitionTime": now}
    others = [one for one in before["status"]["conditions"] if one["type"] != "Issuing"]
    patch = json.dumps({"status": {"conditions": [*others, wish]}})
    where = f"--namespace={namespace}"
    cluster.kubectl("patch", CERTIFICATES, name, where, "--subresource=status", "--type=merge", f"--patch={patch}")
    revision = before["status"]["revision"]
    renewed = lambda one: one["status"].get("revision", 0) > revision and is_ready(one)
    cluster.watch(CERTIFICATES, name, renewed, f"{namespace}/{name} is signed anew", namespace)


def is_ready(certificate: dict) -> bool:
    found = {one["type"]: one["status"] for one in certificate.get("status", {}).get("conditions", [])}
    return found.get("Ready") == "True" and found.get("Issuing") != "True"
