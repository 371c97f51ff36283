"""LLM calls in spans by OpenInference, as Phoenix and its instrumentations write them.

Messages are numbered attributes (`llm.input_messages.0.message.content`), or lists of such objects in Phoenix's tables. Only spans
of the kind `LLM` are calls: chains and agents repeat what the calls beneath them used.
"""

from __future__ import annotations

from typing import Any

from policyroute.replay.traces import bodies, chat
from policyroute.replay.traces.aider import money
from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.fields import dumps
from policyroute.replay.traces.spans import Span
from policyroute.replay.traces.times import milliseconds
from policyroute.replay.traces.values import Taken, flattened, listed, mapping, metadata, nested, text, unpacked, whole

KIND = "openinference.span.kind"
INPUT = ("llm.token_count.prompt",)
OUTPUT = ("llm.token_count.completion",)


def is_span(span: Span) -> bool:
    """Whether its attributes are OpenInference's."""
    return KIND in span.attributes or INPUT[0] in span.attributes or "span_kind" in span.other


def is_call(span: Span) -> bool:
    """Whether the span is a call of a model."""
    kind = span.attributes.get(KIND) or span.other.get("span_kind")
    return str(kind).upper() == "LLM" if kind is not None else span.attributes.get(INPUT[0]) is not None


def row(span: Span, tally: Tally) -> Row:
    """The call of a span."""
    take = Taken(span.attributes)
    take.drop(KIND, "llm.token_count.total")
    count, output_tokens = take(*INPUT), take(*OUTPUT)
    read = whole(take("llm.token_count.prompt_details.cache_read"))
    tokens, added = bodies.within(count, output_tokens, read, whole(take("llm.token_count.prompt_details.cache_write")))
    if added:
        tally.add("cache-added")
    parameters = mapping(take("llm.invocation_parameters"))
    messages, output = _messages(take, "llm.input_messages"), _messages(take, "llm.output_messages")
    body, answer = take("input.value"), take("output.value")
    asked = bodies.asked({**mapping(body), **parameters})
    taken = (
        "llm.model_name",
        "session.id",
        "user.id",
        "metadata",
        "llm.provider",
        "llm.system",
        "llm.finish_reason",
        "llm.cost.total",
    )
    model, session, user, own, provider, system, reason, cost = (take(name) for name in taken)
    response, requested = text(take("llm.response.model_name")), text(take("llm.request.model_name"))
    reasoning, tools = whole(take("llm.token_count.completion_details.reasoning")), _tools(take) or asked.get("tools")
    told = {name: value for name, value in parameters.items() if name not in bodies.REQUEST}
    rest = {**span.other, **take.rest(), "llm.invocation_parameters": told}
    return {
        "ts": span.start,
        "request_id": span.id or None,
        "conversation_id": text(session) or span.trace or None,
        "user_id": text(user),
        "provider": text(provider) or text(system),
        "model": text(model) or response,
        "requested_model": requested,
        "response_model": response,
        **tokens,
        "reasoning_tokens": reasoning,
        "max_output_tokens": asked.get("max_output_tokens"),
        "messages": dumps(messages) if messages else asked.get("messages") or _plain(body),
        "tools": tools,
        "response_format": asked.get("response_format"),
        "output": dumps(output[0]) if output else _answer(answer),
        "stream": asked.get("stream"),
        "error_type": "error" if span.failed else None,
        "finish_reason": text(reason),
        "latency_ms": milliseconds(span.start, span.end),
        "cost_usd": money(cost),
        "metadata": metadata(own, rest),
    }


def _messages(take: Taken, name: str) -> list[Any]:
    given = take(name)
    found = nested(flattened(unpacked(given), lists=True)) if given is not None else nested(take.prefixed(f"{name}."))
    return [_chat(mapping(each.get("message")) or each) for each in listed(found) if isinstance(each, dict)]


def _chat(message: dict[str, Any]) -> dict[str, Any]:
    """A message as a chat takes it: its parts are `contents`, its calls `tool_calls[].tool_call`."""
    parts = [
        _part(mapping(each.get("message_content")) or each) for each in listed(message.get("contents")) if isinstance(each, dict)
    ]
    calls = [mapping(each.get("tool_call")) or each for each in listed(message.get("tool_calls")) if isinstance(each, dict)]
    spelled = [
        chat.call(mapping(each.get("function")).get("name"), mapping(each.get("function")).get("arguments"), each.get("id"))
        for each in calls
    ]
    told = {"role": message.get("role") or "user", "content": message.get("content") if not parts else chat.content(parts)}
    names = {name: message[name] for name in ("tool_call_id", "name") if message.get(name)}
    return {**told, **names, **({"tool_calls": spelled} if spelled else {})}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "text":
        return {"type": "text", "text": text(part.get("text")) or ""}
    url = mapping(mapping(part.get("image")).get("image")).get("url")
    return chat.picture(url) if url else part


def _tools(take: Taken) -> str | None:
    given = take("llm.tools")
    found = nested(flattened(unpacked(given), lists=True)) if given is not None else nested(take.prefixed("llm.tools."))
    spelled = []
    for each in listed(found):
        held = mapping(each).get("tool", each)
        schema = mapping(held).get("json_schema", mapping(held).get("tool.json_schema", held))
        spelled.append(unpacked(schema))
    return chat.tools(spelled) if spelled else None


def _plain(body: object) -> str | None:
    """A prompt that is plain text."""
    said = text(body)
    return dumps([{"role": "user", "content": said}]) if said and not isinstance(unpacked(said), dict | list) else None


def _answer(answer: object) -> str | None:
    """The answer's message in a body, or its text as it is."""
    found = unpacked(answer)
    if isinstance(found, dict):
        return bodies.answered(found).get("output") or dumps(found)
    return text(answer)
