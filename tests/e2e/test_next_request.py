"""What an administrator changes holds for the very next request, through every worker of Envoy, whatever it remembers.

A refusal may be repeated for a second without asking the ledger again; a permission never is.
"""

import collections
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from lines import Connection
from stack import MESSAGE

SONNET, OPUS = "claude-sonnet-4-20250514", "claude-opus-4-20250514"
# What the filter believes of a refusal without asking, and a little.
REFUSAL_AGE_S = 1.1


@pytest.fixture(scope="module")
def connections(shared_stack):
    """Connections that stay, served by both workers."""
    connections = [Connection(shared_stack.port) for _ in range(4)]
    worker = f"listener.127.0.0.1_{shared_stack.port}.worker_{{}}.downstream_cx_active"
    workers = [worker.format(0), worker.format(1)]
    while True:
        for connection in connections:
            connection.send("HEAD", "/api/hello")
        if all(shared_stack.envoy_stats(*workers).values()):
            break
        assert len(connections) < 64, "one worker gets every connection"
        connections.append(Connection(shared_stack.port))
    yield connections
    for connection in connections:
        connection.close()


@pytest.fixture
def answers(connections):
    """The status of one request over every connection."""

    def answers(key, model=SONNET):
        headers = [("x-api-key", key), ("anthropic-version", "2023-06-01"), ("content-type", "application/json")]
        body = {**MESSAGE, "model": model}
        return {connection.send("POST", "/v1/messages", headers, body).status for connection in connections}

    return answers


class Subject:
    """A key, alone or of a team, and the object that changes."""

    def __init__(self, stack, of: str, fields: dict):
        self.stack, self.of = stack, of
        if of == "team":
            self.id = stack.team(**fields)
            self.key = stack.key(team_id=self.id)
        else:
            self.id = self.key = stack.key(**fields)

    def change(self, change) -> None:
        """Fields to update, or the name of a route."""
        body = {"key" if self.of == "key" else "team_id": self.id}
        route = "update" if isinstance(change, dict) else change
        self.stack.admin("POST", f"/{self.of}/{route}", body | (change if isinstance(change, dict) else {}))


CHANGES = {
    # what changes: as it allows the request, as it refuses it, and how
    "key blocked": ("key", "unblock", "block", 401),
    "team blocked": ("team", "unblock", "block", 401),
    "budget of the key": ("key", {"max_budget": 10}, {"max_budget": 0}, 402),
    "budget of the team": ("team", {"max_budget": 10}, {"max_budget": 0}, 402),
    "no budget and one": ("key", {"max_budget": None}, {"max_budget": 0}, 402),
    "budget too small for this request": ("key", {"max_budget": 10}, {"max_budget": 0.0001}, 402),
    "models of the key": ("key", {"models": [SONNET, OPUS]}, {"models": [OPUS]}, 403),
    "models of the team": ("team", {"models": [SONNET, OPUS]}, {"models": [OPUS]}, 403),
    "no list and one": ("key", {"models": []}, {"models": ["gpt-*"]}, 403),
}


def as_made(state) -> dict:
    return state if isinstance(state, dict) else {}


@pytest.mark.parametrize("of, allows, refuses, status", CHANGES.values(), ids=CHANGES)
def test_what_is_taken_away_is_gone_at_once(stack, mock, answers, of, allows, refuses, status):
    subject = Subject(stack, of, as_made(allows))
    assert answers(subject.key) == {200}, "every worker knows the key now"
    stack.settled(subject.key)
    mock.reset()
    subject.change(refuses)
    assert answers(subject.key) == {status}
    assert mock.count() == 0


def test_what_is_given_is_there_at_once(stack, answers):
    subjects = {}
    for name, (of, _, refuses, status) in CHANGES.items():
        subject = subjects[name] = Subject(stack, of, as_made(refuses))
        if not isinstance(refuses, dict):
            subject.change(refuses)
        assert answers(subject.key) == {status}, name
    time.sleep(REFUSAL_AGE_S)
    for name, (_, allows, _, _) in CHANGES.items():
        subjects[name].change(allows)
        assert answers(subjects[name].key) == {200}, name


def test_a_deleted_key_is_gone_at_once_and_a_new_one_there(stack, answers):
    key = stack.key()
    assert answers(key) == {200}
    stack.admin("POST", "/key/delete", {"keys": [key]})
    assert answers(key) == {401}


TINY = [("x-mock-input", "1"), ("x-mock-output", "1")]


def requests_in_a_row(stack, key: str, count: int) -> list[int]:
    """The statuses of requests over one connection, each sent when the one before it is answered."""
    connection = Connection(stack.port)
    headers = [("x-api-key", key), ("anthropic-version", "2023-06-01"), ("content-type", "application/json"), *TINY]
    try:
        return [connection.send("POST", "/v1/messages", headers, MESSAGE).status for _ in range(count)]
    finally:
        connection.close()


def test_a_request_never_meets_the_hold_of_the_one_before_it(stack):
    """Under load reports are always under way, and a hold can overtake those of its own key."""
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(requests_in_a_row, stack, stack.key(), 120) for _ in range(8)]
        for _ in range(3):
            # A hold is above 0.0018, so that no two fit; what each really costs is 0.000018.
            statuses = requests_in_a_row(stack, stack.key(max_budget=0.0035), 50)
            assert collections.Counter(statuses) == {200: 50}
        assert {status for other in others for status in other.result()} == {200}
