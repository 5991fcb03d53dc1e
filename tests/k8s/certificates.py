"""What the tests of certificates share, whoever signs: agents that go by what comes with their key, and what the parts show and hold."""

import base64
import contextlib
import ssl
from collections.abc import Callable, Iterator

import agents
import installation
import pytest
import resources
import sidecars
from agents import Answer
from cluster import Cluster, Refused
from cryptography import x509
from installation import DIRECT, NAMESPACE, RELEASE, Installation
from stack import wait_until

# Who asks, where there is nothing but keys; and the same where sidecars may decide themselves.
PEOPLE, TEAM, KEY = "believers", "believers", "believer"
MODES = {"identity": PEOPLE, "direct": DIRECT}
# Where the agent has what its key's Secret says of the gateway.
MOUNTED = "/company"
CA = f"--ca={MOUNTED}/ca.crt"
# Whose Secrets they are.
PARTS = ("ledger", "gateway", "operator", "webhook")
# And the one of sidecars, in a namespace where they may decide themselves.
SIDECARS = "tollgate-sidecar-tls"
# In whose pods each is shown, and at which port. The operator's own is shown to the ledger alone.
SHOWN = {"ledger": ("ledger", 4002), "gateway": ("gateway", 4000), "webhook": ("operator", 9443)}
# A kubelet brings a changed Secret or ConfigMap with its next look at the pod, after a minute or more; the operator looks each 30 or 60 s.
BROUGHT = 240.0


@contextlib.contextmanager
def installed(cluster: Cluster, site: Installation, claim: str, **gateway) -> Iterator[Installation]:
    """An installation of one's own, whose books are in a volume of that claim, and with certificates of the operator's everywhere, also to
    clients, if the values of the gateway do not say otherwise."""
    site.uninstall()
    cluster.claim(claim, NAMESPACE)
    values = {**site.values, "ledger": {"persistence": {"existingClaim": claim}}}
    values["gateway"] = {**values["gateway"], "tls": {}, **gateway}
    made = Installation(cluster, site.provider, values)
    made.helm("install")
    yield made
    made.uninstall()


@pytest.fixture(scope="module")
def tollgate(request, cluster: Cluster, site: Installation) -> Iterator[Installation]:
    """One of the file's own, by the name of its CLAIM."""
    with installed(cluster, site, request.module.CLAIM) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def people(cluster: Cluster, tollgate: Installation) -> Iterator[None]:
    """Keys where each mode is tried, and an agent that mounts what comes with its own."""
    installation.restricted_namespace(cluster, PEOPLE)
    resources.apply(cluster, NAMESPACE, resources.open_team(TEAM))
    for namespace in MODES.values():
        resources.make_key(cluster, namespace, KEY, TEAM)
    mount = {"name": "company", "mountPath": MOUNTED, "readOnly": True}
    agent = agents.pod("agent", volumeMounts=[mount], **agents.with_secret(KEY))
    entry = [{"key": "ca.crt", "path": "ca.crt"}]
    agent["spec"]["volumes"] = [{"name": "company", "secret": {"secretName": KEY, "items": entry}}]
    cluster.apply(agent, PEOPLE)
    cluster.wait("pod/agent", "condition=Ready", PEOPLE)
    yield
    for namespace in MODES.values():
        cluster.kubectl("delete", "job/job", "--ignore-not-found", "--wait=false", f"--namespace={namespace}")
        cluster.delete("virtualkeys", KEY, namespace)
    cluster.kubectl("delete", "namespace", PEOPLE, "--wait=false")


def ask(cluster: Cluster, *arguments: str, **changes) -> list[Answer]:
    """The agent, by what is mounted."""
    return agents.messages(cluster, PEOPLE, "agent", CA, *arguments, **changes)


def run_job(cluster: Cluster, mode: str) -> None:
    """One with a sidecar, to its end."""
    cluster.apply(sidecars.job(mode, KEY), MODES[mode])
    cluster.wait("job/job", "condition=Complete", MODES[mode])


def in_secret(site: Installation, part: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(site.secret(f"{RELEASE}-{part}-tls")["tls.crt"])


def shown(cluster: Cluster, what: str = f"service/{RELEASE}-ledger", port: int = 4002) -> x509.Certificate:
    """By the ledger or another, to whoever comes now."""
    with cluster.forward(what, port, NAMESPACE) as here:
        return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", here)).encode())


def pods(site: Installation, *parts: str) -> dict[str, int]:
    """Which there are, and how often they have begun anew."""
    return {
        one["metadata"]["name"]: sum(status["restartCount"] for status in one["status"].get("containerStatuses", []))
        for part in parts or ("ledger", "operator", "gateway")
        for one in site.pods(part)
        if "deletionTimestamp" not in one["metadata"]
    }


def assert_none_has_begun_anew(site: Installation, before: dict[str, int]) -> None:
    assert pods(site) == before, "something has been started anew"


def show_what_they_hold(cluster: Cluster, site: Installation) -> bool:
    """Whether each pod has taken up what is in the Secrets now."""
    return all(
        shown(cluster, f"pod/{pod}", port) == in_secret(site, held)
        for held, (part, port) in SHOWN.items()
        for pod in pods(site, part)
    )


def believed(cluster: Cluster) -> list[str]:
    """By what the API server believes each webhook."""
    webhooks = cluster.get("mutatingwebhookconfiguration", f"{RELEASE}-sidecar-injector")["webhooks"]
    return [base64.b64decode(webhook["clientConfig"].get("caBundle", "")).decode() for webhook in webhooks]


def assert_none_is_the_operators(cluster: Cluster, site: Installation, authority: str) -> None:
    """Neither a certificate nor an authority: all is of the one that is given."""
    with pytest.raises(Refused, match="NotFound"):
        cluster.get("secret", f"{RELEASE}-ca", NAMESPACE)
    assert cluster.find("secrets", "*", "tollgate.dev/secret") == []
    for part in PARTS:
        assert site.secret(f"{RELEASE}-{part}-tls")["ca.crt"].decode() == authority
    assert believed(cluster) == [authority]


def assert_served_until(cluster: Cluster, is_so: Callable[[], bool], what: str) -> None:
    answers = []

    def is_so_after_requests() -> bool:
        answers.extend(ask(cluster, "--count=5"))
        return is_so()

    wait_until(is_so_after_requests, what, BROUGHT)
    assert {answer.status for answer in answers} == {200}, answers


def assert_requests_go_on_until(cluster: Cluster, is_renewed: Callable[[], bool], what: str) -> None:
    """And after it, when every connection to the ledger is made anew."""
    assert_served_until(cluster, is_renewed, what)
    renew_connections(cluster)
    answers = ask(cluster, "--count=5")
    assert {answer.status for answer in answers} == {200}, answers
    # The operator comes to the ledger, too.
    resources.make_key(cluster, PEOPLE, "another", TEAM)
    cluster.delete("virtualkeys", "another", PEOPLE)


def renew_connections(cluster: Cluster) -> None:
    """Each to the ledger, by the newest certificates."""
    cluster.kubectl("rollout", "restart", f"deployment/{RELEASE}-ledger", f"--namespace={NAMESPACE}")
    cluster.rollout(f"deployment/{RELEASE}-ledger", NAMESPACE)
