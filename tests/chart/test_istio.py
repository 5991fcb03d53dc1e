"""What the chart gives Istio, in a real Envoy. What Istio would make of it is made here: see docs/kubernetes/istio.md."""

import contextlib
import copy
import json
import os
import pathlib

import httpx
import pytest
from gateway import Child, Ledger
from mounts import Authority, Mount
from stack import CHAT, MESSAGE, PROVIDER_KEYS, Mock, free_port, wait_until

LEDGER = "tollgate-ledger.tollgate.svc"
MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CREDENTIALS, PROVIDERS = "/etc/tollgate/credentials", "/run/tollgate/providers"


def istio(objects: list[dict], port: int, wasm: str, ledger: dict) -> dict:
    """Envoy's configuration, as Istio makes it for a Gateway with one route that leads nowhere, and as the EnvoyFilter then changes it."""
    (patches,) = [thing["spec"]["configPatches"] for thing in objects if thing["kind"] == "EnvoyFilter"]
    host = {"name": "*:443", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 500}}]}
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
    manager = {
        "@type": MANAGER,
        "stat_prefix": "gateway",
        "use_remote_address": True,
        "normalize_path": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [router],
    }
    clusters = [ledger]
    extensions = {one["patch"]["value"]["name"]: one["patch"]["value"] for one in patches if one["applyTo"] == "EXTENSION_CONFIG"}
    for one in patches:
        operation, value = one["patch"]["operation"], copy.deepcopy(one["patch"]["value"])
        match one["applyTo"], operation:
            case "HTTP_FILTER", "INSERT_BEFORE":
                manager["http_filters"].insert(0, fetched(extensions[value["name"]], wasm))
            case "NETWORK_FILTER", "MERGE":
                manager |= value["typed_config"]
            case "VIRTUAL_HOST", "MERGE":
                host |= value
            case "HTTP_ROUTE", "INSERT_FIRST":
                host["routes"].insert(0, value)
            case "CLUSTER", "ADD":
                clusters.append(value)
            case "EXTENSION_CONFIG", "ADD":
                pass
            case unknown:
                raise AssertionError(f"not understood: {unknown}")
    manager["route_config"] = {"name": "https.443", "virtual_hosts": [host]}
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listener = {"name": "gateway", "address": address, "filter_chains": [chain]}
    return {"node": {"id": "gateway", "cluster": "tollgate"}, "static_resources": {"listeners": [listener], "clusters": clusters}}


def fetched(extension: dict, wasm: str) -> dict:
    """What Istio's agent makes of a plugin whose code is somewhere else."""
    extension = copy.deepcopy(extension)
    code = extension["typed_config"]["config"]["vm_config"]["code"]
    assert code.pop("remote")["http_uri"]["uri"] == "oci://ghcr.io/tollgate-dev/tollgate-filter:0.1.0"
    code["local"] = {"filename": wasm}
    return extension


