"""Token counts of an answer. Counts that can't be are unknown, never 0: a negative one, a fraction, true, parts above their whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from policyroute.prices.cost import Usage


class Counted(NamedTuple):
    """What an answer's `usage` says. `reasoning` is the part of the output that was reasoning, None where that isn't told;
    `service_tier` is the provider's word, "" where it is silent."""

    usage: Usage
    reasoning: int | None
    service_tier: str


class _ImpossibleError(Exception):
    """A count that can't be."""


def openai_counted(answer: Mapping[str, Any], given: str, made: str, *, output: bool = True) -> Counted | None:
    """Counts of an OpenAI answer (or `response` object): `given` and `made` name the totals. None where they are unknown.

    The input is the total; `cached_tokens` and `cache_write_tokens` of its details are parts of it, `reasoning_tokens` a part of
    the output. Without `output` an answer has none (embeddings).
    """
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    inputs, outputs = mapping(usage.get(f"{given}_details")), mapping(usage.get(f"{made}_details"))
    try:
        total, generated = _count(usage.get(given)), _count(usage.get(made))
        cached, written = _count(inputs.get("cached_tokens")), _count(inputs.get("cache_write_tokens"))
        reasoning = _count(outputs.get("reasoning_tokens"))
    except _ImpossibleError:
        return None
    if total is None or (generated is None and output):
        return None
    return _possible(Usage(total, generated or 0, cached or 0, written or 0), reasoning, text(answer.get("service_tier")))


def anthropic_counted(usage: object) -> Counted | None:
    """Counts of an Anthropic `usage`: its `input_tokens` leave out what was read from the cache or written to it.

    Writes whose lifetime isn't told are of five minutes, which is the API's default.
    """
    if not isinstance(usage, dict):
        return None
    parts, details = mapping(usage.get("cache_creation")), mapping(usage.get("output_tokens_details"))
    try:
        fresh, output = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
        read, written = _count(usage.get("cache_read_input_tokens")) or 0, _count(usage.get("cache_creation_input_tokens")) or 0
        short, long = _count(parts.get("ephemeral_5m_input_tokens")) or 0, _count(parts.get("ephemeral_1h_input_tokens")) or 0
        reasoning = _count(details.get("thinking_tokens"))
    except _ImpossibleError:
        return None
    if fresh is None or output is None:
        return None
    short += max(written - short - long, 0)
    return _possible(Usage(fresh + read + short + long, output, read, short, long), reasoning, text(usage.get("service_tier")))


def merged(first: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """An Anthropic stream's `usage` after another event's: counts are cumulative, and what an event leaves out is as before."""
    found = dict(first)
    for name, value in later.items():
        known = found.get(name)
        if isinstance(value, dict) and isinstance(known, dict):
            found[name] = merged(known, value)
        elif _is_count(value) and _is_count(known):
            found[name] = max(known, value)
        elif value is not None:
            found[name] = value
    return found


def mapping(value: object) -> dict[str, Any]:
    """`value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """`value` where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """`value` where it is a string, else ""."""
    return value if isinstance(value, str) else ""


def _possible(usage: Usage, reasoning: int | None, tier: str) -> Counted | None:
    return Counted(usage, reasoning, tier) if usage.possible and (reasoning or 0) <= usage.output else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _count(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _ImpossibleError
    return value
