"""Bodies as they come over the wire: every way in which one can end, arrive in pieces, or be too large."""

import json
import time

import pytest
from books import Books, price
from processes import memory_bytes
from wire import Http1, Http2, chunks, encode, head, whole

MIB = 1024 * 1024
# What the mock answers to this request: a usage that is told in whole, so that the charge is exact.
STEER = {"x-mock-input": "1200", "x-mock-output": "34"}
CHARGE = price(1200, 34)


def ask_h2_trailers(stack, key, body):
    with Http2(stack.port) as client:
        client.head(key, **STEER)
        client.data(body[:50])
        client.data(body[50:])
        client.trailers(**{"x-checksum": "17"})
        return client.answer()


def ask_h2_empty_last_frame(stack, key, body):
    with Http2(stack.port) as client:
        client.head(key, **STEER)
        client.data(body)
        client.data(b"", end=True)
        return client.answer()


def ask_h2_trailers_after_a_while(stack, key, body):
    with Http2(stack.port) as client:
        client.head(key, **STEER)
        client.data(body)
        time.sleep(0.1)
        client.trailers(**{"x-checksum": "17"})
        return client.answer()


def ask_chunked(sizes, pause=0.0, last=b"0\r\n\r\n"):
    def ask(stack, key, body):
        with Http1(stack.port) as client:
            client.send(head(key, transfer_encoding="chunked", **STEER) + b"\r\n")
            for chunk in chunks(body, sizes):
                client.send(chunk)
                time.sleep(pause)
            client.send(last)
            answer = client.answer()
            return answer.status, answer.read()

    return ask


def ask_in_pieces(size):
    def ask(stack, key, body):
        with Http1(stack.port) as client:
            client.send(head(key, content_length=len(body), **STEER) + b"\r\n")
            for at in range(0, len(body), size):
                client.send(body[at : at + size])
            answer = client.answer()
            return answer.status, answer.read()

    return ask


def ask_after_continue(stack, key, body):
    with Http1(stack.port) as client:
        client.send(head(key, content_length=len(body), expect="100-continue", **STEER) + b"\r\n")
        assert client.socket.recv(1024).startswith(b"HTTP/1.1 100 ")
        client.send(body)
        answer = client.answer()
        return answer.status, answer.read()


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(ask_after_continue, id="after a 100"),
        pytest.param(ask_h2_trailers, id="h2, ended by trailers"),
        pytest.param(ask_h2_trailers_after_a_while, id="h2, trailers after a while"),
        pytest.param(ask_h2_empty_last_frame, id="h2, ended by an empty frame"),
        pytest.param(ask_chunked([1]), id="chunks of one byte"),
        pytest.param(ask_chunked([1, 7, 13, 2, 61]), id="odd chunks"),
        pytest.param(ask_chunked([40], pause=0.01), id="chunks with pauses"),
        pytest.param(ask_chunked([100], last=b"0\r\nx-checksum: 17\r\n\r\n"), id="chunks, ended by trailers"),
        pytest.param(ask_in_pieces(1), id="a length, byte by byte"),
    ],
)
def test_a_body_is_metered_however_it_arrives(stack, mock, ask):
    books = Books(stack, mock)
    # Two, three and four bytes a character, raw: the pieces end inside of them.
    text = "Grüße, 世界! 🚪 " * 5
    body = json.dumps(books.body(messages=[{"role": "user", "content": text}]), ensure_ascii=False).encode()
    status, answer = ask(stack, books.key, body)
    assert status == 200, answer
    row = books.only()
    assert (row["spend"], row["metadata"]["estimated"]) == (CHARGE, False)
    (arrived,) = books.arrived().values()
    assert arrived["body"]["messages"][0]["content"] == text


def test_requests_that_follow_at_once_on_one_connection_are_each_metered(stack, mock):
    books = Books(stack, mock)
    with Http1(stack.port) as client:
        client.send(b"".join(whole(books.key, books.body(), **STEER) for _ in range(5)))
        for _ in range(5):
            answer = client.answer()
            assert answer.status == 200
            answer.read()
    assert [row["spend"] for row in books.accounted().values()] == [CHARGE] * 5


