"""Clients that leave. Esc in Claude Code must neither be free nor cost the worst case."""

import random
import time

import pytest
from books import Books, hold_of, price
from processes import frozen
from stack import Stack, wait_until
from wire import Http1, Http2, encode, read_events, whole

# 20 events of 20 tokens each, 50 ms apart.
SLOW = {"x-mock-input": "1200", "x-mock-output": "400", "x-mock-events": "20", "x-mock-event-delay-ms": "50"}
STREAM = {"stream": True, "max_tokens": 4000}


def leave_by_end(stack, key, body):
    client = Http1(stack.port)
    client.send(whole(key, body, **SLOW))
    read_events(client.answer(), "content_block_delta", 5)
    client.close()


def leave_by_reset(stack, key, body):
    client = Http1(stack.port)
    client.send(whole(key, body, **SLOW))
    read_events(client.answer(), "content_block_delta", 5)
    client.abort()


def leave_by_cancelling(stack, key, body):
    with Http2(stack.port) as client:
        client.head(key, **SLOW)
        client.data(encode(body), end=True)
        client.read_until(lambda: client.body.count(b"event: content_block_delta") >= 5)
        client.cancel()
        # The connection stays: only the stream is over.
        time.sleep(0.3)


@pytest.mark.parametrize("leave", [leave_by_end, leave_by_reset, leave_by_cancelling])
def test_a_client_that_leaves_a_stream_is_charged_what_was_produced(stack, mock, leave):
    books = Books(stack, mock)
    body = books.body(**STREAM)
    leave(stack, books.key, body)
    row = books.only()
    assert (row["state"], row["metadata"]["end"], row["metadata"]["estimated"]) == ("settled", "client_left", True)
    # The input was named at the start; of 400 tokens of output a quarter went by.
    assert row["prompt_tokens"] == 1200
    assert 60 <= row["completion_tokens"] <= 300
    assert price(1200, 60) <= row["spend"] <= price(1200, 300) < hold_of(stack, encode(body))
    (arrived,) = books.arrived().values()
    wait_until(lambda: mock.requests()[-1]["answer"]["state"] == "client_left", "the provider learns of it", 5)
    assert arrived["answer"]["state"] != "complete"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_the_answer_is_charged_for_the_time(stack, mock, stream):
    books = Books(stack, mock)
    body = books.body(stream=stream, max_tokens=4000)
    client = Http1(stack.port)
    client.send(whole(books.key, body, x_mock_delay_ms=20_000))
    wait_until(lambda: mock.count() == 1, "the provider has it", 10)
    time.sleep(0.4)
    client.close()
    row = books.only()
    assert (row["state"], row["metadata"]["end"], row["metadata"]["estimated"]) == ("settled", "client_left", True)
    assert row["metadata"]["provider_status"] is None
    # Nothing was seen: as much as a fast model writes in half a second, far from the 4,000 that were held.
    assert 20 <= row["completion_tokens"] <= 400
    assert 0 < row["spend"] < hold_of(stack, encode(body)) / 5


@pytest.fixture(scope="module")
def one_worker(shared_mock):
    """One worker, so that its filter knows a key after one request."""
    stack = Stack(shared_mock, env={"TOLLGATE_CONCURRENCY": "1"})
    yield stack
    stack.close()


def test_a_client_that_leaves_during_the_hold_costs_nothing(one_worker, mock):
    books = Books(one_worker, mock)
    with Http1(one_worker.port) as client:
        assert client.ask(whole(books.key, books.body()))[0].status == 200
    first = books.only()
    with frozen(one_worker, "tollgate-ledger"):
        clients = [Http1(one_worker.port) for _ in range(6)]
        for number, client in enumerate(clients):
            client.send(whole(books.key, books.body()))
            time.sleep(0.05)
            client.abort() if number % 2 else client.close()
        time.sleep(0.1)
    # The ledger reads holds that nobody waits for, and voids, in an order that is its own affair.
    time.sleep(0.5)
    with Http1(one_worker.port) as client:
        assert client.ask(whole(books.key, books.body()))[0].status == 200
    journal = books.accounted()
    assert mock.count() == 2
    assert books.info()["spend"] == 2 * first["spend"]
    assert [row["state"] for row in journal.values()].count("settled") == 2


@pytest.mark.parametrize("clients", [60, pytest.param(2_000, marks=pytest.mark.soak)])
def test_clients_that_leave_at_any_moment_leave_no_hold_behind(stack, mock, clients):
    books = Books(stack, mock)
    chance = random.Random(clients)
    for number in range(clients):
        client = Http1(stack.port)
        client.send(whole(books.key, books.body(stream=number % 2 == 0), x_mock_event_delay_ms=1))
        time.sleep(chance.random() * 0.012)
        client.abort() if chance.random() < 0.5 else client.close()
    time.sleep(0.3)
    # One that left just as it was forwarded is charged for its input, whether it was still sent or not.
    journal = books.accounted(unsure=("client_left",))
    assert len(journal) >= mock.count()
