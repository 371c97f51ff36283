"""The rows of a trace in order, through the transitions: which decisions state changes.

Only rows that state can reach go through Python: those of a quota or budget that could fill up, if every request took of it what it could at
most, and those of a conversation whose decisions differ or that such a limit can touch. For all others the rule's own decision is
what the transitions would say, and DuckDB has it already.
"""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from policyroute.backends.sql import STUCK, literal
from policyroute.replay.state.rows import NEVER, Rows
from policyroute.replay.state.written import Changed, written
from policyroute.replay.traces.sql import one
from policyroute.state.transitions import NONE, transitions

SPANS = {
    period: days * 86_400_000_000 for period, days in {"minute": 1, "hour": 1, "day": 2, "week": 8, "month": 32}.items()
}  # microseconds that a window lasts at most, its time zone included
CHUNK = 100_000  # changed rows that are held before they are written
BATCH = 1 << 16  # rows that are fetched at a time
SWEEP = 1 << 20  # rows between two looks for conversations and windows that are over
LATE = 2 * 86_400_000_000  # microseconds by which a row may be late: windows are forgotten so long before the oldest row of a batch
SCHEMA = pa.schema([(name, pa.int64()) for name in ("row", "source", "model", "tier", "place", "acted")])
ROWS = '"$state_rows"'
QUOTES = '"$'


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of following the rows: how many there were, how many went through the transitions, and the ways in which limits and
    stickiness acted together (`acted` of a changed row is a place in it)."""

    rows: int
    followed: int
    acted: tuple[tuple[str, ...], ...]


def follow(
    connection: duckdb.DuckDBPyConnection,
    rows: Rows,
    sources: Sequence[str],
    table: str,
    scratch: Path,
    advance: Callable[[int], None],
) -> Followed:
    """Make the table `table` (`row`, `source`, `model`, `tier`, `place`, `acted`) of the rows that state changes.

    A row whose decision can't be known has the model STUCK.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {ROWS} AS {rows.over(sources)}")
    (count,) = one(connection, f"SELECT count(*) FROM {ROWS}")
    advance(count // 2)
    touched = _touched(connection, rows)
    follower = _Follower(rows)
    target = scratch / f"changes-{table.strip(QUOTES)}.parquet"
    with _without_collector(), pq.ParquetWriter(target, SCHEMA) as writer:
        ordered = f"SELECT {', '.join(rows.names)} FROM ({touched}) ORDER BY store, place, row"
        reader = connection.sql(ordered).to_arrow_reader(BATCH)
        for batch in reader:
            follower.batch([_numbers(batch.column(number)) for number in range(batch.num_columns)])
            if len(follower.changed) >= CHUNK:
                writer.write_batch(follower.taken())
        writer.write_batch(follower.taken())
    connection.execute(f"DROP TABLE {ROWS}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM read_parquet({literal(str(target))})")
    target.unlink()
    advance(count - count // 2)
    return Followed(count, follower.seen, tuple(follower.acted))


@contextmanager
def _without_collector() -> Iterator[None]:
    """What is kept has no circles: looking for them again and again would take a tenth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _numbers(column: Any) -> memoryview:
    """An Arrow column of whole numbers without nulls, as it lies in memory."""
    array = column.cast(pa.int64())
    return memoryview(array.buffers()[1]).cast("q")[array.offset : array.offset + len(array)]


# -- which rows state can reach --------------------------------------------------------------------------------------


def _touched(connection: duckdb.DuckDBPyConnection, rows: Rows) -> str:
    """The rows that have to be followed, as SQL; makes the tables of limits that could fill up."""
    policy = rows.policy
    reached = ["FALSE"]
    for place in range(len(policy.allowances)):
        connection.execute(f'CREATE OR REPLACE TEMP TABLE "$full_{place}" AS {_fillable(rows, place)}')
        keys = f'SELECT 1 FROM "$full_{place}" f WHERE f.k = r.key_{place} AND f.w = r.window_{place}'
        reached.append(f"(r.guards < 0 OR (r.guards >> {place} & 1 = 1 AND EXISTS ({keys})))")
    marked = f"SELECT r.*, ({' OR '.join(reached)}) AS touched FROM {ROWS} r"
    if policy.sticky is None:
        return f"SELECT * FROM ({marked}) WHERE touched"
    unlike = "plain" if rows.keeps else f"CASE WHEN tier <> {NONE} THEN tier END"
    connection.execute(
        f'CREATE OR REPLACE TEMP TABLE "$moving" AS SELECT conversation AS c FROM ({marked}) WHERE conversation <> 0 GROUP BY ALL '
        f"HAVING bool_or(touched) OR min({unlike}) <> max({unlike})"
    )
    return f'SELECT m.* FROM ({marked}) m WHERE touched OR EXISTS (SELECT 1 FROM "$moving" c WHERE c.c = m.conversation)'


def _fillable(rows: Rows, place: int) -> str:
    """The keys and windows in which a quota or budget could fill up: the most that its requests could take is more than it has."""
    one_, policy = rows.policy.allowances[place], rows.policy
    wide = policy.sticky is not None or len(policy.allowances) > 1
    covered = [str(n) for n, name in enumerate(policy.models) if not one_.of or name in one_.of]
    where = f"guards >> {place} & 1 = 1" + ("" if wide else f" AND plain IN ({', '.join(covered)})")
    amount = "1"
    if one_.kind == "budget":
        # A reservation that isn't known (NEVER) fills it: then the row is followed, and stopped if it comes to that model. A cost that isn't
        # known leaves the reservation in its place.
        most = [f"most_{number}" for number in rows.priced]
        costs = [f"nullif({name}, {NEVER})" for name in (*(f"cost_{number}" for number in rows.priced), "charged")]
        amount = f"CAST(greatest({', '.join([*most, *costs, '0'])}) AS HUGEINT)"
    return (
        f"SELECT key_{place} AS k, window_{place} AS w FROM {ROWS} WHERE {where} GROUP BY ALL HAVING sum({amount}) > {one_.amount}"
    )


# -- following -------------------------------------------------------------------------------------------------------


@dataclass
class _Follower:
    """State while the rows are followed; `changed` are the rows that it changed."""

    rows: Rows
    seen: int = 0
    swept: int = 0
    changed: list[Changed] = field(default_factory=list)
    acted: dict[tuple[str, ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.step, _ = written(self.rows)
        self.names = self.rows.names
        self.lifetime = transitions(self.rows.policy).lifetime
        self.codes: dict[tuple[int, int], int] = {}
        self.lasts: dict[int, Any] = {}
        self.used: list[dict[int, dict[int, Any]]] = [{} for _ in self.rows.policy.allowances]  # by place, window, key
        self.store: int | None = None

    def batch(self, columns: Sequence[memoryview]) -> None:
        """Follow some rows."""
        stores = columns[self.names.index("store")]
        size, begin = len(stores), 0
        while begin < size:
            if stores[begin] != self.store:
                self.store, self.lasts, self.used = (
                    stores[begin],
                    {},
                    [{} for _ in self.used],
                )  # another store keeps nothing of this one
            end = size if stores[size - 1] == self.store else bisect_right(stores, self.store, begin)
            self.step(self.lasts, self.used, self.changed, [column[begin:end] for column in columns])
            begin = end
        self.seen += size
        if self.seen - self.swept >= SWEEP:
            self.swept = self.seen
            self._sweep(min(columns[self.names.index("moment")]))

    def taken(self) -> pa.RecordBatch:
        """The changed rows since the last time, as the table has them."""
        columns = list(zip(*self.changed, strict=True)) or [()] * 7
        row, source, model, tier, place, held, path = columns
        codes = [-1 if found == STUCK else self._code(how) for found, how in zip(model, zip(held, path, strict=True), strict=True)]
        self.changed.clear()
        return pa.record_batch([pa.array(column, pa.int64()) for column in (row, source, model, tier, place, codes)], schema=SCHEMA)

    def _code(self, how: tuple[int, int]) -> int:
        """The place of what acted together (whether `sticky` did, and the path of limits) among all such."""
        found = self.codes.get(how)
        if found is None:
            found = self.codes[how] = self.acted.setdefault(self._titles(*how), len(self.acted))
        return found

    def _titles(self, held: int, path: int) -> tuple[str, ...]:
        policy, places = self.rows.policy, []
        while path:
            path, digit = divmod(path, len(policy.allowances) + 1)
            places.append(digit - 1)
        sticky = (policy.sticky.title,) if held and policy.sticky else ()
        return (*sticky, *(policy.allowances[place].title for place in reversed(places)))

    def _sweep(self, moment: int) -> None:
        """Forget conversations and windows that are over for long, so that memory stays with what is alive."""
        late = moment - LATE
        for place, allowance in enumerate(self.rows.policy.allowances):
            over = [window for window in self.used[place] if window + SPANS[allowance.period] < late]
            for window in over:
                del self.used[place][window]
        for conversation in [name for name, last in self.lasts.items() if last[2] + self.lifetime < late]:
            del self.lasts[conversation]
