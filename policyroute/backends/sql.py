"""A policy as DuckDB expressions over a relation with one column per signal.

Columns are named as signals (`"prompt has urgent"` too). A column may be NULL where a trace doesn't know the value:
SQL's three-valued logic then carries "unknown" through a condition, and a row whose decision depends on it gets the
number of the place where it got stuck instead of a decision. On rows without NULL there is no third truth value.

The numbers: RULE counts from 0; a row that got stuck at rule n has -1 - n. MODEL counts the policy's models
from 0; NOBODY where no model is left or the rule refuses; STUCK where a limit of the chain is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from policyroute.language.decision import PARTS
from policyroute.language.limits import blocked, reachable, routes
from policyroute.language.policy import (
    FALSE,
    REQUESTED,
    TRUE,
    Apply,
    Chain,
    Expression,
    Literal,
    Policy,
    Read,
    Refuse,
    Route,
    Split,
    reads,
)  # fmt: skip
from policyroute.language.vocabulary import OPERATORS

FEW = 4  # members up to which `in` is written as comparisons
NOBODY = -1
STUCK = -2

# The decision's columns. No signal can be named with a `$`.
RULE, ARM, MODEL, CHAIN, PROPENSITY, EXPLORED = '"$rule"', '"$arm"', '"$model"', '"$chain"', '"$propensity"', '"$explored"'
_LEFT, _FIRST, _OTHERS = '"$left"', '"$first"', '"$others"'


def quoted(name: str) -> str:
    """An identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A constant: whole number, boolean or text. Texts with NUL don't occur in policies or names."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return f"CAST({value} AS BIGINT)"
    return "'" + str(value).replace("'", "''") + "'"


def expression(node: Expression) -> str:
    """A condition or number as SQL, fully parenthesised."""
    match node:
        case Literal(value):
            return literal(value)
        case Read(signal):
            return quoted(signal)
        case Apply("in", (subject, *members)) if len(members) <= FEW:
            # The same as IN, also for NULL, and faster: DuckDB stops at the first that holds.
            return f"({' OR '.join(f'{expression(subject)} = {expression(member)}' for member in members)})"
        case Apply(operator, arguments):
            written = [expression(argument) for argument in arguments]
            template = OPERATORS[operator].sql
            if "{" not in template:
                return f"({template.join(written)})"
            return f"({template.format(*written, rest=', '.join(written[1:]))})"


def draw(parts: Sequence[str], key: str) -> str:
    """`language.decision.draw` of constant parts and the key column, as SQL."""
    salt = literal("\x1f".join(parts) + "\x1f")
    return f"CAST('0x' || left(md5({salt} || {quoted(key)}), 15) AS BIGINT)"


@dataclass(frozen=True)
class Step:
    """Columns that can be computed once the columns before exist: name to SQL."""

    columns: dict[str, str]


