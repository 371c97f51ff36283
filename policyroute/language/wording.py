"""A checked condition in the words of the language: what a reader of the policy would have written.

Lets are written out, thresholds that may be tuned keep their names, and `in` with one member is `is`. Parsed again, the text
gives the same expression.
"""

from __future__ import annotations

import re

from policyroute.language.policy import ANY_OTHER, Apply, Expression, Literal, Read, Value

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_LOOSEST = {"or": 1, "and": 2, "not": 3, "+": 5, "-": 5, "*": 6}  # the others are tests, which bind at 4
_TEST, _TIGHTEST = 4, 7
_FACTORS = ((1_000_000, "M"), (1_000, "k"))


def written(node: Expression) -> str:
    """The condition, or number, as a policy would have it."""
    return _at(node, 0)


def value_text(value: Value) -> str:
    """A signal's value as a test would give it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return "any other" if value == ANY_OTHER else value if _NAME.fullmatch(value) else f'"{value}"'


def _at(node: Expression, level: int) -> str:
    """The text of a node that stands where only what binds tighter than `level` needs no parentheses."""
    text, binds = _written(node)
    return text if binds > level else f"({text})"


def _written(node: Expression) -> tuple[str, int]:
    match node:
        case Literal(value, tunable=tunable):
            return tunable or _constant(value), _TIGHTEST
        case Read(signal):
            return signal, _TEST if " has " in signal else _TIGHTEST
        case Apply("not", (Apply("in", arguments),)):
            return _member(arguments, " not"), _TEST
        case Apply("not", (Read(signal),)) if " has " in signal:
            return signal.replace(" has ", " not has "), _TEST
        case Apply("not", (inner,)):
            return f"not {_at(inner, _LOOSEST['not'] - 1)}", _LOOSEST["not"]
        case Apply("in", arguments):
            return _member(arguments, ""), _TEST
        case Apply("and" | "or" as operator, arguments):
            level = _LOOSEST[operator]
            return f" {operator} ".join(_at(argument, level) for argument in arguments), level
        case Apply(operator, (left, right)):
            level = _LOOSEST.get(operator, _TEST)
            outer = level - 1 if operator in _LOOSEST else level
            return f"{_at(left, outer)} {operator} {_at(right, level)}", level
    raise AssertionError(node)


def _member(arguments: tuple[Expression, ...], negated: str) -> str:
    subject, *members = arguments
    words = [_word(member.value) for member in members if isinstance(member, Literal)]
    if len(words) == 1:
        return f"{_at(subject, _TEST)} is{negated} {words[0]}"
    return f"{_at(subject, _TEST)}{negated} in ({', '.join(words)})"


def _word(value: Value) -> str:
    return str(value) if _NAME.fullmatch(str(value)) else f'"{value}"'


def _constant(value: Value) -> str:
    if isinstance(value, bool):  # only what a let was reduced to; the language has no word for it
        return str(value).lower()
    if isinstance(value, str):
        return _word(value)
    for factor, suffix in _FACTORS:
        if value and value % factor == 0:
            return f"{value // factor}{suffix}"
    return str(value)
