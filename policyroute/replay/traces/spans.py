"""Spans of any spelling as one value: OTLP JSON as the collector's file exporter writes it, and tables with a span per row.

A table's attributes may be columns of their own (`gen_ai.request.model`, or `attributes.llm.model_name` as Phoenix writes them),
or one column that holds an object, a map or JSON text (`attributes`, `SpanAttributes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from policyroute.replay.traces.times import parse
from policyroute.replay.traces.values import flattened, listed, mapping, number, text, unpacked

PREFIXES = ("attributes", "SpanAttributes", "span_attributes")
_RESOURCES = ("resource.attributes", "ResourceAttributes", "resource_attributes", "resource")
_OBJECTS = (*PREFIXES, *_RESOURCES, "context")
_NAMES: dict[str, tuple[str, ...]] = {
    "trace": ("context.trace_id", "trace_id", "traceId", "TraceId"),
    "id": ("context.span_id", "span_id", "spanId", "SpanId"),
    "parent": ("parent_id", "parent_span_id", "parentSpanId", "ParentSpanId", "parentId"),
    "name": ("name", "span_name", "SpanName"),
    "start": ("start_time", "startTime", "startTimeUnixNano", "start_timestamp", "Timestamp", "timestamp"),
    "end": ("end_time", "endTime", "endTimeUnixNano", "end_timestamp"),
    "duration": ("Duration", "duration_ns"),
    "status": ("status.status_code", "status.code", "status_code", "StatusCode"),
}


@dataclass(frozen=True, slots=True)
class Span:
    """One span: `attributes` under dotted names, `other` what the row says beside them, `events` names with attributes."""

    trace: str
    id: str
    parent: str
    name: str
    start: datetime | None
    end: datetime | None
    failed: bool
    attributes: Mapping[str, Any]
    other: Mapping[str, Any]
    events: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What names the span in all files."""
        return self.trace, self.id


def of_otlp(line: Mapping[str, Any]) -> Iterator[Span]:
    """The spans of one line of the collector's file exporter; lines of metrics and logs have none."""
    for group in map(mapping, listed(line.get("resourceSpans"))):
        resource = _attributes(mapping(group.get("resource")).get("attributes"))
        for scope in map(mapping, listed(group.get("scopeSpans", group.get("instrumentationLibrarySpans")))):
            for span in map(mapping, listed(scope.get("spans"))):
                yield _otlp_span(span, resource)


def _otlp_span(span: Mapping[str, Any], resource: Mapping[str, Any]) -> Span:
    events = tuple(
        (text(event.get("name")) or "", _attributes(event.get("attributes"))) for event in map(mapping, listed(span.get("events")))
    )
    return Span(
        trace=text(span.get("traceId")) or "",
        id=text(span.get("spanId")) or "",
        parent=text(span.get("parentSpanId")) or "",
        name=text(span.get("name")) or "",
        start=_time(span.get("startTimeUnixNano")),
        end=_time(span.get("endTimeUnixNano")),
        failed=mapping(span.get("status")).get("code") in (2, "STATUS_CODE_ERROR"),
        attributes=_attributes(span.get("attributes")),
        other=resource,
        events=events,
    )


def _attributes(given: object) -> dict[str, Any]:
    """OTLP's list of keys and typed values as an object."""
    return {str(each["key"]): _value(each.get("value")) for each in listed(given) if isinstance(each, dict) and "key" in each}


def _value(given: object) -> Any:
    """A typed value: integers are text in OTLP's JSON, and are read as numbers."""
    if not isinstance(given, dict) or not given:
        return given or None
    kind, value = next(iter(given.items()))
    if kind == "intValue":
        return int(value) if text(value) and str(value).lstrip("-").isdecimal() else None
    if kind == "arrayValue":
        return [_value(each) for each in listed(mapping(value).get("values"))]
    if kind == "kvlistValue":
        return _attributes(mapping(value).get("values"))
    return value


def _time(value: object) -> datetime | None:
    """A time; nanoseconds may be written as text."""
    return parse(int(value)) if isinstance(value, str) and value.isdecimal() else parse(value)


def of_row(row: Mapping[str, Any]) -> Span:
    """The span of a table's row, or of a JSON object with a span."""
    fields: dict[str, Any] = {}
    for name, value in row.items():
        fields |= flattened(unpacked(value) if name in _OBJECTS else value, name)
    told = {part: next((fields[name] for name in names if fields.get(name) is not None), None) for part, names in _NAMES.items()}
    used = {name for names in _NAMES.values() for name in names}
    attributes: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for name, value in fields.items():
        prefix = next((prefix for prefix in PREFIXES if name.startswith(f"{prefix}.")), None)
        if prefix:
            attributes[name.removeprefix(f"{prefix}.")] = value
        elif name not in used:
            resource = next((prefix for prefix in _RESOURCES if name.startswith(f"{prefix}.")), "")
            other[name.removeprefix(f"{resource}.")] = value
    if not attributes:
        attributes, other = other, {}
    start, nanoseconds = _time(told["start"]), number(told["duration"])
    end = _time(told["end"])
    if end is None and start is not None and nanoseconds is not None:
        end = start + timedelta(microseconds=nanoseconds / 1000)
    return Span(
        trace=text(told["trace"]) or "",
        id=text(told["id"]) or "",
        parent=text(told["parent"]) or "",
        name=text(told["name"]) or "",
        start=start,
        end=end,
        failed=str(told["status"]).upper() in ("2", "ERROR", "STATUS_CODE_ERROR"),
        attributes=attributes,
        other=other,
    )
