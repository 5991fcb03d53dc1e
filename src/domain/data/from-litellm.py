#!/usr/bin/env python3
"""Writes price-book.json from a price file in LiteLLM's format.

    python3 src/domain/data/from-litellm.py PRICES.json > src/domain/data/price-book.json

Deterministic: models sorted by name, one a line, so that a renewal reads as a diff of models. Numbers are taken as
decimals from the file's text; none passes through a float. What is converted, and what is left out:

- Providers `anthropic`, `openai` and `gemini`; modes chat, responses, embedding and completion. Models that hear, speak
  or draw are left out: their tokens have prices by medium that the book has no class for.
- A model without an input price, an output price or a size has no price here and is refused by the ledger. A price of
  zero counts as none, save for the output of an embedding.
- `context_window` is the file's `max_input_tokens`: what bounds the input of one call.
- Service tiers are the suffixes `_batches`, `_flex`, `_priority` and `_ultrafast`; sizes are `_above_<n>k_tokens`.
- A tier that has no price for the one-hour cache write, though the model has one, takes it in the proportion of its
  five-minute write. Everything else that is missing is left to the book's own rule (what input costs).
- Web search costs the dearest search context size; where the file has none, what the provider asks of all its models.
  Free searches are granted per account, not per request: ignored.
- Pictures and sounds that a text model takes as input are priced as its text.
- Regional uplifts of OpenAI are left out: no request and no answer there says where it ran.
"""

import json
import re
import sys
from decimal import Decimal
from fractions import Fraction
from math import ceil

PROVIDERS = ("anthropic", "openai", "gemini")
MODES = ("chat", "responses", "embedding", "completion")
# Models that search on every chat request are left out, too: their usage does not tell.
LEFT_OUT = re.compile(r"-search-|^ft:|audio|tts|image|realtime|live|stream|transcri|whisper|moderation|omni-|lyria|container")
TIERS = {"standard": "", "batch": "_batches", "flex": "_flex", "priority": "_priority", "ultrafast": "_ultrafast"}
CACHE_WRITES_LONG = ("_above_1hr", "_above_12hr")
FIELDS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
MULTIPLIERS = {"fast": "speed:fast", "us": "inference_geo:us"}

# Dollars a search on models for which the file has no price of their own: Anthropic ("Pricing", web search tool) and
# OpenAI ("Pricing", built-in tools, web search, all models) ask 10 dollars for a thousand.
SEARCH_OF_ALL_MODELS = {"anthropic": Decimal("0.01"), "openai": Decimal("0.01")}
# Modes in which a model can be asked to search.
SEARCHING_MODES = ("chat", "responses")

# From this generation on Anthropic's own model names bear no date ("Model IDs and versioning"); before it, the name
# without a date is the alias.
ANTHROPIC_DATELESS_FROM = (4, 6)
# Aliases that Anthropic documents and that follow no rule ("Models overview").
ALIASES = {"claude-opus-4-20250514": ["claude-opus-4-0"], "claude-sonnet-4-20250514": ["claude-sonnet-4-0"]}


def convert(source):
    """Every priced model of a LiteLLM-format file, by name."""
    entries = {}
    # A name that stands twice is decided by the one that bears the provider's prefix: `gemini/x` before `x`.
    for key in sorted(source, key=lambda key: "/" in key):
        entry = source[key]
        if entry.get("litellm_provider") in PROVIDERS and entry.get("mode") in MODES:
            entries[key.rpartition("/")[2]] = entry
    priced = {name: entry for name, entry in entries.items() if is_priced(name, entry)}
    aliases = fold_dated_twins(priced)
    return [model(name, priced[name], aliases.get(name, [])) for name in sorted(priced)]


def is_priced(name, entry):
    embedding = entry["mode"] == "embedding"
    needed = ["max_input_tokens", "input_cost_per_token"]
    needed += [] if embedding else ["max_output_tokens", "output_cost_per_token"]
    return not LEFT_OUT.search(name) and all(Decimal(entry.get(field, 0)) > 0 for field in needed)


