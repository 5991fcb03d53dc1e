"""What reaches the provider and what does not: headers, paths, bodies, and the credential that Envoy injects."""

import contextlib
import json
import subprocess

import httpx
import pytest
from lines import Connection, send, status_of
from stack import CHAT, MESSAGE, PROVIDER_KEYS, free_port, wait_until

SONNET = "claude-sonnet-4-20250514"
JSON = ("content-type", "application/json")
VERSION = ("anthropic-version", "2023-06-01")
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def key(shared_stack):
    return shared_stack.key()


@pytest.fixture
def arrived(mock):
    """The one request that the provider got, its headers in lists by name."""

    def arrived():
        requests = mock.requests()
        assert len(requests) == 1
        request = requests[0]
        by_name = {}
        for name, value in request["headers"]:
            by_name.setdefault(name, []).append(value)
        return {**request, "headers": by_name}

    return arrived


def bearer(provider: str) -> dict:
    return {"authorization": [f"Bearer {PROVIDER_KEYS[provider]}"]}


OPERATIONS = {
    # path here, body, path there, the credential there
    "messages": ("/v1/messages", MESSAGE, "/v1/messages", {"x-api-key": [PROVIDER_KEYS["anthropic"]]}),
    "count_tokens": (
        "/v1/messages/count_tokens",
        {"model": SONNET, "messages": HELLO},
        "/v1/messages/count_tokens",
        {"x-api-key": [PROVIDER_KEYS["anthropic"]]},
    ),
    "chat": ("/v1/chat/completions", CHAT, "/v1/chat/completions", bearer("openai")),
    "chat without v1": ("/chat/completions", CHAT, "/v1/chat/completions", bearer("openai")),
    "chat with claude": (
        "/v1/chat/completions",
        {**CHAT, "model": SONNET},
        "/v1/chat/completions",
        bearer("anthropic"),
    ),
    "chat with gemini": (
        "/v1/chat/completions",
        {**CHAT, "model": "gemini-2.5-pro"},
        "/v1beta/openai/chat/completions",
        bearer("gemini"),
    ),
    "responses": ("/v1/responses", {"model": "gpt-5.1-codex", "input": "Hello"}, "/v1/responses", bearer("openai")),
    "embeddings": (
        "/v1/embeddings",
        {"model": "text-embedding-3-small", "input": "Hello"},
        "/v1/embeddings",
        bearer("openai"),
    ),
    "embeddings with gemini": (
        "/v1/embeddings",
        {"model": "gemini-embedding-001", "input": "Hello"},
        "/v1beta/openai/embeddings",
        bearer("gemini"),
    ),
    "completions": (
        "/v1/completions",
        {"model": "gpt-3.5-turbo-instruct", "prompt": "Hello", "max_tokens": 5},
        "/v1/completions",
        bearer("openai"),
    ),
}
CREDENTIALS = ("x-api-key", "authorization", "api-key", "x-goog-api-key")


