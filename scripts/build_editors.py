"""Write the editors' highlighting of `.route` files from the grammar: `python scripts/build_editors.py`.

Keywords, signs and the forms of literals are the grammar's terminals, so that a new keyword needs no second list. What is
said here is only how each sort of terminal is called by TextMate's conventions, which colour themes know.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lark import Lark
from lark.lexer import PatternStr, TerminalDef

from policyroute.language.parser import grammar

OUTPUT = Path(__file__).parents[1] / "editors" / "vscode" / "syntaxes" / "route.tmLanguage.json"

OPERATORS = {"and", "or", "not", "is", "in", "has"}
TYPES = {"int", "bool", "key"}
SIGNS = ("CMP", "SIGN", "TIMES")
BEFORE_WORDS = {  # what could hold a keyword or be taken for a number, in the order of trying
    "COMMENT": "comment.line.number-sign.route",
    "STRING": "string.quoted.double.route",
    "REGEX": "string.regexp.route",
}
LITERALS = {
    "DATE": "constant.other.date.route",
    "DURATION": "constant.numeric.duration.route",
    "PERCENT": "constant.numeric.percent.route",
    "MONEY": "constant.numeric.money.route",
    "NUMBER": "constant.numeric.route",
}


def highlighting() -> str:
    """The text of `route.tmLanguage.json`."""
    lark = Lark(grammar(), parser="lalr", maybe_placeholders=False, g_regex_flags=re.ASCII)
    terminals = {terminal.name: terminal for terminal in lark.terminals}
    begins: set[str] = lark.parse_interactive("").accepts() - {"$END"}  # type: ignore[no-untyped-call]
    declarations = {terminals[name].pattern.value for name in begins}
    words = {word for terminal in lark.terminals for word in _words(terminal)}
    unknown = (OPERATORS | TYPES) - words
    if unknown:
        raise ValueError(f"not words of the grammar: {', '.join(sorted(unknown))}")
    naming = _naming(lark, begins)
    literal = [terminal for terminal in lark.terminals if isinstance(terminal.pattern, PatternStr) and not _words(terminal)]
    # The longer signs first: `->` is not `-` and `>`.
    literal.sort(key=lambda terminal: (-len(terminal.pattern.value), terminal.pattern.value))
    long = [_regex(terminal) for terminal in literal if len(terminal.pattern.value) > 1]
    short = [_regex(terminal) for terminal in literal if len(terminal.pattern.value) == 1]
    signs = [*long, *(_regex(terminals[name]) for name in SIGNS if name not in {sign.name for sign in literal}), *short]
    name = _regex(terminals["NAME"])
    patterns: list[dict[str, Any]] = [
        *({"name": scope, "match": _regex(terminals[form])} for form, scope in BEFORE_WORDS.items()),
        {
            "match": rf"{_any_of({terminals[first].pattern.value for first in naming})}\s+({name})",
            "captures": {"1": {"name": "keyword.control.route"}, "2": {"name": "entity.name.route"}},
        },
        *({"name": scope, "match": rf"(?<!\w){_regex(terminals[form])}"} for form, scope in LITERALS.items()),
        {"name": "keyword.operator.word.route", "match": _any_of(OPERATORS)},
        {"name": "storage.type.route", "match": _any_of(TYPES)},
        {"name": "keyword.control.route", "match": _any_of(declarations)},
        {"name": "keyword.other.route", "match": _any_of(words - OPERATORS - TYPES - declarations)},
        {"name": "keyword.operator.route", "match": "|".join(signs)},
        {"name": "variable.other.route", "match": name},
    ]
    return json.dumps(_file(patterns), indent=2) + "\n"


def _file(patterns: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "information_for_contributors": ["Written by scripts/build_editors.py from grammar/route.lark."],
        "name": "policyroute",
        "scopeName": "source.route",
        "fileTypes": ["route"],
        "patterns": patterns,
    }


def _regex(terminal: TerminalDef) -> str:
    return str(terminal.pattern.to_regexp())


def _words(terminal: TerminalDef) -> set[str]:
    """The keywords that a terminal stands for: itself, or the alternatives of a pattern such as `(hour|day)\\b`."""
    value = str(terminal.pattern.value)
    if isinstance(terminal.pattern, PatternStr):
        return {value} if value.isalpha() else set()
    alternatives = re.fullmatch(r"\(([a-z]+(?:\|[a-z]+)*)\)\\b", value)
    return set(alternatives.group(1).split("|")) if alternatives else set()


def _naming(lark: Lark, begins: set[str]) -> set[str]:
    """The terminals that begin a declaration and stand before the name that it declares."""
    starts = {tuple(symbol.name for symbol in rule.expansion[:2]) for rule in lark.rules}
    return {first for first in begins if (first, "NAME") in starts}


def _any_of(words: set[str]) -> str:
    return rf"\b({'|'.join(sorted(words))})\b"


if __name__ == "__main__":
    OUTPUT.write_text(highlighting(), "utf-8")
