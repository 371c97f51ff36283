"""The policies that engines are compared with, as data: one list of rules, written for each engine in its own language.

A rule is a conjunction of tests `(signal, sign, value)`; the first rule that holds decides, and the number after the last is
`otherwise`. `is` takes a boolean, `in` a tuple of members, the other signs whole numbers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

Value = int | bool | str
Test = tuple[str, str, Any]
Rules = Sequence[tuple[Test, ...]]

PLANS, FEATURES, REGIONS = ("free", "pro", "enterprise"), ("search", "summarise", "draft", "chat"), ("us", "eu", "apac")
PAYING = ("pro", "enterprise")

STRUCTURED: Rules = (
    (("tokens", ">", 60_000),),
    (("steps", ">=", 20),),
    (("steps", ">=", 10), ("tool_failed", "is", True)),
    (("images", "is", True), ("plan", "in", PAYING)),
    (("images", "is", True),),
    (("feature", "in", ("search",)), ("json", "is", True), ("tokens", "<", 500)),
    (("feature", "in", ("draft",)), ("plan", "in", ("enterprise",))),
    (("hour", "<", 5), ("stream", "is", False), ("plan", "in", ("free", "pro"))),
    (("region", "in", ("eu",)), ("feature", "in", ("chat",)), ("tokens", "<=", 2_000)),
    (("code", "is", True), ("tokens", ">", 4_000)),
    (("code", "is", True), ("last_tokens", "<", 100)),
    (("plan", "in", ("free",)), ("tokens", ">", 2_500)),
    (("tools", ">", 10), ("steps", ">=", 3)),
    (("escalated", "is", True), ("plan", "in", PAYING)),
    (("feature", "in", ("chat",)), ("last_tokens", "<", 30), ("turns", "<=", 2)),
    (("turns", ">", 12), ("tokens", ">", 1_500)),
    (("feature", "in", ("summarise",)), ("tokens", ">", 1_500)),
    (("feature", "in", ("summarise", "search")), ("region", "in", ("us", "apac"))),
    (("tokens", "<", 200), ("tools", "==", 0)),
    (("seats", ">", 500), ("tokens", "<", 3_000)),
)
# Another policy, on signals that were extracted from content.
EXTRACTED: Rules = (
    (("tokens", ">", 30_000),),
    (("prompt has urgent", "is", True), ("plan", "in", PAYING)),
    (("prompt has legal", "is", True),),
    (("tool_failed", "is", True), ("steps", ">=", 3)),
    (("last has faq", "is", True), ("last_tokens", "<", 60)),
    (("last has order_number", "is", True), ("tokens", "<=", 1_000)),
    (("code", "is", True), ("last has stack_trace", "is", True)),
    (("last has deep", "is", True), ("tokens", ">", 800)),
    (("last has mechanical", "is", True), ("last_tokens", "<", 120)),
    (("json", "is", True), ("tokens", "<", 400)),
    (("images", "is", True),),
    (("turns", ">", 12),),
    (("prompt has urgent", "is", True), ("turns", ">=", 3)),
    (("plan", "in", ("free",)), ("tokens", ">", 2_500)),
    (("code", "is", True), ("tokens", ">", 3_000)),
    (("feature", "in", ("draft",)), ("plan", "in", ("enterprise",))),
    (("feature", "in", ("summarise",)), ("tokens", ">", 1_500)),
    (("region", "in", ("eu",)), ("last_tokens", "<", 200)),
    (("tools", ">", 10), ("code", "is", False)),
    (("tokens", "<", 150), ("steps", "==", 0)),
)
MATCHES = tuple(dict.fromkeys(test[0] for rule in EXTRACTED for test in rule if " has " in test[0]))

_HEAD = """edition 1
policy benchmark
signal plan    : free | pro | enterprise = free               from header "x-plan", column "plan"
signal feature : search | summarise | draft | chat = chat     from header "x-feature", column "feature"
signal region  : us | eu | apac = us                          from header "x-region", column "region"
signal seats   : int 1..10k = 1                               from header "x-seats", column "seats"
signal max_output : int 1..64k = 1k
words urgent     = "outage", "down", "urgent"
words legal      = "lawyer", "gdpr"
words faq        = "opening hours", "refund"
words deep       = "deadlock", "architecture"
words mechanical = "docstring", "rename"
pattern order_number = /#\\d{5,}/
pattern stack_trace  = /(?i)traceback/
model mini   { provider openai     id "gpt-4o-mini"       in $0.15 out $0.60  context 128k  can tools, images, json }
model flash  { provider google     id "gemini-2.5-flash"  in $0.30 out $2.50  context 1M    can tools, images, json }
model haiku  { provider anthropic  id "claude-haiku-4-5"  in $1.00 out $5.00  context 200k  can tools, images }
model sonnet { provider anthropic  id "claude-sonnet-4-5" in $3.00 out $15.00 context 200k  can tools, images, json }
tier cheap = mini, flash
tier good  = haiku, sonnet, flash
tier best  = sonnet, flash
order cheap < good < best
forbid flash when region is eu because "no EU endpoint"
"""
_TARGETS = ("best", "good", "cheap", "mini fallback haiku", "flash fallback sonnet")


def route(rules: Rules) -> str:
    """The policy in our language; its rules are named `rule_<number>`."""
    lines = [
        f"rule rule_{number} {{ when {' and '.join(map(_route, rule))} then {_TARGETS[number % len(_TARGETS)]} }}"
        for number, rule in enumerate(rules)
    ]
    return "\n".join([_HEAD, *lines, "otherwise { then good }", ""])


def _route(test: Test) -> str:
    signal, sign, value = test
    if sign == "is":
        if " has " in signal:
            return signal if value else signal.replace(" has ", " not has ")
        return signal if value else f"not {signal}"
    return f"{signal} in ({', '.join(value)})" if sign == "in" else f"{signal} {sign} {value}"


def number_of(rule: str, rules: Rules) -> int:
    """The number of the rule that a decision of ours names."""
    return len(rules) if rule == "otherwise" else int(rule.removeprefix("rule_"))


# -- other languages -----------------------------------------------------------------------------------------------


def infix(test: Test, names: str = "{}", conjunction: str = "||", true: str = "{}", false: str = "!{}") -> str:
    """A test as most expression languages write it: members by comparisons, joined by `conjunction`."""
    signal, sign, value = test
    name = names.format(signal)
    if sign == "is":
        return (true if value else false).format(name)
    if sign == "in":
        return "(" + f" {conjunction} ".join(f'{name} == "{member}"' for member in value) + ")"
    return f"{name} {sign} {value}"


def cel(rules: Rules) -> str:
    """One CEL expression: nested conditionals that give the rule's number."""
    whens = [f"({' && '.join(map(infix, rule))}) ? {number} : " for number, rule in enumerate(rules)]
    return "".join(whens) + str(len(rules))


