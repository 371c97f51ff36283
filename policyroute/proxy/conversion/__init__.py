"""A request of one API answered by a model that speaks another: bodies, errors and streams converted both ways.

Rules of this module
- linguafranca converts between the three APIs; `requests`, `answers` and `streams` repair what it gets wrong, before and after.
- What a conversion loses is in `known`, one line each, and every line of a request is shown by a test.
- Nothing is raised but ConversionError.
- The reasoning of earlier answers and of new ones stays with the API that wrote it: a thinking block needs Anthropic's
  signature and a reasoning item OpenAI's record, and a session may move on to either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from policyroute.proxy.conversion import answers, known, requests, streams
from policyroute.proxy.conversion.library import ConversionError, available, guarded
from policyroute.proxy.wire import body as bodies
from policyroute.proxy.wire.body import BadBody
from policyroute.proxy.wire.errors import anthropic_body, openai_body
from policyroute.signals.request import Api

_LONGEST = 2000  # characters of an upstream's error message that are handed on


class Converted(NamedTuple):
    """A request for the upstream, and what of the client's request it no longer says."""

    body: bytes
    losses: tuple[str, ...]


def request(client_api: Api, upstream_api: Api, fields: Mapping[str, Any]) -> Converted:
    """The client's request in the upstream's API. Raises ConversionError for what can't be said there."""
    with guarded():
        body = bodies.dumped(requests.converted(client_api, upstream_api, fields))
        return Converted(body, known.lost(client_api, upstream_api, fields))


def answer(client_api: Api, upstream_api: Api, body: bytes) -> bytes:
    """A whole answer of the upstream in the client's API. Raises ConversionError for what is no answer."""
    with guarded():
        try:
            found = bodies.parse(body)
        except BadBody as error:
            raise ConversionError(str(error)) from None
        return bodies.dumped(answers.converted(client_api, upstream_api, found))


def error(client_api: Api, upstream_api: Api, status: int, body: bytes) -> bytes:
    """An upstream's error in the client's shape: its message, and its code where the client's API has a place for one."""
    found = bodies.loads(body)
    inner = found.get("error", found) if isinstance(found, dict) else found
    message, code = "", ""
    if isinstance(inner, dict):
        message, code = _text(inner.get("message")) or _text(inner.get("detail")), _text(inner.get("code"))
    elif isinstance(inner, str):
        message = inner
    message = (message or body[:_LONGEST].decode("utf-8", "replace") or f"the provider answered {status}")[:_LONGEST]
    return anthropic_body(status, message) if client_api == "messages" else openai_body(status, message, code)


def stream(client_api: Api, upstream_api: Api, fields: Mapping[str, Any]) -> streams.Stream:
    """What turns the upstream's stream into the client's API; `fields` is the client's request."""
    return streams.Stream(client_api, upstream_api, fields)


def losses(client_api: Api, upstream_api: Api) -> tuple[str, ...]:
    """All that a conversion between the two can lose, of requests and then of answers."""
    return known.losses(client_api, upstream_api)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


__all__ = ["ConversionError", "Converted", "answer", "available", "error", "losses", "request", "stream"]
