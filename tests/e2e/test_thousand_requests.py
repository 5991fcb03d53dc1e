"""A thousand mixed requests: what the journal says they cost, against the bill that another program computes from what
the provider answered."""

import collections
import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import bill
import httpx
import pytest
from stack import wait_until

REQUESTS, CLIENTS, SEED = 1_000, 16, 20_261_124
NANO = Decimal("1e-9")

MESSAGES_MODELS = [
    "claude-sonnet-4-20250514",
    "claude-sonnet-4",
    "claude-haiku-5-5",
    "claude-haiku-4-5",
    "claude-opus-4-6",
    "claude-opus-5-5",
    "claude-fable-5-1",
]
# An alias that the price file has not.
DATED = {"claude-sonnet-4": "claude-sonnet-4-20250514"}
CHAT_MODELS = [
    "gpt-4.1-mini",
    "gpt-4.1",
    "gpt-5",
    "gpt-5.4",
    "gpt-5.6",
    "gpt-6-sol",
    "o4-mini",
    "claude-sonnet-4",
    "claude-sonnet-4-6",
    "claude-haiku-5-5",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-3.1-pro-preview",
]
RESPONSES_MODELS = ["gpt-5.1-codex", "gpt-5.4", "gpt-5.6", "gpt-6-astra", "o3"]
EMBEDDING_MODELS = ["text-embedding-3-small", "text-embedding-3-large", "gemini-embedding-001"]
TAGS = ["project:payments", "project:search", "team:backend", "agent:claude-code"]


class Request:
    """One request of the mix, drawn from a generator that repeats."""

    def __init__(self, number: int, draw: random.Random):
        self.number, self.draw = number, draw
        self.headers = {"x-test-number": str(number)}
        self.tags = draw.sample(TAGS, draw.choice([0, 0, 1, 2, 4]))
        apis = [self.messages, self.chat, self.responses, self.embeddings, self.completions, self.count_tokens]
        self.path, self.body = draw.choices(apis, weights=[34, 34, 20, 5, 4, 3])[0]()
        if draw.random() < 0.03:
            self.headers["x-mock-status"] = str(draw.choice([400, 429, 500, 529]))
        if draw.random() < 0.2:
            self.headers["x-mock-chunk-bytes"] = str(draw.choice([1, 7, 64, 1000]))
        self.place_tags()

    @property
    def is_billed(self) -> bool:
        return self.path != "/v1/messages/count_tokens"

    def __str__(self) -> str:
        return f"{self.path} {self.body['model']} {self.headers}"

    def place_tags(self) -> None:
        places = ["x-tollgate-tags", "x-litellm-tags", "metadata"]
        if self.tags and self.is_billed:
            place = self.draw.choice(places)
            if place == "metadata":
                self.body["metadata"] = {"tags": self.tags}
            else:
                self.headers[place] = ",".join(self.tags)

    def usage(self, searches: bool = False, writes: bool = True) -> None:
        draw, headers = self.draw, self.headers
        size = draw.choices(["small", "large", "long"], weights=[6, 3, 2])[0]
        low, high = {"small": (1, 2_000), "large": (2_000, 150_000), "long": (199_000, 400_000)}[size]
        headers["x-mock-input"] = str(draw.choice([draw.randint(low, high), 200_000 if size == "long" else low]))
        headers["x-mock-output"] = str(draw.randint(0, 300))
        if draw.random() < 0.3:
            headers["x-mock-reasoning"] = str(draw.randint(0, 200))
        if draw.random() < 0.4:
            headers["x-mock-cache-read"] = str(draw.randint(1, 90_000))
        if writes and draw.random() < 0.3:
            headers["x-mock-cache-write-5m"] = str(draw.randint(1, 20_000))
        if writes and draw.random() < 0.2:
            headers["x-mock-cache-write-1h"] = str(draw.randint(1, 20_000))
        if searches and draw.random() < 0.2:
            headers["x-mock-web-searches"] = str(draw.randint(1, 4))
        if draw.random() < 0.4:
            headers["x-mock-scenario"] = draw.choice(["thinking", "tool_use", "decoy"])

    def tier(self, model: str, names: list[str]) -> None:
        """Sometimes a tier that the provider serves this model in."""
        prices = bill.load_prices()[DATED.get(model, model)]
        names = [n for n in names if n not in bill.SUFFIXES or f"input_cost_per_token{bill.SUFFIXES[n]}" in prices]
        if self.draw.random() < 0.4:
            self.headers["x-mock-tier"] = self.draw.choice(names)

    def messages(self):
        self.usage(searches=True)
        draw, headers = self.draw, self.headers
        headers["anthropic-version"] = "2023-06-01"
        model = draw.choice(MESSAGES_MODELS)
        factors = bill.load_prices()[DATED.get(model, model)].get("provider_specific_entry", {})
        for name, special, usual in [("speed", "fast", "standard"), ("geo", "us", "global")]:
            if draw.random() < 0.4:
                headers[f"x-mock-{name}"] = special if special in factors else usual
        body = {
            "model": model,
            "max_tokens": draw.randint(1, 4_000),
            "messages": [{"role": "user", "content": "x" * draw.randint(1, 3_000)}],
            "stream": draw.random() < 0.6,
        }
        self.tier(body["model"], ["standard", "priority", "batch"])
        if "x-mock-web-searches" in headers:
            body["tools"] = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]
        return "/v1/messages", body

    def chat(self):
        self.usage()
        draw = self.draw
        body = {
            "model": draw.choice(CHAT_MODELS),
            "messages": [{"role": "user", "content": "x" * draw.randint(1, 3_000)}],
            "stream": draw.random() < 0.6,
        }
        if draw.random() < 0.5:
            body[draw.choice(["max_tokens", "max_completion_tokens"])] = draw.randint(1, 4_000)
        if body["stream"] and draw.random() < 0.4:
            body["stream_options"] = {"include_usage": draw.random() < 0.7}
        self.tier(body["model"], ["default", "flex", "priority"])
        return "/v1/chat/completions", body

    def responses(self):
        self.usage(searches=True)
        draw = self.draw
        body = {
            "model": draw.choice(RESPONSES_MODELS),
            "input": "x" * draw.randint(1, 3_000),
            "stream": draw.random() < 0.6,
        }
        if "x-mock-web-searches" in self.headers:
            body["tools"] = [{"type": "web_search"}]
            body["max_tool_calls"] = 5
        self.tier(body["model"], ["default", "flex", "priority"])
        return "/v1/responses", body

    def embeddings(self):
        self.headers["x-mock-input"] = str(self.draw.randint(1, 8_000))
        return "/v1/embeddings", {"model": self.draw.choice(EMBEDDING_MODELS), "input": ["one", "two"]}

    def completions(self):
        self.headers |= {"x-mock-input": str(self.draw.randint(1, 4_000)), "x-mock-output": "30"}
        body = {
            "model": "gpt-3.5-turbo-instruct",
            "prompt": "Once",
            "max_tokens": 40,
            "stream": self.draw.random() < 0.5,
        }
        return "/v1/completions", body

    def count_tokens(self):
        self.headers["anthropic-version"] = "2023-06-01"
        body = {"model": self.draw.choice(MESSAGES_MODELS), "messages": [{"role": "user", "content": "Hello"}]}
        return "/v1/messages/count_tokens", body