class Query:
    """The decision of `policy` as steps of SELECTs.

    `unknown` names the signals that may be NULL in the relation. `full` adds what only a row-by-row output needs:
    CHAIN (model names joined by commas), PROPENSITY, EXPLORED; without it only what money needs is computed.
    """

    def __init__(self, policy: Policy, *, unknown: Collection[str] = (), full: bool = True) -> None:
        self.policy = policy
        self.unknown = frozenset(unknown)
        self.full = full
        self.numbers = {name: number for number, name in enumerate(policy.models)}
        self.limits = {model: blocked(policy, model) for model in reachable(policy)}
        self.routes = routes(policy)

    def over(self, relation: str) -> str:
        """`SELECT *` of `relation` with the decision's columns added."""
        for step in self.steps():
            added = ", ".join(f"{sql} AS {name}" for name, sql in step.columns.items())
            relation = f"(SELECT *, {added} FROM {relation})"
        return f"SELECT * FROM {relation}"

    def steps(self) -> list[Step]:
        """The steps in order; the last one's names are the decision."""
        first = {RULE: self._rule()}
        second = {ARM: self._arm()}
        if not self.policy.explore:
            third = {MODEL: self._per_route(self._first_model)}
            if self.full:
                third |= {CHAIN: self._per_route(self._chain), EXPLORED: "FALSE", PROPENSITY: self._propensity()}
            return [Step(first), Step(second), Step(third)]
        found = {_LEFT: self._per_route(self._chain), _FIRST: self._per_route(self._first_model)}
        counted = {_OTHERS: f"CASE WHEN {_FIRST} < 0 THEN 0 ELSE length({_LEFT}) - length(replace({_LEFT}, ',', '')) END"}
        explored = {EXPLORED: self._explored()}
        return [Step(first), Step(second), Step(found), Step(counted), Step(explored), Step(self._reordered())]

    def alone(self) -> dict[str, str]:
        """Each rule's condition for itself: "matches alone" beside "takes in order"."""
        return {rule.name: expression(rule.condition) for rule in self.policy.rules}

    def shadows(self) -> dict[str, str]:
        """Each shadow rule: whether it would have taken the row, standing above the rule that decides."""
        return {
            rule.name: f"({expression(rule.condition)} AND {RULE} > {number})"
            for number, rule in enumerate(self.policy.rules)
            if rule.shadow
        }

    # -- rule and arm --------------------------------------------------------------------------------------------------

    def _may_be_null(self, node: Expression) -> bool:
        return not self.unknown.isdisjoint(reads(node))

    def _when(self, condition: Expression, taken: int, stuck: int) -> str:
        """A branch of a CASE: `taken` where the condition holds, `stuck` where it is unknown. The rows that go on pay for one test."""
        written = expression(condition)
        if not self._may_be_null(condition):
            return f"WHEN {written} THEN {taken}"
        return f"WHEN {written} IS NOT FALSE THEN CASE WHEN {written} THEN {taken} ELSE {stuck} END"

    def _rule(self) -> str:
        whens: list[str] = []
        for number, rule in enumerate(self.policy.rules):
            if rule.shadow:
                continue
            if rule.condition == TRUE:
                return f"CAST(CASE {' '.join(whens)} ELSE {number} END AS SMALLINT)" if whens else f"CAST({number} AS SMALLINT)"
            whens.append(self._when(rule.condition, number, -1 - number))
        raise AssertionError("a checked policy ends in `otherwise`")

    def _arm(self) -> str:
        whens: list[str] = []
        for number, rule in enumerate(self.policy.rules):
            if isinstance(rule.target, Split) and not rule.shadow:
                key = quoted(rule.target.key)
                drawn = f"CASE WHEN {key} = '' THEN 0 ELSE {draw((self.policy.name, rule.name), rule.target.key)} % {PARTS} END"
                whens.append(f"WHEN {number} THEN {_thresholds(drawn, [arm.share for arm in rule.target.arms])}")
        return f"CAST(CASE {RULE} {' '.join(whens)} ELSE -1 END AS SMALLINT)" if whens else "CAST(-1 AS SMALLINT)"

    # -- chains --------------------------------------------------------------------------------------------------------

    def _per_route(self, of: Callable[[Chain], str]) -> str:
        """One expression that asks `of` for the chain of the route that the row takes. Equal chains are asked once."""
        places: dict[Chain, list[tuple[int, int]]] = {}
        for number, arm, route in self.routes:
            places.setdefault(route.chain, []).append((number, arm))
        whens = [f"WHEN {self._at(taken)} THEN {of(chain)}" for chain, taken in places.items()]
        return f"CASE {' '.join(whens)} ELSE {of(())} END" if whens else of(())

    def names(self, of: Callable[[Route], Chain]) -> str:
        """Usable models of the chain that `of` gives for the row's route, joined by commas; NULL where a limit is unknown."""
        return self._by_place({(number, arm): self._chain(of(route)) for number, arm, route in self.routes}, "''")

    def tiers(self) -> str:
        """The name of the row's tier, or its chain joined by commas; NULL where the rule refuses."""
        return self._by_place({(n, arm): literal(route.tier or ",".join(route.chain)) for n, arm, route in self.routes}, "NULL")

    def by_route(self, of: Callable[[Route], str], otherwise: str) -> str:
        """One expression for the row's route, `otherwise` where the rule refuses."""
        return self._by_place({(number, arm): of(route) for number, arm, route in self.routes}, otherwise)

    def first_model(self, chain: Chain) -> str:
        """The number of the first usable model of any chain; NOBODY, or STUCK where a limit is unknown."""
        return self._first_model(chain)

    def usable_names(self, chain: Chain) -> str:
        """The usable models of any chain, joined by commas; NULL where a limit is unknown."""
        return self._chain(chain)

    def _by_place(self, found: Mapping[tuple[int, int], str], otherwise: str) -> str:
        places: dict[str, list[tuple[int, int]]] = {}
        for place, sql in found.items():
            places.setdefault(sql, []).append(place)
        whens = " ".join(f"WHEN {self._at(taken)} THEN {sql}" for sql, taken in places.items())
        return f"CASE {whens} ELSE {otherwise} END" if whens else otherwise

    def _at(self, places: list[tuple[int, int]]) -> str:
        plain = [str(number) for number, arm in places if arm < 0]
        tests = [f"{RULE} IN ({', '.join(plain)})"] if plain else []
        tests += [f"({RULE} = {number} AND {ARM} = {arm})" for number, arm in places if arm >= 0]
        return "(" + " OR ".join(tests) + ")"

    def _usable(self, chain: Chain) -> list[tuple[str, Expression]]:
        """Models in order, each with the condition under which it is in the chain that is left."""
        found: list[tuple[str, Expression]] = []
        for place, name in enumerate(chain):
            if name != REQUESTED:
                conditions = () if REQUESTED not in chain[:place] else (_is_not_requested(name),)
                found.append((name, _all(*conditions, _not(self._limit(name)))))
                continue
            for model, limit in self.limits.items():
                if model not in chain[:place]:
                    found.append((model, _all(_is_requested(model), _not(limit))))
        return found

    def _limit(self, model: str) -> Expression:
        limit = self.limits.get(model)
        return blocked(self.policy, model) if limit is None else limit

    def _first_model(self, chain: Chain) -> str:
        whens: list[str] = []
        for name, condition in self._usable(chain):
            if condition == TRUE:
                return (
                    f"CAST(CASE {' '.join(whens)} ELSE {self.numbers[name]} END AS SMALLINT)"
                    if whens
                    else f"CAST({self.numbers[name]} AS SMALLINT)"
                )
            whens.append(self._when(condition, self.numbers[name], STUCK))
        return f"CAST(CASE {' '.join(whens)} ELSE {NOBODY} END AS SMALLINT)" if whens else f"CAST({NOBODY} AS SMALLINT)"

    def _chain(self, chain: Chain) -> str:
        if not chain:
            return "''"
        usable = self._usable(chain)
        parts = [
            literal(name) if condition == TRUE else f"CASE WHEN {expression(condition)} THEN {literal(name)} END"
            for name, condition in usable
        ]
        unknown = [f"({expression(condition)}) IS NULL" for _, condition in usable if self._may_be_null(condition)]
        joined = f"concat_ws(',', {', '.join(parts)})"
        return f"CASE WHEN {' OR '.join(unknown)} THEN NULL ELSE {joined} END" if unknown else joined

    # -- exploration and propensity --------------------------------------------------------------------------------------

    def _explored(self) -> str:
        assert self.policy.explore is not None
        key = self.policy.explore.key
        drawn = f"{draw((self.policy.name, 'explore'), key)} % {PARTS}"
        return f"coalesce({_OTHERS} > 0 AND {quoted(key)} <> '' AND {drawn} < {self.policy.explore.share}, FALSE)"

    def _reordered(self) -> dict[str, str]:
        assert self.policy.explore is not None
        names = f"string_split({_LEFT}, ',')"
        other = f"(2 + {draw((self.policy.name, 'explore model'), self.policy.explore.key)} % {_OTHERS})"
        number = " ".join(f"WHEN {literal(name)} THEN {number}" for name, number in self.numbers.items())
        stuck = f"WHEN {_LEFT} IS NULL THEN {STUCK} " if self.unknown else ""
        columns = {
            MODEL: f"CAST(CASE {stuck}WHEN {EXPLORED} THEN CASE {names}[{other}] {number} END ELSE {_FIRST} END AS SMALLINT)"
        }
        if self.full:
            rest = f"list_concat({names}[1:{other} - 1], {names}[{other} + 1:])"
            columns[CHAIN] = (
                f"CASE WHEN {EXPLORED} THEN concat_ws(',', {names}[{other}], array_to_string({rest}, ',')) ELSE {_LEFT} END"
            )
            columns[PROPENSITY] = self._propensity()
        return columns

    def _propensity(self) -> str:
        shares = [
            f"WHEN {RULE} = {number} AND {ARM} = {arm} THEN {made.share}"
            for number, rule in enumerate(self.policy.rules)
            if isinstance(rule.target, Split) and not rule.shadow
            for arm, made in enumerate(rule.target.arms)
        ]
        share = f"CASE {' '.join(shares)} ELSE {PARTS} END" if shares else str(PARTS)
        plain = f"CAST({share} AS DOUBLE) / {PARTS}"
        if self.policy.explore is None:
            return plain
        part, key = self.policy.explore.share, quoted(self.policy.explore.key)
        return (
            f"CASE WHEN {_OTHERS} = 0 OR {key} = '' THEN {plain}"
            f" WHEN {EXPLORED} THEN CAST(({share}) * {part} AS DOUBLE) / CAST({PARTS * PARTS} * {_OTHERS} AS DOUBLE)"
            f" ELSE CAST(({share}) * {PARTS - part} AS DOUBLE) / {PARTS * PARTS} END"
        )

    # -- names -----------------------------------------------------------------------------------------------------------

    def refusals(self) -> dict[int, str]:
        """The messages of rules that refuse, by rule number."""
        return {number: rule.target.message for number, rule in enumerate(self.policy.rules) if isinstance(rule.target, Refuse)}


def _thresholds(drawn: str, shares: list[int]) -> str:
    whens, upto = [], 0
    for arm, share in enumerate(shares[:-1]):
        upto += share
        whens.append(f"WHEN {drawn} < {upto} THEN {arm}")
    return f"CASE {' '.join(whens)} ELSE {len(shares) - 1} END" if whens else "0"


def _is_requested(model: str) -> Expression:
    return Apply("in", (Read(REQUESTED), Literal(model)))


def _is_not_requested(model: str) -> Expression:
    return Apply("not", (_is_requested(model),))


def _not(condition: Expression) -> Expression:
    return TRUE if condition == FALSE else Apply("not", (condition,))


def _all(*conditions: Expression) -> Expression:
    kept = tuple(condition for condition in conditions if condition != TRUE)
    return TRUE if not kept else kept[0] if len(kept) == 1 else Apply("and", kept)
