"""What the API server itself refuses, and in which words: whoever applies a bad manifest reads what to write instead. Nothing of Tollgate
runs here."""

import copy
import json
import pathlib

import pytest
from cluster import Refused

CRDS = pathlib.Path(__file__).parents[2] / "k8s" / "crds"
NAMESPACE = "manifests"

GOOD = {
    "Organization": {},
    "Team": {"organizationRef": {"name": "acme"}, "perKey": {"limits": [{"amount": "100", "period": "Month"}]}},
    "User": {},
    "VirtualKey": {"teamRef": {"name": "payments", "namespace": "tollgate"}},
    "Budget": {"targetRef": {"kind": "Team", "name": "payments"}, "limits": [{"amount": "100.50", "period": "Month"}]},
    "PriceBook": {
        "models": [{"name": "anthropic/claude-x", "aliases": ["x"], "prices": [{"input": "3", "cacheWrite1h": "0.25", "output": "15"}]}],
        "discounts": [{"provider": "anthropic", "percent": "12.5"}, {"model": "gpt-5", "percent": "0.5"}],
        "aliases": [{"alias": "house-model", "model": "anthropic/claude-x"}],
    },
}


@pytest.fixture(scope="module")
def definitions(bare_cluster):
    cluster = bare_cluster
    there = cluster.kubectl("get", "--ignore-not-found", "--output=name", f"--filename={CRDS}")
    cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={CRDS}")
    cluster.kubectl("wait", "--for=condition=Established", f"--filename={CRDS}", "--timeout=60s")
    cluster.kubectl("create", "namespace", NAMESPACE)
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    if not there:
        # The chart brings its own, and takes over nobody else's.
        cluster.kubectl("delete", f"--filename={CRDS}", "--timeout=60s")


