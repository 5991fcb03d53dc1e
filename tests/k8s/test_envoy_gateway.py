"""The filter in a real Envoy Gateway: its own chart, its control plane, and the Envoys that it runs. Each step stands on those before it."""

import decimal

import agents
import envoy_gateway
import installation
import pytest
from envoy_gateway import FOLLOWED, has
from installation import NAMESPACE, PROVIDER_KEYS, RELEASE, secret
from stack import wait_until

IN_ORDER = True
pytestmark = pytest.mark.long

PEOPLE = "payments"
HOST = f"{RELEASE}-gateway.{envoy_gateway.NAMESPACE}.svc"
GATEWAY = f"{RELEASE}-gateway"
# A body of two megabytes, which Envoy holds back until the ledger has decided. A variable has room for a twentieth of it.
PIECE, PIECES = "many words " * 9000, 20
POLICIES = "gateway.envoyproxy.io"


@pytest.fixture(scope="module")
def tollgate(cluster, authority):
    """What there is before the chart: Envoy Gateway, a registry, the providers' keys, a certificate."""
    envoy_gateway.install(cluster)
    image = envoy_gateway.registry(cluster, authority)
    installation.load_images(cluster)
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.apply(
        [
            installation.certificate("gateway-certificate", authority, HOST),
            installation.authorities("registry-authorities", authority),
            # Envoy Gateway reads no other entry.
            *(secret(f"provider-{api}", {"credential": key}) for api, key in PROVIDER_KEYS.items()),
        ],
        NAMESPACE,
    )
    url = f"http://mock-provider.{installation.PROVIDERS}.svc:{installation.PROVIDER_PORT}"
    values = {
        "providers": {api: {"secret": f"provider-{api}", "url": url} for api in PROVIDER_KEYS},
        "ledger": {"persistence": {"size": "1Gi", "storageClass": cluster.volume("ledger") or ""}},
        "gateway": {
            "kind": "envoy-gateway",
            "filterImage": image,
            "envoyGateway": {"className": envoy_gateway.CLASS, "registryAuthorities": "registry-authorities"},
            "tls": {"secret": "gateway-certificate"},
            "replicas": 1,
            "drain": {"endpointsSeconds": 1, "streamsSeconds": 10},
        },
    }
    with installation.provider(cluster) as provider:
        yield installation.Installation(cluster, provider, values)


@pytest.fixture
def say(cluster):
    """What an agent says to Anthropic's API, and hears."""
    return lambda *arguments, **changes: agents.messages(cluster, PEOPLE, "alice", *arguments, **changes)


def test_the_chart_is_installed_without_an_envoy_of_its_own(cluster, tollgate):
    tollgate.helm("install")
    names = {one["metadata"]["name"] for one in cluster.find("deployments.apps", NAMESPACE)}
    assert names == {f"{RELEASE}-ledger", f"{RELEASE}-operator"}


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        (f"clienttrafficpolicies.{POLICIES}", GATEWAY, ["Accepted"]),
        (f"envoyextensionpolicies.{POLICIES}", GATEWAY, ["Accepted"]),
        (f"envoypatchpolicies.{POLICIES}", GATEWAY, ["Accepted", "Programmed"]),
        (f"backendtrafficpolicies.{POLICIES}", f"{RELEASE}-ledger", ["Accepted"]),
        (f"backendtrafficpolicies.{POLICIES}", f"{RELEASE}-upstreams", ["Accepted"]),
        ("httproutes.gateway.networking.k8s.io", f"{RELEASE}-refused", ["Accepted", "ResolvedRefs"]),
        ("httproutes.gateway.networking.k8s.io", f"{RELEASE}-upstreams", ["Accepted", "ResolvedRefs"]),
        ("grpcroutes.gateway.networking.k8s.io", f"{RELEASE}-ledger", ["Accepted", "ResolvedRefs"]),
        ("gateways.gateway.networking.k8s.io", GATEWAY, ["Accepted", "Programmed"]),
    ],
)
def test_envoy_gateway_takes_every_object(cluster, tollgate, kind, name, wanted):
    cluster.watch(kind, name, has(*wanted), f"{kind} {name} is {wanted}", NAMESPACE)


def test_its_envoy_gets_ready(cluster, tollgate):
    owner = f"gateway.envoyproxy.io/owning-gateway-name={GATEWAY}"
    (deployment,) = cluster.find("deployments.apps", envoy_gateway.NAMESPACE, owner)
    cluster.rollout(f"deployment/{deployment['metadata']['name']}", envoy_gateway.NAMESPACE)


