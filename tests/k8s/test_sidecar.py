"""A sidecar in a pod, in both modes: what it does for the agent, and what it keeps from the agent and from other pods."""

import json

import agents
import images
import pytest
import resources
from accounts import KeyBooks
from cluster import Refused
from installation import DIRECT, NAMESPACE, PROVIDER_KEYS, RELEASE, restricted_namespace
from sidecars import injected, job

TEAM = KEY = "sidecars"
OPERATOR = f"deployment/{RELEASE}-operator"
# Where there is nothing but keys.
PLAIN = "plain"
# Where each mode is tried.
MODES = {"identity": PLAIN, "direct": DIRECT}
each_mode = pytest.mark.parametrize("mode", MODES)
# Envoy's, and what its admin interface answers to.
ADMIN_PATHS = ("/stats", "/config_dump", "/certs", "/server_info", "/quitquitquit")


@pytest.fixture(scope="module", autouse=True)
def pods(cluster, tollgate):
    """In each mode an agent that waits, and a Job; beside them a pod without a sidecar."""
    restricted_namespace(cluster, PLAIN)
    resources.apply(cluster, NAMESPACE, resources.open_team(TEAM))
    for namespace in MODES.values():
        resources.apply(cluster, namespace, resources.key(KEY, TEAM))
    for mode, namespace in MODES.items():
        resources.wait_until_ready(cluster, "virtualkeys", KEY, namespace)
        cluster.apply([injected(mode, KEY, agents.pod("agent")), job(mode, KEY)], namespace)
    cluster.apply(agents.pod("neighbour"), PLAIN)
    for namespace in MODES.values():
        cluster.wait("pod/agent", "condition=Ready", namespace)
    cluster.wait("pod/neighbour", "condition=Ready", PLAIN)
    yield
    for namespace in MODES.values():
        cluster.kubectl("delete", "pod/agent", "job/job", "--wait=false", "--namespace", namespace)
        cluster.delete("virtualkeys", KEY, namespace)
    cluster.kubectl("delete", "namespace", PLAIN, "--wait=false")


def look(cluster, mode: str, *paths: str) -> list[str]:
    """What the agent reads there, or why it cannot."""
    said = cluster.exec("agent", "/client", "look", *paths, namespace=MODES[mode], container="agent")
    seen = [json.loads(line) for line in said.splitlines()]
    return [one["error"] or one["content"] for one in seen]


@each_mode
def test_a_job_completes_and_its_request_is_charged_to_the_key(cluster, tollgate, mode):
    cluster.wait("job/job", "condition=Complete", MODES[mode])
    key = tollgate.secret(KEY, MODES[mode])["ANTHROPIC_API_KEY"].decode()
    with tollgate.ledger() as ledger:
        assert len(KeyBooks(ledger, tollgate.provider, key, f"job-{mode}").accounted()) == 1


@each_mode
def test_no_credential_is_in_reach_of_the_agent(cluster, tollgate, mode):
    """Not in its environment, its files, its mounts or its processes."""
    pod = cluster.get("pod", "agent", MODES[mode])
    (sidecar,) = [one for one in pod["spec"]["initContainers"] if one["name"] == "tollgate-sidecar"]
    mounted = [mount["mountPath"] for mount in sidecar["volumeMounts"] if not mount["mountPath"].startswith("/var/run/secrets")]
    assert ("/run/tollgate/providers/anthropic" in mounted) == (mode == "direct"), mounted
    environment, mounts, first_process = look(cluster, mode, "/proc/self/environ", "/proc/self/mountinfo", "/proc/1/cmdline")
    assert "ANTHROPIC_API_KEY=tollgate-sidecar\0" in environment
    assert "sk-tg-" not in environment and not any(key in environment for key in PROVIDER_KEYS.values())
    assert not any(f"kubernetes.io~{kind}" in mounts for kind in ("secret", "empty-dir", "downward-api")), mounts
    files = ["key/ANTHROPIC_API_KEY", "ledger/tls.key", "envoy/envoy.json", *(f"providers/{api}/api-key" for api in PROVIDER_KEYS)]
    for said in look(cluster, mode, *mounted, *(f"/run/tollgate/{file}" for file in files)):
        assert said.endswith("no such file or directory"), said
    # The first process is its own, and there are none of the sidecar's.
    assert first_process.startswith("/client\0")


@each_mode
def test_no_credential_shows_where_others_read(cluster, tollgate, mode):
    """Not in a pod as the API server has it, nor in a log of its containers. By then the agent and the Job have been served."""
    cluster.wait("job/job", "condition=Complete", MODES[mode])
    pods = cluster.find("pods", MODES[mode])
    assert len([pod for pod in pods if "tollgate.dev/inject" in pod["metadata"].get("labels", {})]) == 2
    seen = json.dumps(pods) + "".join(cluster.logs(pod["metadata"]["name"], MODES[mode]) for pod in pods)
    assert "tollgate-sidecar" in seen
    assert "sk-tg-" not in seen and not any(key in seen for key in PROVIDER_KEYS.values())


