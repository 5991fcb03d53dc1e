"""Stopping the whole under load, gently and not."""

import os
import signal
import threading
import time

import pytest
from books import Books, price
from crowd import Crowd
from processes import children, is_alive
from stack import Stack, wait_until
from wire import Http1, read_events, whole

# A stream of about two seconds.
SLOW = {"x-mock-input": "1200", "x-mock-output": "400", "x-mock-events": "20", "x-mock-event-delay-ms": "80"}
STREAM = {"stream": True, "max_tokens": 4000}


def open_streams(books, count: int) -> list:
    """Streams that have begun."""
    clients = [Http1(books.stack.port) for _ in range(count)]
    for client in clients:
        client.send(whole(books.key, books.body(**STREAM), **SLOW))
    streams = [(client, client.answer()) for client in clients]
    for _, answer in streams:
        read_events(answer, "content_block_delta", 1)
    return streams


def read_to_the_end(stream, ends: list) -> threading.Thread:
    """Reads on a thread of its own; tells the list how it ended."""
    client, answer = stream

    def run():
        try:
            ends.append(b"event: message_stop\n" in answer.read())
        except Exception as error:  # However it broke, it is not whole.
            ends.append(error)
        finally:
            client.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_streams_end_and_sends_every_settle(make_stack, own_mock, number):
    stack = make_stack(own_mock)
    books = Books(stack, own_mock)
    ends: list = []
    parts = children(stack.process.pid)
    assert len(parts) == 2, "the ledger and Envoy"
    with Crowd(books, 8, pause=0.01) as crowd:
        streams = [read_to_the_end(stream, ends) for stream in open_streams(books, 12)]
        time.sleep(0.3)
        stack.process.send_signal(number)
        stack.process.wait(30)
        assert stack.process.returncode == 0, stack.logs()
        assert not any(is_alive(pid) for pid in parts), "a part is left"
        crowd.stop()
    for thread in streams:
        thread.join(10)
    assert ends == [True] * 12
    # What the crowd saw: answers, or refusals and closed doors once it drained, no half answer that is not charged.
    assert crowd.seen[200] > 8, crowd.seen

    stack.start()
    assert books.info()["pending"] == 0, "a settle was not sent before the end"
    journal = books.accounted()
    assert sorted(row["spend"] for row in journal.values())[-12:] == [price(1200, 400)] * 12
    assert all(row["metadata"]["end"] in ("complete", "client_left") for row in journal.values() if row["spend"])
    stack.stop()


def test_a_second_signal_stops_at_once(make_stack, own_mock):
    stack = make_stack(own_mock)
    books = Books(stack, own_mock)
    parts = children(stack.process.pid)
    client = Http1(stack.port)
    client.send(whole(books.key, books.body(**STREAM), **{**SLOW, "x-mock-event-delay-ms": "60000"}))
    client.answer()
    stack.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert stack.process.poll() is None, "it waits for the stream"
    stack.process.send_signal(signal.SIGTERM)
    stack.process.wait(15)
    assert not any(is_alive(pid) for pid in parts)
    client.close()
    stack.start()
    # Nobody reported it: it is held until it expires, and charged then.
    assert books.info()["pending"] > 0
    books.accounted(pending=True)


def test_a_supervisor_that_is_killed_leaves_no_child_and_its_data_serve_on(make_stack, own_mock):
    stack = make_stack(own_mock)
    books = Books(stack, own_mock)
    parts = children(stack.process.pid)
    with Crowd(books, 8, pause=0.01):
        time.sleep(0.5)
        os.kill(stack.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(is_alive(pid) for pid in parts), "the parts end with it", 3)
    stack.process.wait(10)
    stack.start()
    with Http1(stack.port) as client:
        assert client.ask(whole(books.key, books.body()))[0].status == 200
    journal = books.accounted(pending=True)
    assert sum(row["state"] == "settled" for row in journal.values()) > 8
    stack.stop()


def test_data_that_is_in_use_is_not_opened_twice(make_stack, own_mock):
    stack = make_stack(own_mock)
    with pytest.raises(AssertionError, match="two never share one file"):
        Stack(own_mock, data=stack.data)
