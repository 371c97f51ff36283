"""aider's analytics as it writes them: one event per line, the figures under `properties`; `message_send` is an LLM call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.head import Head, json_lines
from policyroute.replay.traces.times import parse

CALL = "message_send"
EXTRAS = {
    "event": "VARCHAR",
    "weak_model": "VARCHAR",
    "editor_model": "VARCHAR",
    "edit_format": "VARCHAR",
    "aider_version": "VARCHAR",
    "total_cost": "DOUBLE",
}


def recognises(head: Head) -> bool:
    """Lines of `{event, properties, user_id, time}`."""
    return head.kind == "jsonl" and head.has("event", "properties", "time") and not head.has("type")


def rows(head: Head, tally: Tally) -> Iterator[Row]:
    """The calls, each line once."""
    seen: set[bytes] = set()
    for _, line, event in json_lines(head.path):
        if event.get("event") != CALL:
            tally.add("other-events")
        elif line in seen:
            tally.add("duplicates")
        else:
            seen.add(line)
            yield _row(event)


def _row(event: dict[str, Any]) -> Row:
    properties = event.get("properties") or {}
    return {
        "ts": parse(event.get("time")),
        "user_id": event.get("user_id"),
        "model": properties.get("main_model"),
        "input_tokens": properties.get("prompt_tokens"),
        "output_tokens": properties.get("completion_tokens"),
        "cost_usd": money(properties.get("cost")),
        "metadata": json.dumps(properties),
        "event": event["event"],
        **{name: properties.get(name) for name in EXTRAS if name != "event"},
    }


def money(value: float | int | str | None) -> Decimal | None:
    """Dollars to twelve digits after the point, from the shortest decimal that means the same double; None where it is none."""
    if value is None:
        return None
    try:
        amount = Decimal(str(value))
        return amount.quantize(Decimal("1e-12")) if amount.is_finite() and abs(amount) < 10**12 else None
    except InvalidOperation:
        return None
