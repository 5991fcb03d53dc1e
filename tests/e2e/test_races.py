"""Racing requests on the last cents: exactly as many pass as the holds allow, whatever the moment and the worker."""

import decimal
import random
import secrets
import threading

import pytest
from books import Books, hold_of
from stack import wait_until
from wire import Http1, encode, whole

CLIENTS = 64
NANO = decimal.Decimal("1e-9")


def race(stack, mock, requests: list[bytes]) -> list[tuple[int, str]]:
    """Sends all at the same moment, each on a connection of its own. The provider withholds every answer until all
    decisions are in, so that no settle makes room for a later request. Gives status and denial of each."""
    seen: list = [None] * len(requests)
    start = threading.Barrier(len(requests))
    lock, denied = threading.Lock(), []

    def run(number: int, request: bytes):
        with Http1(stack.port) as client:
            start.wait(30)
            client.send(request)
            answer = client.answer()
            if answer.status != 200:
                with lock:
                    denied.append(number)
            answer.read()
            seen[number] = (answer.status, answer.headers["x-tollgate-denial"])

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(requests)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: mock.held() + len(denied) == len(requests), "every decision is in", 20)
        held = mock.held()
    finally:
        mock.release()
        for thread in threads:
            thread.join(30)
    assert held == sum(status == 200 for status, _ in seen), "the provider got what was not admitted"
    return seen


def one_round(stack, mock, chance: random.Random, key_within) -> None:
    """A budget that fits some of the racing requests and a remainder. `key_within` makes a key of such a limit."""
    books = Books(stack, mock, key="made below")
    bodies = [encode(books.body()) for _ in range(CLIENTS)]
    hold = hold_of(stack, bodies[0])
    remainder = hold * chance.randint(0, 99) / 100
    limit = (hold * chance.randint(0, CLIENTS + 2) + remainder).quantize(NANO, decimal.ROUND_DOWN)
    books.key = key_within(str(limit))
    seen = race(stack, mock, [whole(books.key, body, x_mock_hold="true") for body in bodies])
    admitted = sum(status == 200 for status, _ in seen)
    assert admitted == min(limit // hold, CLIENTS), f"{admitted} of {limit} / {hold}"
    assert {status for status, _ in seen} <= {200, 402}
    assert {denial for status, denial in seen if status == 402} <= {"budget_too_small", "budget_spent"}
    journal = books.accounted()
    assert sum(row["state"] == "settled" for row in journal.values()) == admitted
    mock.reset()


@pytest.mark.parametrize("rounds", [20, pytest.param(1_000, marks=pytest.mark.soak)])
def test_the_last_cent_is_spent_once(stack, mock, rounds):
    before = worker_connections(stack)
    for number in range(rounds):
        one_round(stack, mock, random.Random(number), lambda limit: stack.key(max_budget=limit))
    # Else only one filter would have decided.
    grown = [now - then for now, then in zip(worker_connections(stack), before)]
    assert len(grown) == 2 and min(grown) > rounds, grown


def worker_connections(stack) -> list[int]:
    """Connections that each of Envoy's workers has taken."""
    names = [f"listener.127.0.0.1_{stack.port}.worker_{number}.downstream_cx_total" for number in (0, 1)]
    return list(stack.envoy_stats(*names).values())


def key_of_team(stack, limit):
    return stack.key(team_id=stack.team(max_budget=limit))


def key_of_organization(stack, limit):
    return stack.key(organization_id=stack.organization(organization_alias=secrets.token_hex(8), max_budget=limit))


def key_of_team_of_organization(stack, limit):
    organization = stack.organization(organization_alias=secrets.token_hex(8), max_budget=limit)
    return stack.key(team_id=stack.team(organization_id=organization))


def key_of_user(stack, limit):
    return stack.key(user_id=stack.admin("POST", "/user/new", {"auto_create_key": False, "max_budget": limit})["user_id"])


@pytest.mark.parametrize("make", [key_of_team, key_of_organization, key_of_team_of_organization, key_of_user])
@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_the_last_cent_of_whoever_owns_the_key_is_spent_once(stack, mock, make, rounds):
    for number in range(rounds):
        one_round(stack, mock, random.Random(number), lambda limit: make(stack, limit))


def test_two_keys_of_one_team_share_its_last_cent(stack, mock):
    team = stack.team()
    all_books = [Books(stack, mock, team_id=team) for _ in range(2)]
    requests = [(books, encode(books.body())) for books in all_books for _ in range(CLIENTS // 2)]
    hold = hold_of(stack, requests[0][1])
    stack.admin("POST", "/team/update", {"team_id": team, "max_budget": str(hold * 21)})
    random.Random(1).shuffle(requests)
    wire = [whole(books.key, body, x_mock_hold="true") for books, body in requests]
    seen = race(stack, mock, wire)
    assert sum(status == 200 for status, _ in seen) == 21
    journals = [books.accounted() for books in all_books]
    assert sum(row["state"] == "settled" for journal in journals for row in journal.values()) == 21
