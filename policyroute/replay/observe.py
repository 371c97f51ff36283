"""What a trace tells of each signal: one SQL expression per signal over the canonical columns.

Three ways to a value, in this order: a column that holds it ready made, extraction from the row's content, and, only for
what a caller may leave out, the default. What is left is NULL: unknown, and counted. `--assume` fills it, and is reported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from policyroute.backends.sql import literal, quoted
from policyroute.language.limits import requested_names
from policyroute.language.policy import (
    ANY_OTHER,
    REQUESTED,
    BoolType,
    EnumType,
    IntType,
    KeyType,
    Place,
    Policy,
    Signal,
    Value,
)  # fmt: skip
from policyroute.language.vocabulary import SIGNALS, WEEKDAYS
from policyroute.signals.kept import kept_scan, kept_signal

EXTRACTED = "extracted "
_INTEGERS = "('TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'UTINYINT', 'USMALLINT', 'UINTEGER')"
ANSWER = "answer tokens"  # beside the signals: the output of a trace that holds answers and no usage


@dataclass(frozen=True, slots=True)
class Available:
    """What a trace offers: canonical and other columns with values, extracted columns, and whether its times are dated."""

    columns: frozenset[str]
    extracted: frozenset[str] = frozenset()
    dated: bool = True


@dataclass(frozen=True, slots=True)
class Observed:
    """How one signal is read from a trace.

    `sql` is its value; `source` says in words where that comes from; `unknown` tells whether it may be NULL. `odd` is the
    SQL of "the recorded value lies outside the type" (it was clamped, or the default taken), empty where that can't be.
    """

    signal: str
    sql: str
    source: str
    unknown: bool
    odd: str = ""
    assumption: str = ""


def observe(policy: Policy, names: Iterable[str], available: Available, assume: Mapping[str, Value]) -> dict[str, Observed]:
    """How each of the signals `names` is read; `assume` fills what the trace doesn't tell."""
    found = {}
    for name in names:
        signal = policy.signals[name]
        seen = _observed(policy, signal, available)
        found[name] = _assumed(seen, assume[name]) if name in assume and seen.unknown else seen
    return found


def wanted_content(policy: Policy, names: Iterable[str], available: Collection[str]) -> tuple[str, ...]:
    """Signals that have to be extracted from content, because no column holds them ready made."""
    return tuple(
        name
        for name in names
        if (
            policy.signals[name].kind == "match"
            and "messages" in available
            and _scan(policy, policy.signals[name]) not in available
        )
        or (
            name in SIGNALS and SIGNALS[name].content in available and SIGNALS[name].content != "ts" and not _ready(name, available)
        )
    )


def _scan(policy: Policy, signal: Signal) -> str:
    return kept_scan(signal.text, policy.texts[signal.words])


def _ready(name: str, columns: Collection[str]) -> list[str]:
    return [column for column in SIGNALS[name].columns if column in columns]


def _assumed(seen: Observed, value: Value) -> Observed:
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return Observed(
        seen.signal, f"coalesce({seen.sql}, {literal(value)})", f"{seen.source}, else assumed to be {shown}", False, seen.odd,
        f"where the trace doesn't tell, `{seen.signal}` is taken as {shown}",
    )  # fmt: skip


def _observed(policy: Policy, signal: Signal, available: Available) -> Observed:
    if signal.kind == "match":
        return _match(policy, signal, available)
    if signal.kind == "classifier":
        return _classifier(signal, available)
    if signal.name in ("hour", "weekday"):
        return _time(policy, signal, available)
    if signal.kind == "declared":
        return _declared(signal, available)
    raw, source = _raw(signal, available)
    if signal.name == REQUESTED:
        return _requested(policy, raw, source)
    return _typed(signal, raw, source, available)


def _match(policy: Policy, signal: Signal, available: Available) -> Observed:
    """A scan's answer: ready made under the name that carries the digest of its words, else scanned in the messages."""
    name, column = signal.name, _scan(policy, signal)
    parts, sources = [], []
    if column in available.columns:
        parts.append(f"TRY_CAST({quoted(column)} AS BOOLEAN)")
        sources.append(f"column `{column}`")
    if name in available.extracted:
        parts.append(quoted(EXTRACTED + name))
        sources.append("scanned in the messages")
    if not parts:
        return Observed(name, "CAST(NULL AS BOOLEAN)", "not in the trace: it holds no messages", True)
    return Observed(name, parts[0] if len(parts) == 1 else f"coalesce({', '.join(parts)})", ", else ".join(sources), True)


