"""Limits beside a budget in money: rates, budgets on tags, on models and on sessions."""

import re

from stack import CHAT

SMALL = {"x-mock-input": "100", "x-mock-output": "10"}


def test_requests_a_minute_are_429_in_both_shapes_and_shown_on_success(stack, mock):
    key = stack.key(rpm_limit=2)
    first = stack.messages(key, headers=SMALL)
    assert first.status_code == 200, first.text
    assert first.headers["anthropic-ratelimit-requests-limit"] == "2"
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "1"
    second = stack.chat(key, headers=SMALL)
    assert second.status_code == 200, second.text
    assert second.headers["x-ratelimit-limit-requests"] == "2"
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    assert second.headers["x-ratelimit-api_key-limit-requests"] == "2"
    sent = mock.count()
    for refused, kind in [(stack.messages(key), "rate_limit_error"), (stack.chat(key), None)]:
        assert refused.status_code == 429, refused.text
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert "x-should-retry" not in refused.headers
        assert kind is None or refused.json()["error"]["type"] == kind
        assert not re.search(r"\d{3}", refused.json()["error"]["message"])
    assert mock.count() == sent, "a refused request reaches no provider"


def test_tokens_are_corrected_by_what_was_used(stack):
    key = stack.key(tpm_limit=10_000)
    answer = stack.chat(key, {**CHAT, "max_tokens": 1_000}, headers={"x-mock-input": "100", "x-mock-output": "10"})
    assert answer.status_code == 200, answer.text
    stack.settled(key)
    after = stack.chat(key, {**CHAT, "max_tokens": 1}, headers=SMALL)
    remaining = int(after.headers["x-ratelimit-remaining-tokens"])
    assert remaining > 9_000, f"the thousand that were not used are back: {remaining}"


def test_a_budget_on_a_tag_binds_where_it_is_pinned(stack, mock):
    organization = stack.organization(organization_alias="tags")
    team = stack.team(organization_id=organization)
    stack.admin("POST", "/tag/new", {"name": "project:x", "organization_id": organization, "max_budget": 0.0001})
    pinned, free = stack.key(team_id=team, tags=["project:x"]), stack.key(team_id=team)
    refused = stack.messages(pinned)
    assert refused.status_code == 402, refused.text
    assert 'tag "project:x"' in refused.json()["error"]["message"]
    assert stack.messages(free, headers=SMALL).status_code == 200
    # What a client says of itself attributes, and binds only where the policy says so.
    assert stack.messages(free, headers={**SMALL, "x-tollgate-tags": "project:x"}).status_code == 200
    bound = stack.key(team_id=team, client_tags_bind=True)
    assert stack.messages(bound, headers={**SMALL, "x-tollgate-tags": "project:x"}).status_code == 402


def test_a_budget_on_a_model_leaves_the_others_alone(stack, mock):
    key = stack.key(model_max_budget={"claude-sonnet-4": 0.0001})
    assert stack.messages(key).status_code == 402
    assert stack.chat(key, headers=SMALL).status_code == 200


def test_sessions_by_their_names_have_caps_and_close_no_others(stack, mock):
    """Not even for the moment in which a refusal is remembered: each of Envoy's workers is met several times."""
    key = stack.key(session_budgets={"ci-*": 0}, model_max_budget={"claude-haiku-4-5": 0})
    named = {"x-claude-code-session-id": "3b6c1a0e-5f6e-4b61-9f60-0d6c8e4b2a11"}
    for _ in range(8):
        refused = stack.messages(key, headers={**SMALL, **named, "x-tollgate-session": "ci-7"})
        assert refused.status_code == 402 and "your session" in refused.json()["error"]["message"], refused.text
        assert stack.messages(key, headers={**SMALL, **named}).status_code == 200
        assert stack.messages(key, headers=SMALL).status_code == 200
        assert stack.messages(key, {"model": "claude-haiku-4-5"}, headers=SMALL).status_code == 402
        assert stack.chat(key, headers=SMALL).status_code == 200


def test_a_session_has_a_cap_of_its_own(stack, mock):
    key = stack.key(max_session_budget=0.003)
    session = {"x-claude-code-session-id": "3b6c1a0e-5f6e-4b61-9f60-0d6c8e4b2a11"}
    assert stack.messages(key, headers={**SMALL, **session, "x-mock-output": "100"}).status_code == 200
    stack.settled(key)
    refused = stack.messages(key, headers={**SMALL, **session})
    assert refused.status_code == 402, refused.text
    assert "your session" in refused.json()["error"]["message"]
    other = {"x-claude-code-session-id": "0f0f0f0f-0000-4b61-9f60-0d6c8e4b2a11"}
    assert stack.messages(key, headers={**SMALL, **other}).status_code == 200
    assert stack.messages(key, headers=SMALL).status_code == 200, "without a session there is no cap"
