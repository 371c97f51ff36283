"""The arithmetic of `cost` as SQL, for millions of rows: a small number per row, one hash join, one sum of products.

A row's *slot* says which price applies: it is built from the number of its price list, its tier, its place among that
list's dates and hours, and its place among the list's prompt sizes. Each slot's rates are looked up by `cost.choose` once,
in Python, so SQL repeats no rule of choice. Every slot that a row can have is in the table, unpriceable ones with NULL rates:
an inner join loses no row.

    table = PriceTable([mini, strong])
    connection.execute(table.create_sql())
    connection.sql(f'''
        SELECT {table.cost_sql("p", "input_tokens", "cached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens")}
        FROM (SELECT *, {table.slot_sql("model_number", "ts", "input_tokens", "service_tier")} AS slot FROM trace)
        JOIN price_slots AS p USING (slot)''')

Expressions that are handed in should be columns: they are repeated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import NamedTuple

from policyroute.prices.cost import FALLBACKS, MAX_TOKENS, NO_CACHED, NO_WRITE, NOT_EXACT, choose
from policyroute.prices.price import OTHER_TIER, TIER_NAMES, TIERS, PriceList

_TIERS = (*TIERS, OTHER_TIER)
_RATES = ("rate_input", "rate_cached", "rate_write_5m", "rate_write_1h", "rate_output", "rate_request")
_FLAGS = ("sells_output", "lacks_cached", "lacks_write_5m", "lacks_write_1h")
_BIT = {text: 1 << place for place, text in enumerate(FALLBACKS)}
_LARGEST_BIGINT_RATE = (2**63 - 1) // (5 * MAX_TOKENS) - 1  # five products of at most MAX_TOKENS fit 63 bits below it
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


class Slot(NamedTuple):
    """A row of the slot table: rates with their fallbacks filled in, in picodollars per token; None is unpriceable.

    The names are the table's columns, chosen so that a trace has none of them.
    """

    slot: int
    price_list: int
    rate_input: int | None
    rate_cached: int | None
    rate_write_5m: int | None
    rate_write_1h: int | None
    rate_output: int | None
    rate_request: int | None
    sells_output: bool | None
    lacks_cached: bool
    lacks_write_5m: bool
    lacks_write_1h: bool
    price_fallback: int


class _Axes(NamedTuple):
    """Where the prices of one list change: moments, seconds of the day, prompt sizes."""

    dates: tuple[datetime, ...]
    seconds: tuple[int, ...]
    sizes: tuple[int, ...]


class PriceTable:
    """Slots for an ordered list of price lists; a row refers to its list by number, from 0. None is an unpriceable model."""

    def __init__(self, lists: Sequence[PriceList | None], name: str = "price_slots") -> None:
        self.name = name
        self._lists = tuple(lists)
        self._axes = tuple(_axes(prices) for prices in self._lists)
        # Two more dates than boundaries: the time before the first one, and no time at all.
        self._dates = 2 + max((len(axes.dates) for axes in self._axes), default=0)
        self._hours = 1 + max((len(axes.seconds) for axes in self._axes), default=0)
        self._sizes = 1 + max((len(axes.sizes) for axes in self._axes), default=0)

    # -- the table -------------------------------------------------------------------------------------------------

    def rows(self) -> list[Slot]:
        """All slots, the unpriceable -1 first."""
        return [_unpriceable(-1, -1), *(slot for number in range(len(self._lists)) for slot in self._slots(number))]

    def create_sql(self) -> str:
        """A statement that creates (or replaces) the slot table as a temporary one."""
        rows = self.rows()
        kinds = dict.fromkeys(Slot._fields, "INTEGER")
        kinds |= dict.fromkeys(_RATES, self._money(rows)) | dict.fromkeys(_FLAGS, "BOOLEAN")
        casts = ", ".join(f"CAST({column} AS {kind}) AS {column}" for column, kind in kinds.items())
        values = ",\n".join(f"({', '.join(map(_literal, row))})" for row in rows)
        return f"CREATE OR REPLACE TEMP TABLE {self.name} AS SELECT {casts} FROM (VALUES\n{values}\n) AS v({', '.join(kinds)})"

    # -- per row ---------------------------------------------------------------------------------------------------

    def slot_sql(self, number: str, ts: str, input_tokens: str, tier: str = "'standard'") -> str:
        """An INTEGER: the slot of a row whose list has that `number` (NULL or out of range: -1).

        `ts` is a TIMESTAMP in UTC (NULL: no date), `tier` the service tier as VARCHAR in the provider's words.
        """
        priced = [at for at, prices in enumerate(self._lists) if prices is not None]
        if not priced:
            return "CAST(-1 AS INTEGER)"
        place = f"({number}) * {len(_TIERS)} + {self._tier_sql(tier)}"
        place = f"({place}) * {self._dates} + {self._date_sql(number, ts)}"
        place = f"({place}) * {self._hours} + {self._hour_sql(number, ts)}"
        place = f"({place}) * {self._sizes} + {self._size_sql(number, input_tokens)}"
        known = f"({number}) BETWEEN 0 AND {len(self._lists) - 1}"
        if len(priced) < len(self._lists):
            known = f"({number}) IN ({_numbers(priced)})"
        return f"CAST(CASE WHEN {known} THEN {place} ELSE -1 END AS INTEGER)"

    def cost_sql(self, slot: str, input_tokens: str, cached: str, write_5m: str, write_1h: str, output: str) -> str:
        """Picodollars of a row joined with slot table alias `slot`, BIGINT (HUGEINT for rates beyond $1,800 per million).

        NULL where unpriceable, as `cost` gives None; input and output that are NULL are unknown, the other three are 0 then.
        Sum it as HUGEINT (which SUM of BIGINT does).
        """
        parts = [f"coalesce({part}, 0)" for part in (cached, write_5m, write_1h)]
        bounds = " AND ".join(f"{part} BETWEEN 0 AND {MAX_TOKENS}" for part in (f"({input_tokens})", f"({output})", *parts))
        fresh = f"({input_tokens}) - {' - '.join(parts)}"
        rates = (f"{slot}.rate_cached", f"{slot}.rate_write_5m", f"{slot}.rate_write_1h")
        total = " + ".join(f"{part} * {rate}" for part, rate in zip(parts, rates, strict=True))
        total = f"({fresh}) * {slot}.rate_input + {total} + ({output}) * {slot}.rate_output + {slot}.rate_request"
        # The inner CASE is evaluated only for rows inside the bounds, where its differences can't overflow.
        possible = f"{fresh} >= 0 AND ({slot}.sells_output OR ({output}) = 0)"
        return f"CASE WHEN {bounds} THEN CASE WHEN {possible} THEN {total} END END"

    def fallback_sql(self, slot: str, cached: str, write_5m: str, write_1h: str) -> str:
        """An INTEGER of bits in the order of `cost.FALLBACKS`: what was assumed in pricing a row that has a cost."""
        writes = [f"({slot}.lacks_{part} AND {value} > 0)" for part, value in (("write_5m", write_5m), ("write_1h", write_1h))]
        return (
            f"{slot}.price_fallback | CASE WHEN {slot}.lacks_cached AND {cached} > 0 THEN {_BIT[NO_CACHED]} ELSE 0 END"
            f" | CASE WHEN {' OR '.join(writes)} THEN {_BIT[NO_WRITE]} ELSE 0 END"
        )

    # -- axes as SQL -----------------------------------------------------------------------------------------------

    def _tier_sql(self, tier: str) -> str:
        names = defaultdict(list)
        for name, tier_name in TIER_NAMES.items():
            names[_TIERS.index(tier_name)].append(_quoted(name))
        cases = " ".join(f"WHEN lower({tier}) IN ({', '.join(each)}) THEN {place}" for place, each in names.items() if place)
        return f"CASE WHEN {tier} IS NULL OR lower({tier}) IN ({', '.join(names[0])}) THEN 0 {cases} ELSE {len(_TIERS) - 1} END"

    def _date_sql(self, number: str, ts: str) -> str:
        def passed(axes: _Axes) -> str:
            dated = axes.dates or axes.seconds
            return f"CASE WHEN ({ts}) IS NULL THEN {len(axes.dates) + 1} ELSE {_passed(ts, axes.dates)} END" if dated else "0"

        return _by_list(number, (((axes.dates, bool(axes.seconds)), passed(axes)) for axes in self._axes))

    def _hour_sql(self, number: str, ts: str) -> str:
        def passed(seconds: tuple[int, ...]) -> str:
            hours = (f"CAST(CAST(({ts}) AS TIME) >= TIME '{timedelta(seconds=each)!s:0>8}' AS INTEGER)" for each in seconds)
            return f"CASE WHEN ({ts}) IS NULL THEN 0 ELSE {' + '.join(hours)} END" if seconds else "0"

        return _by_list(number, ((axes.seconds, passed(axes.seconds)) for axes in self._axes))

    def _size_sql(self, number: str, input_tokens: str) -> str:
        def passed(sizes: tuple[int, ...]) -> str:
            larger = (f"CAST(({input_tokens}) > {each} AS INTEGER)" for each in sizes)
            return f"coalesce({' + '.join(larger)}, 0)" if sizes else "0"

        return _by_list(number, ((axes.sizes, passed(axes.sizes)) for axes in self._axes))

    # -- slots -----------------------------------------------------------------------------------------------------

    def _slots(self, number: int) -> list[Slot]:
        prices, axes = self._lists[number], self._axes[number]
        if prices is None:
            return []
        dates: list[tuple[int, datetime | None]] = list(enumerate((_BEGINNING, *axes.dates)))
        if axes.dates or axes.seconds:
            dates.append((len(axes.dates) + 1, None))
        hours = list(enumerate((0, *axes.seconds)))
        sizes = list(enumerate((0, *(size + 1 for size in axes.sizes))))
        slots = []
        for (tier, name), (date, at), (hour, second), (size, tokens) in product(enumerate(_TIERS), dates, hours, sizes):
            slot = (((number * len(_TIERS) + tier) * self._dates + date) * self._hours + hour) * self._sizes + size
            moment = at + timedelta(seconds=second) if at and hours[1:] else at
            slots.append(_slot(slot, number, prices, moment, tokens, name))
        return slots

    def _money(self, rows: Iterable[Slot]) -> str:
        largest = max((rate or 0 for row in rows for rate in row[2:8]), default=0)
        return "BIGINT" if largest <= _LARGEST_BIGINT_RATE else "HUGEINT"


def fallbacks_of(bits: int) -> tuple[str, ...]:
    """The texts of `cost.FALLBACKS` that a row's bits stand for."""
    return tuple(text for text in FALLBACKS if bits & _BIT[text])


