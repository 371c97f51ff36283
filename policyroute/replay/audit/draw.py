"""Audits: a sheet of requests for people to score, drawn stratum by stratum from a replay's decisions.

A row is drawn by the MD5 of the seed and its number, so the same decisions and seed give the same sheet, in whatever order they
were read; the sheet's own order is that of the draw, so that scoring from the top down is a random sample at every line.
Each line carries what its score will need: the size of its stratum, the policy, the scale. A recorded answer is put beside a
request only where the recorded model is the decided one: nobody should score another model's answer by mistake.

A spreadsheet takes a cell that begins with `= + - @` or a control character for a formula (OWASP, "CSV Injection"): such
cells get an apostrophe in front, which is taken off again when scores are read.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from policyroute.replay.options import SimulationError
from policyroute.replay.traces import Trace, open_trace
from policyroute.replay.traces.sql import literal, one, quoted
from policyroute.signals import request

SCALES = ("yes-no", "0-1", "1-5")
COLUMNS = (
    "sample_id", "per", "stratum", "stratum_rows", "population", "policy", "scale", "row", "request_id", "decided_model", "recorded_model",
)  # fmt: skip
TEXTS = ("before", "prompt", "answer")
FILLED = ("score", "note")
MOST_STRATA = 1_000
CELL = 32_000  # characters; a spreadsheet's cell holds 32,767
BEFORE = 4_000  # characters of the conversation before the last user message
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NEEDED = ("row", "new_model")


class AuditError(SimulationError):
    """The sheet can't be drawn, read or judged as asked: what is wrong, and the remedy."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """A stratum with the number of its requests, and how many of them were drawn (or scored)."""

    name: str
    rows: int
    drawn: int


@dataclass(frozen=True)
class Sheet:
    """A drawn sheet: `lines` by column, in the order of the draw. `left_out` are requests that no model would answer."""

    per: str
    policy: str
    scale: str
    strata: tuple[Stratum, ...]
    left_out: int
    columns: tuple[str, ...]
    lines: tuple[Mapping[str, Any], ...]
    unanswered: int  # lines whose recorded answer is another model's


def draw(
    decisions: Path, per: str, number: int, *, seed: str = "", scale: str = "yes-no", policy: str = "",
    traces: Sequence[str | Path] = (), with_text: bool = False, scratch: Path, reading: Mapping[str, Any] | None = None,
) -> Sheet:  # fmt: skip
    """Draw `number` requests of each value of the column `per` of a replay's decisions (`simulate --output`).

    `policy` is the digest to keep where the decisions have none; `traces` are the replayed files, for request ids and, with
    `with_text`, for the last user message and the answer; `reading` are `open_trace`'s options. Raises AuditError, and
    TraceError for a trace that can't be read.
    """
    if with_text and not traces:
        raise AuditError("the text of requests is in the trace, not in the decisions", "name it with `--trace TRACE`")
    with duckdb.connect(config={"temp_directory": str(scratch)}) as connection:
        columns = _columns(connection, decisions)
        relation = f"read_parquet({literal(str(decisions))})"
        _check(connection, relation, columns, per)
        policy = _policy(connection, relation, columns, policy)
        strata, drawn = _drawn(connection, relation, columns, per, number, seed)
        (all_rows,) = one(connection, f"SELECT count(*) FROM {relation}")
        facts: dict[int, dict[str, Any]] = {}
        if traces:
            trace = open_trace(list(traces), connection=connection, scratch=scratch, **(reading or {}))
            facts = _facts(connection, trace, drawn, all_rows, with_text)
    population = sum(stratum.rows for stratum in strata)
    recorded = _is_recorded(drawn)
    lines = [_line(row, facts.get(row["row"], {}), per, policy, scale, population, with_text and recorded) for row in drawn]
    kept = (*COLUMNS, *(TEXTS if with_text else ()), *FILLED)
    unanswered = sum(row["changed"] is not False or not recorded for row in drawn)
    return Sheet(per, policy, scale, strata, all_rows - population, kept, tuple(lines), unanswered)


# -- drawing -------------------------------------------------------------------------------------------------------