def fold_dated_twins(entries):
    """Anthropic: a name with a date and the same without are one model. Takes the alias out, gives aliases by name."""
    aliases = {name: list(names) for name, names in ALIASES.items()}
    for dated in [name for name, entry in entries.items() if entry["litellm_provider"] == "anthropic"]:
        parts = re.fullmatch(r"(claude-[a-z]+-(\d+)(?:-(\d+))?)-\d{8}", dated)
        if not parts:
            continue
        undated = parts[1]
        twin = entries.get(undated)
        if twin and twin != entries[dated]:
            sys.exit(f"{undated} and {dated} differ: say which is which")
        dateless = twin and (int(parts[2]), int(parts[3] or 0)) >= ANTHROPIC_DATELESS_FROM
        name, alias = (undated, dated) if dateless else (dated, undated)
        entries.pop(alias, None)
        aliases[name] = sorted([alias, *aliases.get(name, [])])
    return aliases


def model(name, entry, aliases):
    embedding = entry["mode"] == "embedding"
    searches = [Decimal(price) for price in entry.get("search_context_cost_per_query", {}).values()]
    if not searches and entry["mode"] in SEARCHING_MODES and entry["litellm_provider"] in SEARCH_OF_ALL_MODELS:
        searches = [SEARCH_OF_ALL_MODELS[entry["litellm_provider"]]]
    fields = {
        "name": name,
        "provider": entry["litellm_provider"],
        "mode": entry["mode"],
        "aliases": aliases,
        "context_window": int(entry["max_input_tokens"]),
        "max_output": 0 if embedding else int(entry["max_output_tokens"]),
        "retired": entry.get("deprecation_date"),
        "rates": rates(entry),
        "multipliers": multipliers(name, entry),
        "web_search": text(max(searches)) if searches else None,
    }
    return {field: value for field, value in fields.items() if value not in (None, [], {})}


def multipliers(name, entry):
    found = entry.get("provider_specific_entry", {})
    unknown = set(found) - set(MULTIPLIERS)
    if unknown:
        sys.exit(f"{name}: unknown multipliers {sorted(unknown)}")
    return {MULTIPLIERS[key]: text(Decimal(found[key])) for key in sorted(found)}


def rates(entry):
    sizes = sorted({int(size) for key in entry for size in re.findall(r"_cost_per_token_above_(\d+)k_tokens", key)})
    found = {}
    for tier, suffix in TIERS.items():
        for size in [0, *sizes]:
            rate = one_rate(entry, f"_above_{size}k_tokens" if size else "", suffix)
            if rate:
                rate["cache_write_1h"] = long_write(rate, found.get(("standard", size)) or found.get(("standard", 0)))
                found[tier, size] = rate
    return [
        {"tier": tier, "above": size * 1000}
        | {field: per_million(rate[field]) for field in FIELDS if rate.get(field) is not None}
        for (tier, size), rate in found.items()
    ]


def one_rate(entry, above, suffix):
    """The prices of one tier and size, in dollars per token; None where the file has none."""
    end = above + suffix
    names = {
        "input": ["input_cost_per_token" + end],
        "cache_read": ["cache_read_input_token_cost" + end],
        "cache_write_5m": ["cache_creation_input_token_cost" + end],
        "cache_write_1h": [f"cache_creation_input_token_cost{long}{end}" for long in CACHE_WRITES_LONG],
        "output": ["output_cost_per_token" + end],
    }
    given = {field: [Fraction(entry[name]) for name in names[field] if name in entry] for field in FIELDS}
    rate = {field: max(prices) for field, prices in given.items() if prices}
    if entry["mode"] == "embedding":
        rate["output"] = Fraction(0)
    return rate if "input" in rate and "output" in rate else None


def long_write(rate, standard):
    """What a one-hour write costs where only the standard rate says it. None where none does."""
    if "cache_write_1h" in rate or standard is None or standard["cache_write_1h"] is None:
        return rate.get("cache_write_1h")
    if "cache_write_5m" not in rate:
        sys.exit("a tier has no price for cache writes, though its model has one")
    return standard["cache_write_1h"] * rate["cache_write_5m"] / standard["cache_write_5m"]


def per_million(price):
    """Dollars per million tokens from dollars per token, at most six places (a pico-dollar a token), rounded up."""
    pico = ceil(price * 10**12)
    return text(Decimal(pico) / 1_000_000)


def text(number):
    plain = format(number.normalize(), "f")
    return plain if Decimal(plain) == number else sys.exit(f"{number} cannot be written exactly")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        source = json.load(file, parse_float=str, parse_int=str)
    lines = ",\n".join(json.dumps(model) for model in convert(source))
    print('{"format": "tollgate-price-book/1", "models": [\n' + lines + "\n]}")


if __name__ == "__main__":
    main()
