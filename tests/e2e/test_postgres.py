"""The whole on PostgreSQL instead of a file."""

from decimal import Decimal

import pytest
from postgres import Postgres
from stack import wait_until


@pytest.fixture
def postgres():
    server = Postgres()
    yield server
    server.close()


def test_the_books_in_postgresql(make_stack, own_mock, postgres):
    stack = make_stack(own_mock, env={"TOLLGATE_DATABASE_URL": postgres.url})
    assert not (stack.data / "ledger.db").exists()
    team = stack.team(team_alias="engineering", max_budget=1)
    key = stack.key(team_id=team, max_budget=0.5)
    answer = stack.messages(key, headers={"x-mock-input": "100", "x-mock-output": "10"})
    assert answer.status_code == 200, answer.text
    spent = stack.settled(key)["spend"]
    assert spent == Decimal("0.00045"), "100 tokens in at 3 dollars a million, 10 out at 15"

    # The very next request sees what an admin changed.
    stack.admin("POST", "/key/block", {"key": key})
    assert stack.messages(key).status_code == 401
    stack.admin("POST", "/key/unblock", {"key": key})
    # A refusal that was confirmed a moment ago stands for up to a second.
    wait_until(lambda: stack.messages(key).status_code == 200, "unblocked", 5)

    # The database is gone: fail closed, with a clear message, and back by itself.
    postgres.stop()
    refused = stack.messages(key)
    assert refused.status_code == 503, refused.text
    assert refused.json()["error"]["type"] == "api_error"
    postgres.start()
    wait_until(lambda: stack.messages(key).status_code == 200, "served again", 60)
    stack.settled(key)
    stack.stop()
    stack.start()
    assert stack.key_info(key)["spend"] > spent
