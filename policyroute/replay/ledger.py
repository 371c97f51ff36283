"""The ledger: one row per request with its decision and its money, as one SQL query over a part of the trace.

Layers, each a SELECT over the one before: the trace's columns and what was extracted; signals; the decision; price
slots; costs; the accounting class. Columns of our own begin with `$`, which no signal and no name of a policy can.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from policyroute.backends.sql import ARM, CHAIN, EXPLORED, MODEL, NOBODY, PROPENSITY, RULE, STUCK, Query, literal, quoted
from policyroute.language.limits import read_signals
from policyroute.language.policy import Chain, Policy, Route
from policyroute.prices.table import PriceTable
from policyroute.replay.effects import caching, failures, lengths
from policyroute.replay.effects.aside import ANSWERED, Aside
from policyroute.replay.effects.lengths import HELD
from policyroute.replay.observe import ANSWER, EXTRACTED, Observed
from policyroute.replay.served import Served

# Accounting classes, in the order of the report. Only the first two carry a saving.
EXACT, FALLBACK, UNPRICEABLE, UNROUTABLE, REFUSED, UNKNOWN, UNANSWERED = (
    "exact", "fallback", "unpriceable", "unroutable", "refused", "not replayable", "unanswered",
)  # fmt: skip
CLASSES = (EXACT, FALLBACK, UNPRICEABLE, UNROUTABLE, REFUSED, UNKNOWN, UNANSWERED)
PRICED = (EXACT, FALLBACK)
# Fallback bits beside those of the price table: the recorded cost stands for an unknown price; tokens were counted from the text.
RECORDED_COST, ESTIMATED = 1 << 16, 1 << 17
USAGE = ("input_tokens", "cached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Effects:
    """What a replay reckons beyond prices: answers' lengths, the prompt cache, outages. The plain replay holds all as recorded.

    `outcomes` names the table of paired outcomes where `lengths` is `paired`.
    """

    lengths: str = HELD
    outcomes: str = ""
    cache: str = caching.HELD
    failures: bool = False

    @property
    def plain(self) -> bool:
        """Whether the new model is priced with the recorded usage alone."""
        return self == Effects()


PLAIN = Effects()
NOTHING: Mapping[str, str] = {}


class Changed(Protocol):
    """What state makes of decisions (`replay.state.changes`)."""

    @property
    def table(self) -> str:
        """The table of the rows that it changed: `row`, `model` and more."""
        ...

    def over(self, decided: str, query: Query) -> str:
        """The decisions as state left them."""
        ...

    def refused(self) -> str:
        """Whether state refuses the row."""
        ...

    def tier(self, otherwise: str) -> str:
        """The row's tier."""
        ...

    def acted(self) -> str:
        """What changed the row."""
        ...

    def names(self, otherwise: str, query: Query, of: Callable[[Route], Chain]) -> str:
        """Usable models of what `of` gives for the row's route."""
        ...


