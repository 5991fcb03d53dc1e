#!/usr/bin/env python3
"""Cuts a price file in LiteLLM's format down to the models that the tests name, and to what decides a price.

    python3 tests/bill/reduce.py PRICES.json > tests/bill/prices.json

Numbers keep the file's own text. To add a model, add its name here.
"""

import json
import re
import sys

MODELS = """
claude-fable-5-1 claude-haiku-4-5 claude-haiku-4-5-20251001 claude-haiku-5-5 claude-opus-4-20250514 claude-opus-4-5
claude-opus-4-5-20251101 claude-opus-4-6 claude-opus-4-8 claude-opus-5 claude-opus-5-5 claude-sonnet-4-20250514
claude-sonnet-4-5 claude-sonnet-4-5-20250929 claude-sonnet-4-6 claude-sonnet-5 claude-sonnet-5-5
gpt-3.5-turbo-instruct gpt-4.1 gpt-4.1-mini gpt-4.1-nano gpt-4o gpt-4o-mini gpt-5 gpt-5-mini gpt-5-nano gpt-5.1
gpt-5.1-codex gpt-5.2 gpt-5.2-codex gpt-5.3-codex gpt-5.4 gpt-5.5 gpt-5.6 gpt-6-astra gpt-6-sol gpt-6.1-sol o3 o4-mini
text-embedding-3-large text-embedding-3-small
gemini/gemini-2.5-flash gemini/gemini-2.5-flash-lite gemini/gemini-2.5-pro gemini/gemini-3-flash-preview
gemini/gemini-3.1-pro-preview gemini/gemini-3.8-flash gemini/gemini-embedding-001
""".split()

KEPT = re.compile(
    r"litellm_provider|mode|max_(in|out)put_tokens|deprecation_date|provider_specific_entry"
    r"|search_context_cost_per_query|(in|out)put_cost_per_token.*|cache_(creation|read)_input_token_cost.*"
)


class Number(str):
    """A number's own text."""


def text(value):
    """JSON with numbers as they stood."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {text(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        source = json.load(file, parse_float=Number, parse_int=Number)
    reduced = {name: {k: v for k, v in source[name].items() if KEPT.fullmatch(k)} for name in sorted(MODELS)}
    print("{\n" + ",\n".join(f"{json.dumps(name)}: {text(entry)}" for name, entry in reduced.items()) + "\n}")


if __name__ == "__main__":
    main()
