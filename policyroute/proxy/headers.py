"""Headers on their way: from the client, to the upstream, back, and our own.

Rules of this module
- To an upstream goes what is listed, and the upstream's own credential. A client's credential never does. Nor does its
  `idempotency-key`: one question may become several calls, of several models, and none is a repetition of another. Nor do
  `x-stainless-...` headers: they tell of the client's machine, and of its retries, which the gateway's own are not.
- To a client goes what isn't listed: not the connection's own business, nor what is true of the upstream's body only, nor cookies,
  nor what names the account that pays. Request ids, rate limits and times to wait go.
- No header value of ours can hold a line break: what comes from elsewhere is cleaned first.
- An empty header is none. Servers differ in how they give a value that isn't ASCII: as bytes in disguise (gunicorn, waitress),
  which are read as UTF-8 where they are that, or as nothing (granian).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from policyroute.prices.money import exact_dollars
from policyroute.proxy.providers import ANTHROPIC_VERSION, Endpoint
from policyroute.proxy.remaining import remaining
from policyroute.proxy.served import Served

_TO_ALL = ("accept", "user-agent", "traceparent", "tracestate")
_TO_MESSAGES = ("anthropic-version", "anthropic-beta")
_TO_OPENAI = ("openai-beta",)

# RFC 9110, 7.6.1: of one connection. `connection` itself may name more of them.
_HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade",
})  # fmt: skip
_NOT_TO_CLIENT = _HOP_BY_HOP | {
    "content-length", "content-type", "content-encoding", "content-md5", "content-digest", "repr-digest", "digest",
    "set-cookie", "set-cookie2", "clear-site-data", "openai-organization", "openai-project", "anthropic-organization-id",
    "server", "date", "via", "alt-svc", "nel", "report-to", "reporting-endpoints", "strict-transport-security", "www-authenticate",
    "location", "refresh", "x-powered-by",
}  # fmt: skip
_NO_PREFIX = ("x-policyroute", "access-control-", "cf-")
LONGEST_WAIT = 86_400.0  # seconds of a Retry-After that are believed


def of_environ(environ: Mapping[str, Any]) -> dict[str, str]:
    """The request's headers of a WSGI environment: names in lower case with hyphens, values as text, empty ones left out.

    WSGI can't tell `x_user` from `x-user`: a proxy in front that takes headers away must take both spellings.
    """
    found = {}
    for name, value in environ.items():
        if value and name[:5] == "HTTP_":
            found[name[5:].replace("_", "-").lower()] = value if value.isascii() else _text(value)
    for name, header in (("CONTENT_TYPE", "content-type"), ("CONTENT_LENGTH", "content-length")):
        if environ.get(name):
            found[header] = _text(environ[name])
    return found


def _text(value: str) -> str:
    """A value's text: UTF-8 where its bytes are that, else Latin-1. Half surrogate pairs, which no file can hold, become `?`."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value
    except UnicodeEncodeError:  # the server has read the bytes itself
        return value.encode("utf-8", "replace").decode()


def to_upstream(found: Mapping[str, str], endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    """The headers of a call: those of the client's that may go on, and the endpoint's credential."""
    messages = "messages" in endpoint.apis
    names = _TO_ALL + (_TO_MESSAGES if messages else ()) + (_TO_OPENAI if endpoint.apis != {"messages"} else ())
    sent = [("content-type", "application/json"), *((name, clean(found[name])) for name in names if name in found)]
    if messages and "anthropic-version" not in found:
        sent.append(("anthropic-version", ANTHROPIC_VERSION))
    return (*sent, *endpoint.credential())


def to_client(found: Mapping[str, str]) -> list[tuple[str, str]]:
    """An upstream's headers that are the client's to see. `found` has lower-case names."""
    kept = [(name, clean(value)) for name, value in found.items() if name not in _NOT_TO_CLIENT and not name.startswith(_NO_PREFIX)]
    named = found.get("connection", "").lower()
    if named not in ("", "close", "keep-alive"):
        of_connection = {name.strip() for name in named.split(",")}
        kept = [(name, value) for name, value in kept if name not in of_connection]
    return kept


def ours(served: Served, overhead: float) -> list[tuple[str, str]]:
    """What the gateway says of its decision; `overhead` in milliseconds."""
    found = [("x-policyroute-decision-id", served.id), ("x-policyroute-policy", served.policy.digest[:12])]
    if served.decision is not None:
        found.append(("x-policyroute-rule", clean(served.decision.rule)))
    if served.model:
        found.append(("x-policyroute-target", clean(served.model)))
    if served.tier:
        found.append(("x-policyroute-tier", clean(served.tier)))
    asked = sum(not attempt.result.startswith("skipped") for attempt in served.attempts)
    found += [("x-policyroute-attempts", str(asked)), ("x-policyroute-overhead-ms", f"{overhead:.3f}")]
    found += remaining(served)
    if served.escalated_from:
        found.append(("x-policyroute-escalated-from", clean(served.escalated_from)))
    if served.verdict == "cached":
        found.append(("x-policyroute-cache", "hit"))
    if served.cost is not None:
        found.append(("x-policyroute-cost-usd", exact_dollars(served.cost.picodollars)))
    return found


def retry_after(found: Mapping[str, str], now: float) -> float | None:
    """Seconds that an upstream asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date. `now` is a Unix time."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = found.get(name, "").strip()
        if text and len(text) < 20 and text.replace(".", "", 1).isdecimal():
            return min(float(text) * unit, LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(found["retry-after"])
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now  # an HTTP date is in UTC, said or not
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT)


def clean(text: str) -> str:
    """A header value without what could end it or can't be in one: control characters, and what Latin-1 doesn't have."""
    if text.isprintable() and text.isascii():
        return text.strip(" ")
    return "".join(char for char in text if char == "\t" or (char.isprintable() and ord(char) < 256)).strip(" \t")
