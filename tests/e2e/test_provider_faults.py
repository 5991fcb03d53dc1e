"""What providers do wrong: streams that break, errors in good answers, no usage, no provider at all."""

import http.client
import json

import pytest
from books import Books, hold_of, price
from stack import Stack, free_port
from wire import Http1, encode, head, whole

STEER = {"x-mock-input": "1200", "x-mock-output": "400", "x-mock-events": "20"}
STREAM = {"stream": True, "max_tokens": 4000}


def read_broken(stack, request) -> bytes:
    """What came of an answer that has no good end."""
    with Http1(stack.port) as client:
        client.send(request)
        answer = client.answer()
        assert answer.status == 200
        with pytest.raises((http.client.IncompleteRead, ConnectionError)) as broken:
            answer.read()
        return getattr(broken.value, "partial", b"")


def test_a_stream_that_breaks_is_broken_for_the_client_and_charged_as_far_as_it_came(stack, mock):
    books = Books(stack, mock)
    body = books.body(**STREAM)
    # message_start, content_block_start, ping, and five deltas.
    read_broken(stack, whole(books.key, body, x_mock_cut="events:8", x_mock_event_delay_ms=5, **STEER))
    row = books.only()
    assert (row["metadata"]["end"], row["metadata"]["estimated"]) == ("upstream_cut", True)
    assert row["prompt_tokens"] == 1200
    assert 60 <= row["completion_tokens"] <= 300
    assert price(1200, 60) <= row["spend"] <= price(1200, 300)


def test_an_answer_that_breaks_before_its_usage_is_charged_by_an_estimate(stack, mock):
    books = Books(stack, mock)
    body = books.body(max_tokens=4000)
    read_broken(stack, whole(books.key, body, x_mock_cut="bytes:60", **STEER))
    row = books.only()
    assert (row["metadata"]["end"], row["metadata"]["estimated"]) == ("upstream_cut", True)
    assert 0 < row["spend"] < hold_of(stack, encode(body))


def test_a_connection_that_breaks_before_the_answer_is_charged_and_told(stack, mock):
    books = Books(stack, mock)
    body = books.body(max_tokens=4000)
    with Http1(stack.port) as client:
        # Nothing of the body leaves the mock, and with it not the headers.
        answer, text = client.ask(whole(books.key, body, x_mock_cut="bytes:0", **STEER))
    assert answer.status in (502, 503), (answer.status, text)
    assert json.loads(text)["error"]["type"] == "api_error", text
    row = books.only()
    assert (row["metadata"]["end"], row["metadata"]["estimated"]) == ("upstream_cut", True)
    assert 0 < row["spend"] < hold_of(stack, encode(body))


def test_an_error_in_a_good_stream_passes_and_is_charged_as_far_as_it_came(stack, mock):
    books = Books(stack, mock)
    with Http1(stack.port) as client:
        answer, text = client.ask(whole(books.key, books.body(**STREAM), x_mock_error_event=8, **STEER))
    assert answer.status == 200
    assert b"event: error\n" in text and b"overloaded_error" in text
    row = books.only()
    assert (row["metadata"]["end"], row["metadata"]["estimated"]) == ("error_in_answer", True)
    assert price(1200, 60) <= row["spend"] <= price(1200, 300)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_without_usage_is_charged_the_hold(stack, mock, stream):
    books = Books(stack, mock)
    body = books.body(stream=stream, max_tokens=4000)
    with Http1(stack.port) as client:
        answer, _ = client.ask(whole(books.key, body, x_mock_omit_usage="true"))
    assert answer.status == 200
    row = books.only()
    assert (row["metadata"]["end"], row["metadata"]["estimated"]) == ("no_usage", True)
    assert row["spend"] == hold_of(stack, encode(body))


@pytest.mark.parametrize("status", [400, 404, 429, 500, 529])
@pytest.mark.parametrize("stream", [True, False])
def test_errors_of_the_provider_pass_unmodified_and_cost_nothing(stack, mock, status, stream):
    books = Books(stack, mock)
    request = whole(books.key, books.body(stream=stream), x_mock_status=status)
    with Http1(stack.port) as client, Http1(mock.port) as straight:
        answer, text = client.ask(request)
        body = encode(books.body(stream=stream))
        direct = head("provider-key-anthropic", content_length=len(body), x_mock_status=status) + b"\r\n" + body
        expected, expected_text = straight.ask(direct)
    assert (answer.status, text) == (status, expected_text)
    for name in ("content-type", "retry-after"):
        assert answer.headers[name] == expected.headers[name]
    assert answer.headers["x-should-retry"] is None, "what the provider says of retries is left alone"
    (row,) = books.rows() if books.quiet() else ()
    assert (row["state"], row["spend"], row["metadata"]["provider_status"]) == ("voided", 0, status)


def test_a_provider_that_is_not_there_costs_nothing(make_stack, mock):
    stack = make_stack(
        env={"ANTHROPIC_API_KEY": "provider-key-anthropic", "TOLLGATE_ANTHROPIC_URL": f"http://127.0.0.1:{free_port()}"}
    )
    books = Books(stack, mock)
    for stream in (True, False):
        with Http1(stack.port) as client:
            answer, text = client.ask(whole(books.key, books.body(stream=stream)))
        assert answer.status == 503, text
        assert json.loads(text)["type"] == "error", text
    journal = books.accounted()
    assert [(row["state"], row["spend"]) for row in journal.values()] == [("voided", 0)] * 2


@pytest.mark.parametrize("stream", [True, False])
def test_answers_are_never_compressed(stack, mock, stream):
    books = Books(stack, mock)
    codings = {"accept-encoding": "gzip, deflate, br, zstd", "x-mock-encoding": "gzip"}
    request = whole(books.key, books.body(stream=stream, max_tokens=4000), **codings, **STEER)
    with Http1(stack.port) as client:
        answer, text = client.ask(request)
    assert (answer.status, answer.headers["content-encoding"]) == (200, None)
    if not stream:
        assert json.loads(text)["usage"]["output_tokens"] == 400
    (arrived,) = books.arrived().values()
    assert "accept-encoding" not in dict(arrived["headers"])
    row = books.only()
    assert (row["spend"], row["metadata"]["estimated"]) == (price(1200, 400), False)


def test_the_mock_compresses_if_it_is_asked_to(mock):
    """Else the test above proves nothing."""
    body = encode({"model": "claude-sonnet-4-20250514", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]})
    with Http1(mock.port) as client:
        request = head("provider-key-anthropic", content_length=len(body), accept_encoding="gzip", x_mock_encoding="gzip")
        answer, _ = client.ask(request + b"\r\n" + body)
    assert (answer.status, answer.headers["content-encoding"]) == (200, "gzip")