def manifest(kind: str, changes: dict) -> str:
    """A good object with some of it changed: dotted paths to values; `None` takes out."""
    spec = copy.deepcopy(GOOD[kind])
    for path, value in changes.items():
        *folders, last = path.split(".")
        place = spec
        for folder in folders:
            place = place[int(folder)] if isinstance(place, list) else place.setdefault(folder, {})
        last = int(last) if isinstance(place, list) else last
        if value is None:
            del place[last]
        else:
            place[last] = value
    metadata = {"name": "judged", "namespace": NAMESPACE}
    return json.dumps({"apiVersion": "tollgate.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})


def judge(cluster, text: str) -> str:
    """What the API server says against it; nothing, if it would take it."""
    try:
        cluster.kubectl("apply", "--dry-run=server", "--filename=-", stdin=text)
    except Refused as refusal:
        return str(refusal)
    return ""


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_manifest_is_taken(definitions, kind):
    assert judge(definitions, manifest(kind, {})) == ""


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("Budget", {"limits.0.amount": "-5"}, 'decimal string that is not negative, such as "100" or "0.50"'),
        ("Budget", {"limits.0.amount": "1e3"}, 'decimal string that is not negative, such as "100" or "0.50"'),
        ("Budget", {"limits.0.amount": "0.0000000001"}, "at most nine digits before the point and nine after it"),
        ("Budget", {"limits.0.amount": 5}, "must be of type string"),
        ("Budget", {"limits.0.period": "Fortnight"}, '"Hour", "Day", "Week", "Month", "Quarter", "Year", "Lifetime", "Rolling"'),
        ("Budget", {"limits.0.anchorDay": 32}, "write 1 to 31; in shorter months the last day stands for it"),
        ("Budget", {"limits.0.period": "Day", "limits.0.anchorDay": 3}, "remove it, or write period: Month"),
        ("Budget", {"limits.0.timeZone": "Mars Olympus"}, "write it like Europe/Vienna, or UTC"),
        ("Budget", {"limits.0.rollingFor": "5h"}, "write both, such as rollingFor: 5h, or neither"),
        ("Budget", {"limits.0.period": "Rolling"}, "write both, such as rollingFor: 5h, or neither"),
        ("Budget", {"limits.0.currency": "EUR"}, "currency"),
        ("Budget", {"limits": []}, 'write one, such as {amount: "100", period: Month}'),
        ("Budget", {"targetRef.kind": "Tag", "targetRef.name": "a b"}, "write it like project:payments"),
        ("Budget", {"targetRef.kind": "Session", "targetRef.name": "ci *", "limits.0.period": "Lifetime"}, "write it like ci-*"),
        ("Budget", {"targetRef.kind": "Session", "targetRef.name": "x" * 129, "limits.0.period": "Lifetime"}, "has 1 to 128 visible"),
        ("Budget", {"targetRef.kind": "Session", "targetRef.name": "", "limits.0.period": "Lifetime"}, "has 1 to 128 visible"),
        ("Budget", {"targetRef.kind": "Company"}, "supported values"),
        ("Budget", {"alerts": [{"percent": 0}]}, "write 1 to 1000, such as 80"),
        ("Budget", {"mode": "Sometimes"}, 'supported values: "Enforce", "Observe"'),
        ("Budget", {"adopt": "project:payments"}, "an account of another kind is adopted by its own object"),
        ("Team", {"models": [""]}, "remove it, or write a model's name, an alias, or a pattern such as anthropic/*"),
        ("Team", {"perKey.limits.0.amount": "all"}, 'decimal string that is not negative, such as "100" or "0.50"'),
        ("Team", {"allowedNamespaces": {"from": "Selector"}}, "selector"),
        ("VirtualKey", {"teamRef": None}, "teamRef"),
        ("VirtualKey", {"rotation": {"every": "monthly"}}, "write it like 720h"),
        ("VirtualKey", {"rotation": {"every": "1h", "overlap": "2h"}}, "overlap is shorter than every"),
        ("VirtualKey", {"secret": {"name": "Not A Name"}}, "write it like alice-llm-key"),
        ("VirtualKey", {"secret": {"url": "llm.example.com"}}, "write it like https://llm.example.com"),
        ("VirtualKey", {"secret": {"url": "http://llm.example.com"}}, "a base URL by https"),
        ("VirtualKey", {"expiresAt": "tomorrow"}, "expiresAt"),
        ("PriceBook", {"discounts.0.percent": "-5"}, 'above 0 and below 100 such as "15" or "12.5"'),
        ("PriceBook", {"discounts.0.percent": "100"}, "for any other price, write the model under models"),
        ("PriceBook", {"discounts.0.percent": "0.0"}, 'above 0 and below 100 such as "15" or "12.5"'),
        ("PriceBook", {"discounts.0.percent": 15}, "must be of type string"),
        ("PriceBook", {"discounts.0.model": "gpt-5"}, "a discount is on a provider or on a model: write one of the two"),
        ("PriceBook", {"discounts.0.provider": None}, "a discount is on a provider or on a model: write one of the two"),
        ("PriceBook", {"discounts.0.provider": "acme"}, 'supported values: "anthropic", "openai", "gemini"'),
        ("PriceBook", {"models.0.name": "claude-x"}, "write it like anthropic/claude-opus-4-5"),
        ("PriceBook", {"models.0.prices.0.input": "-3"}, 'a decimal string that is not negative, such as "3" or "0.25"'),
        ("PriceBook", {"models.0.prices.0.input": "0.0000001"}, "at most nine digits before the point and six after it"),
        ("PriceBook", {"models.0.prices.0.aboveTokens": 200000}, "write one without tier and aboveTokens"),
        ("PriceBook", {"models.0.prices.0.tier": "auto"}, "write it like batch, flex or priority, or leave it out for standard"),
        ("PriceBook", {"models.0.prices": []}, "write one without tier and aboveTokens"),
        ("PriceBook", {"models.0.prices.0": {"input": "0", "output": "0.0"}}, "input and output both cost nothing: write what they cost"),
        ("PriceBook", {"models.0.aliases": ["a*"]}, "a letter or digit first: write it like fast"),
        ("PriceBook", {"aliases.0.alias": "two words"}, "a letter or digit first: write it like fast"),
        ("PriceBook", {"aliases.0.model": " "}, "model is empty: write a model's name"),
        ("PriceBook", {"models": None, "discounts": None, "aliases": None}, "write models, discounts or aliases"),
    ],
)
def test_a_bad_manifest_is_refused_with_what_to_write_instead(definitions, kind, changes, says):
    assert says in judge(definitions, manifest(kind, changes))


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("Team", {"organizationRef.name": "other"}, "organizationRef can not be changed"),
        ("VirtualKey", {"teamRef.name": "research"}, "teamRef can not be changed"),
        ("Team", {"adopt": "7c1e"}, "adopt can not be changed"),
        ("Budget", {"targetRef.name": "research"}, "targetRef can not be changed"),
    ],
)
def test_what_an_object_belongs_to_is_for_life(definitions, kind, changes, says):
    definitions.apply(manifest(kind, {}))
    assert says in judge(definitions, manifest(kind, changes))
