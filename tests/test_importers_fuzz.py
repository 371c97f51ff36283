"""Importers are total: whatever stands in a field of a sample, the file is read, and no row holds what its column can't."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from policyroute.replay.traces import bedrock, claude_code, codex, helicone, langfuse, openai, otel, spans
from policyroute.replay.traces.convert import _ARROW, Row, Tally
from policyroute.replay.traces.head import Head
from policyroute.replay.traces.schema import COLUMNS
from tests.traces_support import SAMPLES

Record = dict[str, Any]
ODD: tuple[Any, ...] = (
    None,
    "",
    "x",
    "{",
    "[1]",
    '{"a": 1}',
    -1,
    10**30,
    1.5,
    float("1e400"),
    True,
    [],
    [1],
    [None],
    ["x", {}],
    {},
    {"a": {"b": []}},
    "\ud83d",
)


SEEN = {"otlp": 3}  # places of the same shape that are tried, where that is more than one: attributes all look alike


def _spanned(read: Callable[[Mapping[str, Any]], Iterable[spans.Span]], records: list[Record], tally: Tally) -> Iterator[Row]:
    found = [span for record in records for span in read(record)]
    index = otel.Index()
    for span in found:
        index.add(span)
    return otel.rows(found, index, index.wrappers(), tally)


def _otlp(records: list[Record], folder: Path, tally: Tally) -> Iterator[Row]:
    return _spanned(spans.of_otlp, records, tally)


def _flat(records: list[Record], folder: Path, tally: Tally) -> Iterator[Row]:
    return _spanned(lambda record: [spans.of_row(record)], records, tally)


def _head(records: list[Record], folder: Path) -> Head:
    path = folder / "t.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return Head(path, "", "jsonl", (), "", (), "digest")


def _claude(records: list[Record], folder: Path, tally: Tally) -> Iterator[Row]:
    head, index = _head(records, folder), claude_code.Index()
    index.add(head)
    return claude_code.rows(head, index, tally)


def _codex(records: list[Record], folder: Path, tally: Tally) -> Iterator[Row]:
    return codex.rows(_head(records, folder), set(), tally)


def _batch(records: list[Record], folder: Path, tally: Tally) -> Iterator[Row]:
    return (openai._batch(record, record) for record in records)


READERS: dict[str, tuple[str, Mapping[str, str], Callable[[list[Record], Path, Tally], Iterable[Row]]]] = {
    "otlp": ("otlp.jsonl", otel.EXTRAS, _otlp),
    "otel": ("otel_flat.jsonl", otel.EXTRAS, _flat),
    "openinference": ("phoenix.jsonl", otel.EXTRAS, _flat),
    "langfuse": ("langfuse.jsonl", langfuse.EXTRAS, lambda records, folder, tally: langfuse.rows(records, tally)),
    "helicone": ("helicone.jsonl", helicone.EXTRAS, lambda records, folder, tally: helicone.rows(records, tally)),
    "stored": ("openai_stored.jsonl", {}, lambda records, folder, tally: openai.stored(records, tally)),
    "batch input": ("openai_batch/input.jsonl", {}, _batch),
    "batch output": ("openai_batch/output.jsonl", {}, _batch),
    "bedrock": ("bedrock.jsonl", bedrock.EXTRAS, lambda records, folder, tally: bedrock.rows(records, tally)),
    "claude-code": ("claude_code/-home-someone-project/ses-1.jsonl", claude_code.EXTRAS, _claude),
    "codex": ("codex/rollout-2026-01-09T11-00-00-new.jsonl", codex.EXTRAS, _codex),
    "codex old": ("codex/rollout-2025-09-01T09-00-00-old.jsonl", codex.EXTRAS, _codex),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a value."""
    pairs: Iterable[tuple[Any, Any]] = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in pairs:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(records: list[Record], path: tuple[Any, ...], value: Any) -> list[Record]:
    """The records with another value at a place."""
    found = copy.deepcopy(records)
    place: Any = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return found


@pytest.mark.parametrize("name", READERS)
def test_odd_values_are_read_over(name: str, tmp_path: Path) -> None:
    sample, extras, read = READERS[name]
    records = [json.loads(line) for line in (SAMPLES / sample).read_text("utf-8").splitlines()]
    fields = [pa.field(column.name, _ARROW[column.type]) for column in COLUMNS]
    schema = pa.schema([*fields, *(pa.field(extra, _ARROW[type_]) for extra, type_ in extras.items())])
    shapes: Counter[tuple[Any, ...]] = Counter()
    for path in places(records):
        shape = tuple(key if isinstance(key, str) else "" for key in path)
        shapes[shape] += 1
        if len(path) == 1 or shapes[shape] > SEEN.get(name, 1):
            continue
        rows: list[Row] = []
        for value in ODD[len(shapes) % 3 :: 3]:  # every value in some place, every place with some values
            rows += read(changed(records, path, value), tmp_path, Tally())
        table = pa.Table.from_pylist(rows, schema=schema)
        assert table.num_rows or name == "codex"
        for content in ("messages", "tools", "response_format", "metadata"):
            for text in table.column(content).to_pylist():
                assert text is None or json.loads(text) is not None
