"""Whether the books know everything: each request carries a number that both the provider's record and the journal show."""

import contextlib
import decimal
import hashlib
import itertools
import secrets
import sqlite3

from bill import NANO, bill, cost, Usage
from stack import MESSAGE, Mock, Stack, wait_until
from wire import Http1, whole

MODEL = MESSAGE["model"]
# Requests that the mock provider keeps a record of.
RECORDED_MAX = 20_000


def price(input: int, output: int) -> decimal.Decimal:
    """Dollars of an answer of this usage, by the program that shares nothing with the product."""
    return dollars(cost(MODEL, Usage(input=input, output=output)))


def dollars(nano: int) -> decimal.Decimal:
    return decimal.Decimal(nano) / NANO


class Books:
    """One key, and every request that is made with it."""

    def __init__(self, stack: Stack, mock: Mock, key: str | None = None, **fields):
        self.stack, self.mock = stack, mock
        self.key = key or stack.key(**fields)
        self.name = secrets.token_hex(4)
        self.numbers = itertools.count(1)

    def body(self, **fields) -> dict:
        """The body of a request that can be told from all others."""
        return {**MESSAGE, "metadata": {"user_id": f"{self.name}-{next(self.numbers):06}"}, **fields}

    def info(self) -> dict:
        return self.stack.admin("GET", "/key/info", key=self.key)["info"]

    def holds(self) -> set[str]:
        """Every hold of this key that was ever made. The API lists what was charged; what was not stands in the file."""
        digest = hashlib.sha256(self.key.encode()).digest()
        with contextlib.closing(sqlite3.connect(f"file:{self.stack.data / 'ledger.db'}?mode=ro", uri=True)) as file:
            return {id.hex() for (id,) in file.execute("SELECT id FROM hold WHERE digest = ?", [digest])}

    def rows(self) -> list[dict]:
        """Every request of this key, whatever became of it."""
        holds, charged = self.holds(), self.charged()
        others = holds - {row["request_id"] for row in charged}
        assert len(others) + len(charged) == len(holds), "the list has requests that the file has not"
        return charged + [self.stack.admin("GET", "/spend/logs", request_id=id)[0] for id in others]

    def charged(self) -> list[dict]:
        """The requests that were charged, newest first."""
        pages = itertools.count(1)
        rows = []
        while page := self.stack.admin("GET", "/spend/logs", api_key=self.key, page=next(pages), size=1000):
            rows += page
        return rows

    def arrived(self) -> dict[str, dict]:
        """What the provider got of these requests, by number."""
        assert self.mock.count() <= RECORDED_MAX, "the mock provider has begun to forget"
        found = {}
        for request in self.mock.requests():
            body = request["body"] if isinstance(request["body"], dict) else {}
            number = (body.get("metadata") or {}).get("user_id") or ""
            if number.startswith(self.name):
                assert number not in found, f"request {number} was sent twice"
                found[number] = request
        return found

    def quiet(self, patience: float = 30) -> dict:
        """The key's account once nothing is pending any more."""
        return wait_until(lambda: (info := self.info())["pending"] == 0 and info, "every hold has ended", patience)

    def accounted(self, patience: float = 30, unsure: tuple[str, ...] = (), pending: bool = False) -> dict[str, dict]:
        """Every request that the provider answered is charged exactly once, none that it refused or never got, nothing is
        pending, and the key's spend is the sum. Gives the rows by number.

        `unsure`: ends of requests that are charged though the provider may not have got them, because nobody can know.
        `pending`: Envoy died, so that holds may wait for their expiry."""
        if not pending:
            self.quiet(patience)
        arrived, rows, info = self.at_one_moment()
        journal = {row["end_user"]: row for row in rows}
        assert len(journal) == len(rows), "a request stands in the journal twice"
        missing = sorted(arrived.keys() - journal.keys())
        assert not missing, f"the provider got what the journal does not know: {missing}"
        for number, row in journal.items():
            self.check(row, arrived.get(number), unsure, pending)
        assert info["spend"] == sum(row["spend"] for row in rows)
        open_rows = [row for row in rows if row["state"] == "pending"]
        assert bool(open_rows) == (info["pending"] > 0) and (pending or not open_rows)
        return journal

    def at_one_moment(self) -> tuple[dict, list[dict], dict]:
        """What the provider got, the rows, and the account, with nothing changed in between: a report may still arrive."""
        while True:
            before, arrived, rows, after = self.info(), self.arrived(), self.rows(), self.info()
            if before == after:
                return arrived, rows, after

    def check(self, row: dict, request: dict | None, unsure: tuple[str, ...], pending: bool) -> None:
        if pending and row["state"] == "pending":
            return
        if request is None:
            assert row["state"] == "voided" or row["metadata"]["end"] in unsure, row
        elif request["status"] is not None and request["status"] >= 400:
            assert row["state"] == "voided", row
        else:
            assert row["state"] == "settled" and row["spend"] > 0, row
        if row["state"] == "voided":
            assert row["spend"] == 0, row
        elif not row["metadata"]["estimated"]:
            assert row["spend"] == dollars(bill(request)), (row, request)

    def only(self, **options) -> dict:
        """The one row, once everything is accounted for."""
        journal = self.accounted(**options)
        assert len(journal) == 1, journal
        return next(iter(journal.values()))


def hold_of(stack: Stack, body: bytes) -> decimal.Decimal:
    """What a request with this body is held for: asked with a key that has next to nothing."""
    with Http1(stack.port) as client:
        answer, text = client.ask(whole(stack.key(max_budget=1e-9), body))
    assert answer.status == 402, (answer.status, text)
    return decimal.Decimal(answer.headers["x-tollgate-requested"])