def cedar(rules: Rules) -> str:
    """One permit per rule, with its number as `@id`; Cedar has no order, so the caller takes the lowest."""
    policies = [
        f'@id("{number}") permit(principal, action, resource) when {{ {" && ".join(infix(t, "context.{}") for t in rule)} }};'
        for number, rule in enumerate(rules)
    ]
    return "\n".join([*policies, f'@id("{len(rules)}") permit(principal, action, resource);'])


def rego(rules: Rules) -> str:
    """One rule with an else-chain."""
    written = [f"{number} if {{ {'; '.join(_rego(test) for test in rule)} }}" for number, rule in enumerate(rules)]
    return f"package benchmark\nimport rego.v1\nroute := {' else := '.join(written)} else := {len(rules)}\n"


def _rego(test: Test) -> str:
    signal, sign, value = test
    if sign == "in":
        return f"input.{signal} in {{{', '.join(json.dumps(member) for member in value)}}}"
    return f"input.{signal} == {str(value).lower()}" if sign == "is" else f"input.{signal} {sign} {value}"


def rule_engine(rules: Rules) -> list[str]:
    """One expression per rule."""
    return [" and ".join(infix(test, conjunction="or", false="not {}") for test in rule) for rule in rules]


def json_logic(rules: Rules) -> dict[str, Any]:
    """One JSONLogic `if` with all rules."""
    parts: list[Any] = []
    for number, rule in enumerate(rules):
        tests = [_json_logic(test) for test in rule]
        parts += [tests[0] if len(tests) == 1 else {"and": tests}, number]
    return {"if": [*parts, len(rules)]}


