"""Which mutants a policy's tests kill, which can't be told from the policy, and which tests are missing for the rest.

Two mutants that no request tells apart from the policy are equivalent, which is proved; they don't count. A survivor comes with a
request that tells it apart. Few tests are enough for many survivors: they are chosen greedily, those that kill most first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from policyroute.analysis.equivalence import differences
from policyroute.analysis.solver import Answer
from policyroute.analysis.witness import Witness, Witnesses
from policyroute.language.decision import Decision
from policyroute.language.policy import Policy, Value
from policyroute.language.reference import decide
from policyroute.testing.mutation.mutants import Mutant, mutants
from policyroute.testing.run import Suite, met

PROOF_TIME = 60.0  # seconds for telling all survivors apart
LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Survivor:
    """A mutant that no test kills. `proved` is False where the time was over before it could be told apart."""

    mutant: Mutant
    values: Mapping[str, Value]
    proved: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """A test that is not there: its name, its block, and the number of survivors that it kills."""

    name: str
    block: str
    kills: int


@dataclass(frozen=True)
class Score:
    """The result for one policy."""

    killed: tuple[Mutant, ...]
    equivalent: tuple[Mutant, ...]
    survivors: tuple[Survivor, ...]
    missing: tuple[Missing, ...]

    @property
    def share(self) -> Fraction:
        """Killed mutants of all that can be killed; 1 where there are none."""
        counted = len(self.killed) + len(self.survivors)
        return Fraction(len(self.killed), counted) if counted else Fraction(1)


def score(
    policy: Policy, folder: Path, seconds: float = PROOF_TIME, step: Callable[[int, int], None] = lambda done, all_: None
) -> Score:
    """Judge the tests of a policy whose models are complete. `step` is told how many survivors of how many have been looked at."""
    suite = Suite(policy, folder)
    asked = suite.requests()
    requests = [(request.values, request.expect) for request in asked if request.decision == request.plain]
    followed = tuple(dict.fromkeys(request.test for request in asked if request.decision != request.plain))

    def kills(mutant: Mutant) -> bool:
        if any(not met(expect, decide(mutant.policy, values)) for values, expect in requests):
            return True
        if not followed:
            return False
        other = Suite(mutant.policy, folder)  # what state had a part in is followed anew
        return any(not met(request.expect, request.decision) for request in other.requests(followed))

    made = list(mutants(policy))
    killed = {number for number, mutant in enumerate(made) if kills(mutant)}
    left = [mutant for number, mutant in enumerate(made) if number not in killed]
    answers: list[Answer] = []
    for answer in differences(policy, [mutant.policy for mutant in left], seconds):
        answers.append(answer)
        step(len(answers), len(left))
    pairs = list(zip(left, answers, strict=True))
    survivors = tuple(
        Survivor(mutant, answer.values, answer.status == "some") for mutant, answer in pairs if answer.status != "none"
    )
    return Score(
        tuple(made[number] for number in sorted(killed)),
        tuple(mutant for mutant, answer in pairs if answer.status == "none"),
        survivors,
        tuple(_missing(policy, survivors)),
    )


def _missing(policy: Policy, survivors: Sequence[Survivor]) -> list[Missing]:
    """Tests that kill all survivors that can be told apart, as few as come of choosing the one that kills most each time."""
    known = [survivor for survivor in survivors if survivor.proved]
    witnesses = Witnesses(policy)
    shown = [_witness(policy, survivor, witnesses) for survivor in known]
    table = [{number for number, other in enumerate(known) if _tells(one, other.mutant.policy)} for one in shown]
    left, chosen = set(range(len(known))), list[Missing]()
    names = {test.name for test in policy.tests}
    while left:
        best = max(range(len(known)), key=lambda number: (len(table[number] & left), -len(shown[number].given), -number))
        gained = table[best] & left
        if not gained:
            break  # a witness that doesn't kill its own mutant would be a fault; the others are still given
        name = _named(known[min(gained)].mutant, names)
        names.add(name)
        chosen.append(Missing(name, shown[best].test(name), len(gained)))
        left -= gained
    return chosen


def _witness(policy: Policy, survivor: Survivor, witnesses: Witnesses) -> Witness:
    """The request of a survivor with no more in it than tells the mutant apart."""

    def tells(values: Mapping[str, Value]) -> bool:
        return _stated(decide(policy, values)) != _stated(decide(survivor.mutant.policy, values))

    return witnesses.of(survivor.values, tells)


def _tells(one: Witness, mutant: Policy) -> bool:
    """Whether the test of a witness fails on a mutant: another rule or another chain."""
    found = decide(mutant, one.values)
    return _stated(found) != _stated(one.decision)


def _stated(decision: Decision) -> tuple[object, ...]:
    return (decision.rule, decision.chain)


def _named(mutant: Mutant, taken: set[str]) -> str:
    """What the test protects: `long_thread: tokens > long, not tokens >= long`."""
    text = _PROTECTS.get(mutant.operator, "{of}: {before}, not {after}")
    text = text.format(of=mutant.of.removeprefix("rule "), before=mutant.before, after=mutant.after).replace('"', "'")
    text = text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 3] + "..."
    number, name = 1, text
    while name in taken:
        number += 1
        name = f"{text} ({number})"
    return name


_PROTECTS = {"deleted rule": "{of} is needed", "swapped rules": "{before}", "dropped forbid": "{before}"}
