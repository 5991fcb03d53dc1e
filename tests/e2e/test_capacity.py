"""What the filter keeps is bounded: open requests, and bodies that wait for a decision. Beyond, it refuses."""

import json
import time

import pytest
from books import Books
from stack import wait_until
from wire import Http1, encode, head, whole

MIB = 1024 * 1024


def refused(answer, text) -> bool:
    error = json.loads(text)
    return (answer.status, answer.headers["x-tollgate-denial"], error["error"]["type"]) == (503, "overloaded", "api_error")


def test_more_open_requests_than_the_ring_has_slots_are_refused(make_stack, own_mock):
    stack = make_stack(own_mock, settings={"slots": 4})
    books = Books(stack, own_mock)
    clients = [Http1(stack.port) for _ in range(4)]
    for client in clients:
        client.send(whole(books.key, books.body(), x_mock_hold="true"))
    wait_until(lambda: own_mock.held() == 4, "all slots are taken", 10)
    for _ in range(3):
        with Http1(stack.port) as client:
            assert refused(*client.ask(whole(books.key, books.body())))
    assert own_mock.count() == 4
    own_mock.release()
    for client in clients:
        assert client.answer().status == 200
        client.close()
    books.quiet()
    # Each slot is free again once its end is confirmed.
    for _ in range(8):
        with Http1(stack.port) as client:
            assert client.ask(whole(books.key, books.body()))[0].status == 200
        books.quiet()
    assert len(books.accounted()) == 12


@pytest.mark.parametrize("own_end", ["completed", "left"])
def test_waiting_bodies_of_one_key_are_bounded_and_leave_others_alone(make_stack, own_mock, own_end):
    stack = make_stack(
        own_mock, settings={"buffered_bytes_per_key_max": 5 * MIB}, env={"TOLLGATE_CONCURRENCY": "1"}
    )
    greedy, other = Books(stack, own_mock), Books(stack, own_mock)

    def large(books):
        return encode(books.body(messages=[{"role": "user", "content": "x" * 3 * MIB}]))

    body = large(greedy)
    first = Http1(stack.port)
    first.send(head(greedy.key, content_length=len(body)) + b"\r\n" + body[:-1])
    time.sleep(0.3)
    with Http1(stack.port) as second:
        second.send(head(greedy.key, content_length=len(body)) + b"\r\n" + body[:-1])
        answer = second.answer()
        assert refused(answer, answer.read())
    with Http1(stack.port) as client:
        assert client.ask(whole(other.key, large(other)))[0].status == 200
    if own_end == "completed":
        first.send(body[-1:])
        assert first.answer().status == 200
    first.close()
    time.sleep(0.1)
    # The room is given back, however the first one ended.
    with Http1(stack.port) as client:
        assert client.ask(whole(greedy.key, large(greedy)))[0].status == 200
    greedy.quiet()
    assert len(greedy.charged()) == (2 if own_end == "completed" else 1)
