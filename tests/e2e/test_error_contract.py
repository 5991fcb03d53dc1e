"""What a denied client reads: each row of the error contract in the shape of every API, and nothing at the provider."""

import json
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from lines import Connection, send
from stack import CHAT, MASTER, MESSAGE, Stack, wait_until

REQUEST_ID = re.compile(r"[0-9a-f]{32}")
RESPONSE = {"model": "gpt-5.1-codex", "max_output_tokens": 100, "input": "Hello"}
CODEX = ("originator", "codex_cli_rs")
# API, path, smallest body.
APIS = {
    "messages": ("/v1/messages", MESSAGE),
    "chat": ("/v1/chat/completions", CHAT),
    "responses": ("/v1/responses", RESPONSE),
}


@pytest.fixture(scope="module")
def key(shared_stack):
    """A key that may do everything."""
    return shared_stack.key()


@pytest.fixture(scope="module")
def model_names(shared_stack):
    return [model["id"] for model in shared_stack.admin("GET", "/v1/models")["data"]]


@pytest.fixture
def ask(stack, key):
    """Sends one request to an API, by default one that would pass."""

    def ask(api="messages", key=key, body=None, headers=(), path=None, method="POST"):
        own_path, smallest = APIS[api]
        credential = ("x-api-key", key) if api == "messages" else ("authorization", f"Bearer {key}")
        lines = [] if key is None else [credential]
        lines += [("anthropic-version", "2023-06-01")] if api == "messages" else []
        if not any(name == "content-type" for name, _ in headers):
            lines.append(("content-type", "application/json"))
        body = body if isinstance(body, bytes) else {**smallest, **(body or {})}
        return send(stack.port, method, path or own_path, [*lines, *headers], body)

    return ask


@pytest.fixture
def denied(mock, model_names):
    """Checks what is true of every denial, and gives its error object."""

    def denied(answer, status, name, api="messages", kind=None, code=None):
        assert (answer.status, answer.header("x-tollgate-denial")) == (status, name), answer
        assert REQUEST_ID.fullmatch(answer.header("x-tollgate-request-id"))
        assert answer.header("x-should-retry") == "false"
        assert answer.header("retry-after") is None
        assert answer.header("content-type") == "application/json"
        assert mock.count() == 0, "nothing reaches the provider"
        body = answer.json()
        without_names = json.dumps(body)
        for model in sorted(model_names, key=len, reverse=True):
            without_names = without_names.replace(model, "")
        without_names = re.sub(r'"resets_at": \d+', "", without_names)
        assert not re.search(r"\d{3}", without_names), "clients look for status codes anywhere in a body"
        error = body["error"]
        assert error["message"] and "\n" not in error["message"]
        if api == "messages":
            assert set(body) == {"type", "error"} and body["type"] == "error"
            assert set(error) == {"type", "message"}
        else:
            assert set(body) == {"error"} and set(error) == {"message", "type", "param", "code"}
            assert (error["param"], error["code"]) == (None, code)
        assert kind is None or error["type"] == kind
        return error

    return denied


def next_month() -> datetime:
    now = datetime.now(UTC)
    return datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)


def spend(stack, mock, key: str) -> None:
    """Lets a key use more than its hold: 100 tokens in and 1,000 out of claude-sonnet-4, so 0.0153 dollars."""
    answer = stack.messages(key, headers={"x-mock-input": "100", "x-mock-output": "1000"})
    assert answer.status_code == 200, answer.text
    assert stack.settled(key)["spend"] == Decimal("0.0153")
    mock.reset()


SHAPES_402 = [("messages", "billing_error", None), ("chat", "insufficient_quota", "budget_exceeded")]


