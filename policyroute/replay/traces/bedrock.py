"""AWS Bedrock's model invocation logs: one record per call, with bodies where logging them is on and they are small.

Cache counts lie beside `inputTokenCount` and are added. A `modelId` that is an ARN is cut to what follows its last `/`, which is the
model for an inference profile of a region, and an opaque id for one that an application made; the ARN stays in `metadata`. The log
tells no latency; Converse's answer does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from policyroute.replay.traces import bodies
from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.head import Head
from policyroute.replay.traces.times import parse
from policyroute.replay.traces.values import Taken, known, mapping, metadata, number, text, unpacked, whole

EXTRAS = {"region": "VARCHAR", "account": "VARCHAR"}
_SIZES = ("inputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount", "inputBodyJson", "inputContentType")
_ANSWER = ("outputTokenCount", "outputBodyJson", "outputContentType")


def recognises(head: Head) -> bool:
    """Records of `ModelInvocationLog`."""
    return head.has("modelId", "operation", "requestId", "timestamp") and head.has("input")


def rows(records: Iterable[Mapping[str, Any]], tally: Tally) -> Iterator[Row]:
    """The calls, each request id once."""
    seen: set[str] = set()
    for record in records:
        request = text(record.get("requestId"))
        if request is not None and request in seen:
            tally.add("double-counted")
            continue
        seen.add(request or "")
        row = _row(record)
        if row["error_type"]:
            tally.add("failed-call")
        yield row


def _row(record: Mapping[str, Any]) -> Row:
    take = Taken(record)
    take.drop("schemaType", "schemaVersion")
    given, made = Taken(mapping(take("input"))), Taken(mapping(take("output")))
    given.drop(*_SIZES)
    made.drop(*_ANSWER)
    spelled, operation = text(record.get("modelId")) or "", text(take("operation"))
    if not spelled.startswith("arn:"):
        take.drop("modelId")
    read, written = (whole(given.fields.get(name)) for name in _SIZES[1:3])
    body, answer = mapping(given.fields.get("inputBodyJson")), unpacked(made.fields.get("outputBodyJson"))
    told = bodies.answered(assembled(answer) if isinstance(answer, list) else mapping(answer))
    tokens = known(bodies.beside(given.fields.get("inputTokenCount"), made.fields.get("outputTokenCount"), read, written))
    asked = bodies.asked(body)
    latency = mapping(mapping(answer).get("metrics")).get("latencyMs")
    who = mapping(take("identity"))
    return {
        **told,
        **asked,
        **tokens,
        "ts": parse(take("timestamp")),
        "request_id": text(take("requestId")),
        "user_id": text(who.get("arn")),
        "provider": "aws",
        "model": spelled.rsplit("/", 1)[-1] or None,
        "response_model": told.get("response_model"),
        "api": operation,
        "stream": operation.endswith("Stream") if operation else None,
        "error_type": text(take("errorCode")) or told.get("error_type"),
        "latency_ms": number(latency),
        "region": text(take("region")),
        "account": text(take("accountId")),
        "metadata": metadata(take("requestMetadata"), {**take.rest(), **given.rest(), **made.rest()}),
    }


def assembled(events: Sequence[object]) -> dict[str, Any]:
    """The answer of a stream of Anthropic events, as one body."""
    body: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, str] = {}
    for event in map(mapping, events):
        at, delta = whole(event.get("index")) or 0, mapping(event.get("delta"))
        body = {**body, **mapping(event.get("message"))}
        if "content_block" in event:
            blocks[at] = dict(mapping(event["content_block"]))
        if "text" in delta:
            block = blocks.setdefault(at, {"type": "text", "text": ""})
            block["text"] = f"{block.get('text') or ''}{delta['text']}"
        inputs[at] = inputs.get(at, "") + str(delta.get("partial_json") or "")
        if "stop_reason" in delta:
            body["stop_reason"] = delta["stop_reason"]
        body["usage"] = {**mapping(body.get("usage")), **mapping(event.get("usage"))}
    for at, written in inputs.items():
        if written and at in blocks:
            blocks[at]["input"] = unpacked(written)
    return {**body, "content": [blocks[at] for at in sorted(blocks)]} if blocks else body
