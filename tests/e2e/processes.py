"""The processes of a whole, as the kernel sees them."""

import contextlib
import os
import pathlib
import signal

from stack import Stack, wait_until


def memory_bytes(pid: int) -> int:
    """What of the process is in memory."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def children(pid: int) -> list[int]:
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def state(stat: pathlib.Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[0]


def is_alive(pid: int) -> bool:
    """Whether it still does something: one that nobody has waited for does not."""
    with contextlib.suppress(OSError):
        return state(pathlib.Path(f"/proc/{pid}/stat")) not in "ZX"
    return False


def is_stopped(pid: int) -> bool:
    """Whether each of its threads has heard the signal."""
    return all(state(stat) == "T" for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"))


@contextlib.contextmanager
def frozen(stack: Stack, name: str):
    """Stops a child for a while: it is there, takes connections, and says nothing."""
    pid = stack.pid_of(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: is_stopped(pid), f"{name} is stopped", 10)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
