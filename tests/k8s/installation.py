"""Tollgate on a cluster as a platform team has it: the chart as it is, with a mock provider behind, and a company's own certificates."""

import base64
import contextlib
import json
import pathlib
import ssl
import tempfile
from collections.abc import Iterator

import agents
import httpx
import trustme
from accounts import Ledger
from cluster import Cluster

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "k8s" / "chart"
EXAMPLES = ROOT / "k8s" / "examples"
IMAGES = ROOT / "target" / "images"
REPOSITORY = "ghcr.io/tollgate-dev"

RELEASE = NAMESPACE = "tollgate"
PROVIDERS = "providers"
PROVIDER_PORT = 8080
PROVIDER_KEYS = {"anthropic": "provider-key-anthropic", "openai": "provider-key-openai", "gemini": "provider-key-gemini"}
GATEWAY = f"{RELEASE}-gateway.{NAMESPACE}.svc"
# Where sidecars may decide themselves, with the providers' credentials.
DIRECT = "trusted"
# Where budgets count beside the release's namespace.
PLATFORM = "platform"


class Provider:
    """The mock provider in the cluster, and its control API."""

    def __init__(self, port: int):
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)

    def requests(self) -> list[dict]:
        return self.http.get("/mock/requests").json()

    def count(self) -> int:
        return self.http.get("/mock/count").json()["count"]

    def release(self) -> None:
        """Lets what waits for it come to its end."""
        self.http.post("/mock/release").raise_for_status()


class Installation:
    """A release of the chart."""

    def __init__(self, cluster: Cluster, provider: Provider, values: dict):
        self.cluster = cluster
        self.provider = provider
        self.values = values
        # What Helm said when it was installed.
        self.notes = ""

    def helm(self, verb: str, *arguments: str, chart: pathlib.Path = CHART, **values) -> str:
        """Installs or upgrades; `values` go over those of the installation."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({**self.values, **values}, file)
            file.flush()
            where = [RELEASE, str(chart), f"--namespace={NAMESPACE}", f"--values={file.name}"]
            return self.cluster.helm(verb, *where, "--wait", "--timeout=5m", *arguments, timeout=330)

    def uninstall(self) -> None:
        where = f"--namespace={NAMESPACE}"
        self.cluster.helm("uninstall", RELEASE, where, "--ignore-not-found", "--wait", "--timeout=2m", timeout=150)

    def secret(self, name: str, namespace: str = NAMESPACE) -> dict[str, bytes]:
        """What a Secret holds."""
        entries = self.cluster.get("secret", name, namespace)["data"]
        return {entry: base64.b64decode(value) for entry, value in entries.items()}

    def pods(self, part: str) -> list[dict]:
        return self.cluster.find("pods", NAMESPACE, f"app.kubernetes.io/component={part}")

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The admin API of the ledger that runs now, as long as it runs."""
        master = self.secret(f"{RELEASE}-master-key")["master-key"].decode()
        # In the ledger's own Secret they are whoever keeps the certificates.
        authority = ssl.create_default_context(cadata=self.secret(f"{RELEASE}-ledger-tls")["ca.crt"].decode())
        # It is reached by a port of this machine.
        authority.check_hostname = False
        with self.cluster.forward(f"service/{RELEASE}-ledger", 4002, NAMESPACE) as port:
            with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=authority, timeout=30, trust_env=False) as http:
                yield Ledger(http, master)


@contextlib.contextmanager
def provider(cluster: Cluster) -> Iterator[Provider]:
    """A mock provider in a namespace of its own, which takes one key for each API."""
    cluster.kubectl("create", "namespace", PROVIDERS)
    name = "mock-provider"
    container = {
        "name": name,
        "image": f"{REPOSITORY}/tollgate-mock-provider:{version()}",
        "args": [f"--listen=0.0.0.0:{PROVIDER_PORT}", *(f"--{api}-key={key}" for api, key in PROVIDER_KEYS.items())],
        "ports": [{"containerPort": PROVIDER_PORT}],
        "readinessProbe": {"httpGet": {"path": "/mock/count", "port": PROVIDER_PORT}, "periodSeconds": 1},
        "securityContext": {**agents.RESTRICTED, "runAsUser": 65532},
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}
    deployment = {"selector": {"matchLabels": {"app": name}}, "template": template}
    service = {"selector": {"app": name}, "ports": [{"port": PROVIDER_PORT}]}
    cluster.apply(
        [
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": deployment},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
        ],
        PROVIDERS,
    )
    cluster.rollout(f"deployment/{name}", PROVIDERS)
    with cluster.forward(f"service/{name}", PROVIDER_PORT, PROVIDERS) as port:
        yield Provider(port)
    cluster.kubectl("delete", "namespace", PROVIDERS, "--wait=false")


def prepare(cluster: Cluster, authority: trustme.CA) -> dict:
    """What a platform team has before it installs: namespaces, the providers' keys and a certificate. Gives the chart's values."""
    for namespace in (NAMESPACE, DIRECT, PLATFORM):
        restricted_namespace(cluster, namespace)
    credentials = [secret(f"provider-{api}", {"api-key": key}) for api, key in PROVIDER_KEYS.items()]
    cluster.apply([gateway_certificate("gateway-certificate", authority), *credentials], NAMESPACE)
    cluster.apply(credentials, DIRECT)
    url = f"http://mock-provider.{PROVIDERS}.svc:{PROVIDER_PORT}"
    return {
        "providers": {api: {"secret": f"provider-{api}", "url": url} for api in PROVIDER_KEYS},
        "ledger": {"persistence": {"size": "1Gi", "storageClass": cluster.volume("ledger") or ""}},
        # Short, so that the tests need not wait for them.
        "gateway": {"tls": {"secret": "gateway-certificate"}, "drain": {"endpointsSeconds": 2, "streamsSeconds": 60}},
        "injection": {"directNamespaces": [DIRECT]},
        "platformNamespaces": [PLATFORM],
    }


def gateway_certificate(name: str, authority: trustme.CA) -> dict:
    """A Secret with a company's own certificate for the gateway."""
    return certificate(name, authority, GATEWAY, f"{GATEWAY}.cluster.local")


def certificate(name: str, authority: trustme.CA, *hosts: str) -> dict:
    """A Secret with a certificate for these hosts."""
    pair = authority.issue_cert(*hosts)
    chain = b"".join(blob.bytes() for blob in pair.cert_chain_pems).decode()
    return secret(name, {"tls.crt": chain, "tls.key": pair.private_key_pem.bytes().decode()}, "kubernetes.io/tls")


def authorities(name: str, *trusted: trustme.CA) -> dict:
    """A ConfigMap with the certificates of authorities."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": bundle(*trusted)}}


def bundle(*trusted: trustme.CA) -> str:
    return "".join(authority.cert_pem.bytes().decode() for authority in trusted)


def restricted_namespace(cluster: Cluster, name: str) -> None:
    """A namespace whose pods may do nothing that they need not."""
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")


def secret(name: str, entries: dict[str, str], kind: str = "Opaque") -> dict:
    return {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": name}, "stringData": entries}


def load_images(cluster: Cluster) -> None:
    """The product's own, from `make images`."""
    archives = sorted(IMAGES.glob("*.tar"))
    assert archives, f"no images in {IMAGES}: run make images, or make test-k8s"
    for archive in archives:
        cluster.load(archive)


def version() -> str:
    """The workspace's, which is the tag of its images."""
    (line,) = [line for line in (ROOT / "Cargo.toml").read_text().splitlines() if line.startswith("version = ")]
    return line.split('"')[1]
