"""What a platform team does, from `helm install` on. Each step stands on those before it."""

import concurrent.futures
import decimal
import json
import time

import agents
import installation
import pytest
from cluster import Refused
from installation import NAMESPACE

IN_ORDER = True

# Where the people of k8s/examples work who only make keys.
PEOPLE = "payments"
GROUP = "tollgate.dev/v1alpha1"


def budget(amount: str) -> dict:
    """That of the team, with other limits."""
    limits = [{"amount": amount, "period": "Month", "timeZone": "Europe/Vienna"}]
    target = {"kind": "Team", "name": "payments"}
    return {"kind": "Budget", "metadata": {"name": "payments"}, "spec": {"targetRef": target, "limits": limits}}


def key(name: str, **spec) -> dict:
    return {"kind": "VirtualKey", "metadata": {"name": name}, "spec": {"teamRef": {"name": "payments", "namespace": NAMESPACE}, **spec}}


@pytest.fixture(scope="module")
def tollgate(cluster, authority):
    installation.load_images(cluster)
    with installation.provider(cluster) as provider:
        yield installation.Installation(cluster, provider, installation.prepare(cluster, authority))


@pytest.fixture
def apply(cluster):
    """Applies custom resources to a namespace."""
    return lambda namespace, *objects: cluster.apply([{"apiVersion": GROUP, **one} for one in objects], namespace)


@pytest.fixture
def say(cluster):
    """What an agent says to Anthropic's API, and hears."""
    return lambda pod, *arguments, **changes: agents.messages(cluster, PEOPLE, pod, *arguments, **changes)


def condition(thing: dict, kind: str) -> dict:
    """A condition that is about the object as it is now."""
    status = thing.get("status", {})
    found = [one for one in status.get("conditions", []) if one["type"] == kind]
    return found[0] if found and found[0].get("observedGeneration") == thing["metadata"]["generation"] else {}


def is_ready(thing: dict) -> bool:
    return condition(thing, "Ready").get("status") == "True"


def test_the_chart_is_installed_and_everything_gets_ready(cluster, tollgate):
    notes = tollgate.helm("install")
    assert "kubectl" in notes
    for part in ("ledger", "operator", "gateway"):
        cluster.rollout(f"deployment/{installation.RELEASE}-{part}", NAMESPACE)


def test_the_examples_get_ready_and_keys_become_secrets(cluster, tollgate):
    cluster.apply(installation.EXAMPLES)
    for kind in ("organizations", "teams", "budgets", "virtualkeys"):
        for one in cluster.find(f"{kind}.tollgate.dev", "*"):
            name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
            cluster.watch(f"{kind}.tollgate.dev", name, is_ready, f"{namespace}/{name} of the {kind} is ready", namespace)
    for name in ("alice", "reviewer-llm"):
        entries = cluster.get("secret", name, PEOPLE)["data"]
        assert {"ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"} <= set(entries)


def test_budgets_are_listed_with_their_money(cluster, tollgate):
    head, *lines = cluster.kubectl("get", "budgets", "--namespace", NAMESPACE).splitlines()
    assert head.split() == "NAME TARGET LIMIT PERIOD POSTED PENDING AVAILABLE USED % RESETS READY".split()
    (line,) = [line for line in lines if line.startswith("payments ")]
    assert line.split()[1:4] == ["Team/payments", "150", "Day"], line


def test_an_agent_needs_nothing_but_the_secret_and_its_spend_shows(cluster, tollgate, say):
    agents.start(cluster, PEOPLE, "alice", **agents.with_secret("alice"))
    before = tollgate.provider.count()
    (answer,) = say("alice")
    assert answer.status == 200, answer
    (answer,) = agents.chat(cluster, PEOPLE, "alice")
    assert answer.status == 200, answer
    (answer,) = say("alice", stream=True)
    assert answer.status == 200 and "message_stop" in answer.body, answer
    assert tollgate.provider.count() == before + 3
    spent = lambda thing: decimal.Decimal(thing.get("status", {}).get("spend") or 0) > 0
    cluster.watch("virtualkeys", "alice", spent, "the key's spend shows", PEOPLE, patience=10)
    posted = lambda thing: decimal.Decimal(thing["status"]["tightest"].get("posted") or 0) > 0
    cluster.watch("budgets", "payments", posted, "the budget's spend shows", NAMESPACE, patience=10)


def test_a_changed_budget_counts_for_the_very_next_request(cluster, tollgate, apply, say):
    before = tollgate.provider.count()
    apply(NAMESPACE, budget("0"))
    cluster.watch("budgets", "payments", programmed, "the lower budget is programmed", NAMESPACE, patience=10)
    (answer,) = say("alice")
    assert answer.status == 402 and answer.json()["error"]["type"] == "billing_error", answer
    assert tollgate.provider.count() == before
    apply(NAMESPACE, budget("100"))
    cluster.watch("budgets", "payments", is_ready, "the higher budget is programmed", NAMESPACE, patience=10)
    (answer,) = say("alice")
    assert answer.status == 200, answer


