"""What a trace can and cannot carry, said before anyone simulates: one JSON-ready value of whole numbers, shares and sentences.

Nothing is extracted and nothing is decided here: a signal counts as readable in a row where the row has the column or the content
that it is read from. Prices are resolved as a replay resolves them. What follows from the figures is in `doctor_findings`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from policyroute.backends.sql import literal, quoted
from policyroute.language.declarations import builtin_signals
from policyroute.language.limits import read_signals
from policyroute.language.policy import Policy, Signal, TextType
from policyroute.language.vocabulary import SIGNALS
from policyroute.prices.catalog import Catalog
from policyroute.replay.doctor.findings import findings
from policyroute.replay.doctor.money import money
from policyroute.replay.figures import percent
from policyroute.replay.observe import Available, observe, wanted_content
from policyroute.replay.traces import NAMES, Trace, open_trace
from policyroute.replay.traces.head import reading
from policyroute.replay.traces.sql import one

SCHEMA = "policyroute.doctor/1"
Json = dict[str, Any]

# Words of a column's or a metadata key's name that say what it holds.
LABELS = frozenset((
    "accepted", "annotation", "correct", "csat", "evaluation", "feedback", "grade", "label", "labels", "outcome", "passed", "quality",
    "rating", "resolved", "reward", "score", "scores", "success", "thumbs", "valid", "win",
))  # fmt: skip
PROPENSITIES = frozenset(("propensity", "propensities", "pscore", "prob", "probability"))
OUTCOMES = ("status_code", "error_type", "finish_reason", "latency_ms", "ttft_ms", "cost_usd")
KEYS_OF = 10_000  # rows whose metadata is looked into for keys
PROMPTS_OF = 100_000  # rows whose prompts are compared


def doctor(
    paths: Sequence[str | Path],
    catalog: Catalog,
    *,
    policy: Policy | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    mapping: Mapping[str, str] | None = None,
    incumbent: str | None = None,
) -> Json:
    """Examine a trace. With a policy (completed from the catalog), its declared signals, word sets and models count too.

    Raises `TraceError` where the trace can't be read.
    """
    with (
        tempfile.TemporaryDirectory(prefix="policyroute-") as scratch,
        duckdb.connect(config={"temp_directory": scratch, "preserve_insertion_order": True}) as connection,
    ):
        trace = open_trace(
            list(paths), connection=connection, format=format, mapping=mapping or {}, incumbent=incumbent, scratch=Path(scratch)
        )
        with reading(trace.parts[0].name):
            return _examined(trace, catalog, policy, connection)


def _examined(trace: Trace, catalog: Catalog, policy: Policy | None, connection: duckdb.DuckDBPyConnection) -> Json:
    look = _Look(trace, policy or _bare(), connection)
    counts = look.counts()
    found = {
        "schema": SCHEMA,
        "policy": policy.name if policy else None,
        "trace": look.trace_facts(counts),
        "columns": [_column(name, counts[name], trace.rows) for name in NAMES if name in counts],
        "extra_columns": [_column(name, counts[name], trace.rows) for name in trace.extra],
        "metadata_keys": (keys := look.metadata_keys()),
        "signals": look.signals(read_signals(policy) if policy else ()),
        **money(trace, look.policy, catalog, connection),
        "outcomes": [_column(name, counts[name], trace.rows) for name in OUTCOMES if counts.get(name)],
        "labels": look.values(LABELS, keys),
        "propensities": look.values(PROPENSITIES, keys),
        "paired_requests": look.paired(),
        "notes": [{"code": note.code, "message": note.message, "rows": note.rows} for note in trace.notes],
    }
    return {**found, "findings": findings(found)}


def _bare() -> Policy:
    """A policy that says nothing: the vocabulary's signals as they are."""
    return Policy(
        name="", doc="", timezone="UTC", signals=builtin_signals(), texts={}, tunables={}, models={}, tiers={}, order=(), forbids=(), rules=(),
        explore=None, tests=(), constructs=(), digest="",
    )  # fmt: skip


