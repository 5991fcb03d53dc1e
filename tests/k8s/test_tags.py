"""Budgets on tags: outside the release's namespace they are of their own namespace's keys."""

import agents
from installation import NAMESPACE, PLATFORM
from resources import apply, is_programmed, make_key, open_team

TAG = "project:tags"


def budget(amount: str) -> dict:
    spec = {"targetRef": {"kind": "Tag", "name": TAG}, "limits": [{"amount": amount, "period": "Day"}]}
    return {"kind": "Budget", "metadata": {"name": "tag"}, "spec": spec}


def test_a_budget_on_a_tag_in_a_platform_namespace_refuses_its_own_keys(cluster, tollgate, namespace):
    apply(cluster, NAMESPACE, open_team("tagged"))
    apply(cluster, PLATFORM, budget("0"))
    cluster.watch("budgets", "tag", is_programmed, "the budget is programmed", PLATFORM)
    for home in (PLATFORM, namespace):
        make_key(cluster, home, "tagged", "tagged", tags=[TAG])
        agents.start(cluster, home, "tagged", **agents.with_secret("tagged"))
    before = tollgate.provider.count()
    (answer,) = agents.messages(cluster, PLATFORM, "tagged")
    assert answer.status == 402 and answer.json()["error"]["type"] == "billing_error", answer
    (answer,) = agents.messages(cluster, namespace, "tagged")
    assert answer.status == 200, answer
    assert tollgate.provider.count() == before + 1
    # In the release's namespace it is of every key.
    apply(cluster, NAMESPACE, budget("0"))
    cluster.watch("budgets", "tag", is_programmed, "the other budget is programmed", NAMESPACE)
    (answer,) = agents.messages(cluster, namespace, "tagged")
    assert answer.status == 402, answer
    for home in (NAMESPACE, PLATFORM):
        cluster.delete("budget", "tag", home)
    for home in (PLATFORM, namespace):
        cluster.delete("virtualkey", "tagged", home)
    cluster.delete("team", "tagged", NAMESPACE)
