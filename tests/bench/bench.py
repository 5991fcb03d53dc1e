#!/usr/bin/env python3
"""`make bench`: plain Envoy, Envoy with an empty filter and Tollgate, side by side in one run.

    .make/bench [--write]      # --write: the result goes into docs/benchmarks.md, too
    QUICK=1 .make/bench        # whether it works, in a minute

The variants take turns within each cell, so that what drifts hits all alike. docs/benchmarks.md says how to read the
result. Exit 1: something did not work, or the journal does not have every request; an aim that is missed is none.
"""

import datetime
import itertools
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import journal  # noqa: E402
import report  # noqa: E402
from measure import Disk, cpu_us, load, memory_mb  # noqa: E402
from report import Cell, Measured, Results  # noqa: E402
from variants import NAMES, WORKERS, Variants  # noqa: E402

QUICK = os.environ.get("QUICK", "") not in ("", "0")
ROUNDS, SECONDS, BODIES, SYNCS = (2, 0.5, 100, 20) if QUICK else (4, 1.5, 1000, 50)
# Reports of the last requests of a round leave within a tick of the filter's; their CPU time belongs to the round.
SETTLED_SECONDS = 0.3
SIZES = {"1 KB": 1_000, "100 KB": 100_000, "1 MB": 1_000_000}
ANSWERS = ("JSON", "SSE")
CONNECTIONS = (1, 8, 64)
# What Tollgate carries with ease, asked of all: without it a faster variant is compared while it does more.
SAME_RATE = 2_000
CELLS = [
    *itertools.starmap(Cell, itertools.product(("1 KB", "100 KB"), ANSWERS, CONNECTIONS)),
    *(Cell("1 KB", answer, 64, SAME_RATE) for answer in ANSWERS),
]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"


def say(text: str) -> None:
    print(f"tollgate: {text}", file=sys.stderr, flush=True)


def body(size: int, answer: str) -> bytes:
    """A request of exactly so many bytes. As Claude Code does, with what is short after what is long."""
    message = lambda text: json.dumps({
        "model": "claude-sonnet-4-20250514",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 1024,
        "stream": answer == "SSE",
    }).encode()
    line = 'The budget of "payments" is spent, so\nwho pays? '
    text = line * (size // len(line) + 1)
    # Escapes are longer than what they stand for, so the length is found in steps.
    while (excess := len(message(text)) - size) > 0:
        text = text[: -max(1, excess // 2)]
    whole = message(text + "." * -excess)
    assert len(whole) == size
    return whole


class Bench:
    """One run."""

    def __init__(self, folder: pathlib.Path):
        self.bodies = {}
        for size, answer in itertools.product(SIZES, ANSWERS):
            file = folder / f"{size.replace(' ', '')}-{answer}.json"
            file.write_bytes(body(SIZES[size], answer))
            self.bodies[size, answer] = file
        self.disk = Disk(folder)
        self.variants = Variants(folder)
        self.sent = 0

    def load(self, name: str, size: str, answer: str, connections: int, **bounds):
        seen = load(
            self.variants[name].port, self.variants.headers, self.bodies[size, answer], connections, **bounds
        )
        self.sent += seen.requests if name == "tollgate" else 0
        return seen

    def warm_up(self) -> None:
        for name, size, answer in itertools.product(NAMES, ("1 KB", "100 KB"), ANSWERS):
            self.load(name, size, answer, 8, requests=100 if QUICK else 500)

    def memory(self) -> dict[str, list[float]]:
        """Resident megabytes of each Envoy before and after large bodies."""
        found = {}
        for name in NAMES:
            say(f"memory: {BODIES} bodies of 1 MB, twice: {name}")
            pid = self.variants[name].pid
            found[name] = [memory_mb(pid)]
            for connections in (1, 8):
                self.load(name, "1 MB", "JSON", connections, requests=BODIES)
                time.sleep(SETTLED_SECONDS)
                found[name].append(memory_mb(pid))
        return found

    def cell(self, cell: Cell) -> dict[str, Measured]:
        say(str(cell))
        found = {name: Measured() for name in NAMES}
        for round in range(ROUNDS):
            # Each variant goes first, second and last.
            for turn in range(len(NAMES)):
                if cell == report.ALONE:
                    self.disk.sample(SYNCS)
                name = NAMES[(round + turn) % len(NAMES)]
                self.round(name, cell, found[name])
        sizes = {load.bytes / load.requests for measured in found.values() for load in measured.loads}
        # Ids are counted, so that their length may differ by a digit.
        if max(sizes) - min(sizes) > 8:
            raise SystemExit(f"the variants got different answers: {sizes} bytes each")
        return found

    def round(self, name: str, cell: Cell, measured: Measured) -> None:
        variant = self.variants[name]
        ledger_pid = getattr(variant, "ledger_pid", None)
        envoy, ledger = cpu_us(variant.pid), cpu_us(ledger_pid) if ledger_pid else 0
        rate = {} if cell.rate is None else {"rate": cell.rate}
        measured.loads.append(self.load(name, cell.body, cell.answer, cell.connections, seconds=SECONDS, **rate))
        if ledger_pid:
            time.sleep(SETTLED_SECONDS)
            measured.ledger_us += cpu_us(ledger_pid) - ledger
        measured.envoy_us += cpu_us(variant.pid) - envoy


def run(folder: pathlib.Path) -> Results:
    say("starting plain Envoy, Envoy with an empty filter, and Tollgate")
    bench = Bench(folder)
    try:
        bench.warm_up()
        memory = bench.memory()
        cells = {cell: bench.cell(cell) for cell in CELLS}
    finally:
        bench.variants.stop()
    append_us, overwrite_us = bench.disk.median_us()
    found = journal.check(folder / "tollgate" / "ledger.db", bench.sent)
    return Results(machine(), cells, memory, BODIES, append_us, overwrite_us, found)


def machine() -> list[str]:
    cpu = next((line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    envoy = subprocess.run([os.environ["TOLLGATE_ENVOY"], "--version"], capture_output=True, text=True, check=True).stdout
    version = envoy.split("version:")[-1].strip().split("/")[1]
    length = f"{ROUNDS} rounds of {SECONDS} s a cell and variant"
    return [
        f"{datetime.date.today():%-d %B %Y}, {os.cpu_count()} cores ({cpu.rpartition(':')[2].strip()}), Linux"
        f" {platform.release()}, Envoy {version} with {WORKERS} worker, {length}{', the short form' if QUICK else ''}.",
        "Load generator, provider, Envoy and ledger share these cores. Three values: plain Envoy / empty filter / Tollgate.",
    ]


def write(text: str) -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + text + END + after)
    say(f"written to {PAGE.relative_to(ROOT)}")


def main() -> None:
    # Told to stop, it stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Not in /tmp, which may be in memory: syncs have to be those of a disk.
    folder = ROOT / "target" / "bench"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.monotonic()
    text = report.page(run(folder))
    print(text, end="")
    if "--write" in sys.argv[1:]:
        write(text)
    shutil.rmtree(folder, ignore_errors=True)
    say(f"took {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
