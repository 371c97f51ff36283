"""The settings of a request (limits, sampling, tool choice, output format): read in one API's words, written in another's.

The library isn't asked for these: it drops `stop`, `instructions` and `parallel_tool_calls`, adds a cache and thinking, and gives
Anthropic a service tier and OpenAI a `reasoning` that these APIs refuse.

What the APIs refuse, and how it is avoided
- Anthropic wants an output limit: `DEFAULT_LIMIT` where the client gave none, `REASONING_LIMIT` where it asked for reasoning.
- Anthropic's temperature ends at 1, newer models take no `top_p` beside it, and thinking takes neither; nor a forced tool.
- Responses wants 16 output tokens at least; its `store` is true unless said otherwise, which no other API means.
- OpenAI's `user` has 64 characters at most: a longer one becomes its SHA-256, which is as good a pseudonym.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from policyroute.proxy.convert import loss_table
from policyroute.proxy.convert.loss_table import Lost
from policyroute.proxy.wire.counts import items, mapping, text
from policyroute.signals.request import Api

DEFAULT_LIMIT = 8192
"""`max_tokens` of a Messages request whose client gave no limit: what every current Claude model can write."""

REASONING_LIMIT = 32000
"""The same where reasoning is asked for, which counts as output."""

_SHARED = (
    "metadata",
    "service_tier",
    "store",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
)
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_MODES = {"auto": "auto", "none": "none", "required": "any"}


@dataclass(slots=True)
class Settings:
    """What a request asks for. `choice` is a mode, `{"name"}` of the one tool to call, or `{"mode", "names"}` of those allowed;
    `schema` an output schema with OpenAI's `name`, `strict` and `description`; `shared` what OpenAI's two APIs have in common."""

    stream: bool = False
    limit: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] = field(default_factory=list)
    user: str = ""
    effort: str = ""
    parallel: bool | None = None
    choice: str | dict[str, Any] | None = None
    schema: dict[str, Any] | None = None
    json: bool = False
    verbosity: str = ""
    cache: dict[str, Any] | None = None
    shared: dict[str, Any] = field(default_factory=dict)


def read(client: Api, fields: dict[str, Any], lost: Lost) -> Settings:
    """The settings of a client's request."""
    lost.fields(fields)
    found = {"chat": _of_chat, "messages": _of_messages, "responses": _of_responses}[client](fields, lost)
    found.stream = fields.get("stream") is True
    found.temperature, found.top_p = _number(fields.get("temperature")), _number(fields.get("top_p"))
    if client != "messages":
        found.shared = {name: fields[name] for name in _SHARED if fields.get(name) is not None}
        found.user = text(fields.get("user"))
        found.parallel = fields["parallel_tool_calls"] if isinstance(fields.get("parallel_tool_calls"), bool) else None
    return found


def write(upstream: Api, settings: Settings, tools: list[str], lost: Lost) -> dict[str, Any]:
    """The fields that say them in the upstream's API. `tools` are the names of the tools that were converted."""
    if not tools or (isinstance(settings.choice, dict) and not _names(settings.choice) <= set(tools)):
        settings.choice = None
    if not tools:
        settings.parallel = None
    written = {"chat": _to_chat, "messages": _to_messages, "responses": _to_responses}[upstream](settings, bool(tools), lost)
    return {"stream": True, **written} if settings.stream else written


def allowed(settings: Settings) -> set[str] | None:
    """The names of the tools that may be called, None where all of them may."""
    return _names(settings.choice) if isinstance(settings.choice, dict) and "names" in settings.choice else None


# -- reading


def _of_chat(fields: dict[str, Any], lost: Lost) -> Settings:
    form, stop = mapping(fields.get("response_format")), fields.get("stop")
    return Settings(
        limit=_limit(fields.get("max_completion_tokens")) or _limit(fields.get("max_tokens")),
        top_k=_limit(fields.get("top_k")),
        stop=[stop] if isinstance(stop, str) else [each for each in items(stop) if isinstance(each, str)],
        effort=_effort(fields.get("reasoning_effort")),
        choice=_openai_choice(fields.get("tool_choice")),
        schema=mapping(form.get("json_schema")) if form.get("type") == "json_schema" else None,
        json=form.get("type") == "json_object",
        verbosity=text(fields.get("verbosity")),
        cache=mapping(fields.get("cache_control")) or _marked(fields.get("messages"), lost),
    )


