"""Many keys, thousands in `make test-long`: how long until each is ready, what an idle operator asks for, and what it takes."""

import concurrent.futures
import json
import os
import time

import agents
import pytest
import resources
from cluster import Cluster
from installation import NAMESPACE, RELEASE
from resources import GROUP, apply, is_ready, open_team

IN_ORDER = True

KEYS = int(os.environ.get("TOLLGATE_MANY_KEYS", "60"))
# Two budgets on each team, by the month and by the day.
TEAMS = max(1, KEYS // 20)
BUDGETS = 2 * TEAMS
NAMESPACES = 10
# The first object to the last status, at the worst.
PATIENCE = 1_800
# Seconds.
IDLE = 120 if KEYS > 1_000 else 10
# On all of these objects.
LABEL = "tests.tollgate.dev/many"
# An idle operator renews its lease every few seconds, and its watches every few minutes.
IDLE_CALLS = 60


def team(number: int) -> dict:
    per_key = {"limits": [{"amount": "100", "period": "Month"}]}
    return open_team(f"team-{number}", organizationRef={"name": "many"}, perKey=per_key)


def budget(number: int, period: str, amount: str) -> dict:
    spec = {"targetRef": {"kind": "Team", "name": f"team-{number}"}, "limits": [{"amount": amount, "period": period}]}
    return {"kind": "Budget", "metadata": {"name": f"team-{number}-{period.lower()}"}, "spec": spec}


def key(number: int) -> dict:
    return resources.key(f"key-{number}", f"team-{number % TEAMS}")


def people(number: int) -> str:
    return f"people-{number}"


def flow() -> list[dict]:
    """Lets the API server count what the operator asks for, and nobody else."""
    account = {"kind": "ServiceAccount", "serviceAccount": {"name": f"{RELEASE}-operator", "namespace": NAMESPACE}}
    anything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    rules = [{"subjects": [account], "resourceRules": [anything]}]
    spec = {"priorityLevelConfiguration": {"name": "workload-low"}, "matchingPrecedence": 100, "rules": rules}
    return [
        {
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "FlowSchema",
            "metadata": {"name": "tollgate-operator"},
            "spec": spec,
        }
    ]


def calls(cluster: Cluster) -> int:
    """How much the operator has asked the API server for."""
    lines = cluster.kubectl("get", "--raw", "/metrics").splitlines()
    name = "apiserver_flowcontrol_dispatched_requests_total{"
    found = [line for line in lines if line.startswith(name) and 'flow_schema="tollgate-operator"' in line]
    return sum(int(float(line.split()[-1])) for line in found)


def memory_mib(cluster: Cluster) -> float:
    """What the kubelet says that the operator takes."""
    (node,) = cluster.find("nodes")
    summary = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"))
    pods = [pod for pod in summary["pods"] if pod["podRef"]["name"].startswith(f"{RELEASE}-operator-")]
    return sum(one["memory"]["workingSetBytes"] for pod in pods for one in pod["containers"]) / 2**20


def gauges(cluster: Cluster, pod: str) -> dict[str, int]:
    """What an operator says of itself."""
    text = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:4003/proxy/metrics")
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("tollgate_operator_"): int(value) for name, value in lines}


def operators(cluster: Cluster) -> list[str]:
    """Those that are not going."""
    pods = cluster.find("pods", NAMESPACE, "app.kubernetes.io/component=operator")
    return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def ready(cluster: Cluster, kind: str) -> int:
    """How many are, as a person would see it."""
    path = "--output=jsonpath={range .items[*]}{.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}"
    return listed(cluster, kind, path).count("True")


def versions(cluster: Cluster, kind: str) -> list[str]:
    """Of every object: who writes one changes it."""
    path = "--output=jsonpath={range .items[*]}{.metadata.uid}={.metadata.resourceVersion}{'\\n'}{end}"
    return sorted(listed(cluster, kind, path))


def listed(cluster: Cluster, kind: str, path: str) -> list[str]:
    return cluster.kubectl("get", kind, "--all-namespaces", f"--selector={LABEL}", path, timeout=300).split()


def settled(cluster: Cluster, kind: str) -> list[str]:
    """Of every object, when nobody has written one for as long as a status may be late."""
    deadline, before = time.monotonic() + 300, versions(cluster, kind)
    while time.monotonic() < deadline:
        time.sleep(5)
        if (now := versions(cluster, kind)) == before:
            return now
        before = now
    raise AssertionError("statuses are written all the time")


def wait_until_ready(cluster: Cluster, kind: str, count: int, since: float) -> float:
    """How long after `since` all are."""
    while (found := ready(cluster, kind)) < count:
        assert time.monotonic() < since + PATIENCE, f"{found} of {count} {kind} are ready"
        time.sleep(2)
    return time.monotonic() - since


@pytest.fixture(scope="module")
def figures(request):
    """What was measured; printed at the end, for docs/kubernetes/install.md."""
    found = {}
    yield found
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + "\n".join(f"{what}: {value}" for what, value in found.items()))