@each_mode
def test_envoys_admin_interface_is_out_of_reach(cluster, mode):
    """The agent and the sidecar share a network; so whatever listens there is seen from the agent's container."""
    tcp, tcp6, unix = look(cluster, mode, "/proc/net/tcp", "/proc/net/tcp6", "/proc/net/unix")
    assert sorted(listeners(tcp) | listeners(tcp6)) == [("127.0.0.1", 4000), ("127.0.0.1", 4003)]
    sockets = [line.split()[-1] for line in unix.splitlines()[1:] if len(line.split()) > 7]
    admin = [path for path in sockets if path.endswith("admin.sock")]
    assert admin, sockets
    # One without a file would belong to the network.
    assert [path for path in sockets if path.startswith("@")] == []
    (said,) = look(cluster, mode, admin[0])
    assert said.endswith("no such file or directory"), said
    urls = [f"http://127.0.0.1:{port}{path}" for port in (4000, 4003) for path in ADMIN_PATHS]
    assert [answer.status for answer in agents.request(cluster, MODES[mode], "agent", urls)] == [404] * len(urls)


def listeners(table: str) -> set[tuple[str, int]]:
    """Addresses in a table of the kernel's where somebody listens."""
    found = set()
    for line in table.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, _, port = local.partition(":")
        if state == "0A":
            # IPv4 stands there as one number, the first byte last.
            parts = [str(byte) for byte in reversed(bytes.fromhex(address))] if len(address) == 8 else [address]
            found.add((".".join(parts), int(port, 16)))
    return found


@each_mode
def test_no_other_pod_reaches_the_sidecar(cluster, mode):
    address = cluster.get("pod", "agent", MODES[mode])["status"]["podIP"]
    for answer in agents.request(cluster, PLAIN, "neighbour", [f"http://{address}:{port}/ready" for port in (4000, 4003)]):
        # By the pod itself, so the way is there.
        assert answer.status == 0 and "refused" in answer.error, answer


def test_where_a_sidecar_only_names_the_key_there_is_no_other_secret(cluster):
    assert [one["metadata"]["name"] for one in cluster.find("secrets", PLAIN)] == [KEY]


def test_a_namespace_that_the_platform_does_not_list_gets_no_direct_sidecar(cluster):
    with pytest.raises(Refused, match=f"direct is not allowed in namespace {PLAIN}"):
        cluster.apply(injected("direct", KEY, agents.pod("greedy")), PLAIN)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shareProcessNamespace": True}, "shareProcessNamespace: true would let the agent read the sidecar's key"),
        ({"hostNetwork": True}, "hostNetwork: true would let others of the machine reach the sidecar"),
        ({"initContainers": [{"name": "tollgate-sidecar", "image": images.CLIENT}]}, "has a name that begins with tollgate-"),
        ({"volumes": [{"name": "tollgate-key", "emptyDir": {}}]}, "has a name that begins with tollgate-"),
    ],
)
def test_a_pod_that_could_come_near_its_sidecar_gets_none(cluster, change, said):
    pod = injected("identity", KEY, agents.pod("curious"))
    pod["spec"] |= change
    with pytest.raises(Refused, match=said):
        cluster.apply(pod, PLAIN)


def test_while_there_is_no_webhook_no_pod_is_made_that_asks_for_a_sidecar(cluster, tollgate):
    """It would run without one. Pods that ask for none, and those of the cluster itself, are made as always."""
    scale = lambda replicas: cluster.kubectl("scale", OPERATOR, f"--replicas={replicas}", f"--namespace={NAMESPACE}")
    before = [pod["metadata"]["name"] for pod in tollgate.pods("operator")]
    scale(0)
    for name in before:
        cluster.wait(f"pod/{name}", "delete", NAMESPACE)
    with pytest.raises(Refused, match="failed calling webhook"):
        cluster.apply(injected("identity", KEY, agents.pod("early")), PLAIN)
    cluster.apply(agents.pod("meanwhile"), PLAIN)
    system = agents.pod("system", labels={"tollgate.dev/inject": "true"})
    cluster.apply(system, "kube-system")
    assert "initContainers" not in cluster.get("pod", "system", "kube-system")["spec"]
    cluster.kubectl("delete", "pod/system", "--wait=false", "--namespace=kube-system")
    scale(1)
    cluster.rollout(OPERATOR, NAMESPACE)
    cluster.apply(injected("identity", KEY, agents.pod("late")), PLAIN)
    assert "initContainers" in cluster.get("pod", "late", PLAIN)["spec"]
