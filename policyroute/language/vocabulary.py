"""The vocabulary: one row per built-in signal and one row per operator, read by every other part.

Rules for whoever edits this file
- A signal is one row of `SIGNALS`: name, type, default, meaning, example, where a trace may hold it and which content it is
  extracted from. Its extraction is the attribute of the same name on `signals.facts.Facts`. Checker, live, SQL, docs,
  completion and tests read the row; no other module lists signals.
- An operator is one row of `OPERATORS`: signature, meaning as a Python function, and how the Python and the SQL reading
  write it. An operator enters only when generated expressions agree in all readings on all inputs of its types.
- Keep away from what Python and DuckDB see differently: integer division, modulo, floats, NULL, regular expressions of `re`,
  case mapping.
"""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from typing import Literal as OneOf

from policyroute.language.policy import (
    NONE,
    Apply,
    BoolType,
    EnumType,
    Expression,
    IntType,
    KeyType,
    Literal,
    Read,
    TextType,
    Type,
    Value,
)  # fmt: skip

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# -- signals -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignalRow:
    """A built-in signal.

    `columns` are the trace columns that hold its value ready made, in order of preference; `content` names the column that
    it is extracted from otherwise. `absent` says what a request or a trace without it means: `default` (the caller may
    leave it out, so the default is its value; reported as an assumption in a replay), `none` (the same, but only where the
    trace has the content column: a body without it has none) or `unknown` (a replay can't decide rules that read it).
    """

    name: str
    type: Type
    default: Value
    doc: str
    example: str
    columns: tuple[str, ...] = ()
    content: OneOf["", "messages", "tools", "response_format", "ts"] = ""
    absent: OneOf["default", "none", "unknown"] = "unknown"


_COUNT = IntType(0, 1_000_000)
_TOKENS = IntType(0, 100_000_000)
_BOOL = BoolType()

SIGNALS: dict[str, SignalRow] = {
    row.name: row
    for row in (
        SignalRow(
            "tokens",
            _TOKENS,
            0,
            "input tokens of the whole request: all messages, tool definitions, tool calls and results",
            "tokens > 3k",
            ("tokens", "input_tokens"),
            "messages",
        ),
        SignalRow("last_tokens", _TOKENS, 0, "tokens of the last user message", "last_tokens < 500", ("last_tokens",), "messages"),
        SignalRow(
            "max_output",
            IntType(1, 1_000_000),
            4_000,
            "the caller's output limit, or the default",
            "tokens + max_output > 380k",
            ("max_output", "max_output_tokens"),
            absent="default",
        ),
        SignalRow("turns", _COUNT, 1, "user messages in the conversation", "turns >= 3", ("turns",), "messages"),
        SignalRow(
            "steps",
            _COUNT,
            0,
            "model calls with tool use since the last user message (agent loop depth)",
            "steps >= 8",
            ("steps",),
            "messages",
        ),
        SignalRow("tools", _COUNT, 0, "tools offered", "tools == 0", ("tool_count",), "tools", "none"),
        SignalRow(
            "tool",
            EnumType((NONE,), open=True),
            NONE,
            "the name of the tool whose result ends the request, `none` where there is none",
            "tool in (read_file, grep)",
            ("tool",),
            "messages",
        ),
        SignalRow(
            "tool_failed", _BOOL, False, "the last tool result reports an error", "tool_failed", ("tool_failed",), "messages"
        ),
        SignalRow("images", _BOOL, False, "the request holds pictures", "images", ("images",), "messages"),
        SignalRow("json", _BOOL, False, "structured output is asked for", "json", ("json",), "response_format", "default"),
        SignalRow("stream", _BOOL, False, "streaming is asked for", "stream", ("stream",), absent="default"),
        SignalRow("code", _BOOL, False, "there is code in the last user message", "code", ("code",), "messages"),
        SignalRow(
            "requested",
            EnumType((), open=True),
            "",
            "the model that the caller asked for, found among the declared ones by name or id",
            "requested is opus",
            ("requested", "requested_model", "model"),
        ),
        SignalRow("hour", IntType(0, 23), 0, "hour of the request's timestamp in the policy's time zone", "hour >= 18", (), "ts"),
        SignalRow(
            "weekday", EnumType(WEEKDAYS), "mon", "day of the week of the request's timestamp", "weekday in (sat, sun)", (), "ts"
        ),
        SignalRow(
            "escalated",
            _BOOL,
            False,
            "the user asked for a better answer (header or metadata)",
            "escalated",
            ("escalated",),
            absent="default",
        ),
        SignalRow(
            "user",
            KeyType(),
            "",
            "who asks: only hashed, partitioned by, or reported",
            "split by user { 90% a, 10% b }",
            ("user", "user_id"),
            absent="default",
        ),
        SignalRow(
            "team", KeyType(), "", "the caller's team", "budget cap { $50 per day by team then cheap }", ("team",), absent="default"
        ),
        SignalRow(
            "conversation",
            KeyType(),
            "",
            "the conversation that the request belongs to: by its name, else by a hash of its opening",
            "explore 1% by conversation",
            ("conversation", "conversation_id"),
            "messages",
            "default",
        ),
        SignalRow("prompt", TextType(), "", "all messages", "prompt has urgent", (), "messages"),
        SignalRow("last", TextType(), "", "the last user message", "last has faq", (), "messages"),
        SignalRow("system", TextType(), "", "the system message", "system has triage", (), "messages"),
    )
}

