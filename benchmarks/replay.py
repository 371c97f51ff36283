"""Replay: the decision over 10 million rows against other ways to run the same rules, and the whole `simulate` with its memory.

    python benchmarks/replay.py [--smoke]

Rows are generated into a temporary parquet file with the columns of a trace. Absolute figures are rows per second of CPU.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read when polars is imported

import duckdb
import peers
import pyarrow.parquet as pq
import rules
from harness import Report, median, ratio, rounds, run
from rules import EXTRACTED, STRUCTURED, Rules

from policyroute.backends.sql import MODEL, RULE, Query
from policyroute.language import check_text
from policyroute.language.limits import read_signals
from policyroute.language.policy import Policy
from policyroute.prices.catalog import complete, load_catalog
from policyroute.replay.options import Options
from policyroute.replay.report import result
from policyroute.replay.simulate import simulate

ROWS, SMOKE_ROWS = 10_000_000, 500_000
PART = 1_000_000  # rows of slow peers' turns
GROUP = 122_880  # rows of a row group
MEMORY = 500  # MB that `simulate` may take

# Signal to SQL over the trace's columns; the trace names some otherwise.
_COLUMNS = {"tokens": "input_tokens", "tools": "tool_count", "hour": "CAST(hour(ts) AS BIGINT)", "max_output": "max_output_tokens"}


def _trace_sql(rows: int) -> str:
    """Rows as `rules.requests` draws them, made by a hash of the row's number."""

    def draw(salt: int) -> str:
        return f"(hash(i * 64 + {salt}) % 1000003 / 1000003.0)"

    def one_of(salt: int, values: tuple[Any, ...]) -> str:
        return f"{list(values)!r}[1 + CAST(floor({draw(salt)} * {len(values)}) AS INTEGER)]"

    normal = f"(sqrt(-2 * ln({draw(1)} + 1e-9)) * cos(6.283185307 * {draw(2)}))"
    columns = {
        "ts": "TIMESTAMP '2026-01-01' + to_microseconds(i * 250000)",
        "user_id": f"'user_' || CAST(floor({draw(3)} * 50000) AS INTEGER)",
        "model": one_of(4, ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "claude-haiku-4-5")),
        "provider": "CASE WHEN model LIKE 'claude%' THEN 'anthropic' ELSE 'openai' END",
        "input_tokens": f"CAST(exp(6.6 + 1.2 * {normal}) AS BIGINT) + 10",
        "cached_tokens": f"CAST(CASE WHEN {draw(5)} < 0.3 THEN input_tokens // 2 ELSE 0 END AS BIGINT)",
        "output_tokens": f"CAST(exp(5 + {draw(6)} * 2) AS BIGINT)",
        "last_tokens": f"CAST(input_tokens * {draw(7)} * {draw(7)} AS BIGINT) + 1",
        "max_output_tokens": f"CAST({one_of(8, (500, 1000, 4000))} AS BIGINT)",
        "turns": f"CAST({one_of(9, (1, 1, 1, 2, 3, 5, 9, 14))} AS BIGINT)",
        "steps": f"CAST({one_of(10, (0, 0, 0, 0, 1, 2, 4, 11, 21))} AS BIGINT)",
        "tool_count": f"CAST({one_of(11, (0, 0, 0, 3, 12))} AS BIGINT)",
        "seats": f"1 + CAST(exp(2 + 6 * {draw(21)}) AS BIGINT)",
        "plan": one_of(12, rules.PLANS), "feature": one_of(13, rules.FEATURES), "region": one_of(14, rules.REGIONS),
        "tool_failed": f"{draw(15)} < 0.1", "images": f"{draw(16)} < 0.05", "json": f"{draw(17)} < 0.2", "stream": f"{draw(18)} < 0.6",
        "code": f"{draw(19)} < 0.15", "escalated": f"{draw(20)} < 0.05",
        "cost_usd": "CAST(input_tokens * 0.0000025 + output_tokens * 0.00001 AS DECIMAL(24,12))",
        **{name: f"{draw(30 + place)} < 0.04" for place, name in enumerate(rules.MATCHES)},
    }  # fmt: skip
    listed = ", ".join(f'{sql} AS "{name}"' for name, sql in columns.items())
    return f"SELECT {listed} FROM range({rows}) AS numbers(i)"


