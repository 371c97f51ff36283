"""Questions answered by z3. Import this module only where z3 is there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from policyroute.analysis.shrink import shrunk
from policyroute.analysis.solver import NONE, SOME, UNKNOWN, Answer
from policyroute.backends.smt import Terms
from policyroute.language.policy import Expression, Policy, Value
from policyroute.language.reference import evaluate
from policyroute.signals.implications import implications

QUERY = 5_000  # milliseconds that one question may take; z3 keeps to it only roughly


@dataclass(frozen=True, slots=True)
class Left:
    """The requests that none of some rules matches: their variable, and a number that is equal where the rules are, in any order."""

    key: int
    variable: Any


class Proofs:
    """A solver of one policy. Rules are defined once; each question is a set of assumptions, so that what was learnt stays."""

    def __init__(self, policy: Policy, within: int = QUERY) -> None:
        self.policy = policy
        self.terms = Terms(policy)
        self.solver = z3.SolverFor("QF_LIA", ctx=self.terms.context)
        self.solver.set("timeout", within)
        self.solver.set("random_seed", 0)
        self.all = Left(0, z3.BoolVal(True, self.terms.context))
        self.axioms = implications(policy)
        self._served = [number for number, rule in enumerate(policy.rules) if not rule.shadow]
        self._matches: dict[Expression, Any] = {}
        self._not: dict[int, Any] = {}
        self._lefts: dict[int, Left] = {}
        self._takes: dict[tuple[int, str], Any] = {}
        self._prefix = [self.all]  # at n: what the first n served rules leave
        for axiom in self.axioms:
            self.solver.add(self.terms.condition(axiom))

    def ask(self, wanted: Expression, passing: Sequence[int] = (), *, minimal: bool = True) -> Answer:
        """See `Solver.ask`."""
        found, values = self._check(self.terms.condition(wanted), self._assumed(passing), minimal, passing)
        if found == z3.sat:
            return Answer("some", self._small(wanted, passing, values)) if minimal else SOME
        if found != z3.unsat:
            return UNKNOWN
        return Answer("none", core=values) if minimal else NONE

    def ask_taken(self, wanted: Expression, takers: Sequence[int]) -> Answer:
        """See `Solver.ask_taken`."""
        if not takers:
            return NONE
        taken = z3.Or(*(self.takes(self._after(self._served.index(number)), number) for number in takers))
        found, _ = self._check(z3.And(self.terms.condition(wanted), taken), [], False, ())
        return SOME if found == z3.sat else NONE if found == z3.unsat else UNKNOWN

    def _check(self, term: Any, assumed: Sequence[Any], minimal: bool, passing: Sequence[int]) -> tuple[Any, Any]:
        """z3's answer, and where wanted what it is for: the values of "sat", the core of "unsat"."""
        self.settle()
        self.solver.push()
        self.solver.add(term)
        try:
            found = self.solver.check(*assumed)
            if not minimal or found == z3.unknown:
                return found, None
            return found, self.terms.values(self.solver.model()) if found == z3.sat else self._core(passing)
        finally:
            self.solver.pop()

    def possible(self, values: Mapping[str, Value]) -> bool:
        """Whether texts can be as the matches in `values` say."""
        return all(evaluate(axiom, values) for axiom in self.axioms)

    # -- rules -----------------------------------------------------------------------------------------------------------

    def matches(self, number: int) -> Any:
        """The variable that says whether rule `number`'s condition holds; equal conditions have one."""
        condition = self.policy.rules[number].condition
        if condition not in self._matches:
            variable = z3.Bool(f"condition {len(self._matches)}", self.terms.context)
            self._matches[condition] = variable
            self.solver.add(variable == self.terms.condition(condition))
        return self._matches[condition]

    def left(self, before: Left, number: int) -> Left:
        """What is left of `before` when rule `number` has been tried."""
        matches = self.matches(number)
        key = before.key + int.from_bytes(hashlib.sha256(str(matches).encode()).digest(), "big")
        if key not in self._lefts:
            variable = z3.Bool(f"left {len(self._lefts)}", self.terms.context)
            self.solver.add(variable == z3.And(before.variable, self._passes(number)))
            self._lefts[key] = Left(key, variable)
        return self._lefts[key]

    def takes(self, before: Left, number: int) -> Any:
        """The variable that says that rule `number` takes the request, of those that are in `before`."""
        matches = self.matches(number)
        key = (before.key, str(matches))
        if key not in self._takes:
            self._takes[key] = z3.Bool(f"taken {len(self._takes)}", self.terms.context)
            self.solver.add(self._takes[key] == z3.And(before.variable, matches))
        return self._takes[key]

    def _after(self, count: int) -> Left:
        """What the first `count` served rules leave."""
        while len(self._prefix) <= count:
            self._prefix.append(self.left(self._prefix[-1], self._served[len(self._prefix) - 1]))
        return self._prefix[count]

    def _assumed(self, passing: Sequence[int]) -> list[Any]:
        """What has to be true for none of the rules to match: one variable for those that the policy begins with, one each for the rest."""
        first = next(
            (n for n, (a, b) in enumerate(zip(passing, self._served, strict=False)) if a != b), min(len(passing), len(self._served))
        )
        return [self._after(first).variable, *(self._passes(number) for number in passing[first:])]

    def _passes(self, number: int) -> Any:
        if number not in self._not:
            self._not[number] = z3.Not(self.matches(number))
        return self._not[number]

    def settle(self) -> None:
        """Assert the bounds of new variables for good: pushed with a question, they would go with it."""
        self.solver.add(*self.terms.bounds)
        self.terms.bounds.clear()

    def _small(self, wanted: Expression, passing: Sequence[int], values: Mapping[str, Value]) -> Mapping[str, Value]:
        conditions = [self.policy.rules[number].condition for number in passing]

        def holds(tried: Mapping[str, Value]) -> bool:
            if not evaluate(wanted, tried) or not self.possible(tried):
                return False
            taker = next((place for place, condition in enumerate(conditions) if evaluate(condition, tried)), None)
            if taker:
                conditions.insert(0, conditions.pop(taker))  # what took the last one may well take the next
            return taker is None

        return shrunk(self.policy, values, holds) if holds(values) else values

    def _core(self, passing: Sequence[int]) -> tuple[int, ...]:
        """A set of passing rules that is needed for "none": z3's own, then each left out in turn."""
        if not passing:
            return ()
        literals = {self._passes(number): number for number in passing}
        if self.solver.check(*literals) != z3.unsat:
            return tuple(passing)
        core = sorted(literals[literal] for literal in self.solver.unsat_core())
        for number in reversed(core):
            rest = [other for other in core if other != number]
            if self.solver.check(*[self._passes(other) for other in rest]) == z3.unsat:
                core = rest
        return tuple(core)
