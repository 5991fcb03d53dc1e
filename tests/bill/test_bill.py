"""The bill, against amounts computed by hand, and against the product's price book."""

import importlib.util
import json
from fractions import Fraction
from pathlib import Path

import bill
import pytest
from bill import Unbillable, Usage, cost

DATA = Path(__file__).parents[2] / "src" / "domain" / "data"
CLASSES = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")


@pytest.mark.parametrize(
    ("model", "usage", "modifiers", "nano"),
    [
        # Dollars per million tokens times a thousand are nano-dollars per token.
        ("claude-sonnet-4-20250514", Usage(), {}, 0),
        ("claude-sonnet-4-20250514", Usage(input=1), {}, 3_000),
        ("claude-sonnet-4-20250514", Usage(10, 10, 10, 10, 10), {}, 30_000 + 3_000 + 37_500 + 60_000 + 150_000),
        ("claude-sonnet-4-20250514", Usage(input=200_000, output=1), {}, 600_015_000),
        ("claude-sonnet-4-20250514", Usage(input=1, cache_read=200_000, output=1), {}, 6_000 + 120_000_000 + 22_500),
        ("claude-sonnet-4-20250514", Usage(cache_write_1h=200_001), {}, 200_001 * 12_000),
        ("claude-sonnet-4-20250514", Usage(input=1, web_searches=2), {}, 3_000 + 20_000_000),
        ("claude-haiku-5-5", Usage(cache_read=1), {"tier": "batch"}, 5),
        ("claude-haiku-5-5", Usage(cache_write_1h=1), {"tier": "batch"}, 100),
        ("claude-opus-5", Usage(input=10), {"speed": "fast", "geo": "us"}, 110_000),
        ("claude-opus-5", Usage(cache_read=1), {"geo": "us"}, 550),
        ("claude-opus-5", Usage(input=1, web_searches=1), {"speed": "fast"}, 10_000 + 10_000_000),
        ("claude-opus-5", Usage(input=1), {"tier": "priority"}, 5_000),
        ("gpt-4.1", Usage(input=1, cache_read=3, output=1), {}, 2_000 + 1_500 + 8_000),
        ("gpt-4.1", Usage(cache_read=1), {"tier": "batch"}, 1_000),
        ("gpt-5.6", Usage(input=272_000), {"tier": "default"}, 272_000 * 4_000),
        ("gpt-5.6", Usage(input=272_001), {"tier": "priority"}, 272_001 * 16_000),
        ("gpt-5.4", Usage(input=300_000), {"tier": "priority"}, 300_000 * 5_000),
        ("text-embedding-3-small", Usage(input=7), {}, 140),
        # 87.5 pico-dollars a token: rounded up once, not per token.
        ("gpt-5.2", Usage(cache_read=1), {"tier": "flex"}, 88),
        ("gpt-5.2", Usage(cache_read=3), {"tier": "flex"}, 263),
        ("gpt-5.2", Usage(cache_read=1, input=1), {"tier": "flex"}, 963),
    ],
)
def test_cost_by_hand(model, usage, modifiers, nano):
    assert cost(model, usage, **modifiers) == nano


@pytest.mark.parametrize(
    ("path", "usage", "classes"),
    [
        (
            "/v1/messages",
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 7,
                "cache_read_input_tokens": 5,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3},
                "output_tokens": 2,
                "server_tool_use": {"web_search_requests": 1},
            },
            Usage(10, 5, 4, 3, 2, 1),
        ),
        ("/v1/messages", {"input_tokens": 1, "cache_creation_input_tokens": 9, "output_tokens": 2}, Usage(1, 0, 9, 0, 2)),
        (
            "/v1/chat/completions",
            {
                "prompt_tokens": 20,
                "completion_tokens": 4,
                "total_tokens": 24,
                "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 2},
            },
            Usage(12, 6, 2, 0, 4),
        ),
        ("/v1beta/openai/chat/completions", {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 9}, Usage(5, output=4)),
        ("/v1/embeddings", {"prompt_tokens": 3, "total_tokens": 3}, Usage(3)),
        (
            "/v1/responses",
            {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 9}, "output_tokens": 1},
            Usage(0, 9, 0, 0, 1),
        ),
    ],
)
def test_usage_ends_in_the_same_classes(path, usage, classes):
    assert bill.usage_of(path, usage) == classes


TOKENS = {"input": 10, "cache_read": 0, "cache_write_5m": 1, "cache_write_1h": 1, "output": 2, "reasoning": 1, "web_searches": 0}


def record(**changes):
    """One entry as the mock provider shows it."""
    entry = {
        "number": 1,
        "method": "POST",
        "path": "/v1/messages",
        "query": None,
        "headers": [["content-type", "application/json"]],
        "body": {"model": "claude-opus-5"},
        "status": 200,
        "usage": dict(TOKENS),
        "answer": {"state": "complete", "bytes": 1, "chunks": 1},
    }
    return entry | changes


def test_a_record_is_priced_as_its_answer_names_it():
    plain = 10 * 5_000 + 6_250 + 10_000 + 2 * 25_000
    assert bill.bill(record()) == plain
    fast = [["x-mock-speed", "fast"], ["x-mock-geo", "us"]]
    assert bill.bill(record(headers=fast)) == plain * 2 * 11 // 10
    assert bill.bill(record(headers=[["x-mock-tier", "batch"]])) == plain // 2
    other = [["x-mock-model", "claude-haiku-4-5"]]
    assert bill.bill(record(headers=other)) == 10 * 1_000 + 1_250 + 2_000 + 2 * 5_000
    # An OpenAI-shaped answer tells neither the lifetime of a write, nor speed and place.
    chat = record(path="/v1/chat/completions", headers=fast)
    assert bill.bill(chat) == 10 * 5_000 + 2 * 6_250 + 2 * 25_000
    assert bill.total([record(), chat]) == bill.bill(record()) + bill.bill(chat)


