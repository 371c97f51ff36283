"""A trace's requests as whole numbers, for the transitions: what each would be given in every case, computed in columns first.

- Only rows that can be decided take part. Those that can't leave no state behind, and are counted as not replayable.
- The order is that in which a gateway's store made its decisions, where the trace is its journal (`state_number`), else by time, and by
  the row's number where times are equal. Several stores are several worlds.
- A budget is settled where the journal says so (`settled_number`), else when the answer had come (`ts` + `latency_ms`; at once where
  that isn't known), at the cost of the decided model for the recorded tokens. A request whose model is the one that the journal's own
  decision named is charged what it was charged (`settled_usd`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from policyroute.backends.sql import ARM, MODEL, NOBODY, RULE, STUCK, Query, expression, literal, quoted
from policyroute.language.policy import Chain, Policy, Refuse, Route
from policyroute.replay.ledger import USAGE, Ledger
from policyroute.state.transitions import NONE, tier_of
from policyroute.state.windows import label_sql

NEVER = 2**62  # a place in the order that is never reached, an amount that isn't known
UNKNOWN = -3  # no model, where one was looked for
JOURNAL = ("state_store", "state_number", "settled_number", "settled_usd", "state_missed", "decision_chain")
STORE = '"$store"'
MOST_MODELS = 62  # bits of a whole number in SQL


@dataclass(frozen=True, slots=True)
class Kind:
    """A choice that a request may be given: `name` is its column's, `sql` the number of its first usable model (NOBODY, STUCK)."""

    name: str
    sql: str


