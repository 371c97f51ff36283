"""The rows of a trace in order, through the transitions: which decisions state changes.

Only rows that state can reach go through Python: those of a quota or budget that could fill up, if every request took of it what it could at
most, and those of a conversation whose decisions differ or that such a limit can touch. For all others the rule's own decision is
what the transitions would say, and DuckDB has it already.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from policyroute.backends.sql import NOBODY, STUCK, literal
from policyroute.language.policy import Policy
from policyroute.prices.caching import CacheRule, cache_rule
from policyroute.replay.state.rows import NEVER, Kind, Rows
from policyroute.replay.traces.sql import one
from policyroute.state.transitions import NONE, Last, Outcome, Transitions, settled, taken, transitions

CHUNK = 100_000  # changed rows that are held before they are written
BATCH = 1 << 16  # rows that are fetched at a time
SWEEP = 1 << 20  # rows between two looks for conversations and windows that are over
LATE = 2 * 86_400_000_000  # microseconds by which a row may be late: windows are forgotten so long after the newest row
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


class _UnknownError(Exception):
    """What a choice depends on isn't in the trace."""


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
    with pq.ParquetWriter(target, SCHEMA) as writer:
        ordered = f"SELECT {', '.join(rows.names)} FROM ({touched}) ORDER BY store, place, row"
        reader = connection.sql(ordered).to_arrow_reader(BATCH)
        for batch in reader:
            follower.batch([_numbers(batch.column(number)) for number in range(batch.num_columns)])
            if len(follower.changed) >= CHUNK:
                _write(writer, follower)
        _write(writer, follower)
    connection.execute(f"DROP TABLE {ROWS}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM read_parquet({literal(str(target))})")
    target.unlink()
    advance(count - count // 2)
    return Followed(count, follower.seen, tuple(follower.acted))


def _numbers(column: Any) -> memoryview:
    """An Arrow column of whole numbers without nulls, as it lies in memory."""
    array = column.cast(pa.int64())
    return memoryview(array.buffers()[1]).cast("q")[array.offset : array.offset + len(array)]


def _write(writer: pq.ParquetWriter, follower: _Follower) -> None:
    columns = zip(*follower.changed, strict=True) if follower.changed else ((),) * len(SCHEMA)
    writer.write_batch(pa.record_batch([pa.array(column, pa.int64()) for column in columns], schema=SCHEMA))
    follower.changed.clear()


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
        # What isn't known, a choice that doesn't exist included, is left out of `greatest`: it is never chosen, or stops the row.
        costs = [f"nullif({of}_{kind.name}, {NEVER})" for kind in rows.kinds for of in ("most", "cost")]
        amount = f"CAST(greatest({', '.join([*costs, f'nullif(charged, {NEVER})', '0'])}) AS HUGEINT)"
    return (
        f"SELECT key_{place} AS k, window_{place} AS w FROM {ROWS} WHERE {where} GROUP BY ALL HAVING sum({amount}) > {one_.amount}"
    )


# -- following -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    """One row's choices (`transitions.Choices`): the columns, and the place of the row in them."""

    columns: dict[str, memoryview]
    policy: Policy
    kinds: tuple[Kind, ...]
    caches: tuple[CacheRule | None, ...] | None
    budgets: tuple[bool, ...]
    index: int = 0
    model: int = NONE
    tier: int = NONE
    guards: tuple[int, ...] = ()

    def of_tier(self, tier: int) -> int:
        return self._known(self.columns[f"tier_{tier}"][self.index])

    def usable(self, model: int) -> bool:
        found = self.columns["usable"][self.index]
        if found < 0:
            raise _UnknownError
        return bool(found >> model & 1)

    def beyond(self, place: int) -> int:
        column = self.columns.get(f"beyond_{place}")
        return NONE if column is None else self._known(column[self.index])

    def wanted(self, place: int, model: int) -> int | None:
        return 1 if not self.budgets[place] else self._known_amount(self.amount("most", model))

    def warm(self, model: int) -> int:
        at = self.columns["moment"][self.index]
        if self.caches is None:
            return at
        rule, tokens = self.caches[model], self.columns["tokens"][self.index]
        if tokens < 0:
            raise _UnknownError
        return at - 1 if rule is None or tokens < rule.minimum else at + rule.lifetime * 1_000_000

    def amount(self, of: str, model: int) -> int:
        """What the row costs with a model at most (`most`), or for its recorded tokens (`cost`); NEVER where that isn't known."""
        for kind in self.kinds:
            if self.columns[kind.name][self.index] == model:
                return self.columns[f"{of}_{kind.name}"][self.index]
        return NEVER

    def _known(self, model: int) -> int:
        if model == STUCK:
            raise _UnknownError
        return model

    def _known_amount(self, amount: int) -> int:
        if amount == NEVER:
            raise _UnknownError
        return amount


@dataclass
class _Follower:
    """State while the rows are followed; `changed` are the rows that it changed."""

    rows: Rows
    seen: int = 0
    changed: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    acted: dict[tuple[str, ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        policy = self.rows.policy
        self.transitions: Transitions = transitions(policy)
        self.lasts: dict[int, Last] = {}
        self.used: list[dict[int, dict[int, int]]] = [{} for _ in policy.allowances]  # by place, window, key
        self.waiting: list[tuple[int, int, int, int, int, int]] = []  # to be settled: when, row, place, window, key, difference
        self.budgets = tuple(one.kind == "budget" for one in policy.allowances)
        self.masks = {-1: ()} | {bits: _places(bits) for bits in range(1 << len(policy.allowances))}
        cached = policy.sticky is not None and policy.sticky.mode == "keep while cached"
        caches = tuple(cache_rule(model.provider or "") for model in policy.models.values()) if cached else None
        self.row = _Row({}, policy, self.rows.kinds, caches, self.budgets)
        self.store: int | None = None

    def batch(self, columns: Sequence[memoryview]) -> None:
        """Follow some rows."""
        named = self.row.columns = dict(zip(self.rows.names, columns, strict=True))
        numbers, stores, places, guards = named["row"], named["store"], named["place"], named["guards"]
        for index in range(len(numbers)):
            if stores[index] != self.store:
                self._begin(stores[index])
            if self.waiting and self.waiting[0][0] <= places[index]:
                self._settle(places[index])
            self.seen += 1
            if guards[index] < 0:
                self.changed.append((numbers[index], NONE, STUCK, NONE, NONE, -1))
            else:
                self._one(index, numbers[index])
            if self.seen % SWEEP == 0:
                self._sweep(named["moment"][index])

    def _begin(self, store: int) -> None:
        """Another store's rows: nothing is left of what the one before kept."""
        self.store, self.lasts, self.waiting = store, {}, []
        self.used = [{} for _ in self.used]

    def _one(self, index: int, number: int) -> None:
        row, named = self.row, self.row.columns
        row.index, row.model, row.tier, row.guards = (
            index,
            named["plain"][index],
            named["tier"][index],
            self.masks[named["guards"][index]],
        )
        conversation, at = named["conversation"][index], named["moment"][index]
        used = {g: self.used[g].get(named[f"window_{g}"][index], _NONE_USED).get(named[f"key_{g}"][index], 0) for g in row.guards}
        try:
            outcome = self.transitions.next(row, at, self.lasts.get(conversation) if conversation else None, used)
        except _UnknownError:
            self.changed.append((number, NONE, STUCK, NONE, NONE, -1))
            return
        if conversation and outcome.last is not None:
            self.lasts[conversation] = outcome.last
        for place, amount in outcome.taken:
            self._take(index, place, amount, outcome)
        if outcome.held or outcome.acted:
            self.changed.append((number, outcome.source, outcome.model, outcome.tier, outcome.place, self._code(outcome)))

    def _take(self, index: int, place: int, amount: int, outcome: Outcome) -> None:
        named = self.row.columns
        window, key = named[f"window_{place}"][index], named[f"key_{place}"][index]
        of = self.used[place].setdefault(window, {})
        of[key] = taken(of.get(key, 0), amount)
        if not self.budgets[place]:
            return
        cost = named["charged"][index] if named["seen"][index] == outcome.model else self.row.amount("cost", outcome.model)
        change = settled(0, amount, None if cost == NEVER else cost)
        if change:
            heapq.heappush(self.waiting, (named["settles"][index], named["row"][index], place, window, key, change))

    def _settle(self, until: int) -> None:
        """Settle what was over by a place in the order: an answer that ended as another request came is settled before it."""
        while self.waiting and self.waiting[0][0] <= until:
            _, _, place, window, key, change = heapq.heappop(self.waiting)
            of = self.used[place].setdefault(window, {})
            of[key] = of.get(key, 0) + change

    def _code(self, outcome: Outcome) -> int:
        policy = self.rows.policy
        sticky = (policy.sticky.title,) if outcome.held and policy.sticky else ()
        titles = (*sticky, *(policy.allowances[place].title for place in outcome.acted))
        return self.acted.setdefault(titles, len(self.acted))

    def _sweep(self, at: int) -> None:
        """Forget conversations and windows that are over for long, so that memory stays with what is alive."""
        late = at - LATE
        for place, one_ in enumerate(self.rows.policy.allowances):
            span = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_678_400}[one_.period] * 1_000_000
            self.used[place] = {window: keys for window, keys in self.used[place].items() if window + span >= late}
        lifetime = self.transitions.lifetime
        self.lasts = {conversation: last for conversation, last in self.lasts.items() if last.at + lifetime >= late}


_NONE_USED: dict[int, int] = {}


def _places(bits: int) -> tuple[int, ...]:
    return tuple(_bits(bits))


def _bits(bits: int) -> Iterator[int]:
    place = 0
    while bits:
        if bits & 1:
            yield place
        bits, place = bits >> 1, place + 1


__all__ = ["NOBODY", "Followed", "follow"]