@pytest.mark.parametrize(
    ("path", "model", "tier", "told", "priced"),
    [
        ("/v1/chat/completions", "gpt-5.2", "flex", None, "flex"),
        ("/v1/chat/completions", "gpt-5.2", "flex", "default", None),
        ("/v1/chat/completions", "gpt-5.2", "priority", None, "priority"),
        ("/v1/chat/completions", "gpt-5.2", "batch", None, None),
        ("/v1/responses", "gpt-5.2", "flex", None, "flex"),
        # Silent answers: a cheaper tier does not count, a dearer one does.
        ("/v1/chat/completions", "claude-opus-5", "batch", None, None),
        ("/v1/chat/completions", "claude-opus-5", "batch", "batch", "batch"),
        ("/v1/chat/completions", "claude-opus-5", "auto", None, None),
        ("/v1beta/openai/chat/completions", "gemini-2.5-flash", "flex", None, None),
        ("/v1beta/openai/chat/completions", "gemini-2.5-flash", "flex", "flex", "flex"),
        ("/v1beta/openai/chat/completions", "gemini-2.5-flash", "priority", None, "priority"),
        # Anthropic's own API always names one.
        ("/v1/messages", "claude-opus-5", "auto", None, None),
    ],
)
def test_a_cheaper_tier_counts_only_where_the_answer_names_it(path, model, tier, told, priced):
    headers = [["x-mock-tier", told]] if told else []
    request = record(path=path, body={"model": model, "service_tier": tier}, headers=headers)
    assert bill.bill(request) == cost(model, bill.shown(path, TOKENS), tier=priced)
    standard = cost(model, bill.shown(path, TOKENS))
    assert (bill.bill(request) == standard) == (priced is None)


@pytest.mark.parametrize(("options", "n", "searches"), [({}, None, 1), ({}, 1, 1), ({"x": 1}, 3, 3), (None, 3, 0)])
def test_a_chat_that_is_asked_to_search_has_searched_once_for_each_answer(options, n, searches):
    request = record(path="/v1/chat/completions", body={"model": "gpt-5.2", "web_search_options": options, "n": n})
    plain = cost("gpt-5.2", bill.shown(request["path"], TOKENS))
    assert bill.bill(request) == plain + searches * 10_000_000


def test_what_is_free():
    for free in (
        record(path="/v1/messages/count_tokens", usage=None),
        record(method="GET", path="/v1/models", usage=None),
        record(status=429, usage=None),
        record(status=529, usage=None),
    ):
        assert bill.bill(free) == 0


def test_the_unknown_is_refused_never_zero():
    for unknown in (
        record(usage=None),
        record(status=None),
        record(body=None),
        record(body={"model": "gpt-unheard-of"}),
        record(body={"model": "claude-opus-4-6"}, headers=[["x-mock-speed", "fast"]]),
        record(body={"model": "claude-haiku-4-5"}, headers=[["x-mock-geo", "us"]]),
        record(answer={"state": "cut", "bytes": 1, "chunks": 1}),
        record(answer={"state": "client_left", "bytes": 1, "chunks": 1}),
        record(path="/v1/chat/completions", usage=TOKENS | {"web_searches": 1}),
        record(
            path="/v1beta/openai/chat/completions",
            body={"model": "gemini-2.5-flash"},
            usage=TOKENS | {"web_searches": 1},
        ),
    ):
        with pytest.raises(Unbillable):
            bill.bill(unknown)


def price_book():
    """Rates of the product's price book by (name, tier, size), in dollars a token, and its names and aliases."""
    models = json.loads((DATA / "price-book.json").read_text(encoding="utf-8"))["models"]
    names = {alias: model for model in models for alias in [model["name"], *model.get("aliases", [])]}
    rates = {(model["name"], rate["tier"], rate["above"]): rate for model in models for rate in model["rates"]}
    return names, rates


def book_price(rate, kind):
    """The book's own rule for what is missing."""
    missing = {"cache_read": "input", "cache_write_5m": "input", "cache_write_1h": "cache_write_5m"}
    return Fraction(rate[kind]) / 10**6 if kind in rate else book_price(rate, missing[kind])


def test_the_price_book_says_the_same():
    names, rates = price_book()
    compared = 0
    for model, entry in bill.load_prices().items():
        for (name, tier, above), rate in rates.items():
            if name != names[model]["name"]:
                continue
            suffix = "" if tier == "standard" else bill.SUFFIXES[tier]
            place = f"_above_{above // 1000}k_tokens" if above else ""
            for kind in CLASSES:
                expected = bill.unit_price(entry, kind, place, suffix)
                assert book_price(rate, kind) == expected, (model, tier, above, kind)
                compared += 1
    assert compared > 500


def test_the_converter_writes_the_book_that_is_committed():
    spec = importlib.util.spec_from_file_location("from_litellm", DATA / "from-litellm.py")
    converter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(converter)
    source = json.loads(bill.PRICES.read_text(encoding="utf-8"), parse_float=str, parse_int=str)
    names, _ = price_book()
    for model in converter.convert(source):
        committed = names[model["name"]]
        # The reduced file has not every twin of a name, so not every alias.
        aliases = set(model.pop("aliases", [])) - set(committed.get("aliases", []))
        assert not aliases
        assert model == {field: value for field, value in committed.items() if field != "aliases"}
