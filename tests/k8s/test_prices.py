"""Prices of a platform's own: what a PriceBook says counts for the next request, and no longer when it is gone.

A name that a gateway has just refused may stay refused for a second: denials are confirmed no more often.
"""

import decimal
import json
import secrets

import agents
import pytest
from installation import NAMESPACE
from resources import apply, condition, is_ready, make_key, open_team, spend
from stack import wait_until

IN_ORDER = True

# The examples' price list, in US dollars per million tokens, of the model that agents ask for.
INPUT, OUTPUT = decimal.Decimal(3), decimal.Decimal(15)
MILLION = 10**6


@pytest.fixture(scope="module")
def people(cluster, tollgate):
    """A namespace with an agent, whose key is of a team without limits."""
    name = f"prices-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    apply(cluster, NAMESPACE, open_team("priced"))
    make_key(cluster, name, "agent", "priced")
    agents.start(cluster, name, "agent", **agents.with_secret("agent"))
    yield name
    cluster.delete("virtualkey", "agent", name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def book(**spec) -> dict:
    return {"kind": "PriceBook", "metadata": {"name": "contract"}, "spec": spec}


def costs(cluster, people: str, part: decimal.Decimal, **changes) -> None:
    """A request of the agent costs this part of the list price."""
    before = spend(cluster.get("virtualkeys", "agent", people))
    (answer,) = agents.messages(cluster, people, "agent", **changes)
    if "model" in changes and answer.status != 200:
        again = lambda: (answers := agents.messages(cluster, people, "agent", **changes))[0].status == 200 and answers
        (answer,) = wait_until(again, f"{changes['model']} is a model", 3)
    assert answer.status == 200, answer
    usage = answer.json()["usage"]
    expected = part * (INPUT * usage["input_tokens"] + OUTPUT * usage["output_tokens"]) / MILLION
    settled = lambda thing: spend(thing) > before and decimal.Decimal(thing["status"].get("pending") or 0) == 0
    after = cluster.watch("virtualkeys", "agent", settled, "the spend shows", people, patience=20)
    assert spend(after) - before == expected, (usage, json.dumps(after["status"]))


def test_without_a_price_book_a_request_costs_the_list_price(cluster, people):
    costs(cluster, people, decimal.Decimal(1))
    (answer,) = agents.messages(cluster, people, "agent", model="house-model")
    assert answer.status in (400, 403, 404), answer


def test_a_discount_and_an_alias_count_for_the_next_request(cluster, people):
    aliases = [{"alias": "house-model", "model": agents.MESSAGE["model"]}]
    apply(cluster, NAMESPACE, book(discounts=[{"provider": "anthropic", "percent": "12.5"}], aliases=aliases))
    cluster.watch("pricebooks", "contract", is_ready, "the prices are in force", NAMESPACE, patience=20)
    costs(cluster, people, decimal.Decimal("0.875"))
    costs(cluster, people, decimal.Decimal("0.875"), model="house-model")
    head, line = cluster.kubectl("get", "pricebooks", "--namespace", NAMESPACE).splitlines()
    assert head.split() == ["NAME", "MODELS", "DISCOUNTS", "ALIASES", "READY", "AGE"]
    assert line.split()[:5] == ["contract", "0", "1", "1", "True"]


def test_a_fault_is_said_and_the_prices_stay_as_they_were(cluster, people):
    apply(cluster, NAMESPACE, book(discounts=[{"model": "claude-nonsense", "percent": "50"}], aliases=[]))
    refused = lambda thing: condition(thing, "Accepted").get("reason") == "ModelNotFound"
    thing = cluster.watch("pricebooks", "contract", refused, "the fault is said", NAMESPACE, patience=20)
    assert "spec.discounts[0].model: no model is called claude-nonsense" in condition(thing, "Accepted")["message"]
    costs(cluster, people, decimal.Decimal("0.875"), model="house-model")


def test_a_price_book_of_a_namespace_that_is_not_listed_counts_nothing(cluster, people):
    apply(cluster, people, book(discounts=[{"provider": "anthropic", "percent": "99"}]))
    unlisted = lambda thing: condition(thing, "Accepted").get("reason") == "NamespaceNotListed"
    cluster.watch("pricebooks", "contract", unlisted, "it counts nothing", people, patience=20)
    costs(cluster, people, decimal.Decimal("0.875"))


def test_without_it_the_list_price_is_back(cluster, people):
    cluster.delete("pricebook", "contract", NAMESPACE)
    # Nothing tells of an object that is gone: the ledger's own word does.
    gone = lambda: agents.messages(cluster, people, "agent", model="house-model")[0].status != 200
    wait_until(gone, "the alias is gone", 20)
    costs(cluster, people, decimal.Decimal(1))
