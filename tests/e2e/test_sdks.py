"""The official SDKs, with nothing changed but base URL and key: every call that they have for what Tollgate serves."""

import anthropic
import openai
import pytest

SONNET = "claude-sonnet-4-20250514"
HELLO = [{"role": "user", "content": "Hello"}]
# Far longer than a test looks: what has arrived by then was not held back.
SLOWLY = {"x-mock-event-delay-ms": "100", "x-mock-events": "10"}


@pytest.fixture(scope="module")
def key(shared_stack):
    return shared_stack.key(key_alias="sdk")


@pytest.fixture
def claude(stack, key):
    with anthropic.Anthropic(base_url=stack.url, api_key=key) as client:
        yield client


@pytest.fixture
def gpt(stack, key):
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key) as client:
        yield client


@pytest.fixture
def spent(stack):
    """A key whose budget is used up."""
    return stack.key(max_budget=0)


def request_id(response) -> str:
    answer = getattr(response, "http_response", None) or response.response
    return answer.headers["x-tollgate-request-id"]


def the_request(mock) -> dict:
    """What the provider got; exactly one."""
    requests = mock.requests()
    assert len(requests) == 1, [request["path"] for request in requests]
    return requests[0]


def arrives_as_it_is_sent(mock, stream) -> list:
    """All events; the first has come while the provider still writes, and so has every other."""
    events = []
    for event in stream:
        if not events:
            assert the_request(mock)["answer"]["state"] == "answering"
        events.append((event, the_request(mock)["answer"]["chunks"]))
    # Each event is there before the provider is two pauses further: nothing waits for the next.
    seen = [chunks for _, chunks in events]
    assert seen == sorted(seen)
    assert len(set(seen)) >= len(seen) * 2 // 3, f"events came in bursts: {seen}"
    return [event for event, _ in events]