def _columns(connection: duckdb.DuckDBPyConnection, decisions: Path) -> tuple[str, ...]:
    if not decisions.is_file():
        raise AuditError(f"there is no file `{decisions}`", "`policyroute simulate TRACES --output decisions.parquet` writes one")
    try:
        columns = tuple(pq.read_schema(decisions).names)
    except (pa.ArrowInvalid, OSError):
        raise AuditError(
            f"`{decisions}` is no parquet file", "`policyroute simulate TRACES --output decisions.parquet` writes one"
        ) from None
    if not set(_NEEDED) <= set(columns):
        raise AuditError(
            f"`{decisions}` holds no decisions", "`policyroute simulate TRACES --output decisions.parquet` writes some"
        )
    return columns


def _check(connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[str], per: str) -> None:
    if per not in columns:
        raise AuditError(f"the decisions have no column `{per}`", f"columns: {', '.join(f'`{name}`' for name in columns)}")
    (strata,) = one(connection, f"SELECT count(DISTINCT {quoted(per)}) FROM {relation}")
    if strata > MOST_STRATA:
        raise AuditError(
            f"`{per}` has {strata:,} values, too many for strata", "take a column with few values, such as `tier` or `rule`"
        )


def _policy(connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[str], given: str) -> str:
    """The digest of the policy that decided: the decisions' own, else the one given, else none."""
    if "policy" not in columns:
        return given
    found = [row[0] for row in connection.sql(f"SELECT DISTINCT policy FROM {relation} WHERE policy IS NOT NULL").fetchall()]
    if len(found) > 1:
        raise AuditError(f"the decisions are of {len(found)} policies", "draw from one replay at a time")
    if found and given and found[0] != given:
        raise AuditError(
            f"the decisions are those of policy {found[0][:12]}, not of {given[:12]}",
            "replay the policy anew, or leave `--policy` out",
        )
    return str(found[0]) if found else given


def _drawn(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[str], per: str, number: int, seed: str
) -> tuple[tuple[Stratum, ...], list[dict[str, Any]]]:
    stratum = f"coalesce(CAST({quoted(per)} AS VARCHAR), '(none)')"
    wanted = {
        name: quoted(name) if name in columns else "NULL" for name in ("request_id", "old_model", "changed", "ts", "baseline")
    }
    listed = ", ".join(f"{sql} AS {name}" for name, sql in wanted.items())
    names = ("row", *wanted, "new_model", "stratum", "place", "stratum_rows")
    found = connection.sql(
        f"SELECT {', '.join(names)} FROM (SELECT *, row_number() OVER (PARTITION BY stratum ORDER BY hash, row) AS place, "
        f"count(*) OVER (PARTITION BY stratum) AS stratum_rows FROM ("
        f"SELECT row, {listed}, new_model, {stratum} AS stratum, md5({literal(seed + chr(31))} || row) AS hash "
        f"FROM {relation} WHERE new_model IS NOT NULL)) WHERE place <= {int(number)} ORDER BY place, stratum"
    ).fetchall()
    rows = [dict(zip(names, row, strict=True)) for row in found]
    sizes = {row["stratum"]: row["stratum_rows"] for row in rows}
    strata = tuple(Stratum(name, size, sum(row["stratum"] == name for row in rows)) for name, size in sorted(sizes.items()))
    if not rows:
        raise AuditError("no request of these decisions would be answered by a model", "there is nothing to score")
    return strata, rows


def _is_recorded(drawn: Sequence[Mapping[str, Any]]) -> bool:
    """Whether `old_model` is the recorded one: where the decisions don't tell their baseline it is taken to be."""
    return {row["baseline"] for row in drawn} <= {None, "recorded"}


# -- what the trace adds -------------------------------------------------------------------------------------------


def _facts(
    connection: duckdb.DuckDBPyConnection, trace: Trace, drawn: Sequence[Mapping[str, Any]], rows: int, with_text: bool
) -> dict[int, dict[str, Any]]:
    if trace.rows != rows:
        raise _other_trace(f"it has {trace.rows:,} requests, the decisions {rows:,}")
    texts = ", messages, output" if with_text else ""
    listed = ", ".join(str(row["row"]) for row in drawn)
    found: dict[int, dict[str, Any]] = {}
    names = ("row", "ts", "request_id", "model", "messages", "output")
    for part in trace.parts:
        query = f"SELECT row, ts, request_id, model{texts} FROM ({part.relation}) WHERE row IN ({listed})"
        found |= {values[0]: dict(zip(names, values, strict=False)) for values in connection.sql(query).fetchall()}
    for row in drawn:
        fact = found.get(row["row"])
        if fact is None or (row["ts"] is not None and row["ts"] != fact["ts"]):
            raise _other_trace(f"row {row['row']} is another request in it")
        if row["request_id"] is not None and row["request_id"] != fact["request_id"]:
            raise _other_trace(f"row {row['row']} has another request id in it")
    return found


