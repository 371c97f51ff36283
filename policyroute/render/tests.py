"""Results of a policy's tests for machines and for pull requests; the terminal's form is in `cli/test_command.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from policyroute.language.source import Source
from policyroute.render import junit as reporter
from policyroute.render.diagnostics import annotation
from policyroute.testing.run import Outcome

Result = tuple[Path, Source, Outcome]
SUITE = "policyroute test"
_STATUS: dict[str, reporter.Status] = {"passed": "passed", "failed": "failed", "not run": "skipped"}


def as_json(results: Sequence[Result]) -> list[dict[str, object]]:
    """One object per test: file, line, name, status, details, decisions."""
    return [
        {
            "file": path.as_posix(),
            "line": _line(source, outcome),
            "name": outcome.test.name,
            "status": outcome.status,
            "details": list(outcome.details),
            "decisions": [
                {"rule": decision.rule, "chain": list(decision.chain), "refused": decision.refused or None}
                for decision in outcome.decisions
            ],
        }
        for path, source, outcome in results
    ]


def junit(results: Sequence[Result]) -> str:
    """JUnit's XML: a suite per file; a test that was not run is skipped."""
    return reporter.xml(
        SUITE,
        [
            reporter.Case(
                path.as_posix(), outcome.test.name, _STATUS[outcome.status], outcome.details[0] if outcome.details else "",
                "\n".join(outcome.details), path.as_posix(), _line(source, outcome),
            )
            for path, source, outcome in results
        ],
    )  # fmt: skip


def github(results: Sequence[Result]) -> str:
    """An annotation for each test that failed, and a notice for each that was not run."""
    levels = {"failed": "error", "not run": "notice"}
    return "".join(
        annotation(
            levels[outcome.status], f"test {outcome.test.name}", path.as_posix(), _line(source, outcome), "\n".join(outcome.details)
        )
        for path, source, outcome in results
        if outcome.status in levels
    )


def markdown(results: Sequence[Result]) -> str:
    """How many passed, and each failure with its details folded."""
    counts = {status: sum(outcome.status == status for _, _, outcome in results) for status in _STATUS}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "no tests"
    lines = [f"### policyroute test: {told}", ""]
    for path, source, outcome in results:
        if outcome.status == "failed":
            name = json.dumps(outcome.test.name, ensure_ascii=False).replace("<", "&lt;").replace("`", "'")
            lines += [f"<details><summary>{path.as_posix()}:{_line(source, outcome)} {name}</summary>", ""]
            lines += ["```text", *(line.replace("```", "'''") for line in outcome.details), "```", "", "</details>", ""]
        elif outcome.status == "not run":
            lines += [f"- not run: `{outcome.test.name.replace('`', chr(39))}`: {outcome.details[0] if outcome.details else ''}"]
    return "\n".join(lines).rstrip() + "\n"


def _line(source: Source, outcome: Outcome) -> int:
    return source.position(outcome.test.span.start)[0]
