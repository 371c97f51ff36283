"""Optional signals: a negative test of one has to say what `missing` means."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from policyroute.language.policy import MISSING, Apply, Expression, Literal, Read
from policyroute.language.source import Span


def unsaid(node: Expression, positive: bool, said: frozenset[str], optional: Callable[[str], bool]) -> Iterable[tuple[Span, str]]:
    """Tests of optional enums that are negative and silent about `missing`: the place and the signal."""
    match node:
        case Apply("not", (inner,)):
            yield from unsaid(inner, not positive, said, optional)
        case Apply("and" | "or", arguments):
            here = said | {name for argument in arguments for name in _says_missing(argument)}
            for argument in arguments:
                yield from unsaid(argument, positive, here, optional)
        case Apply("in", (Read(signal), *members), span):
            if not positive and signal not in said and Literal(MISSING) not in members and optional(signal):
                yield span, signal


def _says_missing(node: Expression) -> Iterable[str]:
    match node:
        case Apply("not", (inner,)):
            yield from _says_missing(inner)
        case Apply("in", (Read(signal), Literal(value))) if value == MISSING:
            yield signal
