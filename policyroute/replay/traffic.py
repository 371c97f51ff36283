"""How often conditions hold in real traffic: requests, what they cost, and the one that is nearest to a made-up request.

Rules of this module
- A request for which a condition is unknown, because the trace doesn't tell a signal, is counted apart, and nowhere else.
- Money is that of the recorded usage: under the policy, as if it had no state (sticky, quota, budget, escalate), and of the models that
  were recorded. A request without a price on one side is missing in that side's dollars, and `priced_rows` or `paid_rows` says so.
- Nearest is the request with the fewest signals that differ from the given values, the first of several; a signal that the trace
  doesn't tell differs. An open enum's members that the policy doesn't name are all alike.
- Figures of parts add up, so a trace in several files counts as one in one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb

from policyroute.backends.sql import expression, literal, quoted
from policyroute.language.policy import Apply, EnumType, Expression, KeyType, Policy, Refuse, Rule, Signal, TextType, Value
from policyroute.prices.catalog import Catalog
from policyroute.replay.ledger import Ledger
from policyroute.replay.options import DECISIVE, Options, Step, silent
from policyroute.replay.prepare import Prepared, prepared
from policyroute.replay.traces import Trace
from policyroute.replay.traces.sql import one
from policyroute.signals.facts import Facts

TOGETHER = 50  # conditions that one query asks
_FIGURES = 6


@dataclass(frozen=True, slots=True)
class Real:
    """A request of the trace. `values` are what the policy sees of it (None: not told), keys left out; `differing` counts those that
    are not as in the values that it was looked for. `text` is the last user message, where it was asked for."""

    row: int
    differing: int
    values: Mapping[str, Value | None]
    request_id: str | None = None
    ts: datetime | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests of a trace for which a condition holds: `rows` of `of`, and `unknown_rows` for which that can't be told.

    `dollars` is what they cost under the policy (`priced_rows` of them have a price there), `paid` what they cost with the models
    that were recorded (`paid_rows`); picodollars both. `nearest` is None where no request was looked for, or none is there.
    """

    rows: int
    of: int
    unknown_rows: int
    dollars: int
    priced_rows: int
    paid: int
    paid_rows: int
    nearest: Real | None = None

    @property
    def share(self) -> Fraction:
        """The share of all requests, exactly."""
        return Fraction(self.rows, self.of) if self.of else Fraction(0)


@dataclass(slots=True)
class _Sum:
    """Figures of one condition, and the nearest row: how many signals differ, and its number."""

    figures: list[int] = field(default_factory=lambda: [0] * _FIGURES)
    nearest: tuple[int, int] | None = None


def traffic(
    policy: Policy, conditions: Sequence[Expression], paths: Sequence[str | Path], catalog: Catalog, options: Options, step: Step = silent,
    *, witnesses: Sequence[Mapping[str, Value]] = (),
) -> list[Traffic]:  # fmt: skip
    """Count the requests of `paths` for which each of the conditions holds under `policy`, whose models are completed from `catalog`.

    `witnesses` gives for each condition the values to which the nearest request is looked for; an empty one looks for none. Of
    `options` count how the trace is read and kept, what is assumed, and `with_text`. Raises `TraceError` for a trace that can't be
    read and `SimulationError` for what can't be replayed.
    """
    if not conditions:
        return []
    wanted = [*witnesses, *([{}] * (len(conditions) - len(witnesses)))]
    with prepared([_reading(policy, conditions)], paths, catalog, _plain(options), step) as ready:
        sums = [_Sum() for _ in conditions]
        with step("counting", ready.trace.rows) as advance:
            for part, (source, _) in zip(ready.trace.parts, ready.pairs(), strict=True):
                _count(ready, policy, source, conditions, wanted, sums)
                advance(part.rows)
        real = _real(ready, policy, [each.nearest for each in sums if each.nearest], options.with_text)
        return [_traffic(each, ready.trace.rows, real) for each in sums]


def _reading(policy: Policy, conditions: Sequence[Expression]) -> Policy:
    """The policy with a shadow rule that reads what the conditions read: it decides alike, and its view has these signals too."""
    condition = conditions[0] if len(conditions) == 1 else Apply("or", tuple(conditions))
    return replace(policy, rules=(Rule("traffic", condition, Refuse("never served"), shadow=True), *policy.rules))


def _plain(options: Options) -> Options:
    return replace(
        options, baseline="recorded", baseline_policy=None, lengths="held", prompt_cache="held", failures=False, details=False,
        without=DECISIVE, output=None, outcomes=None, gates=(), by=(), cluster=None,
    )  # fmt: skip


# -- counting ----------------------------------------------------------------------------------------------------------


