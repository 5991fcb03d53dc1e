"""The chart's NetworkPolicies where somebody enforces them: everything works, and nobody else comes near. Each step stands on those before it."""

import contextlib

import agents
import kube_router
import pytest
import resources
import sidecars
from cluster import only_on_the_tests_own
from installation import DIRECT, GATEWAY, NAMESPACE, PLATFORM, RELEASE
from sidecars import injected
from stack import wait_until

IN_ORDER = True
pytestmark = pytest.mark.long

# Where agents are that have nothing but keys, or a sidecar that says who asks.
PEOPLE, TEAM, KEY = "people", "people", "agent"
MODES = {"identity": PEOPLE, "direct": DIRECT}
# Until what is changed is enforced.
ENFORCED = 60.0

LEDGER = f"{RELEASE}-ledger.{NAMESPACE}.svc"
WEBHOOK = f"{RELEASE}-webhook.{NAMESPACE}.svc"
PORTS = {
    "holds": f"{LEDGER}:4001",
    "admin": f"{LEDGER}:4002",
    "ledger's metrics": f"{LEDGER}:4003",
    "operator's metrics": f"{WEBHOOK}:4003",
    "webhook": f"{WEBHOOK}:443",
    "gateway": f"{GATEWAY}:443",
    "gateway's metrics": f"{RELEASE}-gateway-metrics.{NAMESPACE}.svc:4003",
}
EVERYBODYS = {"ledger's metrics", "operator's metrics", "webhook", "gateway", "gateway's metrics"}
# Labels of the gateway's own pods, which everybody can write on theirs.
FORGED = {"app.kubernetes.io/name": "tollgate", "app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/component": "gateway"}
# Pods by their namespace and name, with their labels, and what they reach.
PODS = [
    (PEOPLE, "plain", {}, EVERYBODYS),
    (PEOPLE, "forged", FORGED, EVERYBODYS),
    (PLATFORM, "plain", {}, EVERYBODYS),
    (DIRECT, "plain", {}, EVERYBODYS),
    (NAMESPACE, "plain", {}, EVERYBODYS),
]
# And two with sidecars.
INJECTED = [
    (PEOPLE, "identity", EVERYBODYS),
    (DIRECT, "direct", EVERYBODYS | {"holds"}),
]
EVERY_POD = [(namespace, name, reached) for namespace, name, _, reached in PODS] + INJECTED


@pytest.fixture(scope="module")
def tollgate(cluster, site):
    only_on_the_tests_own("the tests have NetworkPolicies enforced only on a node of their own")
    kube_router.install(cluster)
    site.helm("install")
    yield site
    site.uninstall()


@pytest.fixture(scope="module", autouse=True)
def people(cluster, tollgate):
    cluster.kubectl("create", "namespace", PEOPLE)
    resources.apply(cluster, NAMESPACE, resources.open_team(TEAM))
    for namespace in MODES.values():
        resources.make_key(cluster, namespace, KEY, TEAM)
    for namespace, name, labels, _ in PODS:
        cluster.apply(agents.pod(name, labels=labels), namespace)
    for mode, namespace in MODES.items():
        cluster.apply(injected(mode, KEY, agents.pod(mode)), namespace)
    for namespace, name, _ in EVERY_POD:
        cluster.wait(f"pod/{name}", "condition=Ready", namespace)


def reached(cluster, namespace: str, pod: str) -> set[str]:
    """The ports where somebody answers, if only that plain HTTP is nothing to say there."""
    # With others than it expects a port breaks off; where a policy is in between, nobody is heard of.
    answers = agents.request(cluster, namespace, pod, [f"http://{port}/" for port in PORTS.values()], arguments=("--timeout=5s",))
    silent = ("refused", "timeout", "deadline exceeded")
    return {name for name, answer in zip(PORTS, answers, strict=True) if not any(word in answer.error for word in silent)}


def wait_until_reached(cluster, namespace: str, pod: str, expected: set[str]) -> None:
    """What has changed is enforced a moment later."""
    seen = []
    with contextlib.suppress(AssertionError):
        wait_until(lambda: seen.append(reached(cluster, namespace, pod)) or seen[-1] == expected, "it is enforced", ENFORCED)
    assert seen[-1] == expected


def test_an_agent_is_served(cluster, tollgate):
    agents.start(cluster, PEOPLE, "agent", **agents.with_secret(KEY))
    (answer,) = agents.messages(cluster, PEOPLE, "agent")
    assert answer.status == 200, answer


@pytest.mark.parametrize("mode", MODES)
def test_a_job_with_a_sidecar_completes(cluster, tollgate, mode):
    cluster.apply(sidecars.job(mode, KEY), MODES[mode])
    cluster.wait("job/job", "condition=Complete", MODES[mode])


@pytest.mark.parametrize(("namespace", "pod", "expected"), EVERY_POD)
def test_a_pod_reaches_what_is_for_it(cluster, tollgate, namespace, pod, expected):
    wait_until_reached(cluster, namespace, pod, expected)


def test_who_may_administer_and_who_may_ask_can_be_named(cluster, tollgate):
    peer = lambda namespace: [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]
    tollgate.helm("upgrade", networkPolicy={"adminFrom": peer(PLATFORM), "gatewayFrom": peer(PEOPLE), "metricsFrom": peer(NAMESPACE)})
    metrics = {"ledger's metrics", "operator's metrics", "gateway's metrics"}
    for namespace, expected in (
        (PLATFORM, {"admin", "webhook"}),
        (PEOPLE, {"gateway", "webhook"}),
        (NAMESPACE, {*metrics, "webhook"}),
    ):
        wait_until_reached(cluster, namespace, "plain", expected)
    (answer,) = agents.messages(cluster, PEOPLE, "agent")
    assert answer.status == 200, answer


def test_without_them_everybody_reaches_everything(cluster, tollgate):
    """So what was kept out before was kept out by them."""
    tollgate.helm("upgrade", networkPolicy={"enabled": False})
    for namespace, pod, _ in EVERY_POD:
        wait_until_reached(cluster, namespace, pod, set(PORTS))