class Ledger:
    """Builds the query for one policy.

    `baseline` is `recorded`, `requested`, the name of a declared model, or the ledger of another policy, whose rows are
    then given beside this one's. `place` is the policy's place in `served.numbers`.
    """

    def __init__(
        self, policy: Policy, observed: Mapping[str, Observed], served: Served, *, baseline: str | Ledger = "recorded",
        place: int = 0, segments: Mapping[str, str] | None = None, columns: Collection[str] = (), estimated: bool = False, cold: bool = False, dated: bool = True,
        full: bool = False, effects: Effects = PLAIN,
    ) -> None:  # fmt: skip
        self.policy = policy
        self.observed = observed
        self.served = served
        self.baseline = baseline
        self.segments = dict(segments or {})
        self.columns = frozenset(columns)
        self.has_costs = "cost_usd" in columns
        self.estimated = estimated
        self.usage = {name: self._usage(name, "status_code" in columns) for name in USAGE}
        self.cold = cold
        self.numbers = served.numbers[place]
        self.dated = dated
        self.effects = effects
        self.moments = (
            dated or effects.failures or effects.cache == caching.MODEL
        )  # times that have no date are in order all the same
        unknown = [name for name, seen in observed.items() if seen.unknown]
        self.query = Query(policy, unknown=unknown, full=full)
        self.prices = PriceTable(served.lists)
        self.names = tuple(name for name in read_signals(policy) if name in observed)
        self.names += tuple(name for name in observed if name not in self.names)  # what classifiers are shown
        self.changes: Changed | None = None  # what state makes of the decisions
        self.aside = Aside(policy, columns, self.names)

    # -- layers ------------------------------------------------------------------------------------------------------

    def signals(self, source: str, extra: Mapping[str, str] = NOTHING) -> str:
        """Signals, and the columns that money needs, over the rows of `source`; with `extra` columns of it."""
        passed = [f'"{name}" AS "${name}"' for name in ("row", "service_tier", "provider")]
        passed += [f'{sql} AS "${name}"' for name, sql in self.usage.items()]
        passed.append('"ts" AS "$ts"' if self.dated or self.moments else 'CAST(NULL AS TIMESTAMP) AS "$ts"')
        passed += [f'{self._baseline_field()} AS "$asked"', *(f'"{name}" AS "${alias}"' for name, alias in self._identities())]
        if self.has_costs:
            passed.append('CASE WHEN coalesce(suspect_cost, FALSE) THEN NULL ELSE cost_usd END AS "$recorded"')
        passed += [f"CAST({sql} AS VARCHAR) AS {quoted('$by ' + name)}" for name, sql in self.segments.items()]
        passed += [f"{sql} AS {quoted(name)}" for name, sql in {**self.aside.passed(), **extra}.items()]
        signals = [f"{self.observed[name].sql} AS {quoted(name)}" for name in self.names]
        return f"SELECT {', '.join([*passed, *signals])} FROM ({source})"

    def _identities(self) -> list[tuple[str, str]]:
        """Columns that only some readings need, with the names that they have here."""
        wanted = {
            "conversation": self.effects.cache == caching.MODEL or self.query.full,
            "request": bool(self.effects.outcomes) or self.query.full,
            "user": self.query.full,
        }
        return [(f"{name}_id", name) for name, needed in wanted.items() if needed]

    def _usage(self, name: str, statuses: bool) -> str:
        """Tokens of one kind as billed: recorded, or counted from the text; none where the call failed at the provider."""
        counted = {"input_tokens": "tokens", "output_tokens": ANSWER}
        known = f'coalesce("{name}", {quoted(EXTRACTED + counted[name])})' if self.estimated and name in counted else f'"{name}"'
        return f"CASE WHEN status_code >= 400 THEN 0 ELSE {known} END" if statuses else known

    def _baseline_field(self) -> str:
        return "coalesce(requested_model, model)" if self.baseline == "requested" else "model"

    def decided(self, source: str) -> str:
        """The decision of each row."""
        plain = self.query.over(f"({self.signals(source)})")
        return self.changes.over(plain, self.query) if self.changes is not None else plain

    def tiers(self) -> str:
        """The name of the tier that a decided row has, or its chain joined by commas; NULL where it is refused."""
        return self.changes.tier(self.query.tiers()) if self.changes is not None else self.query.tiers()

    def compared(self, source: str, baseline_source: str = "") -> str:
        """Each row with the numbers of the baseline's model, of the decided one, and of the one that answers; -1 is none."""
        numbers = " ".join(f"WHEN {place} THEN {number}" for place, number in enumerate(self.numbers))
        first = f'CAST(CASE {MODEL} {numbers} ELSE -1 END AS INTEGER) AS "$decided"'
        weak = f'{self.aside.escalated(f"{_listed(list(self.policy.models))}[1 + {MODEL}]", self.tiers())} AS "$escalated"'
        rows = f"SELECT *, {first}, {weak} FROM ({self._with_old(source, baseline_source)})"
        if self.effects.failures:
            rows = failures.answered(self.query, rows, self.numbers, self.changes)
        else:
            rows = f'SELECT *, "$decided" AS "$new" FROM ({rows})'
        # The model to which a weak answer went up is the one that the trace records.
        return (
            f'SELECT * REPLACE (CASE WHEN "$escalated" THEN "$old" ELSE "$new" END AS "$new") FROM ({rows})'
            if self.aside.escalates
            else rows
        )

    def recorded(self, source: str) -> str:
        """Each row with "$old", the recorded model, and the slot of its price: what a check against the record needs."""
        slot = self._slot('"$old"', '"$input_tokens"')
        return f'SELECT *, {slot} AS "$old_slot" FROM ({self._with_old(source, "")})'

    def used(self, source: str, baseline_source: str = "") -> str:
        """Each row with the usage of the model that answers: its tokens, and what of them its cache serves."""
        rows = self.compared(source, baseline_source)
        match self.effects.lengths:
            case lengths.HELD:
                rows = lengths.held(rows)
            case lengths.PAIRED:
                rows = lengths.paired(rows, self.effects.outcomes)
            case _:
                rows = lengths.scaled(rows)
        if self.effects.cache == caching.MODEL:
            return caching.cached(rows)
        parts = _scaled_parts()
        if self.effects.cache == caching.OFF:
            parts = [f'CASE WHEN "$old" <> "$new" THEN 0 ELSE {part} END' for part in parts]
        kept = ", ".join(f'{part} AS "$new_{name}"' for part, name in zip(parts, USAGE[1:4], strict=True))
        return f"SELECT *, {kept} FROM ({rows})"

    def costed(self, source: str, baseline_source: str = "") -> str:
        """Baseline cost and routed cost of each row in picodollars, NULL where unpriceable, and the routed cost step by step.

        "$decided_cost" is the decided model with the recorded usage, "$answered_cost" the model that answers with it,
        "$lengthened_cost" with its own lengths, "$new_cost" with its own cache.
        """
        plain, new = [f'"${name}"' for name in USAGE], [f'"$new_{name}"' for name in USAGE]
        known = ESTIMATED if self.estimated else 0
        slots = {"old": self._slot('"$old"', '"$input_tokens"'), "new": self._slot('"$new"', '"$new_input_tokens"')}
        if self.effects.failures:
            slots["decided"] = self._slot('"$decided"', '"$input_tokens"')
        asked = {name: (str(self.numbers[int(place)]), tokens) for name, place, tokens in self.aside.slots()}
        slots |= {name: self._slot(number, tokens) for name, (number, tokens) in asked.items()}
        placed = ", ".join(f'{sql} AS "${name}_slot"' for name, sql in slots.items())
        slotted = f"SELECT *, {placed} FROM ({self.used(source, baseline_source)})"
        columns = {
            "$old_cost": self.prices.cost_sql("o", *plain), "$new_cost": self.prices.cost_sql("n", *new),
            "$old_bits": f"({self.prices.fallback_sql('o', *plain[1:4])}) | {known}", "$new_bits": f"({self.prices.fallback_sql('n', *new[1:4])}) | {known}",
            "$new_output_cost": '"$new_output_tokens" * n.rate_output',
        }  # fmt: skip
        if not self.effects.plain:
            columns["$decided_cost"] = self.prices.cost_sql("d" if self.effects.failures else "n", *plain)
            columns["$answered_cost"] = self.prices.cost_sql("n", *plain)
            columns["$lengthened_cost"] = self.prices.cost_sql("n", *[new[0], *_scaled_parts(), new[4]])
        if self.cold:
            columns["$cold_cost"] = self.prices.cost_sql("n", new[0], "0", "0", "0", new[4])
        if self.aside.needed:
            calls = {name: self.prices.cost_sql(name, tokens, "0", "0", "0", str(ANSWERED)) for name, (_, tokens) in asked.items()}
            columns["$old_aside"] = self.aside.before() if self.baseline == "recorded" else "CAST(0 AS HUGEINT)"
            columns["$new_aside"] = self.aside.after(calls)
        listed = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in columns.items())
        aliases = {name: name if name in asked else name[0] for name in slots}
        joins = " ".join(f'JOIN {self.prices.name} {short} ON {short}.slot = s."${name}_slot"' for name, short in aliases.items())
        return f"SELECT s.*, {listed} FROM ({slotted}) s {joins}"

    def _slot(self, number: str, input_tokens: str) -> str:
        return self.prices.slot_sql(number, '"$ts"' if self.dated else "CAST(NULL AS TIMESTAMP)", input_tokens, '"$service_tier"')

    def _with_old(self, source: str, baseline_source: str) -> str:
        decided = self.decided(source)
        if isinstance(self.baseline, Ledger):
            other = self.baseline
            numbers = " ".join(f"WHEN {place} THEN {number}" for place, number in enumerate(other.numbers))
            olds = f'SELECT "$row", CAST(CASE {MODEL} {numbers} ELSE -1 END AS INTEGER) AS "$old" FROM ({other.decided(baseline_source)})'
            return f'SELECT d.*, b."$old" FROM ({decided}) d JOIN ({olds}) b USING ("$row")'
        if self.baseline not in ("recorded", "requested"):
            return f'SELECT *, CAST({self.numbers[list(self.policy.models).index(self.baseline)]} AS INTEGER) AS "$old" FROM ({decided})'
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
            f'"$old" <> "$new" AS "$changed" FROM ({self.costed(source, baseline_source)})'
        )
        if self.aside.needed:  # a price that stands in is the answer's alone too
            whole = ", ".join(f'"${side}_cost" + "${side}_aside" AS "${side}_cost"' for side in ("old", "new"))
            settled = f"SELECT * REPLACE ({whole}) FROM ({settled})"
        return f'SELECT *, {self._class()} AS "$class" FROM ({settled})'

    def _class(self) -> str:
        refusing = [f"{RULE} IN ({', '.join(map(str, numbers))})"] if (numbers := self.query.refusals()) else []
        refusing += [self.changes.refused()] if self.changes is not None else []
        refused = f"WHEN {' OR '.join(refusing)} THEN {CLASSES.index(REFUSED)} " if refusing else ""
        unanswered = f'WHEN "$new" < 0 THEN {CLASSES.index(UNANSWERED)} ' if self.effects.failures else ""
        return (
            f"CAST(CASE WHEN {RULE} < 0 OR {MODEL} = {STUCK} THEN {CLASSES.index(UNKNOWN)} {refused}"
            f"WHEN {MODEL} = {NOBODY} THEN {CLASSES.index(UNROUTABLE)} {unanswered}"
            f'WHEN "$old_cost" IS NULL OR "$new_cost" IS NULL THEN {CLASSES.index(UNPRICEABLE)} '
            f'WHEN "$old_bits" <> 0 OR "$new_bits" <> 0 THEN {CLASSES.index(FALLBACK)} ELSE {CLASSES.index(EXACT)} END AS TINYINT)'
        )

    # -- output ------------------------------------------------------------------------------------------------------

    def decisions(self, source: str, baseline_source: str = "") -> str:
        """One row per request as `--output` writes it: names instead of numbers, dollars as exact decimals. Needs `full`."""
        rules = _listed([rule.name for rule in self.policy.rules])
        labels, own = _listed(self.served.labels), _listed(list(self.policy.models))
        stuck = f"CASE WHEN {RULE} < 0 THEN -1 - {RULE} ELSE {RULE} END"
        columns = {
            "row": '"$row"', "ts": '"$ts"' if self.dated else "CAST(NULL AS TIMESTAMP)",
            **{column: f'"${name}"' for column, name in self._identities() if column in self.columns},
            "policy": literal(self.policy.digest), "baseline": literal(_baseline_name(self.baseline)), "rule": f"{rules}[1 + {stuck}]", "arm": f"CASE WHEN {ARM} >= 0 THEN {ARM} END", "tier": self.tiers(),
            "chain": CHAIN, "propensity": PROPENSITY, "explored": EXPLORED,
            "old_model": f'CASE WHEN "$old" >= 0 THEN {labels}[1 + "$old"] END', "new_model": f"CASE WHEN {MODEL} >= 0 THEN {own}[1 + {MODEL}] END",
            "answered_by": f'CASE WHEN "$new" >= 0 THEN {labels}[1 + "$new"] END',
            "changed": f'CASE WHEN {MODEL} >= 0 THEN "$changed" END', "class": f'{_listed(CLASSES)}[1 + "$class"]',
            **{name: f'"${name}"' for name in USAGE}, **{f"new_{name}": f'"$new_{name}"' for name in USAGE if not self.effects.plain},
            "old_cost_usd": _dollars('"$old_cost"'), "new_cost_usd": _dollars('"$new_cost"'), "recorded_cost_usd": _dollars('"$recorded_cost"'),
        }  # fmt: skip
        if self.changes is not None:
            columns["acted"] = self.changes.acted()
        known = {column for column, _ in self._identities()}  # a segment that stands among the identities already
        others = [name for name in self.segments if not name.startswith("$") and not (name in columns and name in known)]
        columns |= {f"by {name}" if name in columns else name: quoted("$by " + name) for name in others}
        listed = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in columns.items())
        return f"SELECT {listed} FROM ({self.rows(source, baseline_source)})"


def _baseline_name(baseline: str | Ledger) -> str:
    return f"policy {baseline.policy.digest}" if isinstance(baseline, Ledger) else baseline


def _scaled_parts() -> list[str]:
    """Cached tokens and cache writes as recorded, in the tokens of the model that answers."""
    return [f'("${name}" * "$input_ratio" // {lengths.UNIT})' for name in USAGE[1:4]]


def _listed(names: Sequence[str]) -> str:
    return "[" + ", ".join(literal(name) for name in names) + "]"


def _dollars(picodollars: str) -> str:
    """Exact: a product of decimals, since DuckDB's division of decimals is a float."""
    return f"CAST(CAST({picodollars} AS DECIMAL(24,0)) * CAST(0.000000000001 AS DECIMAL(12,12)) AS DECIMAL(24,12))"
