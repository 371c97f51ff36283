"""OpenTelemetry spans of finished requests, exported by OTLP over HTTP (extra `otel`).

Rules of this module
- A request's span is made from its `Served` value after its answer has ended, with the times of that value: nothing runs before.
- Names are those of the conventions for generative AI, our own begin with `policyroute.`. No prompt, answer, user or header is in it.
- The client's `traceparent` is continued, its sampling decision included. Where spans go, and under which service's name, is said by
  the SDK's own variables: `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, ...
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING

import policyroute
from policyroute.prices.money import PICODOLLARS
from policyroute.proxy.metric_words import NONE, error_of, operation_name, provider_name, word_of
from policyroute.proxy.served import Attempt, Served
from policyroute.proxy.settings import ServeError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

Value = str | bool | int | float | list[str]

SERVICE = "policyroute"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Spans:
    """Turns finished requests into spans. A process starts exporting with its first one.

    Raises ServeError where the extra isn't installed.
    """

    def __init__(self) -> None:
        needed = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
        if not all(_installed(name) for name in needed):
            raise ServeError("spans need the packages of the extra `otel`", "pip install 'policyroute[otel]'")
        self._lock = threading.Lock()
        self._process = 0
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None

    def write(self, served: Served) -> None:
        """Export a finished request, soon."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        tracer = self._started()
        above = TraceContextTextMapPropagator().extract(served.headers)
        start = nanoseconds(served.at)
        name = f"{operation_name(served.api)} {served.model_id}".strip()
        span = tracer.start_span(name, above, SpanKind.SERVER, dict(attributes(served)), start_time=start)
        if served.verdict in ("failed", "cut") or served.status >= 500:
            span.set_status(StatusCode.ERROR, error_of(served.error))
        if span.is_recording():
            within = set_span_in_context(span, above)
            for attempt in served.attempts:
                if attempt.result.startswith("skipped"):
                    span.add_event("policyroute.skipped", dict(_attempted(served, attempt)), start + _ns(attempt.began))
                else:
                    _child(tracer, within, served, attempt, start)
        span.end(start + _ns(served.latency))

    def flush(self, within: float = 5.0) -> None:
        """Send what hasn't been sent; `within` seconds at most."""
        if self._provider is not None and self._process == os.getpid():
            self._provider.force_flush(int(within * 1000))

    def close(self) -> None:
        """Send what hasn't been sent, and stop."""
        if self._provider is not None and self._process == os.getpid():
            self._provider.shutdown()

    def _started(self) -> Tracer:
        if self._tracer is None or self._process != os.getpid():
            with self._lock:
                if self._tracer is None or self._process != os.getpid():
                    self._provider = _provider()
                    self._tracer = self._provider.get_tracer(SERVICE, policyroute.__version__)
                    self._process = os.getpid()
        return self._tracer


def attributes(served: Served) -> Iterator[tuple[str, Value]]:
    """The attributes of a request's span; what isn't known is left out."""
    named: dict[str, Value | None] = {
        "gen_ai.operation.name": operation_name(served.api),
        "gen_ai.provider.name": provider_name(served.provider),
        "gen_ai.request.model": served.model_id or served.requested,
        "gen_ai.original.model": served.requested,
        "gen_ai.response.model": served.response_model,
        "gen_ai.request.stream": served.stream,
        "gen_ai.response.finish_reasons": [served.finish_reason] if served.finish_reason else None,
        "gen_ai.response.time_to_first_chunk": served.first / 1000 if served.stream and served.first is not None else None,
        "http.response.status_code": served.status or None,
        "error.type": error_of(served.error),
        "policyroute.request.id": served.id,
        "policyroute.verdict": served.verdict,
        "policyroute.policy.name": served.policy.name,
        "policyroute.policy.hash": served.policy.digest,
        "policyroute.target": served.model,
        "policyroute.tier": served.tier,
        "policyroute.caller": served.caller,
        "policyroute.attempts": len(served.attempts),
        "policyroute.overhead_ms": served.overhead,
        "policyroute.cost.usd": served.cost.picodollars / PICODOLLARS if served.cost else None,
    }
    yield from ((name, value) for name, value in named.items() if value is not None and value != "")
    if served.decision is not None:
        yield "policyroute.rule", served.decision.rule
        yield "policyroute.candidates", list(served.decision.chain)
    yield from _usage(served)


def _usage(served: Served) -> Iterator[tuple[str, Value]]:
    usage = served.usage
    if usage is None:
        return
    yield "gen_ai.usage.input_tokens", usage.input
    yield "gen_ai.usage.output_tokens", usage.output
    yield "gen_ai.usage.cache_read.input_tokens", usage.cached
    if usage.write_5m or usage.write_1h:
        yield "gen_ai.usage.cache_write.input_tokens", usage.write_5m + usage.write_1h
    if served.reasoning is not None:
        yield "gen_ai.usage.reasoning.output_tokens", served.reasoning


def _attempted(served: Served, attempt: Attempt) -> Iterator[tuple[str, Value]]:
    yield "gen_ai.operation.name", operation_name(served.api)
    yield "gen_ai.request.model", _id(served, attempt.model)
    declared = served.policy.models.get(attempt.model)
    if declared is not None and declared.provider:
        yield "gen_ai.provider.name", provider_name(declared.provider)
    yield "policyroute.target", attempt.model
    if attempt.result != "answered":
        yield "error.type", word_of(attempt.result)


def _child(tracer: Tracer, within: Context, served: Served, attempt: Attempt, start: int) -> None:
    from opentelemetry.trace import SpanKind, StatusCode

    name = f"{operation_name(served.api)} {_id(served, attempt.model)}"
    began = start + _ns(attempt.began)
    span = tracer.start_span(name, within, SpanKind.CLIENT, dict(_attempted(served, attempt)), start_time=began)
    if attempt.result != "answered":
        span.set_status(StatusCode.ERROR, word_of(attempt.result))
    span.end(began + _ns(attempt.took))


def _id(served: Served, model: str) -> str:
    declared = served.policy.models.get(model)
    return declared.id if declared else model or NONE


def nanoseconds(at: datetime) -> int:
    """A moment as OpenTelemetry counts it, exact to the microsecond; a naive one is UTC."""
    since = (at.replace(tzinfo=UTC) if at.tzinfo is None else at) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1e6)


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the package around it isn't there
        return False


def _provider() -> TracerProvider:
    """An exporting provider of our own: one that an application has set stays untouched."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create(None if _named(os.environ) else {"service.name": SERVICE}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _named(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("OTEL_SERVICE_NAME")) or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
