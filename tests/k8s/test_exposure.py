"""Behind what a company has in front of its clusters: an Ingress, by Contour; an HTTPRoute, where the Gateway ends TLS and begins it anew, and a
TLSRoute, where it passes it through, by Envoy Gateway."""

import dataclasses

import agents
import certificates
import contour
import envoy_gateway
import images
import installation
import pytest
import trustme
from certificates import CA, PEOPLE, people
from cluster import only_on_the_tests_own
from envoy_gateway import FOLLOWED, has
from installation import NAMESPACE, RELEASE
from stack import wait_until

INSTALLS = True
pytestmark = pytest.mark.long

GATEWAYS, PUBLIC = "gateways", "public"
ROUTES = "gateway.networking.k8s.io"
GATEWAY = f"{RELEASE}-gateway"
# Two names of the Gateway's Service: one of what it ends itself, one of what it passes through.
ENDED = f"{PUBLIC}.{envoy_gateway.NAMESPACE}.svc"
PASSED = f"{ENDED}.cluster.local"
# Who signs what clients see, and who signs what only the Gateway does.
COMPANY, INNER = "company-authorities", "inner-authorities"
# Longer than Envoy waits for an answer by itself.
THOUGHT_MS = 20_000


@dataclasses.dataclass
class Way:
    """One of docs/kubernetes/ingress.md."""

    name: str
    host: str
    # What is in front: a fixture.
    front: str
    # Values of the chart.
    gateway: dict
    # What becomes of its objects.
    objects: list[tuple[str, list[str]]] = dataclasses.field(default_factory=list)


ROUTE = {"enabled": True, "parentRefs": [{"name": PUBLIC, "namespace": GATEWAYS}]}
AUTHORITIES = {"authorities": {"configMap": COMPANY}}
WAYS = [
    Way(
        "ingress",
        contour.HOST,
        "ingress_controller",
        {
            "tls": AUTHORITIES,
            "ingress": {
                "enabled": True,
                "className": "contour",
                "host": contour.HOST,
                "tlsSecret": "company-certificate",
                "annotations": {"projectcontour.io/response-timeout": "infinity"},
            },
        },
    ),
    Way(
        "ended",
        ENDED,
        "shared_gateway",
        {
            "tls": {"secret": "inner-certificate", **AUTHORITIES},
            "route": {**ROUTE, "hostnames": [ENDED], "authorities": {"configMap": INNER}},
        },
        [(f"httproutes.{ROUTES}", ["Accepted", "ResolvedRefs"]), (f"backendtlspolicies.{ROUTES}", ["Accepted"])],
    ),
    Way(
        "passed",
        PASSED,
        "shared_gateway",
        {"route": {**ROUTE, "hostnames": [PASSED], "passthrough": True}},
        [(f"tlsroutes.{ROUTES}", ["Accepted", "ResolvedRefs"])],
    ),
]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.name)
def way(request):
    return request.param


@pytest.fixture(scope="module")
def company():
    """Nobody has heard of it."""
    return trustme.CA()


@pytest.fixture(scope="module")
def ingress_controller(cluster):
    contour.install(cluster)


@pytest.fixture(scope="module")
def shared_gateway(cluster, company):
    """The company's, with a place for each way."""
    envoy_gateway.install(cluster)
    cluster.kubectl("create", "namespace", GATEWAYS)
    container = {"image": images.ENVOY}
    provider = {"envoyService": {"name": PUBLIC, "type": "ClusterIP"}, "envoyDeployment": {"container": container}}
    shared = {"port": 443, "allowedRoutes": {"namespaces": {"from": "All"}}}
    ends = {"certificateRefs": [{"name": "company-certificate"}]}
    spec = {
        "gatewayClassName": envoy_gateway.CLASS,
        "infrastructure": {"parametersRef": {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": PUBLIC}},
        "listeners": [
            {"name": "ended", "protocol": "HTTPS", "hostname": ENDED, "tls": ends, **shared},
            {"name": "passed", "protocol": "TLS", "hostname": PASSED, "tls": {"mode": "Passthrough"}, **shared},
        ],
    }
    proxy = {"provider": {"type": "Kubernetes", "kubernetes": provider}}
    cluster.apply(
        [
            installation.certificate("company-certificate", company, ENDED),
            {"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy", "metadata": {"name": PUBLIC}, "spec": proxy},
            {"apiVersion": f"{ROUTES}/v1", "kind": "Gateway", "metadata": {"name": PUBLIC}, "spec": spec},
        ],
        GATEWAYS,
    )
    cluster.watch(f"gateways.{ROUTES}", PUBLIC, has("Programmed"), "the Gateway is there", GATEWAYS)


@pytest.fixture(scope="module")
def tollgate(request, cluster, site, company, way):
    only_on_the_tests_own("the tests install an ingress controller and Envoy Gateway only on a node of their own")
    request.getfixturevalue(way.front)
    # Those of the way before.
    cluster.wait(f"namespace/{PEOPLE}", "delete")
    inner = trustme.CA()
    there = [
        installation.certificate("company-certificate", company, way.host),
        installation.certificate("inner-certificate", inner, way.host),
        installation.authorities(COMPANY, company),
        installation.authorities(INNER, inner),
    ]
    cluster.apply(there, NAMESPACE)
    with certificates.installed(cluster, site, f"books-{way.name}", baseURL=f"https://{way.host}", **way.gateway) as made:
        yield made


def test_an_agent_is_served_and_an_answer_may_take_longer_than_envoy_waits_by_itself(cluster, tollgate, way):
    for kind, wanted in way.objects:
        cluster.watch(kind, GATEWAY, has(*wanted), f"{kind} is {wanted}", NAMESPACE)
    wait_until(lambda: certificates.ask(cluster)[0].status == 200, "an agent is served", FOLLOWED)
    before = tollgate.provider.count()
    for slow in ({}, {"stream": True}):
        (answer,) = certificates.ask(cluster, f"--header=x-mock-delay-ms: {THOUGHT_MS}", **slow)
        assert answer.status == 200 and answer.complete and answer.seconds * 1000 > THOUGHT_MS, answer
    assert tollgate.provider.count() == before + 2


def test_an_agent_hears_in_its_own_apis_words_what_is_refused(cluster, tollgate, way):
    headers = {**agents.MESSAGES_HEADERS, "x-api-key": "sk-tg-unknown"}
    (answer,) = agents.request(cluster, PEOPLE, "agent", agents.MESSAGES_URL, headers, agents.MESSAGE, (CA,))
    assert answer.status == 401 and answer.json()["error"]["type"] == "authentication_error", answer


def test_a_sidecar_that_says_who_asks_goes_that_way_too(cluster, tollgate, way):
    certificates.run_job(cluster, "identity")