def end_with_length(stack, key):
    with Http1(stack.port) as client:
        answer, text = client.ask(head(key, content_length=0) + b"\r\n")
        return answer.status, text


def end_without_length(stack, key):
    with Http1(stack.port) as client:
        answer, text = client.ask(head(key) + b"\r\n")
        return answer.status, text


def end_of_no_chunks(stack, key):
    with Http1(stack.port) as client:
        answer, text = client.ask(head(key, transfer_encoding="chunked") + b"\r\n0\r\n\r\n")
        return answer.status, text


def end_in_h2_headers(stack, key):
    with Http2(stack.port) as client:
        client.head(key, end=True)
        return client.answer()


def end_in_h2_trailers(stack, key):
    with Http2(stack.port) as client:
        client.head(key)
        client.trailers(**{"x-checksum": "17"})
        return client.answer()


@pytest.mark.parametrize(
    "ask", [end_with_length, end_without_length, end_of_no_chunks, end_in_h2_headers, end_in_h2_trailers]
)
def test_a_request_without_a_body_is_refused(stack, mock, ask):
    books = Books(stack, mock)
    status, text = ask(stack, books.key)
    error = json.loads(text)
    assert (status, error["type"], error["error"]["type"]) == (400, "error", "invalid_request_error")
    assert mock.count() == 0
    assert books.accounted() == {}


@pytest.mark.parametrize("cut", ["before its length", "in the middle of a chunk"])
def test_a_body_that_stops_short_reaches_nobody(stack, mock, cut):
    books = Books(stack, mock)
    body = encode(books.body())
    with Http1(stack.port) as client:
        if cut == "before its length":
            client.send(head(books.key, content_length=len(body)) + b"\r\n" + body[:-1])
        else:
            client.send(head(books.key, transfer_encoding="chunked") + b"\r\n%x\r\n" % len(body) + body[:-1])
        time.sleep(0.2)
    time.sleep(0.2)
    assert mock.count() == 0
    assert books.accounted() == {}


def padded(books, size: int) -> bytes:
    """A body of about this size, its own fields last, as Claude Code sends them."""
    fields = books.body()
    messages = fields.pop("messages")
    messages = [{"role": "user", "content": "x" * size}] + messages
    return encode({"messages": messages, **fields})


def test_bodies_of_many_megabytes_pass_and_memory_stays_bounded(stack, mock):
    books = Books(stack, mock)
    envoy = stack.pid_of("envoy")
    before = memory_bytes(envoy)
    for round in range(3):
        for size in (2 * MIB, 20 * MIB):
            body = padded(books, size)
            with Http1(stack.port) as client:
                answer, text = client.ask(whole(books.key, body, **STEER))
                assert answer.status == 200, text
            assert mock.requests()[-1]["body_bytes"] == len(body)
    books.quiet()
    rows = books.rows()
    assert [(row["state"], row["spend"]) for row in rows] == [("settled", CHARGE)] * 6
    # One body in each worker, in Envoy's buffer and the filter's memory at the same time, and no more for later ones.
    assert memory_bytes(envoy) - before < 160 * MIB


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_the_limit_is_refused_in_the_shape_of_the_api(stack, mock, announced):
    books = Books(stack, mock)
    body = padded(books, 33 * MIB)
    with Http1(stack.port) as client:
        try:
            if announced:
                client.send(whole(books.key, body))
            else:
                client.send(head(books.key, transfer_encoding="chunked") + b"\r\n")
                for chunk in chunks(body, [MIB]):
                    client.send(chunk)
        except OSError:
            pass  # It need not read what it has refused.
        answer = client.answer()
        error = json.loads(answer.read())
    assert (answer.status, error["type"], error["error"]["type"]) == (413, "error", "request_too_large")
    assert mock.count() == 0
    assert books.accounted() == {}
