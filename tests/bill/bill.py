#!/usr/bin/env python3
"""What a list of answered requests costs, computed apart from the product.

Shares no code, no price file and no number type with Tollgate: prices come from a file in LiteLLM's format, everything
is an exact fraction of a dollar, and a request is rounded once, up, to the nano-dollar. What it cannot know it refuses.

    curl -s localhost:4010/mock/requests | python3 tests/bill/bill.py
"""

import functools
import json
import math
import re
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

NANO = 10**9
PRICES = Path(__file__).with_name("prices.json")
# What an answer calls the tier that has no suffix in the price file.
STANDARD = {None, "", "auto", "default", "standard", "standard_only", "on_demand"}
SUFFIXES = {"batch": "_batches", "flex": "_flex", "priority": "_priority", "ultrafast": "_ultrafast"}
# Cheaper than the standard tier: asking for one is no proof of having got it.
CHEAPER = {"batch", "flex"}
# What OpenAI names in its answer, if it was asked for. Every other answer of OpenAI's is of the standard tier.
SERVED = {"flex", "priority"}
# The mock answers with at most so many search items, whatever it is told.
SEARCHES_SHOWN_MAX = 100


class Unbillable(Exception):
    """The bill of this request cannot be known from what is given."""


@dataclass(frozen=True)
class Usage:
    """Tokens by class, none in two classes, and searches."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    web_searches: int = 0

    @property
    def input_total(self):
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


@functools.cache
def load_prices(path=PRICES):
    """Models by name, every number an exact fraction."""
    with open(path, encoding="utf-8") as file:
        models = json.load(file, parse_float=Fraction, parse_int=Fraction)
    return {name.rpartition("/")[2]: entry for name, entry in models.items()}


def cost(model, usage, tier=None, speed=None, geo=None, prices=None):
    """Nano-dollars of one request."""
    prices = prices or load_prices()
    if model not in prices:
        raise Unbillable(f"{model} has no price")
    entry = prices[model]
    # A tier that the model does not have is served, and priced, as standard.
    suffix = "" if tier in STANDARD else SUFFIXES.get(tier, "")
    if f"input_cost_per_token{suffix}" not in entry:
        suffix = ""
    threshold = reached(entry, suffix, usage.input_total)
    tokens = sum(
        getattr(usage, kind) * unit_price(entry, kind, threshold, suffix)
        for kind in ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
    )
    factors = entry.get("provider_specific_entry", {})
    for name, asked_for in (("fast", speed), ("us", geo)):
        if asked_for == name and name not in factors:
            raise Unbillable(f"{model} has no price for {name}")
        tokens *= factors[name] if asked_for == name else 1
    dollars = tokens + usage.web_searches * search_price(entry, model, usage.web_searches)
    return math.ceil(dollars * NANO)


def reached(entry, suffix, input_total):
    """The infix of the largest size tier that the input has passed: the whole request is priced there."""
    pattern = re.compile(rf"input_cost_per_token(_above_(\d+)k_tokens){suffix}")
    tiers = [(int(match[2]), match[1]) for match in map(pattern.fullmatch, entry) if match]
    return max((tier for tier in tiers if tier[0] * 1000 < input_total), default=(0, ""))[1]


def unit_price(entry, kind, threshold, suffix):
    """Dollars a token."""
    end = threshold + suffix
    plain = entry[f"input_cost_per_token{end}"]
    if kind == "input":
        return plain
    if kind == "output":
        return entry[f"output_cost_per_token{end}"] if entry["mode"] != "embedding" else Fraction(0)
    if kind == "cache_read":
        return entry.get(f"cache_read_input_token_cost{end}", plain)
    short = entry.get(f"cache_creation_input_token_cost{end}", plain)
    return short if kind == "cache_write_5m" else long_write(entry, end, threshold, short)


def long_write(entry, end, threshold, short):
    """An hour or longer. A tier that leaves it out keeps the proportion that it has in the standard rates."""
    ways = [
        (f"cache_creation_input_token_cost{long}{place}", f"cache_creation_input_token_cost{place}")
        for place in (end, threshold, "")
        for long in ("_above_1hr", "_above_12hr")
    ]
    for long_key, short_key in ways:
        if long_key in entry:
            return entry[long_key] * short / entry[short_key]
    return short


def search_price(entry, model, searches):
    sizes = entry.get("search_context_cost_per_query", {})
    if not sizes and entry["litellm_provider"] in ("anthropic", "openai") and entry["mode"] in ("chat", "responses"):
        return Fraction(1, 100)  # what both providers ask of all their models
    if searches and not sizes:
        raise Unbillable(f"{model} has no price for web searches")
    return max(sizes.values(), default=0)


def usage_of(path, usage):
    """The classes of a `usage` object as it stands in an answer of the API at `path`.

    Anthropic's input excludes the cache; the OpenAI-shaped ones include it and tell no lifetime of a write.
    """
    count = lambda *keys: int(dig(usage, keys) or 0)  # noqa: E731
    if path.endswith("/messages"):
        written = count("cache_creation_input_tokens")
        long = count("cache_creation", "ephemeral_1h_input_tokens")
        return Usage(
            input=count("input_tokens"),
            cache_read=count("cache_read_input_tokens"),
            cache_write_5m=written - long,
            cache_write_1h=long,
            output=count("output_tokens"),
            web_searches=count("server_tool_use", "web_search_requests"),
        )
    if path.endswith("/responses"):
        details, total, output = "input_tokens_details", count("input_tokens"), count("output_tokens")
    else:
        details, total, output = "prompt_tokens_details", count("prompt_tokens"), count("completion_tokens")
        # Google leaves thinking out of the completion tokens, but not out of the total.
        output = max(output, count("total_tokens") - total)
    read, written = count(details, "cached_tokens"), count(details, "cache_write_tokens")
    return Usage(input=total - read - written, cache_read=read, cache_write_5m=written, output=output)


def dig(value, keys):
    for key in keys:
        value = (value or {}).get(key)
    return value


def bill(request, prices=None):
    """Nano-dollars of one entry of the mock provider's `GET /mock/requests`.

    Model, tier, speed and place of the answer are read from the request's `x-mock-*` headers, else from what the mock does
    without them; what was set with `PUT /mock/defaults` is not in the entry.
    """
    path, status = request["path"], request["status"]
    if request["method"] != "POST" or path.endswith("/count_tokens"):
        return 0
    if status is None or request["answer"]["state"] != "complete":
        raise Unbillable(f"request {request['number']} was not answered to its end")
    if not 200 <= status < 300:
        return 0
    if request["usage"] is None:
        raise Unbillable(f"request {request['number']} was answered without usage")
    told = dict(request["headers"])
    anthropic = path.endswith("/messages")
    price = functools.partial(
        cost,
        told.get("x-mock-model") or asked(request, "model"),
        replace(shown(path, request["usage"]), **searches_asked(request)),
        speed=told.get("x-mock-speed") if anthropic else None,
        geo=told.get("x-mock-geo") if anthropic else None,
        prices=prices,
    )
    # The dearest of what the tier may have been.
    return max(price(tier=tier) for tier in tiers(request, told.get("x-mock-tier")))


def asked(request, field):
    if not isinstance(request["body"], dict):
        raise Unbillable(f"request {request['number']}: its body was too large to keep, so its {field} is not known")
    return request["body"].get(field)


def tiers(request, told):
    """The tiers that the request may have been served in: one, if the answer names it."""
    path = request["path"]
    if told or path.endswith("/messages"):
        return [told]
    if path.endswith("/embeddings"):
        return [None]
    tier = asked(request, "service_tier")
    if not path.startswith("/v1beta/") and not asked(request, "model").startswith("claude-"):
        return [tier if tier in SERVED else None]
    # The OpenAI-compatible chat of Anthropic and Google names none.
    return [None] if tier in CHEAPER else [None, tier]


def searches_asked(request):
    """Chat completions search once for each answer if they are asked to, and no usage tells it."""
    if not request["path"].endswith("/chat/completions") or asked(request, "web_search_options") is None:
        return {}
    return {"web_searches": asked(request, "n") or 1}


def shown(path, tokens):
    """The mock's tokens, as far as an answer of this API can tell them."""
    writes, long, searches = tokens["cache_write_5m"], tokens["cache_write_1h"], tokens["web_searches"]
    if not path.endswith("/messages"):
        writes, long = writes + long, 0
    if searches and not path.endswith(("/messages", "/responses")):
        raise Unbillable(f"{path} does not tell searches")
    if path.endswith("/responses"):
        searches = min(searches, SEARCHES_SHOWN_MAX)
    return Usage(tokens["input"], tokens["cache_read"], writes, long, tokens["output"], searches)


def total(requests, prices=None):
    """Nano-dollars of all of them: the sum of bills that were each rounded."""
    prices = prices or load_prices()
    return sum(bill(request, prices) for request in requests)


def main():
    requests = json.load(sys.stdin)
    nano = total(requests)
    print(f"{len(requests)} requests: {nano // NANO}.{nano % NANO:09d} dollars")


if __name__ == "__main__":
    main()