class TestAnthropic:
    def test_a_message(self, stack, mock, claude, key):
        raw = claude.messages.with_raw_response.create(model=SONNET, max_tokens=50, messages=HELLO)
        message = raw.parse()
        assert message.model == SONNET
        assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 20)
        assert message.content[0].text
        assert the_request(mock)["path"] == "/v1/messages"
        stack.settled(key)
        row = stack.spend_logs(request_id=request_id(raw))[0]
        assert (row["model"], row["status"], row["metadata"]["usage"]["output"]) == (SONNET, "success", 20)

    def test_an_alias_becomes_the_model(self, mock, claude):
        message = claude.messages.create(model="claude-sonnet-4", max_tokens=50, messages=HELLO)
        assert message.model == SONNET
        assert the_request(mock)["body"]["model"] == SONNET

    def test_a_stream_arrives_event_by_event(self, mock, claude):
        stream = claude.messages.create(model=SONNET, max_tokens=50, messages=HELLO, stream=True, extra_headers=SLOWLY)
        events = arrives_as_it_is_sent(mock, stream)
        assert [event.type for event in events][:2] == ["message_start", "content_block_start"]
        assert events[-1].type == "message_stop"
        assert events[-2].usage.output_tokens == 20

    def test_the_stream_helper(self, claude):
        headers = {"x-mock-scenario": "tool_use", "x-mock-reasoning": "5"}
        with claude.messages.stream(model=SONNET, max_tokens=50, messages=HELLO, extra_headers=headers) as stream:
            message = stream.get_final_message()
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
        assert message.usage.output_tokens == 20

    def test_betas_are_passed_on(self, mock, claude):
        claude.beta.messages.create(model=SONNET, max_tokens=50, messages=HELLO, betas=["context-1m-2025-08-07"])
        assert ["anthropic-beta", "context-1m-2025-08-07"] in the_request(mock)["headers"]

    def test_the_query_of_claude_code_is_passed_on(self, mock, claude):
        claude.messages.create(model=SONNET, max_tokens=50, messages=HELLO, extra_query={"beta": "true"})
        assert the_request(mock)["query"] == "beta=true"

    def test_tokens_are_counted_for_nothing(self, stack, mock, claude, key):
        before = stack.settled(key)["spend"]
        assert claude.messages.count_tokens(model="claude-sonnet-4", messages=HELLO).input_tokens == 3
        request = the_request(mock)
        assert (request["path"], request["body"]["model"]) == ("/v1/messages/count_tokens", SONNET)
        assert stack.settled(key)["spend"] == before

    def test_the_key_as_a_bearer_token(self, stack, key):
        with anthropic.Anthropic(base_url=stack.url, auth_token=key) as client:
            assert client.messages.create(model=SONNET, max_tokens=50, messages=HELLO).model == SONNET

    def test_models_are_those_of_the_key(self, stack, mock):
        limited = stack.key(models=["claude-sonnet-4", "gpt-4.1-mini"])
        with anthropic.Anthropic(base_url=stack.url, api_key=limited) as client:
            assert [model.id for model in client.models.list(limit=1000)] == [SONNET, "gpt-4.1-mini"]
            assert client.models.retrieve("claude-sonnet-4").id == SONNET
            with pytest.raises(anthropic.PermissionDeniedError):
                client.models.retrieve("claude-opus-4")
        assert mock.count() == 0

    def test_errors_of_the_provider_are_the_sdks_own(self, mock, claude):
        client = claude.with_options(max_retries=0)
        for status, kind in [
            (400, anthropic.BadRequestError),
            (429, anthropic.RateLimitError),
            (529, anthropic.InternalServerError),
        ]:
            with pytest.raises(kind):
                client.messages.create(
                    model=SONNET, max_tokens=5, messages=HELLO, extra_headers={"x-mock-status": str(status)}
                )

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_spent_budget_ends_it_at_the_first_try(self, stack, mock, spent, stream):
        before = stack.requests_taken()
        with anthropic.Anthropic(base_url=stack.url, api_key=spent) as client:
            with pytest.raises(anthropic.PaymentRequiredError) as caught:
                client.messages.create(model=SONNET, max_tokens=5, messages=HELLO, stream=stream)
        assert caught.value.body["error"]["type"] == "billing_error"
        assert "is spent" in str(caught.value)
        assert stack.requests_taken() - before == 1
        assert mock.count() == 0

    def test_other_denials_are_not_tried_again_either(self, stack, mock):
        table = [
            (stack.key(models=["claude-opus-4"]), anthropic.PermissionDeniedError),
            ("sk-tg-made-up", anthropic.AuthenticationError),
        ]
        for key, kind in table:
            before = stack.requests_taken()
            with anthropic.Anthropic(base_url=stack.url, api_key=key) as client, pytest.raises(kind):
                client.messages.create(model=SONNET, max_tokens=5, messages=HELLO)
            assert stack.requests_taken() - before == 1
        assert mock.count() == 0


CHAT_MODELS = [
    # model as asked, as the provider gets it, provider, path there
    ("gpt-4.1-mini", "gpt-4.1-mini", "openai", "/v1/chat/completions"),
    ("claude-sonnet-4", SONNET, "anthropic", "/v1/chat/completions"),
    (SONNET, SONNET, "anthropic", "/v1/chat/completions"),
    ("gemini-2.5-pro", "gemini-2.5-pro", "gemini", "/v1beta/openai/chat/completions"),
]


