"""Custom resources as the tests write them, and what their statuses say."""

import decimal

from installation import NAMESPACE

GROUP = "tollgate.dev/v1alpha1"


def apply(cluster, namespace: str, *objects: dict) -> None:
    """Applies custom resources to a namespace."""
    cluster.apply([{"apiVersion": GROUP, **one} for one in objects], namespace)


def key(name: str, team: str, **spec) -> dict:
    """A key of a team of the platform's."""
    return {"kind": "VirtualKey", "metadata": {"name": name}, "spec": {"teamRef": {"name": team, "namespace": NAMESPACE}, **spec}}


def open_team(name: str, **spec) -> dict:
    """A team of which every namespace may have keys."""
    return {"kind": "Team", "metadata": {"name": name}, "spec": {"allowedNamespaces": {"from": "All"}, **spec}}


def lifetime(amount: str) -> dict:
    """What each key of a team may ever spend."""
    return {"limits": [{"amount": amount, "period": "Lifetime"}]}


def condition(thing: dict, kind: str) -> dict:
    """A condition that is about the object as it is now."""
    status = thing.get("status", {})
    found = [one for one in status.get("conditions", []) if one["type"] == kind]
    return found[0] if found and found[0].get("observedGeneration") == thing["metadata"]["generation"] else {}


def is_ready(thing: dict) -> bool:
    return condition(thing, "Ready").get("status") == "True"


def is_programmed(thing: dict) -> bool:
    return condition(thing, "Programmed").get("status") == "True"


def spend(thing: dict) -> decimal.Decimal:
    """What an account has spent, as its status says."""
    return decimal.Decimal(thing.get("status", {}).get("spend") or 0)


def wait_until_ready(cluster, kind: str, name: str, namespace: str) -> None:
    cluster.watch(kind, name, is_ready, f"{namespace}/{name} of the {kind} is ready", namespace)


def make_key(cluster, namespace: str, name: str, team: str, **spec) -> None:
    """A key whose Secret is there, and works."""
    apply(cluster, namespace, key(name, team, **spec))
    wait_until_ready(cluster, "virtualkeys", name, namespace)
