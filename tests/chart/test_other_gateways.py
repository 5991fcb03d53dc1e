"""What the chart makes for other people's gateways, judged by their definitions, and by what must hold whatever they make of it."""

import definitions
import pytest
from rendering import CHART
from test_chart import strings

# What is theirs to define, and the gateway's kind.
GROUPS = {
    "envoy-gateway": ("gateway.envoyproxy.io", "gateway.networking.k8s.io"),
    # Of the Gateway API both have the same.
    "istio": ("networking.istio.io", "telemetry.istio.io"),
}
NOWHERE = r"[^\s\S]"
each_kind = pytest.mark.parametrize("kind", GROUPS)


def of(objects: list[dict], kind: str) -> dict[str, dict]:
    return {thing["metadata"]["name"]: thing for thing in objects if thing["kind"] == kind}


@each_kind
@pytest.mark.parametrize("values", ["full", "bare"])
def test_their_definitions_take_every_object(helm, kind, values):
    objects = helm.template(f"--values={CHART / 'ci' / f'{kind}.yaml'}" if values == "full" else f"--set=gateway.kind={kind}")
    known = definitions.schemas("envoy-gateway") | definitions.schemas(kind)
    theirs = [thing for thing in objects if thing["apiVersion"].startswith(GROUPS[kind] + GROUPS["envoy-gateway"])]
    assert len(theirs) >= 5
    for thing in theirs:
        assert list(definitions.faults(known[thing["apiVersion"], thing["kind"]], thing)) == []


@pytest.mark.parametrize("values", ["exposed", "sidecars"])
def test_the_gateway_apis_definitions_take_the_routes_to_our_own(helm, values):
    newest = "--api-versions=gateway.networking.k8s.io/v1/TLSRoute"
    for more in ([], [newest]):
        objects = helm.template(f"--values={CHART / 'ci' / f'{values}.yaml'}", *more)
        routes = [thing for thing in objects if thing["apiVersion"].startswith("gateway.networking.k8s.io")]
        assert routes
        for thing in routes:
            schema = definitions.schemas("envoy-gateway")[thing["apiVersion"], thing["kind"]]
            assert list(definitions.faults(schema, thing)) == []


def test_a_wrong_object_is_seen():
    """The definitions are really asked."""
    schema = definitions.schemas("envoy-gateway")["gateway.envoyproxy.io/v1alpha1", "EnvoyExtensionPolicy"]
    thing = {"kind": "EnvoyExtensionPolicy", "metadata": {"name": "x"}, "spec": {"wasm": [{"code": {"type": "Image"}, "failClosed": True}]}}
    (fault,) = definitions.faults(schema, thing)
    assert "failClosed" in fault


@each_kind
def test_there_is_no_envoy_of_our_own(helm, kind):
    objects = helm.template(f"--set=gateway.kind={kind}")
    assert "tollgate-gateway" not in of(objects, "Deployment") | of(objects, "Service") | of(objects, "NetworkPolicy")
    assert "tollgate-ledger" in of(objects, "Deployment")


def test_envoy_gateway_is_given_no_way_to_an_upstream(helm):
    """Its own routes match nothing, or lead to nobody: the ways are the patch's, and each wants the filter's word."""
    objects = helm.template(f"--values={CHART / 'ci' / 'envoy-gateway.yaml'}")
    routes = of(objects, "HTTPRoute") | of(objects, "GRPCRoute")
    (refused,) = routes.pop("tollgate-refused")["spec"]["rules"]
    (nobody,) = of(objects, "Backend")[refused["backendRefs"][0]["name"]]["spec"]["endpoints"]
    assert nobody == {"fqdn": {"hostname": "nobody.invalid", "port": 443}}
    rules = [rule for route in routes.values() for rule in route["spec"]["rules"]]
    assert len(rules) == 5
    for rule in rules:
        (match,) = rule["matches"]
        assert match in (
            {"path": {"type": "RegularExpression", "value": NOWHERE}},
            {"method": {"type": "RegularExpression", "service": NOWHERE, "method": NOWHERE}},
        )
    (patch,) = of(objects, "EnvoyPatchPolicy").values()
    ways = [one["operation"]["value"] for one in patch["spec"]["jsonPatches"] if one["operation"]["path"] == "/routes/0"]
    assert_ways(list(reversed(ways)))
    clusters = {way["route"]["cluster"]: way["name"] for way in ways}
    names = [rule["name"] for rule in routes["tollgate-upstreams"]["spec"]["rules"]]
    assert clusters == {f"httproute/tollgate/tollgate-upstreams/rule/{index}/backend/0": name for index, name in enumerate(names)}