@pytest.mark.parametrize("api, kind, code", [*SHAPES_402, ("responses", "insufficient_quota", "budget_exceeded")])
@pytest.mark.parametrize("stream", [False, True])
def test_a_spent_budget_is_402_with_the_amounts_in_headers(stack, mock, ask, denied, api, kind, code, stream):
    spent = stack.key(max_budget=0.01, budget_duration="1mo", key_alias=f"intern-{api}-{stream}")
    spend(stack, mock, spent)
    # Denied by the ledger's word and by the filter's memory of it: the client sees no difference.
    for _ in range(2):
        answer = ask(api, spent, body={"stream": stream})
        error = denied(answer, 402, "budget_spent", api, kind, code)
        reset = next_month()
        assert error["message"] == (f'The budget of key "intern-{api}-{stream}" is spent. It resets on 1 {reset:%B}.')
        assert answer.header("x-tollgate-account") == "key"
        assert Decimal(answer.header("x-tollgate-limit")) == Decimal("0.01")
        assert Decimal(answer.header("x-tollgate-posted")) == Decimal("0.0153")
        assert Decimal(answer.header("x-tollgate-pending")) == 0
        assert answer.header("x-tollgate-reset") == f"{reset:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize("api, kind, code", SHAPES_402)
def test_a_request_that_may_cost_more_than_what_is_left_is_another_402(stack, ask, denied, api, kind, code):
    poor = stack.key(max_budget=0.000001, key_alias=f"poor-{api}")
    answer = ask(api, poor)
    error = denied(answer, 402, "budget_too_small", api, kind, code)
    assert "may cost more than what is left" in error["message"]
    assert "Lower max_tokens, or wait for parallel requests" in error["message"]
    assert error["message"].endswith("It does not reset by itself.")
    assert answer.header("x-tollgate-reset") is None
    # A token has at least a byte of the body, or is one of 128 that the provider may add; output is max_tokens.
    path, body = APIS[api]
    price_in, price_out = {"messages": ("0.000003", "0.000015"), "chat": ("0.0000004", "0.0000016")}[api]
    most = (len(json.dumps(body)) + 128) * Decimal(price_in) + 100 * Decimal(price_out)
    assert Decimal(answer.header("x-tollgate-requested")) == most
    assert Decimal(answer.header("x-tollgate-limit")) == Decimal("0.000001")
    assert Decimal(answer.header("x-tollgate-posted")) == 0


def test_money_that_open_requests_hold_is_shown_as_pending(stack, mock, denied, ask):
    most = (len(json.dumps(MESSAGE)) + 128) * Decimal("0.000003") + 100 * Decimal("0.000015")
    narrow = stack.key(max_budget=float(most * 3 / 2))
    first = Connection(stack.port)
    headers = [("x-api-key", narrow), ("anthropic-version", "2023-06-01"), ("content-type", "application/json")]
    body = json.dumps(MESSAGE).encode()
    first.http.request("POST", "/v1/messages", body, dict([*headers, ("x-mock-hold", "true")]))
    while not mock.held():
        time.sleep(0.01)
    answer = ask(key=narrow)
    mock.reset()
    denied(answer, 402, "budget_too_small")
    assert Decimal(answer.header("x-tollgate-pending")) == most
    assert stack.key_info(narrow)["pending"] == most
    mock.release()
    assert first.http.getresponse().status == 200
    first.close()
    stack.settled(narrow)
    assert ask(key=narrow).status == 200, "what was held and not used is there again"


ACCOUNTS = {
    # kind: how a key below it is made, and how a denied developer reads of it
    "organization": (lambda s, alias: {"organization_id": s.organization(organization_alias=alias, max_budget=0.01)}),
    "team": (lambda s, alias: {"team_id": s.team(team_alias=alias, max_budget=0.01)}),
    "user": (lambda s, alias: {"user_id": s.user(user_alias=alias, max_budget=0.01)}),
    "key": (lambda s, alias: {"key_alias": alias, "max_budget": 0.01}),
}


@pytest.mark.parametrize("kind", ACCOUNTS)
@pytest.mark.parametrize("alias, named", [("blue", True), ("squad 2024", False)])
def test_the_account_that_refuses_is_named_in_words(stack, mock, ask, denied, kind, alias, named):
    member = stack.key(**{"max_budget": 10, **ACCOUNTS[kind](stack, alias)})
    spend(stack, mock, member)
    answer = ask(key=member)
    words = f'{kind} "{alias}"' if named else f"your {kind}"
    assert f"The budget of {words} is spent." in denied(answer, 402, "budget_spent")["message"]
    assert answer.header("x-tollgate-account") == kind


