"""What the journal knows of a request beside its money: whose it was, and what for."""

import json

import pytest
from books import Books
from wire import Http1, whole

CLAUDE_CODE = json.dumps({"device_id": "d", "account_uuid": "", "session_id": "of the body"})


@pytest.mark.parametrize(
    ("headers", "session"),
    [
        ({"x-claude-code-session-id": "7d3c0b52-6f5e-4a59-9a54-2f6c4f6b8f11"}, "7d3c0b52-6f5e-4a59-9a54-2f6c4f6b8f11"),
        ({"session-id": "of-codex"}, "of-codex"),
        ({"session_id": "of-codex-too"}, "of-codex-too"),
        ({"x-claude-code-session-id": "first", "session-id": "second"}, "first"),
        ({"x-claude-code-session-id": "of-the-agent", "session-id": "second", "x-tollgate-session": "ci-7"}, "ci-7"),
        ({}, None),
    ],
)
def test_the_session_lands_in_the_journal(stack, mock, headers, session):
    books = Books(stack, mock)
    with Http1(stack.port) as client:
        answer, text = client.ask(whole(books.key, books.body(), user_agent="claude-cli/2.1.0 (external, cli)", **headers))
    assert answer.status == 200, text
    row = books.only()
    assert (row["session_id"], row["metadata"]["client"]) == (session, "claude-cli")
    assert "x-tollgate-session" not in mock.requests()[-1]["headers"]
    assert row["request_id"] == answer.headers["x-tollgate-request-id"]


def test_the_end_user_is_what_the_body_names(stack, mock):
    books = Books(stack, mock)
    with Http1(stack.port) as client:
        assert client.ask(whole(books.key, books.body(metadata={"user_id": CLAUDE_CODE})))[0].status == 200
    books.quiet()
    (row,) = books.rows()
    assert row["end_user"] == CLAUDE_CODE
    assert mock.requests()[-1]["body"]["metadata"] == {"user_id": CLAUDE_CODE}


def test_tags_of_key_body_and_headers_land_in_the_journal_and_not_at_the_provider(stack, mock):
    books = Books(stack, mock, tags=["team:backend"])
    body = books.body()
    body["metadata"]["tags"] = ["project:payments-refactor", "agent:claude-code"]
    headers = {"x-tollgate-tags": "branch:main, ticket:PAY-17", "x-litellm-tags": "agent:claude-code"}
    with Http1(stack.port) as client:
        answer, text = client.ask(whole(books.key, body, **headers))
    assert answer.status == 200, text
    row = books.only()
    expected = {"team:backend", "project:payments-refactor", "agent:claude-code", "branch:main", "ticket:PAY-17"}
    assert set(row["request_tags"]) == expected and len(row["request_tags"]) == len(expected)
    (arrived,) = books.arrived().values()
    assert "tags" not in arrived["body"]["metadata"]
    assert not [name for name, _ in arrived["headers"] if name.startswith(("x-tollgate", "x-litellm"))]
    tags = {tag["individual_request_tag"]: tag for tag in stack.admin("GET", "/spend/tags")}
    assert tags["ticket:PAY-17"]["total_spend"] >= row["spend"]


def test_a_client_that_left_is_in_the_journal_with_its_session_and_tags(stack, mock):
    books = Books(stack, mock)
    client = Http1(stack.port)
    headers = {"x-claude-code-session-id": "left", "x-tollgate-tags": "project:left", "x-mock-event-delay-ms": "100"}
    client.send(whole(books.key, books.body(stream=True), **headers))
    client.answer()
    client.close()
    row = books.only()
    assert (row["session_id"], row["request_tags"], row["metadata"]["end"]) == ("left", ["project:left"], "client_left")
