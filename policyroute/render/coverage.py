"""The coverage of policies' tests: a table for the terminal, Markdown, JSON-ready values, annotations of a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from policyroute.language.source import Source
from policyroute.testing.coverage import Atom, Coverage, RuleCoverage

Json = dict[str, Any]
HEAD = ("rule", "tests", "atoms", "missing")


def share(met: int, goals: int) -> str:
    """A share in percent with one decimal, rounded down: `100.0%` only where all goals are met."""
    tenths = 1_000 * met // max(goals, 1)
    return f"{tenths // 10}.{tenths % 10}%"


def text(coverage: Coverage) -> str:
    """A table, one row for each rule, with a line for each atom that isn't covered; indented by two."""
    rows = [HEAD, *(row for rule in coverage.rules for row in _rows(rule))]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip() for row in rows]
    return "".join(f"{line}\n" for line in [*lines, f"  {closing(coverage.met, coverage.goals)}"])


def closing(met: int, goals: int) -> str:
    """The line that sums up."""
    return f"coverage {share(met, goals)}: {met} of {goals} rules and atoms"


def markdown(coverage: Coverage) -> str:
    """The table, as Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", "|---|---:|---:|---|"]
    for rule in coverage.rules:
        missing = "<br>".join(_lacking(atom, "`") for atom in rule.atoms if not atom.covered)
        cells = (f"`{rule.rule}`", _tests(rule), _atoms(rule), missing.replace("|", "\\|"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{closing(coverage.met, coverage.goals).capitalize()}.", ""])


def as_json(coverage: Coverage, sources: Sequence[Source]) -> Json:
    """All of it, JSON-ready: for each atom `never`, `seen` (without effect) or `mattered`, as true and as false."""
    return {
        "met": coverage.met,
        "goals": coverage.goals,
        "percent": coverage.tenths / 10,
        "rules": [
            {
                "rule": rule.rule,
                "shadow": rule.shadow,
                **_position(sources, rule.span.file, rule.span.start),
                "tests": list(rule.tests),
                "atoms": [
                    {
                        "text": atom.text,
                        **_position(sources, atom.span.file, atom.span.start),
                        "true": atom.true,
                        "false": atom.false,
                        "covered": atom.covered,
                    }
                    for atom in rule.atoms
                ],
            }
            for rule in coverage.rules
        ],
    }


def github(coverage: Coverage, sources: Sequence[Source]) -> str:
    """A notice for each rule whose condition the tests don't show both ways."""
    lines = []
    for rule in coverage.rules:
        missing = "; ".join(_lacking(atom) for atom in rule.atoms if not atom.covered)
        if missing:
            source = sources[rule.span.file]
            row, column = source.position(rule.span.start)
            place = f"title=policyroute (coverage),file={_property(source.name)},line={row},col={column}"
            lines.append(f"::notice {place}::{_escaped(f'rule {rule.rule}: {missing}')}\n")
    return "".join(lines)


def _rows(rule: RuleCoverage) -> Iterator[tuple[str, str, str, str]]:
    missing = [_lacking(atom) for atom in rule.atoms if not atom.covered]
    yield rule.rule, _tests(rule), _atoms(rule), missing[0] if missing else ""
    yield from (("", "", "", line) for line in missing[1:])


def _tests(rule: RuleCoverage) -> str:
    return "shadow" if rule.shadow else str(len(rule.tests))


def _atoms(rule: RuleCoverage) -> str:
    return f"{sum(atom.covered for atom in rule.atoms)}/{len(rule.atoms)}" if rule.atoms else "-"


def _lacking(atom: Atom, quote: str = "") -> str:
    return f"{quote}{atom.text}{quote}: {', '.join(atom.missing)}"


def _position(sources: Sequence[Source], file: int, offset: int) -> Json:
    row, column = sources[file].position(offset)
    return {"filename": sources[file].name, "row": row, "column": column}


def _escaped(text_: str) -> str:
    return text_.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text_: str) -> str:
    return _escaped(text_).replace(":", "%3A").replace(",", "%2C")
