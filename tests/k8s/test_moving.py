"""From the API to Git: what the admin API has made becomes custom resources, and nobody who spends notices."""

import decimal

import agents
import installation
import pytest
from installation import NAMESPACE
from resources import condition, wait_until_ready

IN_ORDER = True

OPERATOR = f"deployment/{installation.RELEASE}-operator"
TEAM, KEY = "moving-team", "moving-laptop"


@pytest.fixture(scope="module")
def made(tollgate):
    """A team and a key of the API, and their ids."""
    with tollgate.ledger() as ledger:
        limits = {"max_budget": "100.000000001", "budget_duration": "1mo", "budget_time_zone": "Europe/Vienna"}
        team = ledger.admin("POST", "/team/new", {"team_alias": TEAM, **limits})
        key = ledger.admin("POST", "/key/generate", {"key_alias": KEY, "team_id": team["team_id"], "max_budget": 50})
    return {"team": team["team_id"], "key": key["key"]}


@pytest.fixture
def laptop(cluster, made):
    """Asks with the key that somebody holds, from a pod that nothing else is given to."""

    def ask(pod: str, namespace: str):
        given = {"ANTHROPIC_BASE_URL": f"https://{installation.GATEWAY}", "ANTHROPIC_API_KEY": made["key"]}
        agents.start(cluster, namespace, pod, env=[{"name": name, "value": value} for name, value in given.items()])
        (answer,) = agents.messages(cluster, namespace, pod)
        return answer

    return ask


def export(cluster) -> str:
    return cluster.exec(OPERATOR, "/tollgate-operator", "export", "--namespace", NAMESPACE, namespace=NAMESPACE)


def info(tollgate, made) -> dict:
    with tollgate.ledger() as ledger:
        return ledger.admin("GET", "/key/info", key=made["key"])["info"]


def test_a_key_of_the_api_spends(cluster, tollgate, made, laptop, namespace):
    assert laptop("before", namespace).status == 200
    assert decimal.Decimal(info(tollgate, made)["spend"]) > 0


def test_what_the_api_made_is_applied_and_shows_the_same_money(cluster, tollgate, made):
    spend = decimal.Decimal(info(tollgate, made)["spend"])
    yaml = export(cluster)
    assert yaml == export(cluster)
    assert made["key"] not in yaml and made["team"] in yaml
    cluster.apply(yaml)
    for kind, name in (("teams", TEAM), ("budgets", f"team-{TEAM}"), ("budgets", f"key-{KEY}"), ("virtualkeys", KEY)):
        wait_until_ready(cluster, f"{kind}.tollgate.dev", name, NAMESPACE)
    cluster.watch("virtualkeys", KEY, lambda it: it["status"].get("spend"), "the spend shows", NAMESPACE, patience=10)
    # Column by column, as people see it.
    _, line = cluster.kubectl("get", "virtualkeys", KEY, "--namespace", NAMESPACE).splitlines()
    assert line.split()[1:3] == [TEAM, str(spend)], line
    shown = cluster.get("budgets", f"team-{TEAM}", NAMESPACE)["status"]["tightest"]
    assert (shown["amount"], decimal.Decimal(shown["posted"])) == ("100.000000001", spend)
    assert not [one for one in cluster.find("secrets", NAMESPACE) if one["metadata"]["name"] == KEY]
    assert KEY not in export(cluster)


def test_the_key_that_people_hold_works_on(cluster, tollgate, made, laptop, namespace):
    before = decimal.Decimal(info(tollgate, made)["spend"])
    assert laptop("after", namespace).status == 200
    assert decimal.Decimal(info(tollgate, made)["spend"]) > before
    with tollgate.ledger() as ledger, pytest.raises(AssertionError, match="409"):
        ledger.admin("POST", "/team/update", {"team_id": made["team"], "max_budget": 1})


def test_somebody_else_adopts_nothing(cluster, tollgate, made, namespace):
    """Neither its account nor a look at it."""
    spec = {"adopt": made["team"], "teamRef": {"name": TEAM, "namespace": NAMESPACE}}
    thief = {"apiVersion": "tollgate.dev/v1alpha1", "kind": "VirtualKey", "metadata": {"name": "thief"}, "spec": spec}
    cluster.apply(thief, namespace)
    refused = lambda thing: condition(thing, "Accepted").get("reason") == "AdoptionNotPermitted"
    thing = cluster.watch("virtualkeys", "thief", refused, "the adoption is refused", namespace)
    assert "spend" not in thing["status"]


def test_the_first_rotation_makes_the_secret_and_overlaps(cluster, tollgate, made, laptop, namespace):
    cluster.kubectl("annotate", "virtualkey", KEY, "tollgate.dev/rotate=once", "--namespace", NAMESPACE)
    cluster.wait(f"secret/{KEY}", "jsonpath={.type}=Opaque", NAMESPACE)
    data = cluster.get("secret", KEY, NAMESPACE)["data"]
    assert "ANTHROPIC_API_KEY" in data
    assert laptop("overlap", namespace).status == 200
    previous = lambda thing: thing["status"].get("previous")
    cluster.watch("virtualkeys", KEY, previous, "the key that people hold is listed with its end", NAMESPACE)