def test_of_several_limits_the_one_that_refuses_is_shown(stack, mock, ask, denied):
    limits = [{"budget_duration": "1d", "max_budget": 0.01}, {"budget_duration": "7d", "max_budget": 50}]
    key = stack.key(max_budget=100, budget_duration="1mo", budget_limits=limits)
    spend(stack, mock, key)
    answer = ask(key=key)
    error = denied(answer, 402, "budget_spent")
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert answer.header("x-tollgate-reset") == f"{tomorrow}T00:00:00Z"
    assert error["message"].endswith(f"It resets on {tomorrow.day} {tomorrow:%B}.")
    assert Decimal(answer.header("x-tollgate-limit")) == Decimal("0.01")


@pytest.mark.parametrize("name", ["budget_spent", "budget_too_small"])
def test_codex_reads_its_own_usage_limit(stack, mock, ask, name):
    posted = Decimal("0.0153") if name == "budget_spent" else Decimal(0)
    key = stack.key(max_budget=0.01 if posted else 0.000001, budget_duration="1mo")
    if posted:
        spend(stack, mock, key)
    answer = ask("responses", key, headers=[CODEX], body={"stream": True})
    assert (answer.status, answer.header("x-tollgate-denial")) == (429, name)
    error = answer.json()["error"]
    assert set(error) == {"type", "message", "resets_at"}
    assert error["type"] == "usage_limit_reached"
    assert error["resets_at"] == int(next_month().timestamp())
    assert answer.header("x-codex-promo-message") == error["message"]
    assert not re.search(r"\d{3}", error["message"])
    assert answer.header("retry-after") is None
    assert Decimal(answer.header("x-tollgate-posted")) == posted
    assert mock.count() == 0


def test_codex_reads_everything_else_as_everybody_does(stack, ask, denied):
    for key, status, name in [
        (stack.key(models=["claude-*"]), 403, "model_not_allowed"),
        ("sk-tg-made-up", 401, "key_unknown"),
    ]:
        answer = ask("responses", key, headers=[CODEX])
        code = {401: "invalid_api_key", 403: "model_not_allowed"}[status]
        denied(answer, status, name, "responses", code=code)
        assert answer.header("x-codex-promo-message") is None


MODELS = ["claude-sonnet-4-20250514", "gpt-4.1-mini"]


@pytest.mark.parametrize(
    "models, allowed",
    [
        (["claude-*"], {"claude-sonnet-4"}),
        (["anthropic/*"], {"claude-sonnet-4"}),
        (["claude-sonnet-4"], {"claude-sonnet-4"}),
        (["gemini/gemini-2.5-pro", "openai/*"], {"gemini-2.5-pro", "gpt-4.1"}),
        (["*"], {"claude-sonnet-4", "gemini-2.5-pro", "gpt-4.1"}),
        ([], {"claude-sonnet-4", "gemini-2.5-pro", "gpt-4.1"}),
    ],
)
def test_lists_hold_names_aliases_and_patterns(stack, ask, models, allowed):
    key = stack.key(models=models)
    answers = {
        model: ask("chat", key, body={"model": model}) for model in ("claude-sonnet-4", "gemini-2.5-pro", "gpt-4.1")
    }
    assert {model for model, answer in answers.items() if answer.status == 200} == allowed
    assert {answer.status for answer in answers.values()} <= {200, 403}


def test_every_level_must_allow_a_model(stack, ask):
    organization = stack.organization(organization_alias="levels", models=["claude-*", "gpt-*"])
    team = stack.team(organization_id=organization, models=["gpt-*", "gemini-*"])
    key = stack.key(team_id=team, models=["gpt-4.1", "gpt-4.1-mini", "claude-sonnet-4", "gemini-2.5-pro"])
    models = ["gpt-4.1", "gpt-5", "claude-sonnet-4", "gemini-2.5-pro"]
    assert [ask("chat", key, body={"model": model}).status for model in models] == [200, 403, 403, 403]
    listed = ask("chat", key, method="GET", path="/v1/models", body=b"").json()["data"]
    assert {model["id"] for model in listed} == {"gpt-4.1", "gpt-4.1-mini"}


