"""Text to syntax tree. Total: any text gives declarations and diagnostics, never an exception.

A file without errors is parsed in one go. Otherwise it is cut at the lines that begin a declaration, and each piece is
parsed for itself, so that one run reports every error.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import cast

from lark import Lark, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from policyroute.language.diagnostics import Diagnostic
from policyroute.language.leaves import TreeError
from policyroute.language.source import Source, Span
from policyroute.language.syntax import Declaration
from policyroute.language.tree import TreeBuilder

DECLARATIONS = (
    "edition", "policy", "use", "timezone", "signal", "words", "pattern", "let", "tunable", "classifier", "model", "tier",
    "order", "forbid", "rule", "shadow", "otherwise", "explore", "sticky", "quota", "budget", "on", "escalate",
    "guarantee", "test", "gate",
)  # fmt: skip

_BEGINS = re.compile(rf"^(?:{'|'.join(DECLARATIONS)})\b", re.MULTILINE)
_ANY_INDENT = re.compile(rf"^[ \t]*(?:{'|'.join(DECLARATIONS)})\b", re.MULTILINE)
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_LOCK = Lock()

# What the grammar's terminals are called in messages.
_TERMINALS = {
    "NAME": "a name", "NUMBER": "a number", "STRING": "a text in quotes", "REGEX": "a pattern between slashes",
    "MONEY": "an amount such as `$0.05`", "PERCENT": "a share such as `10%`", "DURATION": "a duration such as `30s`",
    "DATE": "a date such as `2027-03-31`", "CMP": "a comparison", "SIGN": "`+` or `-`", "TIMES": "`*`", "LBRACE": "`{`",
    "RBRACE": "`}`", "LPAR": "`(`", "RPAR": "`)`", "COMMA": "`,`", "COLON": "`:`", "EQUAL": "`=`", "VBAR": "`|`",
    "LESSTHAN": "`<`", "QMARK": "`?`", "$END": "the end of the file", "PLACE": "`header`, `metadata`, `body` or `column`",
    "QUANTIFIER": "`never` or `always`", "PERIOD": "`minute`, `hour`, `day`, `week` or `month`", "__ANON_0": "`..`",
    "STREAM_ACTION": "`restart`, `finish`, `continue` or `fail`", "__ANON_1": "`->`",
}  # fmt: skip


# Words that the grammar takes for a name where one is missing: `when tokens > 3 and then mini`.
_NOT_MEANT_AS_NAMES = frozenset({"and", "or", "not", "is", "in", "has", "when", "then", "because", "fallback", "expect"})
_HINTS = {
    "|": "conditions are joined with `and` and `or`",
    "=": "numbers are compared with `==`, members with `is`",
    "contains": "texts are tested with `has` and a declared set: `prompt has urgent`",
}


_OPERATORS = frozenset({"a comparison", "`+` or `-`", "`*`", "`is`", "`in`", "`has`", "`not`"})


def grammar() -> str:
    """The text of `route.lark`: beside this package when installed, in `grammar/` of the source tree otherwise."""
    packaged = resources.files("policyroute.language").joinpath("route.lark")
    if packaged.is_file():
        return packaged.read_text("utf-8")
    return (Path(__file__).parents[2] / "grammar" / "route.lark").read_text("utf-8")


@lru_cache(maxsize=1)
def _machine() -> tuple[Lark, TreeBuilder]:
    builder = TreeBuilder()
    return Lark(grammar(), parser="lalr", transformer=builder, maybe_placeholders=True, g_regex_flags=re.ASCII), builder


def parse(source: Source, file: int = 0) -> tuple[list[Declaration], list[Diagnostic]]:
    """Declarations of `source` in order, and what could not be parsed. `file` is the number that spans carry."""
    no_text = _NO_TEXT.search(source.text)
    if no_text:
        found = f"unexpected {_visible(no_text.group())}"
        return [], [Diagnostic("syntax-error", found, Span(no_text.start(), no_text.end(), file), "a policy is UTF-8 text")]
    whole = _parse_piece(source.text, file, 0)
    if not isinstance(whole, Diagnostic):
        return whole, []
    declarations: list[Declaration] = []
    diagnostics: list[Diagnostic] = []
    for start, end in _pieces(source.text):
        piece = _parse_piece(source.text[start:end], file, start)
        if isinstance(piece, Diagnostic):
            diagnostics.append(piece)
        else:
            declarations += piece
    return declarations, diagnostics or [whole]


def _parse_piece(text: str, file: int, offset: int) -> list[Declaration] | Diagnostic:
    lark, builder = _machine()
    with _LOCK:
        builder.begin(file, offset)
        try:
            return cast("list[Declaration]", lark.parse(text).children)
        except UnexpectedInput as error:
            found = _diagnose(error, text, file)
            return replace(found, span=Span(found.span.start + offset, found.span.end + offset, file))
        except TreeError as error:
            return Diagnostic(error.code, error.message, error.span, error.help)


def _pieces(text: str) -> list[tuple[int, int]]:
    starts = [match.start() for match in _BEGINS.finditer(text)] or [match.start() for match in _ANY_INDENT.finditer(text)]
    if not starts or starts[0] > 0:
        starts.insert(0, 0)
    return list(zip(starts, [*starts[1:], len(text)], strict=True))


def _diagnose(error: UnexpectedInput, text: str, file: int) -> Diagnostic:
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        before = error.token_history[-1] if error.token_history else None
        if before is not None and before.type == "NAME" and before in _NOT_MEANT_AS_NAMES:
            start = before.start_pos or 0
            help_ = f"something is missing before `{before}`, which is a word of the language"
            return Diagnostic("syntax-error", f"unexpected `{before}`", Span(start, start + len(before), file), help_)
        start, found = error.token.start_pos or 0, str(error.token)
        span = Span(start, start + len(found), file)
        expected = error.accepts or error.expected
        if before is not None and before.type == "HAS" and found.startswith('"'):
            help_ = f"texts are asked through named sets: `words NAME = {_short(found)}`, then `has NAME`"
            return Diagnostic("syntax-error", f"unexpected `{_short(found)}`", span, help_)
        if before is not None and before.type == "IS" and found[0].isdigit():
            help_ = f"numbers are compared with `==`: `== {_short(found)}`"
            return Diagnostic("syntax-error", f"unexpected `{_short(found)}`", span, help_)
        help_ = _HINTS[found] if found in _HINTS and "CMP" in expected else _expected(expected, text, start)
        return Diagnostic("syntax-error", f"unexpected `{_short(found)}`", span, help_)
    if isinstance(error, UnexpectedToken):  # the end of the text, which has the place of the last word
        end = error.token.end_pos or 0
        help_ = _expected(set(error.accepts or error.expected), text, end)
        return Diagnostic("syntax-error", "the text ends too early", Span(max(end - 1, 0), end, file), help_)
    assert isinstance(error, UnexpectedCharacters)
    at = error.pos_in_stream or 0
    message, help_ = _stray(text, at, error.allowed or set())
    return Diagnostic("syntax-error", message, Span(at, at + 1, file), help_ or _expected(error.allowed or set(), text, at))


def _short(found: str) -> str:
    line = found.splitlines()[0] if found.strip() else found
    return line if len(line) <= 40 else line[:37] + "..."


def _stray(text: str, at: int, allowed: set[str]) -> tuple[str, str]:
    character = text[at]
    if character.isalpha() and at and text[at - 1].isdigit():
        return f"unexpected `{character}`", "numbers may end in `k` or `M`: `32k`"
    if character == '"':
        return "this text has no closing quote on its line", "close it with `\"`; a text can't span lines"
    if character == "'":
        return "unexpected `'`", 'texts stand in double quotes: `"like this"`'
    if character == "&" or (character == "|" and text[at : at + 2] == "||"):
        return f"unexpected `{text[at : at + 2]}`", "conditions are joined with `and` and `or`"
    if character == "!":
        return "unexpected `!`", "write `not`, or `!=` between numbers"
    if character.isupper() and "NAME" in allowed:
        return f"unexpected `{character}`", "names and keywords are lower-case: `[a-z_][a-z0-9_]*`"
    return f"unexpected {_visible(character)}", ""


def _visible(character: str) -> str:
    return f"`{character}`" if character.isprintable() else f"character U+{ord(character):04X}"


def _expected(terminals: set[str], text: str, at: int) -> str:
    names = {_TERMINALS.get(terminal, f"`{terminal.lower()}`") for terminal in terminals if terminal not in ("COMMENT",)}
    top = {f"`{word}`" for word in DECLARATIONS}
    if top - {"`on`"} <= names:
        names = (names - top) | {"a declaration"}
    if names >= _OPERATORS:
        names = (names - _OPERATORS) | {"an operator"}
    listed = sorted(names)
    if not listed:
        return ""
    if len(listed) > 8:
        return f"expected one of {', '.join(listed[:8])}, ..."
    return f"expected {listed[0]}" if len(listed) == 1 else f"expected one of {', '.join(listed)}"
