"""Helicone requests: the export's and the query API's objects, with the bodies of request and answer where they were kept.

Whether `prompt_tokens` holds the cached ones depends on the provider and on Helicone's version. So the answer's own `usage` is
read where the body is there; else, the cache's parts are added unless `total_tokens` says that they are inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from policyroute.replay.traces import bodies
from policyroute.replay.traces.aider import money
from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.head import Head
from policyroute.replay.traces.times import milliseconds, parse
from policyroute.replay.traces.values import Taken, known, mapping, metadata, number, text, whole

EXTRAS = {"feedback_rating": "VARCHAR", "scores": "VARCHAR"}


def recognises(head: Head) -> bool:
    """Requests as the query API names their fields."""
    return head.has("request_created_at", "response_status") and (head.has("request_id") or head.has("request_path"))


def rows(records: Iterable[Mapping[str, Any]], tally: Tally) -> Iterator[Row]:
    """The requests, each id once; answers from Helicone's own cache are set aside."""
    seen: set[str] = set()
    for record in records:
        request = text(record.get("request_id"))
        if request is not None and request in seen:
            tally.add("double-counted")
        elif _from_cache(record):
            tally.add("gateway-cache")
        else:
            seen.add(request or "")
            yield _row(record)


def _from_cache(record: Mapping[str, Any]) -> bool:
    """Answered without a provider: such a row has the id of the request that was cached, or is counted as a hit."""
    reference = text(record.get("cache_reference_id"))
    return bool(whole(record.get("cache_count"))) or (reference is not None and set(reference) > {"0", "-"})


def _row(record: Mapping[str, Any]) -> Row:
    take = Taken(record)
    take.drop("total_tokens", "cache_enabled", "cache_count")
    body, answer = mapping(take("request_body")), mapping(take("response_body"))
    own = {**mapping(take("request_properties")), **mapping(take("properties"))}
    start, end = parse(take("request_created_at")), parse(take("response_created_at"))
    delay = number(take("delay_ms"))
    status = whole(take("response_status"))
    response, request, model = text(take("response_model")), text(take("request_model")), text(take("model", "model_override"))
    asked, told = bodies.asked(body), bodies.answered(answer)
    counted = _tokens(record, take)
    return {
        **asked,
        **counted,
        **told,
        "ts": start,
        "request_id": text(take("request_id")),
        "conversation_id": text(own.get("Helicone-Session-Id")),
        "user_id": text(take("request_user_id", "user_id")),
        "provider": text(take("provider")),
        "model": model or response or request,
        "requested_model": request,
        "response_model": response or told.get("response_model"),
        "status_code": status,
        "error_type": told.get("error_type") or (f"http_{status}" if status is not None and status >= 400 else None),
        "latency_ms": delay if delay is not None else milliseconds(start, end),
        "ttft_ms": number(take("time_to_first_token")),
        "cost_usd": money(take("cost", "costUSD", "cost_usd")),
        "feedback_rating": text(take("feedback_rating")),
        "scores": metadata(take("scores"), {}),
        "metadata": metadata(own, take.rest()),
    }


def _tokens(record: Mapping[str, Any], take: Taken) -> dict[str, Any]:
    count, made = take("prompt_tokens"), take("completion_tokens")
    read, written = whole(take("prompt_cache_read_tokens")), whole(take("prompt_cache_write_tokens"))
    total = whole(record.get("total_tokens"))
    if total is not None and total == (whole(count) or 0) + (whole(made) or 0):
        return bodies.within(count, made, read, written)[0]
    return known(bodies.beside(count, made, read, written))
