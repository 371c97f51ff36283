"""Spans: a real OTLP receiver on loopback sees a request's span, its attempts and their attributes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from policyroute.prices.cost import Usage
from policyroute.proxy.served import Attempt, Served
from policyroute.proxy.settings import ServeError
from policyroute.proxy.spans import Spans, nanoseconds
from tests.served_support import AT, CANARY, answered, loaded, served

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass
class Receiver:
    """What an OTLP endpoint was sent."""

    url: str
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        """All spans in order of their start."""
        found = [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return sorted(found, key=lambda span: (span.start_time_unix_nano, span.kind == Span.SPAN_KIND_CLIENT))

    @property
    def resource(self) -> dict[str, Any]:
        """The attributes of the resource."""
        return attributes(self.requests[0].resource_spans[0].resource.attributes)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """An OTLP/HTTP endpoint on loopback, named by the SDK's own variable."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                found.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def attributes(found: Any) -> dict[str, Any]:
    """Attributes as plain values."""
    return {each.key: plain(each.value) for each in found}


def plain(found: AnyValue) -> Any:
    """A value out of its wrapping."""
    kind = found.WhichOneof("value")
    return [plain(each) for each in found.array_value.values] if kind == "array_value" else getattr(found, kind)


def exported(*requests: Served) -> None:
    """Write spans and send them."""
    spans = Spans()
    for request in requests:
        spans.write(request)
    spans.close()


def test_a_request(receiver: Receiver) -> None:
    """Kind, name, times and attributes of a request's span and of its attempt's, under the client's trace."""
    exported(served(headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}, reasoning=7, tier="cheap"))
    request, attempt = receiver.spans
    assert request.kind == Span.SPAN_KIND_SERVER and request.name == "chat gpt-4o-mini"
    assert request.trace_id.hex() == TRACE and request.parent_span_id.hex() == PARENT
    assert request.start_time_unix_nano == nanoseconds(AT) == int(AT.timestamp()) * 10**9 + 123_456_000
    assert request.end_time_unix_nano - request.start_time_unix_nano == 1_200_000_000
    policy = loaded()[0]
    found = attributes(request.attributes)
    assert found.pop("policyroute.cost.usd") == pytest.approx(0.0001956)
    assert found == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.original.model": "auto",
        "gen_ai.response.model": "gpt-4o-mini", "gen_ai.request.stream": True, "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.2, "http.response.status_code": 200, "gen_ai.usage.input_tokens": 1_000,
        "gen_ai.usage.output_tokens": 101, "gen_ai.usage.cache_read.input_tokens": 200, "gen_ai.usage.reasoning.output_tokens": 7,
        "policyroute.request.id": "pr_1", "policyroute.verdict": "answered", "policyroute.policy.name": "support", "policyroute.policy.hash": policy.digest,
        "policyroute.target": "mini", "policyroute.tier": "cheap", "policyroute.caller": "desk", "policyroute.attempts": 1, "policyroute.overhead_ms": 0.3,
        "policyroute.rule": "order_lookup", "policyroute.candidates": ["mini", "flash"],
    }  # fmt: skip
    assert (
        attempt.kind == Span.SPAN_KIND_CLIENT and attempt.parent_span_id == request.span_id and attempt.trace_id == request.trace_id
    )
    assert attempt.start_time_unix_nano - request.start_time_unix_nano == 500_000
    assert attempt.end_time_unix_nano - attempt.start_time_unix_nano == 1_100_000_000
    assert receiver.resource["service.name"] == "policyroute"


def test_attempts(receiver: Receiver) -> None:
    """Each call has a span, failed ones an error; a model that was passed over is an event."""
    found = served(usage=None)
    found.attempts[:] = [Attempt("mini", 1, 5, "429"), Attempt("flash", 7, 0, "skipped: circuit open")]
    answered(found, "haiku", Usage(10, 10), loaded()[3])
    found.attempts[-1].began = 8
    exported(found)
    request, failed, good = receiver.spans
    assert [attributes(span.attributes)["policyroute.target"] for span in (failed, good)] == ["mini", "haiku"]
    assert attributes(good.attributes)["gen_ai.provider.name"] == "anthropic"
    assert failed.status.code == Status.STATUS_CODE_ERROR and attributes(failed.attributes)["error.type"] == "429"
    assert good.status.code != Status.STATUS_CODE_ERROR and request.status.code != Status.STATUS_CODE_ERROR
    [event] = request.events
    assert event.name == "policyroute.skipped" and attributes(event.attributes)["error.type"] == "circuit_open"


@pytest.mark.parametrize(
    ("verdict", "status", "error", "wrong"),
    [("failed", 503, "timeout", True), ("cut", 200, "cut", True), ("answered", 400, "client_error", False), ("abandoned", 200, "client_gone", False)],
)  # fmt: skip
def test_errors(receiver: Receiver, verdict: Any, status: int, error: str, wrong: bool) -> None:
    """Our own failures are errors of the span, the client's are not (as the conventions say for a server)."""
    exported(served(verdict=verdict, status=status, error=error))
    request = receiver.spans[0]
    assert (request.status.code == Status.STATUS_CODE_ERROR) == wrong
    assert attributes(request.attributes)["error.type"] == error


def test_without_a_decision(receiver: Receiver) -> None:
    """A call that was passed through has a span too."""
    exported(
        served(
            decision=None, values=None, verdict="passed", api="embeddings", model_id="text-embedding-3-small", usage=None, cost=None
        )
    )
    assert receiver.spans[0].name == "embeddings text-embedding-3-small"
    assert "policyroute.rule" not in attributes(receiver.spans[0].attributes)


def test_nothing_private(receiver: Receiver) -> None:
    """No prompt, answer, user or header is exported."""
    exported(
        served(
            CANARY,
            prompt=CANARY.encode(),
            answer=CANARY.encode(),
            user=CANARY,
            headers={"user-agent": CANARY, "authorization": CANARY},
        )
    )
    assert receiver.requests and all(CANARY.encode() not in request.SerializeToString() for request in receiver.requests)


def test_not_sampled(receiver: Receiver) -> None:
    """A client that doesn't sample its trace gets no spans in it."""
    exported(served(headers={"traceparent": f"00-{TRACE}-{PARENT}-00"}), served(id="other"))
    assert {attributes(span.attributes).get("policyroute.request.id") for span in receiver.spans} == {"other", None}
    assert TRACE not in {span.trace_id.hex() for span in receiver.spans}


@pytest.mark.parametrize(
    ("variable", "text"), [("OTEL_SERVICE_NAME", "gateway"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=gateway")]
)
def test_service_name(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    """The environment's name wins over ours."""
    monkeypatch.setenv(variable, text)
    exported(served())
    assert receiver.resource["service.name"] == "gateway"


def test_bad_traceparent(receiver: Receiver) -> None:
    """A header that is none begins a trace of its own."""
    exported(served(headers={"traceparent": "00-zz-zz-01"}))
    assert receiver.spans[0].parent_span_id == b"" and receiver.spans[0].trace_id != bytes(16)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is said, with the remedy."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(ServeError) as missing:
        Spans()
    assert "policyroute[otel]" in missing.value.help
