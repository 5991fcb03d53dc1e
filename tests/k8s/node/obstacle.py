"""Prints why no node can be started on this machine, in a line; nothing, where it can be tried."""

import os
import shutil
import subprocess
import sys

import cgroups

PROGRAMS = ("bash", "containerd", "ctr", "ip", "mount", "nft", "nsenter", "runc", "setpriv", "unshare")
PLUGINS = "/usr/lib/cni"


def obstacle() -> str | None:
    if sys.platform != "linux":
        return "this is not Linux"
    if os.getuid() != 0:
        return "only root may start a node"
    tried = subprocess.run(
        ["unshare", "--fork", "--pid", "--mount", "--net", "--uts", "--ipc", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        return f"no namespaces, or no mounts in them: {tried.stderr.strip()}"
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    missing += [f"{PLUGINS}/{name}" for name in ("host-local", "ptp") if not os.access(f"{PLUGINS}/{name}", os.X_OK)]
    # Only where they cannot be installed: .make/kubernetes has tried.
    if missing:
        return f"there is no {', '.join(missing)}"
    return cgroups.obstacle()


if __name__ == "__main__":
    print(obstacle() or "", end="")
