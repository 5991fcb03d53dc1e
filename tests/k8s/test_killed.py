"""Each part is killed under load, without a warning: nothing is lost, and nothing overspent."""

import concurrent.futures
import contextlib
import dataclasses
import decimal
import json
import secrets
import time

import agents
import installation
import pytest
import resources
from accounts import KeyBooks, at_most
from cluster import Cluster, Refused, only_on_the_tests_own
from installation import NAMESPACE, Installation
from stack import wait_until

PEOPLE = "loaded"
# What a key has that runs out: as much as ten seconds of the load cost, because the gateways are killed after one or two.
LIMIT = "1"
# The team of each agent's key; an agent is named by what it sees, a death but for one.
TEAMS = {"operator": "steady", "ledger": "steady", "eviction": "steady", "gateway": "limited"}


@dataclasses.dataclass
class Load:
    """Many requests at once, of which each can be told from all others."""

    cluster: Cluster
    tollgate: Installation
    # The agent, and its key.
    who: str
    name: str = dataclasses.field(default_factory=lambda: secrets.token_hex(4))
    answers: list[agents.Answer] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def running(self, seconds: int, *more: str):
        """As long as the body lasts, and some seconds at least."""
        # An answer takes a while, so that some are always on their way, and costs all that was held for it.
        how = (f"--for={seconds}s", "--parallel=8", "--header=x-mock-delay-ms: 100", "--header=x-mock-output: 100", *more)
        told = {"user_id": f"{self.name}-$NUMBER"}
        before = self.tollgate.provider.count()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            load = pool.submit(agents.messages, self.cluster, PEOPLE, self.who, *how, metadata=told)
            wait_for_more(self.tollgate.provider, before + 20)
            yield
            self.answers = load.result()

    def statuses(self) -> set[int]:
        return {answer.status for answer in self.answers}

    @contextlib.contextmanager
    def books(self):
        key = self.tollgate.secret(self.who, PEOPLE)["ANTHROPIC_API_KEY"].decode()
        with self.tollgate.ledger() as ledger:
            yield KeyBooks(ledger, self.tollgate.provider, key, self.name)


def wait_for_more(provider, count: int) -> None:
    wait_until(lambda: provider.count() >= count, "there is load", 30)


@pytest.fixture(scope="module")
def people(cluster, tollgate):
    """Agents of two teams without rates: one has a limit that the load reaches."""
    cluster.kubectl("create", "namespace", PEOPLE)
    limited = resources.open_team("limited", perKey=resources.lifetime(LIMIT))
    resources.apply(cluster, NAMESPACE, resources.open_team("steady"), limited)
    resources.apply(cluster, PEOPLE, *(resources.key(name, team) for name, team in TEAMS.items()))
    for name in TEAMS:
        resources.wait_until_ready(cluster, "virtualkeys", name, PEOPLE)
    cluster.apply([agents.pod(name, **agents.with_secret(name)) for name in TEAMS], PEOPLE)
    for name in TEAMS:
        cluster.wait(f"pod/{name}", "condition=Ready", PEOPLE)
    yield
    cluster.delete("virtualkeys", "--all", PEOPLE)
    cluster.kubectl("delete", "namespace", PEOPLE, "--wait=false")


@pytest.fixture
def load(cluster, tollgate, people):
    """Of an agent."""
    return lambda who: Load(cluster, tollgate, who)


def kill(tollgate: Installation, part: str) -> None:
    """Every pod of a part, without a warning."""
    names = [pod["metadata"]["name"] for pod in tollgate.pods(part)]
    tollgate.cluster.kubectl("delete", "pod", *names, "--namespace", NAMESPACE, "--grace-period=0", "--force")


def test_a_killed_operator_costs_no_request_and_catches_up(cluster, tollgate, load):
    load = load("operator")
    with load.running(seconds=5):
        kill(tollgate, "operator")
        resources.make_key(cluster, PEOPLE, "late", "steady")
    assert load.statuses() == {200}
    with load.books() as books:
        assert len(books.accounted()) == len(load.answers)


