"""Envoy dies under load, without a goodbye. What it knew is gone; what the ledger acknowledged is not."""

import sqlite3
import time

import pytest
from books import Books
from crowd import Crowd
from stack import wait_until

STREAM = {"stream": True, "max_tokens": 400}
SLOW = {"x-mock-output": "100", "x-mock-events": "20", "x-mock-event-delay-ms": "10"}


def serves(stack) -> None:
    def answers():
        try:
            return stack.http.get("/api/hello").status_code == 200
        except Exception:  # However it fails, it does not serve.
            return False

    wait_until(answers, "Envoy is started again", 20)


def kill_under_load(stack, mock, deaths: int) -> Books:
    """Three crowds at once: short answers, streams, and answers that take their time."""
    books = Books(stack, mock)
    # As fast as the mock provider's record lasts.
    pause = 0.01 * deaths if deaths > 2 else 0.01
    crowds = [
        Crowd(books, 12, pause=pause),
        Crowd(books, 10, STREAM, pause, **SLOW),
        Crowd(books, 6, {"max_tokens": 400}, pause, **{"x-mock-delay-ms": "200"}),
    ]
    for crowd in crowds:
        crowd.__enter__()
    for number in range(deaths):
        # Beyond ten seconds of life a death is no failed start.
        time.sleep(11.5 if number % 4 == 3 else 1.2)
        stack.kill("envoy")
        serves(stack)
    time.sleep(1)
    seen = [crowd.stop() for crowd in crowds]
    for each in seen:
        assert each.keys() <= {200, None}, seen
    assert sum(each[200] for each in seen) > 50 * deaths and sum(each[None] for each in seen) > 0, seen
    # What ended while Envoy lived is reported within some ticks.
    time.sleep(1)
    return books


@pytest.mark.parametrize("deaths", [2, pytest.param(60, marks=pytest.mark.soak)])
def test_after_the_death_of_envoy_every_answer_is_charged_or_still_held(make_stack, own_mock, deaths):
    stack = make_stack(own_mock)
    books = kill_under_load(stack, own_mock, deaths)
    journal = books.accounted(pending=True)
    open_rows = [number for number, row in journal.items() if row["state"] == "pending"]
    # Only what was open when it died, or ended and not reported: one for each client, and those of some ticks.
    assert 0 < len(open_rows) < 28 * 4 * deaths, f"{len(open_rows)} of {len(journal)}"
    # Those are held in full, so no budget is exceeded meanwhile.
    assert books.info()["pending"] > 0


@pytest.mark.soak
def test_what_a_dead_envoy_left_expires_and_is_charged_in_full(make_stack, own_mock):
    stack = make_stack(own_mock)
    books = kill_under_load(stack, own_mock, 1)
    pending = books.info()["pending"]
    spend = books.info()["spend"]
    assert pending > 0
    stack.stop()
    # Fifteen minutes later, without the wait.
    with sqlite3.connect(stack.data / "ledger.db") as file:
        file.execute("UPDATE hold SET expires_at = created_at WHERE state = 0")
    stack.start()
    # For two minutes after a start nothing expires.
    assert books.info()["pending"] == pending
    info = books.quiet(180)
    assert info["spend"] == spend + pending
    expired = [row for row in books.charged() if row["state"] == "expired"]
    assert sum(row["spend"] for row in expired) == pending
    assert all(row["metadata"]["estimated"] for row in expired)
