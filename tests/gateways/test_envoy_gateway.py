"""The filter in a real Envoy Gateway, which is fed with the chart's objects and feeds a real Envoy.

What stands in for what: files for the API server, addresses of loopback for names of Services, the test's authority for the operator's.
"""

import base64
import contextlib
import copy
import ssl

import httpx
import pytest
import trustme
from gateway import Ledger
from mounts import Authority
from stack import PROVIDER_KEYS, Mock, free_port, wait_until
from standalone import CONTROLLER, ENVOY_VERSION, EnvoyGateway, Registry

pytestmark = pytest.mark.long

NAMESPACE = "tollgate"
LEDGER = "tollgate-ledger.tollgate.svc"
GROUPS = ("gateway.envoyproxy.io/", "gateway.networking.k8s.io/")


def secret(name: str, entries: dict[str, bytes], kind: str = "Opaque") -> dict:
    data = {entry: base64.b64encode(value).decode() for entry, value in entries.items()}
    return {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "data": data}


class Whole:
    """Everything that runs, and what Envoy Gateway is given."""

    def __init__(self, stack: contextlib.ExitStack, helm, folder):
        authority, registrar = Authority(), trustme.CA()
        self.mock = Mock()
        stack.callback(self.mock.stop)
        self.ledger = Ledger(folder / "ledger", authority, LEDGER)
        stack.callback(self.ledger.close)
        registry = Registry(folder / "registry", registrar)
        stack.callback(registry.close)
        port = free_port()
        self.objects = [
            *self.chart(helm, port, registry.image),
            *(secret(name, {"credential": key.encode()}) for name, key in PROVIDER_KEYS.items()),
            secret("tollgate-gateway-tls", authority.issue("gateway", "tollgate-gateway"), "kubernetes.io/tls"),
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "registry-authorities", "namespace": NAMESPACE},
                "data": {"ca.crt": registrar.cert_pem.bytes().decode()},
            },
            EnvoyGateway.on_a_host(folder / "envoy-gateway", "tollgate-gateway", NAMESPACE),
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "GatewayClass",
                "metadata": {"name": "eg"},
                "spec": {"controllerName": CONTROLLER},
            },
        ]
        context = ssl.create_default_context(cadata=authority.pem.decode())
        self.gateway = EnvoyGateway(folder / "envoy-gateway", self.objects, port, context)
        stack.callback(self.gateway.close)

    def chart(self, helm, port: int, image: str) -> list[dict]:
        """What of the chart is Envoy Gateway's to read."""
        rendered = helm.template(
            *("--set=gateway.kind=envoy-gateway", "--set=gateway.envoyGateway.registryAuthorities=registry-authorities"),
            *(f"--set=gateway.service.port={port}", f"--set=gateway.filterImage={image}"),
            *(f"--set=providers.{name}.secret={name}" for name in PROVIDER_KEYS),
            *(f"--set=providers.{name}.url={self.mock.url}" for name in PROVIDER_KEYS),
        )
        objects = copy.deepcopy([thing for thing in rendered if thing["apiVersion"].startswith(GROUPS)])
        for thing in objects:
            match thing["kind"], thing["metadata"]["name"]:
                case "Backend", "tollgate-ledger":
                    thing["spec"]["endpoints"] = [{"ip": {"address": "127.0.0.1", "port": self.ledger.grpc}}]
                case "EnvoyProxy", _:
                    thing["spec"]["provider"] = {"type": "Host", "host": {"envoyVersion": ENVOY_VERSION}}
        return objects

    @contextlib.contextmanager
    def without(self, kind: str):
        """For as long as that kind of object is not there."""
        gone = (kind, "tollgate-gateway")
        self.gateway.give([thing for thing in self.objects if (thing["kind"], thing["metadata"]["name"]) != gone])
        yield
        self.gateway.give(self.objects)

    def answers(self, key: str, status: int) -> None:
        """Waits until requests get that answer."""
        self.gateway.wait_for(lambda: self.gateway.messages(key).status_code == status, f"requests get {status}")

    def serves(self, key: str) -> bool:
        """Without the patch requests may wait for ever, too."""
        with contextlib.suppress(httpx.TimeoutException):
            return self.gateway.messages(key, timeout=2).status_code == 200
        return False


