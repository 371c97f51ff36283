"""Diagnostics as text: one function per output format, each from the same values to a string.

Layout as ruff and rustc have it: headline, place, source line, caret, help.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import click

from policyroute.language.diagnostics import Diagnostic, Severity
from policyroute.language.source import Source, Span
from policyroute.render import junit as reporter
from policyroute.render.sarif import fingerprint, sarif

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
    notes += [f"note: {note}" for note in diagnostic.notes]
    notes += [f"help: {diagnostic.help}"] if diagnostic.help else []
    notes += ["witness: a request that shows it, as a test that passes now"] if diagnostic.witness else []
    lines += [f"{gutter} {click.style('=', fg='blue')} {note}" for note in notes]
    lines += [f"{gutter}   {click.style(line, dim=True)}" for line in diagnostic.witness.splitlines()]
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
    """A JSON array with one object each: code, name, message, severity, file, start, end, help, notes, witness."""
    return (
        json.dumps([_item(diagnostic, sources[diagnostic.span.file]) for diagnostic in found], ensure_ascii=False, indent=2) + "\n"
    )


def _item(diagnostic: Diagnostic, source: Source) -> dict[str, object]:
    (row, column), (end_row, end_column) = source.position(diagnostic.span.start), source.position(diagnostic.span.end)
    return {
        "code": diagnostic.number, "name": diagnostic.code, "message": diagnostic.message, "severity": str(diagnostic.severity),
        "filename": source.name, "location": {"row": row, "column": column}, "end_location": {"row": end_row, "column": end_column},
        "help": diagnostic.help, "notes": list(diagnostic.notes), "witness": diagnostic.witness,
    }  # fmt: skip


def github(found: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """GitHub's workflow commands, which become annotations of a pull request."""
    return "".join(_annotation(diagnostic, sources[diagnostic.span.file]) for diagnostic in found)


def _annotation(diagnostic: Diagnostic, source: Source) -> str:
    (row, column), (end_row, end_column) = source.position(diagnostic.span.start), source.position(diagnostic.span.end)
    level = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}[diagnostic.severity]
    body = f"{diagnostic.message} ({diagnostic.help})" if diagnostic.help else diagnostic.message
    said = "\n".join((body, *diagnostic.notes, *filter(None, [diagnostic.witness.rstrip()])))
    more = f",col={column},endLine={end_row},endColumn={end_column}"
    return annotation(level, f"policyroute ({diagnostic.number} {diagnostic.code})", source.name, row, said, more)


def annotation(level: str, title: str, file: str, line: int, text: str, more: str = "") -> str:
    """One workflow command of GitHub; `more` are further properties, already escaped."""
    return f"::{level} title={_property(title)},file={_property(file)},line={line}{more}::{_escaped(text)}\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def gitlab(found: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """GitLab's code quality report."""
    severities = {Severity.ERROR: "critical", Severity.WARNING: "major", Severity.INFO: "info"}
    rows = [
        {
            "description": diagnostic.message + (f" ({diagnostic.help})" if diagnostic.help else ""),
            "check_name": f"{diagnostic.number} {diagnostic.code}",
            "fingerprint": fingerprint(diagnostic, sources),
            "severity": severities[diagnostic.severity],
            "location": {
                "path": sources[diagnostic.span.file].name,
                "lines": {"begin": sources[diagnostic.span.file].position(diagnostic.span.start)[0]},
            },
        }
        for diagnostic in found
    ]
    return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"


def junit(found: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """JUnit's XML: each finding a failed case of its file's suite; a file without any is one case that passed."""
    cases = [_case(diagnostic, sources[diagnostic.span.file], sources) for diagnostic in found]
    touched = {case.suite for case in cases}
    cases += [reporter.Case(source.name, "nothing found", "passed") for source in sources if source.name not in touched]
    return reporter.xml("policyroute check", cases)


def _case(diagnostic: Diagnostic, source: Source, sources: Sequence[Source]) -> reporter.Case:
    line, _ = source.position(diagnostic.span.start)
    name = f"{diagnostic.number} {diagnostic.code} at line {line}: {diagnostic.message}"
    return reporter.Case(
        source.name, name, "failed", diagnostic.message, click.unstyle(_full(diagnostic, sources)), source.name, line
    )


def markdown(found: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """For a comment on a pull request: one line per finding, the whole of it folded."""
    counts = {severity: sum(diagnostic.severity is severity for diagnostic in found) for severity in Severity}
    told = ", ".join(f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts.items() if count)
    lines = [f"### policyroute check: {told or 'nothing found'}", ""]
    for diagnostic in found:
        message = diagnostic.message.replace("&", "&amp;").replace("<", "&lt;").replace("`", "'")
        lines += [
            f"<details><summary>{diagnostic.number} {diagnostic.code} at {_at(diagnostic.span, sources)}: {message}</summary>",
            "",
        ]
        lines += ["```text", click.unstyle(_full(diagnostic, sources)).rstrip().replace("```", "'''"), "```", "", "</details>", ""]
    return "\n".join(lines).rstrip() + "\n"


FORMATS: dict[str, Callable[[Sequence[Diagnostic], Sequence[Source]], str]] = {
    "full": full,
    "concise": concise,
    "json": as_json,
    "github": github,
    "gitlab": gitlab,
    "junit": junit,
    "sarif": sarif,
    "markdown": markdown,
}
