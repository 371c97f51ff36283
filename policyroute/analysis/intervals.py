"""Questions answered without z3: a search over intervals and sets of members, that gives up where it would take long.

"none" is sure: every branch of the search ended in an empty interval or set. "some" is sure: its values were evaluated. Sums of
several signals are only bounded; where that settles nothing, and nearby values don't satisfy them either, the answer is "unknown".
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policyroute.analysis.conditions import before, both, opposite
from policyroute.analysis.constraints import All, Among, AtMost, Constraint, Some, constraint, flattened
from policyroute.analysis.shrink import shrunk
from policyroute.analysis.solver import NONE, UNKNOWN, Answer
from policyroute.language.policy import BoolType, Expression, IntType, Policy, TextType, Value
from policyroute.language.reference import evaluate
from policyroute.signals.implications import implications
from policyroute.signals.members import members

STEPS = 4_000  # branches that are tried for one question
SECONDS = 30.0  # for all questions, unless said otherwise
ROUNDS = 8  # of narrowing the bounds of sums

Range = tuple[int, int]
Box = Mapping[str, Range | frozenset[Value]]  # what each signal may still be; one that is absent may be anything


class Intervals:
    """A `Solver` that needs nothing but this module. When `seconds` are over, every answer is "unknown"."""

    def __init__(self, policy: Policy, seconds: float = SECONDS) -> None:
        self.policy = policy
        self.axioms = implications(policy)
        self._over = time.monotonic() + seconds
        self._known: dict[int, Constraint] = {}

    def ask(self, wanted: Expression, passing: Sequence[int] = (), *, minimal: bool = True) -> Answer:
        """See `Solver.ask`."""
        if time.monotonic() > self._over:
            return UNKNOWN
        search = self._search(wanted, passing)
        found = search.run()
        if found is not None:
            return Answer("some", shrunk(self.policy, found, search.holds) if minimal else found)
        if not search.complete:
            return UNKNOWN
        return Answer("none", core=self._core(wanted, passing)) if minimal else NONE

    def ask_taken(self, wanted: Expression, takers: Sequence[int]) -> Answer:
        """See `Solver.ask_taken`: one taker after the other."""
        unknown = False
        for number in takers if time.monotonic() < self._over else ():
            found = self.ask(both(self.policy.rules[number].condition, wanted), before(self.policy, number), minimal=False)
            if found.status == "some":
                return found
            unknown = unknown or found.status == "unknown"
        return UNKNOWN if unknown or time.monotonic() > self._over else NONE

    def _search(self, wanted: Expression, passing: Sequence[int]) -> _Search:
        conditions = [wanted, *(opposite(self.policy.rules[number].condition) for number in passing), *self.axioms]
        known = [constraint(wanted), *map(self._passes, passing), *map(constraint, self.axioms)]
        return _Search(self.policy, conditions, known, self._over)

    def _passes(self, number: int) -> Constraint:
        """That rule `number` doesn't match; made once."""
        if number not in self._known:
            self._known[number] = constraint(self.policy.rules[number].condition, False)
        return self._known[number]

    def _core(self, wanted: Expression, passing: Sequence[int]) -> tuple[int, ...]:
        """Passing rules that are needed for "none": each left out in turn, as long as the rest is still enough for a proof."""
        core = list(passing)
        for number in passing[::-1]:
            rest = [other for other in core if other != number]
            search = self._search(wanted, rest)
            if search.run() is None and search.complete:
                core = rest
        return tuple(core)


@dataclass(frozen=True, slots=True)
class _Open:
    """A branch of the search: what is narrowed so far, sums that hold, and alternatives that are not chosen yet."""

    box: Box
    sums: tuple[AtMost, ...]
    choices: tuple[Some, ...]


