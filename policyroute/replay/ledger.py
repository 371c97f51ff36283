"""The ledger: one row per request with its decision and its money, as one SQL query over a part of the trace.

Layers, each a SELECT over the one before: the trace's columns and what was extracted; signals; the decision; price
slots; costs; the accounting class. Columns of our own begin with `$`, which no signal and no name of a policy can.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from policyroute.backends.sql import ARM, CHAIN, EXPLORED, MODEL, NOBODY, PROPENSITY, RULE, STUCK, Query, literal, quoted
from policyroute.language.limits import read_signals, requested_names
from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog
from policyroute.prices.price import PriceList
from policyroute.prices.table import PriceTable
from policyroute.replay.observe import ANSWER, EXTRACTED, Observed

# Accounting classes, in the order of the report. Only the first two carry a saving.
EXACT, FALLBACK, UNPRICEABLE, UNROUTABLE, REFUSED, UNKNOWN = (
    "exact",
    "fallback",
    "unpriceable",
    "unroutable",
    "refused",
    "not replayable",
)
CLASSES = (EXACT, FALLBACK, UNPRICEABLE, UNROUTABLE, REFUSED, UNKNOWN)
PRICED = (EXACT, FALLBACK)
# Fallback bits beside those of the price table: the recorded cost stands for an unknown price; tokens were counted from the text.
RECORDED_COST, ESTIMATED = 1 << 16, 1 << 17
USAGE = ("input_tokens", "cached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens")


@dataclass(frozen=True)
class Served:
    """The models of a replay: one price list and label per number. A policy's models come first, in its order.

    `numbers` says, for each policy in turn (the one replayed, then a baseline policy), which number each of its models has.
    """

    lists: tuple[PriceList | None, ...]
    labels: tuple[str, ...]
    numbers: tuple[tuple[int, ...], ...]

    def label(self, number: int) -> str:
        """What a report calls the model with this number; -1 is a row that names no model."""
        return self.labels[number] if 0 <= number < len(self.labels) else "no model named"


def served_models(connection: duckdb.DuckDBPyConnection, relation: str, policies: Sequence[Policy], catalog: Catalog) -> Served:
    """Resolve each distinct model of the trace once, and keep the numbers in the table `served`.

    A model that the replayed policy declares, by name or id, has the policy's price; any other the library's.
    """
    lists: list[PriceList | None] = []
    labels: list[str] = []
    numbers = []
    for policy in policies:
        priced = catalog.for_policy(policy)
        numbers.append(tuple(_number(name, priced.get(name), lists, labels) for name in policy.models))
    known = requested_names(policies[0])
    names = list(policies[0].models)
    distinct = f"SELECT DISTINCT provider, model, requested_model FROM ({relation})"
    pairs = connection.sql(
        f"SELECT DISTINCT provider, unnest([model, requested_model]) AS model FROM ({distinct}) ORDER BY ALL"
    ).fetchall()
    rows = []
    for provider, model in ((provider, model) for provider, model in pairs if model is not None):
        own = known.get(model) or known.get(f"{provider}/{model}" if provider else "")
        rows.append(
            (provider, model, names.index(own) if own else _number(model, catalog.price_list(model, provider), lists, labels))
        )
    connection.execute('CREATE OR REPLACE TEMP TABLE served (provider VARCHAR, model VARCHAR, "$served" INTEGER)')
    if rows:
        connection.executemany("INSERT INTO served VALUES (?, ?, ?)", rows)
    return Served(tuple(lists), tuple(labels), tuple(numbers))


def _number(label: str, prices: PriceList | None, lists: list[PriceList | None], labels: list[str]) -> int:
    """The number of a model, a new one unless one with this label and these prices is there."""
    for number, known in enumerate(labels):
        if known == label and lists[number] == prices:
            return number
    lists.append(prices)
    labels.append(label)
    return len(labels) - 1


class Ledger:
    """Builds the query for one policy.

    `baseline` is `recorded`, `requested`, the name of a declared model, or the ledger of another policy, whose rows are
    then given beside this one's. `place` is the policy's place in `served.numbers`.
    """

    def __init__(
        self, policy: Policy, observed: Mapping[str, Observed], served: Served, *, baseline: str | Ledger = "recorded",
        place: int = 0, segments: Mapping[str, str] | None = None, columns: Collection[str] = (), estimated: bool = False, cold: bool = False, dated: bool = True, full: bool = False,
    ) -> None:  # fmt: skip
        self.policy = policy
        self.observed = observed
        self.served = served
        self.baseline = baseline
        self.segments = dict(segments or {})
        self.has_costs = "cost_usd" in columns
        self.estimated = estimated
        self.usage = {name: self._usage(name, "status_code" in columns) for name in USAGE}
        self.cold = cold
        self.numbers = served.numbers[place]
        self.dated = dated
        unknown = [name for name, seen in observed.items() if seen.unknown]
        self.query = Query(policy, unknown=unknown, full=full)
        self.prices = PriceTable(served.lists)
        self.names = tuple(name for name in read_signals(policy) if name in observed)

    # -- layers ------------------------------------------------------------------------------------------------------

    def signals(self, source: str) -> str:
        """Signals, and the columns that money needs, over the rows of `source`."""
        passed = [f'"{name}" AS "${name}"' for name in ("row", "service_tier", "provider")]
        passed += [f'{sql} AS "${name}"' for name, sql in self.usage.items()]
        passed.append('"ts" AS "$ts"' if self.dated else 'CAST(NULL AS TIMESTAMP) AS "$ts"')
        passed += [f'{self._baseline_field()} AS "$asked"']
        if self.has_costs:
            passed.append('CASE WHEN coalesce(suspect_cost, FALSE) THEN NULL ELSE cost_usd END AS "$recorded"')
        passed += [f"CAST({sql} AS VARCHAR) AS {quoted('$by ' + name)}" for name, sql in self.segments.items()]
        signals = [f"{self.observed[name].sql} AS {quoted(name)}" for name in self.names]
        return f"SELECT {', '.join([*passed, *signals])} FROM ({source})"

    def _usage(self, name: str, statuses: bool) -> str:
        """Tokens of one kind as billed: recorded, or counted from the text; none where the call failed at the provider."""
        counted = {"input_tokens": "tokens", "output_tokens": ANSWER}
        known = f'coalesce("{name}", {quoted(EXTRACTED + counted[name])})' if self.estimated and name in counted else f'"{name}"'
        return f"CASE WHEN status_code >= 400 THEN 0 ELSE {known} END" if statuses else known

    def _baseline_field(self) -> str:
        return "coalesce(requested_model, model)" if self.baseline == "requested" else "model"

    def decided(self, source: str) -> str:
        """The decision of each row."""
        return self.query.over(f"({self.signals(source)})")

    def costed(self, source: str, baseline_source: str = "") -> str:
        """Baseline cost and routed cost of each row in picodollars, NULL where unpriceable."""
        old, new = '"$old"', f"CASE WHEN {MODEL} >= 0 THEN {MODEL} ELSE -1 END"
        usage = [f'"${name}"' for name in USAGE]
        known = ESTIMATED if self.estimated else 0
        slotted = f'SELECT *, {self._slot(old)} AS "$old_slot", {self._slot(f"({new})")} AS "$new_slot" FROM ({self._with_old(source, baseline_source)})'
        columns = [
            f'{self.prices.cost_sql("o", *usage)} AS "$old_cost"', f'{self.prices.cost_sql("n", *usage)} AS "$new_cost"',
            f'({self.prices.fallback_sql("o", *usage[1:4])}) | {known} AS "$old_bits"',
            f'({self.prices.fallback_sql("n", *usage[1:4])}) | {known} AS "$new_bits"',
        ]  # fmt: skip
        if self.cold:
            columns.append(f'{self.prices.cost_sql("n", usage[0], "0", "0", "0", usage[4])} AS "$cold_cost"')
        return (
            f"SELECT s.*, {', '.join(columns)} FROM ({slotted}) s "
            f'JOIN {self.prices.name} o ON o.slot = s."$old_slot" JOIN {self.prices.name} n ON n.slot = s."$new_slot"'
        )

    def _slot(self, number: str) -> str:
        return self.prices.slot_sql(number, '"$ts"', '"$input_tokens"', '"$service_tier"')

    def _with_old(self, source: str, baseline_source: str) -> str:
        decided = self.decided(source)
        if isinstance(self.baseline, Ledger):
            other = self.baseline
            numbers = " ".join(f"WHEN {place} THEN {number}" for place, number in enumerate(other.numbers))
            olds = f'SELECT "$row", CAST(CASE {MODEL} {numbers} ELSE -1 END AS INTEGER) AS "$old" FROM ({other.decided(baseline_source)})'
            return f'SELECT d.*, b."$old" FROM ({decided}) d JOIN ({olds}) b USING ("$row")'
        if self.baseline not in ("recorded", "requested"):
            return f'SELECT *, CAST({list(self.policy.models).index(self.baseline)} AS INTEGER) AS "$old" FROM ({decided})'
        return (
            f'SELECT d.*, coalesce(m."$served", -1) AS "$old" FROM ({decided}) d '
            f'LEFT JOIN served m ON m.model = d."$asked" AND m.provider IS NOT DISTINCT FROM d."$provider"'
        )

    def rows(self, source: str, baseline_source: str = "") -> str:
        """The whole ledger: costs settled, changed or not, and the accounting class."""
        recorded = 'CAST("$recorded" * 1000000000000 AS HUGEINT)' if self.has_costs else "CAST(NULL AS HUGEINT)"
        # A recorded 0 is what tools write for a model that they can't price: it stands in for nothing.
        stands_in = '"$old_cost" IS NULL AND "$recorded" > 0' if self.has_costs and self.baseline == "recorded" else "FALSE"
        settled = (
            f'SELECT * REPLACE (CASE WHEN {stands_in} THEN {recorded} ELSE "$old_cost" END AS "$old_cost", '
            f'CASE WHEN {stands_in} THEN {RECORDED_COST} ELSE "$old_bits" END AS "$old_bits"), {recorded} AS "$recorded_cost", '
            f'"$old" <> {MODEL} AS "$changed" FROM ({self.costed(source, baseline_source)})'
        )
        return f'SELECT *, {self._class()} AS "$class" FROM ({settled})'

    def _class(self) -> str:
        refusing = [str(number) for number in self.query.refusals()]
        refused = f"WHEN {RULE} IN ({', '.join(refusing)}) THEN {CLASSES.index(REFUSED)} " if refusing else ""
        return (
            f"CAST(CASE WHEN {RULE} < 0 OR {MODEL} = {STUCK} THEN {CLASSES.index(UNKNOWN)} {refused}"
            f"WHEN {MODEL} = {NOBODY} THEN {CLASSES.index(UNROUTABLE)} "
            f'WHEN "$old_cost" IS NULL OR "$new_cost" IS NULL THEN {CLASSES.index(UNPRICEABLE)} '
            f'WHEN "$old_bits" <> 0 OR "$new_bits" <> 0 THEN {CLASSES.index(FALLBACK)} ELSE {CLASSES.index(EXACT)} END AS TINYINT)'
        )

    # -- output ------------------------------------------------------------------------------------------------------

    def decisions(self, source: str, baseline_source: str = "") -> str:
        """One row per request as `--output` writes it: names instead of numbers, dollars as exact decimals."""
        rules = _listed([rule.name for rule in self.policy.rules])
        labels = _listed(self.served.labels)
        stuck = f"CASE WHEN {RULE} < 0 THEN -1 - {RULE} ELSE {RULE} END"
        columns = {
            "row": '"$row"', "ts": '"$ts"', "rule": f"{rules}[1 + {stuck}]", "arm": f"CASE WHEN {ARM} >= 0 THEN {ARM} END",
            "chain": CHAIN, "propensity": PROPENSITY, "explored": EXPLORED,
            "old_model": f'CASE WHEN "$old" >= 0 THEN {labels}[1 + "$old"] END', "new_model": f"CASE WHEN {MODEL} >= 0 THEN {labels}[1 + {MODEL}] END",
            "changed": f'CASE WHEN {MODEL} >= 0 THEN "$changed" END', "class": f'{_listed(CLASSES)}[1 + "$class"]',
            **{name: f'"${name}"' for name in USAGE},
            "old_cost_usd": _dollars('"$old_cost"'), "new_cost_usd": _dollars('"$new_cost"'), "recorded_cost_usd": _dollars('"$recorded_cost"'),
        }  # fmt: skip
        columns |= {
            f"by {name}" if name in columns else name: quoted("$by " + name) for name in self.segments if not name.startswith("$")
        }
        listed = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in columns.items())
        return f"SELECT {listed} FROM ({self.rows(source, baseline_source)})"


def _listed(names: Sequence[str]) -> str:
    return "[" + ", ".join(literal(name) for name in names) + "]"


def _dollars(picodollars: str) -> str:
    """Exact: a product of decimals, since DuckDB's division of decimals is a float."""
    return f"CAST(CAST({picodollars} AS DECIMAL(24,0)) * CAST(0.000000000001 AS DECIMAL(12,12)) AS DECIMAL(24,12))"
