"""Traces: what was asked, answered and paid, from any source, as one canonical table. `open_trace` reads, `write_canonical` keeps."""

from __future__ import annotations

from typing import Any

from policyroute.replay.traces.errors import TraceError
from policyroute.replay.traces.importers import IMPORTERS, Importer, importers_markdown
from policyroute.replay.traces.notes import NOTES, Note, notes_markdown
from policyroute.replay.traces.schema import COLUMNS, NAMES, Column, markdown
from policyroute.replay.traces.tables import Shape
from policyroute.replay.traces.trace import Part, Trace, open_trace, write_canonical

__all__ = [
    "COLUMNS",
    "IMPORTERS",
    "NAMES",
    "NOTES",
    "Column",
    "Importer",
    "Note",
    "Part",
    "Shape",
    "Trace",
    "TraceError",
    "TraceRow",
    "importers_markdown",
    "markdown",
    "notes_markdown",
    "open_trace",
    "write_canonical",
]


def __getattr__(name: str) -> Any:
    """`TraceRow` brings pydantic, which a replay doesn't need."""
    if name == "TraceRow":
        from policyroute.replay.traces.rows import TraceRow

        return TraceRow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