def _classifier(signal: Signal, available: Available) -> Observed:
    """A classifier's answers, where they were recorded."""
    assert isinstance(signal.type, EnumType)
    named = signal.places or (Place("column", signal.name),)
    found = _places((Place("column", kept_signal(signal.name)), *named), available)
    if not found:
        return Observed(signal.name, "CAST(NULL AS VARCHAR)", "not in the trace: nobody has asked the classifier", True)
    listed = ", ".join(literal(member) for member in signal.type.members)
    parts = [f"CASE WHEN CAST({sql} AS VARCHAR) IN ({listed}) THEN CAST({sql} AS VARCHAR) END" for sql, _ in found]
    return Observed(signal.name, f"coalesce({', '.join(parts)})", ", else ".join(source for _, source in found), True)


def _raw(signal: Signal, available: Available) -> tuple[str, str]:
    """The first value among the policy's places, ready-made columns and extraction, and where that is."""
    row = SIGNALS[signal.name]
    type_ = _sql_type(signal)
    places = _places((Place("column", kept_signal(signal.name)), *signal.places), available)
    parts = [_cast(signal, sql) for sql, _ in places]
    parts += [f"TRY_CAST({quoted(column)} AS {type_})" for column in _ready(signal.name, available.columns)]
    sources = [source for _, source in places]
    sources += [f"column `{column}`" for column in _ready(signal.name, available.columns)]
    if signal.name in available.extracted:
        parts.append(quoted(EXTRACTED + signal.name))
        sources.append(f"extracted from `{row.content}`")
    if not parts:
        return f"CAST(NULL AS {type_})", ""
    return (parts[0] if len(parts) == 1 else f"coalesce({', '.join(parts)})"), ", else ".join(sources)


def _typed(signal: Signal, raw: str, source: str, available: Available) -> Observed:
    """A built-in number, condition, key or `tool`, held to its type."""
    if isinstance(signal.type, KeyType):
        return Observed(signal.name, f"coalesce({raw}, '')", source or "not in the trace: no request has one", False)
    row = SIGNALS[signal.name]
    sql, odd = _held(signal, raw)
    if row.absent == "none" and signal.name in available.extracted:
        return Observed(signal.name, f"coalesce({sql}, {literal(signal.default)})", source, False, odd)
    if row.absent != "default":
        return Observed(signal.name, sql, source or "not in the trace", True, odd if source else "")
    default = str(signal.default).lower() if isinstance(signal.default, bool) else str(signal.default)
    assumption = f"where the caller doesn't say, `{signal.name}` is its default, {default}"
    value = f"coalesce({sql}, {literal(signal.default)})" if source else literal(signal.default)
    return Observed(signal.name, value, source or f"not in the trace: default {default}", False, odd if source else "", assumption)


def _held(signal: Signal, raw: str) -> tuple[str, str]:
    if isinstance(signal.type, IntType):
        low, high = signal.type.low, signal.type.high
        # Not `greatest(least())`: those leave NULL out of account, and would turn the unknown into a bound.
        return (
            f"CASE WHEN {raw} < {low} THEN {low} WHEN {raw} > {high} THEN {high} ELSE {raw} END",
            f"({raw} NOT BETWEEN {low} AND {high})",
        )
    return raw, ""


def _requested(policy: Policy, raw: str, source: str) -> Observed:
    whens = " ".join(f"WHEN {literal(alias)} THEN {literal(name)}" for alias, name in requested_names(policy).items())
    sql = f"CASE WHEN {raw} IS NULL THEN NULL ELSE CASE {raw} {whens} ELSE {literal(ANY_OTHER)} END END"
    note = "the caller is taken to have asked for the model that served" if source == "column `model`" else ""
    return Observed(REQUESTED, sql, source or "not in the trace", True, "", note)