def test_an_api_server_that_answers_nobody_costs_no_request_and_is_caught_up_with(cluster, tollgate, people):
    """Whoever is there goes on, the operator too, although it cannot say that it leads."""
    only_on_the_tests_own("the tests stop only the API server of a node of their own")
    before = tollgate.provider.count()
    # It says what it has heard to nobody but its own log, because whoever listens does so by the API server.
    load = agents.pod("alone", *agents.message_arguments("--for=30s", "--parallel=2", "--header=x-mock-delay-ms: 100"), **agents.with_secret("operator"))
    load["spec"]["restartPolicy"] = "Never"
    cluster.apply(load, PEOPLE)
    wait_for_more(tollgate.provider, before + 5)
    with cluster.mute():
        # What is tried is a span of time.
        time.sleep(20)
    resources.make_key(cluster, PEOPLE, "later", "steady")
    cluster.wait("pod/alone", "jsonpath={.status.phase}=Succeeded", PEOPLE)
    answers = [json.loads(line) for line in cluster.kubectl("logs", "alone", "--namespace", PEOPLE).splitlines()]
    assert {answer["status"] for answer in answers} == {200}
    assert tollgate.provider.count() == before + len(answers)
    (operator,) = tollgate.pods("operator")
    assert [status["restartCount"] for status in operator["status"]["containerStatuses"]] == [0], operator["status"]


def test_a_killed_ledger_costs_no_request(cluster, tollgate, load):
    """Requests wait for it."""
    load = load("ledger")
    with load.running(seconds=10):
        kill(tollgate, "ledger")
    assert load.statuses() == {200}
    cluster.rollout(f"deployment/{installation.RELEASE}-ledger", NAMESPACE)
    with load.books() as books:
        assert len(books.accounted()) == len(load.answers)


def test_evicted_gateways_go_one_by_one_and_cost_no_request(cluster, tollgate, load):
    """As when a node is drained."""
    names = [pod["metadata"]["name"] for pod in tollgate.pods("gateway")]
    load = load("eviction")
    with load.running(seconds=15):
        evict(cluster, names[0])
        with pytest.raises(Refused, match="disruption budget"):
            evict(cluster, names[1])
        cluster.rollout(f"deployment/{installation.RELEASE}-gateway", NAMESPACE)
        wait_until(lambda: may_evict(cluster, names[1]), "the other may go, too", 60)
    assert load.statuses() == {200}
    cluster.rollout(f"deployment/{installation.RELEASE}-gateway", NAMESPACE)
    with load.books() as books:
        assert len(books.accounted()) == len(load.answers)


def evict(cluster: Cluster, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    cluster.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))


def may_evict(cluster: Cluster, pod: str) -> bool:
    try:
        evict(cluster, pod)
    except Refused:
        return False
    return True


def test_killed_gateways_cut_what_is_open_and_the_budget_holds(cluster, tollgate, load):
    """What they knew of is gone, and stays held; so nothing is spent twice, although the agents go on until nothing is left."""
    load = load("gateway")
    with load.running(60, "--until=402"):
        kill(tollgate, "gateway")
    cluster.rollout(f"deployment/{installation.RELEASE}-gateway", NAMESPACE)
    # Some may be cut or not let in; then the agents are served again, until the key has spent its limit.
    assert {200, 402} <= load.statuses() <= {0, 200, 402}
    served = [answer.status for answer in load.answers]
    if 0 in served:
        assert 200 in served[served.index(0) :], "nothing was served after it"
    limit = decimal.Decimal(LIMIT)
    with load.books() as books:
        unreported = books.unreported()
        info = books.info()
        # As many as were open, of which some had their end in time.
        assert len(unreported) < 200, len(unreported)
        assert at_most(books.arrived().values()) <= info["spend"] + info["pending"] <= limit
