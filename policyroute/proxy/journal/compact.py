"""`python -m policyroute.proxy.journal.compact FOLDER`: closed segments become Parquet. Started by the writers; safe to start by hand.

Crash-safe: the Parquet file is written under a hidden name, synced, and renamed; only then are its segments removed. It lists them
in its metadata, so that a segment which a crash left behind is known to be superseded, by readers and by the next compaction.
A line that isn't whole is left out and counted (metadata `policyroute.torn`); a segment with such lines other than its last is
kept beside, with the ending `.damaged`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from policyroute.proxy.journal import segments
from policyroute.proxy.journal.columns import COLUMNS
from policyroute.proxy.journal.lines import rows_of

BATCH_ROWS, BATCH_BYTES = 5_000, 32 << 20
LARGEST = 128 << 20  # bytes of segments that become one file
TORN = b"policyroute.torn"
ARROW: dict[str, pa.DataType] = {
    "BIGINT": pa.int64(), "INTEGER": pa.int32(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_(), "VARCHAR": pa.string(),
    "TIMESTAMP": pa.timestamp("us"), "DECIMAL(24,12)": pa.decimal128(24, 12), "JSON": pa.large_string(),
}  # fmt: skip


class Scanned(NamedTuple):
    """What a first pass over segments finds: rows, lines that aren't whole, segments that are damaged, columns beyond ours with types."""

    rows: int
    torn: int
    damaged: frozenset[Path]
    extras: dict[str, str]


def compact(folder: Path, *, everything: bool = False) -> int:
    """Make Parquet of what is due, or of all that is closed; the number of rows. Does nothing while another process is at it."""
    with segments.elected(folder, wait=everything) as chosen:
        if not chosen:
            return 0
        segments.adopt(folder)
        _clean(folder)
        if not everything and not segments.due(folder, time.time()):
            return 0
        return sum(_merged(folder, batch) for batch in _batches(segments.listed(folder, segments.CLOSED)))


def superseded(folder: Path) -> frozenset[str]:
    """Names, without their ending, of segments whose rows a Parquet file of the folder holds."""
    found: set[str] = set()
    for path in segments.listed(folder, segments.PARQUET):
        found.update(json.loads((pq.read_metadata(path).metadata or {}).get(segments.SEGMENTS, b"[]")))
    return frozenset(found)


def _clean(folder: Path) -> None:
    """Remove what a crash left: files that were never finished, and segments that are in a Parquet file already."""
    for path in folder.glob(f".{segments.PREFIX}*"):
        path.unlink(missing_ok=True)
    closed = segments.listed(folder, segments.CLOSED)
    if closed:
        done = superseded(folder)
        for path in closed:
            if segments.stem(path) in done:
                path.unlink(missing_ok=True)


def _batches(paths: Sequence[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path, status in segments.sizes(paths):
        if batch and size + status.st_size > LARGEST:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += status.st_size
    if batch:
        yield batch


def _merged(folder: Path, paths: Sequence[Path]) -> int:
    """One Parquet file of several segments, which are removed then."""
    found = _scanned(paths)
    name = segments.stem(paths[0])
    if found.rows:
        partial = folder / f".{name}{segments.PARQUET}"
        try:
            _write(partial, paths, found)
            partial.rename(folder / f"{name}{segments.PARQUET}")
        finally:
            partial.unlink(missing_ok=True)
        _sync(folder)
    for path in paths:
        if path in found.damaged:
            path.rename(path.with_name(f"{path.name}.damaged"))
        else:
            path.unlink(missing_ok=True)
    return found.rows


def _scanned(paths: Sequence[Path]) -> Scanned:
    rows = torn = 0
    kinds: dict[str, set[type]] = {}
    damaged = set()
    for path in paths:
        broken, first = 0, -1
        for number, row in enumerate(rows_of(path)):
            if row is None:
                broken, first = broken + 1, number if first < 0 else first
                continue
            rows += 1
            for key, value in row.items():
                if key not in COLUMNS:  # one that is null in every row is there all the same: its signal has its default
                    kinds.setdefault(key, set()).update(() if value is None else (type(value),))
        torn += broken
        if broken and first < number:  # more than a torn end
            damaged.add(path)
    return Scanned(rows, torn, frozenset(damaged), {key: type_of(found) for key, found in kinds.items()})


def type_of(kinds: Iterable[type]) -> str:
    """The column type for values of these kinds; text where they differ."""
    match set(kinds):
        case kinds if kinds == {bool}:
            return "BOOLEAN"
        case kinds if kinds == {int}:
            return "BIGINT"
        case kinds if kinds in ({float}, {int, float}):
            return "DOUBLE"
    return "VARCHAR"


def _write(partial: Path, paths: Sequence[Path], found: Scanned) -> None:
    types = COLUMNS | found.extras
    told: dict[bytes | str, bytes | str] = {
        segments.SEGMENTS: json.dumps([segments.stem(path) for path in paths]).encode(),
        TORN: str(found.torn).encode(),
    }
    schema = pa.schema([pa.field(name, ARROW[type_]) for name, type_ in types.items()], metadata=told)
    with partial.open("wb") as stream:
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            for batch in _row_batches(paths):
                columns = [pa.array([cast(row.get(name), type_) for row in batch], ARROW[type_]) for name, type_ in types.items()]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        stream.flush()
        os.fsync(stream.fileno())


def _row_batches(paths: Sequence[Path]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in (row for path in paths for row in rows_of(path) if row is not None):
        batch.append(row)
        size += sum(len(value) for value in row.values() if type(value) is str)
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def cast(value: Any, type_: str) -> Any:
    """A value of a line as its column's type; None where it is none."""
    if value is None:
        return None
    try:
        match type_:
            case "VARCHAR" | "JSON":
                return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            case "TIMESTAMP":
                return datetime.fromisoformat(value).replace(tzinfo=None)
            case "DECIMAL(24,12)":
                return Decimal(str(value)).quantize(Decimal(1).scaleb(-12))
            case "BIGINT" | "INTEGER":
                whole = int(value)
                return whole if abs(whole) < 1 << (63 if type_ == "BIGINT" else 31) else None
            case "DOUBLE":
                return float(value)
            case _:
                return bool(value)
    except (ValueError, TypeError, InvalidOperation):
        return None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(arguments: Sequence[str]) -> int:
    """The command: 0 when done, 1 where the folder can't be written, 2 for a wrong call."""
    folders = [argument for argument in arguments if argument != "--all"]
    if len(folders) != 1:
        sys.stderr.write("usage: python -m policyroute.proxy.journal.compact FOLDER [--all]\n")
        return 2
    os.nice(10)  # requests go first
    try:
        rows = compact(Path(folders[0]), everything="--all" in arguments)
    except (OSError, pa.ArrowException) as error:
        sys.stderr.write(f"{folders[0]}: {error}\n")
        return 1
    sys.stdout.write(f"{rows} rows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