# -- operators -----------------------------------------------------------------------------------------------------

Kind = OneOf["bool", "int", "enum"]


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator on typed values.

    `arguments` are the kinds of its arguments, the last one repeated where `variadic`; `meaning` is its reference
    implementation; `python` and `sql` say how the other readings write it: an infix sign, or a template with `{0}`, `{1}`
    and `{rest}` (the arguments after the first, joined by commas).
    """

    name: str
    arguments: tuple[Kind, ...]
    result: Kind
    meaning: Callable[..., Any]
    python: str
    sql: str
    doc: str
    example: str
    variadic: bool = False


def _infix(name: str, meaning: Callable[..., Any], result: Kind, doc: str, example: str, sql: str = "") -> Operator:
    return Operator(name, ("int", "int"), result, meaning, f"{{0}} {name} {{1}}", sql or f"{{0}} {name} {{1}}", doc, example)


OPERATORS: dict[str, Operator] = {
    row.name: row
    for row in (
        Operator("and", ("bool",), "bool", lambda *all_: all(all_), " and ", " AND ", "both hold", "code and tools == 0", True),
        Operator("or", ("bool",), "bool", lambda *any_: any(any_), " or ", " OR ", "at least one holds", "code or images", True),
        Operator("not", ("bool",), "bool", python.not_, "not {0}", "NOT {0}", "it does not hold", "not escalated"),
        _infix("<", python.lt, "bool", "less than", "tokens < 500"),
        _infix("<=", python.le, "bool", "at most", "tokens <= 3k"),
        _infix(">", python.gt, "bool", "more than", "tokens > 3k"),
        _infix(">=", python.ge, "bool", "at least", "steps >= 8"),
        _infix("==", python.eq, "bool", "equal", "tools == 0", "{0} = {1}"),
        _infix("!=", python.ne, "bool", "not equal", "tools != 0", "{0} <> {1}"),
        _infix("+", python.add, "int", "sum", "tokens + max_output > 380k"),
        _infix("-", python.sub, "int", "difference", "tokens - last_tokens > 10k"),
        _infix("*", python.mul, "int", "product with a constant", "tokens > 2 * last_tokens"),
        Operator(
            "in",
            ("enum",),
            "bool",
            lambda value, *members: value in members,
            "{0} in ({rest},)",
            "{0} IN ({rest})",
            "is one of the members",
            "plan in (pro, enterprise)",
            True,
        ),
    )
}

COMPARISONS = ("<=", ">=", "==", "!=", "<", ">")

# What a model can be unable to take: the ability's word in `can`, and the condition under which a request needs it.
ABILITIES: dict[str, Expression] = {
    "tools": Apply(">", (Read("tools"), Literal(0))),
    "images": Read("images"),
    "json": Read("json"),
}
