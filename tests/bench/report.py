"""From measurements to a page of Markdown."""

import dataclasses
import statistics

from measure import Load
from variants import NAMES

ENVOY_RATIO_MAX = 2.3
LEDGER_US_MAX = 40
ADDED_BEYOND_SYNC_US_MAX = 400
MEMORY_MB_MAX = 12


@dataclasses.dataclass(frozen=True)
class Cell:
    """One kind of request at one concurrency."""

    body: str
    answer: str
    connections: int
    # Requests in a second; `None`: as many as there are answers.
    rate: int | None = None

    @property
    def load(self) -> str:
        """How much is asked for."""
        return str(self.connections) if self.rate is None else f"{self.rate:,}/s"

    def __str__(self) -> str:
        return f"{self.body}, {self.answer}, {f'c = {self.load}' if self.rate is None else self.load}"


# Where latency is compared with one sync of the disk, which is measured between the rounds.
ALONE = Cell("1 KB", "JSON", 1)


@dataclasses.dataclass
class Measured:
    """Rounds of one variant in one cell."""

    loads: list[Load] = dataclasses.field(default_factory=list)
    envoy_us: int = 0
    ledger_us: int = 0

    @property
    def requests(self) -> int:
        return sum(load.requests for load in self.loads)

    @property
    def envoy_us_each(self) -> float:
        return self.envoy_us / self.requests

    @property
    def ledger_us_each(self) -> float:
        return self.ledger_us / self.requests

    def median(self, what) -> float:
        """Of the rounds, so that one bad round is none."""
        return statistics.median(what(load) for load in self.loads)

    @property
    def rate(self) -> float:
        return self.median(lambda load: load.requests / load.seconds)

    @property
    def p50_us(self) -> float:
        return self.median(lambda load: load.p50_us)

    @property
    def p99_us(self) -> float:
        return self.median(lambda load: load.p99_us)


@dataclasses.dataclass
class Results:
    """Everything that one run measured."""

    machine: list[str]
    cells: dict[Cell, dict[str, Measured]]
    # Variant: at the start, after a thousand bodies one by one, after a thousand side by side.
    memory_mb: dict[str, list[float]]
    bodies: int
    append_us: float
    overwrite_us: float
    journal: list[str]


def page(results: Results) -> str:
    parts = [bullets(results.machine), table(results.cells), aims(results), bullets(results.journal)]
    return "\n".join(parts)


def bullets(lines: list[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def rows(head: list[str], body: list[list[str]], right_from: int) -> str:
    rule = ["---" if column < right_from else "---:" for column in range(len(head))]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule, *body])


def table(cells: dict[Cell, dict[str, Measured]]) -> str:
    head = ["body", "answer", "c, or rate", "requests/s", "p50 ms", "p99 ms", "Envoy CPU us", "empty", "Tollgate", "ledger CPU us"]
    body = []
    for cell, by_name in cells.items():
        all_three = [by_name[name] for name in NAMES]
        triple = lambda text: " / ".join(text(measured) for measured in all_three)
        ratio = lambda name: f"{by_name[name].envoy_us_each / by_name['plain'].envoy_us_each:.2f}x"
        body.append([
            cell.body,
            cell.answer,
            cell.load,
            triple(lambda measured: f"{measured.rate:,.0f}"),
            triple(lambda measured: f"{measured.p50_us / 1000:.2f}"),
            triple(lambda measured: f"{measured.p99_us / 1000:.2f}"),
            triple(lambda measured: f"{measured.envoy_us_each:.0f}"),
            ratio("empty"),
            ratio("tollgate"),
            f"{by_name['tollgate'].ledger_us_each:.0f}",
        ])
    return rows(head, body, 3)


def aims(results: Results) -> str:
    """Each aim, what was found, and whether that is enough."""
    found = [
        *(ratio_at(results, cell) for cell in results.cells if cell.body == "1 KB"),
        *(ledger_at(results, cell) for cell in results.cells if cell.connections == 64 and cell.rate is None),
        added(results),
        memory(results),
    ]
    body = [[aim, text, "yes" if reached else "**no**"] for aim, text, reached in found]
    return rows(["aim", "found", "reached"], body, 3)


def ratio_at(results: Results, cell: Cell) -> tuple[str, str, bool]:
    by_name = results.cells[cell]
    plain, tollgate = by_name["plain"].envoy_us_each, by_name["tollgate"].envoy_us_each
    return (
        f"Envoy CPU of a request <= {ENVOY_RATIO_MAX}x plain Envoy ({cell})",
        f"{tollgate / plain:.2f}x ({tollgate:.0f} us against {plain:.0f} us)",
        tollgate <= ENVOY_RATIO_MAX * plain,
    )


def ledger_at(results: Results, cell: Cell) -> tuple[str, str, bool]:
    ledger = results.cells[cell]["tollgate"].ledger_us_each
    aim = f"ledger CPU of a request <= {LEDGER_US_MAX} us ({cell})"
    return aim, f"{ledger:.0f} us", ledger <= LEDGER_US_MAX


def added(results: Results) -> tuple[str, str, bool]:
    by_name = results.cells[ALONE]
    plain, tollgate = by_name["plain"].p50_us, by_name["tollgate"].p50_us
    allowed = results.append_us + ADDED_BEYOND_SYNC_US_MAX
    return (
        f"added p50 <= one sync + 0.4 ms ({ALONE})",
        f"{(tollgate - plain) / 1000:.2f} ms ({tollgate / 1000:.2f} against {plain / 1000:.2f}); one sync"
        f" {results.append_us / 1000:.2f} ms appending, {results.overwrite_us / 1000:.2f} ms overwriting",
        tollgate - plain <= allowed,
    )


def memory(results: Results) -> tuple[str, str, bool]:
    story = lambda name: " -> ".join(f"{megabytes:.1f}" for megabytes in results.memory_mb[name])
    over = [tollgate - empty for tollgate, empty in zip(results.memory_mb["tollgate"], results.memory_mb["empty"])]
    return (
        f"Envoy's memory <= {MEMORY_MB_MAX} MB over the empty filter after {results.bodies:,} bodies of 1 MB",
        f"{over[1]:.1f} MB one by one, {over[2]:.1f} MB eight at a time (at the start {over[0]:.1f}); resident MB: Tollgate"
        f" {story('tollgate')}, empty {story('empty')}, plain {story('plain')}",
        max(over[1:]) <= MEMORY_MB_MAX,
    )
