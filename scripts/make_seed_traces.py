"""Writes down the workloads of published cost tables: `python scripts/make_seed_traces.py [FOLDER]`, into traces/seeds.

Each is exactly what the table says: so many requests of so many input and output tokens on one model. What a request is
(`kind`, or the `tool` whose result it ends in) stands in a column, and the policy of the same name in policies/seeds routes
by it. The kinds are spread evenly, so that every part of a trace has the shares of the whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
START = datetime(2026, 10, 5)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Seed:
    """`pattern` is repeated until there are `requests` values of `column`."""

    name: str
    requests: int
    model: str
    input: int
    output: int
    column: str
    pattern: tuple[str, ...]


JANITORIAL = ("read_file", "git_status", "read_file", "format_code", "read_file", "fetch_docs", "git_status")
SEEDS = (
    Seed("two_models", 100_000, "gpt-4o", 500, 0, "kind", ("easy",) * 7 + ("hard",) * 3),
    Seed("three_tiers", 100_000, "claude-opus-4-8", 800, 300, "kind", ("easy",) * 7 + ("mid",) * 2 + ("hard",)),
    Seed("classifier", 100_000, "gpt-5.4-mini", 100, 5, "kind", ("classify",)),
    Seed("two_hundred", 200, "claude-opus-4-7", 2_000, 1_000, "kind", ("easy",) * 13 + ("mid",) * 5 + ("hard",) * 2),
    Seed("coding_session", 1_000, "claude-3-5-sonnet", 2_000, 0, "tool", (*JANITORIAL, "edit_file", "run_tests", "none")),
)


def table(seed: Seed) -> pa.Table:
    """The trace: one day, requests at equal distances."""
    step = DAY / seed.requests
    number = seed.requests
    whole = pa.int64()
    return pa.table(
        {
            "ts": pa.array([START + step * place for place in range(number)], pa.timestamp("ms")),
            "model": pa.repeat(seed.model, number),
            "input_tokens": pa.array([seed.input] * number, whole),
            "output_tokens": pa.array([seed.output] * number, whole),
            seed.column: pa.array(list(_repeated(seed.pattern, number)), pa.string()),
        }
    )


def _repeated(pattern: tuple[str, ...], number: int) -> Iterator[str]:
    return (pattern[place % len(pattern)] for place in range(number))


def write(folder: Path) -> None:
    """One file each: what repeats costs nothing in a dictionary, and times at equal distances nothing as differences."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        content = table(seed)
        options: dict[str, Any] = {
            "compression": "zstd",
            "compression_level": 19,
            "use_dictionary": [name for name in content.column_names if name != "ts"],
            "column_encoding": {"ts": "DELTA_BINARY_PACKED"},
        }
        pq.write_table(content, folder / f"{seed.name}.parquet", **options)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "traces" / "seeds")
