"""Runs the programs of a node, as the first process of its namespaces: `daemons.py STATE PROGRAMS PAUSE`.

Prints `ready` when pods can be made. A program that ends takes the node with it, so that nobody waits on half a cluster.
"""

import contextlib
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

from configuration import API_PORT

# For each step of the start, on a machine that has other things to do.
PATIENCE_SECONDS = 120


class Node:
    def __init__(self, state: pathlib.Path, programs: pathlib.Path):
        self.state = state
        self.programs = programs
        self.configuration = state / "configuration"
        self.daemons: dict[int, str] = {}

    def start(self, name: str, *arguments: str, program: str | None = None) -> None:
        with open(self.log(name), "wb") as log:
            process = subprocess.Popen(
                [program or str(self.programs / name), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.daemons[process.pid] = name

    def run(self, *command: str) -> None:
        """Runs a command to its end."""
        with open(self.log(pathlib.Path(command[0]).name), "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while True:
            pid, status = os.wait()
            if pid == process.pid:
                break
            self.reaped(pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit {process.returncode}: {self.last_line(pathlib.Path(command[0]).name)}")

    def kubectl(self, *arguments: str) -> None:
        self.run(str(self.programs / "kubectl"), f"--kubeconfig={self.configuration / 'admin.kubeconfig'}", *arguments)

    def until(self, ready: Callable[[], bool], what: str) -> None:
        """Asks until the answer is yes: of what is not there yet nothing can be heard."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready():
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid:
                self.reaped(pid)
            if time.monotonic() > deadline:
                raise SystemExit(f"not within {PATIENCE_SECONDS} s: {what}")
            time.sleep(0.05)

    def reaped(self, pid: int) -> None:
        """Orphans of containers end here, too, and may."""
        if name := self.daemons.get(pid):
            raise SystemExit(f"{name} has ended: {self.last_line(name)}")

    def log(self, name: str) -> pathlib.Path:
        return self.state / "log" / f"{name}.log"

    def last_line(self, name: str) -> str:
        lines = [line for line in self.log(name).read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


def answers(url: str) -> bool:
    unverified = ssl._create_unverified_context() if url.startswith("https:") else None
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2, context=unverified) as answer:
        return answer.status == 200
    return False


def listens(path: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as there:
        there.connect(path)
        return True
    return False


def start_store_and_containers(node: Node, pause: str) -> None:
    state, keys = node.state, node.state / "keys"
    node.start(
        "etcd",
        f"--data-dir={state}/etcd",
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
    )
    node.start(
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--secure-port={API_PORT}",
        "--advertise-address=10.99.0.1",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--tls-cert-file={keys}/api.pem",
        f"--tls-private-key-file={keys}/api.key",
        f"--token-auth-file={node.configuration}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={keys}/accounts.key",
        f"--service-account-signing-key-file={keys}/accounts.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged",
    )
    node.start("containerd", f"--config={node.configuration}/containerd.toml", program="containerd")
    node.until(lambda: listens("/run/containerd/containerd.sock"), "containerd listens")
    node.run("ctr", "--namespace=k8s.io", "images", "import", pause)
    node.until(lambda: answers(f"https://127.0.0.1:{API_PORT}/readyz"), "the API server is ready")


def start_the_rest(node: Node) -> None:
    configuration, keys = node.configuration, node.state / "keys"
    node.start(
        "kube-controller-manager",
        f"--kubeconfig={configuration}/kube-controller-manager.kubeconfig",
        "--leader-elect=false",
        "--secure-port=0",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={keys}/accounts.key",
        f"--root-ca-file={keys}/ca.pem",
        # Slower by default, so that service accounts come seconds late, and Services do not know their pods for one.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--endpointslice-updates-batch-period=0s",
    )
    node.start(
        "kube-scheduler",
        f"--kubeconfig={configuration}/kube-scheduler.kubeconfig",
        "--leader-elect=false",
        "--secure-port=0",
    )
    node.start(
        "kubelet",
        f"--kubeconfig={configuration}/kubelet.kubeconfig",
        f"--config={configuration}/kubelet.yaml",
        "--hostname-override=node",
        "--node-ip=10.99.0.1",
    )
    node.start("kube-proxy", f"--config={configuration}/kube-proxy.yaml")
    node.kubectl("apply", "--validate=false", "--filename", str(configuration / "system.yaml"))
    node.start("coredns", "-conf", str(configuration / "Corefile"))


def wait_until_ready(node: Node) -> None:
    patience = f"--timeout={PATIENCE_SECONDS}s"
    node.kubectl("wait", "--for=create", patience, "node/node")
    node.kubectl("wait", "--for=condition=Ready", patience, "node/node")
    # Pods are refused before it is there.
    node.kubectl("wait", "--for=create", patience, "serviceaccount/default")
    node.until(lambda: answers("http://127.0.0.1:8181/ready"), "CoreDNS is ready")
    node.until(lambda: answers("http://127.0.0.1:10256/healthz"), "kube-proxy is ready")


def main() -> None:
    state, programs, pause = sys.argv[1:]
    node = Node(pathlib.Path(state), pathlib.Path(programs))
    start_store_and_containers(node, pause)
    start_the_rest(node)
    wait_until_ready(node)
    print("ready", flush=True)
    while True:
        node.reaped(os.wait()[0])


if __name__ == "__main__":
    main()
