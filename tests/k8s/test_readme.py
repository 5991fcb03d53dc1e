"""What README.md and docs/kubernetes/install.md say, in their words and with nothing set: from the three commands to the last ones."""

import re

import agents
import installation
import pytest
import sidecars
import yaml
from cluster import Cluster, Refused
from installation import NAMESPACE, ROOT
from pages import blocks, section
from resources import is_ready, spend
from stack import wait_until

IN_ORDER = True

INSTALL = ROOT / "docs" / "kubernetes" / "install.md"
KINDS = "organizations,teams,users,budgets,pricebooks,virtualkeys"
# Where the examples' people work.
PEOPLE, OTHERS = "payments", "research"


def run(cluster: Cluster, command: str) -> str:
    """As a reader types it, in the repository."""
    return cluster.run("bash", "-ec", f"cd {ROOT} && {command}", timeout=300)


@pytest.fixture(scope="module")
def images(cluster):
    """All that the cluster must have: our images, and volumes of its own."""
    installation.load_images(cluster)
    storage = cluster.volume("default", "10Gi")
    if storage:
        kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": storage}}
        kind["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
        cluster.apply({**kind, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"})
    yield
    if storage:
        cluster.kubectl("delete", "storageclass", storage)


def agent(name: str, *arguments: str) -> dict:
    """The pod that the page shows, with a client for an agent."""
    (shown,) = blocks(section(INSTALL, "What an agent's pod needs"), "yaml")
    spec = yaml.safe_load(shown)
    (container,) = spec["containers"]
    ours = agents.container(*arguments)
    spec["containers"] = [{**container, **ours}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**spec, "terminationGracePeriodSeconds": 1}}


def test_three_commands_install_it_and_show_money(cluster, images):
    (block,) = blocks(section(ROOT / "README.md", "On Kubernetes"), "console")
    commands = block.strip().splitlines()
    assert [command.split()[:2] for command in commands] == [["helm", "install"], ["kubectl", "apply"], ["kubectl", "get"]]
    # One after the other, without waiting for anything.
    for command in commands[:2]:
        run(cluster, command)
    for thing in cluster.find(KINDS, "*"):
        kind, name, namespace = thing["kind"], thing["metadata"]["name"], thing["metadata"]["namespace"]
        cluster.watch(f"{kind}.tollgate.dev", name, is_ready, f"{namespace}/{name} is ready", namespace, patience=180)
    lines = [
        r"^tollgate +budget.tollgate.dev/acme +Organization/acme +20000 +Month +0 +0 +20000 +0 ",
        r"^payments +virtualkey.tollgate.dev/alice +payments +alice +0 ",
    ]

    def shows_money() -> bool:
        said = run(cluster, commands[2])
        return all(re.search(line, said, re.MULTILINE) for line in lines)

    # It follows the ledger, seconds after each is ready.
    wait_until(shows_money, "money is listed", 10)


def test_the_pod_that_the_page_shows_is_served(cluster, images):
    cluster.apply([agent("alice"), agents.pod("trusts-nobody", **agents.with_secret("alice"))], PEOPLE)
    for pod in ("alice", "trusts-nobody"):
        cluster.wait(f"pod/{pod}", "condition=Ready", PEOPLE)
    cluster.rollout(f"deployment/{installation.RELEASE}-gateway", NAMESPACE)
    (answer,) = agents.messages(cluster, PEOPLE, "alice")
    assert answer.status == 200, answer
    (answer,) = agents.chat(cluster, PEOPLE, "alice")
    assert answer.status == 200, answer
    # The authority is what lets it in: the certificate is the operator's own.
    (answer,) = agents.messages(cluster, PEOPLE, "trusts-nobody")
    assert answer.status == 0 and "certificate" in answer.error, answer


def test_a_pod_with_a_sidecar_needs_nothing_of_it(cluster, images):
    cluster.apply(sidecars.injected("identity", "alice", agents.pod("sidecar")), PEOPLE)
    cluster.wait("pod/sidecar", "condition=Ready", PEOPLE)
    (answer,) = agents.messages(cluster, PEOPLE, "sidecar")
    assert answer.status == 200, answer


def test_the_spend_shows_on_the_key_its_person_its_team_and_its_company(cluster, images):
    spent = lambda thing: spend(thing) > 0
    wanted = [("virtualkeys", "alice", PEOPLE), ("users", "alice", NAMESPACE), ("teams", "payments", NAMESPACE)]
    for kind, name, namespace in [*wanted, ("organizations", "acme", NAMESPACE)]:
        cluster.watch(f"{kind}.tollgate.dev", name, spent, f"{kind} {name} has spent", namespace, patience=10)


def test_it_goes_for_good_as_the_page_says(cluster, images):
    commands = re.findall(r"^    (.+)$", section(INSTALL, "Uninstalling"), re.MULTILINE)[1:]
    assert len(commands) == 4, commands
    for command in commands:
        run(cluster, command.partition(" #")[0])
    assert "tollgate" not in cluster.kubectl("get", "namespaces,crds,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,"
                                             "validatingadmissionpolicies,validatingadmissionpolicybindings", "--output=name")
    # Keys go with their Secrets, which were their owners' to use and the operator's to make.
    for namespace in (PEOPLE, OTHERS):
        assert cluster.find("secrets", namespace) == []
        cluster.kubectl("delete", "namespace", namespace, "--timeout=120s", timeout=150)
    with pytest.raises(Refused, match="could not find the requested resource|have a resource type"):
        cluster.kubectl("get", "budgets")

