"""Starts a Kubernetes cluster of one node in namespaces of its own, and stops it when its input ends.

`start.py PROGRAMS PAUSE`: the folder of the programs (`.make/kubernetes`), and the archive of the image `PAUSE_IMAGE`. When pods can
be made it prints a line of JSON: the kubeconfig, which works from anywhere on the machine, and a process whose mounts and network are
the node's. After it nothing is left: no process, mount, namespace, cgroup or file.
"""

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import cgroups
import configuration
import relay

PAUSE_IMAGE = "tests.tollgate.dev/pause:1"
HERE = pathlib.Path(__file__).parent


class Ended(Exception):
    """The node is gone, or never came."""


@contextlib.contextmanager
def state_folder():
    # Resolved, because the node's programs compare paths of mounts.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tollgate-k8s-")).resolve()
    (folder / "log").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def namespaces(state: pathlib.Path, programs: str, pause: str):
    """The processes of the node. All of them go with the first one, and that one goes with this process, whatever ends it."""
    command = ["setpriv", "--pdeathsig=KILL"]
    command += ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--net", "--uts", "--ipc"]
    command += ["bash", str(HERE / "namespaces.sh"), sys.executable, str(HERE / "daemons.py"), str(state), programs, pause]
    node = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "STATE": str(state), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        yield node
    finally:
        # The kernel ends the others before the first one is gone, and unshare waits for that.
        for child in pathlib.Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        node.wait()


def wait_until_ready(node: subprocess.Popen) -> None:
    said = []
    for line in node.stdout:
        if line == "ready\n":
            return
        said.append(line)
    raise Ended("".join(said).strip())


def wait_for_the_end(node: subprocess.Popen) -> None:
    """Until the input ends, or the node does."""
    while True:
        readable, _, _ = select.select([sys.stdin.fileno(), node.stdout.fileno()], [], [])
        if node.stdout.fileno() in readable:
            raise Ended(node.stdout.read().strip())
        if not os.read(sys.stdin.fileno(), 4096):
            return


def main() -> None:
    programs, pause = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    begin = time.monotonic()
    try:
        with state_folder() as state, cgroups.of_the_node() as cgroup, relay.listener() as listening:
            kubeconfig = configuration.write(state, cgroup, PAUSE_IMAGE, listening.getsockname()[1])
            with namespaces(state, programs, pause) as node:
                wait_until_ready(node)
                # unshare itself has the node's network and mounts, all but its process ids.
                relay.start(listening, node.pid, configuration.API_PORT)
                report = {"kubeconfig": str(kubeconfig), "pid": node.pid, "seconds": round(time.monotonic() - begin, 1)}
                print(json.dumps(report), flush=True)
                wait_for_the_end(node)
    except Ended as end:
        sys.exit(f"the node has ended: {end}")


if __name__ == "__main__":
    main()
