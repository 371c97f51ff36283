"""Invents the example traces: `python scripts/make_traces.py [FOLDER]` writes support, coding and saas as parquet.

Nothing in them was recorded. The same seed gives the same table, and with the same pyarrow the same bytes. `input_tokens`
is a count with o200k_base by the published recipe for chats; `cost_usd` is what genai-prices computes from the recorded tokens
at the request's time, but for the few rows that are off or empty on purpose, as in real logs.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import genai_prices
import pyarrow as pa
import pyarrow.parquet as pq
import quicktok

sys.path.insert(0, str(Path(__file__).parent))

from workloads import coding, saas, support
from workloads.world import Call, Dice, Message, User, Workload, moment

ROOT = Path(__file__).parents[1]
WORKLOADS = {workload.name: workload for workload in (support.WORKLOAD, coding.WORKLOAD, saas.WORKLOAD)}

FAILED, OFF, UNRECORDED = 0.012, 0.01, 0.004  # shares of requests that fail, whose cost is off, whose cost is missing
PICTURE_TOKENS = 85  # of a picture in low detail
CACHE_MINIMUM, CACHE_STEP, CACHE_LIFE = 1_024, 128, 300  # tokens, tokens, seconds
MILLISECONDS_PER_TOKEN = {"gpt-4o": 12, "gpt-4o-mini": 9, "gpt-5": 14, "claude-sonnet-4-5": 15, "claude-opus-4-1": 24}
REASONING = {"gpt-5": 180}  # median of tokens thought before the answer

ERRORS = ((429, "rate_limit_error"), (500, "server_error"), (529, "overloaded_error"))

SCHEMA: dict[str, pa.DataType] = {
    "ts": pa.timestamp("ms"),
    **dict.fromkeys(("request_id", "conversation_id", "user_id", "team", "user_plan", "feature"), pa.string()),
    "region": pa.string(),
    "residency": pa.string(),
    "seats": pa.int32(),
    "escalated": pa.bool_(),
    **dict.fromkeys(("provider", "model"), pa.string()),
    **dict.fromkeys(("input_tokens", "cached_tokens", "cache_write_5m_tokens", "output_tokens", "reasoning_tokens"), pa.int64()),
    "max_output_tokens": pa.int64(),
    **dict.fromkeys(("messages", "tools", "response_format", "output"), pa.string()),
    "stream": pa.bool_(),
    "status_code": pa.int32(),
    **dict.fromkeys(("error_type", "finish_reason"), pa.string()),
    "latency_ms": pa.float64(),
    "cost_usd": pa.decimal128(24, 12),
}
DISTINCT = {"messages", "output", "request_id", "cost_usd", "ts"}  # columns whose values hardly repeat as a whole
OPTIONAL = {"region", "residency", "seats", "escalated"}

Row = dict[str, Any]


@dataclass(slots=True)
class Conversation:
    """What a conversation remembers from call to call: the clock, and the prefix that the provider has cached."""

    id: str
    user: User
    provider: str
    model: str
    at: datetime
    cached: int = 0
    cached_at: datetime = field(default=datetime.min)


# -- tokens and money ----------------------------------------------------------------------------------------------


@cache
def count(text: str) -> int:
    """Tokens of `text` in o200k_base."""
    return int(quicktok.get_encoding("o200k_base").count(text))


def message_tokens(message: Message) -> int:
    """Tokens of a message: its texts, its calls, four for its frame."""
    content = message["content"] or ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts = sum(count(part["text"]) if part["type"] == "text" else PICTURE_TOKENS for part in parts)
    functions = [call["function"] for call in message.get("tool_calls", ())]
    return 4 + texts + sum(count(function["name"]) + count(function["arguments"]) for function in functions)


@cache
def tools_tokens(tools: str) -> int:
    """Tokens of tool definitions, by the constants that OpenAI's cookbook gives for gpt-4o ("How to count tokens with tiktoken")."""
    functions = [tool["function"] for tool in json.loads(tools or "[]")]
    named = sum(7 + count(f"{function['name']}:{function['description']}") for function in functions)
    keys = [[*function["parameters"]["properties"].items()] for function in functions]
    members = sum(3 + sum(3 + count(f"{key}:{value['type']}:") for key, value in each) for each in keys)
    return named + members + (12 if functions else 0)


def prompt_tokens(call: Call) -> int:
    return 3 + sum(message_tokens(message) for message in call.messages) + tools_tokens(call.tools)


def cost(row: Row) -> Decimal:
    """Dollars for the row's tokens by the price library, at the time of the request."""
    usage = genai_prices.Usage(
        input_tokens=row["input_tokens"],
        cache_read_tokens=row["cached_tokens"],
        cache_write_tokens=row["cache_write_5m_tokens"],
        output_tokens=row["output_tokens"],
    )
    at = row["ts"].replace(tzinfo=UTC)
    return genai_prices.calc_price(usage, row["model"], provider_id=row["provider"], genai_request_timestamp=at).total_price


# -- rows ----------------------------------------------------------------------------------------------------------