def test_istio_is_given_no_way_to_an_upstream_without_the_filters_word(helm):
    objects = helm.template(f"--values={CHART / 'ci' / 'istio.yaml'}")
    (filters,) = of(objects, "EnvoyFilter").values()
    # Each is put before what is there.
    put = [one["patch"] for one in filters["spec"]["configPatches"] if one["applyTo"] == "HTTP_ROUTE"]
    assert {one["operation"] for one in put} == {"INSERT_FIRST"}
    *ways, last = [one["value"] for one in reversed(put)]
    assert last["match"] == {"prefix": "/"} and last["route"] == {"cluster": "tollgate-refused"}
    assert_ways(ways)
    clusters = {one["patch"]["value"]["name"]: one["patch"]["value"] for one in filters["spec"]["configPatches"] if one["applyTo"] == "CLUSTER"}
    assert clusters.keys() == {way["route"]["cluster"] for way in ways} | {"tollgate-refused"}
    assert "load_assignment" not in clusters["tollgate-refused"]


def assert_ways(ways: list[dict]) -> None:
    """In the order in which Envoy tries them."""
    assert [way["name"] for way in ways] == ["anthropic-openai", "anthropic", "gemini", "openai"]
    for way in ways:
        (word,) = way["match"]["filter_state"]
        assert word == {"key": "wasm.tollgate.route", "string_match": {"exact": way["name"].removesuffix("-openai")}}
        assert "retry_policy" not in way["route"]
    rewritten = {way["name"]: (way["route"]["host_rewrite_literal"], way["route"].get("prefix_rewrite")) for way in ways}
    assert rewritten == {
        "anthropic-openai": ("api.anthropic.com", None),
        "anthropic": ("api.anthropic.com", None),
        "gemini": ("generativelanguage.googleapis.com", "/v1beta/openai/"),
        "openai": ("llm-proxy.example.com:8443", "/openai/v1/"),
    }


@each_kind
def test_a_plugin_holds_heads_back_and_fails_closed(helm, kind):
    objects = helm.template(f"--set=gateway.kind={kind}")
    if kind == "istio":
        (filters,) = of(objects, "EnvoyFilter").values()
        (added,) = [one["patch"]["value"] for one in filters["spec"]["configPatches"] if one["applyTo"] == "EXTENSION_CONFIG"]
        plugin = added["typed_config"]["config"]
        assert plugin["allow_on_headers_stop_iteration"] is True and plugin["failure_policy"] == "FAIL_RELOAD"
        return
    (policy,) = of(objects, "EnvoyExtensionPolicy").values()
    (plugin,) = policy["spec"]["wasm"]
    assert plugin["failOpen"] is False
    (patch,) = of(objects, "EnvoyPatchPolicy").values()
    put = {one["operation"]["path"]: one["operation"] for one in patch["spec"]["jsonPatches"]}
    assert put["/allow_on_headers_stop_iteration"]["value"] is True
    assert put["/failure_policy"]["value"] == "FAIL_RELOAD"


def test_no_word_of_a_wasm_plugin_would_do(helm):
    """Why Istio gets an EnvoyFilter instead. When this fails, look at docs/kubernetes/istio.md again."""
    schema = definitions.schemas("istio")["extensions.istio.io/v1alpha1", "WasmPlugin"]
    words = schema["properties"]["spec"]["properties"].keys()
    assert {"pluginConfig", "failStrategy"} <= words
    assert not [word for word in words if "stop" in word.lower() or "iteration" in word.lower()]


@each_kind
def test_only_that_gateway_reaches_the_ledger(helm, kind):
    ledger = of(helm.template(f"--set=gateway.kind={kind}"), "NetworkPolicy")["tollgate-ledger"]
    (door,) = [rule for rule in ledger["spec"]["ingress"] if rule["ports"] == [{"port": "grpc"}]]
    (peer,) = door["from"]
    assert "tollgate-gateway" in strings(peer["podSelector"]["matchLabels"])


@each_kind
@pytest.mark.parametrize(
    ("argument", "word"),
    [
        ("--set=gateway.exposeAdmin=true", "gateway.exposeAdmin"),
        ("--set=gateway.route.enabled=true", "gateway.route.enabled"),
        ("--set=gateway.ingress.enabled=true", "gateway.ingress.enabled"),
    ],
)
def test_what_they_cannot_do_is_refused(helm, kind, argument, word):
    assert word in helm.refusal(f"--set=gateway.kind={kind}", argument)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--set=providers.openai.secret=x", "--set=providers.openai.entry=api-key"], "providers.openai.entry"),
        (["--set=gateway.authorities.configMap=x", "--set=gateway.authorities.entry=all.pem"], "gateway.authorities.entry"),
    ],
)
def test_an_entry_that_envoy_gateway_does_not_read_is_refused(helm, arguments, word):
    assert word in helm.refusal("--set=gateway.kind=envoy-gateway", *arguments)
