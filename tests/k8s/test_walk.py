"""What a platform team does, from `helm install` on. Each step stands on those before it."""

import decimal
import functools
import json

import agents
import installation
import pytest
import resources
from certificates import BROUGHT
from installation import NAMESPACE
from resources import GROUP, condition, is_programmed, is_ready, key, wait_until_ready
from stack import wait_until

IN_ORDER = True

# Where the people of k8s/examples work who only make keys.
PEOPLE = "payments"


def budget(amount: str, alerts: tuple[int, ...] = ()) -> dict:
    """That of the team, with other limits."""
    limits = [{"amount": amount, "period": "Month", "timeZone": "Europe/Vienna"}]
    spec = {
        "targetRef": {"kind": "Team", "name": "payments"},
        "limits": limits,
        "alerts": [{"percent": percent} for percent in alerts],
    }
    return {"kind": "Budget", "metadata": {"name": "payments"}, "spec": spec}


@pytest.fixture
def apply(cluster):
    """Applies custom resources to a namespace."""
    return functools.partial(resources.apply, cluster)


@pytest.fixture
def say(cluster):
    """What an agent says to Anthropic's API, and hears."""
    return lambda pod, *arguments, **changes: agents.messages(cluster, PEOPLE, pod, *arguments, **changes)


def test_the_chart_is_installed_and_everything_gets_ready(cluster, tollgate):
    assert "kubectl" in tollgate.notes
    for part in ("ledger", "operator", "gateway"):
        cluster.rollout(f"deployment/{installation.RELEASE}-{part}", NAMESPACE)


def test_the_examples_get_ready_and_keys_become_secrets(cluster, tollgate):
    cluster.apply(installation.EXAMPLES)
    for kind in ("organizations", "teams", "users", "budgets", "pricebooks", "virtualkeys"):
        for one in cluster.find(f"{kind}.tollgate.dev", "*"):
            name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
            wait_until_ready(cluster, f"{kind}.tollgate.dev", name, namespace)
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
    head, *lines = cluster.kubectl("get", "virtualkeys", "--namespace", PEOPLE).splitlines()
    assert head.split() == "NAME TEAM USER SPEND LAST USED EXPIRES READY AGE".split()
    (line,) = [line.split() for line in lines if line.startswith("alice ")]
    assert line[1:3] == ["payments", "alice"] and decimal.Decimal(line[3]) > 0 and line[-2] == "True", line


def test_a_part_of_a_budget_that_is_spent_is_told_once(cluster, tollgate, apply):
    posted = decimal.Decimal(cluster.get("budgets", "payments", NAMESPACE)["status"]["tightest"]["posted"])
    apply(NAMESPACE, budget(f"{posted * 4 / 3:.9f}", alerts=(50, 90)))
    cluster.watch_event("ThresholdCrossed", "Budget", "payments", NAMESPACE)
    cluster.watch("budgets", "payments", is_ready, "the budget is ready", NAMESPACE, patience=10)
    told = [event["note"] for event in cluster.events("ThresholdCrossed", "Budget", "payments", NAMESPACE)]
    assert sum("50 %" in note for note in told) == 1, told


def test_a_changed_budget_counts_for_the_very_next_request(cluster, tollgate, apply, say):
    before = tollgate.provider.count()
    apply(NAMESPACE, budget("0"))
    cluster.watch("budgets", "payments", is_programmed, "the lower budget is programmed", NAMESPACE, patience=10)
    (answer,) = say("alice")
    assert answer.status == 402 and answer.json()["error"]["type"] == "billing_error", answer
    assert tollgate.provider.count() == before
    cluster.watch_event("Exhausted", "Budget", "payments", NAMESPACE)
    apply(NAMESPACE, budget("100"))
    cluster.watch("budgets", "payments", is_ready, "the higher budget is programmed", NAMESPACE, patience=10)
    # The denial is confirmed once a second at most, and may have been just now.
    wait_until(lambda: say("alice")[0].status == 200, "the request passes", 3)
    # Told once, however often the operator has looked since.
    assert len(cluster.events("Exhausted", "Budget", "payments", NAMESPACE)) == 1


def test_a_model_that_a_key_does_not_allow_is_refused(cluster, tollgate, say):
    agents.start(cluster, PEOPLE, "reviewer", **agents.with_secret("reviewer-llm"))
    before = tollgate.provider.count()
    (answer,) = say("reviewer", model="claude-opus-4-20250514")
    assert answer.status == 403 and answer.json()["error"]["type"] == "permission_error", answer
    assert tollgate.provider.count() == before


def test_a_namespace_that_the_team_does_not_allow_gets_no_key(cluster, tollgate, apply, namespace):
    apply(namespace, key("mallory", "payments"))
    unresolved = lambda thing: condition(thing, "ResolvedRefs").get("status") == "False"
    thing = cluster.watch("virtualkeys", "mallory", unresolved, "the reference is not resolved", namespace)
    assert condition(thing, "Ready")["status"] == "False"
    assert cluster.find("secrets", namespace) == []


