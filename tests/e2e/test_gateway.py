"""Envoy as it runs in a pod: what is mounted is followed, what is open comes to its end, a sidecar holds the key for the agent."""

import os
import signal
import socket
import ssl
import subprocess
import threading

import httpx
import pytest
from cryptography import x509
from gateway import Gateway, Ledger, program, providers
from mounts import Authority, Mount
from processes import is_alive
from stack import CHAT, MESSAGE, wait_until
from wire import Http1, whole

# A stream of about four seconds.
SLOW = {"x-mock-input": "1200", "x-mock-output": "400", "x-mock-events": "40", "x-mock-event-delay-ms": "100"}
STREAM = {**MESSAGE, "stream": True, "max_tokens": 4000}
PLACEHOLDER = "sk-placeholder"
VERSION = {"anthropic-version": "2023-06-01"}


class Provider:
    """The mock provider, which takes every key, and what it saw."""

    def __init__(self):
        self.process = subprocess.Popen(
            [program("tollgate-mock-provider"), "--listen=127.0.0.1:0", "--exit-with-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().split()[-1]
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def seen(self) -> dict[str, str]:
        """The headers of the last request."""
        return dict(self.http.get("/mock/requests").json()[-1]["headers"])

    def close(self) -> None:
        self.http.close()
        self.process.stdin.close()
        self.process.wait(10)


class Whole:
    """A ledger, an authority, the mounted Secrets, and gateways beside them."""

    def __init__(self, folder, provider):
        self.folder, self.provider, self.authority = folder, provider, Authority()
        self.ledger = Ledger(folder / "ledger", self.authority)
        self.own = Mount(folder / "own", self.authority.issue("gateway", "localhost"))
        self.keys, self.providers = providers(folder / "providers", provider.url)
        self.key = self.ledger.key()
        self.gateways = []

    def gateway(self, name: str, settings: dict, **options) -> Gateway:
        self.gateways.append(Gateway(self.folder / name, settings, **options))
        return self.gateways[-1]

    def metering(self, certificate: Mount) -> dict:
        ledger = {"address": f"localhost:{self.ledger.grpc}", "tls": str(certificate.folder)}
        return {"ledger": ledger, "providers": self.providers, "filter": {"ledger_wait_ms": 20_000}}

    def ingress(self, **drain) -> Gateway:
        settings = {
            "mode": "ingress",
            "listener": {"address": "127.0.0.1", "tls": str(self.own.folder)},
            "drain": {"endpointsSeconds": 0, "streamsSeconds": 30, **drain},
            **self.metering(self.own),
        }
        return self.gateway("ingress", settings, scheme="https", verify=self.trust())

    def direct(self) -> Gateway:
        certificate = Mount(self.folder / "sidecar", self.authority.issue("gateway"))
        settings = {"mode": "direct", "virtualKey": str(self.virtual_key()), **self.metering(certificate)}
        return self.gateway("direct", settings)

    def identity(self, ingress: Gateway) -> Gateway:
        mount = Mount(self.folder / "authority", {"ca.crt": self.authority.pem})
        upstream = {"url": f"https://localhost:{ingress.port}", "ca": str(mount.folder / "ca.crt")}
        return self.gateway("identity", {"mode": "identity", "virtualKey": str(self.virtual_key()), "upstream": upstream})

    def virtual_key(self):
        self.key_mount = Mount(self.folder / "key", {"ANTHROPIC_API_KEY": self.key})
        return self.key_mount.folder / "ANTHROPIC_API_KEY"

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority.pem.decode())

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.close()
        self.ledger.close()


@pytest.fixture(scope="module")
def provider():
    provider = Provider()
    yield provider
    provider.close()


@pytest.fixture
def everything(tmp_path, provider):
    everything = Whole(tmp_path, provider)
    yield everything
    everything.close()


def serial(port: int) -> int:
    """The number of the certificate that a client is shown."""
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def own_address() -> str:
    """An address of this machine that is not loopback: none is sent anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def is_open(address: str, port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex((address, port)) == 0


def test_what_is_mounted_is_followed_without_a_restart(everything, provider):
    gateway = everything.ingress()
    envoy = gateway.envoy()
    assert gateway.messages(everything.key).status_code == 200
    assert provider.seen()["x-api-key"] == "first-anthropic", "without the line feed of the file"
    assert gateway.chat(everything.key).status_code == 200
    assert provider.seen()["authorization"] == "Bearer first-openai"

    # A provider's credential.
    everything.keys["anthropic"].renew({"api-key": "second-anthropic\n"})
    everything.keys["openai"].renew({"api-key": "second-openai"})

    def follows():
        gateway.messages(everything.key), gateway.chat(everything.key)
        return provider.seen()["authorization"] == "Bearer second-openai"

    wait_until(follows, "the new credential is used", 30)
    assert gateway.messages(everything.key).status_code == 200
    assert provider.seen()["x-api-key"] == "second-anthropic"

    # One that is none changes nothing.
    everything.keys["anthropic"].renew({"api-key": ""})
    wait_until(lambda: "holds no key" in gateway.says(), "it says so", 30)
    assert gateway.messages(everything.key).status_code == 200
    assert provider.seen()["x-api-key"] == "second-anthropic"

    # Another authority: first believed beside the old one, then alone.
    old, new = everything.authority, Authority()
    before = serial(gateway.port)
    everything.own.renew(new.issue("gateway", "localhost", authorities=old.pem + new.pem))
    wait_until(lambda: serial(gateway.port) != before, "clients are shown the new certificate", 30)
    everything.authority = everything.ledger.authority = new
    everything.ledger.mount.renew(new.issue("ledger", "tollgate-ledger"))
    everything.ledger.restart()
    with httpx.Client(base_url=gateway.url, verify=everything.trust(), trust_env=False, timeout=60) as client:
        answer = client.post("/v1/messages", json=MESSAGE, headers={"x-api-key": everything.key, **VERSION})
    assert answer.status_code == 200, answer.text
    assert gateway.envoy() == envoy, "Envoy is the one of the start"


def test_a_stop_lets_streams_end_and_says_so_before(everything):
    gateway = everything.ingress(endpointsSeconds=2)
    assert gateway.health("/ready") == gateway.health("/live") == 200
    assert gateway.probe("ready") == gateway.probe("live") == (0, "")
    ends = []

    def read():
        headers = {"x-api-key": everything.key, **VERSION, **SLOW}
        with gateway.http.stream("POST", "/v1/messages", json=STREAM, headers=headers) as answer:
            started.set()
            ends.append("event: message_stop" in answer.read().decode())

    started = threading.Event()
    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(30)
    gateway.process.send_signal(signal.SIGTERM)
    wait_until(lambda: gateway.health("/ready") == 503, "nobody is sent here any more", 2)
    assert gateway.probe("ready") == (1, "tollgate-run: draining")
    assert gateway.probe("live") == (0, "")
    assert gateway.health("/live") == 200
    # Until everybody knows, whoever comes is served.
    with httpx.Client(base_url=gateway.url, verify=everything.trust(), trust_env=False) as latecomer:
        assert latecomer.post("/v1/messages", json=MESSAGE, headers={"x-api-key": everything.key, **VERSION}).status_code == 200
    reader.join(30)
    assert ends == [True]
    assert gateway.process.wait(30) == 0, gateway.says()


def test_streams_that_do_not_end_are_cut_after_a_while(everything):
    gateway = everything.ingress(streamsSeconds=1)
    headers = {"x-api-key": everything.key, **VERSION, **SLOW, "x-mock-event-delay-ms": "60000"}
    with gateway.http.stream("POST", "/v1/messages", json=STREAM, headers=headers):
        assert gateway.stop() == 0, gateway.says()
    assert "so they are cut" in gateway.says()


def test_a_gateway_ends_with_its_envoy_and_envoy_with_its_gateway(everything):
    gateway = everything.ingress()
    os.kill(gateway.envoy(), signal.SIGKILL)
    assert gateway.process.wait(30) == 1
    assert "envoy ended" in gateway.says()
    gateway.start()
    gateway.wait_for(lambda: gateway.health("/ready") == 200, "it is ready again")
    envoy = gateway.envoy()
    gateway.process.kill()
    wait_until(lambda: not is_alive(envoy), "Envoy has ended", 10)


def test_metrics_are_envoys_and_nothing_else_of_its_admin_interface_is_served(everything):
    gateway = everything.ingress()
    gateway.messages(everything.key)
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.metrics}", trust_env=False) as client:
        metrics = client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "envoy_http_downstream_rq_total" in metrics.text
        assert "tollgate_reports_unconfirmed" in metrics.text
        for method, path, status in [
            ("GET", "/config_dump", 404),
            ("GET", "/stats", 404),
            ("GET", "/", 404),
            ("POST", "/quitquitquit", 405),
            ("POST", "/ready", 405),
        ]:
            assert client.request(method, path).status_code == status, path


def test_a_sidecar_that_meters_puts_the_key_in_for_the_agent(everything, provider):
    sidecar = everything.direct()
    for answer in (sidecar.messages(PLACEHOLDER), sidecar.chat(PLACEHOLDER)):
        assert answer.status_code == 200, answer.text
    assert provider.seen()["authorization"] == "Bearer first-openai"
    assert is_open("127.0.0.1", sidecar.port)
    assert not is_open(own_address(), sidecar.port), "the sidecar is nobody's but its agent's"
    # The key is rotated.
    other = everything.ledger.key(models=["gpt-4.1-mini"])
    everything.key_mount.renew({"ANTHROPIC_API_KEY": other})
    wait_until(lambda: sidecar.messages(PLACEHOLDER).status_code == 403, "the new key is used", 30)
    assert sidecar.stop() == 0


def test_a_sidecar_that_says_who_asks_leaves_the_rest_to_the_ingress(everything, provider):
    ingress = everything.ingress()
    sidecar = everything.identity(ingress)
    assert sidecar.messages(PLACEHOLDER).status_code == 200
    assert provider.seen()["x-api-key"] == "first-anthropic"
    assert sidecar.chat(PLACEHOLDER).status_code == 200
    assert sidecar.http.post("/v1/messages?beta=true", json=MESSAGE, headers={"x-api-key": PLACEHOLDER, **VERSION}).status_code == 200
    assert sidecar.http.get("/v1/nothing").status_code == 404
    assert not is_open(own_address(), sidecar.port)
    # It knows no provider's credential.
    assert [file.name for file in sorted((sidecar.folder / "run" / "secrets").iterdir())] == [
        "ingress-authority.json",
        "virtual-key.json",
    ]
    with Http1(sidecar.port) as client:
        client.send(whole(PLACEHOLDER, CHAT, connection="upgrade", upgrade="websocket"))
        assert client.answer().status == 426
    ingress.process.kill()
    answer = sidecar.messages(PLACEHOLDER)
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "api_error"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"colour": "red"}, "colour"),
        ({"providers": {}}, "providers"),
        ({"providers": {"anthropic": {"key": "/nowhere/key"}}}, "/nowhere/key"),
        ({"virtualKey": "/v", "providers": {"anthropic": {"key": "/k"}}}, "virtualKey"),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_started(tmp_path, change, word):
    settings = {"mode": "ingress", "ledger": {"address": "localhost:4001"}, "providers": {}, **change}
    gateway = Gateway(tmp_path / "gateway", settings, ready=False)
    assert gateway.process.wait(30) == 1
    assert word in gateway.says()
