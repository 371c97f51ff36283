"""LLM calls in OpenTelemetry spans, by the GenAI conventions of every age; spans by OpenInference go to `openinference`.

A span counts as a call where it names an operation that calls a model for text, or where it has tokens and no operation. Agents,
workflows, tools and embeddings are left out: an agent's usage is the sum of the calls beneath it. A call that two instrumentations
saw is one call: the inner span is taken, and the outer one, with the same tokens, is set aside. So is a span that was exported twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from policyroute.replay.traces import bodies, chat, openinference
from policyroute.replay.traces.aider import money
from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.fields import dumps
from policyroute.replay.traces.head import Head
from policyroute.replay.traces.spans import PREFIXES, Span
from policyroute.replay.traces.times import milliseconds
from policyroute.replay.traces.values import Taken, listed, mapping, metadata, nested, number, text, truth, unpacked, whole

EXTRAS = {"trace_id": "VARCHAR", "span_id": "VARCHAR"}
CALLS = ("chat", "generate_content", "text_completion", "completion", "responses", "message")
INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_MODEL = ("gen_ai.request.model", "gen_ai.response.model")
_DETAILS = "gen_ai.client.inference.operation.details"
_NEAREST = 100  # spans between a call and the call that wraps it

Read = Callable[[Mapping[str, Any]], Iterable[Span]]


def recognises_otlp(head: Head) -> bool:
    """Lines of `{resourceSpans: [...]}`."""
    return head.kind in ("json", "jsonl") and head.has("resourceSpans")


def recognises(head: Head) -> bool:
    """A table of spans with attributes by the GenAI conventions: columns of their own, or keys of one column."""
    return _has(head, "gen_ai.") or (head.has("SpanAttributes") and head.has("SpanId"))


def recognises_openinference(head: Head) -> bool:
    """A table of spans with attributes by OpenInference."""
    return _has(head, openinference.KIND) or _has(head, "llm.token_count.")


def _has(head: Head, start: str) -> bool:
    starts = (start, *(f"{prefix}.{start}" for prefix in PREFIXES))
    if any(found.path.startswith(starts) for found in head.fields):
        return True
    texts = (row.get(prefix) for row in head.sample for prefix in PREFIXES)
    return any(isinstance(value, str) and f'"{start}' in value for value in texts)


def is_call(span: Span) -> bool:
    """Whether the span is a call of a model for text."""
    if openinference.is_span(span):
        return openinference.is_call(span)
    attributes = span.attributes
    kind = attributes.get("gen_ai.operation.name") or attributes.get("llm.request.type")
    if kind is not None:
        return kind in CALLS
    return any(attributes.get(name) is not None for name in (*INPUT, *OUTPUT)) and any(attributes.get(name) for name in _MODEL)


@dataclass(slots=True)
class Index:
    """What is known of all spans before the first row: parents, the calls with their tokens, and those that wrap another call."""

    parents: dict[tuple[str, str], str] = field(default_factory=dict)
    calls: dict[tuple[str, str], tuple[int | None, int | None]] = field(default_factory=dict)
    seen: set[object] = field(default_factory=set)

    def add(self, span: Span) -> None:
        """Learns of a span."""
        self.parents[span.key] = span.parent
        if is_call(span):
            self.calls[span.key] = _usage(span)

    def wrappers(self) -> frozenset[tuple[str, str]]:
        """Calls above another call that has the same tokens."""
        found = set()
        for (trace, span), used in self.calls.items():
            above = self.parents.get((trace, span), "")
            for _ in range(_NEAREST):
                if not above or (trace, above) in self.calls:
                    break
                above = self.parents.get((trace, above), "")
            if above and used != (None, None) and self.calls.get((trace, above)) == used:
                found.add((trace, above))
        return frozenset(found)


def _usage(span: Span) -> tuple[int | None, int | None]:
    names = (openinference.INPUT, openinference.OUTPUT) if openinference.is_span(span) else (INPUT, OUTPUT)
    told = [next((span.attributes[name] for name in side if span.attributes.get(name) is not None), None) for side in names]
    return whole(told[0]), whole(told[1])


def rows(spans: Iterable[Span], index: Index, wrappers: frozenset[tuple[str, str]], tally: Tally) -> Iterator[Row]:
    """The calls among the spans, each once over all files that share the index."""
    for span in spans:
        if not is_call(span):
            tally.add("other-events")
            continue
        told = text(span.attributes.get("gen_ai.response.id"))
        keys: list[object] = [key for key in (span.id and span.key, told and (span.trace, told, _usage(span))) if key]
        if span.key in wrappers or any(key in index.seen for key in keys):
            tally.add("double-counted")
            tally.aside.append(span.id)
            continue
        index.seen.update(keys)
        row = openinference.row(span, tally) if openinference.is_span(span) else _row(span, tally)
        yield {**row, "trace_id": span.trace or None, "span_id": span.id or None}


def _row(span: Span, tally: Tally) -> Row:
    take = Taken(_with_details(span))
    output_tokens, count = take(*OUTPUT), take(*INPUT)
    read = whole(
        take("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.input_tokens.cached")
    )
    written = whole(
        take(
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.input_tokens.cache_write",
        )
    )
    tokens, added = bodies.within(count, output_tokens, read, written)
    if added:
        tally.add("cache-added")
    reasons = take("gen_ai.response.finish_reasons")
    request, response = text(take("gen_ai.request.model")), text(take("gen_ai.response.model"))
    messages, (output, why) = _messages(span, take), _output(span, take)
    first = number(take("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"), 1000)
    error = text(take("error.type"))
    return {
        "ts": span.start,
        "request_id": text(take("gen_ai.response.id")) or span.id or None,
        "conversation_id": text(take("gen_ai.conversation.id", "session.id")) or span.trace or None,
        "user_id": text(take("user.id", "enduser.id", "gen_ai.user.id")),
        "provider": text(take("gen_ai.provider.name", "gen_ai.system")),
        "model": request or response,
        "response_model": response,
        "api": text(take("gen_ai.operation.name", "llm.request.type")),
        **tokens,
        "reasoning_tokens": whole(take("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens")),
        "max_output_tokens": whole(take("gen_ai.request.max_tokens")),
        "messages": dumps(messages) if messages else None,
        "tools": chat.tools(take("gen_ai.tool.definitions")) or _functions(take),
        "response_format": _format(take("gen_ai.output.type", "gen_ai.openai.request.response_format")),
        "output": dumps(output) if output is not None else None,
        "stream": truth(take("gen_ai.request.stream", "llm.is_streaming")),
        "status_code": whole(take("http.response.status_code")),
        "error_type": error or ("error" if span.failed else None),
        "finish_reason": text(next(iter(listed(reasons)), reasons or why)),
        "latency_ms": milliseconds(span.start, span.end),
        "ttft_ms": first,
        "cost_usd": money(take("gen_ai.usage.cost")),
        "service_tier": text(take("openai.response.service_tier", "gen_ai.openai.response.service_tier", "openai.request.service_tier")),
        "metadata": metadata(None, {**span.other, **take.rest()}),
    }  # fmt: skip


def _format(asked: object) -> str | None:
    """Structured output; the type `text` asks for nothing."""
    return '{"type":"json_object"}' if text(asked) in ("json", "json_object", "json_schema") else None


def _with_details(span: Span) -> dict[str, Any]:
    """The span's attributes, and those of the event that holds the content in their place."""
    found = dict(span.attributes)
    for name, attributes in span.events:
        if name == _DETAILS:
            found = {**attributes, **found}
    return found


