"""The ledger dies, hangs and restarts: requests wait or are refused, and no usage is lost or counted twice."""

import json
import threading
import time

import pytest
from books import Books, price
from crowd import Crowd
from processes import frozen
from stack import Stack, wait_until
from wire import Http1, whole

LEDGER = "tollgate-ledger"
STEER = {"x-mock-input": "1200", "x-mock-output": "34"}
CHARGE = price(1200, 34)


@pytest.fixture(scope="module")
def one_worker(shared_mock):
    """One worker, so that its filter knows a key after one request."""
    stack = Stack(shared_mock, env={"TOLLGATE_CONCURRENCY": "1"})
    yield stack
    stack.close()


@pytest.fixture
def books(one_worker, mock):
    """A key that the filter knows, and one request made with it."""
    books = Books(one_worker, mock)
    with Http1(one_worker.port) as client:
        assert client.ask(whole(books.key, books.body(), **STEER))[0].status == 200
    assert books.only()["spend"] == CHARGE
    return books


def ask_aside(books, **headers):
    """A request on a thread of its own; the list gets the status and the body of the answer."""
    seen = []

    def run():
        with Http1(books.stack.port) as client:
            answer, text = client.ask(whole(books.key, books.body(), **STEER, **headers))
            seen.extend((answer.status, text))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, seen


def test_a_ledger_killed_between_hold_and_settle_gets_the_settle_once_it_is_back(books, mock):
    thread, seen = ask_aside(books, x_mock_hold="true")
    wait_until(lambda: mock.held() == 1, "the request is held and forwarded", 10)
    books.stack.kill(LEDGER)
    mock.release()
    thread.join(10)
    assert seen[0] == 200, "the answer does not wait for the ledger"
    serves(books.stack)
    journal = books.accounted()
    assert [row["spend"] for row in journal.values()] == [CHARGE] * 2


def serves(stack) -> None:
    wait_until(lambda: stack.http.get("/health/readiness").status_code == 200, "the ledger is started again", 10)


def test_a_settle_whose_answer_never_comes_is_sent_again_and_counts_once(books, mock):
    thread, seen = ask_aside(books, x_mock_hold="true")
    wait_until(lambda: mock.held() == 1, "the request is held and forwarded", 10)
    with frozen(books.stack, LEDGER):
        mock.release()
        thread.join(10)
        assert seen[0] == 200
        # Longer than the filter waits for an answer: when the ledger wakes up it finds the report twice.
        time.sleep(2.6)
    journal = books.accounted()
    assert [row["spend"] for row in journal.values()] == [CHARGE] * 2


def test_a_ledger_that_hangs_refuses_within_seconds_and_what_it_held_is_voided(books, mock):
    count = mock.count()
    with frozen(books.stack, LEDGER), Http1(books.stack.port) as client:
        started = time.monotonic()
        answer, text = client.ask(whole(books.key, books.body(), **STEER))
        waited = time.monotonic() - started
    error = json.loads(text)
    assert (answer.status, error["type"], error["error"]["type"]) == (503, "error", "api_error")
    assert "Budgets cannot be checked" in error["error"]["message"]
    assert answer.headers["x-should-retry"] == "false" and answer.headers["x-tollgate-request-id"]
    assert 1 < waited < 7
    assert mock.count() == count
    # Awake again it finds the holds that nobody waits for any more, and their voids.
    with Http1(books.stack.port) as client:
        assert client.ask(whole(books.key, books.body(), **STEER))[0].status == 200
    journal = books.accounted()
    assert sorted(row["state"] for row in journal.values() if row["spend"]) == ["settled"] * 2
    assert books.info()["spend"] == 2 * CHARGE


def test_a_ledger_that_hangs_refuses_keys_that_the_filter_does_not_know_yet(one_worker, mock):
    books = Books(one_worker, mock)
    with frozen(one_worker, LEDGER), Http1(one_worker.port) as client:
        answer, text = client.ask(whole(books.key, books.body()))
    assert (answer.status, json.loads(text)["error"]["type"]) == (503, "api_error")
    assert mock.count() == 0
    assert books.accounted() == {}


def test_a_restart_of_the_ledger_during_a_burst_refuses_nobody(books, mock):
    with Crowd(books, 12, **STEER) as crowd:
        for _ in range(2):
            time.sleep(0.7)
            books.stack.kill(LEDGER)
            time.sleep(1.0)
        seen = crowd.stop()
    serves(books.stack)
    assert seen.keys() == {200} and seen[200] > 50, seen
    journal = books.accounted()
    assert len(journal) == seen[200] + 1
    assert {row["spend"] for row in journal.values()} == {CHARGE}


@pytest.mark.soak
def test_sixty_deaths_of_the_ledger_lose_nothing(make_stack, own_mock):
    stack = make_stack(own_mock)
    books = Books(stack, own_mock)
    # As fast as the mock provider's record lasts.
    with Crowd(books, 16, pause=0.25, **STEER) as crowd:
        for number in range(60):
            # Beyond ten seconds of life a death is no failed start.
            time.sleep(11.5 if number % 4 == 3 else 1.5)
            stack.kill(LEDGER)
        time.sleep(2)
        seen = crowd.stop()
    serves(stack)
    assert seen.keys() == {200}, seen
    assert len(books.accounted(patience=60)) == seen[200]
