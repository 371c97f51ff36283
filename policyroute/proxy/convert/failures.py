"""An upstream's error in the client's API: its words, under the type that the client's API has for the status."""

from __future__ import annotations

from policyroute.proxy.wire.body import loads
from policyroute.proxy.wire.counts import mapping, text
from policyroute.proxy.wire.surface import SURFACES
from policyroute.signals.request import Api

LONGEST = 2000
"""Characters of an upstream's message that are handed on."""


def converted(client: Api, status: int, body: bytes) -> bytes:
    """The error's body in the client's API."""
    value = mapping(loads(body))
    error = mapping(value.get("error"))
    said = text(error.get("message")) or text(value.get("error")) or text(value.get("message")) or text(value.get("detail"))
    code = text(error.get("code")) or text(error.get("type"))
    identifier = text(value.get("request_id"))
    return SURFACES[client].error(status, shown(status, said), code, identifier)


def shown(status: int, message: object) -> str:
    """What the client reads. A refused credential is the gateway's, and its provider may quote it: those words are not handed on."""
    if status in (401, 403):
        return "the provider refused the gateway's credential"
    return text(message)[:LONGEST] or f"the provider answered with status {status}"