@pytest.fixture(scope="module")
def world(shared_stack):
    """An organization of two teams with two keys each."""
    organization = shared_stack.organization(organization_alias="acme", max_budget=1_000_000)
    budget = {"max_budget": 1_000_000, "budget_duration": "1mo", "organization_id": organization}
    teams = [shared_stack.team(**budget) for _ in range(2)]
    keys = [shared_stack.key(team_id=team, max_budget=1_000_000) for team in teams for _ in range(2)]
    return organization, teams, keys


@pytest.fixture(scope="module")
def run(shared_stack, shared_mock, world):
    """The requests, and what Tollgate and the provider each know of them, by number."""
    tags_before = spend_by_tag(shared_stack)
    shared_mock.reset()
    requests = [Request(number, random.Random(SEED + number)) for number in range(REQUESTS)]
    ids = {}

    def client(index: int) -> None:
        with httpx.Client(base_url=shared_stack.url, timeout=60, trust_env=False) as http:
            for request in requests[index::CLIENTS]:
                key = world[2][request.number % 4]
                headers = {"authorization": f"Bearer {key}", **request.headers}
                answer = http.post(request.path, json=request.body, headers=headers)
                wanted = int(request.headers.get("x-mock-status", 200))
                assert answer.status_code == wanted, f"{request}: {answer.text[:300]}"
                ids[answer.headers["x-tollgate-request-id"]] = request

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    assert len(ids) == REQUESTS
    answered = {int(dict(r["headers"])["x-test-number"]): r for r in shared_mock.requests()}
    assert len(answered) == REQUESTS and shared_mock.count() == REQUESTS, "each went to the provider exactly once"
    wait_until(lambda: pending(shared_stack, world) == 0, "every hold has ended", 30)
    return requests, ids, answered, tags_before


def pending(stack, world) -> Decimal:
    organization, teams, keys = world
    infos = [stack.key_info(key) for key in keys]
    infos += [stack.admin("GET", "/team/info", team_id=team)["team_info"] for team in teams]
    infos.append(stack.admin("GET", "/organization/info", organization_id=organization))
    return sum(info["pending"] for info in infos)


def spend_by_tag(stack) -> dict[str, tuple[int, Decimal]]:
    rows = stack.admin("GET", "/spend/tags")
    return {row["individual_request_tag"]: (row["log_count"], row["total_spend"]) for row in rows}