def ledger_cluster(objects: list[dict], port: int, certificate: pathlib.Path) -> dict:
    """What Istio makes of the ledger's Service and the DestinationRule."""
    (rule,) = [thing["spec"] for thing in objects if thing["kind"] == "DestinationRule"]
    (settings,) = rule["trafficPolicy"]["portLevelSettings"]
    tls = settings["tls"]
    assert (settings["port"], tls["mode"], tls["credentialName"]) == ({"number": 4001}, "MUTUAL", "tollgate-gateway-tls")
    names = [{"san_type": "DNS", "matcher": {"exact": name}} for name in tls["subjectAltNames"]]
    files = {"certificate_chain": {"filename": f"{certificate}/tls.crt"}, "private_key": {"filename": f"{certificate}/tls.key"}}
    context = {
        "alpn_protocols": ["h2"],
        "tls_certificates": [files],
        "validation_context": {"trusted_ca": {"filename": f"{certificate}/ca.crt"}, "match_typed_subject_alt_names": names},
    }
    name = f"outbound|4001||{rule['host']}"
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    return {
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {
            HTTP: {"@type": f"type.googleapis.com/{HTTP}", "explicit_http_config": {"http2_protocol_options": {}}}
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": TLS, "sni": tls["sni"], "common_tls_context": context},
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


class Proxy(Child):
    """Envoy."""

    def __init__(self, folder: pathlib.Path, config: dict, port: int):
        (folder / "envoy.json").write_text(json.dumps(config))
        arguments = [os.environ["TOLLGATE_ENVOY"], "-c", folder / "envoy.json", "--concurrency", "1", "--use-dynamic-base-id"]
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)
        super().__init__(folder, arguments, {})
        # Every path of ours is answered by the filter; without it by nobody.
        self.wait_for(lambda: self.http.get("/v1/models").status_code, "Envoy answers")

    def messages(self, key: str) -> httpx.Response:
        return self.http.post("/v1/messages", json=MESSAGE, headers={"x-api-key": key, "anthropic-version": "2023-06-01"})

    def chat(self, key: str, **changes) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json={**CHAT, **changes}, headers={"authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The mock provider and a ledger, which knows the gateway by its certificate."""
    authority = Authority()
    with contextlib.ExitStack() as stack:
        mock = Mock()
        stack.callback(mock.stop)
        ledger = Ledger(tmp_path_factory.mktemp("ledger") / "own", authority, LEDGER)
        stack.callback(ledger.close)
        yield authority, mock, ledger


@pytest.fixture
def start(helm, parts, tmp_path):
    """Starts a proxy with the chart's objects, of which `change` may take something away."""
    authority, mock, ledger = parts
    proxies = []

    def started(change=lambda objects: None) -> Proxy:
        url = mock.url
        arguments = [f"--set=providers.{name}.secret={name}" for name in PROVIDER_KEYS]
        arguments += [f"--set=providers.{name}.url={url}" for name in PROVIDER_KEYS]
        objects = copy.deepcopy(helm.template("--set=gateway.kind=istio", *arguments))
        change(objects)
        Mount(tmp_path / "certificate", authority.issue("gateway", "tollgate-gateway"))
        for name, key in PROVIDER_KEYS.items():
            Mount(tmp_path / "providers" / name, {"api-key": key})
        (credentials,) = [it["data"] for it in objects if it["kind"] == "ConfigMap" and it["metadata"]["name"].endswith("-credentials")]
        placed = {name: text.replace(PROVIDERS, str(tmp_path / "providers")) for name, text in credentials.items()}
        Mount(tmp_path / "credentials", placed)
        port = free_port()
        config = istio(objects, port, os.environ["TOLLGATE_FILTER"], ledger_cluster(objects, ledger.grpc, tmp_path / "certificate"))
        text = json.dumps(config).replace(CREDENTIALS, str(tmp_path / "credentials"))
        proxies.append(Proxy(tmp_path, json.loads(text), port))
        return proxies[-1]

    yield started
    for proxy in proxies:
        proxy.close()


def test_a_request_is_served_with_the_providers_credential_and_metered(start, parts):
    _, mock, ledger = parts
    key = ledger.key()
    proxy = start()
    before = mock.count()
    for answer in (proxy.messages(key), proxy.chat(key), proxy.chat(key, model="claude-sonnet-4-20250514")):
        assert answer.status_code == 200, answer.text
    assert mock.count() == before + 3
    wait_until(lambda: ledger.spend(key) > 0, "the spend shows", 10)


def test_a_request_is_refused_before_it_reaches_the_provider(start, parts):
    _, mock, ledger = parts
    proxy = start()
    before = mock.count()
    assert proxy.messages("sk-tg-unknown").status_code == 401
    assert proxy.messages(ledger.key(max_budget=0.000001)).status_code == 402
    assert mock.count() == before


def test_without_the_filter_nothing_reaches_a_provider(start, parts):
    _, mock, ledger = parts
    key = ledger.key()

    def without_the_filter(objects: list[dict]) -> None:
        (spec,) = [thing["spec"] for thing in objects if thing["kind"] == "EnvoyFilter"]
        spec["configPatches"] = [one for one in spec["configPatches"] if one["applyTo"] != "HTTP_FILTER"]

    proxy = start(without_the_filter)
    before = mock.count()
    for answer in (proxy.messages(key), proxy.chat(key)):
        assert answer.status_code == 503, answer.text
    assert mock.count() == before
