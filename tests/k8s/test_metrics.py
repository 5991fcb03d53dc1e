"""The dashboard asks for what is there: every series of it, by its name and labels, on a port 4003."""

import json
import re

import agents
import pytest
from installation import CHART, NAMESPACE, Installation
from resources import apply, lifetime, make_key, open_team

DASHBOARD = json.loads((CHART / "files" / "dashboards" / "tollgate.json").read_text())
EXPRESSIONS = sorted({target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]})
# A series in a query: its name, if it stands before the braces, and its labels.
SERIES = re.compile(r"([a-z_]*)\{([^{}]*)\}")
LABEL = re.compile(r'(\w+)(=~?)"([^"]*)"')


@pytest.fixture(scope="module")
def shown(cluster, tollgate, namespace_of_two) -> list[tuple[str, dict[str, str]]]:
    """Every series of every pod, after one request that was served and one that was refused."""
    for name, status in (("rich", 200), ("poor", 402)):
        agents.start(cluster, namespace_of_two, name, **agents.with_secret(name))
        (answer,) = agents.messages(cluster, namespace_of_two, name)
        assert answer.status == status, answer
    return [series for part in ("ledger", "operator", "gateway") for series in told(tollgate, part)]


@pytest.fixture(scope="module")
def namespace_of_two(cluster, tollgate):
    name = "watched"
    cluster.kubectl("create", "namespace", name)
    apply(cluster, NAMESPACE, open_team("rich"), open_team("poor", perKey=lifetime("0")))
    for team in ("rich", "poor"):
        make_key(cluster, name, team, team)
    yield name
    cluster.delete("virtualkeys", "--all", name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def told(tollgate: Installation, part: str) -> list[tuple[str, dict[str, str]]]:
    pods = tollgate.pods(part)
    assert pods, part
    paths = [f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}:4003/proxy/metrics" for pod in pods]
    lines = [line for path in paths for line in tollgate.cluster.kubectl("get", "--raw", path).splitlines()]
    named = (re.match(r"(\w+)(?:\{(.*)\})? ", line) for line in lines if not line.startswith("#"))
    return [(found[1], {label: value for label, _, value in LABEL.findall(found[2] or "")}) for found in named if found]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_a_panel_asks_for_is_there(shown, expression):
    asked = SERIES.findall(expression)
    assert asked
    for name, labels in asked:
        wanted = [(label, how, value) for label, how, value in LABEL.findall(labels) if "$" not in value]
        if name:
            wanted.append(("__name__", "=", name))
        found = [one for one, has in shown if all(fits({**has, "__name__": one}, *label) for label in wanted)]
        assert found, f"nobody shows {wanted}"


def fits(has: dict[str, str], label: str, how: str, value: str) -> bool:
    """As Prometheus goes by it: a pattern stands for the whole."""
    told = has.get(label, "")
    return told == value if how == "=" else re.fullmatch(value, told) is not None
