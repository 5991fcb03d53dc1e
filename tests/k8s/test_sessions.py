"""Budgets on sessions: on each of them, and on those whose name matches a pattern."""

import agents
import pytest
from installation import NAMESPACE, PLATFORM
from resources import apply, is_ready, make_key, open_team
from stack import wait_until

IN_ORDER = True

KEY = TEAM = "sessions"
BUDGETS = ("pipelines", "sessions")


def budget(name: str, pattern: str, amount: str) -> dict:
    spec = {"targetRef": {"kind": "Session", "name": pattern}, "limits": [{"amount": amount, "period": "Lifetime"}]}
    return {"kind": "Budget", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module", autouse=True)
def agent(cluster, tollgate):
    """By a namespace's own budgets, so that no other test's sessions are meant."""
    apply(cluster, NAMESPACE, open_team(TEAM))
    make_key(cluster, PLATFORM, KEY, TEAM)
    agents.start(cluster, PLATFORM, "sessions", **agents.with_secret(KEY))
    yield
    cluster.kubectl("delete", "budgets", *BUDGETS, "--ignore-not-found", "--namespace", PLATFORM)
    cluster.delete("virtualkey", KEY, PLATFORM)
    cluster.delete("team", TEAM, NAMESPACE)


def say(cluster, session: str) -> agents.Answer:
    headers = {**agents.MESSAGES_HEADERS, "x-tollgate-session": session, "x-claude-code-session-id": "of-the-agent"}
    (answer,) = agents.request(cluster, PLATFORM, "sessions", agents.MESSAGES_URL, headers, agents.MESSAGE)
    return answer


def is_refused(answer: agents.Answer) -> bool:
    return answer.status == 402 and "your session" in answer.json()["error"]["message"]


def set_budget(cluster, *budget_of: str) -> None:
    apply(cluster, PLATFORM, budget(*budget_of))
    cluster.watch("budgets", budget_of[0], is_ready, "the budget is ready", PLATFORM)


def test_a_budget_on_sessions_counts_what_those_spend_that_it_names(cluster, tollgate):
    set_budget(cluster, "pipelines", "ci-*", "1")
    answer = say(cluster, "ci-7")
    assert answer.status == 200, answer
    # Less than the answer did cost.
    set_budget(cluster, "pipelines", "ci-*", "0.000001")
    before = tollgate.provider.count()
    wait_until(lambda: "spent" in say(cluster, "ci-7").body, "its cost is posted", 10)
    assert is_refused(say(cluster, "ci-7")) and is_refused(say(cluster, "ci-8"))
    assert say(cluster, "mine").status == 200
    assert tollgate.provider.count() == before + 1
    set_budget(cluster, "pipelines", "ci-*", "1")
    wait_until(lambda: say(cluster, "ci-7").status == 200, "the higher cap counts", 3)


def test_the_lowest_of_those_that_name_a_session_counts(cluster, tollgate):
    set_budget(cluster, "sessions", "*", "0")
    assert is_refused(say(cluster, "mine")) and is_refused(say(cluster, "ci-7"))
    lines = cluster.kubectl("get", "budgets", "--namespace", PLATFORM, "--no-headers").splitlines()
    assert {"Session/*", "Session/ci-*"} <= {line.split()[1] for line in lines}, lines