@pytest.mark.parametrize("path, body, path_there, credential", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("given", [*CREDENTIALS, "all"])
def test_the_virtual_key_stays_and_the_providers_goes(stack, arrived, key, given, path, body, path_there, credential):
    names = CREDENTIALS if given == "all" else [given]
    lines = [(name, f"Bearer {key}" if name == "authorization" else key) for name in names]
    answer = send(stack.port, "POST", path, [*lines, JSON, VERSION], body)
    assert answer.status == 200, answer
    request = arrived()
    assert request["path"] == path_there
    assert {name: request["headers"].get(name) for name in CREDENTIALS if name in request["headers"]} == credential
    assert key not in json.dumps(request)
    assert request["headers"]["host"] == [f"127.0.0.1:{stack.mock.port}"]


STRIPPED = {
    "x-envoy-retry-on": "5xx",
    "x-envoy-max-retries": "9",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-original-path": "/v1/files",
    "x-envoy-decorator-operation": "x",
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "https",
    "x-forwarded-client-cert": "x",
    "forwarded": "for=10.0.0.1",
    "x-real-ip": "10.0.0.1",
    "openai-organization": "org-other",
    "openai-project": "proj_other",
    "idempotency-key": "seen-before",
    "cookie": "session=1",
    "x-http-method-override": "GET",
    "x-http-method": "GET",
    "x-method-override": "DELETE",
    "proxy-authorization": "Basic eA==",
    "x-tollgate-tags": "project:x",
    "x-tollgate-route": "openai",
    "x-tollgate-request-id": "0" * 32,
    "x-litellm-tags": "project:y",
    "x-litellm-anything": "1",
    "accept-encoding": "gzip, deflate, br, zstd",
}
KEPT = {
    "anthropic-beta": "context-1m-2025-08-07",
    "user-agent": "claude-cli/2.0",
    "x-stainless-lang": "python",
    "x-app": "cli",
}


@pytest.mark.parametrize("case", ["messages", "count_tokens", "chat with gemini", "responses"])
def test_headers_that_name_another_account_or_steer_envoy_stay(stack, arrived, key, case):
    path, body, *_ = OPERATIONS[case]
    lines = [("authorization", f"Bearer {key}"), JSON, VERSION, *STRIPPED.items(), *KEPT.items()]
    answer = send(stack.port, "POST", path, lines, body)
    assert answer.status == 200, answer
    headers = arrived()["headers"]
    assert not set(headers) & set(STRIPPED)
    assert not [name for name in headers if name.startswith(("x-envoy-", "x-forwarded-", "x-tollgate-", "x-litellm-"))]
    assert "via" not in headers
    for name, value in KEPT.items():
        assert headers[name] == [value]
    # The request id is ours, whatever the client would like it to be.
    assert answer.header("x-tollgate-request-id") != "0" * 32


def test_underscores_do_not_pass_for_dashes(stack, mock, key):
    answer = send(stack.port, "POST", "/v1/messages", [("x_api_key", key), JSON, VERSION], MESSAGE)
    assert answer.status == 401
    answer = send(
        stack.port, "POST", "/v1/messages", [("x-api-key", key), ("openai_project", "p"), JSON, VERSION], MESSAGE
    )
    assert answer.status == 200
    assert "openai_project" not in dict(mock.requests()[0]["headers"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [None, 429])
@pytest.mark.parametrize("case", ["messages", "chat", "chat with claude", "responses", "count_tokens"])
def test_headers_of_an_answer_tell_nothing_of_the_account(stack, key, case, status, stream):
    path, body, *_ = OPERATIONS[case]
    if case != "count_tokens":
        body = {**body, "stream": stream}
    script = [("x-mock-status", str(status))] if status else []
    answer = send(stack.port, "POST", path, [("authorization", f"Bearer {key}"), JSON, VERSION, *script], body)
    assert answer.status == (status or 200)
    names = [name for name, _ in answer.headers]
    assert "x-tollgate-request-id" in names
    assert "request-id" in names or "x-request-id" in names, "the provider's own id helps its support"
    hidden = [
        n for n in names if n in ("set-cookie", "openai-project") or "organization" in n or n.startswith("x-envoy-")
    ]
    assert not hidden


TAGS = ["project:payments", "team:backend"]
TAGGED = {
    # what the client sends beside its request, and what goes on
    "metadata.tags": ({"metadata": {"tags": TAGS}}, {}),
    "metadata.tags first": ({"metadata": {"tags": TAGS, "user_id": "u"}}, {"metadata": {"user_id": "u"}}),
    "metadata.tags last": ({"metadata": {"user_id": "u", "tags": TAGS}}, {"metadata": {"user_id": "u"}}),
    "litellm_metadata": ({"litellm_metadata": {"tags": TAGS, "trace": "x"}}, {}),
    "tags": ({"tags": TAGS}, {}),
    "tags and metadata": ({"tags": TAGS[:1], "metadata": {"tags": TAGS[1:]}}, {}),
    "all of them": ({"tags": TAGS, "metadata": {"tags": TAGS}, "litellm_metadata": {"tags": TAGS}}, {}),
}


@pytest.mark.parametrize("sent, goes_on", TAGGED.values(), ids=TAGGED)
@pytest.mark.parametrize("case", ["messages", "chat", "chat with claude", "chat with gemini", "responses"])
@pytest.mark.parametrize("first", [False, True])
def test_our_tags_leave_the_body_and_land_in_the_journal(stack, arrived, key, case, sent, goes_on, first):
    path, body, *_ = OPERATIONS[case]
    whole = {**sent, **body} if first else {**body, **sent}
    answer = send(stack.port, "POST", path, [("authorization", f"Bearer {key}"), JSON, VERSION], whole)
    assert answer.status == 200, answer
    assert arrived()["body"] == {**body, **goes_on}
    stack.settled(key)
    row = stack.spend_logs(request_id=answer.header("x-tollgate-request-id"))[0]
    assert sorted(row["request_tags"]) == sorted(TAGS)


def test_tags_of_headers_body_and_key_come_together_and_the_session_too(stack, mock):
    key = stack.key(tags=["key:own"])
    lines = [
        ("x-api-key", key),
        JSON,
        VERSION,
        ("x-tollgate-tags", "a:1, b:2"),
        ("x-litellm-tags", "c:3"),
        ("x-claude-code-session-id", "0b5c4d3e"),
        ("user-agent", "claude-cli/2.1.0 (external, cli)"),
    ]
    answer = send(
        stack.port, "POST", "/v1/messages", lines, {**MESSAGE, "metadata": {"tags": ["d:4", "a:1"], "user_id": "me"}}
    )
    assert answer.status == 200
    stack.settled(key)
    row = stack.spend_logs(request_id=answer.header("x-tollgate-request-id"))[0]
    assert sorted(row["request_tags"]) == ["a:1", "b:2", "c:3", "d:4", "key:own"]
    assert (row["session_id"], row["end_user"], row["metadata"]["client"]) == ("0b5c4d3e", "me", "claude-cli")


NO_PATHS = [
    "/v1/messages/",
    "//v1/messages",
    "/v1//messages",
    "/v1/./messages",
    "/v1/x/../messages",
    "/v1/messages/..",
    "/key/../v1/messages",
    "/health/../v1/messages",
    "/key/%2e%2e/v1/messages",
    "/v1%2fmessages",
    "/v1%2Fmessages",
    "/v1%5Cmessages",
    "/v1\\messages",
    "/v1/%6dessages",
    "/v1/messages%00",
    "/v1/messages%20",
    "/v1/messages;x=1",
    "/v1/messages#x",
    "/V1/messages",
    "/v1/Messages",
    "/v1/messages?x=1",
    "/v1/messages?beta=true&x=1",
    "/v1/messages?beta=false",
    "/v1/messages?beta=true%26x",
    "/v1/messages??beta=true",
    "/v1/messages/batches",
    "/v1/messages/count_tokens/x",
    "/v1/chat/completions/chatcmpl-1",
    "/v1/responses/resp_1",
    "/v1/files",
    "/v1/models/claude-sonnet-4/../../messages",
    "/v1beta/openai/chat/completions",
    "/v1beta/models/gemini-2.5-pro:generateContent",
    "/mock/requests",
    "*",
    "/",
    "",
]


@pytest.mark.parametrize("path", NO_PATHS)
def test_a_path_that_is_not_known_byte_for_byte_never_reaches_a_provider(stack, mock, key, path):
    body = json.dumps(MESSAGE).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
    head += f"anthropic-version: 2023-06-01\r\ncontent-length: {len(body)}\r\n\r\n"
    status = status_of(stack.port, head.encode() + body)
    assert status is None or 400 <= status < 500, status
    assert mock.count() == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "POSTS"])
