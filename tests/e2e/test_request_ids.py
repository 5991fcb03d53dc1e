"""Every request has an id of its own, whichever VM made it: they are the ids of the holds."""

import http.client
import re
import threading

from books import Books
from stack import wait_until
from wire import Http1, head, whole


def ids(stack, count: int, key: str | None = None) -> list[str]:
    """The ids of so many requests, asked on several connections at once, so that both workers answer."""
    seen: list[str] = []

    def run():
        with Http1(stack.port) as client:
            for _ in range(count // 8):
                answer, _ = client.ask(head(key, "/v1/models", "GET") + b"\r\n")
                assert answer.status == 200
                seen.append(answer.headers["x-tollgate-request-id"])

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return seen


def serves(stack, key) -> None:
    def answers():
        try:
            with Http1(stack.port) as client:
                return client.ask(head(key, "/v1/models", "GET") + b"\r\n")[0].status == 200
        except (OSError, http.client.HTTPException):
            return False

    # On both workers, as far as so many connections can tell.
    wait_until(lambda: all(answers() for _ in range(12)), "it serves again", 20)


def test_ids_are_distinct_across_workers_reloads_and_restarts(make_stack, own_mock):
    stack = make_stack(own_mock, settings={"test_crash_header": "x-test-crash"})
    books = Books(stack, own_mock)
    seen = ids(stack, 800, books.key)
    for _ in range(4):
        with Http1(stack.port) as client:
            client.send(head(books.key, "/v1/models", "GET", x_test_crash="now") + b"\r\n")
            try:
                client.answer()
            except (OSError, http.client.HTTPException):
                pass
        serves(stack, books.key)
        seen += ids(stack, 400, books.key)
    for _ in range(2):
        stack.kill("envoy")
        serves(stack, books.key)
        seen += ids(stack, 400, books.key)
    stack.stop()
    stack.start()
    seen += ids(stack, 800, books.key)
    assert all(re.fullmatch("[0-9a-f]{32}", id) for id in seen)
    assert len(set(seen)) == len(seen) == 4_000
    # No bit is the same in all of them, nor does any part of them count.
    for at in range(32):
        assert len({id[at] for id in seen}) == 16, f"digit {at}"


def test_a_client_has_no_influence_on_the_id(stack, mock):
    books = Books(stack, mock)
    chosen = "00112233445566778899aabbccddeeff"
    answered = []
    for _ in range(3):
        with Http1(stack.port) as client:
            answer, _ = client.ask(
                whole(books.key, books.body(), x_request_id=chosen, x_tollgate_request_id=chosen, idempotency_key=chosen)
            )
        assert answer.status == 200
        answered.append(answer.headers["x-tollgate-request-id"])
    assert len({*answered, chosen}) == 4
    assert {row["request_id"] for row in books.accounted().values()} == set(answered)