def generate(folder: Path, rows: int) -> tuple[Path, Path]:
    """The trace, and the signals of the second policy as extraction would have kept them."""
    trace, signals = folder / "trace.parquet", folder / "signals.parquet"
    with duckdb.connect(config={"memory_limit": "2GB", "preserve_insertion_order": True}) as connection:
        kept = ", ".join(f'"{name}"' for name in rules.MATCHES)
        every = folder / "all.parquet"
        options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP}"
        connection.execute(f"COPY ({_trace_sql(rows)}) TO '{every}' ({options})")
        connection.execute(f"COPY (SELECT * EXCLUDE ({kept}) FROM '{every}') TO '{trace}' ({options})")
        names = ", ".join(f'{_COLUMNS.get(name, chr(34) + name + chr(34))} AS "{name}"' for name in _read(_policy(EXTRACTED)))
        connection.execute(f"COPY (SELECT {names} FROM '{every}') TO '{signals}' ({options})")
        every.unlink()
    return trace, signals


def _policy(listed: Rules) -> Policy:
    checked = check_text(rules.route(listed))
    assert not checked.failed, checked.diagnostics
    return checked.policy


def _read(policy: Policy) -> tuple[str, ...]:
    return read_signals(policy)


# -- ways to decide: each gives the number of rows per rule --------------------------------------------------------------------------------------------------


def _limited(relation: str, rows: int | None) -> str:
    return f"SELECT * FROM ({relation}) LIMIT {rows}" if rows else relation


def _signals(policy: Policy, path: Path) -> str:
    listed = ", ".join(f'{_COLUMNS.get(name, chr(34) + name + chr(34))} AS "{name}"' for name in _read(policy))
    return f"SELECT {listed} FROM read_parquet('{path}')"


def ours(policy: Policy, relation: str, more: str = "") -> Callable[[], dict[int, int]]:
    """Rows by rule; with `more`, also that aggregate over the decision."""
    connection = duckdb.connect(config={"threads": 1})
    decided = Query(policy, full=False).over(f"({relation})")
    statement = f"SELECT {RULE}, count(*){more} FROM ({decided}) GROUP BY 1"
    return lambda: {row[0]: row[1] for row in connection.sql(statement).fetchall()}


def udf(policy: Policy, listed: Rules, relation: str) -> Callable[[], dict[int, int]]:
    """The rules as a Python function, called by DuckDB for each row."""
    names = rules.read(listed)
    kinds = {int: "BIGINT", bool: "BOOLEAN", str: "VARCHAR"}
    sample = rules.requests(1)[0]
    namespace: dict[str, Any] = {}
    exec(rules.python(listed, names), namespace)
    connection = duckdb.connect(config={"threads": 1})
    connection.create_function("decide", namespace["decide"], [kinds[type(sample[name])] for name in names], "BIGINT")
    statement = f"SELECT decide({', '.join(names)}), count(*) FROM ({relation}) GROUP BY 1"
    return lambda: dict(connection.sql(statement).fetchall())


def closures(listed: Rules, relation: str) -> Callable[[], dict[int, int]]:
    """Closures over rows that are fetched as dicts."""
    decide = rules.closures(listed)

    def work() -> dict[int, int]:
        found: Counter[int] = Counter()
        with duckdb.connect(config={"threads": 1}) as connection:
            for batch in connection.sql(relation).to_arrow_reader(100_000):
                found.update(map(decide, batch.to_pylist()))
        return dict(found)

    return work


def polars(listed: Rules, path: Path, rows: int | None) -> Callable[[], dict[int, int]]:
    """One when/then chain over a lazy scan, streaming."""
    pl = peers.module("polars")
    own = {"hour": pl.col("ts").dt.hour().cast(pl.Int64)}

    def column(name: str) -> Any:
        return own.get(name, pl.col(_COLUMNS.get(name, name)))

    def test(signal: str, sign: str, value: Any) -> Any:
        read = column(signal)
        if sign == "is":
            return read if value else ~read
        if sign == "in":
            return read.is_in(list(value)) if len(value) > 1 else read == value[0]
        return {">": read.__gt__, ">=": read.__ge__, "<": read.__lt__, "<=": read.__le__, "==": read.__eq__}[sign](value)

    chain: Any = pl
    for number, rule in enumerate(listed):
        condition = test(*rule[0])
        for one in rule[1:]:
            condition = condition & test(*one)
        chain = chain.when(condition).then(pl.lit(number, dtype=pl.Int16))
    frame = pl.scan_parquet(path)
    query = (
        (frame.head(rows) if rows else frame)
        .select(rule=chain.otherwise(pl.lit(len(listed), dtype=pl.Int16)))
        .group_by("rule")
        .len()
    )
    return lambda: dict(query.collect(engine="streaming").iter_rows())