def _of_responses(fields: dict[str, Any], lost: Lost) -> Settings:
    said = mapping(fields.get("text"))
    form = mapping(said.get("format"))
    return Settings(
        limit=_limit(fields.get("max_output_tokens")),
        effort=_effort(mapping(fields.get("reasoning")).get("effort")),
        choice=_openai_choice(fields.get("tool_choice")),
        schema={name: form[name] for name in form if name != "type"} if form.get("type") == "json_schema" else None,
        json=form.get("type") == "json_object",
        verbosity=text(said.get("verbosity")),
    )


def _of_messages(fields: dict[str, Any], lost: Lost) -> Settings:
    choice, output, thinking = (mapping(fields.get(name)) for name in ("tool_choice", "output_config", "thinking"))
    effort, budget = _effort(output.get("effort")), _limit(thinking.get("budget_tokens"))
    if budget and thinking.get("type") == "enabled":
        lost.note(loss_table.BUDGET)
        effort = effort or ("low" if budget <= 4096 else "medium" if budget <= 16384 else "high")
    form = mapping(output.get("format") or fields.get("output_format"))
    kind = text(choice.get("type"))
    modes: dict[str, str | dict[str, Any]] = {
        "auto": "auto",
        "any": "required",
        "none": "none",
        "tool": {"name": choice.get("name")},
    }
    return Settings(
        limit=_limit(fields.get("max_tokens")),
        stop=[each for each in items(fields.get("stop_sequences")) if isinstance(each, str)],
        user=text(mapping(fields.get("metadata")).get("user_id")),
        effort=effort,
        parallel=False if choice.get("disable_parallel_tool_use") is True else None,
        choice=modes.get(kind),
        schema={"name": "answer", "schema": form["schema"]} if isinstance(form.get("schema"), dict) else None,
    )


def _openai_choice(choice: object) -> str | dict[str, Any] | None:
    """Chat nests what Responses says flat: `{"type":"function","function":{"name"}}`, `{"type":"function","name"}`."""
    if isinstance(choice, str):
        return choice if choice in _MODES else None
    found = mapping(choice)
    kind = text(found.get("type"))
    if kind == "allowed_tools":
        inner = mapping(found.get("allowed_tools")) or found
        names = [_named(mapping(tool)) for tool in items(inner.get("tools"))]
        return {"mode": text(inner.get("mode")) or "auto", "names": [name for name in names if name]}
    return {"name": _named(found)} if _named(found) else None


def _named(found: dict[str, Any]) -> str:
    return text((mapping(found.get("function")) or mapping(found.get("custom")) or found).get("name"))


def _marked(messages: object, lost: Lost) -> dict[str, Any] | None:
    """The first `cache_control` of a conversation's parts, which some clients add for Claude."""
    for message in map(mapping, items(messages)):
        for part in map(mapping, items(message.get("content"))):
            if part.get("cache_control"):
                lost.note(loss_table.CACHE)
                lost.note(loss_table.CACHE_PLACES)
                return mapping(part["cache_control"])
    return None


# -- writing


def _to_messages(settings: Settings, tools: bool, lost: Lost) -> dict[str, Any]:
    reasons = settings.effort not in ("", "none")
    found: dict[str, Any] = {"max_tokens": settings.limit or (REASONING_LIMIT if reasons else DEFAULT_LIMIT)}
    sampling = {"temperature": settings.temperature, "top_p": settings.top_p}
    choice = _anthropic_choice(settings, tools)
    if reasons and choice.get("type") in ("any", "tool"):
        lost.note(loss_table.FORCED_REASONING)
    elif reasons:
        found["thinking"] = {"type": "adaptive"}
        if any(value is not None for value in sampling.values()):
            lost.note(loss_table.SAMPLING_OF_REASONING)
            sampling = {}
    output: dict[str, Any] = {"effort": "low" if settings.effort == "minimal" else settings.effort} if reasons else {}
    found |= _sampling(sampling, lost) | _anthropic_names(settings, lost)
    if choice:
        found["tool_choice"] = choice
    if settings.schema is not None:
        if any(settings.schema.get(name) is not None for name in ("name", "strict", "description")):
            lost.note(loss_table.SCHEMA_NAME)
        output["format"] = {"type": "json_schema", "schema": mapping(settings.schema.get("schema"))}
    if settings.json:
        lost.note(loss_table.JSON_OBJECT)
    return {**found, "output_config": output} if output else found


