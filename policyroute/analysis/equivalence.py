"""Whether two policies decide alike for every possible request."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from policyroute.analysis.remote import Remote, available
from policyroute.analysis.solver import NONE, UNKNOWN, Answer
from policyroute.language.policy import Policy

if TYPE_CHECKING:
    from policyroute.analysis.disagreement import Comparison


def compared(old: Policy, new: Policy, seconds: float = 30) -> Comparison | None:
    """Where the policies send requests different ways: one request for each pair of rules. None where z3 isn't there or is too slow."""
    if not available():
        return None
    with Remote(old, seconds) as remote:
        return remote.compare(old, new)


def difference(old: Policy, new: Policy, seconds: float = 10) -> Answer:
    """`none`: the same rule and chain for every possible request, proved; `some`: values for which they differ, as the reference
    found; `unknown`: not decided in time, or z3 isn't there."""
    return next(differences(old, [new], seconds))


def differences(old: Policy, mutants: Sequence[Policy], seconds: float = 60) -> Iterator[Answer]:
    """The same for many variants of one policy, in one process; `seconds` are for all of them."""
    if not available():
        yield from [UNKNOWN] * len(mutants)
        return
    over = time.monotonic() + seconds
    with Remote(old, seconds) as remote:
        for mutant in mutants:
            yield UNKNOWN if time.monotonic() >= over else _answer(remote.compare(old, mutant, named=True, most=1))


def _answer(found: Comparison | None) -> Answer:
    if found is None:
        return UNKNOWN
    if found.differences:
        return Answer("some", found.differences[0].values)
    return NONE if found.complete else UNKNOWN
