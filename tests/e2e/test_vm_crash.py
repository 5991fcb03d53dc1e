"""The filter's VM dies under open requests. Another VM reports what it left, from the ring that outlives it."""

import http.client
import json
import time

import pytest
from books import Books, hold_of, price
from processes import frozen
from stack import wait_until
from wire import Http1, encode, read_events, whole

CRASH = {"x-test-crash": "now"}
STEER = {"x-mock-input": "1200", "x-mock-output": "34"}
CHARGE = price(1200, 34)
SLOW = {**STEER, "x-mock-output": "400", "x-mock-events": "20", "x-mock-event-delay-ms": "500"}
# Ten beats of a second until a VM is taken for dead, and some for a busy machine.
BURIAL = 40


@pytest.fixture
def stack(make_stack, own_mock):
    """One worker, so that a test knows which VM dies. The one of the main thread is the other."""
    return make_stack(own_mock, settings={"test_crash_header": "x-test-crash"}, env={"TOLLGATE_CONCURRENCY": "1"})


@pytest.fixture
def mock(own_mock):
    return own_mock


def crash(stack, books) -> None:
    with Http1(stack.port) as client:
        client.send(whole(books.key, books.body(), **CRASH))
        # The connection ends without an answer, or with one that nobody can take for success.
        try:
            assert client.answer().status >= 500
        except (OSError, http.client.HTTPException):
            pass


def recovers(stack, books) -> None:
    """Within seconds requests succeed again; until then they fail, and are not passed unmetered."""

    def succeeds():
        try:
            with Http1(stack.port) as client:
                return client.ask(whole(books.key, books.body(), **STEER))[0].status == 200
        except (OSError, http.client.HTTPException):
            return False

    wait_until(succeeds, "the VM is started again", 10)


def test_what_a_dead_vm_left_is_reported_by_another(stack, mock):
    books = Books(stack, mock)
    recovers(stack, books)

    # Streams that are open, one whose answer has not begun, and ends that the ledger has not heard of.
    streams = [Http1(stack.port) for _ in range(4)]
    for client in streams:
        client.send(whole(books.key, books.body(stream=True, max_tokens=4000), **SLOW))
        read_events(client.answer(), "content_block_delta", 1)
    waiting = Http1(stack.port)
    waiting.send(whole(books.key, books.body(), x_mock_hold="true"))
    ending = Http1(stack.port)
    ending.send(whole(books.key, books.body(), x_mock_hold="true", **STEER))
    wait_until(lambda: mock.held() == 2, "both are forwarded", 10)
    with frozen(stack, "tollgate-ledger"):
        mock.release()
        for client in (waiting, ending):
            assert client.answer().status == 200
        crash(stack, books)
        time.sleep(0.5)

    recovers(stack, books)
    for client in (*streams, waiting, ending):
        client.close()
    journal = books.accounted(patience=BURIAL, unsure=("filter_lost",))
    ends = [row["metadata"]["end"] for row in journal.values()]
    assert ends.count("filter_lost") == 4, ends
    # The ends that were known came through exactly.
    assert [row["spend"] for row in journal.values()].count(CHARGE) >= 3, journal
    for row in journal.values():
        if row["metadata"]["end"] == "filter_lost":
            assert row["metadata"]["estimated"] and row["spend"] >= price(1200, 400), row


@pytest.mark.parametrize("deaths", [3, pytest.param(30, marks=pytest.mark.soak)])
def test_vms_that_die_again_and_again_let_nothing_pass_unmetered(stack, mock, deaths):
    books = Books(stack, mock)
    for _ in range(deaths):
        recovers(stack, books)
        client = Http1(stack.port)
        client.send(whole(books.key, books.body(), x_mock_delay_ms=100))
        crash(stack, books)
        client.close()
    recovers(stack, books)
    books.accounted(patience=BURIAL, unsure=("filter_lost",))


def test_the_header_does_nothing_unless_a_test_asks_for_it(make_stack, own_mock):
    stack = make_stack(own_mock)
    books = Books(stack, own_mock)
    with Http1(stack.port) as client:
        answer, text = client.ask(whole(books.key, books.body(), **CRASH))
    assert answer.status == 200, json.loads(text)
    books.only()
