"""The cgroups of a node: one folder under each hierarchy of the machine, of a name that no other cluster has."""

import contextlib
import os
import pathlib
import time

MOUNTED = pathlib.Path("/sys/fs/cgroup")
# What the kubelet counts and limits.
NEEDED = {"cpu", "cpuset", "memory", "pids"}
PATIENCE_SECONDS = 10


def obstacle() -> str | None:
    """Why there can be none, if so."""
    if not os.access(MOUNTED, os.W_OK):
        return f"{MOUNTED} cannot be written"
    if not unified():
        return None if NEEDED <= {path.name for path in hierarchies()} else "not all cgroups are mounted"
    with contextlib.suppress(OSError):
        (MOUNTED / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(NEEDED)))
    missing = NEEDED - set((MOUNTED / "cgroup.subtree_control").read_text().split())
    return f"cgroups pass on no {', '.join(sorted(missing))}" if missing else None


def unified() -> bool:
    return (MOUNTED / "cgroup.controllers").exists()


def hierarchies() -> list[pathlib.Path]:
    """The one of version 2, or each of version 1; links stand for two in one."""
    return [MOUNTED] if unified() else [path.parent for path in MOUNTED.glob("*/tasks")]


@contextlib.contextmanager
def of_the_node():
    name = f"tollgate-k8s-{os.getpid()}"
    for hierarchy in hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
        # In version 1 a new one has no processor and no memory.
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not unified() and (hierarchy / file).exists():
                (hierarchy / name / file).write_text((hierarchy / file).read_text())
    try:
        yield name
    finally:
        remove(name)


def remove(name: str) -> None:
    """Once the kernel has let go of the processes that were in there, a moment after their end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    # Where all are of version 1, runc leaves one under a version 2 that has no controllers, too.
    while left := [path for path in (MOUNTED / name, *MOUNTED.glob(f"*/{name}")) if path.exists()]:
        for top in left:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        if time.monotonic() > deadline:
            raise TimeoutError(f"cgroups are left: {left}")
        time.sleep(0.02)