def test_a_method_that_is_not_known_never_reaches_a_provider(stack, mock, key, method):
    answer = send(stack.port, method, "/v1/messages", [("x-api-key", key), JSON, VERSION], MESSAGE)
    assert 400 <= answer.status < 500
    assert mock.count() == 0


def framed(
    key: str, lines: str, body: bytes = b"", version: str = "1.1", request_line: str = "POST /v1/messages"
) -> bytes:
    head = f"{request_line} HTTP/{version}\r\nhost: x\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
    return f"{head}anthropic-version: 2023-06-01\r\n{lines}\r\n".encode() + body


BODY = json.dumps(MESSAGE).encode()
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = f"content-length: {len(BODY)}\r\n"
FRAMES = {
    "length and chunked": lambda key: framed(key, LENGTH + "transfer-encoding: chunked\r\n", CHUNKED),
    "two lengths": lambda key: framed(key, LENGTH + "content-length: 5\r\n", BODY),
    "a length that is none": lambda key: framed(key, "content-length: +5\r\n", BODY),
    "chunked twice": lambda key: framed(key, "transfer-encoding: chunked, chunked\r\n", CHUNKED),
    "another coding": lambda key: framed(key, "transfer-encoding: gzip, chunked\r\n", CHUNKED),
    "HTTP/1.0": lambda key: framed(key, LENGTH, BODY, version="1.0"),
    "CONNECT": lambda key: framed(key, LENGTH, BODY, request_line="CONNECT api.anthropic.com:443"),
    "a header with a bare newline": lambda key: framed(key, LENGTH + "x: a\nx-api-key: other\r\n", BODY),
    "a name with a space": lambda key: framed(key, LENGTH + "x-api-key : other\r\n", BODY),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_request_that_two_servers_could_read_in_two_ways_is_refused(stack, mock, key, frame):
    status = status_of(stack.port, frame(key))
    assert status is None or status in (400, 401, 404, 426, 501), status
    assert mock.count() == 0


def test_the_frame_itself_is_not_what_is_refused(stack, mock, key):
    assert status_of(stack.port, framed(key, LENGTH, BODY)) == 200
    assert status_of(stack.port, framed(key, "transfer-encoding: chunked\r\n", CHUNKED)) == 200
    assert mock.count() == 2


@pytest.mark.parametrize(
    "lines, status",
    [
        ([JSON, ("content-type", "text/plain")], 415),
        ([("content-type", "text/plain"), JSON], 415),
        ([JSON, ("content-encoding", "identity"), ("content-encoding", "gzip")], 415),
        ([JSON, ("x-tollgate-tags", "fine"), ("x-tollgate-tags", "not fine")], 400),
        ([JSON, ("x-api-key", "other")], 401),
    ],
)
def test_every_line_of_a_header_is_read(stack, mock, key, lines, status):
    answer = send(stack.port, "POST", "/v1/messages", [("x-api-key", key), VERSION, *lines], MESSAGE)
    assert answer.status == status
    assert mock.count() == 0


DECOY = '"model":"gpt-4.1-mini","max_tokens":1'
REST = '"max_tokens":9,"messages":[{"role":"user","content":"x"}]'
SAME = {
    "fields last": f'{{"messages":[{{"role":"user","content":"x"}}],"max_tokens":9,"model":"{SONNET}"}}',
    "a model in content": json.dumps(
        {"messages": [{"role": "user", "content": DECOY}], "max_tokens": 9, "model": SONNET}
    ),
    "a model in a tool": json.dumps(
        {
            "tools": [
                {"name": "t", "input_schema": {"type": "object", "model": "gpt-4.1", "properties": {"model": {}}}}
            ],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
            "max_tokens": 9,
            "model": SONNET,
        }
    ),
    "a name with an escape": f'{{"mod\\u0065l":"{SONNET}",{REST}}}',
    "a value with an escape": f'{{"model":"claude-sonnet-4-2025051\\u0034",{REST}}}',
    "an alias": f'{{"model":"claude-sonnet-4",{REST}}}',
    "spaces": f'\n\t {{ "model" :\r\n "{SONNET}" , {REST} }} \n',
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_the_model_that_is_priced_is_the_model_that_is_asked(stack, arrived, body):
    key = stack.key(models=[SONNET])
    answer = send(stack.port, "POST", "/v1/messages", [("x-api-key", key), JSON, VERSION], body.encode())
    assert answer.status == 200, answer
    request = arrived()
    assert request["body"]["model"] == SONNET
    assert request["body"] == {**json.loads(body), "model": SONNET}
    stack.settled(key)
    assert stack.spend_logs(request_id=answer.header("x-tollgate-request-id"))[0]["model"] == SONNET


OTHERS = {
    "by an escape in the value": ('{"model":"claude\\u002dopus-4-20250514",%s}', 403),
    "by an escape in the name": ('{"mod\\u0065l":"claude-opus-4-20250514",%s}', 403),
    "twice": (f'{{"model":"{SONNET}","model":"claude-opus-4-20250514",%s}}', 400),
    "twice, once with an escape": (f'{{"model":"{SONNET}","\\u006dodel":"claude-opus-4-20250514",%s}}', 400),
    "another case": (f'{{"model":"{SONNET.upper()}",%s}}', 403),
    "a space": (f'{{"model":"{SONNET} ",%s}}', 403),
    "another provider's": (f'{{"model":"openai/{SONNET}",%s}}', 403),
    "a list": (f'{{"model":["{SONNET}"],%s}}', 400),
    "as a fallback": (f'{{"model":"{SONNET}","fallbacks":[{{"model":"claude-opus-4-20250514"}}],%s}}', 403),
    "behind the end": (f'{{"model":"{SONNET}",%s}} {{"model":"claude-opus-4-20250514"}}', 400),
}


@pytest.mark.parametrize("body, status", OTHERS.values(), ids=OTHERS)
def test_no_writing_of_a_model_gets_around_the_list(stack, mock, body, status):
    key = stack.key(models=[SONNET])
    answer = send(stack.port, "POST", "/v1/messages", [("x-api-key", key), JSON, VERSION], (body % REST).encode())
    assert answer.status == status, answer
    assert mock.count() == 0


@pytest.mark.parametrize(
    "name", ["x-tollgate-route", "wasm.tollgate.route", "x-envoy-original-dst-host", "x-forwarded-host", "host"]
)
@pytest.mark.parametrize("value", ["openai", "gemini", "admin", "api.openai.com"])
def test_a_client_chooses_no_route(stack, arrived, mock, key, name, value):
    lines = [("x-api-key", key), JSON, VERSION]
    connection = Connection(stack.port)
    connection.http.putrequest("POST", "/v1/messages", skip_host=name == "host", skip_accept_encoding=True)
    for line in [*lines, (name, value), ("content-length", str(len(BODY)))]:
        connection.http.putheader(*line)
    connection.http.endheaders(BODY)
    response = connection.http.getresponse()
    assert response.status == 200, response.read()
    connection.close()
    request = arrived()
    assert request["path"] == "/v1/messages"
    assert request["headers"]["x-api-key"] == [PROVIDER_KEYS["anthropic"]], "it is where its model is"
    mock.reset()
    for path in ("/v1/files", "/v1/models/x/y", "/spend"):
        assert send(stack.port, "POST", path, [*lines, (name, value)], MESSAGE).status == 404
    assert mock.count() == 0


@contextlib.contextmanager
def another_envoy(stack, tmp_path, change):
    """A second Envoy beside the stack's own: the same rendered configuration, with one change."""
    config = json.loads((stack.data / "run" / "envoy.json").read_text())
    port = free_port()
    config["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port
    config["admin"]["address"]["pipe"]["path"] = str(tmp_path / "admin.sock")
    listener = config["static_resources"]["listeners"][0]
    change(listener["filter_chains"][0]["filters"][0]["typed_config"])
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(config))
    log = tmp_path / "envoy.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [stack.env["TOLLGATE_ENVOY"], "-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "warning"],
            stdout=out,
            stderr=out,
        )
    try:

        def answers():
            assert process.poll() is None, log.read_text()
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health/liveliness", trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, "the second Envoy serves")
        yield port
    finally:
        process.kill()
        process.wait(30)