def test_an_agent_is_served_and_metered(cluster, tollgate, say):
    cluster.apply(installation.EXAMPLES)
    cluster.watch("virtualkeys", "alice", has("Ready"), "the key is ready", PEOPLE)
    agents.start(cluster, PEOPLE, "alice", **agents.with_secret("alice"), env=[{"name": "PIECE", "value": PIECE}])
    # The listener comes before the filter has been fetched and compiled.
    wait_until(lambda: say()[0].status == 200, "an agent is served", FOLLOWED)
    before = tollgate.provider.count()
    (answer,) = say()
    assert answer.status == 200, answer
    (answer,) = say(stream=True)
    assert answer.status == 200 and "message_stop" in answer.body, answer
    # The other header, and the patch that writes Bearer into it.
    (answer,) = agents.chat(cluster, PEOPLE, "alice")
    assert answer.status == 200, answer
    (answer,) = agents.chat(cluster, PEOPLE, "alice", model="claude-sonnet-4-20250514")
    assert answer.status == 200, answer
    assert tollgate.provider.count() == before + 4
    spent = lambda thing: decimal.Decimal(thing.get("status", {}).get("spend") or 0) > 0
    cluster.watch("virtualkeys", "alice", spent, "the key's spend shows", PEOPLE, patience=10)


def test_the_provider_sees_its_own_credential_and_nothing_of_ours(cluster, tollgate, say):
    say()
    heard = tollgate.provider.requests()[-1]["headers"]
    names = {name.lower() for name in dict(heard)}
    assert "x-api-key" in names and "authorization" not in names
    assert not [name for name in names if name.startswith(("x-tollgate", "x-envoy", "x-forwarded"))], names


def test_a_large_body_waits_for_the_decision_too(cluster, tollgate, say):
    (answer,) = say(messages=[{"role": "user", "content": "$PIECE" * PIECES}])
    assert answer.status == 200, answer


def test_what_is_refused_reaches_no_provider(cluster, tollgate, say):
    before = tollgate.provider.count()
    (answer,) = say(model="gemini-2.5-pro")
    assert answer.status in (403, 404), answer
    headers = {"x-api-key": "sk-tg-unknown", "anthropic-version": "2023-06-01", "content-type": "application/json"}
    (answer,) = agents.request(cluster, PEOPLE, "alice", "$ANTHROPIC_BASE_URL/v1/messages", headers, agents.MESSAGE)
    assert answer.status == 401 and answer.json()["error"]["type"] == "authentication_error", answer
    assert tollgate.provider.count() == before
    cluster.kubectl("patch", "budget", "payments", "--namespace", NAMESPACE, "--type=json", f"--patch={set_amount('0')}")
    wait_until(lambda: say()[0].status == 402, "nothing is left", FOLLOWED)
    before = tollgate.provider.count()
    (answer,) = say()
    assert answer.status == 402 and answer.json()["error"]["type"] == "billing_error", answer
    assert tollgate.provider.count() == before
    cluster.kubectl("patch", "budget", "payments", "--namespace", NAMESPACE, "--type=json", f"--patch={set_amount('150')}")
    wait_until(lambda: say()[0].status == 200, "an agent is served", FOLLOWED)


def set_amount(amount: str) -> str:
    """Of the budget's limit for a day."""
    return f'[{{"op": "replace", "path": "/spec/limits/1/amount", "value": "{amount}"}}]'


def test_no_client_reaches_the_ledger(cluster, tollgate):
    """Its cluster is Envoy's, and no route's that a request could match."""
    for path in ("/tollgate.ledger.v1.Ledger/Lookup", "/", "/v1/"):
        (answer,) = agents.request(cluster, PEOPLE, "alice", f"$ANTHROPIC_BASE_URL{path}", {"content-type": "application/grpc"}, {})
        # The filter has answered.
        assert "x-tollgate-request-id" in answer.headers and answer.headers.get("grpc-status") != "0", answer


@pytest.mark.parametrize("kind", ["envoyextensionpolicies", "envoypatchpolicies"])
def test_without_the_filter_or_the_patch_nothing_reaches_a_provider(cluster, tollgate, say, kind):
    thing = cluster.get(f"{kind}.{POLICIES}", GATEWAY, NAMESPACE)
    cluster.delete(f"{kind}.{POLICIES}", GATEWAY, NAMESPACE)
    wait_until(lambda: say("--timeout=5s")[0].status != 200, "nobody is served", FOLLOWED)
    before = tollgate.provider.count()
    for answer in say("--count=5", "--timeout=5s"):
        assert answer.status != 200, answer
    assert tollgate.provider.count() == before
    del thing["status"], thing["metadata"]["resourceVersion"], thing["metadata"]["uid"]
    cluster.apply(thing, NAMESPACE)
    wait_until(lambda: say("--timeout=5s")[0].status == 200, "an agent is served", FOLLOWED)
