"""Whether each request was a real one: read from the ledger's file once the ledger has stopped."""

import contextlib
import json
import pathlib
import sqlite3


def check(file: pathlib.Path, requests: int) -> list[str]:
    """What was found, in sentences. Raises when a request was not held, was not settled, or not on four accounts."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as books:
        one = lambda query: books.execute(query).fetchone()
        entries = dict(books.execute("SELECT kind, count(*) FROM entry WHERE hold IS NOT NULL GROUP BY kind"))
        held, settled = entries.get("hold", 0), entries.get("settle", 0)
        expect("holds in the journal", held, requests)
        expect("settles in the journal", settled, requests)
        expect("other ends in the journal", sorted(entries.keys() - {"hold", "settle", "adjust"}), [])
        expect("estimated settles", one("SELECT count(*) FROM hold WHERE estimated OR end_reason IS NULL")[0], 0)
        expect("pending", one("SELECT sum(abs(pending)) FROM balance")[0], 0)
        spent = one("SELECT sum(posted) FROM hold")[0]
        charged = books.execute(
            "SELECT account.kind, balance.posted FROM balance JOIN account USING (account)"
            ' JOIN budget_limit USING (account, "window") ORDER BY 1'
        ).fetchall()
        kinds = ["key", "organization", "team", "user"]
        expect("what each limited account was charged", charged, [(kind, spent) for kind in kinds])
    return [
        f"{requests:,} requests were sent through Tollgate; the journal has {held:,} holds and {settled:,} settles, none"
        " estimated, nothing pending.",
        f"Key, user, team and organization were each charged the same sum, that of all requests: {dollars(spent)}.",
    ]


def expect(what: str, found, wanted) -> None:
    if found != wanted:
        raise SystemExit(f"not a benchmark of real requests: {what}: {json.dumps(found)} instead of {json.dumps(wanted)}")


def dollars(nano: int) -> str:
    return f"${nano // 10**9:,}.{nano % 10**9:09}"
