"""Trace rows to columns of facts: the same `Facts` and `Scanner` as live, one batch at a time.

Rules of this module
- A pure function of a batch and a plan, both picklable: fit for a pool of processes. A scanner is made once per process and plan.
- A value is NULL where the row has no content for it: `messages`, `tools` or `response_format` missing, NULL or no JSON.
- `VERSION` names what the columns mean. Whoever changes a meaning (a recipe, a pattern, a rule of shape) bumps its number, so that
  columns kept beside a trace are not taken for the new ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from policyroute.language.policy import BoolType, IntType, TextSet
from policyroute.language.vocabulary import SIGNALS
from policyroute.signals.facts import VERSION as VERSION
from policyroute.signals.facts import Facts
from policyroute.signals.text import Scanner, expression

CONTENT = ("messages", "tools", "response_format")
TEXTS = ("prompt", "last", "system")
EXTRACTED = tuple(name for name, row in SIGNALS.items() if row.content in CONTENT and name not in TEXTS)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to extract: signals of `EXTRACTED`, and scans as pairs of a text's name (of `TEXTS`) and a word set or pattern.

    Raises ValueError for a name that can't be extracted from content.
    """

    signals: tuple[str, ...] = ()
    scans: tuple[tuple[str, TextSet], ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.signals if name not in EXTRACTED] + [text for text, _ in self.scans if text not in TEXTS]
        if unknown:
            raise ValueError(f"not extracted from content: {', '.join(unknown)}")

    @property
    def content(self) -> tuple[str, ...]:
        """The trace columns that the plan reads. `tokens` reads `tools` too, where the trace has them."""
        needed = {SIGNALS[name].content for name in (*self.signals, *(text for text, _ in self.scans))}
        if "tokens" in self.signals:
            needed.add("tools")
        return tuple(name for name in CONTENT if name in needed)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the result's columns after `row`."""
        return (*self.signals, *(scan_name(text, text_set) for text, text_set in self.scans))


def scan_name(text: str, text_set: TextSet) -> str:
    """The column of a scan, named as the signal: `prompt has urgent`."""
    return f"{text} has {text_set.name}"


def digest(plan: Plan) -> str:
    """32 hex digits that are equal exactly for plans with equal columns and meaning under this `VERSION`."""
    scans = [(scan_name(text, text_set), expression(text_set)) for text, text_set in plan.scans]
    return hashlib.sha256(repr((VERSION, plan.signals, scans)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def schema(plan: Plan) -> pa.Schema:
    """Schema of the result: `row`, then one column per signal (int64, bool, string) and per scan (bool)."""
    fields = [pa.field("row", pa.int64()), *(pa.field(name, _arrow(name)) for name in plan.signals)]
    return pa.schema([*fields, *(pa.field(scan_name(text, text_set), pa.bool_()) for text, text_set in plan.scans)])


def extract(batch: pa.RecordBatch | pa.Table, plan: Plan) -> pa.Table:
    """Facts of every row of `batch`, in its order.

    `batch` has `row` and those of `plan.content` that the trace has, as text; a missing column is NULL in every row.
    """
    names = set(batch.schema.names)
    nothing = [None] * batch.num_rows
    contents = [batch.column(name).to_pylist() if name in plan.content and name in names else nothing for name in CONTENT]
    scanners = _scanners(plan.scans)
    width = len(plan.signals)
    values: list[list[Any]] = [[] for _ in plan.columns]
    for messages, tools, response_format in zip(*contents, strict=True):
        facts = Facts.of_row(messages, tools, response_format)
        for name, signal in zip(plan.signals, values, strict=False):
            signal.append(getattr(facts, name))
        for text, scanner, places in scanners:
            _append(values, width, places, getattr(facts, text), scanner)
    fields = schema(plan)
    arrays = [pa.array(column, type=field.type) for column, field in zip(values, list(fields)[1:], strict=True)]
    return pa.Table.from_arrays([_rows(batch), *arrays], schema=fields)


def _append(values: list[list[Any]], width: int, places: Sequence[int], text: str | None, scanner: Scanner) -> None:
    mask = None if text is None else scanner.mask(text)
    for bit, place in enumerate(places):
        values[width + place].append(None if mask is None else bool(mask >> bit & 1))


@lru_cache(maxsize=16)
def _scanners(scans: tuple[tuple[str, TextSet], ...]) -> list[tuple[str, Scanner, tuple[int, ...]]]:
    """One scanner per text, with the places of its sets in the plan's scans."""
    found = []
    for text in dict.fromkeys(text for text, _ in scans):
        places = tuple(place for place, (other, _) in enumerate(scans) if other == text)
        found.append((text, Scanner([scans[place][1] for place in places]), places))
    return found


def _arrow(name: str) -> pa.DataType:
    kind = SIGNALS[name].type
    return pa.int64() if isinstance(kind, IntType) else pa.bool_() if isinstance(kind, BoolType) else pa.string()


def _rows(batch: pa.RecordBatch | pa.Table) -> pa.Array[Any]:
    column = batch.column("row").cast(pa.int64())
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
