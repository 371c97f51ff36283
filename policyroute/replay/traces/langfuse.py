"""Langfuse observations: the blob export's columns (snake case) and the API's objects (camel case). `GENERATION` is an LLM call.

`usageDetails` holds kinds of tokens. Langfuse prices every kind by itself, so `input` leaves out what `input_cached_tokens` or
`cache_read_input_tokens` hold, and the total is the sum of all input kinds; the same for output. Where `total` equals
`input` + `output` while other kinds are there, these are parts of the two, as a caller's own usage may have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from policyroute.replay.traces import bodies
from policyroute.replay.traces.aider import money
from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.fields import dumps
from policyroute.replay.traces.head import Head
from policyroute.replay.traces.times import milliseconds, parse
from policyroute.replay.traces.values import Taken, known, listed, mapping, metadata, number, text, unpacked, whole

EXTRAS = {"trace_id": "VARCHAR", "trace_name": "VARCHAR", "prompt_name": "VARCHAR", "tags": "VARCHAR"}
CALL = "GENERATION"
_SNAKE = ("trace_id", "provided_model_name", "usage_details", "start_time")
_CAMEL = ("traceId", "usageDetails", "startTime")


def recognises(head: Head) -> bool:
    """Observations in either spelling."""
    return head.has("type") and (head.has(*_SNAKE) or head.has(*_CAMEL))


def rows(records: Iterable[Mapping[str, Any]], tally: Tally) -> Iterator[Row]:
    """The generations, each id once."""
    seen: set[str] = set()
    for record in records:
        observation = str(record.get("id"))
        if record.get("type") != CALL:
            tally.add("other-events")
        elif observation in seen:
            tally.add("double-counted")
        else:
            seen.add(observation)
            yield _row(record)


def _row(record: Mapping[str, Any]) -> Row:
    take = Taken(record)
    take.drop("type", "totalPrice", "latency")
    start, end = parse(take("start_time", "startTime")), parse(take("end_time", "endTime"))
    first = parse(take("completion_start_time", "completionStartTime"))
    latency, ttft = number(record.get("latency"), 1000), number(take("time_to_first_token", "timeToFirstToken"), 1000)
    costs = mapping(take("cost_details", "costDetails"))
    parameters = mapping(take("model_parameters", "modelParameters"))
    given = unpacked(take("input"))
    body = given if isinstance(given, dict) else {"messages": given} if given else {}
    asked = bodies.asked({**parameters, **body})
    level, message = text(take("level")), text(take("status_message", "statusMessage"))
    trace = text(take("trace_id", "traceId"))
    return {
        "ts": start,
        "request_id": text(take("id")),
        "conversation_id": text(take("session_id", "sessionId")) or trace,
        "user_id": text(take("user_id", "userId")),
        "model": text(take("provided_model_name", "providedModelName", "model")),
        **usage(mapping(take("usage_details", "usageDetails"))),
        **asked,
        "tools": asked.get("tools") or bodies.asked({"tools": take("tool_definitions", "toolDefinitions")}).get("tools"),
        "output": _output(unpacked(take("output"))),
        "error_type": "error" if level == "ERROR" else None,
        "latency_ms": latency if latency is not None else milliseconds(start, end),
        "ttft_ms": ttft if ttft is not None else milliseconds(start, first),
        "cost_usd": money(take("total_cost", "totalCost", "calculatedTotalCost") or costs.get("total")),
        "trace_id": trace,
        "trace_name": text(take("trace_name", "traceName")),
        "prompt_name": text(take("prompt_name", "promptName")),
        "tags": dumps(tags) if (tags := listed(take("tags"))) else None,
        "metadata": metadata(take("metadata"), {**take.rest(), "level": level, "status_message": message, "model_parameters": parameters}),
    }  # fmt: skip


def usage(details: Mapping[str, Any]) -> dict[str, Any]:
    """The token columns of kinds of usage."""
    counts = {name: count for name, value in details.items() if (count := whole(value)) is not None}
    total = counts.pop("total", None)
    into = {name: count for name, count in counts.items() if _is_input(name)}
    out = {name: count for name, count in counts.items() if name not in into}
    plain_in, plain_out = into.get("input", into.get("prompt_tokens")), out.get("output", out.get("completion_tokens"))
    parts_are_inside = total is not None and total == (plain_in or 0) + (plain_out or 0)
    return known({
        "input_tokens": (plain_in if parts_are_inside else sum(into.values())) if into else None,
        "cached_tokens": _sum(into, "cache_read", "cached"),
        "cache_write_5m_tokens": _sum(into, "cache_creation", "cache_write"),
        "output_tokens": (plain_out if parts_are_inside else sum(out.values())) if out else None,
        "reasoning_tokens": _sum(out, "reasoning"),
    })  # fmt: skip


def _is_input(name: str) -> bool:
    return "input" in name or "prompt" in name or "cache" in name


def _sum(counts: Mapping[str, int], *words: str) -> int | None:
    found = [count for name, count in counts.items() if any(word in name for word in words)]
    return sum(found) if found else None


def _output(found: Any) -> str | None:
    """The answer's message, whether the source holds it, a whole body, or its text."""
    if isinstance(found, dict):
        return bodies.answered(found).get("output") or dumps(found)
    return dumps(found) if isinstance(found, list) else text(found)
