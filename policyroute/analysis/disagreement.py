"""Where two policies disagree, by z3. Import this module only where z3 is there; `equivalence` does so in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import z3

from policyroute.analysis.merged import Merged, merged
from policyroute.analysis.outcomes import different
from policyroute.analysis.shrink import shrunk
from policyroute.analysis.smt import Proofs
from policyroute.language.decision import Decision
from policyroute.language.policy import FALSE, TRUE, Expression, KeyType, Policy, Value
from policyroute.language.reference import decide

KEYS = 3_000  # keys that are tried until one is drawn to arms that differ


@dataclass(frozen=True, slots=True)
class Difference:
    """Requests that rule `old` takes under the old policy and rule `new` under the new one, and that are sent different ways.

    `values` is one of them, `after` the same request as the new policy sees it; both decisions were made by the reference.
    """

    old: int
    new: int
    values: Mapping[str, Value]
    after: Mapping[str, Value]
    before_decision: Decision
    after_decision: Decision


@dataclass(frozen=True, slots=True)
class Comparison:
    """`differences`: one for each pair of rules that disagree, as far as they were found. `complete`: there are no other ones, so
    none at all is a proof. `apart`: signals that the two declare differently, so that each was given a value of its own."""

    differences: tuple[Difference, ...]
    complete: bool
    apart: tuple[str, ...] = ()


def compare(old: Policy, new: Policy, *, named: bool = False, most: int = 200, within: int = 5_000) -> Comparison:
    """Compare two policies over every possible request, for at most `most` pairs of rules; `within` is each question's milliseconds.

    With `named`, requests that are sent the same way by a rule of another name count as different, and a refusal's words don't: what a
    test can tell apart.
    """
    both = merged(old, new)
    found: list[Difference] = []
    search = _Search(both, named, within)
    for difference in search:
        found.append(difference)
        if len(found) == most:
            return Comparison(tuple(found), False, both.apart)
    return Comparison(tuple(found), search.complete, both.apart)


class _Search:
    def __init__(self, both: Merged, named: bool, within: int) -> None:
        self.both, self.named = both, named
        self.proofs = Proofs(both.policy, within)
        self.complete = False

    def __iter__(self) -> Iterator[Difference]:
        solver = self.proofs.solver
        middle = self.both.middle
        old, new = self._takes(0, middle), self._takes(middle, len(self.both.policy.rules))
        disagree = self._disagreement(old, new)
        self.proofs.settle()
        solver.add(disagree)
        while (found := solver.check()) == z3.sat:
            model = solver.model()
            here, there = (self._taker(model, takers) for takers in (old, new))
            difference = self._shown(here, there, self.proofs.terms.values(model))
            if difference is None:
                return  # the draw of keys that were tried shows no difference: not proved either
            yield difference
            solver.add(z3.Not(z3.And(old[here], new[there])))
        self.complete = found == z3.unsat

    def _takes(self, start: int, stop: int) -> dict[int, Any]:
        """For each served rule of one policy, the variable that says that it takes the request."""
        found: dict[int, Any] = {}
        left = self.proofs.all
        for number in range(start, stop):
            if not self.both.policy.rules[number].shadow:
                found[number] = self.proofs.takes(left, number)
                left = self.proofs.left(left, number)
        return found

    def _disagreement(self, old: Mapping[int, Any], new: Mapping[int, Any]) -> Any:
        """Some rule of the old and some of the new policy take the request, and send it different ways. Rules that send alike are one.

        What a rule of both takes from the same requests, and sends the same way, is left out: none of it can disagree.
        """
        takers = {variable.get_id(): number for number, variable in new.items()}
        pairs = ((here, takers[variable.get_id()]) for here, variable in old.items() if variable.get_id() in takers)
        agreed = {(here, there) for here, there in pairs if self._differs(here, there) == FALSE}
        left = {number: variable for number, variable in old.items() if number not in {here for here, _ in agreed}}
        right = {number: variable for number, variable in new.items() if number not in {there for _, there in agreed}}
        found = []
        for (first, here), (second, there) in product(self._alike(left), self._alike(right)):
            differs = self._differs(first, second)
            if differs != FALSE:
                found.append(z3.And(z3.Or(*here), z3.Or(*there), self.proofs.terms.condition(differs)))
        return z3.Or(*found) if found else z3.BoolVal(False, self.proofs.terms.context)

    def _differs(self, here: int, there: int) -> Expression:
        first, second = self.both.policy.rules[here], self.both.policy.rules[there]
        return (
            TRUE
            if self.named and first.name != second.name
            else different(self.both.old, first, self.both.new, second, not self.named)
        )

    def _alike(self, takers: Mapping[int, Any]) -> list[tuple[int, list[Any]]]:
        """Rules that send requests the same way, as one of them and all their variables. A split is like nothing but itself."""
        groups: dict[object, tuple[int, list[Any]]] = {}
        for number, variable in takers.items():
            rule = self.both.policy.rules[number]
            drawn = len(rule.routes) > 1 or self.named
            groups.setdefault((rule.name if drawn else "", rule.target), (number, []))[1].append(variable)
        return list(groups.values())

    def _taker(self, model: Any, takers: Mapping[int, Any]) -> int:
        return next(number for number, variable in takers.items() if z3.is_true(model.eval(variable, model_completion=True)))

    def _shown(self, here: int, there: int, values: Mapping[str, Value]) -> Difference | None:
        """The difference with a small request, decided by the reference under both policies; None where no key shows it."""
        both = self.both
        rules = both.policy.rules[here], both.policy.rules[there]

        def decided(tried: Mapping[str, Value]) -> tuple[Decision, Decision]:
            return decide(both.old.policy, both.values(tried, both.old)), decide(both.new.policy, both.values(tried, both.new))

        def holds(tried: Mapping[str, Value]) -> bool:
            one, other = decided(tried)
            same_pair = one.rule == rules[0].name and other.rule == rules[1].name
            return same_pair and self._differ(one, other) and self.proofs.possible(tried)

        for tried in _keyed(both.policy, values):
            if holds(tried):
                small = shrunk(both.policy, tried, holds)
                one, other = decided(small)
                return Difference(
                    here, there - both.middle, both.values(small, both.old), both.values(small, both.new), one, other
                )  # fmt: skip
        return None

    def _differ(self, one: Decision, other: Decision) -> bool:
        if self.named:
            return (one.rule, one.chain) != (other.rule, other.chain)
        return (one.chain, one.refused, one.explored) != (other.chain, other.refused, other.explored) or not self._same_calls(one)

    def _same_calls(self, one: Decision) -> bool:
        old, new = self.both.old.policy.models, self.both.new.policy.models
        return all((old[m].id, old[m].provider, old[m].url) == (new[m].id, new[m].provider, new[m].url) for m in one.chain)


def _keyed(policy: Policy, values: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
    """The request without keys, then with one key after another, until the hash draws what is looked for."""
    plain = dict(values)
    keys = [name for name, signal in policy.signals.items() if isinstance(signal.type, KeyType)]
    yield plain
    for number in range(KEYS):
        yield plain | dict.fromkeys(keys, f"u{number}")