def _column(name: str, rows: int, of: int) -> Json:
    return {"column": name, "rows": rows, "percent": percent(rows, of)}


@dataclass(frozen=True)
class _Look:
    """One trace under one policy, and the queries that look at it."""

    trace: Trace
    policy: Policy
    connection: duckdb.DuckDBPyConnection

    @property
    def columns(self) -> frozenset[str]:
        """Canonical columns with values, and the trace's own."""
        return self.trace.present | frozenset(self.trace.extra)

    def counts(self) -> dict[str, int]:
        """Rows with a value, by column: all canonical columns, and the trace's own."""
        names = [*(name for name in NAMES if name != "suspect_cost"), *self.trace.extra]
        here = [name for name in names if name in self.columns]
        asked = ", ".join(["count(*)", *(f"count({quoted(name)})" for name in here)])
        found = dict(zip(here, one(self.connection, f"SELECT {asked} FROM ({self.trace.relation})")[1:], strict=True))
        return {name: int(found.get(name, 0)) for name in names}

    def trace_facts(self, counts: Mapping[str, int]) -> Json:
        """Format, files, rows and window."""
        trace = self.trace
        first, last, days = (None, None, 0)
        if counts.get("ts"):
            first, last, days = one(
                self.connection, f"SELECT min(ts), max(ts), count(DISTINCT CAST(ts AS DATE)) FROM ({trace.relation})"
            )
        dated = first is not None and last is not None and not trace.relative_time
        return {
            "format": trace.format,
            "files": [part.name for part in trace.parts],
            "rows": trace.rows,
            "window": [f"{first:%Y-%m-%dT%H:%M:%SZ}", f"{last:%Y-%m-%dT%H:%M:%SZ}"] if dated else None,
            "seconds": int((last - first).total_seconds()) if first is not None and last is not None else None,
            "days": int(days) if dated else None,
            "digest": trace.digest,
        }

    def metadata_keys(self) -> list[Json]:
        """Keys of `metadata`'s objects, the most frequent first."""
        if "metadata" not in self.trace.present:
            return []
        rows = f"SELECT metadata FROM ({self.trace.relation}) WHERE metadata IS NOT NULL LIMIT {KEYS_OF}"
        objects = f"SELECT CASE WHEN json_valid(metadata) AND json_type(metadata) = 'OBJECT' THEN json_keys(metadata) END AS keys FROM ({rows})"
        query = (
            f"SELECT key, count(*) AS rows FROM (SELECT unnest(keys) AS key FROM ({objects})) GROUP BY key ORDER BY rows DESC, key"
        )
        return [{"key": key, "rows": int(count)} for key, count in self.connection.sql(query).fetchall()]

    # -- signals -----------------------------------------------------------------------------------------------------

    def signals(self, read: Iterable[str]) -> list[Json]:
        """Every signal of the vocabulary and of the policy: where it is read from, and in how many rows."""
        used = set(read)
        names = [name for name, signal in self.policy.signals.items() if not isinstance(signal.type, TextType)]
        content = wanted_content(self.policy, names, self.columns)
        available = Available(self.columns, frozenset(content), not self.trace.relative_time)
        seen = observe(self.policy, names, available, {})
        places = {name: self._places(self.policy.signals[name], name in content) for name in names}
        told = self._told(places)
        return [
            {
                "signal": name,
                "kind": self.policy.signals[name].kind,
                "state": _state(places[name], seen[name].unknown),
                "source": seen[name].source,
                "rows": told[name],
                "percent": percent(told[name], self.trace.rows),
                "read": name in used,
            }
            for name in names
        ]

    def _places(self, signal: Signal, extracted: bool) -> list[tuple[str, str]]:
        """Where the trace may hold the signal: what kind of place, and SQL that tells whether a row does."""
        row = SIGNALS.get(signal.name)
        named = [place.name for place in signal.places if place.kind == "column"]
        own = row.columns if row else () if named else (signal.name,)
        columns = [name for name in dict.fromkeys((*named, *own)) if name in self.columns]
        found = [("column", f"{quoted(name)} IS NOT NULL") for name in columns]
        if "metadata" in self.trace.present:
            keys = [place.name for place in signal.places if place.kind == "metadata"]
            found += [("metadata", _has_key(key)) for key in keys]
        if row and row.content == "ts" and "ts" in self.columns and not self.trace.relative_time:
            found.append(("column", '"ts" IS NOT NULL'))
        if extracted:
            found.append(("extracted", f"{quoted(row.content if row else 'messages')} IS NOT NULL"))
        return found

    def _told(self, places: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, int]:
        asked = {name: " OR ".join(sql for _, sql in found) for name, found in places.items() if found}
        listed = ", ".join(["count(*)", *(f"count_if({sql})" for sql in asked.values())])
        counts = one(self.connection, f"SELECT {listed} FROM ({self.trace.relation})")[1:]
        told = dict(zip(asked, map(int, counts), strict=True))
        return {name: told.get(name, 0) for name in places}

    # -- labels ------------------------------------------------------------------------------------------------------

    def values(self, words: frozenset[str], keys: Sequence[Json]) -> list[Json]:
        """Columns and metadata keys whose names have one of `words`: how many rows and distinct values, and the range of numbers."""
        places = [(f"column `{name}`", f"CAST({quoted(name)} AS VARCHAR)") for name in self.trace.extra if _words(name) & words]
        places += [
            (f"`metadata` key `{each['key']}`", _key(each["key"]))
            for each in keys
            if _words(each["key"]) & words and each["key"] not in self.columns
        ]
        found = []
        for place, sql in places:
            number = f"TRY_CAST({sql} AS DOUBLE)"
            query = f"SELECT count({sql}), count(DISTINCT {sql}), min({number}), max({number}), count({number}) FROM ({self.trace.relation})"
            rows, distinct, low, high, numbers = one(self.connection, query)
            ranged = {"low": low, "high": high} if rows and numbers == rows else {"low": None, "high": None}
            found.append(
                {"place": place, "rows": int(rows), "percent": percent(rows, self.trace.rows), "distinct": int(distinct), **ranged}
            )
        return [each for each in found if each["rows"]]

    def paired(self) -> int:
        """Requests that more than one model answered: told by their id, or by the same prompt among the first `PROMPTS_OF` rows."""
        if "model" not in self.trace.present:
            return 0
        keys = {"request_id": "", "messages": f" LIMIT {PROMPTS_OF}"}
        return max(
            (self._answered_by_several(name, limit) for name, limit in keys.items() if name in self.trace.present), default=0
        )

    def _answered_by_several(self, name: str, limit: str) -> int:
        rows = f"SELECT md5({name}) AS key, model FROM ({self.trace.relation}) WHERE {name} IS NOT NULL{limit}"
        several = f"SELECT key FROM ({rows}) GROUP BY key HAVING count(DISTINCT model) > 1"
        return int(one(self.connection, f"SELECT count(*) FROM ({several})")[0])


def _state(places: Sequence[tuple[str, str]], unknown: bool) -> str:
    """How a signal is known: `column`, `metadata`, `extracted`, `default`, or `unknown`."""
    if not places:
        return "unknown" if unknown else "default"
    return places[0][0]


def _key(key: str) -> str:
    """The value of a key of `metadata`, as text."""
    path = literal('$."' + key.replace('"', '\\"') + '"')
    return f'CASE WHEN json_valid("metadata") THEN json_extract_string("metadata", {path}) END'


def _has_key(key: str) -> str:
    return f"({_key(key)}) IS NOT NULL"


def _words(name: str) -> set[str]:
    return set("".join(sign if sign.isalnum() else " " for sign in name.lower()).split())