def rows_of(stack, team: str) -> list[dict]:
    """The journal of a team, in pages smaller than it."""
    rows = []
    for page in range(1, 100):
        more = stack.spend_logs(team_id=team, page=page, size=150)
        rows += more
        if len(more) < 150:
            return rows
    raise AssertionError("pages without end")


def dollars(requests) -> Decimal:
    return bill.total(requests) * NANO


def test_the_mix_has_everything(run):
    requests, _, answered, _ = run
    paths = collections.Counter(request.path for request in requests)
    assert len(paths) == 6 and min(paths.values()) >= 10
    usages = [(record["usage"] or {}) for record in answered.values()]
    for name in ("cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "web_searches", "output"):
        assert sum(usage.get(name, 0) > 0 for usage in usages) >= 20, name
    assert sum(usage.get("input", 0) > 200_000 for usage in usages) >= 50, "beyond the first size tier"
    assert sum(request.body.get("stream", False) for request in requests) >= 300
    tiers = collections.Counter(request.headers.get("x-mock-tier") for request in requests)
    assert min(tiers[tier] for tier in ("priority", "flex", "default", "standard")) >= 20
    for name, value in [("x-mock-speed", "fast"), ("x-mock-geo", "us"), ("x-mock-scenario", "decoy")]:
        assert sum(request.headers.get(name) == value for request in requests) >= 10, name
    assert sum("x-mock-status" in request.headers for request in requests) >= 10


def test_each_request_costs_what_the_provider_bills(shared_stack, world, run):
    _, ids, answered, _ = run
    charged = {i: r for i, r in ids.items() if r.is_billed and "x-mock-status" not in r.headers}
    failed = {i: r for i, r in ids.items() if r.is_billed and "x-mock-status" in r.headers}
    rows = [row for team in world[1] for row in rows_of(shared_stack, team)]
    assert sorted(row["request_id"] for row in rows) == sorted(charged), "a row for each, and none besides"
    for row in rows:
        request = charged[row["request_id"]]
        record = answered[request.number]
        shown = f"{request} {row}"
        assert row["spend"] == bill.bill(record) * NANO, shown
        assert row["state"] == "settled", shown
        assert row["metadata"]["estimated"] is False, shown
        assert sorted(row["request_tags"]) == sorted(request.tags), shown
        assert row["model"] == record["body"]["model"], shown
    for request_id, request in failed.items():
        (row,) = shared_stack.spend_logs(request_id=request_id)
        assert (row["state"], row["spend"]) == ("voided", 0), f"{request} {row}"
    assert len(failed) >= 10


def test_every_account_has_spent_what_its_requests_cost(shared_stack, world, run):
    requests, _, answered, _ = run
    organization, teams, keys = world
    for index, key in enumerate(keys):
        own = [answered[request.number] for request in requests if request.number % 4 == index]
        assert shared_stack.key_info(key)["spend"] == dollars(own)
    for index, team in enumerate(teams):
        own = [answered[request.number] for request in requests if request.number % 4 // 2 == index]
        assert shared_stack.admin("GET", "/team/info", team_id=team)["team_info"]["spend"] == dollars(own)
    total = dollars(answered.values())
    assert shared_stack.admin("GET", "/organization/info", organization_id=organization)["spend"] == total
    assert total > 100, "not a sum of nothings"


def test_every_tag_has_spent_what_its_requests_cost(shared_stack, run):
    requests, _, answered, before = run
    after = spend_by_tag(shared_stack)
    for tag in TAGS:
        own = [r for r in requests if tag in r.tags and r.is_billed and "x-mock-status" not in r.headers]
        count, spend = before.get(tag, (0, Decimal(0)))
        now_count, now_spend = after[tag]
        assert now_spend - spend == dollars(answered[request.number] for request in own)
        assert now_count - count == len(own)


def test_the_bill_is_not_fooled_by_being_off_by_one(run):
    """The comparison sees a single token, so that equality above means something."""
    _, _, answered, _ = run
    record = next(r for r in answered.values() if r["path"] == "/v1/messages" and r["usage"] and r["status"] == 200)
    more = {**record, "usage": {**record["usage"], "output": record["usage"]["output"] + 1}}
    assert bill.bill(more) > bill.bill(record)


def test_a_tier_without_a_price_is_never_guessed(shared_stack, mock):
    """What nobody can price costs what was set aside for it, and says so; it is not taken for the cheaper tier."""
    key = shared_stack.key()
    answer = shared_stack.messages(key, headers={"x-mock-tier": "made-up", "x-mock-input": "10", "x-mock-output": "1"})
    assert answer.status_code == 200
    spend = shared_stack.settled(key)["spend"]
    (row,) = shared_stack.spend_logs(request_id=answer.headers["x-tollgate-request-id"])
    assert (row["state"], row["metadata"]["estimated"], row["spend"]) == ("settled", True, spend)
    sent = len(answer.request.content)
    assert spend == (sent + 128) * Decimal("0.000003") + 100 * Decimal("0.000015")