def test_without_the_filter_nothing_reaches_a_provider(stack, mock, key, tmp_path):
    def without_filter(manager):
        manager["http_filters"] = [f for f in manager["http_filters"] if f["name"] != "tollgate"]
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            route.pop("typed_per_filter_config", None)

    headers = [("x-api-key", key), JSON, VERSION]
    steered = [(name, value) for name in STRIPPED for value in ("anthropic", "openai", "gemini")][:60]
    with another_envoy(stack, tmp_path, without_filter) as port:
        for path, body, *_ in OPERATIONS.values():
            answer = send(port, "POST", path, headers, body)
            assert answer.status >= 400, (path, answer)
        for name, value in [*steered, ("x-tollgate-route", "anthropic"), ("wasm.tollgate.route", "anthropic")]:
            assert send(port, "POST", "/v1/messages", [*headers, (name, value)], MESSAGE).status >= 400
        for path in NO_PATHS:
            status_of(port, framed(key, LENGTH, BODY, request_line=f"POST {path}"))
        assert mock.count() == 0


STEERING = [
    ("x-envoy-retry-on", "5xx,gateway-error,reset,connect-failure,retriable-4xx,envoy-ratelimited"),
    ("x-envoy-retry-grpc-on", "unavailable"),
    ("x-envoy-max-retries", "3"),
    ("x-envoy-hedge-on-per-try-timeout", "true"),
    ("x-envoy-upstream-rq-per-try-timeout-ms", "100"),
]


