"""Diagnostics are values: a code, a message, a place, a remedy. They are collected here and rendered elsewhere.

`CODES` is the only list of codes. A row is what `policyroute explain CODE` prints and what the docs page holds; a test
demands that the corpus provokes each one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum

from policyroute.language.codes import CODES
from policyroute.language.source import Source, Span


class Severity(StrEnum):
    """How much a diagnostic matters. Only errors stop a policy from loading."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Label:
    """A second place that a diagnostic speaks of, with what is said there."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong, or worth knowing: `code` is a key of `CODES`, `message` a sentence without full stop.

    `notes` are further lines; `witness` is a `test` block, ready to paste, that shows a request of the kind that is spoken of.
    """

    code: str
    message: str
    span: Span
    help: str = ""
    labels: tuple[Label, ...] = ()
    severity: Severity = Severity.ERROR
    notes: tuple[str, ...] = ()
    witness: str = ""

    @property
    def number(self) -> str:
        """The short number of the code, `PR101`."""
        return CODES[self.code].number

    def moved(self, files: int) -> Diagnostic:
        """The same diagnostic where `files` sources stand before its own."""
        labels = tuple(replace(label, span=replace(label.span, file=label.span.file + files)) for label in self.labels)
        return replace(self, span=replace(self.span, file=self.span.file + files), labels=labels)


class PolicyError(Exception):
    """A policy that doesn't load: carries every diagnostic, and the sources that their spans point into."""

    def __init__(self, diagnostics: Sequence[Diagnostic], sources: Sequence[Source]) -> None:
        super().__init__("; ".join(diagnostic.message for diagnostic in diagnostics))
        self.diagnostics = tuple(diagnostics)
        self.sources = tuple(sources)


def ordered(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By place, then by code; each one once."""
    unique = dict.fromkeys(diagnostics)
    return sorted(unique, key=lambda found: (found.span.file, found.span.start, found.span.end, found.code, found.message))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A help sentence with the nearest known name, or the empty string."""
    near = get_close_matches(name, sorted(set(known)), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""
