"""With which probability a policy's first choice is each of its models, as SQL over the signals of a request.

A rule is settled by the signals; chance comes in by `split` and `explore`, over the keys that a request might have had. The
hash draws for both with separate salts, so the two are independent: the probability of model X is the sum over the arms of
the request's rule of `share x ((1 - e) [X is the arm's first usable model] + e [X is another usable one] / others)`.
Without others nothing is explored. A request without a key takes the first arm, and `explore` leaves it alone.

Probabilities are whole numbers over one denominator per policy, so that they add up exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import lcm

from policyroute.backends.sql import NOBODY, RULE, STUCK, Query, Step, expression, quoted
from policyroute.language.decision import PARTS
from policyroute.language.limits import reachable
from policyroute.language.policy import REQUESTED, TRUE, Chain, Expression, Policy, Split

TARGET = '"$target"'
FINEST = 10**10  # beyond this many parts, an explored model's share is rounded down: the whole has to fit 63 bits


class Probabilities(Query):
    """The decision's probabilities as steps of SELECTs: `over(relation)` adds RULE and TARGET.

    TARGET is a BIGINT list: for each model of the policy, in its order, the probability in parts of `denominator`. It adds
    up to less where the request may be refused or find no model, and is NULL where a signal that it depends on is unknown.
    `unknown` names the signals that may be NULL in the relation. The probabilities are exact for chains of up to 25 models;
    in longer ones a share that `explore` gives is short by less than 10^-14.
    """

    def __init__(self, policy: Policy, *, unknown: Collection[str] = ()) -> None:
        super().__init__(policy, unknown=unknown, full=False)
        self.parts = _parts(policy) if policy.explore else 1
        self.denominator = PARTS * (PARTS * self.parts if policy.explore else 1)
        self.arms = max(1, *(len(rule.routes) for rule in policy.rules if not rule.shadow))

    def steps(self) -> list[Step]:
        """The rule; each arm's share, first model and usable models; the probabilities."""
        arms: dict[str, str] = {}
        for arm in range(self.arms):
            arms[_share(arm)] = self._share_of(arm)
            arms[_first(arm)] = self._arm_of(arm, self._first_model)
            if self.policy.explore:
                arms[_usable(arm)] = self._arm_of(arm, self._usable_models)
        counted = {_count(arm): f"list_sum({_usable(arm)})" for arm in range(self.arms)} if self.policy.explore else {}
        steps = [Step({RULE: self._rule()}), Step(arms), *([Step(counted)] if counted else [])]
        return [*steps, Step({TARGET: self._target()})]

    def model(self, number: str) -> str:
        """The probability, in parts of `denominator`, of the model whose number in the policy the SQL `number` gives."""
        inside = f"{number} BETWEEN 0 AND {len(self.policy.models) - 1}"
        return f"CASE WHEN {TARGET} IS NULL THEN NULL WHEN {inside} THEN {TARGET}[1 + {number}] ELSE 0 END"

    def total(self) -> str:
        """The probability, in parts of `denominator`, that any model is called."""
        return f"CAST(list_sum({TARGET}) AS BIGINT)"

    # -- arms ----------------------------------------------------------------------------------------------------------

    def _share_of(self, arm: int) -> str:
        """The arm's share in parts of 10,000; 0 where the rule has no such arm, NULL where the key is unknown."""
        whens: list[str] = []
        for number, rule in enumerate(self.policy.rules):
            if rule.shadow or arm >= len(rule.routes):
                continue
            if not isinstance(rule.target, Split):
                whens.append(f"WHEN {number} THEN {PARTS}")
                continue
            key = quoted(rule.target.key)
            without, share = PARTS if arm == 0 else 0, rule.target.arms[arm].share
            whens.append(f"WHEN {number} THEN CASE WHEN {key} = '' THEN {without} WHEN {key} <> '' THEN {share} END")
        return f"CAST(CASE {RULE} {' '.join(whens)} ELSE 0 END AS BIGINT)" if whens else "CAST(0 AS BIGINT)"

    def _arm_of(self, arm: int, of: Callable[[Chain], str]) -> str:
        """One expression that asks `of` for the chain of this arm of the row's rule. Equal chains are asked once."""
        places: dict[Chain, list[str]] = {}
        for number, rule in enumerate(self.policy.rules):
            if not rule.shadow and arm < len(rule.routes):
                places.setdefault(rule.routes[arm].chain, []).append(str(number))
        whens = [f"WHEN {RULE} IN ({', '.join(numbers)}) THEN {of(chain)}" for chain, numbers in places.items()]
        return f"CASE {' '.join(whens)} ELSE {of(())} END" if whens else of(())

    def _usable_models(self, chain: Chain) -> str:
        """For each of the policy's models: 1 where it is in the chain that is left, else 0; NULL where a limit is unknown."""
        conditions: dict[str, list[Expression]] = {name: [] for name in self.policy.models}
        for name, condition in self._usable(chain):
            conditions[name].append(condition)
        return f"CAST([{', '.join(_flag(found) for found in conditions.values())}] AS BIGINT[])"

    # -- the probabilities ---------------------------------------------------------------------------------------------

    def _target(self) -> str:
        arms = range(self.arms)
        stuck = [f"({_share(arm)} > 0 AND {_first(arm)} = {STUCK})" for arm in arms]
        unclear = [f"{RULE} < 0", *(f"{_share(arm)} IS NULL" for arm in arms), *stuck]
        unclear += [f"({_share(arm)} > 0 AND {self._explored_without_knowing(arm)})" for arm in arms if self.policy.explore]
        models = [" + ".join(self._part(arm, number) for arm in arms) for number in range(len(self.policy.models))]
        return f"CASE WHEN {' OR '.join(unclear)} THEN NULL ELSE CAST([{', '.join(models)}] AS BIGINT[]) END"

    def _explored_without_knowing(self, arm: int) -> str:
        """`explore` may act on the arm, and the key or a model of the chain that is left is unknown.

        `list_sum` leaves NULL out, so the unknown is looked for in the list itself.
        """
        assert self.policy.explore is not None
        key = quoted(self.policy.explore.key)
        open_ = f"list_count({_usable(arm)}) < {len(self.policy.models)}"
        return f"(({key} IS NULL AND coalesce({_count(arm)} > 1, TRUE)) OR ({key} <> '' AND {open_}))"

    def _part(self, arm: int, model: int) -> str:
        """What this arm adds to the probability of a model."""
        share, first = _share(arm), f"{_first(arm)} = {model}"
        plain = f"CASE WHEN {share} > 0 AND {first} THEN {share} ELSE 0 END"
        if self.policy.explore is None:
            return plain
        explored, whole = self.policy.explore.share, PARTS * self.parts
        key = f"coalesce({quoted(self.policy.explore.key)}, '')"
        return (
            f"CASE WHEN {share} = 0 OR {_first(arm)} = {NOBODY} THEN 0"
            f" WHEN {key} = '' OR {_count(arm)} = 1 THEN {plain} * {whole}"
            f" WHEN {first} THEN {share} * {(PARTS - explored) * self.parts}"
            f" WHEN {_usable(arm)}[{1 + model}] = 1 THEN {share} * ({explored * self.parts} // ({_count(arm)} - 1)) ELSE 0 END"
        )


def _parts(policy: Policy) -> int:
    """A number that every possible count of other models divides, unless it would be too large."""
    chains = [route.chain for rule in policy.rules if not rule.shadow for route in rule.routes]
    longest = max((len(reachable(policy)) if REQUESTED in chain else len(chain) for chain in chains), default=1)
    whole = lcm(*range(1, max(longest, 2)))
    return whole if whole <= FINEST else FINEST


def _flag(conditions: list[Expression]) -> str:
    if not conditions:
        return "0"
    if TRUE in conditions:
        return "1"
    return f"CASE WHEN {' OR '.join(expression(condition) for condition in conditions)} THEN 1 WHEN {_unknown(conditions)} THEN NULL ELSE 0 END"


def _unknown(conditions: list[Expression]) -> str:
    return f"({' OR '.join(expression(condition) for condition in conditions)}) IS NULL"


def _share(arm: int) -> str:
    return quoted(f"$share {arm}")


def _first(arm: int) -> str:
    return quoted(f"$first {arm}")


def _usable(arm: int) -> str:
    return quoted(f"$usable {arm}")


def _count(arm: int) -> str:
    return quoted(f"$count {arm}")
