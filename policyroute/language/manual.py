"""The manual's tables and pages, made from the vocabulary and the codes: what is said there is said once.

Pure functions to Markdown. `scripts/build_docs.py` writes them into `docs/`, and a test demands that they are current.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from policyroute.language.code import Code
from policyroute.language.codes import BY_NUMBER, CODES
from policyroute.language.policy import BoolType, EnumType, IntType, KeyType, TextType, Type
from policyroute.language.vocabulary import ABILITIES, OPERATORS, SIGNALS, SignalRow

_GROUPS = {
    "0": "Syntax and files", "1": "Names", "2": "Types and conditions", "3": "Models and targets", "4": "The shape of a policy",
    "5": "Claims", "6": "Replay", "7": "What an analysis finds",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VocabularyRow:
    """One word of the vocabulary: `kind` is signal, operator or ability, `type` what it is or takes and gives."""

    kind: str
    name: str
    type: str
    doc: str
    example: str


def vocabulary_rows() -> list[VocabularyRow]:
    """Every built-in signal, operator and ability, in the order of the vocabulary."""
    signals = [VocabularyRow("signal", row.name, type_text(row.type), row.doc, row.example) for row in SIGNALS.values()]
    operators = [
        VocabularyRow("operator", row.name, _signature(row.arguments, row.result, row.variadic), row.doc, row.example)
        for row in OPERATORS.values()
    ]
    abilities = [
        VocabularyRow("ability", name, "", f"the model takes requests that need {name}", f"can {name}") for name in ABILITIES
    ]
    return signals + operators + abilities


def type_text(type_: Type) -> str:
    """A type as it is declared: `int 0..1M`, `bool`, `free | pro`, `(a | b)?`, `key`; `text` and `open enum` can't be."""
    match type_:
        case IntType(low, high):
            return f"int {number_text(low)}..{number_text(high)}"
        case BoolType():
            return "bool"
        case KeyType():
            return "key"
        case TextType():
            return "text"
        case EnumType(_, _, open=True):
            return "open enum"
        case EnumType(members, optional):
            return f"({' | '.join(members)})?" if optional else " | ".join(members)


def number_text(number: int) -> str:
    """A number as a policy writes it: `3k`, `1M`, `1500`."""
    for factor, suffix in ((1_000_000, "M"), (1_000, "k")):
        if number and number % factor == 0:
            return f"{number // factor}{suffix}"
    return str(number)


def signals_markdown() -> str:
    """The table of built-in signals."""
    rows = [
        (f"`{row.name}`", f"`{type_text(row.type)}`", row.doc, _default(row), _columns(row), f"`{row.example}`")
        for row in SIGNALS.values()
    ]
    return _table(("signal", "type", "meaning", "default", "read from in a trace", "example"), rows)


def operators_markdown() -> str:
    """The table of operators, from the loosest to the tightest."""
    rows = [
        (f"`{row.name}`", f"`{_signature(row.arguments, row.result, row.variadic)}`", row.doc, f"`{row.example}`")
        for row in OPERATORS.values()
    ]
    return _table(("operator", "takes and gives", "meaning", "example"), rows)


def codes_markdown() -> str:
    """A section for each code, in groups."""
    parts: list[str] = []
    for digit, title in _GROUPS.items():
        group = [row for row in BY_NUMBER.values() if row.number[2] == digit]
        if group:
            parts += [f"## {title}", *(_section(row) for row in sorted(group, key=lambda row: row.number))]
    return "\n\n".join(parts) + "\n"


def code_page(code: str) -> str:
    """What `policyroute explain` says of a code, given by name or number in any case. Raises KeyError for any other word."""
    row = BY_NUMBER[code.upper()] if code.upper() in BY_NUMBER else CODES[code.lower()]
    lines = [f"{row.number} {row.name}", "", row.what, "", f"Why: {row.why}", "", "Example:", ""]
    lines += [f"  {line}" for line in row.example.splitlines()]
    lines += ["", "Instead:", "", *(f"  {line}" for line in row.instead.splitlines())]
    return "\n".join(lines) + "\n"


def _section(row: Code) -> str:
    example, instead = (f"```\n{text}\n```" for text in (row.example, row.instead))
    title = f'<a id="{row.number.lower()}"></a>\n\n### {row.number} {row.name}'
    return f"{title}\n\n{row.what}\n\n{row.why}\n\n{example}\n\nInstead:\n\n{instead}"


def _signature(arguments: Sequence[str], result: str, variadic: bool) -> str:
    return f"{', '.join(arguments)}{', ...' if variadic else ''} -> {result}"


def _default(row: SignalRow) -> str:
    if isinstance(row.type, KeyType | TextType) or row.default == "":
        return ""
    if isinstance(row.default, bool):
        return f"`{str(row.default).lower()}`"
    return f"`{number_text(row.default)}`" if isinstance(row.default, int) else f"`{row.default}`"


def _columns(row: SignalRow) -> str:
    found = ", ".join(f"`{column}`" for column in row.columns)
    if row.content:
        return f"{found}, else `{row.content}`" if found else f"`{row.content}`"
    return found


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]) + "\n"
