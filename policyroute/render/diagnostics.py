"""Diagnostics as text: one function per output format, each from the same values to a string.

Layout as ruff and rustc have it: headline, place, source line, caret, help.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import click

from policyroute.language.diagnostics import Diagnostic, Severity
from policyroute.language.source import Source, Span

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
WIDEST_LINE = 160


def full(found: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """Headline, source line with carets, help; a blank line between two."""
    return "\n".join(_full(diagnostic, sources) for diagnostic in found)


def _full(diagnostic: Diagnostic, sources: Sequence[Source]) -> str:
    source = sources[diagnostic.span.file]
    line, column = source.position(diagnostic.span.start)
    end_line, end_column = source.position(diagnostic.span.end)
    text, shift = _window(source.line(line).replace("\t", " "), column)
    length = (end_column if end_line == line else len(source.line(line)) + 1) - column
    carets = "^" * max(1, min(length, len(text) - (column - shift) + 1))
    gutter = " " * len(str(line))
    bar = click.style("|", fg="blue")
    head = click.style(f"{diagnostic.severity}[{diagnostic.code}]", fg=_COLOURS[diagnostic.severity], bold=True)
    lines = [
        f"{head}: {click.style(diagnostic.message, bold=True)}",
        f"{gutter}{click.style('-->', fg='blue')} {source.name}:{line}:{column}",
        f"{gutter} {bar}",
        f"{click.style(str(line), fg='blue')} {bar} {text}",
        f"{gutter} {bar} {' ' * (column - shift - 1)}{click.style(carets, fg=_COLOURS[diagnostic.severity])}",
    ]
    notes = [f"note: {label.text}: {_at(label.span, sources)}" for label in diagnostic.labels]
    notes += [f"help: {diagnostic.help}"] if diagnostic.help else []
    lines += [f"{gutter} {click.style('=', fg='blue')} {note}" for note in notes]
    return "\n".join(lines) + "\n"


def _window(text: str, column: int) -> tuple[str, int]:
    """A part of a very long line around `column`, and how many characters were cut before it."""
    if len(text) <= WIDEST_LINE:
        return text, 0
    start = max(0, column - WIDEST_LINE // 2)
    return text[start : start + WIDEST_LINE], start


def concise(found: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """`file:line:column: PR101 message`, one line each."""
    return "".join(f"{_at(d.span, sources)}: {d.number} {d.severity}[{d.code}] {d.message}\n" for d in found)


def _at(span: Span, sources: Sequence[Source]) -> str:
    line, column = sources[span.file].position(span.start)
    return f"{sources[span.file].name}:{line}:{column}"


def as_json(found: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """A JSON array with one object each: code, name, message, severity, file, start, end, help."""
    return (
        json.dumps([_item(diagnostic, sources[diagnostic.span.file]) for diagnostic in found], ensure_ascii=False, indent=2) + "\n"
    )


def _item(diagnostic: Diagnostic, source: Source) -> dict[str, object]:
    (row, column), (end_row, end_column) = source.position(diagnostic.span.start), source.position(diagnostic.span.end)
    return {
        "code": diagnostic.number, "name": diagnostic.code, "message": diagnostic.message, "severity": str(diagnostic.severity),
        "filename": source.name, "location": {"row": row, "column": column}, "end_location": {"row": end_row, "column": end_column},
        "help": diagnostic.help,
    }  # fmt: skip


def github(found: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """GitHub's workflow commands, which become annotations of a pull request."""
    return "".join(_annotation(diagnostic, sources[diagnostic.span.file]) for diagnostic in found)


def _annotation(diagnostic: Diagnostic, source: Source) -> str:
    (row, column), (end_row, end_column) = source.position(diagnostic.span.start), source.position(diagnostic.span.end)
    level = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}[diagnostic.severity]
    body = f"{diagnostic.message} ({diagnostic.help})" if diagnostic.help else diagnostic.message
    place = f"file={_property(source.name)},line={row},col={column},endLine={end_row},endColumn={end_column}"
    return f"::{level} title=policyroute ({diagnostic.number} {diagnostic.code}),{place}::{_escaped(body)}\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


FORMATS: dict[str, Callable[[Sequence[Diagnostic], Sequence[Source]], str]] = {
    "full": full,
    "concise": concise,
    "json": as_json,
    "github": github,
}
