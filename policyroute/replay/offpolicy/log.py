"""A log read for off-policy estimates: which requests can be used, and their sums per cell and per cluster, in DuckDB.

Every figure leaves DuckDB as a whole number: outcomes in units of a power of ten that keeps nine digits of the largest one,
weights in millionths. A row's own numbers don't depend on any other row but through that power, and sums have no order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import duckdb

from policyroute.backends.probability import TARGET, Probabilities
from policyroute.backends.sql import NOBODY, RULE, quoted
from policyroute.replay.options import CLUSTER, SimulationError
from policyroute.replay.statistics import bag_sql
from policyroute.replay.traces.sql import one
from policyroute.replay.view import View

UNIT = 1_000_000  # parts of a weight
MOST_WEIGHT = 10**8  # a weight is never counted as more, so that squares add up within 127 bits
MOST_OUTCOME = "1e30"
DIGITS = 9  # of the largest outcome
ROUNDING = 10**9  # a policy serves a request where all but this part of its probability goes to models

REASONS = (
    "the policy's decision depends on a signal that the trace doesn't tell", "the policy may refuse it, or may find no model for it",
    "it names no model that answered", "it has no outcome", "its outcome is no number", "it has no propensity", "its propensity is not above 0 and up to 1",
)  # fmt: skip
WITHOUT_PROPENSITY = 5  # the place in REASONS


@dataclass(frozen=True, slots=True)
class Requests:
    """What is estimated from.

    `relation` is a SELECT of one row per request: `bag` (VARCHAR, the cluster's bag), `stratum` (INTEGER, the policy's rule),
    `target` (BIGINT[], for each of the policy's models its probability in parts of `denominator`, NULL where unknown), `logged`
    (INTEGER, the model that answered: its place in `target`, or any larger number for a model that the policy doesn't have,
    NULL where none is named), `propensity` (the probability with which it was chosen) and `outcome` (a number or a boolean).
    `name` is what the outcome is called.
    """

    relation: str
    denominator: int
    name: str


class Cell(NamedTuple):
    """Requests that are alike: a group (rule and probabilities) by half, model and whether the model was certain."""

    group: int
    stratum: int
    target: tuple[int, ...]
    half: bool
    logged: int
    certain: bool
    rows: int
    outcome: int


class Answer(NamedTuple):
    """What is computed for a request of this group, half and model: the policy's probability of the model in parts, the outcome
    model's mean under the policy and for the logged model in units, and whether the policy moves the group."""

    group: int
    half: bool
    logged: int
    chance: int
    under_policy: int
    as_logged: int
    moved: bool


class Bag(NamedTuple):
    """Sums over the requests of one bag of clusters; `clipped` is the clipped weight, which the three after it use."""

    rows: int
    outcome: int
    weight: int
    clipped: int
    weighed: int
    residual: int
    modelled: int


@dataclass(frozen=True, slots=True)
class Log:
    """The usable requests by cell; `left_out` counts the others by reason; an outcome is a number of units of 10^-`places`."""

    left_out: tuple[int, ...]
    cells: tuple[Cell, ...]
    places: int

    @property
    def rows(self) -> int:
        """Requests that are used."""
        return sum(cell.rows for cell in self.cells)

    @property
    def total(self) -> int:
        """All requests."""
        return self.rows + sum(self.left_out)


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights in parts, before clipping: of all requests, of those that the policy moves, of the largest 1 %."""

    bags: tuple[Bag, ...]
    sum: int
    squares: int
    largest: int
    clipped_rows: int
    clipped_sum: int
    moved_rows: int
    moved_sum: int
    moved_squares: int
    top: int


def requests(view: View, sources: Sequence[str], outcome: str, propensity: str = "propensity") -> Requests:
    """The requests of a view as `Requests`. `sources` are the view's SELECTs, one per part of the trace.

    A call that a fallback answered counts for the model that answered. Raises `SimulationError` where the trace has no
    column `outcome`.
    """
    columns = view.trace.present | frozenset(view.trace.extra)
    if outcome not in columns:
        raise SimulationError(
            f"the trace has no column `{outcome}` with an outcome",
            f"columns with values: {', '.join(f'`{column}`' for column in sorted(columns))}",
        )
    observed, names = view.ledger.observed, view.ledger.names
    chances = Probabilities(view.policy, unknown=[name for name in names if observed[name].unknown])
    given = [
        'row AS "$row"',
        f'{view.segments.get(CLUSTER) or bag_sql("CAST(row AS VARCHAR)")} AS "$bag"', f'{quoted(outcome)} AS "$outcome"',
        f'{quoted(propensity) if propensity in columns else "NULL"} AS "$propensity"', 'provider AS "$provider"', 'model AS "$answered"',
    ]  # fmt: skip
    signals = [f"{observed[name].sql} AS {quoted(name)}" for name in names]
    everything = " UNION ALL ".join(f"(SELECT {', '.join([*given, *signals])} FROM ({source}))" for source in sources)
    own = " ".join(f"WHEN {number} THEN {place}" for place, number in reversed(list(enumerate(view.ledger.numbers))))
    others = f'{len(view.ledger.numbers)} + m."$served"'
    relation = (
        f'SELECT d."$bag" AS bag, d.{RULE} AS stratum, {_target(view, chances)} AS target, d."$propensity" AS propensity, d."$outcome" AS outcome, '
        f'CASE m."$served" {own} ELSE {others} END AS logged FROM ({chances.over(f"({everything})")}) d {_changes(view)} '
        f'LEFT JOIN served m ON m.model = d."$answered" AND m.provider IS NOT DISTINCT FROM d."$provider"'
    )
    return Requests(relation, chances.denominator, outcome)


def _target(view: View, chances: Probabilities) -> str:
    """The policy's probabilities; where state has changed the decision, there is no chance left in it."""
    if view.ledger.changes is None:
        return f"d.{TARGET}"
    models = f"generate_series(0, {len(view.policy.models) - 1})"
    certain = f"list_transform({models}, lambda model: CASE WHEN model = c.model THEN {chances.denominator} ELSE 0 END)"
    return f"CASE WHEN c.row IS NULL THEN d.{TARGET} WHEN c.model < {NOBODY} THEN NULL ELSE {certain} END"


def _changes(view: View) -> str:
    return "" if view.ledger.changes is None else f'LEFT JOIN {view.ledger.changes.table} c ON c.row = d."$row"'


def collected(connection: duckdb.DuckDBPyConnection, log: Requests) -> Log:
    """Read the requests once, into temporary tables of the connection, and sum the usable ones by cell."""
    number = f"coalesce(TRY_CAST({_TEXT} AS DOUBLE), CAST(TRY_CAST({_TEXT} AS BOOLEAN) AS DOUBLE))"
    served = log.denominator - log.denominator // ROUNDING
    tests = (
        "target IS NULL", f"list_sum(target) < {served}", "logged IS NULL OR logged < 0", "outcome IS NULL", f"y IS NULL OR NOT abs(y) <= {MOST_OUTCOME}",
        "propensity IS NULL", "b IS NULL OR NOT (b > 0 AND b <= 1)",
    )  # fmt: skip
    reason = " ".join(f"WHEN {test} THEN {place}" for place, test in enumerate(tests))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE offpolicy_rows AS SELECT bag, md5(bag) < '8' AS half, stratum, target, logged, b, y, "
        f"CASE {reason} ELSE -1 END AS reason FROM (SELECT *, {number} AS y, TRY_CAST(propensity AS DOUBLE) AS b FROM ({log.relation}))"
    )
    counted = dict(connection.sql("SELECT reason, count(*) FROM offpolicy_rows GROUP BY reason").fetchall())
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE offpolicy_groups AS SELECT CAST(row_number() OVER (ORDER BY stratum, target) - 1 AS INTEGER) AS id, "
        "stratum, target FROM (SELECT DISTINCT stratum, target FROM offpolicy_rows WHERE reason = -1)"
    )
    (largest,) = one(connection, "SELECT max(abs(y)) FROM offpolicy_rows WHERE reason = -1")
    places = _places(largest or 0.0)
    cells = connection.sql(
        f"SELECT id, r.stratum, r.target, half, logged, b = 1, count(*), sum({_units(places)}) {_JOINED} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    read = tuple(Cell(row[0], row[1], tuple(row[2]), row[3], row[4], row[5], int(row[6]), int(row[7])) for row in cells)
    return Log(tuple(counted.get(place, 0) for place in range(len(REASONS))), read, places)


def weights(connection: duckdb.DuckDBPyConnection, log: Requests, places: int, answers: Iterable[Answer], clip: int) -> Weights:
    """Weigh the requests that `collected` has read, and sum them per bag; `clip` is the largest weight that is used."""
    values = ", ".join(f"({', '.join(str(value).upper() for value in answer)})" for answer in answers)
    named = "a(id, half, logged, chance, under_policy, as_logged, moved)"
    weight = (
        f"CAST(round(least(CAST(chance AS DOUBLE) / CAST({log.denominator} AS DOUBLE) / b, {MOST_WEIGHT}) * {UNIT}) AS HUGEINT)"
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE offpolicy_weights AS SELECT bag, {_units(places)} AS y, {weight} AS w, "
        f"CAST(under_policy AS HUGEINT) AS under_policy, CAST(as_logged AS HUGEINT) AS as_logged, moved "
        f"{_JOINED.replace('WHERE', f'JOIN (VALUES {values}) {named} USING (id, half, logged) WHERE')}"
    )
    most = clip * UNIT
    rows, *sums = one(
        connection,
        f"SELECT count(*), sum(w), sum(w * w), max(w), count(*) FILTER (w > {most}), sum(least(w, {most})), count(*) FILTER (moved), "
        f"coalesce(sum(w) FILTER (moved), 0), coalesce(sum(w * w) FILTER (moved), 0) FROM offpolicy_weights",
    )
    (top,) = one(connection, f"SELECT sum(w) FROM (SELECT w FROM offpolicy_weights ORDER BY w DESC LIMIT {-(-rows // 100)})")
    bags = connection.sql(
        f"SELECT count(*), sum(y), sum(w), sum(v), sum(v * y), sum(v * (y - as_logged)), sum(under_policy) "
        f"FROM (SELECT *, least(w, {most}) AS v FROM offpolicy_weights) GROUP BY bag ORDER BY bag"
    ).fetchall()
    return Weights(tuple(Bag(*(int(number) for number in row)) for row in bags), *(int(number) for number in (*sums, top)))


def dropped(connection: duckdb.DuckDBPyConnection) -> None:
    """Remove the temporary tables."""
    for table in ("rows", "groups", "weights"):
        connection.execute(f"DROP TABLE IF EXISTS offpolicy_{table}")


_TEXT = "CAST(outcome AS VARCHAR)"
_JOINED = "FROM offpolicy_rows r JOIN offpolicy_groups g ON r.stratum = g.stratum AND r.target = g.target WHERE reason = -1"


def _places(largest: float) -> int:
    """Decimal places of an outcome's unit."""
    return 0 if largest == 0 else max(-30, min(30, DIGITS - 1 - Decimal(largest).adjusted()))


def _units(places: int) -> str:
    return f"CAST(round(y * CAST(1e{places} AS DOUBLE)) AS HUGEINT)"
