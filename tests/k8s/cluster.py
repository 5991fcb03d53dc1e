"""A Kubernetes cluster as the tests see it: kubectl and helm on a kubeconfig, and what a test asks of them.

Whether it is a node of the tests' own or one that was there makes no difference beyond `start`.
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

NODE = pathlib.Path(__file__).with_name("node")
# For what a busy machine does in seconds.
PATIENCE = 120.0
# Those of today, which say whom they regard.
EVENTS = "events.events.k8s.io"


class Refused(Exception):
    """A command that failed, with what it said."""


class Cluster:
    def __init__(
        self,
        kubeconfig: pathlib.Path,
        programs: pathlib.Path | None,
        load: str,
        description: str,
        volumes: pathlib.Path | None = None,
        node: int | None = None,
    ):
        self.description = description
        # In `load`, `{}` stands for an archive.
        self.how_to_load = load
        # Where volumes can be, if nobody else makes them.
        self._volumes = volumes
        # A process in the network of the tests' own node.
        self._node = node
        self._home = tempfile.TemporaryDirectory(prefix="tollgate-kubectl-")
        self.env = {
            **os.environ,
            "PATH": os.pathsep.join([*([str(programs)] if programs else []), os.environ["PATH"]]),
            "KUBECONFIG": str(kubeconfig),
            # What both remember of a cluster goes by its address, which may have been another one's.
            "KUBECACHEDIR": self._home.name,
            **{f"HELM_{what}_HOME": self._home.name for what in ("CACHE", "CONFIG", "DATA")},
        }

    # Commands.

    def run(self, *command: str, stdin: str | None = None, timeout: float = PATIENCE) -> str:
        return self.pipe(*command, stdin=stdin and stdin.encode(), timeout=timeout).decode()

    def pipe(self, *command: str, stdin: bytes | None = None, timeout: float = PATIENCE) -> bytes:
        """`run`, with what is no text."""
        done = subprocess.run(command, env=self.env, input=stdin, capture_output=True, timeout=timeout, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise Refused(f"{shlex.join(command)}: exit {done.returncode}\n{said}")
        return done.stdout

    def kubectl(self, *arguments: str, **options) -> str:
        return self.run("kubectl", *arguments, **options)

    def helm(self, *arguments: str, **options) -> str:
        return self.run("helm", *arguments, **options)

    def load(self, archive: pathlib.Path) -> None:
        """Makes an image known to the nodes."""
        self.run(*[word.replace("{}", str(archive)) for word in shlex.split(self.how_to_load)])

    def volume(self, name: str, size: str = "1Gi", mode: str = "ReadWriteOncePod") -> str | None:
        """Makes a volume that waits for its claim, and gives the class that the claim must name: none, where there is a provisioner."""
        if not self._volumes:
            return None
        folder = self.volume_folder(name)
        folder.mkdir(parents=True)
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]}
        spec = {
            "storageClassName": name,
            "capacity": {"storage": size},
            "accessModes": [mode],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        }
        self.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
        return name

    def claim(self, name: str, namespace: str) -> None:
        """On a volume of its own."""
        spec = {
            "storageClassName": self.volume(name),
            "accessModes": ["ReadWriteOncePod"],
            "resources": {"requests": {"storage": "1Gi"}},
        }
        self.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}, namespace)

    def volume_folder(self, name: str) -> pathlib.Path:
        """Where a volume is on the machine, which is the node."""
        assert self._volumes, "a cluster that was there makes its own volumes"
        return self._volumes / name

    @contextlib.contextmanager
    def mute(self) -> Iterator[None]:
        """Its API server is there, and answers nobody: only on a node of the tests' own."""
        assert self._node, "see only_on_the_tests_own"
        (server,) = [pid for pid in _processes("kube-apiserver") if _network(pid) == _network(self._node)]
        os.kill(server, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server, signal.SIGCONT)

    def mounted(self, pod: dict, entry: str) -> list[str]:
        """What a pod has in all files of that name that were mounted from Secrets: only on a node of the tests' own."""
        assert self._node, "see only_on_the_tests_own"
        kubelet = pathlib.Path(f"/proc/{self._node}/root/var/lib/kubelet")
        volumes = kubelet / "pods" / pod["metadata"]["uid"] / "volumes"
        return [path.read_text() for path in volumes.glob(f"kubernetes.io~secret/*/{entry}")]

    # Objects.

    def apply(self, what: pathlib.Path | str | dict | list[dict], namespace: str | None = None) -> None:
        """Applies a file or a folder, a manifest as text, or as one object or several."""
        if isinstance(what, pathlib.Path):
            self.kubectl("apply", "--filename", str(what), *_in(namespace))
            return
        if isinstance(what, list):
            what = {"apiVersion": "v1", "kind": "List", "items": what}
        self.kubectl("apply", "--filename=-", *_in(namespace), stdin=what if isinstance(what, str) else json.dumps(what))

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict:
        return json.loads(self.kubectl("get", kind, name, "--output=json", *_in(namespace)))

    def find(self, kind: str, namespace: str | None = None, selector: str = "") -> list[dict]:
        return json.loads(self.kubectl("get", kind, "--output=json", f"--selector={selector}", *_in(namespace)))["items"]

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """And waits until it is gone."""
        self.kubectl("delete", kind, name, f"--timeout={PATIENCE:.0f}s", *_in(namespace))

    # Events.

    def wait(self, what: str, condition: str, namespace: str | None = None, patience: float = PATIENCE) -> None:
        """Waits for a condition, in kubectl's words: `condition=Ready`, `delete`, `jsonpath={.status.phase}=Running`.

        Also for the object to come, if it is not there yet.
        """
        begin = time.monotonic()
        if condition != "delete":
            self.kubectl("wait", what, "--for=create", f"--timeout={patience:.0f}s", *_in(namespace), timeout=patience + 10)
        left = max(1.0, patience - (time.monotonic() - begin))
        self.kubectl("wait", what, f"--for={condition}", f"--timeout={left:.0f}s", *_in(namespace), timeout=left + 10)

    def rollout(self, what: str, namespace: str | None = None, patience: float = PATIENCE) -> None:
        """Waits until every pod of a Deployment or so is of its present form, and ready."""
        self.kubectl("rollout", "status", what, f"--timeout={patience:.0f}s", *_in(namespace), timeout=patience + 10)

    def watch(
        self,
        kind: str,
        name: str,
        ready: Callable[[dict], object],
        what: str,
        namespace: str | None = None,
        patience: float = PATIENCE,
    ) -> dict:
        """Follows an object until it is as wanted, and gives it."""
        return self._follow(kind, f"metadata.name={name}", ready, what, namespace, patience)

    def watch_event(self, reason: str, kind: str, name: str, namespace: str) -> None:
        """Waits until there is an event of this reason about an object."""
        what = f"event {reason} about {kind} {namespace}/{name}"
        self._follow(EVENTS, _about(reason, kind, name), lambda _: True, what, namespace, PATIENCE)

    def events(self, reason: str, kind: str, name: str, namespace: str) -> list[dict]:
        """All events of this reason about an object."""
        chosen = f"--field-selector={_about(reason, kind, name)}"
        return json.loads(self.kubectl("get", EVENTS, chosen, "--output=json", *_in(namespace)))["items"]

    def _follow(
        self, kind: str, chosen: str, ready: Callable[[dict], object], what: str, namespace: str | None, patience: float
    ) -> dict:
        command = ["kubectl", "get", kind, f"--field-selector={chosen}", "--watch", "--output=json"]
        command += [f"--request-timeout={patience:.0f}s", *_in(namespace)]
        last = None
        with subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, text=True) as following:
            try:
                for last in _documents(following.stdout):
                    if ready(last):
                        return last
            finally:
                following.kill()
        raise AssertionError(f"not within {patience:.0f} s: {what}; last: {json.dumps(last, indent=1)}")

    # Pods.

    def exec(self, pod: str, *command: str, namespace: str | None = None, container: str | None = None, **options) -> str:
        """What a command in a container prints. `pod` may be `deployment/NAME` and the like."""
        chosen = [f"--container={container}"] if container else []
        return self.kubectl("exec", pod, *chosen, *_in(namespace), "--", *command, **options)

    def logs(self, pod: str, namespace: str | None = None, container: str | None = None) -> str:
        chosen = f"--container={container}" if container else "--all-containers"
        return self.kubectl("logs", pod, chosen, "--prefix", "--tail=-1", *_in(namespace))

    @contextlib.contextmanager
    def forward(self, what: str, port: int, namespace: str | None = None) -> Iterator[int]:
        """A port of this machine that leads to one of a pod, or of a Service's pod, as long as that lives."""
        command = ["kubectl", "port-forward", what, f":{port}", "--address=127.0.0.1", *_in(namespace)]
        with subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forwarding:
            try:
                line = forwarding.stdout.readline()
                found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", line)
                if not found:
                    raise Refused(f"{shlex.join(command)}: {line}{forwarding.stdout.read()}")
                yield int(found[1])
            finally:
                forwarding.kill()

    # Reports.

    def describe(self) -> str:
        """What a person would look at first when something does not work: the state of all pods, events, logs."""
        parts = [self._say("get", "pods,jobs,persistentvolumeclaims", "--all-namespaces", "--output=wide")]
        parts.append(self._say("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"))
        try:
            pods = self.find("pods", "*")
        except Refused as gone:
            # Its end may be what is told of.
            return "\n".join([*parts, str(gone)])
        for pod in pods:
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            where = [name, "--all-containers", "--prefix", "--tail=40", f"--namespace={namespace}"]
            parts.append(f"--- logs of {namespace}/{name}\n" + self._say("logs", *where))
            statuses = pod["status"].get("containerStatuses", []) + pod["status"].get("initContainerStatuses", [])
            if any(status["restartCount"] for status in statuses):
                parts.append("--- before its restart\n" + self._say("logs", "--previous", *where))
        return "\n".join(parts)

    def _say(self, *arguments: str) -> str:
        done = subprocess.run(
            ["kubectl", *arguments], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.stdout

    def close(self) -> None:
        self._home.cleanup()


def _processes(program: str) -> Iterator[int]:
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        # It may end meanwhile.
        with contextlib.suppress(OSError):
            if pathlib.Path((folder / "cmdline").read_text().partition("\0")[0]).name == program:
                yield int(folder.name)


def _network(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def _in(namespace: str | None) -> list[str]:
    if namespace == "*":
        return ["--all-namespaces"]
    return [f"--namespace={namespace}"] if namespace else []


def _about(reason: str, kind: str, name: str) -> str:
    """Chooses events."""
    return f"reason={reason},regarding.kind={kind},regarding.name={name}"


def _documents(stream) -> Iterator[dict]:
    """The JSON documents of a stream, each as soon as it is whole: kubectl ends each with a closing brace on its own line."""
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if line == "}\n":
            yield json.loads("".join(lines))
            lines = []


def obstacle() -> str | None:
    """Why the tests can have no cluster, if so."""
    if os.environ.get("TOLLGATE_TEST_KUBECONFIG"):
        return None
    return subprocess.run([sys.executable, NODE / "obstacle.py"], capture_output=True, text=True, check=True).stdout or None


def only_on_the_tests_own(why: str) -> None:
    """Skips what is not done to a cluster that was there."""
    if os.environ.get("TOLLGATE_TEST_KUBECONFIG"):
        pytest.skip(f"machine: {why}")


@contextlib.contextmanager
def start(pause: pathlib.Path) -> Iterator[Cluster]:
    """The cluster that TOLLGATE_TEST_KUBECONFIG names, or one of the tests' own for as long as they run."""
    programs = pathlib.Path(os.environ["TOLLGATE_KUBERNETES"]) if os.environ.get("TOLLGATE_KUBERNETES") else None
    given = os.environ.get("TOLLGATE_TEST_KUBECONFIG")
    with given_cluster(pathlib.Path(given), programs) if given else own_node(programs, pause) as cluster:
        try:
            yield cluster
        finally:
            cluster.close()


@contextlib.contextmanager
def given_cluster(kubeconfig: pathlib.Path, programs: pathlib.Path | None) -> Iterator[Cluster]:
    load = os.environ.get("TOLLGATE_TEST_LOAD")
    assert load, "say in TOLLGATE_TEST_LOAD how the cluster gets an image: 'kind load image-archive {}'"
    yield Cluster(kubeconfig, programs, load, f"the cluster of {kubeconfig}")


@contextlib.contextmanager
def own_node(programs: pathlib.Path | None, pause: pathlib.Path) -> Iterator[Cluster]:
    assert programs, "TOLLGATE_KUBERNETES names no folder of programs: run make test-k8s, or .make/kubernetes"
    # In a session of its own, so that Ctrl-C reaches the tests first. It stops when its input ends, also if they are killed.
    node = subprocess.Popen(
        [sys.executable, NODE / "start.py", programs, pause],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        line = node.stdout.readline()
        assert line, "the cluster does not start"
        report = json.loads(line)
        kubeconfig = pathlib.Path(report["kubeconfig"])
        load = f"nsenter --target={report['pid']} --mount ctr --namespace=k8s.io images import {{}}"
        seconds = report["seconds"]
        description = f"a cluster of its own, ready after {seconds} s"
        yield Cluster(kubeconfig, programs, load, description, kubeconfig.parent / "volumes", report["pid"])
    finally:
        node.stdin.close()
        node.wait(60)