class TestOpenAi:
    @pytest.mark.parametrize("model, real, provider, path", CHAT_MODELS)
    def test_a_chat_with_each_provider(self, stack, mock, gpt, key, model, real, provider, path):
        raw = gpt.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=50)
        completion = raw.parse()
        assert completion.choices[0].message.content
        assert (completion.model, completion.usage.completion_tokens) == (real, 20)
        request = the_request(mock)
        assert (request["path"], request["body"]["model"]) == (path, real)
        stack.settled(key)
        row = stack.spend_logs(request_id=request_id(raw))[0]
        assert (row["model"], row["custom_llm_provider"], row["status"]) == (real, provider, "success")
        assert row["spend"] > 0

    @pytest.mark.parametrize("model, real, provider, path", CHAT_MODELS)
    def test_a_chat_streams_without_a_usage_chunk_that_nobody_asked_for(
        self, stack, mock, gpt, key, model, real, provider, path
    ):
        raw = gpt.chat.completions.with_raw_response.create(
            model=model, messages=HELLO, stream=True, extra_headers=SLOWLY
        )
        chunks = arrives_as_it_is_sent(mock, raw.parse())
        assert all(len(chunk.choices) == 1 for chunk in chunks)
        assert all(chunk.usage is None for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "stop"
        # It was asked for all the same, and read.
        assert the_request(mock)["body"]["stream_options"] == {"include_usage": True}
        stack.settled(key)
        row = stack.spend_logs(request_id=request_id(raw))[0]
        assert (row["status"], row["metadata"]["estimated"], row["completion_tokens"]) == ("success", False, 20)

    @pytest.mark.parametrize("model, real, provider, path", CHAT_MODELS)
    def test_a_chat_stream_shows_the_usage_that_was_asked_for(self, gpt, model, real, provider, path):
        chunks = list(
            gpt.chat.completions.create(
                model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        )
        assert chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens == 20

    def test_options_of_a_stream_without_usage_are_kept(self, mock, gpt):
        options = {"include_usage": False, "include_obfuscation": False}
        chunks = list(
            gpt.chat.completions.create(model="gpt-4.1-mini", messages=HELLO, stream=True, stream_options=options)
        )
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
        assert the_request(mock)["body"]["stream_options"] == {**options, "include_usage": True}

    def test_a_response(self, mock, gpt):
        response = gpt.responses.create(model="gpt-5.1-codex", input="Hello", extra_headers={"x-mock-reasoning": "5"})
        assert response.output_text and response.usage.output_tokens == 20
        assert the_request(mock)["path"] == "/v1/responses"

    def test_a_response_streams_event_by_event(self, mock, gpt):
        stream = gpt.responses.create(model="gpt-5.1-codex", input="Hello", stream=True, extra_headers=SLOWLY)
        events = arrives_as_it_is_sent(mock, stream)
        assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
        assert events[-1].response.usage.output_tokens == 20

    @pytest.mark.parametrize(
        "model, path",
        [("text-embedding-3-small", "/v1/embeddings"), ("gemini-embedding-001", "/v1beta/openai/embeddings")],
    )
    def test_embeddings(self, mock, gpt, model, path):
        answer = gpt.embeddings.create(model=model, input=["one", "two"], encoding_format="float")
        assert len(answer.data) == 2 and answer.usage.prompt_tokens == 2
        assert the_request(mock)["path"] == path

    def test_completions(self, mock, gpt):
        answer = gpt.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once upon a time", max_tokens=10)
        assert answer.choices[0].text and answer.usage.completion_tokens == 10
        mock.reset()
        stream = gpt.completions.create(
            model="gpt-3.5-turbo-instruct", prompt="Once", max_tokens=10, stream=True, extra_headers=SLOWLY
        )
        chunks = arrives_as_it_is_sent(mock, stream)
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)

    def test_models_are_those_of_the_key(self, stack, mock):
        limited = stack.key(models=["claude-sonnet-4", "gpt-4.1-mini"])
        with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=limited) as client:
            models = list(client.models.list())
            assert [(model.id, model.owned_by) for model in models] == [
                (SONNET, "anthropic"),
                ("gpt-4.1-mini", "openai"),
            ]
            assert client.models.retrieve("gpt-4.1-mini").id == "gpt-4.1-mini"
        assert mock.count() == 0

    @pytest.mark.parametrize("stream", [False, True])
    def test_denials_are_the_sdks_own_and_not_tried_again(self, stack, mock, spent, stream):
        table = [
            (spent, openai.APIStatusError, 402, "budget_exceeded"),
            (stack.key(models=["gpt-4.1"]), openai.PermissionDeniedError, 403, "model_not_allowed"),
            ("sk-tg-made-up", openai.AuthenticationError, 401, "invalid_api_key"),
        ]
        for key, kind, status, code in table:
            before = stack.requests_taken()
            with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key) as client:
                with pytest.raises(kind) as caught:
                    client.chat.completions.create(model="gpt-4.1-mini", messages=HELLO, stream=stream)
                with pytest.raises(kind):
                    client.responses.create(model="gpt-4.1-mini", input="Hello", stream=stream)
            assert (caught.value.status_code, caught.value.code) == (status, code)
            assert stack.requests_taken() - before == 2
        assert mock.count() == 0