def rows(workload: Workload) -> list[Row]:
    """The requests in the order of time."""
    dice = Dice(workload.seed)
    users = workload.users(dice)
    found: list[Row] = []
    number = 0
    while len(found) < workload.requests:
        number += 1
        found += _conversation(dice, workload, users, number)
    found = sorted(found[: workload.requests], key=lambda row: (row["ts"], row["conversation_id"]))
    return [{**row, "request_id": f"{workload.name}-{place:05d}"} for place, row in enumerate(found, start=1)]


def _conversation(dice: Dice, workload: Workload, users: list[User], number: int) -> Iterator[Row]:
    user = dice.weighted(users, [user.weight for user in users])
    provider, model, _ = dice.weighted(workload.models, [share for _, _, share in workload.models])
    state = Conversation(f"c{number:04d}", user, provider, model, moment(dice))
    for call in workload.conversation(dice, user, state.at):
        state.at += timedelta(seconds=call.pause)
        if dice.chance(FAILED):
            yield _failed(dice, state, call)
            state.at += timedelta(seconds=dice.between(2, 9))
        row = _answered(dice, state, call, model in workload.caches)
        yield row
        state.at += timedelta(milliseconds=row["latency_ms"])


def _common(state: Conversation, call: Call) -> Row:
    user = state.user
    return {
        "ts": state.at, "conversation_id": state.id, "user_id": user.id, "team": user.team, "user_plan": user.plan,
        "feature": call.feature, **user.about, **call.about, "provider": state.provider, "model": state.model,
        "input_tokens": prompt_tokens(call), "cached_tokens": 0, "cache_write_5m_tokens": 0, "output_tokens": 0,
        "reasoning_tokens": 0, "max_output_tokens": call.max_output, "messages": compact(call.messages), "tools": call.tools or None,
        "response_format": '{"type":"json_object"}' if call.json else None, "stream": call.stream,
    }  # fmt: skip


def _failed(dice: Dice, state: Conversation, call: Call) -> Row:
    """A request that got no answer: no output, nothing billed."""
    status, error = dice.weighted(ERRORS, (6, 3, 1 if state.provider == "anthropic" else 0))
    ending = {"status_code": status, "error_type": error, "latency_ms": float(dice.between(40, 900)), "cost_usd": Decimal(0)}
    return {**_common(state, call), **ending}


def _answered(dice: Dice, state: Conversation, call: Call, caches: bool) -> Row:
    row = _common(state, call)
    if caches:
        row |= _cached(state, row["input_tokens"])
    median = REASONING.get(state.model, 0)
    thought = int(dice.around(median, 0.6)) // 64 * 64 if median else 0
    row |= {"reasoning_tokens": thought, "output_tokens": thought + message_tokens(call.answer) - 3, "output": compact(call.answer)}
    row |= {"status_code": 200, "finish_reason": "tool_calls" if "tool_calls" in call.answer else "stop"}
    wait = dice.around(380 + row["input_tokens"] / 30, 0.35) + row["output_tokens"] * MILLISECONDS_PER_TOKEN[state.model]
    row["latency_ms"] = float(round(wait))
    row["cost_usd"] = _recorded(dice, cost(row))
    return row


def _cached(state: Conversation, tokens: int) -> Row:
    """What the provider reads from its cache, and writes into it where that is billed."""
    warm = (state.at - state.cached_at).total_seconds() <= CACHE_LIFE
    read = min(state.cached, tokens) if warm else 0
    if state.provider == "openai":
        read = read // CACHE_STEP * CACHE_STEP
    read = read if read >= CACHE_MINIMUM else 0
    state.cached, state.cached_at = tokens, state.at
    written = tokens - read if state.provider == "anthropic" and tokens >= CACHE_MINIMUM else 0
    return {"cached_tokens": read, "cache_write_5m_tokens": written}


def _recorded(dice: Dice, exact: Decimal) -> Decimal | None:
    """The cost as a log has it: sometimes missing, sometimes off by a few percent."""
    if dice.chance(UNRECORDED):
        return None
    if dice.chance(OFF):
        exact *= 1 + Decimal(dice.pick((-3, -2, -1, 1, 2, 3))) / 100
    return exact.quantize(Decimal("1e-12"))


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- files ---------------------------------------------------------------------------------------------------------


def table(workload: Workload) -> pa.Table:
    """The trace as a table; the version of the price library that its costs come from is in its metadata."""
    schema = {name: kind for name, kind in SCHEMA.items() if name not in OPTIONAL or name in workload.columns}
    versions: dict[bytes | str, bytes | str] = {"synthetic": "true", "genai-prices": importlib.metadata.version("genai-prices")}
    return pa.Table.from_pylist(rows(workload), pa.schema(list(schema.items()), metadata=versions))


def write(tables: Mapping[str, pa.Table], folder: Path) -> None:
    """One file each. Prompts of a conversation repeat each other, so pages are large enough to hold many of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        options: dict[str, Any] = {
            "compression": "zstd",
            "compression_level": 19,
            "data_page_size": 64 * 1024 * 1024,
            "use_dictionary": [column for column in content.column_names if column not in DISTINCT],
            "write_batch_size": 1_000_000,
        }
        pq.write_table(content, folder / f"{name}.parquet", **options)


if __name__ == "__main__":
    write({name: table(workload) for name, workload in WORKLOADS.items()}, Path(sys.argv[1]) if sys.argv[1:] else ROOT / "traces")