def test_all_get_ready(cluster, tollgate, figures):
    cluster.apply(flow())
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": people(n)}} for n in range(NAMESPACES)])
    figures["operator, MiB, with nothing"] = f"{memory_mib(cluster):.0f}"
    begin = time.monotonic()
    organization = {"kind": "Organization", "metadata": {"name": "many"}, "spec": {}}
    budgets = [budget(n, period, "1000") for n in range(TEAMS) for period in ("Month", "Day")]
    create(cluster, NAMESPACE, [organization, *(team(n) for n in range(TEAMS)), *budgets])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        each = [pool.submit(create, cluster, people(n), [key(k) for k in range(n, KEYS, NAMESPACES)]) for n in range(NAMESPACES)]
        for one in each:
            one.result()
    figures["objects made within, s"] = f"{time.monotonic() - begin:.0f}"
    figures[f"{KEYS} keys ready after, s"] = f"{wait_until_ready(cluster, 'virtualkeys', KEYS, begin):.0f}"
    figures[f"{BUDGETS} budgets ready after, s"] = f"{wait_until_ready(cluster, 'budgets', BUDGETS, begin):.0f}"
    figures["calls of the operator for that"] = calls(cluster)
    figures["operator, MiB, then"] = f"{memory_mib(cluster):.0f}"


def labelled(thing: dict) -> dict:
    return {**thing, "metadata": {**thing["metadata"], "labels": {LABEL: "true"}}}


def create(cluster: Cluster, namespace: str, objects: list[dict]) -> None:
    """One call for each, without looking first."""
    items = [{"apiVersion": GROUP, **labelled(one)} for one in objects]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("create", "--filename=-", "--namespace", namespace, stdin=listed, timeout=PATIENCE)


def test_while_nothing_happens_nothing_is_asked_and_nothing_is_written(cluster, tollgate, figures):
    before, asked = settled(cluster, "virtualkeys,budgets,teams"), calls(cluster)
    # What is measured is a span of time.
    time.sleep(IDLE)
    per_minute = (calls(cluster) - asked) * 60 / IDLE
    figures["calls a minute while idle"] = f"{per_minute:.0f}"
    assert versions(cluster, "virtualkeys,budgets,teams") == before
    assert per_minute <= IDLE_CALLS


def test_one_change_among_many_is_followed(cluster, tollgate, figures):
    agents.start(cluster, people(0), "agent", **agents.with_secret("key-0"))
    (answer,) = agents.messages(cluster, people(0), "agent")
    assert answer.status == 200, answer
    begin = time.monotonic()
    apply(cluster, NAMESPACE, labelled(budget(0, "Month", "0")))
    lowered = lambda thing: thing.get("status", {}).get("tightest", {}).get("amount") == "0"
    cluster.watch("budgets", "team-0-month", lowered, "the lower budget is programmed", NAMESPACE)
    figures["one budget lowered, in status after, s"] = f"{time.monotonic() - begin:.1f}"
    (answer,) = agents.messages(cluster, people(0), "agent")
    assert answer.status == 402, answer


def test_an_operator_that_starts_anew_writes_nothing(cluster, tollgate, figures):
    before, asked = settled(cluster, "virtualkeys,teams"), calls(cluster)
    begin = time.monotonic()
    (pod,) = operators(cluster)
    cluster.kubectl("delete", "pod", pod, f"--namespace={NAMESPACE}")
    cluster.rollout(f"deployment/{RELEASE}-operator", NAMESPACE)
    # It works again when it does something that is asked of it.
    apply(cluster, NAMESPACE, labelled(budget(1, "Month", "500")))
    seen = lambda thing: thing.get("status", {}).get("observedGeneration") == thing["metadata"]["generation"]
    cluster.watch("budgets", "team-1-month", seen, "the operator works again", NAMESPACE)
    figures["operator replaced, at work again after, s"] = f"{time.monotonic() - begin:.0f}"
    figures["calls of its start"] = calls(cluster) - asked
    figures["operator, MiB, after its start"] = f"{memory_mib(cluster):.0f}"
    after = versions(cluster, "virtualkeys,teams")
    changed = set(after) - set(before)
    # The team whose budget changed, and its keys' money.
    assert len(changed) <= 1 + KEYS // TEAMS, f"{len(changed)} objects were written"


def test_of_two_operators_one_works_and_the_other_follows_it(cluster, tollgate, figures):
    deployment = f"deployment/{RELEASE}-operator"
    cluster.kubectl("scale", deployment, "--replicas=2", f"--namespace={NAMESPACE}")
    cluster.rollout(deployment, NAMESPACE)
    said = {pod: gauges(cluster, pod) for pod in operators(cluster)}
    assert sorted(one["leads"] for one in said.values()) == [0, 1]
    # The other knows everything all the same.
    assert {one["virtual_keys"] for one in said.values()} == {len(cluster.find("virtualkeys", "*"))}
    assert {one["budgets"] for one in said.values()} == {len(cluster.find("budgets", "*"))}
    (leader,) = [pod for pod, one in said.items() if one["leads"]]
    begin = time.monotonic()
    cluster.kubectl("delete", "pod", leader, f"--namespace={NAMESPACE}", "--force", "--grace-period=0")
    apply(cluster, people(0), labelled(key(KEYS)))
    cluster.watch("virtualkeys", f"key-{KEYS}", is_ready, "the other one works", people(0))
    figures["leader killed, the other at work after, s"] = f"{time.monotonic() - begin:.0f}"
    cluster.kubectl("scale", deployment, "--replicas=1", f"--namespace={NAMESPACE}")


def test_all_can_be_deleted(cluster, tollgate, figures):
    begin = time.monotonic()
    kinds = "virtualkeys,budgets,teams,organizations"
    cluster.kubectl("delete", kinds, "--all-namespaces", f"--selector={LABEL}", "--wait=false", timeout=PATIENCE)
    while left := versions(cluster, kinds):
        assert time.monotonic() < begin + PATIENCE, f"{len(left)} objects are left"
        time.sleep(2)
    figures["all deleted after, s"] = f"{time.monotonic() - begin:.0f}"
    cluster.kubectl("delete", "flowschema/tollgate-operator", *(f"namespace/{people(n)}" for n in range(NAMESPACES)), "--wait=false")