def test_a_secret_that_a_quota_forbids_is_said_in_the_key(cluster, tollgate, apply, namespace):
    cluster.kubectl("label", "namespace", namespace, "tollgate.dev/team=payments")
    cluster.kubectl("create", "quota", "no-secrets", "--hard=count/secrets=0", "--namespace", namespace)
    cluster.wait("resourcequota/no-secrets", "jsonpath={.status.hard}", namespace)
    apply(namespace, key("late", "payments"))
    refused = lambda thing: condition(thing, "Ready").get("reason") == "SecretRefused"
    thing = cluster.watch("virtualkeys", "late", refused, "the key says that there is no Secret", namespace)
    assert "exceeded quota" in condition(thing, "Ready")["message"], thing
    cluster.delete("virtualkey", "late", namespace)


def test_a_changed_credential_of_a_provider_is_used_without_a_restart(cluster, tollgate, say):
    def change(key: str) -> None:
        cluster.apply(installation.secret("provider-anthropic", {"api-key": key}), NAMESPACE)

    # So many connections come to every gateway.
    several = lambda: say("alice", "--count=16", "--header=connection: close")
    before = [pod["metadata"]["uid"] for pod in tollgate.pods("gateway")]
    change("one-that-the-provider-does-not-know")
    wait_until(lambda: all("credential" in answer.body for answer in several()), "the new credential is used", BROUGHT)
    change(installation.PROVIDER_KEYS["anthropic"])
    wait_until(lambda: {answer.status for answer in several()} == {200}, "the old one is back", BROUGHT)
    after = tollgate.pods("gateway")
    assert [pod["metadata"]["uid"] for pod in after] == before
    assert all(one["restartCount"] == 0 for pod in after for one in pod["status"]["containerStatuses"])


def test_a_rotated_key_works_until_the_overlap_ends(cluster, tollgate, apply, say):
    user = {"name": "alice", "namespace": NAMESPACE}
    apply(PEOPLE, key("alice", "payments", userRef=user, rotation={"every": "720h", "overlap": "15s"}))
    old = cluster.get("secret", "alice", PEOPLE)["data"]["ANTHROPIC_API_KEY"]
    cluster.kubectl("annotate", "virtualkey", "alice", "tollgate.dev/rotate=once", "--namespace", PEOPLE)
    cluster.watch("secrets", "alice", lambda it: it["data"]["ANTHROPIC_API_KEY"] != old, "a new key is there", PEOPLE)
    cluster.watch("virtualkeys", "alice", lambda it: it["status"].get("previous"), "the old key is listed", PEOPLE)
    cluster.watch_event("KeyRotated", "VirtualKey", "alice", PEOPLE)
    agents.start(cluster, PEOPLE, "alice-anew", **agents.with_secret("alice"))
    for pod in ("alice", "alice-anew"):
        (answer,) = say(pod)
        assert answer.status == 200, (pod, answer)
    cluster.watch("virtualkeys", "alice", lambda it: not it["status"].get("previous"), "the overlap is over", PEOPLE)
    (answer,) = say("alice")
    assert answer.status == 401 and answer.json()["error"]["type"] == "authentication_error", answer
    (answer,) = say("alice-anew")
    assert answer.status == 200, answer
    assert len(cluster.events("KeyRotated", "VirtualKey", "alice", PEOPLE)) == 1


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
    """Not in a status, an event, an annotation, that of its own Secret included, or the log of any pod of ours."""
    seen = json.dumps([cluster.find(kind, "*") for kind in ("virtualkeys", "budgets", "events", "pods")])
    secrets = [one["metadata"] for one in cluster.find("secrets", "*")]
    assert "reviewer-llm" in [one["name"] for one in secrets]
    seen += json.dumps(secrets)
    for part in ("ledger", "operator", "gateway"):
        pods = tollgate.pods(part)
        assert pods, part
        seen += "".join(cluster.logs(pod["metadata"]["name"], NAMESPACE) for pod in pods)
    assert "sk-tg-" not in seen


def test_an_uninstall_leaves_what_people_own(cluster, tollgate):
    # Whoever installs it next in these tests goes by the prices that Tollgate ships.
    cluster.kubectl("delete", "pricebooks", "--all", f"--namespace={NAMESPACE}")
    cluster.helm("uninstall", installation.RELEASE, f"--namespace={NAMESPACE}", "--wait", "--timeout=2m")
    assert cluster.find("deployments.apps", NAMESPACE) == []
    for definition in ("budgets", "organizations", "pricebooks", "teams", "users", "virtualkeys"):
        cluster.get("customresourcedefinition", f"{definition}.{GROUP.split('/')[0]}")
    assert [claim["status"]["phase"] for claim in cluster.find("persistentvolumeclaims", NAMESPACE)] == ["Bound"]
    assert cluster.get("secret", "reviewer-llm", PEOPLE)["data"]["ANTHROPIC_API_KEY"]
    assert cluster.get("secret", f"{installation.RELEASE}-master-key", NAMESPACE)
