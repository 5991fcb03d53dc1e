"""Budgets on sessions: on each of them, and on those whose name matches a pattern."""

import agents
from installation import NAMESPACE, PLATFORM
from resources import apply, is_ready, make_key, open_team


def budget(name: str, pattern: str, amount: str) -> dict:
    spec = {"targetRef": {"kind": "Session", "name": pattern}, "limits": [{"amount": amount, "period": "Lifetime"}]}
    return {"kind": "Budget", "metadata": {"name": name}, "spec": spec}


def test_a_budget_on_sessions_refuses_those_that_it_names(cluster, tollgate):
    """By a namespace's own, so that no other test's sessions are meant."""
    apply(cluster, NAMESPACE, open_team("sessions"))
    make_key(cluster, PLATFORM, "sessions", "sessions")
    agents.start(cluster, PLATFORM, "sessions", **agents.with_secret("sessions"))

    def say(session: str) -> agents.Answer:
        headers = {**agents.MESSAGES_HEADERS, "session-id": session}
        (answer,) = agents.request(cluster, PLATFORM, "sessions", agents.MESSAGES_URL, headers, agents.MESSAGE)
        return answer

    apply(cluster, PLATFORM, budget("pipelines", "ci-*", "0"))
    cluster.watch("budgets", "pipelines", is_ready, "the budget is ready", PLATFORM)
    before = tollgate.provider.count()
    answer = say("ci-7")
    assert answer.status == 402 and answer.json()["error"]["type"] == "billing_error", answer
    assert "session" in answer.json()["error"]["message"], answer
    assert say("mine").status == 200
    assert tollgate.provider.count() == before + 1
    apply(cluster, PLATFORM, budget("sessions", "*", "0"))
    cluster.watch("budgets", "sessions", is_ready, "the other budget is ready", PLATFORM)
    assert say("mine").status == 402
    targets = [line.split()[1] for line in cluster.kubectl("get", "budgets", "--namespace", PLATFORM, "--no-headers").splitlines()]
    assert {"Session/*", "Session/ci-*"} <= set(targets), targets
    for name in ("pipelines", "sessions"):
        cluster.delete("budget", name, PLATFORM)
    cluster.delete("virtualkey", "sessions", PLATFORM)
    cluster.delete("team", "sessions", NAMESPACE)