def _count(
    ready: Prepared, policy: Policy, source: str, conditions: Sequence[Expression], wanted: Sequence[Mapping[str, Value]], sums: list[_Sum]
) -> None:  # fmt: skip
    ledger = ready.views[0].ledger
    for start in range(0, len(conditions), TOGETHER):
        chosen = range(start, min(start + TOGETHER, len(conditions)))
        asked = [_asked(ledger, policy, conditions[place], wanted[place], f'"$holds {place}"') for place in chosen]
        holds = ", ".join(f'{expression(conditions[place])} AS "$holds {place}"' for place in chosen)
        found = one(ready.connection, f"SELECT {', '.join(asked)} FROM (SELECT *, {holds} FROM ({ledger.rows(source)}))")
        width = _FIGURES + 1
        for number, place in enumerate(chosen):
            *figures, nearest = found[number * width : (number + 1) * width]
            sums[place].figures = [before + int(more) for before, more in zip(sums[place].figures, figures, strict=True)]
            here = (nearest["differing"], nearest["row"]) if nearest else None
            sums[place].nearest = min(filter(None, (sums[place].nearest, here)), default=None)


def _asked(ledger: Ledger, policy: Policy, condition: Expression, wanted: Mapping[str, Value], holds: str) -> str:
    where = f"FILTER (WHERE {holds})"
    counts = [f"count(*) {where}", f"count(*) FILTER (WHERE {holds} IS NULL)"]
    for cost in ('"$new_cost"', '"$old_cost"'):
        counts += [f"coalesce(sum({cost}) {where}, 0)", f"count({cost}) {where}"]
    apart = [_apart(policy.signals[name], wanted[name]) for name in _visible(ledger, policy) if name in wanted]
    nearest = f"""min({{'differing': {" + ".join(apart) or "0"}, 'row': "$row"}}) {where}""" if wanted else "NULL"
    return ", ".join((*counts, nearest))


def _apart(signal: Signal, value: Value) -> str:
    """1 where a row's signal differs from `value`, else 0."""
    if isinstance(signal.type, EnumType) and signal.type.open and value not in signal.type.all:
        named = ", ".join(literal(member) for member in signal.type.all)
        return f"CAST(coalesce({quoted(signal.name)} IN ({named}), TRUE) AS INTEGER)"
    return f"CAST({quoted(signal.name)} IS DISTINCT FROM {literal(value)} AS INTEGER)"


def _visible(ledger: Ledger, policy: Policy) -> Iterator[str]:
    """Signals that are compared and told: keys name a caller."""
    return (name for name in ledger.names if not isinstance(policy.signals[name].type, KeyType | TextType))


def _traffic(counted: _Sum, of: int, real: Mapping[int, Real]) -> Traffic:
    rows, unknown, dollars, priced, paid, paid_rows = counted.figures
    nearest = replace(real[counted.nearest[1]], differing=counted.nearest[0]) if counted.nearest else None
    return Traffic(rows, of, unknown, dollars, priced, paid, paid_rows, nearest)


# -- the nearest requests ----------------------------------------------------------------------------------------------


def _real(ready: Prepared, policy: Policy, nearest: Sequence[tuple[int, int]], with_text: bool) -> dict[int, Real]:
    """Requests by their numbers; content is read only where it is asked for."""
    if not nearest:
        return {}
    ledger = ready.views[0].ledger
    names = list(_visible(ledger, policy))
    listed = ", ".join(str(row) for row in sorted({row for _, row in nearest}))
    columns = ", ".join(['"$row"', *map(quoted, names)])
    told = _told(ready.connection, ready.trace, listed, with_text)
    found: dict[int, Real] = {}
    for source in ready.sources[0]:
        kept = f"SELECT * FROM ({source}) WHERE row IN ({listed})"
        for row, *values in ready.connection.sql(f"SELECT {columns} FROM ({ledger.signals(kept)})").fetchall():
            found[row] = Real(row, 0, dict(zip(names, values, strict=True)), **told[row])
    return found


def _told(connection: duckdb.DuckDBPyConnection, trace: Trace, listed: str, with_text: bool) -> dict[int, dict[str, Any]]:
    """What the trace says of some rows."""
    columns = {
        "request_id": '"request_id"' if "request_id" in trace.present else "NULL",
        "ts": '"ts"' if "ts" in trace.present and not trace.relative_time else "NULL",
        "text": '"messages"' if with_text and "messages" in trace.present else "NULL",
    }
    found: dict[int, dict[str, Any]] = {}
    for part in trace.parts:
        query = f"SELECT row, {', '.join(columns.values())} FROM ({part.relation}) WHERE row IN ({listed})"
        for row, request_id, ts, messages in connection.sql(query).fetchall():
            text = None if messages is None else Facts.of_row(messages).last
            found[row] = {"request_id": request_id, "ts": ts, "text": text}
    return found
