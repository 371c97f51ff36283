"""What a conversion between two APIs loses: one line each, and how a request shows that it has what would be lost.

Every line is verified by a test that sends it through; what no line names survives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from policyroute.proxy.conversion import prompts, requests
from policyroute.signals.request import Api

Present = Callable[[Mapping[str, Any]], bool]


class Loss(NamedTuple):
    """Something that a request loses. `present`: whether a request has it."""

    name: str
    present: Present


def _has(*names: str) -> Present:
    return lambda fields: any(fields.get(name) not in (None, False, [], {}) for name in names)


def _within(holds: Callable[[Mapping[str, Any]], bool]) -> Present:
    return lambda fields: any(holds(each) for each in _objects(fields.get("messages")) or _objects(fields.get("input")))


def _objects(value: object) -> list[Mapping[str, Any]]:
    return list(_walk(value))


def _walk(value: object) -> Iterator[Mapping[str, Any]]:
    """Messages or items, and the parts of their contents."""
    for each in value if isinstance(value, list) else ():
        if isinstance(each, Mapping):
            yield each
            for name in ("content", "output", "image_url"):
                inner = each.get(name)
                yield from _walk([inner] if isinstance(inner, Mapping) else inner)


def _above(name: str, limit: float) -> Present:
    return lambda fields: isinstance(fields.get(name), (int, float)) and fields[name] > limit


def _foreign(api: Api) -> Present:
    return lambda fields: any(not prompts.is_function(api, tool) for tool in fields.get("tools") or ())


def _types(*names: str) -> Present:
    return _within(lambda each: each.get("type") in names)


def _json_mode(fields: Mapping[str, Any]) -> bool:
    text = fields.get("text")
    kind = fields.get("response_format") or (text.get("format") if isinstance(text, Mapping) else None)
    return isinstance(kind, Mapping) and kind.get("type") == "json_object"


def _effort(fields: Mapping[str, Any]) -> bool:
    reasoning = fields.get("reasoning")
    asked = fields.get("reasoning_effort") or (reasoning.get("effort") if isinstance(reasoning, Mapping) else None)
    return bool(asked) and asked != "none"


def _late_system(fields: Mapping[str, Any]) -> bool:
    turns = [each.get("role") for each in fields.get("messages") or fields.get("input") or () if isinstance(each, Mapping)]
    later = turns[next((place for place, role in enumerate(turns) if role not in ("system", "developer")), len(turns)) :]
    return "system" in later or "developer" in later


def _tier(*kept: str) -> Present:
    return lambda fields: fields.get("service_tier") not in (None, *kept)


def _verbosity(fields: Mapping[str, Any]) -> bool:
    return isinstance(fields.get("text"), Mapping) and fields["text"].get("verbosity") is not None


_REASONING = "reasoning of earlier answers, which only the model that wrote it takes back"
_SAMPLING = Loss("`top_p` beside `temperature`", lambda fields: None not in (fields.get("top_p"), fields.get("temperature")))
_WARM = Loss("temperature above 1 (sent as 1)", _above("temperature", 1))
_THOUGHTFUL = Loss(
    "`temperature` and `top_p` beside a reasoning effort",
    lambda fields: _effort(fields) and not requests.forced("chat", fields) and _has("temperature", "top_p")(fields),
)
_FORCED = Loss("reasoning effort beside a forced tool call", lambda fields: _effort(fields) and requests.forced("chat", fields))
_PENALTIES = Loss("`frequency_penalty` and `presence_penalty`", _has("frequency_penalty", "presence_penalty"))
_LATE = Loss("the place of system messages after the first turn", _late_system)
_JSON = Loss("JSON mode without a schema", _json_mode)
_DETAIL = Loss("`detail` of images", _within(lambda each: each.get("detail") is not None))
_KEPT = Loss("`store`", _has("store"))
_CACHE = Loss("`prompt_cache_key`", _has("prompt_cache_key"))
_META = Loss("`metadata`", _has("metadata"))
_PAID = Loss("service tiers other than `auto` and `default`", _tier("auto", "default"))

_FROM_CHAT = (
    Loss("choices beyond the first (`n`)", _above("n", 1)),
    Loss("`seed`", _has("seed")),
    Loss("`logit_bias`", _has("logit_bias")),
    Loss("`prediction`", _has("prediction")),
    Loss("audio (`modalities`, `audio`, `input_audio`)", lambda fields: _has("audio")(fields) or _types("input_audio")(fields)),
    Loss("names of participants", _within(lambda each: "role" in each and each.get("name") is not None)),
    Loss("tools other than functions", lambda fields: _foreign("chat")(fields) or _has("web_search_options")(fields)),
    Loss(_REASONING, _within(lambda each: each.get("reasoning_content") is not None)),
)
_FROM_MESSAGES = (
    Loss("`top_k`", _has("top_k")),
    Loss("prompt cache marks (`cache_control`)", lambda fields: "cache_control" in repr(dict(fields))),
    Loss("`is_error` of tool results", _within(lambda each: each.get("is_error") is True)),
    Loss(
        "server tools (web search, bash, computer use) and MCP servers",
        lambda fields: _foreign("messages")(fields) or _has("mcp_servers")(fields),
    ),
    Loss(_REASONING, _types("thinking", "redacted_thinking")),
    Loss("service tiers other than `auto` and `standard_only`", _tier("auto", "standard_only")),
    Loss("`context_management` and `container`", _has("context_management", "container")),
)
_FROM_RESPONSES = (
    Loss("tools that the provider runs, and custom tools", _foreign("responses")),
    Loss("items of tools that the provider ran", lambda fields: any(
        each.get("type", "message") not in (*prompts.ITEMS, "reasoning") for each in fields.get("input") or () if isinstance(each, Mapping)
    ) if isinstance(fields.get("input"), list) else False),
    Loss("`max_tool_calls`", _has("max_tool_calls")),
    Loss("`truncation`", _has("truncation")),
    Loss(_REASONING, _types("reasoning")),
)  # fmt: skip
_TO_MESSAGES = (_WARM, _SAMPLING, _THOUGHTFUL, _FORCED, _PENALTIES, _LATE, _JSON, _DETAIL, _KEPT, _CACHE, _META, _PAID)

REQUESTS: Mapping[tuple[Api, Api], tuple[Loss, ...]] = MappingProxyType({
    ("chat", "messages"): (
        *_FROM_CHAT, Loss("log probabilities", _has("logprobs", "top_logprobs")), Loss("`verbosity`", _has("verbosity")), *_TO_MESSAGES,
    ),
    ("chat", "responses"): (*_FROM_CHAT, Loss("stop words", _has("stop"))),
    ("responses", "chat"): _FROM_RESPONSES,
    ("responses", "messages"): (
        *_FROM_RESPONSES, Loss("log probabilities", _has("top_logprobs")), Loss("`text.verbosity`", _verbosity), *_TO_MESSAGES,
    ),
    ("messages", "chat"): _FROM_MESSAGES,
    ("messages", "responses"): (*_FROM_MESSAGES, Loss("stop words", _has("stop_sequences"))),
})  # fmt: skip
"""By the client's and the upstream's API."""

_CITED = "citations"
_RAN = "items of tools that the provider ran"
_THOUGHT = "the text of the model's reasoning"
_LOGGED = "log probabilities of the answer"
ANSWERS: Mapping[tuple[Api, Api], tuple[str, ...]] = MappingProxyType({
    ("chat", "messages"): (_CITED, _RAN),
    ("chat", "responses"): (_CITED, _RAN, _LOGGED),
    ("responses", "chat"): (_CITED, _LOGGED, _THOUGHT),
    ("responses", "messages"): (_CITED, _RAN, _THOUGHT),
    ("messages", "chat"): (_CITED, _THOUGHT),
    ("messages", "responses"): (_CITED, _RAN, _THOUGHT),
})  # fmt: skip
"""What answers lose, by the client's and the upstream's API."""


def lost(client: Api, upstream: Api, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """What this request loses."""
    return tuple(loss.name for loss in REQUESTS[client, upstream] if loss.present(fields))


def losses(client: Api, upstream: Api) -> tuple[str, ...]:
    """What requests and answers can lose."""
    return (*(loss.name for loss in REQUESTS.get((client, upstream), ())), *ANSWERS.get((client, upstream), ()))