def decisions(report: Report, trace: Path, rows: int, smoke: bool) -> None:
    policy = _policy(STRUCTURED)
    relation = _signals(policy, trace)
    part, small = min(rows, PART), min(rows, PART) // 10
    works = {
        "ours": ours(policy, relation),
        "with model": ours(policy, relation, f", sum({MODEL})"),
        "udf": udf(policy, STRUCTURED, _limited(relation, part)),
        "closures": closures(STRUCTURED, _limited(relation, small)),
    }
    counts = {"ours": rows, "with model": rows, "udf": part, "closures": small, "polars": rows}
    absent = ""
    try:
        works["polars"] = polars(STRUCTURED, trace, None)
    except peers.AbsentError as reason:
        absent = str(reason)
    expected = works["ours"]()
    assert works.get("polars", works["ours"])() == expected, "polars decides otherwise"
    report.facts["rows by rule"] = {str(number): expected[number] for number in sorted(expected)}
    for name, size in (("udf", part), ("closures", small)):
        assert works[name]() == ours(policy, _limited(relation, size))(), f"{name} decides otherwise"
    taken = rounds(works, 3 if smoke else 5)
    per = {name: [seconds / counts[name] for seconds in values] for name, values in taken.items()}
    report.add(f"decision alone, 20 rules, {rows:,} rows", 1e-6 / median(per["ours"]), "M rows/s a core", claim=9)
    report.add("the same with the model of each chain after limits", 1e-6 / median(per["with model"]), "M rows/s a core")
    for name, label, claim in (
        ("udf", "Python UDF per row in DuckDB", 6), ("closures", "closures per row", 60), ("polars", "polars when/then", 1.5),
    ):  # fmt: skip
        if name in per:
            report.add(label, 1e-6 / median(per[name]), "M rows/s a core", ratio=ratio(per[name], per["ours"]), claim=claim)
        else:
            report.add(label, note=absent, claim=claim)


def another_policy(report: Report, signals: Path, rows: int, smoke: bool) -> None:
    policy = _policy(EXTRACTED)
    listed = ", ".join(f'"{name}"' for name in _read(policy))
    work = ours(policy, f"SELECT {listed} FROM read_parquet('{signals}')")
    taken = rounds({"ours": work}, 3 if smoke else 5)["ours"]
    report.add("another policy on extracted signals, 20 rules", rows / median(taken) / 1e6, "M rows/s a core", claim=10)


# -- the whole simulate, in a process of its own ------------------------------------------------------------------------


def whole(report: Report, trace: Path, rows: int, smoke: bool) -> None:
    found = [_child(trace, threads) for threads in ((1,) if smoke else (1, 1, 1))]
    seconds = median([each["cpu"] for each in found])
    report.add(
        f"`simulate` as a whole, {rows:,} rows: all measures, import and start included", rows / seconds / 1e6, "M rows/s a core"
    )
    both = _child(trace, os.cpu_count() or 1)
    report.facts["simulate"] = {"one thread": found[-1], "all threads": both}
    report.add("`simulate`, all cores: wall time", both["wall"], "s")
    memory = max(each["rss"] for each in (*found, both))
    report.add("`simulate`: peak memory", memory, "MB", claim=MEMORY, at_most=True)


def _child(trace: Path, threads: int) -> dict[str, float]:
    """CPU seconds, wall seconds, peak memory in MB and digest of one replay."""
    call = [sys.executable, __file__, "--child", str(trace), str(threads)]
    found: dict[str, float] = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return found


def _replay(trace: Path, threads: int) -> None:
    start = time.monotonic()
    catalog = load_catalog()
    policy, _ = complete(_policy(STRUCTURED), catalog)
    simulation = simulate(policy, [trace], catalog, Options(threads=threads))
    headline = result(simulation)["headline"]
    found = {"cpu": time.process_time(), "wall": time.monotonic() - start, "rss": _peak(), "rows": headline["rows"]}
    sys.stdout.write(json.dumps(found))


def _peak() -> float:
    """Peak memory of this process in MB. On Linux `ru_maxrss` would also count the parent's pages from before `exec`."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def make(smoke: bool) -> Report:
    report = Report("replay", "Replay", ["policyroute", "duckdb", "pyarrow", "polars"])
    rows = SMOKE_ROWS if smoke else ROWS
    with tempfile.TemporaryDirectory(prefix="policyroute-benchmark-") as folder:
        trace, signals = generate(Path(folder), rows)
        report.facts |= {"rows": pq.read_metadata(trace).num_rows, "trace MB": trace.stat().st_size >> 20}
        whole(report, trace, rows, smoke)
        decisions(report, trace, rows, smoke)
        another_policy(report, signals, rows, smoke)
    return report


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _replay(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        run(make)