def internal(manager):
    """Envoy takes `x-envoy-*` from internal addresses; here every client's is one."""
    manager["internal_address_config"] = {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}


def test_without_filter_and_conditions_it_would_all_happen(stack, mock, key, tmp_path):
    """What the next tests rule out can be seen at all: an open proxy, steered by its clients."""

    def open_proxy(manager):
        internal(manager)
        manager["http_filters"] = [f for f in manager["http_filters"] if f["name"] != "tollgate"]
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            route.pop("typed_per_filter_config", None)
            route["match"].pop("filter_state", None)

    headers = [("x-api-key", key), JSON, VERSION, ("x-mock-status", "503")]
    with another_envoy(stack, tmp_path, open_proxy) as port:
        assert send(port, "POST", "/v1/messages", headers, MESSAGE).status > 0
        assert mock.count() == 1
        send(port, "POST", "/v1/messages", [*headers, *STEERING], MESSAGE)
        assert mock.count() == 1 + 4, "three retries"


def test_no_client_makes_envoy_repeat_a_request(stack, mock, key, tmp_path):
    with another_envoy(stack, tmp_path, internal) as port:
        for script in [("x-mock-status", "503"), ("x-mock-status", "429"), ("x-mock-delay-ms", "400")]:
            mock.reset()
            headers = [("x-api-key", key), JSON, VERSION, script, *STEERING, ("x-envoy-upstream-rq-timeout-ms", "50")]
            answer = send(port, "POST", "/v1/messages", headers, MESSAGE)
            assert answer.status == (int(script[1]) if script[0] == "x-mock-status" else 200)
            assert mock.count() == 1