@pytest.mark.parametrize("api", ["messages", "chat"])
@pytest.mark.parametrize(
    "model, name",
    [("claude-opus-4-20250514", "model_not_allowed"), ("gpt-4.1", "model_not_allowed"), ("made-up", "model_unknown")],
)
def test_a_model_off_the_list_is_403_and_names_those_on_it(stack, ask, denied, api, model, name):
    answer = ask(api, stack.key(models=MODELS), body={"model": model})
    error = denied(answer, 403, name, api, "permission_error", "model_not_allowed")
    start, allowed = error["message"].removesuffix(".").split(" Allowed: ")
    assert sorted(allowed.split(", ")) == MODELS
    assert f'"{model}"' in start


@pytest.mark.parametrize(
    "api, body, name, code",
    [
        ("messages", {"model": "gpt-4.1"}, "model_misfit", None),
        ("responses", {"model": "claude-sonnet-4"}, "model_misfit", "model_not_allowed"),
        ("chat", {"model": "text-embedding-3-small"}, "model_misfit", "model_not_allowed"),
        ("responses", {"background": True}, "feature_not_metered", "feature_not_metered"),
        ("responses", {"tools": [{"type": "code_interpreter"}]}, "feature_not_metered", "feature_not_metered"),
        ("messages", {"tools": [{"type": "code_execution_20250825"}]}, "feature_not_metered", None),
        ("chat", {"modalities": ["text", "audio"]}, "feature_not_metered", "feature_not_metered"),
    ],
)
def test_what_cannot_be_metered_is_refused_by_name(ask, denied, api, body, name, code):
    denied(ask(api, body=body), 403, name, api, "permission_error", code)


SHAPES_401 = {"messages": ("authentication_error", None), "chat": ("invalid_request_error", "invalid_api_key")}


@pytest.mark.parametrize("api", SHAPES_401)
class TestCredentials:
    def refused(self, denied, api, answer, name):
        kind, code = SHAPES_401[api]
        return denied(answer, 401, name, api, kind, code)["message"]

    def test_unknown_and_malformed_keys_are_told_apart_by_nothing(self, stack, ask, denied, api):
        well_formed = stack.key()
        stack.admin("POST", "/key/delete", {"keys": [well_formed]})
        keys = [well_formed, well_formed[:-1], "sk-tg-", "sk-ant-api03-abc", "x", "\xe9" * 40]
        answers = [ask(api, key) for key in keys]
        messages = {self.refused(denied, api, answer, "key_unknown") for answer in answers}
        assert messages == {"The virtual key is not valid."}

    def test_a_blocked_key(self, stack, ask, denied, api):
        blocked = stack.key()
        stack.admin("POST", "/key/block", {"key": blocked})
        assert "blocked" in self.refused(denied, api, ask(api, blocked), "key_blocked")

    def test_a_blocked_team(self, stack, ask, denied, api):
        team = stack.team()
        member = stack.key(team_id=team)
        stack.admin("POST", "/team/block", {"team_id": team})
        self.refused(denied, api, ask(api, member), "key_blocked")

    def test_an_expired_key(self, stack, mock, ask, denied, api):
        expiring = stack.key(duration="1s")
        assert ask(api, expiring).status == 200
        mock.reset()
        time.sleep(1.05)
        assert "expired" in self.refused(denied, api, ask(api, expiring), "key_expired")

    def test_no_key(self, ask, denied, api):
        assert "ANTHROPIC_API_KEY" in self.refused(denied, api, ask(api, None), "key_missing")
        self.refused(denied, api, ask(api, None, headers=[("authorization", "Bearer ")]), "key_missing")

    @pytest.mark.parametrize(
        "other",
        [
            ("x-api-key", "another"),
            ("authorization", "Bearer another"),
            ("api-key", "another"),
            ("x-goog-api-key", "another"),
        ],
    )
    def test_two_different_keys(self, ask, denied, api, other):
        self.refused(denied, api, ask(api, headers=[other]), "key_conflict")

    def test_the_same_key_twice_is_one_key(self, ask, key, api):
        one, other = ("x-api-key", key), ("authorization", f"Bearer {key}")
        for both in ([one, other], [one, one], [other, other]):
            assert ask(api, None, headers=both).status == 200, both

    def test_a_subscription_login(self, ask, denied, api):
        login = ("authorization", "Bearer sk-ant-oat01-abcdefghijklmnop")
        message = self.refused(denied, api, ask(api, None, headers=[login]), "subscription_login")
        assert "ANTHROPIC_API_KEY" in message and "log out" in message

    def test_the_master_key_buys_nothing(self, ask, denied, api):
        self.refused(denied, api, ask(api, MASTER), "key_unknown")

    @pytest.mark.parametrize("query", ["key={}", "api_key={}", "beta=true&x={}", "API-KEY={}"])
    def test_a_key_in_the_query_is_refused_and_not_logged(self, stack, ask, denied, api, query):
        secret = stack.key()
        path = APIS[api][0] + "?" + query.format(secret)
        self.refused(denied, api, ask(api, path=path), "key_in_query")
        answer = ask(api, None, path=path)
        self.refused(denied, api, answer, "key_in_query")
        for name, text in logs_with(stack, answer).items():
            assert secret[6:] not in text, name