def programmed(thing: dict) -> bool:
    return condition(thing, "Programmed").get("status") == "True"


def test_a_model_that_a_key_does_not_allow_is_refused(cluster, tollgate, say):
    agents.start(cluster, PEOPLE, "reviewer", **agents.with_secret("reviewer-llm"))
    before = tollgate.provider.count()
    (answer,) = say("reviewer", model="claude-opus-4-20250514")
    assert answer.status == 403 and answer.json()["error"]["type"] == "permission_error", answer
    assert tollgate.provider.count() == before


def test_a_namespace_that_the_team_does_not_allow_gets_no_key(cluster, tollgate, apply, namespace):
    apply(namespace, key("mallory"))
    unresolved = lambda thing: condition(thing, "ResolvedRefs").get("status") == "False"
    thing = cluster.watch("virtualkeys", "mallory", unresolved, "the reference is not resolved", namespace)
    assert condition(thing, "Ready")["status"] == "False"
    assert cluster.find("secrets", namespace) == []


def test_a_secret_that_a_quota_forbids_is_said_in_the_key(cluster, tollgate, apply, namespace):
    cluster.kubectl("label", "namespace", namespace, "tollgate.dev/team=payments")
    cluster.kubectl("create", "quota", "no-secrets", "--hard=count/secrets=0", "--namespace", namespace)
    cluster.wait("resourcequota/no-secrets", "jsonpath={.status.hard}", namespace)
    apply(namespace, key("late"))
    refused = lambda thing: condition(thing, "Ready").get("reason") == "SecretRefused"
    thing = cluster.watch("virtualkeys", "late", refused, "the key says that there is no Secret", namespace)
    assert "exceeded quota" in condition(thing, "Ready")["message"], thing
    cluster.delete("virtualkey", "late", namespace)


def test_a_rotated_key_works_until_the_overlap_ends(cluster, tollgate, apply, say):
    apply(PEOPLE, key("alice", rotation={"every": "720h", "overlap": "15s"}))
    old = cluster.get("secret", "alice", PEOPLE)["data"]["ANTHROPIC_API_KEY"]
    cluster.kubectl("annotate", "virtualkey", "alice", "tollgate.dev/rotate=once", "--namespace", PEOPLE)
    cluster.watch("secrets", "alice", lambda it: it["data"]["ANTHROPIC_API_KEY"] != old, "a new key is there", PEOPLE)
    cluster.watch("virtualkeys", "alice", lambda it: it["status"].get("previous"), "the old key is listed", PEOPLE)
    agents.start(cluster, PEOPLE, "alice-anew", **agents.with_secret("alice"))
    for pod in ("alice", "alice-anew"):
        (answer,) = say(pod)
        assert answer.status == 200, (pod, answer)
    cluster.watch("virtualkeys", "alice", lambda it: not it["status"].get("previous"), "the overlap is over", PEOPLE)
    (answer,) = say("alice")
    assert answer.status == 401 and answer.json()["error"]["type"] == "authentication_error", answer
    (answer,) = say("alice-anew")
    assert answer.status == 200, answer


def test_a_deleted_secret_comes_again_with_another_key(cluster, tollgate, say):
    old = cluster.get("secret", "alice", PEOPLE)["data"]["ANTHROPIC_API_KEY"]
    cluster.delete("secret", "alice", PEOPLE)
    cluster.watch("secrets", "alice", lambda it: it["data"]["ANTHROPIC_API_KEY"] != old, "a new key is there", PEOPLE)
    (answer,) = say("alice-anew")
    assert answer.status == 401, answer


def test_a_deleted_key_is_refused_from_the_next_request_on(cluster, tollgate, say):
    agents.start(cluster, PEOPLE, "alice-last", **agents.with_secret("alice"))
    (answer,) = say("alice-last")
    assert answer.status == 200, answer
    cluster.delete("virtualkey", "alice", PEOPLE)
    (answer,) = say("alice-last")
    assert answer.status == 401, answer
    assert "alice" not in [one["metadata"]["name"] for one in cluster.find("secrets", PEOPLE)]


def test_no_key_shows_where_it_must_not(cluster, tollgate):
    """Not in a status, an event, an annotation or a log."""
    seen = json.dumps([cluster.find(kind, "*") for kind in ("virtualkeys", "budgets", "events", "pods")])
    for part in ("ledger", "operator", "gateway"):
        seen += cluster.logs(f"deployment/{installation.RELEASE}-{part}", NAMESPACE)
    assert "sk-tg-" not in seen