class _Search:
    def __init__(self, policy: Policy, conditions: Sequence[Expression], known: Sequence[Constraint], over: float) -> None:
        self.policy, self.conditions, self.known = policy, conditions, known
        self.complete = time.monotonic() < over  # whether nothing was left undecided
        self._steps, self._over = 0, over

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Whether all conditions hold for a request."""
        return all(evaluate(condition, values) for condition in self.conditions)

    def run(self) -> dict[str, Value] | None:
        """Values for which all conditions hold, or None where none were found."""
        if not self.complete:
            return None
        start = self._narrowed(_Open({}, (), ()), self.known)
        stack = [start] if start else []
        while stack:
            self._steps += 1
            if self._steps > STEPS or time.monotonic() > self._over:
                self.complete = False
                return None
            branch = stack.pop()
            if not branch.choices:
                found = self._values(branch)
                if found is not None:
                    return found
                self.complete = False  # bounds leave room, and the values that were tried don't do
                continue
            choice = min(branch.choices, key=lambda some: len(some.parts))
            rest = _Open(branch.box, branch.sums, tuple(other for other in branch.choices if other is not choice))
            stack += [after for part in choice.parts[::-1] if (after := self._narrowed(rest, [part]))]
        return None

    def _narrowed(self, branch: _Open, constraints: Sequence[Constraint]) -> _Open | None:
        """The branch with more constraints; None where nothing is left of it. Alternatives with one way out are taken at once."""
        box, sums, choices = dict(branch.box), list(branch.sums), list(branch.choices)
        todo = list(flattened(constraints))
        while todo:
            for part in todo:
                if isinstance(part, AtMost):
                    sums.append(part)
                elif isinstance(part, Among):
                    box[part.signal] = self._among(box, part)
                elif isinstance(part, Some):
                    choices.append(part)
            if not all(box.values()) or not self._bounded(box, sums):
                return None
            left = [_reduced(choice, box, self) for choice in choices]
            if any(choice is not None and not choice.parts for choice in left):
                return None
            todo = [*flattened([choice.parts[0] for choice in left if choice and len(choice.parts) == 1])]
            choices = [choice for choice in left if choice and len(choice.parts) > 1]
        return _Open(box, tuple(dict.fromkeys(sums)), tuple(choices))

    def domain(self, box: Box, name: str) -> Range | frozenset[Value]:
        """What a signal may still be."""
        if name in box:
            return box[name]
        match self.policy.signals[name].type:
            case IntType(low, high):
                return low, high
            case BoolType():
                return frozenset((True, False))
        return frozenset(members(self.policy.signals[name]))

    def _among(self, box: Box, part: Among) -> frozenset[Value]:
        there = self.domain(box, part.signal)
        assert isinstance(there, frozenset)
        return there - part.members if part.out else there & part.members

    def _bounded(self, box: dict[str, Range | frozenset[Value]], sums: Sequence[AtMost]) -> bool:
        """Narrow the ranges by the sums; False where one can't hold."""
        for _ in range(ROUNDS):
            changed = False
            for one in sums:
                ranges = {name: self._range(box, name) for name, _ in one.factors}
                least = {name: factor * ranges[name][factor < 0] for name, factor in one.factors}
                slack = -one.constant - sum(least.values())
                if slack < 0:
                    return False
                for name, factor in one.factors:
                    low, high = ranges[name]
                    room = slack // abs(factor)
                    new = (low, min(high, low + room)) if factor > 0 else (max(low, high - room), high)
                    changed = changed or new != (low, high)
                    box[name] = new
            if not changed:
                break
        return True

    def _range(self, box: Box, name: str) -> Range:
        there = self.domain(box, name)
        assert isinstance(there, tuple)
        return there

    def _values(self, branch: _Open) -> dict[str, Value] | None:
        """A request of the branch: defaults as far as they lie in it, else the ends of the ranges."""
        for end in (None, 0, 1):
            found = {
                name: self._chosen(branch.box, name, end)
                for name, signal in self.policy.signals.items()
                if not isinstance(signal.type, TextType)
            }
            if self.holds(found):
                return found
        return None

    def _chosen(self, box: Box, name: str, end: int | None) -> Value:
        default = self.policy.signals[name].default
        there = box.get(name)
        if isinstance(there, tuple):
            return min(max(int(default), there[0]), there[1]) if end is None else there[end]
        return default if there is None or default in there else min(there, key=str)

    def settled(self, box: Box, part: Constraint) -> bool | None:
        """Whether a constraint holds for all that is left (True), for none of it (False), or for some (None)."""
        match part:
            case All(parts):
                each = [self.settled(box, one) for one in parts]
                return False if False in each else None if None in each else True
            case Some(parts):
                each = [self.settled(box, one) for one in parts]
                return True if True in each else None if None in each else False
            case Among(signal, members, out):
                there = self.domain(box, signal)
                assert isinstance(there, frozenset)
                inside = there & members
                return (not out) if inside == there else out if not inside else None
            case AtMost(factors, constant):
                ends = [(factor * self._range(box, name)[0], factor * self._range(box, name)[1]) for name, factor in factors]
                least, most = (constant + sum(pick(pair) for pair in ends) for pick in (min, max))
                return True if most <= 0 else False if least > 0 else None


def _reduced(choice: Some, box: Box, search: _Search) -> Some | None:
    """The alternatives that are still open; None where one of them holds anyway."""
    left = []
    for part in choice.parts:
        settled = search.settled(box, part)
        if settled:
            return None
        if settled is None:
            left.append(part)
    return Some(tuple(left))