def logs_with(stack, answer) -> dict[str, str]:
    """All logs, once the access log has this answer's line."""

    def logs():
        texts = {log.name: log.read_text(errors="replace") for log in stack.data.glob("log/*.log")}
        return answer.header("x-tollgate-request-id") in texts["envoy.log"] and texts

    return wait_until(logs, "the request is in the access log", 15)


def test_no_log_holds_a_key_or_a_word_of_the_conversation(stack, ask):
    secret, word = stack.key(), "aardvark-in-the-prompt"
    body = {"messages": [{"role": "user", "content": word}]}
    assert ask(key=secret, body=body).status == 200
    refused = ask(key=secret, body={**body, "model": "made-up"})
    assert refused.status == 403
    for name, text in logs_with(stack, refused).items():
        for hidden in (secret, word, MASTER, "provider-key-"):
            assert hidden not in text, f"{hidden} in {name}"


@pytest.mark.parametrize(
    "api, method, path, name",
    [
        ("messages", "GET", "/v1/messages", "unknown_operation"),
        ("messages", "POST", "/v1/messages?x=1", "unknown_operation"),
        ("messages", "POST", "/v1/messages/batches", "operation_not_metered"),
        ("chat", "POST", "/v1/nothing", "unknown_operation"),
        ("chat", "POST", "/", "unknown_operation"),
        ("chat", "POST", "/v1/files", "operation_not_metered"),
        ("chat", "POST", "/v1/images/generations", "operation_not_metered"),
        ("chat", "DELETE", "/v1/chat/completions", "unknown_operation"),
    ],
)
def test_what_is_not_served_is_404_in_the_shape_of_the_api(ask, denied, api, method, path, name):
    kind = "not_found_error" if api == "messages" else "invalid_request_error"
    denied(ask(api, method=method, path=path), 404, name, api, kind)