def test_a_job_with_a_sidecar_holds_no_key_and_ends(cluster, tollgate, apply):
    apply(PEOPLE, key("batch"))
    cluster.watch("virtualkeys", "batch", is_ready, "the key is ready", PEOPLE)
    headers = ("--header=x-api-key: $ANTHROPIC_API_KEY", "--header=anthropic-version: 2023-06-01", "--header=content-type: application/json")
    said = ["request", "--strict", *headers, f"--data={json.dumps(agents.MESSAGE)}", "$ANTHROPIC_BASE_URL/v1/messages"]
    metadata = {"labels": {"tollgate.dev/inject": "true"}, "annotations": {"tollgate.dev/key": "batch"}}
    template = {"metadata": metadata, "spec": {"containers": [agents.container(*said)], "restartPolicy": "Never"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "batch"}, "spec": {"backoffLimit": 0, "template": template}}
    before = tollgate.provider.count()
    cluster.apply(job, PEOPLE)
    cluster.wait("job/batch", "condition=Complete", PEOPLE)
    assert tollgate.provider.count() == before + 1
    (pod,) = cluster.find("pods", PEOPLE, "batch.kubernetes.io/job-name=batch")
    (agent,) = pod["spec"]["containers"]
    given = {one["name"]: one.get("value", "") for one in agent["env"]}
    assert given["ANTHROPIC_BASE_URL"].startswith("http://127.0.0.1:"), given
    assert not given["ANTHROPIC_API_KEY"].startswith("sk-tg-"), given
    mounted = {mount["name"] for mount in agent.get("volumeMounts", [])}
    holds_key = {volume["name"] for volume in pod["spec"]["volumes"] if "batch" in json.dumps(volume.get("secret", {}))}
    assert not mounted & holds_key


def test_a_pod_that_shares_its_processes_gets_no_sidecar(cluster, tollgate):
    pod = agents.pod("curious", labels={"tollgate.dev/inject": "true"}, annotations={"tollgate.dev/key": "batch"})
    pod["spec"]["shareProcessNamespace"] = True
    with pytest.raises(Refused, match="shareProcessNamespace"):
        cluster.apply(pod, PEOPLE)


def kill(cluster, part: str) -> None:
    """One pod of a part, without a warning."""
    selector = f"app.kubernetes.io/component={part}"
    pod, *_ = cluster.find("pods", NAMESPACE, selector)
    cluster.kubectl("delete", "pod", pod["metadata"]["name"], "--namespace", NAMESPACE, "--grace-period=0", "--force")


def test_a_killed_operator_catches_up(cluster, tollgate, apply):
    kill(cluster, "operator")
    apply(NAMESPACE, budget("101"))
    shown = lambda thing: is_ready(thing) and thing["status"]["tightest"]["amount"] == "101"
    cluster.watch("budgets", "payments", shown, "the budget is programmed", NAMESPACE)


def test_a_killed_ledger_costs_no_request(cluster, tollgate, apply, say):
    """Requests wait for it."""
    # Of a team without rates.
    apply(NAMESPACE, {"kind": "Team", "metadata": {"name": "fast"}, "spec": {"allowedNamespaces": {"from": "All"}}})
    apply(PEOPLE, key("fast", teamRef={"name": "fast", "namespace": NAMESPACE}))
    cluster.watch("virtualkeys", "fast", is_ready, "the key is ready", PEOPLE)
    agents.start(cluster, PEOPLE, "fast", **agents.with_secret("fast"))
    before = tollgate.provider.count()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        load = pool.submit(say, "fast", "--for=15s", "--parallel=4")
        # Not before the load is there.
        wait_for_more(tollgate.provider, before + 20)
        kill(cluster, "ledger")
        answers = load.result()
    assert [answer for answer in answers if answer.status != 200] == []
    assert tollgate.provider.count() == before + len(answers)


def wait_for_more(provider, count: int) -> None:
    deadline = time.monotonic() + 30
    while provider.count() < count:
        assert time.monotonic() < deadline, "no load"
        time.sleep(0.05)


def test_an_uninstall_leaves_what_people_own(cluster, tollgate):
    cluster.helm("uninstall", installation.RELEASE, f"--namespace={NAMESPACE}", "--wait", "--timeout=2m")
    assert cluster.find("deployments.apps", NAMESPACE) == []
    for definition in ("budgets", "organizations", "teams", "users", "virtualkeys"):
        cluster.get("customresourcedefinition", f"{definition}.{GROUP.split('/')[0]}")
    assert [claim["status"]["phase"] for claim in cluster.find("persistentvolumeclaims", NAMESPACE)] == ["Bound"]
    assert cluster.get("secret", "batch", PEOPLE)["data"]["ANTHROPIC_API_KEY"]
    assert cluster.get("secret", f"{installation.RELEASE}-master-key", NAMESPACE)