def _messages(span: Span, take: Taken) -> list[Any]:
    """The prompt: current attributes, else numbered ones (`gen_ai.prompt.0.content`), else events (`gen_ai.user.message`)."""
    first, given = take("gen_ai.system_instructions"), take("gen_ai.input.messages")
    if given is not None or first is not None:
        return [*chat.instructions(first), *chat.of_parts(given)]
    numbered = take.prefixed("gen_ai.prompt.")
    if numbered:
        return [_numbered(message) for message in listed(nested(numbered))]
    plain = take("gen_ai.prompt")
    if plain is not None:
        found = unpacked(plain)
        return chat.of_parts(found) if isinstance(found, list) else [{"role": "user", "content": text(plain) or ""}]
    return [
        {"role": name.split(".")[1], **_numbered(dict(attributes))}
        for name, attributes in span.events
        if name.startswith("gen_ai.") and name.endswith(".message")
    ]


def _output(span: Span, take: Taken) -> tuple[Any, object]:
    """The answer's message, and why it ended where only the message says so."""
    given = take("gen_ai.output.messages")
    if given is not None:
        messages = chat.of_parts(given)
        return (messages[0] if messages else None), None
    numbered = listed(nested(take.prefixed("gen_ai.completion.")))
    if numbered:
        return {"role": "assistant", **_numbered(numbered[0])}, mapping(numbered[0]).get("finish_reason")
    plain = take("gen_ai.completion")
    if plain is not None:
        return plain, None
    choices = [attributes for name, attributes in span.events if name == "gen_ai.choice"]
    if not choices:
        return None, None
    message = mapping(choices[0].get("message")) or {"content": choices[0].get("content")}
    return {"role": "assistant", **_numbered(message)}, choices[0].get("finish_reason")


def _numbered(message: Any) -> dict[str, Any]:
    """A message of numbered attributes: its calls are `{id, name, arguments}` there."""
    told = dict(mapping(message))
    told.pop("finish_reason", None)
    told["content"] = unpacked(told.get("content"))
    calls = [mapping(each) for each in listed(told.pop("tool_calls", None))]
    if not calls:
        return told
    return {
        **told,
        "tool_calls": [
            each if "function" in each else chat.call(each.get("name"), each.get("arguments"), each.get("id")) for each in calls
        ],
    }


def _functions(take: Taken) -> str | None:
    found = listed(nested(take.prefixed("llm.request.functions.")))
    spelled = [{**each, "parameters": unpacked(each.get("parameters"))} for each in found if isinstance(each, dict)]
    return chat.tools(spelled) if spelled else None
