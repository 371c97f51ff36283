"""The one question that all findings are made of: is there a request for which a condition holds and some rules don't match?

`Proofs` answers it with z3, `Intervals` without; who asks doesn't know which. "unknown" is never taken for either answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from policyroute.language.policy import Expression, Policy, Value


@dataclass(frozen=True, slots=True)
class Answer:
    """`none`: no possible request, proved; `core` are those of the passing rules that are needed for it. `some`: `values` is one,
    with a value for each signal but texts and keys. `unknown`: not decided, in time or at all."""

    status: Literal["none", "some", "unknown"]
    values: Mapping[str, Value] = field(default_factory=dict)
    core: tuple[int, ...] = ()


NONE, SOME, UNKNOWN = Answer("none"), Answer("some"), Answer("unknown")


class Solver(Protocol):
    """Answers questions on the requests that are possible under one policy's signals."""

    policy: Policy

    def ask(self, wanted: Expression, passing: Sequence[int] = (), *, minimal: bool = True) -> Answer:
        """Whether `wanted` can hold for a request that none of the rules numbered `passing` matches.

        With `minimal`, "some" comes with values as near to the defaults as can be had cheaply, and "none" with a core from which no
        rule can be left out; without it only the status is wanted.
        """
        ...

    def ask_taken(self, wanted: Expression, takers: Sequence[int]) -> Answer:
        """Whether there is a request for which `wanted` holds and that one of the served rules `takers` takes; only the status."""
        ...