@pytest.mark.parametrize("api", ["messages", "chat"])
@pytest.mark.parametrize(
    "header, name",
    [
        (("content-encoding", "gzip"), "content_encoding"),
        (("content-encoding", "br"), "content_encoding"),
        (("content-type", "text/plain"), "media_type"),
        (("content-type", "application/json; charset=iso-8859-1"), "media_type"),
        (("content-type", "multipart/form-data; boundary=x"), "media_type"),
    ],
)
def test_a_body_that_cannot_be_read_is_415(ask, denied, api, header, name):
    denied(ask(api, headers=[header]), 415, name, api, "invalid_request_error")


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/realtime", "/v1/messages"])
def test_a_websocket_is_426(stack, denied, key, path):
    headers = [
        ("authorization", f"Bearer {key}"),
        CODEX,
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    answer = send(stack.port, "GET", path, headers)
    api = "messages" if path == "/v1/messages" else "responses"
    code = "upgrade_refused" if api == "responses" else None
    denied(answer, 426, "websocket", api, "invalid_request_error", code)


TOO_DEEP = b'{"model":"claude-sonnet-4","max_tokens":9,"messages":' + b"[" * 200 + b"]" * 200 + b"}"


@pytest.mark.parametrize("api", ["messages", "chat"])
@pytest.mark.parametrize(
    "body, name, words",
    [
        (b"", "malformed", "ends too early"),
        (b"{", "malformed", "ends too early"),
        (b"[]", "field", "must be a JSON object"),
        (b"hello", "malformed", "not valid JSON"),
        (b'{"messages":[]}', "field", "model is missing"),
        (b'{"model":1}', "field", "model must be a text"),
        (b'{"model":"a","model":"b"}', "field", "model stands twice"),
        (b'{"model":"a","mod\\u0065l":"b"}', "field", "model stands twice"),
        (b'{"model":"a","max_tokens":-1}', "field", "max_tokens must be a whole number"),
        (b'{"model":"a","max_tokens":1.5}', "field", "max_tokens must be a whole number"),
        (b'{"model":"a","max_tokens":1e400}', "field", "max_tokens must be a whole number"),
        (b'{"model":"a","stream":"yes"}', "field", "stream must be true or false"),
        (b'{"model":"a"} x', "malformed", "not valid JSON"),
        (b'\xef\xbb\xbf{"model":"a"}', "malformed", "not valid JSON"),
        (b'{"model":"\xff"}', "malformed", "not valid UTF-8"),
        (TOO_DEEP, "malformed", "nested too deeply"),
        (b'{"model":"a","metadata":{"tags":["a b"]}}', "tag", "The tag"),
        (b'{"model":"a","metadata":{"tags":[1]}}', "tag", "The tag"),
    ],
)
def test_a_body_that_is_wrong_is_400_and_says_why(ask, denied, api, body, name, words):
    error = denied(ask(api, body=body), 400, name, api, "invalid_request_error")
    assert words in error["message"]


@pytest.mark.parametrize("header", ["x-tollgate-tags", "x-litellm-tags"])
def test_a_tag_that_is_none_is_400_and_named(ask, denied, header):
    error = denied(ask(headers=[(header, "good,not good")]), 400, "tag", kind="invalid_request_error")
    assert '"not good"' in error["message"]
    many = ",".join(f"t{number}" for number in range(17))
    denied(ask(headers=[(header, many)]), 400, "too_many_tags", kind="invalid_request_error")


@pytest.mark.parametrize("api, kind", [("messages", "api_error"), ("chat", "server_error")])
@pytest.mark.parametrize("status", [401, 403])
def test_a_provider_that_refuses_our_credential_is_503_and_costs_nothing(stack, mock, ask, api, kind, status):
    key = stack.key()
    answer = ask(api, key, headers=[("x-mock-status", str(status))])
    assert (answer.status, answer.header("x-tollgate-denial")) == (503, "provider_credential")
    assert answer.header("x-should-retry") == "false"
    error = answer.json()["error"]
    assert error["type"] == kind and "platform team" in error["message"]
    assert mock.count() == 1
    assert stack.settled(key)["spend"] == 0


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 529])
def test_errors_of_the_provider_pass_as_they_are_and_cost_nothing(stack, mock, ask, api, status):
    key = stack.key()
    body = APIS[api][1]
    wanted = [("x-mock-status", str(status)), ("x-mock-retry-after", "7")]
    answer = ask(api, key, headers=wanted)
    credential = "provider-key-anthropic" if api == "messages" else "provider-key-openai"
    direct = send(
        mock.port,
        "POST",
        APIS[api][0],
        [("authorization", f"Bearer {credential}"), ("anthropic-version", "2023-06-01"), *wanted],
        body,
    )
    assert (answer.status, answer.body) == (direct.status, direct.body)
    assert (answer.status, answer.header("retry-after")) == (status, "7")
    assert answer.header("x-tollgate-denial") is None
    assert REQUEST_ID.fullmatch(answer.header("x-tollgate-request-id"))
    assert mock.count() == 2, "asked once, and not again"
    assert stack.settled(key)["spend"] == 0