def _json_logic(test: Test) -> Any:
    signal, sign, value = test
    read = {"var": signal}
    if sign == "is":
        return read if value else {"!": read}
    return {"in": [read, list(value)]} if sign == "in" else {"===" if sign == "==" else sign: [read, value]}


# -- plain Python --------------------------------------------------------------------------------------------------


def closure(test: Test) -> Any:
    """A test as a closure over a mapping: what a rule engine written in an afternoon does."""
    signal, sign, value = test
    match sign:
        case "is":
            return lambda row: row[signal] is value
        case "in":
            members = frozenset(value)
            return lambda row: row[signal] in members
        case ">":
            return lambda row: row[signal] > value
        case ">=":
            return lambda row: row[signal] >= value
        case "<":
            return lambda row: row[signal] < value
        case "<=":
            return lambda row: row[signal] <= value
        case _:
            return lambda row: row[signal] == value


def closures(rules: Rules) -> Any:
    """The whole policy as closures: row to rule number."""
    made = [tuple(closure(test) for test in rule) for rule in rules]

    def decide(row: Mapping[str, Value]) -> int:
        for number, tests in enumerate(made):
            if all(test(row) for test in tests):
                return number
        return len(made)

    return decide


def python(rules: Rules, names: Sequence[str]) -> str:
    """A Python function of positional arguments `names`, as one would write it for a UDF."""
    lines = [f"def decide({', '.join(names)}):"]
    for number, rule in enumerate(rules):
        tests = [f"{n} in {v!r}" if s == "in" else (n if v else f"not {n}") if s == "is" else f"{n} {s} {v}" for n, s, v in rule]
        lines.append(f"    if {' and '.join(tests)}: return {number}")
    return "\n".join([*lines, f"    return {len(rules)}", ""])


def read(rules: Rules) -> tuple[str, ...]:
    """The signals that the rules read."""
    return tuple(dict.fromkeys(test[0] for rule in rules for test in rule))


# -- requests ------------------------------------------------------------------------------------------------------


def requests(count: int, seed: int = 7) -> list[dict[str, Value]]:
    """Signal values of `count` requests: many short, few long, one in a few with each flag."""
    rng = random.Random(seed)
    return [_request(rng) for _ in range(count)]


def _request(rng: random.Random) -> dict[str, Value]:
    tokens = int(rng.lognormvariate(6.6, 1.2)) + 10
    return {
        "tokens": tokens, "last_tokens": max(1, int(tokens * rng.random() ** 2)), "max_output": rng.choice((500, 1_000, 4_000)),
        "turns": rng.choice((1, 1, 1, 2, 3, 5, 9, 14)), "steps": rng.choice((0, 0, 0, 0, 1, 2, 4, 11, 21)),
        "tools": rng.choice((0, 0, 0, 3, 12)), "hour": rng.randrange(24), "seats": int(rng.lognormvariate(3, 2)) % 10_000 + 1,
        "plan": rng.choice(PLANS), "feature": rng.choice(FEATURES), "region": rng.choice(REGIONS),
        "tool_failed": rng.random() < 0.1, "images": rng.random() < 0.05, "json": rng.random() < 0.2, "stream": rng.random() < 0.6,
        "code": rng.random() < 0.15, "escalated": rng.random() < 0.05,
    }  # fmt: skip
