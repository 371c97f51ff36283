"""From a field of a source to the type of its canonical column, as SQL expressions.

A value that doesn't fit becomes NULL and is counted by the reader; nothing is ever rounded up to a guess. Timestamps are told
apart by magnitude: seconds, milliseconds, microseconds and nanoseconds since 1970 don't overlap between 1973 and 5138. Where
all of a file's times lie under 10**8 seconds, it counts from 0.
"""

from __future__ import annotations

from policyroute.replay.traces.fields import Field
from policyroute.replay.traces.schema import Column
from policyroute.replay.traces.sql import literal

_INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "UHUGEINT"}
)
_FLOATS = frozenset({"FLOAT", "DOUBLE"})
RELATIVE_BELOW = 10**8  # seconds: 1973-03-03
_NO_ID = "('none', 'null', 'nan', 'undefined', '')"
_NO_MODEL = frozenset({"model", "requested_model", "response_model", "provider", "user_id", "team"})
_OFFSET = literal(r":\d{2}(\.\d+)?\s*[+-]\d{2}(:?\d{2})?$")


def cast(field: Field, column: Column, micros: int | None) -> str:
    """The field as the column's type. `micros` is, for `ts`, the length of a unit where times count from 0, else None."""
    value = field.text
    if column.type == "TIMESTAMP":
        return timestamp(field, micros)
    if column.type in ("BIGINT", "INTEGER"):
        return _not_negative(f"TRY_CAST({value} AS {column.type})")
    if column.type == "DOUBLE":
        number = f"TRY_CAST({value} AS DOUBLE)"
        return f"CASE WHEN isfinite({number}) AND {number} >= 0 THEN {number} END"
    if column.type == "BOOLEAN":
        return f"TRY_CAST({value} AS BOOLEAN)"
    if column.type == "DECIMAL(24,12)":
        return _money(field)
    text = value if field.type == "VARCHAR" else f"CAST({value} AS VARCHAR)"
    if column.name == "messages" and field.path.rsplit(".", 1)[-1].casefold() != "messages":
        return _as_messages(text)
    if column.name in ("messages", "tools"):
        return f"CASE WHEN starts_with(ltrim({text}), '[') THEN {text} END"
    if column.name in _NO_MODEL:
        return f"CASE WHEN lower({text}) NOT IN {_NO_ID} THEN {text} END"
    return f"nullif({text}, '')"


def _not_negative(value: str) -> str:
    return f"CASE WHEN {value} >= 0 THEN {value} END"


def _money(field: Field) -> str:
    """Dollars. Below 1000 a double holds twelve digits after the point, and is cast fifty times faster than a long text; above,
    the shortest decimal that means it is taken."""
    if field.type not in _FLOATS and field.type != "VARCHAR":
        return f"TRY_CAST({field.text} AS DECIMAL(24,12))"
    number = field.text if field.type in _FLOATS else f"TRY_CAST({field.text} AS DOUBLE)"
    exact = f"TRY_CAST(CAST({field.text} AS VARCHAR) AS DECIMAL(24,12))"
    return f"CASE WHEN abs({number}) < 1000 THEN TRY_CAST({number} AS DECIMAL(24,12)) ELSE {exact} END"


def _as_messages(text: str) -> str:
    """A prompt that may be plain text: then it is one user message."""
    wrapped = f"CAST(json_array(json_object('role', 'user', 'content', {text})) AS VARCHAR)"
    return f"CASE WHEN {text} = '' THEN NULL WHEN starts_with(ltrim({text}), '[') AND json_valid({text}) THEN {text} ELSE {wrapped} END"


# -- time ----------------------------------------------------------------------------------------------------------


def seconds(field: Field) -> str:
    """The field as a number of its own unit, or as seconds where it is a time: to see whether it counts from 0."""
    if _is_time(field.type):
        return f"epoch_us(CAST({field.text} AS {_plain(field.type)})) / 1e6"
    return f"TRY_CAST({field.text} AS DOUBLE)"


def _is_time(type_: str) -> bool:
    return type_.startswith(("TIMESTAMP", "DATE"))


def _plain(type_: str) -> str:
    return "TIMESTAMP" if type_ == "DATE" else type_


def timestamp(field: Field, micros: int | None) -> str:
    """The field as a UTC timestamp, cut to microseconds."""
    value = field.text
    if field.type == "TIMESTAMP":
        return value
    if _is_time(field.type):
        return f"make_timestamp(epoch_us(CAST({value} AS {_plain(field.type)})))"
    if field.type in _INTEGERS:
        return _from_number(f"CAST({value} AS HUGEINT)", micros, exact=True)
    if field.type in _FLOATS or field.type.startswith("DECIMAL"):
        return _from_number(f"CAST({value} AS DOUBLE)", micros, exact=False)
    number = f"TRY_CAST({value} AS DOUBLE)"
    return f"CASE WHEN {number} IS NOT NULL THEN {_from_number(number, micros, exact=False)} ELSE {_from_text(value)} END"


def _from_text(value: str) -> str:
    """ISO text. A plain cast would ignore an offset, a cast to TIMESTAMPTZ would read naive text in the session's zone."""
    aware = f"make_timestamp(epoch_us(TRY_CAST({value} AS TIMESTAMPTZ)))"
    return f"CASE WHEN regexp_matches({value}, {_OFFSET}) THEN {aware} ELSE TRY_CAST({value} AS TIMESTAMP) END"


def _from_number(value: str, micros: int | None, exact: bool) -> str:
    def moment(scaled: str) -> str:
        return f"make_timestamp(CAST({scaled if exact else f'round({scaled})'} AS BIGINT))"

    if micros is not None:
        return f"CASE WHEN {value} BETWEEN 0 AND {10**11} THEN {moment(f'{value} * {micros}')} END"
    shrink = f"{value} // 1000" if exact else f"{value} / 1000"
    return (
        f"CASE WHEN {value} < {RELATIVE_BELOW} OR {value} >= 9e18 THEN NULL WHEN {value} < 1e11 THEN {moment(f'{value} * 1000000')} "
        f"WHEN {value} < 1e14 THEN {moment(f'{value} * 1000')} WHEN {value} < 1e17 THEN {moment(value)} ELSE {moment(shrink)} END"
    )