def _anthropic_names(settings: Settings, lost: Lost) -> dict[str, Any]:
    found: dict[str, Any] = {}
    stop = [each for each in settings.stop if each.strip()]
    if len(stop) < len(settings.stop):
        lost.note(loss_table.BLANK_STOPS)
    if stop:
        found["stop_sequences"] = stop
    if settings.top_k:
        found["top_k"] = settings.top_k
    safety = text(settings.shared.get("safety_identifier"))
    if settings.user and safety:
        lost.note(loss_table.SAFETY)
    if settings.user or safety:
        found["metadata"] = {"user_id": settings.user or safety}
    if settings.cache:
        found["cache_control"] = settings.cache
    return found


def _sampling(sampling: dict[str, Any], lost: Lost) -> dict[str, Any]:
    found = {name: value for name, value in sampling.items() if value is not None}
    if len(found) == 2:
        lost.note(loss_table.BOTH_SAMPLINGS)
        del found["top_p"]
    if found.get("temperature", 0) > 1:
        lost.note(loss_table.TOO_HOT)
        found["temperature"] = 1
    return found


def _anthropic_choice(settings: Settings, tools: bool) -> dict[str, Any]:
    choice = settings.choice
    if not tools:
        return {}
    if isinstance(choice, dict) and "name" in choice:
        found: dict[str, Any] = {"type": "tool", "name": choice["name"]}
    elif choice is not None or settings.parallel is False:
        mode = choice["mode"] if isinstance(choice, dict) else choice or "auto"
        found = {"type": _MODES.get(mode, "auto")}
    else:
        return {}
    return {**found, "disable_parallel_tool_use": True} if settings.parallel is False and found["type"] != "none" else found


def _to_chat(settings: Settings, tools: bool, lost: Lost) -> dict[str, Any]:
    if len(settings.stop) > 4:
        lost.note(loss_table.MORE_STOPS)
    choice = settings.choice
    if isinstance(choice, dict) and "name" in choice:
        choice = {"type": "function", "function": {"name": choice["name"]}}
    elif isinstance(choice, dict):
        names = [{"type": "function", "function": {"name": name}} for name in choice["names"]]
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": choice["mode"], "tools": names}}
    form = {"type": "json_schema", "json_schema": settings.schema} if settings.schema is not None else None
    return _said(_openai(settings), {
        "max_completion_tokens": settings.limit,
        "stop": settings.stop[:4] or None,
        "reasoning_effort": _openai_effort(settings.effort),
        "verbosity": settings.verbosity or None,
        "tool_choice": choice,
        "response_format": {"type": "json_object"} if settings.json else form,
    })  # fmt: skip


def _to_responses(settings: Settings, tools: bool, lost: Lost) -> dict[str, Any]:
    if settings.limit is not None and settings.limit < 16:
        lost.note(loss_table.SMALL_LIMIT)
    choice = settings.choice
    if isinstance(choice, dict) and "name" in choice:
        choice = {"type": "function", "name": choice["name"]}
    elif isinstance(choice, dict):
        names = [{"type": "function", "name": name} for name in choice["names"]]
        choice = {"type": "allowed_tools", "mode": choice["mode"], "tools": names}
    form = {"type": "json_schema", "name": "answer", **settings.schema} if settings.schema is not None else None
    said = _said({}, {
        "format": {"type": "json_object"} if settings.json else form,
        "verbosity": settings.verbosity or None,
    })  # fmt: skip
    effort = _openai_effort(settings.effort)
    return _said({"store": False, **_openai(settings)}, {
        "max_output_tokens": max(settings.limit, 16) if settings.limit is not None else None,
        "reasoning": {"effort": effort} if effort else None,
        "tool_choice": choice,
        "text": said or None,
    })  # fmt: skip


def _openai(settings: Settings) -> dict[str, Any]:
    """What both of OpenAI's APIs call the same."""
    user = settings.user
    return _said(settings.shared, {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "parallel_tool_calls": settings.parallel,
        "user": (hashlib.sha256(user.encode("utf-8", "replace")).hexdigest() if len(user) > 64 else user) or None,
    })  # fmt: skip


def _said(found: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {**found, **{name: value for name, value in more.items() if value is not None}}


def _openai_effort(effort: str) -> str | None:
    return "xhigh" if effort == "max" else effort or None


def _effort(value: object) -> str:
    return value if isinstance(value, str) and value in _EFFORTS else ""


def _limit(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _names(choice: dict[str, Any]) -> set[str]:
    return set(choice["names"]) if "names" in choice else {choice["name"]}
