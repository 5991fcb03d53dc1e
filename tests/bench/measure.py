"""What is measured, and how: load, the CPU time and memory of processes, the disk."""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
BLOCK = bytes(4096)


def cpu_us(pid: int) -> int:
    """User and system time of a process so far, all threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # Fields 14 and 15 of proc(5); what is left begins with field 3.
    return (int(fields[11]) + int(fields[12])) * 1_000_000 // TICKS_PER_SECOND


def memory_mb(pid: int) -> float:
    """What of a process is in memory."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@dataclasses.dataclass(frozen=True)
class Load:
    """What the load generator saw."""

    requests: int
    bytes: int
    seconds: float
    p50_us: int
    p99_us: int


def load(port: int, headers: list[str], body: pathlib.Path, connections: int, **bounds) -> Load:
    """Sends requests for so many `seconds`, or so many `requests`. Any answer other than 200 is an error."""
    arguments = [f"--port={port}", "--path=/v1/messages", f"--body={body}", f"--connections={connections}"]
    arguments += [f"--header={header}" for header in headers]
    arguments += [f"--{name}={value}" for name, value in bounds.items()]
    done = subprocess.run([os.environ["TOLLGATE_LOAD"], *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stderr.strip()} (port {port}, {body.name}, {connections} connections)")
    return Load(**json.loads(done.stdout))


class Disk:
    """A file beside the ledger's, to see what one sync costs there and then: 4 KB written and `fdatasync`."""

    def __init__(self, folder: pathlib.Path):
        self.file = os.open(folder / "sync", os.O_WRONLY | os.O_CREAT, 0o600)
        self.append_us, self.overwrite_us = [], []

    def sample(self, count: int) -> None:
        for _ in range(count):
            os.lseek(self.file, 0, os.SEEK_END)
            self.append_us.append(self.write())
        for _ in range(count):
            os.lseek(self.file, 0, os.SEEK_SET)
            self.overwrite_us.append(self.write())

    def write(self) -> float:
        started = time.perf_counter_ns()
        os.write(self.file, BLOCK)
        os.fdatasync(self.file)
        return (time.perf_counter_ns() - started) / 1000

    def median_us(self) -> tuple[float, float]:
        """Of an append, and of a write over what is there."""
        return statistics.median(self.append_us), statistics.median(self.overwrite_us)