def _slot(slot: int, number: int, prices: PriceList, at: datetime | None, tokens: int, tier: str) -> Slot:
    chosen = choose(prices, at, tokens, tier)
    if chosen is None:
        return _unpriceable(slot, number)
    price = chosen.price
    bits = sum(_BIT[text] for text in chosen.fallbacks) | (0 if prices.exact else _BIT[NOT_EXACT])
    return Slot(
        slot,
        number,
        price.input,
        price.input if price.cached is None else price.cached,
        price.input if price.write_5m is None else price.write_5m,
        price.input if price.write_1h is None else price.write_1h,
        price.output or 0,
        price.request,
        price.output is not None,
        price.cached is None,
        price.write_5m is None,
        price.write_1h is None,
        bits,
    )


def _unpriceable(slot: int, number: int) -> Slot:
    return Slot(slot, number, None, None, None, None, None, None, None, False, False, False, 0)


def _axes(prices: PriceList | None) -> _Axes:
    rows = prices.prices if prices else ()
    moments = {moment for price in rows for moment in (price.since, price.until) if moment}
    seconds = {second for price in rows if price.daily for second in price.daily if 0 < second < 86_400}
    return _Axes(tuple(sorted(moments)), tuple(sorted(seconds)), tuple(sorted({price.above for price in rows if price.above})))


def _by_list(number: str, cases: Iterable[tuple[object, str]]) -> str:
    """One expression for all lists: those with the same key share a branch, and those with "0" need none."""
    branches: dict[object, tuple[str, list[int]]] = {}
    for place, (key, expression) in enumerate(cases):
        if expression != "0":
            branches.setdefault(key, (expression, []))[1].append(place)
    if not branches:
        return "0"
    whens = " ".join(f"WHEN ({number}) IN ({_numbers(places)}) THEN {expression}" for expression, places in branches.values())
    return f"CASE {whens} ELSE 0 END"


def _passed(ts: str, dates: Iterable[datetime]) -> str:
    moments = (f"CAST(({ts}) >= TIMESTAMP '{date.astimezone(UTC):%Y-%m-%d %H:%M:%S}' AS INTEGER)" for date in dates)
    return " + ".join(moments) or "0"


def _numbers(places: Iterable[int]) -> str:
    return ", ".join(map(str, places))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literal(value: int | bool | None) -> str:
    return "NULL" if value is None else str(value).upper()