@pytest.fixture(scope="module")
def whole(helm, tmp_path_factory):
    with contextlib.ExitStack() as stack:
        yield Whole(stack, helm, tmp_path_factory.mktemp("gateways"))


@pytest.fixture
def key(whole):
    """A key with which the gateway serves."""
    key = whole.ledger.key()
    whole.answers(key, 200)
    return key


def test_a_request_is_served_with_the_providers_credential_and_metered(whole, key):
    gateway, before = whole.gateway, whole.mock.count()
    # The mock provider takes its own keys alone: as x-api-key, and as a bearer.
    for answer in (gateway.messages(key), gateway.chat(key), gateway.chat(key, model="claude-sonnet-4-20250514")):
        assert answer.status_code == 200, answer.text
    assert whole.mock.count() == before + 3
    wait_until(lambda: whole.ledger.spend(key) > 0, "the spend shows", 10)


def test_a_stream_comes_to_its_end(whole, key):
    answer = whole.gateway.messages(key, stream=True)
    assert answer.status_code == 200 and "message_stop" in answer.text, answer.text


def test_a_large_body_waits_for_the_decision(whole, key):
    answer = whole.gateway.messages(key, messages=[{"role": "user", "content": "many words " * 200_000}])
    assert answer.status_code == 200, answer.text


def test_the_provider_hears_nothing_of_ours(whole, key):
    whole.mock.reset()
    whole.gateway.messages(key)
    (heard,) = whole.mock.requests()
    names = {name.lower() for name in dict(heard["headers"])}
    assert "x-api-key" in names and "authorization" not in names
    assert not [name for name in names if name.startswith(("x-tollgate", "x-envoy", "x-forwarded"))], names


def test_a_request_is_refused_before_it_reaches_the_provider(whole, key):
    poor = whole.ledger.key(max_budget=0.000001)
    picky = whole.ledger.key(models=["gpt-4.1-mini"])
    before = whole.mock.count()
    for refused, status, kind in (
        (poor, 402, "billing_error"),
        (picky, 403, "permission_error"),
        ("sk-tg-unknown", 401, "authentication_error"),
    ):
        answer = whole.gateway.messages(refused)
        assert answer.status_code == status and answer.json()["error"]["type"] == kind, answer.text
    assert whole.mock.count() == before


def test_a_path_that_the_filter_does_not_know_ends_there(whole, key):
    assert whole.gateway.http.get("/v1/unknown", headers={"x-api-key": key}).status_code == 404


@pytest.mark.parametrize("path", ["/tollgate.ledger.v1.Ledger/Lookup", "/tollgate.ledger.v1.Ledger/Hold", "/"])
def test_no_client_reaches_the_ledger(whole, key, path):
    answer = whole.gateway.http.post(path, content=b"", headers={"content-type": "application/grpc", "te": "trailers", "x-api-key": key})
    assert "tollgate" not in answer.headers.get("server", "") and answer.status_code in (200, 404, 415), answer.text
    # Envoy's own refusals of gRPC are 200 with a status that is none of the ledger's.
    assert answer.headers.get("grpc-status") in (None, "5", "12", "14"), answer.headers


@pytest.mark.parametrize("kind", ["EnvoyExtensionPolicy", "EnvoyPatchPolicy"])
def test_without_the_filter_or_the_patch_nothing_reaches_a_provider(whole, key, kind):
    with whole.without(kind):
        wait_until(lambda: not whole.serves(key), "nothing is served")
        before = whole.mock.count()
        assert not whole.serves(key) and not whole.serves("sk-tg-unknown")
        assert whole.mock.count() == before
    whole.answers(key, 200)


def test_a_changed_credential_is_used(whole, key):
    """Of the provider; the mock provider takes the first one alone."""
    changed = [secret("anthropic", {"credential": b"another"}) if thing["metadata"]["name"] == "anthropic" else thing for thing in whole.objects]
    whole.gateway.give(changed)
    # What is wrong with our credential is nobody else's business.
    whole.answers(key, 503)
    whole.gateway.give(whole.objects)
    whole.answers(key, 200)
