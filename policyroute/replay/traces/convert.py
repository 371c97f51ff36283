"""Special shapes become canonical Parquet in the scratch folder, once, in batches: what DuckDB scans is then a plain table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from policyroute.replay.traces.head import Head, read_head
from policyroute.replay.traces.schema import COLUMNS, SUSPECT
from policyroute.replay.traces.tables import Shape, Table

Row = Mapping[str, Any]

_ARROW: dict[str, pa.DataType] = {
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "TIMESTAMP": pa.timestamp("us"),
    "DECIMAL(24,12)": pa.decimal128(24, 12),
    "JSON": pa.large_string(),
}
_BATCH_ROWS = 5_000
_BATCH_BYTES = 16_000_000
_PAGE_BYTES = 32_000_000  # the prompts of a session repeat each other: a page that holds many packs them a hundredfold


@dataclass(slots=True)
class Tally:
    """Counts that a conversion makes while it goes, by note code; `aside` names what was left out because another file has it."""

    counts: dict[str, int] = field(default_factory=dict)
    aside: list[str] = field(default_factory=list)

    def add(self, code: str, rows: int = 1) -> None:
        """Counts rows for a note."""
        self.counts[code] = self.counts.get(code, 0) + rows


def convert(
    rows: Iterable[Row], extras: Mapping[str, str], source: Head, shape: Shape, scratch: Path, connection: duckdb.DuckDBPyConnection
) -> Table:
    """Writes rows (canonical columns, and extras with their DuckDB types) and gives the table that reads them, under the
    name and digest of the source."""
    fields = [pa.field(column.name, _ARROW[column.type]) for column in COLUMNS if column.name != SUSPECT]
    schema = pa.schema([*fields, *(pa.field(name, _ARROW[type_]) for name, type_ in extras.items())])
    scratch.mkdir(parents=True, exist_ok=True)
    target = scratch / f"converted-{source.digest[:16]}.parquet"
    partial = scratch / f".{target.name}.{os.getpid()}"
    contents = {column.name for column in COLUMNS if column.type == "JSON"}
    plain = [name for name in schema.names if name not in contents]
    with pq.ParquetWriter(
        partial,
        schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=plain,  # type: ignore[arg-type]  # the stubs know only bool
        write_statistics=plain,
        data_page_size=_PAGE_BYTES,
    ) as writer:
        for batch in _batches(rows):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    partial.replace(target)
    return Table(read_head(target, connection), shape, source.name, source.digest)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
