"""Whether the books know everything, on a cluster: the ledger's file is out of reach there, its admin API is not."""

import decimal

import httpx
from bill import bill
from books import Books, dollars
from stack import ask_admin


class Ledger:
    """The admin API of a ledger."""

    def __init__(self, http: httpx.Client, master: str):
        self.http = http
        self.master = master

    def admin(self, method: str, path: str, body=None, **parameters):
        return ask_admin(self.http, self.master, method, path, body, **parameters)


class KeyBooks(Books):
    """Requests with one key whose numbers begin with a name."""

    def __init__(self, ledger: Ledger, provider, key: str, name: str):
        super().__init__(ledger, provider, key)
        self.name = name

    def rows(self) -> list[dict]:
        """Those that were charged; what was refused or is still open, the API does not list."""
        return self.charged()

    def unreported(self) -> list[dict]:
        """What the provider recorded and nobody reported, because whoever knew of it died. Together it is held for no less than it
        cost; everything else is charged to the nano-dollar."""
        arrived, rows, info = self.at_one_moment()
        journal = {row["end_user"]: row for row in rows}
        assert len(journal) == len(rows), "a request stands in the journal twice"
        for number, row in journal.items():
            self.check(row, arrived.get(number), (), False)
        assert info["spend"] == sum(row["spend"] for row in rows)
        open_requests = [request for number, request in arrived.items() if number not in journal]
        assert info["pending"] >= at_most(open_requests)
        return open_requests


def at_most(requests) -> decimal.Decimal:
    """What the provider may charge for these: for one that was cut, as if it had been answered to its end."""
    return sum((dollars(bill({**request, "answer": {"state": "complete"}})) for request in requests), decimal.Decimal())