def test_what_is_free_needs_a_key_and_no_money(stack, mock, ask):
    empty = stack.key(max_budget=0)
    counted = {"model": MESSAGE["model"], "messages": MESSAGE["messages"]}
    answer = ask(key=empty, path="/v1/messages/count_tokens", body=json.dumps(counted).encode())
    assert answer.status == 200 and answer.json()["input_tokens"] > 0
    assert mock.count() == 1
    assert ask("chat", empty, method="GET", path="/v1/models", body=b"").status == 200
    assert ask(key=None, method="GET", path="/api/hello", body=b"").status == 200
    assert send(stack.port, "HEAD", "/api/hello").status == 200
    assert ask(key="made-up", path="/v1/messages/count_tokens").status == 401
    assert ask("chat", "made-up", method="GET", path="/v1/models", body=b"").status == 401
    assert mock.count() == 1


class TestOwnLimits:
    """Limits that are lowered so that tests can reach them, in a whole of their own."""

    @pytest.fixture(scope="class")
    @classmethod
    def small(cls, shared_mock):
        stack = Stack(shared_mock, settings={"body_bytes_max": 20_000, "ledger_timeout_ms": 300, "ledger_wait_ms": 300})
        yield stack
        stack.close()

    def post(self, small, api, key, body, chunked=False, headers=()):
        lines = [("authorization", f"Bearer {key}"), ("content-type", "application/json"), *headers]
        lines += [("transfer-encoding", "chunked")] if chunked else []
        if chunked:
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9000], body[9000:])) + b"0\r\n\r\n"
        connection = Connection(small.port)
        try:
            return connection.send("POST", APIS[api][0], lines, body, length=not chunked)
        finally:
            connection.close()

    @pytest.mark.parametrize("chunked", [False, True])
    @pytest.mark.parametrize(
        "api, kind, code",
        [("messages", "request_too_large", None), ("chat", "invalid_request_error", "request_too_large")],
    )
    def test_a_body_beyond_the_limit_is_413(self, small, mock, denied, api, kind, code, chunked):
        body = json.dumps({**APIS[api][1], "stop": ["x" * 21_000]}).encode()
        answer = self.post(small, api, small.key(), body, chunked)
        denied(answer, 413, "body_too_large", api, kind, code)

    def test_a_body_at_the_limit_passes(self, small, mock):
        body = json.dumps(MESSAGE).encode()
        body = body[:-1] + b" " * (20_000 - len(body)) + b"}"
        answer = self.post(small, "messages", small.key(), body, headers=[("anthropic-version", "2023-06-01")])
        assert answer.status == 200, answer

    @pytest.mark.parametrize(
        "api, kind, code", [("messages", "api_error", None), ("chat", "server_error", "service_unavailable")]
    )
    def test_a_ledger_that_does_not_answer_is_503_and_nothing_is_charged(self, small, mock, denied, api, kind, code):
        key = small.key()
        headers = [("anthropic-version", "2023-06-01")] if api == "messages" else []
        body = json.dumps(APIS[api][1]).encode()
        small.kill("tollgate-ledger", signal.SIGSTOP)
        try:
            started = time.monotonic()
            answer = self.post(small, api, key, body, headers=headers)
            waited = time.monotonic() - started
        finally:
            small.kill("tollgate-ledger", signal.SIGCONT)
        error = denied(answer, 503, "ledger_away", api, kind, code)
        assert "Budgets cannot be checked" in error["message"]
        assert 0.3 <= waited < 5
        # It is asked again for a moment, in case it only restarts; then everything is as before.
        assert self.post(small, api, key, body, headers=headers).status == 200
        assert small.settled(key)["pending"] == 0