def _other_trace(why: str) -> AuditError:
    return AuditError(
        f"the trace is not the one that these decisions were made for: {why}", "name the replayed files, in the same order"
    )


def _line(
    row: Mapping[str, Any], fact: Mapping[str, Any], per: str, policy: str, scale: str, population: int, answered: bool
) -> dict[str, Any]:
    answer = fact.get("output") if answered and row["changed"] is False else None
    line = {
        "per": per, "stratum": row["stratum"], "stratum_rows": row["stratum_rows"], "population": population, "policy": policy, "scale": scale,
        "row": row["row"], "request_id": row["request_id"] or fact.get("request_id") or "", "decided_model": row["new_model"],
        "recorded_model": fact.get("model") or row["old_model"] or "",
        **_asked(fact.get("messages")), "answer": _answer(answer), "score": "", "note": "",
    }  # fmt: skip
    return {"sample_id": sample_id(line)} | line


def _asked(messages: Any) -> dict[str, str]:
    """The last user message, and the end of what was said before it: a follow-up can't be scored alone."""
    found = request.of_row(messages).messages or ()
    last = next((place for place in reversed(range(len(found))) if found[place].role == "user"), len(found))
    told = [f"{message.role}: {text}" for message in found[:last] for text in message.texts]
    before = "\n".join(told)
    prompt = "\n".join(found[last].texts) if last < len(found) else ""
    return {"before": before if len(before) <= BEFORE else f"… {before[-BEFORE:]}", "prompt": prompt}


def _answer(output: Any) -> str:
    """The text of a recorded answer, and its tool calls."""
    if output is None:
        return ""
    parsed = request.parsed(output)
    if isinstance(parsed, dict):
        parsed = [{"role": "assistant", **parsed}]
    if not isinstance(parsed, list):
        return parsed if isinstance(parsed, str) else str(output)
    messages = request.of_row(parsed).messages or ()
    texts = [text for message in messages for text in message.texts]
    calls = [f"{call.name}({call.arguments})" for message in messages for call in message.calls]
    return "\n".join((*texts, *calls)) or str(output)


def sample_id(line: Mapping[str, Any]) -> str:
    """What identifies a line, and shows where one of its figures was altered: `s` and 12 hex digits of their MD5.

    It begins with a letter because a spreadsheet would read `12e45` as a number.
    """
    parts = [str(line[name]) for name in ("per", "stratum", "stratum_rows", "population", "policy", "scale", "row")]
    return "s" + hashlib.md5("\x1f".join(parts).encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:12]


# -- writing -------------------------------------------------------------------------------------------------------


def write_sheet(sheet: Sheet, target: Path, *, force: bool = False) -> None:
    """Write a sheet as CSV (UTF-8 with a mark, as spreadsheets want it) or parquet, by the suffix; whole or not at all.

    A file that is there may hold somebody's scores: it is left alone unless `force`.
    """
    if target.suffix not in (".csv", ".parquet"):
        raise AuditError(f"`{target}` is neither `.csv` nor `.parquet`", "name the sheet `audit.csv`")
    if target.exists() and not force:
        raise AuditError(f"`{target}` is there already, and may hold scores", "name another file, or `--force` to overwrite it")
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.suffix == ".csv":
            with partial.open("w", encoding="utf-8-sig", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(sheet.columns)
                writer.writerows([_cell(line[name]) for name in sheet.columns] for line in sheet.lines)
        else:
            table = {name: [line[name] for line in sheet.lines] for name in sheet.columns}
            pq.write_table(pa.table(table), partial, compression="zstd")
        partial.replace(target)
    except OSError as error:
        raise AuditError(
            f"`{target}` can't be written: {error.strerror or error}", "check the folder and the space on its disk"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def _cell(value: Any) -> Any:
    """A value as a spreadsheet can hold it: no formula, and not too long."""
    if not isinstance(value, str):
        return value
    text = value if len(value) <= CELL else value[:CELL] + f" … ({len(value) - CELL:,} characters left out)"
    return "'" + text if text.lstrip("'").startswith(FORMULA) else text


def uncell(text: str) -> str:
    """The text of a cell without the apostrophe that kept it from being a formula."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text
