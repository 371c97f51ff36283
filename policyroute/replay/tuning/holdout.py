"""The part of a trace that is kept for judging: chosen on the past, judged on the rest.

By time the hold-out is the end of the trace: its last `7d`, or its last `25%` of requests. Where that is more than half of the trace, the
last quarter of the requests is taken instead. Where times are relative or missing, whole clusters are held out by a hash of their key, so
that nobody is on both sides. The sentence says which it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb

from policyroute.replay.options import SimulationError
from policyroute.replay.traces.sql import one

PARTS = 10_000
QUARTER = PARTS // 4
_SECONDS = {"min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_BAGS = 1 << 16


@dataclass(frozen=True, slots=True)
class Holdout:
    """What is held out: the last `seconds`, or a share in parts of ten thousand."""

    text: str
    seconds: int = 0
    share: int = 0


DEFAULT = Holdout("7d", seconds=7 * _SECONDS["d"])


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a trace is cut: `late` is a condition over a sweep's rows, `sentence` says in words what is held out.

    `by` is `time`, `cluster` or `nothing`; `moment` is the first one of the hold-out in microseconds.
    """

    late: str
    sentence: str
    by: str
    moment: int | None = None


NOTHING = Cut("FALSE", "nothing is held out", "nothing")


def parse_holdout(text: str) -> Holdout:
    """`7d`, `12h` or `25%`. Raises `SimulationError` for anything else, and for a share outside 1 % to 90 %."""
    found = re.fullmatch(r"([0-9]{1,6})(min|h|d|w)|([0-9]{1,2})(?:\.([0-9]{1,2}))?\s?%", text.strip())
    share = 0 if not found or found[2] else int(found[3]) * 100 + int((found[4] or "").ljust(2, "0"))
    if found and found[2] and int(found[1]):
        return Holdout(text.strip(), seconds=int(found[1]) * _SECONDS[found[2]])
    if not PARTS // 100 <= share <= PARTS * 9 // 10:
        raise SimulationError(f"`{text}` is no hold-out", "write `--holdout 7d`, `12h`, or a share from 1% to 90% such as `25%`")
    return Holdout(text.strip(), share=share)


def cut(connection: duckdb.DuckDBPyConnection, table: str, asked: Holdout, *, clustered: bool = True) -> Cut:
    """Where to cut the rows of `table`, which has "$ts" (NULL where there is no date) and "$bag", of clusters or else of single requests."""
    share = asked.share or QUARTER
    if asked.seconds:
        low, high = one(connection, f'SELECT epoch_us(min("$ts")), epoch_us(max("$ts")) FROM {table}')
        if low is not None and high - low >= 2 * asked.seconds * 1_000_000:
            return _from(high - asked.seconds * 1_000_000 + 1, f"the last {asked.text} of the trace")
    # The first moment of the hold-out; requests of one moment stay together.
    (moment,) = one(connection, f'SELECT epoch_us(quantile_disc("$ts", {PARTS - share} / {PARTS})) FROM {table}')
    told = f"the last {_percent(share)} of the requests"
    why = f"; the trace is shorter than twice {asked.text}" if asked.seconds else ""
    if moment is not None:
        return _from(moment + 1, told + why)
    bags = share * _BAGS // PARTS
    return Cut(
        f"CAST('0x' || \"$bag\" AS INTEGER) < {bags}",
        f"{_percent(share)} of the {'clusters' if clustered else 'requests'} by a hash, since the trace has no dates",
        "cluster",
    )


def _from(moment: int, sentence: str) -> Cut:
    return Cut(f'coalesce(epoch_us("$ts") >= {moment}, FALSE)', sentence, "time", moment)


def _percent(share: int) -> str:
    return f"{share // 100}{f'.{share % 100:02d}' if share % 100 else ''} %"
