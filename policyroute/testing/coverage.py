"""What the tests of a policy have shown of it: rules that were reached, and the atoms of conditions, both ways.

An atom is a test inside a condition that `and`, `or` and `not` join: `plan is pro`, `tokens > 3k`. A request shows it as true or as
false in every rule that is tried, which is each down to the one that takes the request. It *matters* there if the condition
would have come out the other way with this atom alone turned around (that is modified condition/decision coverage, as
DO-178C asks for it, with each atom counted once where a condition repeats it). An atom is covered when it mattered as true and
mattered as false.

A goal is a served rule to be reached, or an atom to be covered. The share of goals that are met is a policy's coverage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal as OneOf

from policyroute.language.diagnostics import Diagnostic, Severity
from policyroute.language.policy import Apply, Expression, Literal, Policy, Rule, Value
from policyroute.language.reference import evaluate
from policyroute.language.source import Span
from policyroute.language.wording import written

Seen = OneOf["never", "seen", "mattered"]
_JOINS = ("and", "or", "not")
_BETTER: Mapping[Seen, int] = {"never": 0, "seen": 1, "mattered": 2}


@dataclass(frozen=True, slots=True)
class Atom:
    """A test inside a rule's condition, and how it was seen as true and as false. `span` is where it stands in the policy."""

    text: str
    true: Seen
    false: Seen
    span: Span = Span.NONE

    @property
    def covered(self) -> bool:
        """Whether both ways were seen where they decide."""
        return self.true == self.false == "mattered"

    @property
    def missing(self) -> tuple[str, ...]:
        """What tests have not shown: `never false`, or `never false while it matters` where it was false to no effect."""
        ways: tuple[tuple[str, Seen], ...] = (("true", self.true), ("false", self.false))
        return tuple(f"never {way}{' while it matters' if seen == 'seen' else ''}" for way, seen in ways if seen != "mattered")


@dataclass(frozen=True, slots=True)
class RuleCoverage:
    """One rule: the tests whose requests it took (by name, in order), and the atoms of its condition."""

    rule: str
    shadow: bool
    tests: tuple[str, ...]
    atoms: tuple[Atom, ...]
    span: Span = Span.NONE

    @property
    def goals(self) -> int:
        """Goals of this rule; a shadow rule takes no request, so it has none but its atoms."""
        return len(self.atoms) + (not self.shadow)

    @property
    def met(self) -> int:
        """Goals that the tests have met."""
        return sum(atom.covered for atom in self.atoms) + (bool(self.tests) and not self.shadow)


@dataclass(frozen=True, slots=True)
class Coverage:
    """The coverage of a policy's rules, in their order."""

    rules: tuple[RuleCoverage, ...]

    @property
    def goals(self) -> int:
        """All goals; at least one, as every policy has an `otherwise`."""
        return sum(rule.goals for rule in self.rules)

    @property
    def met(self) -> int:
        """Goals that the tests have met."""
        return sum(rule.met for rule in self.rules)

    @property
    def tenths(self) -> int:
        """The share of goals met, in tenths of a percent, rounded down: 1000 only where all of them are."""
        return 1_000 * self.met // max(self.goals, 1)


def measure(policy: Policy, requests: Iterable[tuple[str, Mapping[str, Value]]]) -> Coverage:
    """The coverage that requests give, each with the name of its test and a value for every signal."""
    counts = [_Counted(rule) for rule in policy.rules]
    for test, values in requests:
        for counted in counts:
            if counted.sees(values) and not counted.rule.shadow:
                counted.tests.setdefault(test)
                break
    return Coverage(tuple(counted.coverage() for counted in counts))


def untested(policy: Policy, reached: Collection[str]) -> tuple[Diagnostic, ...]:
    """A finding for each served rule that no test expects and none reaches (`reached` names those that took a test's request)."""
    tested = {expect.rule for test in policy.tests for _, expect in test.steps}.union(reached)
    return tuple(
        Diagnostic(
            "untested-rule",
            f"no test reaches rule `{rule.name}`",
            rule.span,
            f'add one whose request it takes: `test "..." {{ given ...  expect {rule.name} }}`',
            severity=Severity.WARNING,
        )
        for rule in policy.rules
        if not rule.shadow and rule.name not in tested
    )


def atoms(condition: Expression) -> Iterator[Expression]:
    """The atoms of a condition in order, repeated where they are."""
    match condition:
        case Apply(operator, arguments) if operator in _JOINS:
            for argument in arguments:
                yield from atoms(argument)
        case Literal():
            return
        case _:
            yield condition


class _Counted:
    """A rule while requests are counted."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.tests: dict[str, None] = {}
        self.atoms: tuple[Expression, ...] = tuple(dict.fromkeys(atoms(rule.condition)))
        self.numbers = {atom: number for number, atom in enumerate(self.atoms)}
        self.seen: list[dict[bool, Seen]] = [{True: "never", False: "never"} for _ in self.atoms]
        self.outcomes: dict[tuple[bool, ...], bool] = {}  # of what was seen, so that a way is weighed once

    def sees(self, values: Mapping[str, Value]) -> bool:
        """Count a request that is tried here; whether the condition holds for it."""
        vector = tuple([bool(evaluate(atom, values)) for atom in self.atoms])
        if vector not in self.outcomes:
            self.outcomes[vector] = self._holds(self.rule.condition, vector)
            self._weigh(vector)
        return self.outcomes[vector]

    def coverage(self) -> RuleCoverage:
        """What was counted."""
        found = (Atom(written(atom), seen[True], seen[False], atom.span) for atom, seen in zip(self.atoms, self.seen, strict=True))
        return RuleCoverage(self.rule.name, self.rule.shadow, tuple(self.tests), tuple(found), self.rule.span)

    def _weigh(self, vector: tuple[bool, ...]) -> None:
        for number, value in enumerate(vector):
            turned = (*vector[:number], not value, *vector[number + 1 :])
            matters = self._holds(self.rule.condition, turned) != self.outcomes[vector]
            now: Seen = "mattered" if matters else "seen"
            self.seen[number][value] = max(self.seen[number][value], now, key=lambda seen: _BETTER[seen])

    def _holds(self, condition: Expression, vector: Sequence[bool]) -> bool:
        """The condition's value where its atoms have the values of `vector`."""
        match condition:
            case Apply("and", arguments):
                return all(self._holds(argument, vector) for argument in arguments)
            case Apply("or", arguments):
                return any(self._holds(argument, vector) for argument in arguments)
            case Apply("not", (inner,)):
                return not self._holds(inner, vector)
            case Literal(value):
                return bool(value)
            case _:
                return vector[self.numbers[condition]]