class Rows:
    """The SQL of one policy's rows. `columns` are those that the trace has."""

    def __init__(self, ledger: Ledger, columns: Collection[str]) -> None:
        self.ledger, self.policy, self.columns = ledger, ledger.policy, frozenset(columns)
        self.query = Query(ledger.policy, unknown=ledger.query.unknown, full=False)
        self.keeps = self.policy.sticky is not None and self.policy.sticky.mode != "never downgrade"
        self.served = "state_number" in columns and "decision_chain" in columns  # a journal tells what was decided and charged
        budgets = [one for one in self.policy.allowances if one.kind == "budget"]
        covered = {model for one in budgets for model in one.of or self.policy.models}
        self.priced = tuple(n for n, name in enumerate(self.policy.models) if name in covered and name in self.query.limits)
        self.kinds = tuple(self._kinds())

    # -- choices -------------------------------------------------------------------------------------------------------

    def _kinds(self) -> Iterator[Kind]:
        policy = self.policy
        yield Kind("plain", MODEL)
        if policy.sticky and policy.sticky.mode == "never downgrade":
            yield from (Kind(f"tier_{n}", self.first(policy.tiers[tier])) for n, tier in enumerate(policy.order))
        for place, one in enumerate(policy.allowances):
            if isinstance(one.target, Route):
                yield Kind(f"beyond_{place}", self.first(one.target.chain))

    def first(self, chain: Chain) -> str:
        """The number of a chain's first usable model."""
        return self.query.first_model(chain)

    def _tier(self) -> str:
        """The place in `order` of the rule's own decision."""
        policy = self.policy

        def of(route: Route) -> str:
            if route.tier in policy.order:
                return str(policy.order.index(route.tier))
            places = {n: tier_of(policy, Route(()), name) for n, name in enumerate(policy.models)}
            whens = " ".join(f"WHEN {number} THEN {place}" for number, place in places.items() if place != NONE)
            return f"CASE {MODEL} {whens} ELSE {NONE} END" if whens else str(NONE)

        return f"CAST({self.query.by_route(of, str(NONE))} AS TINYINT)"

    def _usable(self) -> str:
        """A bit for each model that limits leave; NULL where one is unknown."""
        parts = [
            f"CASE WHEN {expression(limit)} THEN 0 WHEN NOT {expression(limit)} THEN {1 << number} END"
            for number, name in enumerate(self.policy.models)
            if (limit := self.query.limits.get(name)) is not None
        ]
        return f"CAST({' + '.join(parts) or '0'} AS BIGINT)"

    # -- columns -------------------------------------------------------------------------------------------------------

    def over(self, sources: Sequence[str]) -> str:
        """The rows of all parts, one whole number a column, none NULL."""
        decided = " UNION ALL ".join(f"({self.query.over(f'({self._signals(source)})')})" for source in sources)
        able = f'{RULE} >= 0 AND {MODEL} <> {STUCK} AND NOT "$missed" AND "$at" IS NOT NULL'
        refusing = self.query.refusals()
        if refusing:
            able += f" AND {RULE} NOT IN ({', '.join(map(str, refusing))})"
        kept = f"SELECT * FROM ({decided}) WHERE {able}"
        chosen = ", ".join(f"{kind.sql} AS {kind.name}" for kind in self.kinds)
        priced = f"SELECT *, {chosen} FROM ({kept})"
        joins, amounts = self._amounts()
        listed = ", ".join([*self._own(), *(kind.name for kind in self.kinds), *amounts])
        slots = "".join(f", {sql} AS {name}" for name, sql in self._slots())
        return f"SELECT {listed} FROM (SELECT *{slots} FROM ({priced})) s {joins}"

    def _signals(self, source: str) -> str:
        has = self.columns
        store = "coalesce(CAST(state_store AS VARCHAR), '')" if "state_store" in has else "''"
        number = "TRY_CAST(state_number AS BIGINT)" if "state_number" in has else "CAST(NULL AS BIGINT)"
        settled = "TRY_CAST(settled_number AS BIGINT)" if "settled_number" in has else "CAST(NULL AS BIGINT)"
        charged = "CAST(TRY_CAST(settled_usd AS DECIMAL(24,12)) * 1000000000000 AS HUGEINT)" if "settled_usd" in has else "NULL"
        chain = "split_part(CAST(decision_chain AS VARCHAR), ',', 1)" if "decision_chain" in has and "state_store" in has else "''"
        latency = "CAST(round(latency_ms * 1000) AS BIGINT)" if "latency_ms" in has else "CAST(NULL AS BIGINT)"
        extra = {
            "$at": "epoch_us(ts)" if "ts" in has else "CAST(NULL AS BIGINT)", "$store": store, "$number": number, "$settled": settled,
            "$charged": f"CAST({charged} AS BIGINT)", "$seen": chain, "$latency": latency, "$stamp": "ts",
            "$missed": "coalesce(TRY_CAST(state_missed AS BOOLEAN), FALSE)" if "state_missed" in has else "FALSE",
        }  # fmt: skip
        return self.ledger.signals(source, extra)

    def _own(self) -> list[str]:
        numbered = '"$store" <> \'\' AND "$number" IS NOT NULL'
        seen = " ".join(f"WHEN {literal(name)} THEN {number}" for number, name in enumerate(self.policy.models))
        columns = {
            "row": '"$row"', "store": _hashed(STORE), "place": f'CASE WHEN {numbered} THEN "$number" ELSE "$at" END',
            "settles": f'CASE WHEN {numbered} THEN coalesce("$settled", {NEVER}) ELSE "$at" + greatest(coalesce("$latency", 0), 0) END',
            "moment": '"$at"', "tier": self._tier(), "guards": self._guards(), "conversation": self._conversation(),
            "seen": f'CASE WHEN {numbered} THEN CASE "$seen" {seen} ELSE {UNKNOWN} END ELSE {UNKNOWN} END', "charged": f'coalesce("$charged", {NEVER})',
        }  # fmt: skip
        for place, one in enumerate(self.policy.allowances):
            columns[f"key_{place}"] = _hashed(STORE, quoted(one.key))
            columns[f"window_{place}"] = label_sql(one.period, '"$stamp"', self.policy.timezone)
        if self.keeps:
            columns["usable"] = f"coalesce({self._usable()}, -1)"
            columns["tokens"] = 'coalesce("tokens", -1)' if "tokens" in self.ledger.names else "-1"
        return [f"CAST({sql} AS BIGINT) AS {name}" for name, sql in columns.items()]

    def _guards(self) -> str:
        """A bit for each quota and budget whose condition holds; -1 where one is unknown."""
        parts = [
            f"CASE WHEN {expression(one.condition)} THEN {1 << n} WHEN NOT {expression(one.condition)} THEN 0 END"
            for n, one in enumerate(self.policy.allowances)
        ]
        return f"coalesce({' + '.join(parts) or '0'}, -1)"

    def _conversation(self) -> str:
        sticky = self.policy.sticky
        if sticky is None:
            return "0"
        key = quoted(sticky.key)
        return f"CASE WHEN {key} = '' THEN 0 ELSE {_hashed(STORE, key)} END"

    # -- money ---------------------------------------------------------------------------------------------------------

    def _slots(self) -> Iterator[tuple[str, str]]:
        """Where the price of each model is that a budget covers, for what it may cost at most and for what it does."""
        stamp = '"$stamp"' if self.ledger.dated else "CAST(NULL AS TIMESTAMP)"
        for number in self.priced:
            own = str(self.ledger.numbers[number])
            yield f"most_slot_{number}", self.ledger.prices.slot_sql(own, stamp, '"tokens"')
            yield f"cost_slot_{number}", self.ledger.prices.slot_sql(own, stamp, '"$input_tokens"', '"$service_tier"')

    def _amounts(self) -> tuple[str, list[str]]:
        prices, usage = self.ledger.prices, [f'"${name}"' for name in USAGE]
        joins, columns = [], []
        for number in self.priced:
            most, cost = f"m_{number}", f"c_{number}"
            joins += [
                f"JOIN {prices.name} {most} ON {most}.slot = s.most_slot_{number}",
                f"JOIN {prices.name} {cost} ON {cost}.slot = s.cost_slot_{number}",
            ]
            wanted = prices.cost_sql(most, '"tokens"', "0", "0", "0", '"max_output"')
            columns += [f"CAST(coalesce({wanted}, {NEVER}) AS BIGINT) AS most_{number}"]
            columns += [f"CAST(coalesce({prices.cost_sql(cost, *usage)}, {NEVER}) AS BIGINT) AS cost_{number}"]
        return " ".join(joins), columns

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of `over`, in order."""
        own = [sql.rpartition(" AS ")[2] for sql in self._own()]
        money = [f"{of}_{number}" for number in self.priced for of in ("most", "cost")]
        return (*own, *(kind.name for kind in self.kinds), *money)


def refuses(policy: Policy, place: int) -> bool:
    """Whether a used-up quota or budget refuses, instead of leading elsewhere."""
    return isinstance(policy.allowances[place].target, Refuse)


def _hashed(*columns: str) -> str:
    """A key as a number that is only compared within this replay: 63 bits, so that two of a billion keys meet once in 20 replays."""
    return f"CAST(hash({', '.join(columns)}) >> 1 AS BIGINT)"


__all__ = ["ARM", "NEVER", "NOBODY", "UNKNOWN", "Kind", "Rows", "refuses"]
