"""What a level can ask of requests beside money and models: tags, no extras, or nothing at all but to be watched."""

from decimal import Decimal

import pytest

LONG = [{"role": "user", "content": "x" * 210_000}]


@pytest.mark.parametrize("level", ["key", "team", "organization"])
def test_a_required_tag_is_asked_for_wherever_it_may_stand(stack, mock, level):
    fields = {"required_tags": ["project"]}
    if level == "key":
        key = stack.key(**fields)
    elif level == "team":
        key = stack.key(team_id=stack.team(**fields))
    else:
        organization = stack.organization(organization_alias="tags", **fields)
        key = stack.key(team_id=stack.team(organization_id=organization))
    refused = stack.messages(key)
    assert (refused.status_code, refused.headers["x-tollgate-denial"]) == (400, "tag_missing")
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert stack.messages(key, {"metadata": {"tags": ["projects:x", "team:project"]}}).status_code == 400
    assert mock.count() == 0
    assert stack.messages(key, {"metadata": {"tags": ["project:x"]}}).status_code == 200
    assert stack.messages(key, headers={"x-tollgate-tags": "a:b,project"}).status_code == 200
    assert mock.count() == 2


def test_a_tag_of_the_key_is_a_tag_of_its_requests(stack):
    assert stack.messages(stack.key(required_tags=["project"], tags=["project:own"])).status_code == 200


EXTRAS = {
    # what is forbidden: a request that asks for it, and one that does not
    "fast_mode": ({"model": "claude-opus-5", "speed": "fast"}, {"model": "claude-opus-5"}),
    "priority_tier": ({"service_tier": "priority"}, {"service_tier": "default"}),
    "inference_geo": ({"model": "claude-opus-4-6", "inference_geo": "us"}, {"model": "claude-opus-4-6"}),
    "long_context": ({"model": "claude-sonnet-4-6", "messages": LONG}, {"model": "claude-sonnet-4-6"}),
}


@pytest.mark.parametrize("extra, forbidden, plain", [(e, *bodies) for e, bodies in EXTRAS.items()], ids=EXTRAS)
def test_an_extra_that_is_forbidden_is_403_before_the_provider(stack, mock, extra, forbidden, plain):
    send = stack.chat if extra == "priority_tier" else stack.messages
    key = stack.key(team_id=stack.team(forbidden_extras=[extra]))
    refused = send(key, forbidden)
    assert refused.status_code == 403, refused.text
    assert refused.json()["error"]["type"] == "permission_error"
    assert refused.headers["x-should-retry"] == "false"
    assert mock.count() == 0
    assert send(key, plain).status_code == 200
    assert send(stack.key(), forbidden).status_code == 200, "where nothing forbids it"
    assert mock.count() == 2


def test_a_budget_that_only_observes_refuses_nothing_and_shows_what_it_would_have(stack, mock):
    key = stack.key(max_budget=0.000001, observe=True)
    answer = stack.messages(key, headers={"x-mock-input": "100", "x-mock-output": "10"})
    assert answer.status_code == 200
    info = stack.settled(key)
    assert info["spend"] == 100 * Decimal("0.000003") + 10 * Decimal("0.000015") > info["max_budget"]
    again = stack.messages(key)
    assert again.status_code == 200
    stack.settled(key)
    would_deny = [
        stack.spend_logs(request_id=a.headers["x-tollgate-request-id"])[0]["metadata"]["would_deny"]
        for a in (answer, again)
    ]
    assert would_deny == ["budget_too_small", "budget_spent"]
    stack.admin("POST", "/key/update", {"key": key, "max_budget": 0.000001, "observe": False})
    assert stack.messages(key).status_code == 402
    assert mock.count() == 2


def test_an_installation_that_only_observes(make_stack, mock):
    stack = make_stack(mock, env={"TOLLGATE_OBSERVE": "1"})
    key = stack.key(max_budget=0, models=["claude-sonnet-4"])
    answer = stack.messages(key)
    assert answer.status_code == 200
    stack.settled(key)
    (row,) = stack.spend_logs(request_id=answer.headers["x-tollgate-request-id"])
    assert row["metadata"]["would_deny"] == "budget_spent"
    # Limits observe; keys and lists of models do not.
    assert stack.messages(key, {"model": "claude-opus-4"}).status_code == 403
    assert stack.messages("sk-tg-made-up").status_code == 401
