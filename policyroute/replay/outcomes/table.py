"""The outcomes table: one row per request and model with tokens, latency and score, whatever file it came from.

Scores are whole millionths of the scale from 0 to 1. Rows that can't be used are left out and counted by class; a file that
can't be read, or whose scores have a scale that nobody stated, is a `TraceError` with the remedy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from policyroute.prices.cost import MAX_TOKENS
from policyroute.replay.outcomes.formats import FORMATS, Format, Scale
from policyroute.replay.traces.errors import TraceError
from policyroute.replay.traces.head import COMPRESSED, EXTENSIONS, Head, read_head, reading
from policyroute.replay.traces.sql import literal, one

MICRO = 1_000_000
TABLE, NUMBERED = "outcomes", "outcomes_numbered"

# Why a row of the file is not in the table, in the order in which it is asked.
CLASSES = {
    "no-request": "name no request or no model",
    "failed-call": "failed at the provider: no tokens, so no answer to score",
    "no-score": "have no score, or -1: the judge failed",
    "not-a-number": "have a score that is not a number",
    "conflict": "say different things of the same request and model: none of them is used",
    "repeat": "repeat another row",
}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """An open table `outcomes(request_id, model, input_tokens, output_tokens, latency_ms, score)` on a connection.

    `rows` counts the file's rows, `left_out` those that are not in the table by class, `models` the rows of each model in it.
    """

    format: str
    files: tuple[str, ...]
    digest: str
    scale: Scale
    rows: int
    left_out: Mapping[str, int]
    models: Mapping[str, int]
    connection: duckdb.DuckDBPyConnection

    def numbered(self, numbers: Mapping[str, int], name: str = NUMBERED) -> str:
        """A temporary table of the outcomes under the numbers of their models, those without a number left out; its name.

        Its columns: `request_id`, `number`, `input_tokens`, `output_tokens`, `latency_ms`, `score`. No pair occurs twice.
        """
        values = ", ".join(f"({literal(model)}, {number})" for model, number in sorted(numbers.items()))
        known = f"(VALUES {values})" if values else "(SELECT '', 0 WHERE FALSE)"
        query = (
            f"SELECT request_id, CAST(n.number AS INTEGER) AS number, input_tokens, output_tokens, latency_ms, score "
            f"FROM {TABLE} JOIN {known} AS n(model, number) USING (model)"
        )
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")
        return name


def open_outcomes(path: str | Path, connection: duckdb.DuckDBPyConnection, format: str | None = None) -> Outcomes:  # noqa: A002 - the option's name
    """Read a file or folder of outcomes into the temporary table `outcomes` of the connection.

    `format` names one of `FORMATS` where it should not be detected. Raises `TraceError`.
    """
    if format is not None and format not in FORMATS:
        raise TraceError(f"there is no format `{format}` of outcomes", str(path), f"formats: {', '.join(FORMATS)}")
    chosen, heads = _recognised(Path(path), connection, format)
    place = heads[0].place
    with reading(place):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE outcomes_read AS {chosen.select(heads, connection)}")
        counts = _classified(connection, chosen, place)
        models = dict(connection.sql(f"SELECT model, count(*) FROM {TABLE} GROUP BY model ORDER BY model").fetchall())
        (rows,) = one(connection, "SELECT count(*) FROM outcomes_read")
        connection.execute("DROP TABLE outcomes_read")
    if not models:
        why = "; ".join(f"{count:,} {CLASSES[name]}" for name, count in counts.items()) or "it has no rows"
        raise TraceError(f"holds no outcome that can be used: {why}", place, f"it was read as `{chosen.name}`: {chosen.doc}")
    digest = hashlib.sha256("\n".join([chosen.name, *(head.digest for head in heads)]).encode()).hexdigest()
    return Outcomes(chosen.name, tuple(head.name for head in heads), digest, chosen.scale, rows, counts, models, connection)


# -- files ---------------------------------------------------------------------------------------------------------


def _recognised(path: Path, connection: duckdb.DuckDBPyConnection, name: str | None) -> tuple[Format, list[Head]]:
    if not path.is_dir():
        head = read_head(path, connection)
        return (FORMATS[name] if name else _format_of(head) or FORMATS["table"]), [head]
    heads = [read_head(file, connection) for file in sorted(path.iterdir()) if _readable(file)]
    found = [(head, FORMATS[name] if name else _format_of(head)) for head in heads]
    formats = {form.name: form for head, form in found if form is not None and form.recognises(head)}
    if len(formats) != 1:
        said = "files of several formats: " + ", ".join(formats) if formats else "no file with outcomes"
        raise TraceError(
            f"the folder holds {said}", str(path), "name one file, or `--outcomes-format NAME` for those of one format"
        )
    (chosen,) = formats.values()
    return chosen, [head for head, form in found if form is chosen and chosen.recognises(head)]


def _readable(file: Path) -> bool:
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in COMPRESSED]
    return file.is_file() and bool(suffixes) and suffixes[-1] in EXTENSIONS


def _format_of(head: Head) -> Format | None:
    return next((form for form in FORMATS.values() if form.recognises(head)), None)


# -- rows ----------------------------------------------------------------------------------------------------------


def _classified(connection: duckdb.DuckDBPyConnection, chosen: Format, place: str) -> dict[str, int]:
    """Make the table; the rows left out of it by class."""
    number = "TRY_CAST(CASE lower(trim(score)) WHEN 'true' THEN '1' WHEN 'false' THEN '0' ELSE trim(score) END AS DECIMAL(18,9))"
    typed = f"""
        SELECT nullif(trim(request_id), '') AS request_id, nullif(trim(model), '') AS model, nullif(trim(score), '') AS text, {number} AS number,
               failed, {_tokens("input_tokens")} AS input_tokens, {_tokens("output_tokens")} AS output_tokens, {_latency()} AS latency_ms
        FROM outcomes_read"""
    classed = f"""
        SELECT *, CASE WHEN request_id IS NULL OR model IS NULL THEN 'no-request' WHEN failed THEN 'failed-call'
                       WHEN text IS NULL OR number = -1 OR lower(text) IN ('nan', 'null', 'none') THEN 'no-score'
                       WHEN number IS NULL THEN 'not-a-number' END AS class FROM ({typed})"""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE outcomes_typed AS {classed}")
    _refuse_other_scales(connection, chosen, place)
    scale = chosen.scale
    width = (scale.high - scale.low) * 10**9
    # Rounded half up; whole numbers only, since a division of decimals would be a float.
    above = f"CAST((number - {scale.low}) * 1000000000 AS HUGEINT)"
    score = f"CAST(({above} * {2 * MICRO} + {width}) // {2 * width} AS BIGINT)"
    distinct = f"SELECT DISTINCT request_id, model, input_tokens, output_tokens, latency_ms, {score} AS score FROM outcomes_typed WHERE class IS NULL"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE outcomes_distinct AS {distinct}")
    single = "count(*) OVER (PARTITION BY request_id, model) = 1"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {TABLE} AS SELECT * FROM outcomes_distinct QUALIFY {single}")
    counts = dict(connection.sql("SELECT class, count(*) FROM outcomes_typed WHERE class IS NOT NULL GROUP BY class").fetchall())
    (good,) = one(connection, "SELECT count(*) FROM outcomes_typed WHERE class IS NULL")
    (different,) = one(connection, "SELECT count(*) FROM outcomes_distinct")
    (kept,) = one(connection, f"SELECT count(*) FROM {TABLE}")
    connection.execute("DROP TABLE outcomes_typed; DROP TABLE outcomes_distinct")
    counts |= {"repeat": good - different, "conflict": different - kept}
    return {name: counts[name] for name in CLASSES if counts.get(name)}


def _tokens(column: str) -> str:
    """A token count that a request can have, else NULL: it can't be priced then."""
    number = f"TRY_CAST(TRY_CAST({column} AS DOUBLE) AS BIGINT)"
    return f"CASE WHEN {number} BETWEEN 0 AND {MAX_TOKENS} THEN {number} END"


def _latency() -> str:
    number = "TRY_CAST(latency_ms AS DOUBLE)"
    return f"CASE WHEN isfinite({number}) AND {number} >= 0 THEN {number} END"


def _refuse_other_scales(connection: duckdb.DuckDBPyConnection, chosen: Format, place: str) -> None:
    low, high = one(connection, "SELECT min(number), max(number) FROM outcomes_typed WHERE class IS NULL")
    if low is not None and (low < chosen.scale.low or high > chosen.scale.high):
        raise TraceError(
            f"scores go from {low.normalize():f} to {high.normalize():f}, and a score is a number from {chosen.scale.low} to {chosen.scale.high}",
            place,
            "bring them to that scale first, such as (score - lowest) / (highest - lowest); -1 marks a failed judgment",
        )
