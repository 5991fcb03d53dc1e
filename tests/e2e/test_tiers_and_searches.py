"""What a request asks for beside its model, and what of it is charged: service tiers, searches, speed, many answers."""

import pytest
from bill import Usage, bill, cost
from books import dollars

TOKENS = {"x-mock-input": "1000", "x-mock-output": "70"}
USAGE = {"input": 1000, "output": 70}


def charged(stack, mock, body: dict, headers: dict | None = None) -> dict:
    """The row of one chat request, which is charged what the provider bills, exactly."""
    key = stack.key(max_budget=10)
    answer = stack.chat(key, body, headers={**TOKENS, **(headers or {})})
    assert answer.status_code == 200, answer.text
    info = stack.settled(key)
    (row,) = stack.spend_logs(request_id=answer.headers["x-tollgate-request-id"])
    (request,) = mock.requests()
    assert row["spend"] == info["spend"] == dollars(bill(request))
    assert (row["state"], row["metadata"]["estimated"], row["metadata"]["overrun"]) == ("settled", False, 0)
    return row


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    "model, asked, answered, priced",
    [
        # Neither Anthropic nor Google names a tier here: asking for a cheaper one saves nothing.
        ("claude-sonnet-5", "batch", None, None),
        ("claude-sonnet-5", "flex", None, None),
        ("gemini-2.5-flash", "batch", None, None),
        ("gemini-2.5-flash", "flex", None, None),
        ("gemini-2.5-flash", "flex", "flex", "flex"),
        # A dearer one costs what it costs, unless the answer says that it was not had.
        ("gemini-2.5-flash", "priority", None, "priority"),
        ("gemini-2.5-flash", "priority", "standard", None),
        ("gpt-5.2", "flex", None, "flex"),
        ("gpt-5.2", "flex", "default", None),
        ("gpt-5.2", "priority", None, "priority"),
        ("gpt-5.2", "batch", None, None),
        ("gpt-5.2", "auto", None, None),
        ("gpt-5.2", "auto", "priority", "priority"),
    ],
)
def test_a_tier_is_charged_as_it_was_served(stack, mock, model, asked, answered, priced, stream):
    headers = {"x-mock-tier": answered} if answered else {}
    row = charged(stack, mock, {"model": model, "service_tier": asked, "stream": stream}, headers)
    assert row["spend"] == dollars(cost(model, Usage(**USAGE), tier=priced))
    assert priced is None or row["spend"] != dollars(cost(model, Usage(**USAGE)))


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("n", [1, 3])
def test_a_search_of_chat_is_charged_though_no_usage_tells_it(stack, mock, n, stream):
    body = {"model": "gpt-5.2", "web_search_options": {}, "n": n, "stream": stream}
    row = charged(stack, mock, body)
    assert row["spend"] == dollars(cost("gpt-5.2", Usage(**USAGE, web_searches=n)))
    assert row["spend"] == dollars(cost("gpt-5.2", Usage(**USAGE)) + n * 10_000_000)


UNPRICED = {
    "fast": ("messages", {"model": "claude-opus-4-6", "speed": "fast"}),
    "region": ("messages", {"model": "claude-haiku-4-5", "inference_geo": "us"}),
    "unheard-of tier": ("chat", {"model": "gpt-5.2", "service_tier": "platinum"}),
}


@pytest.mark.parametrize("api, body", UNPRICED.values(), ids=UNPRICED)
def test_what_has_no_price_is_403_before_the_provider(stack, mock, api, body):
    key = stack.key()
    refused = getattr(stack, api)(key, body)
    assert (refused.status_code, refused.headers["x-tollgate-denial"]) == (403, "model_unpriced"), refused.text
    assert mock.count() == 0
    assert stack.key_info(key)["pending"] == 0


@pytest.mark.parametrize("n", [4_097, 4_000_000_000])
def test_more_answers_than_anybody_means_are_400(stack, mock, n):
    refused = stack.chat(stack.key(), {"n": n})
    assert refused.status_code == 400, refused.text
    assert "n" in refused.json()["error"]["message"].split() or refused.json()["error"].get("param") == "n"
    assert mock.count() == 0