def _time(policy: Policy, signal: Signal, available: Available) -> Observed:
    type_ = "BIGINT" if signal.name == "hour" else "VARCHAR"
    column = kept_signal(signal.name)
    if column in available.columns:
        value, odd = _held(signal, _cast(signal, quoted(column)))
        return Observed(signal.name, value, f"column `{column}`", True, odd)
    if "ts" not in available.columns or not available.dated:
        return Observed(signal.name, f"CAST(NULL AS {type_})", "not in the trace: its times have no date", True)
    moment = '"ts"' if policy.timezone == "UTC" else f"""timezone({literal(policy.timezone)}, timezone('UTC', "ts"))"""
    days = ", ".join(literal(day) for day in WEEKDAYS)
    sql = f"CAST(hour({moment}) AS BIGINT)" if signal.name == "hour" else f"[{days}][isodow({moment})]"
    return Observed(signal.name, sql, f"column `ts`, {policy.timezone}", True)


def _declared(signal: Signal, available: Available) -> Observed:
    """A declared signal: its column, else a key of `metadata`. Where the trace has the place, a row without value has the default."""
    own = () if any(place.kind == "column" for place in signal.places) else (Place("column", signal.name),)
    places = (*own, *signal.places)
    found = _places((Place("column", kept_signal(signal.name)), *places), available)
    if not found:
        if isinstance(signal.type, KeyType):
            return Observed(signal.name, "''", "not in the trace: no request has one", False)
        named = ", ".join(f"`{place.name}`" for place in places if place.kind == "column")
        return Observed(signal.name, f"CAST(NULL AS {_sql_type(signal)})", f"not in the trace: it has no column {named}", True)
    raw = found[0][0] if len(found) == 1 else f"coalesce({', '.join(f'CAST({sql} AS VARCHAR)' for sql, _ in found)})"
    value, odd = _declared_value(signal, raw)
    return Observed(signal.name, value, ", else ".join(source for _, source in found), False, odd)


def _places(places: Iterable[Place], available: Available) -> list[tuple[str, str]]:
    """SQL and description of those places that the trace has: columns, then keys of `metadata`."""
    columns = [place.name for place in places if place.kind == "column" and place.name in available.columns]
    keys = [place.name for place in places if place.kind == "metadata" and "metadata" in available.columns]
    found = [(quoted(column), f"column `{column}`") for column in columns]
    # Text that is no JSON would stop the query.
    key = """CASE WHEN json_valid("metadata") THEN json_extract_string("metadata", {}) END"""
    return [*found, *((key.format(literal(_path(name))), f"`metadata` key `{name}`") for name in keys)]


def _declared_value(signal: Signal, raw: str) -> tuple[str, str]:
    default = literal(signal.default)
    match signal.type:
        case IntType():
            number = _cast(signal, raw)
            value, odd = _held(signal, number)
            return f"coalesce({value}, {default})", f"({odd} OR ({number} IS NULL AND {raw} IS NOT NULL))"
        case BoolType():
            value = _cast(signal, raw)
            return f"coalesce({value}, {default})", f"({value} IS NULL AND {raw} IS NOT NULL)"
        case EnumType(members=members):
            text = f"CAST({raw} AS VARCHAR)"
            listed = ", ".join(literal(member) for member in members)
            return f"CASE WHEN {text} IN ({listed}) THEN {text} ELSE {default} END", f"({text} NOT IN ({listed}))"
        case _:
            return f"coalesce(CAST({raw} AS VARCHAR), '')", ""


def _cast(signal: Signal, raw: str) -> str:
    """A column or key of any type as the signal's type, NULL where it is none, as `signals.values` reads a live request.

    DuckDB's own casts would take `12.5` for 13, `1e3` for 1000 and `t` for true. `typeof` is a constant once the query is bound.
    """
    match signal.type:
        case IntType():
            whole = f"regexp_full_match(trim(CAST({raw} AS VARCHAR)), '-?[0-9]{{1,18}}(\\.0+)?')"
            return f"CASE WHEN typeof({raw}) IN {_INTEGERS} OR {whole} THEN TRY_CAST({raw} AS BIGINT) END"
        case BoolType():
            text = f"lower(CAST({raw} AS VARCHAR))"
            return f"CASE WHEN {text} IN ('true', '1', 'yes') THEN TRUE WHEN {text} IN ('false', '0', 'no') THEN FALSE END"
        case _:
            return f"CAST({raw} AS VARCHAR)"


def _path(key: str) -> str:
    return '$."' + key.replace('"', '\\"') + '"'


def _sql_type(signal: Signal) -> str:
    match signal.type:
        case IntType():
            return "BIGINT"
        case BoolType():
            return "BOOLEAN"
        case _:
            return "VARCHAR"
