"""A flood of keys that nobody has: no memory, no hint, and no harm to those who have one."""

import json
import random
import string
import threading

import pytest
from books import Books
from crowd import Crowd
from processes import memory_bytes
from wire import Http1, head, whole

MIB = 1024 * 1024
ALPHABET = string.digits + string.ascii_letters


def made_up(chance: random.Random) -> str:
    """What looks like a key, or like another provider's, or like nothing."""
    prefix = chance.choice(["sk-tg-", "sk-tg-", "sk-", "sk-ant-api03-", ""])
    return prefix + "".join(chance.choices(ALPHABET, k=chance.choice([49, 49, 20, 8, 200])))


def flood(stack, count: int, seed: int, seen: set) -> None:
    chance = random.Random(seed)
    client = Http1(stack.port)
    for number in range(count):
        key = made_up(chance)
        if number % 10:
            request = head(key, "/v1/models", "GET", content_type=None) + b"\r\n"
        else:
            request = whole(key, {"model": "claude-sonnet-4-20250514", "max_tokens": 5, "messages": []})
        answer, text = client.ask(request)
        seen.add((answer.status, text))
        if answer.will_close:
            client.close()
            client = Http1(stack.port)
    client.close()


@pytest.mark.parametrize("keys", [6_000, pytest.param(300_000, marks=pytest.mark.soak)])
def test_a_flood_of_made_up_keys_neither_grows_memory_nor_stops_real_ones(make_stack, own_mock, keys):
    stack = make_stack(own_mock)
    books = Books(stack, own_mock)
    pids = {name: stack.pid_of(name) for name in ("envoy", "tollgate-ledger")}
    seen: set = set()

    def run(count: int, first_seed: int):
        threads = [threading.Thread(target=flood, args=(stack, count // 4, first_seed + n, seen)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)

    with Crowd(books, 2, pause=0.01) as crowd:
        # The first thousands fill the bounded memory of unknown keys.
        run(min(keys // 2, 20_000), 100)
        before = {name: memory_bytes(pid) for name, pid in pids.items()}
        run(keys, 200)
        grown = {name: memory_bytes(pid) - before[name] for name, pid in pids.items()}
        statuses = crowd.stop()
    assert statuses.keys() == {200} and statuses[200] > 50, statuses
    assert all(growth < 12 * MIB for growth in grown.values()), grown
    # One answer for all of them.
    ((status, text),) = seen
    assert (status, json.loads(text)["error"]["type"]) == (401, "authentication_error")
    assert own_mock.count() == statuses[200]
    books.accounted()


def test_an_unknown_key_and_a_malformed_one_look_the_same(stack, mock):
    key = Books(stack, mock).key
    swapped = key[:-8] + ("b" if key[-8] == "a" else "a") + key[-7:]
    stack.admin("POST", "/key/delete", {"keys": [deleted := stack.key()]})
    malformed = ["sk-tg-", "sk-tg-x", swapped, key[:-1], key + "0", key.upper(), "sk-ant-api03-nothing", "x" * 4000]
    requests = {
        "messages": lambda key: whole(key, {"model": "m", "max_tokens": 1, "messages": []}),
        "chat": lambda key: whole(None, b"{}", path="/v1/chat/completions", anthropic_version=None, authorization=f"Bearer {key}"),
        "models": lambda key: head(key, "/v1/models", "GET") + b"\r\n",
        "count_tokens": lambda key: whole(key, b"{}", path="/v1/messages/count_tokens"),
    }
    for name, request in requests.items():
        answers = set()
        for other in [*malformed, deleted]:
            with Http1(stack.port) as client:
                answer, text = client.ask(request(other))
            # The connection closes where a body is not read to its end: a matter of moments.
            differs = {"date", "x-tollgate-request-id", "connection"}
            headers = tuple((field, value) for field, value in answer.getheaders() if field not in differs)
            answers.add((answer.status, headers, text))
        assert len(answers) == 1, "\n".join(map(repr, answers))
        assert next(iter(answers))[0] == 401
    assert mock.count() == 0
