"""The APIs that the gateway speaks, by name and by path. Other folders take what they need of `wire` from here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from policyroute.proxy.wire.api import Surface
from policyroute.proxy.wire.body import BadBody, parse
from policyroute.proxy.wire.chat import Chat
from policyroute.proxy.wire.counts import Counted
from policyroute.proxy.wire.errors import cause_of
from policyroute.proxy.wire.messages import Messages
from policyroute.proxy.wire.plain import Completions, Embeddings
from policyroute.proxy.wire.responses import Responses
from policyroute.proxy.wire.watching import Watcher

SURFACES: Mapping[str, Surface] = MappingProxyType({
    surface.api: surface for surface in (Chat(), Responses(), Messages(), Embeddings(), Completions())
})  # fmt: skip
_PATHS = {surface.path: surface for surface in SURFACES.values()}


def surface_of(method: str, path: str) -> Surface | None:
    """The API that a path is of, or lies below (`/v1/messages/count_tokens`), None for any other path.

    The method doesn't matter: a wrong one is still to be answered in that API's shape.
    """
    found = _PATHS.get(path)
    if found is not None:
        return found
    return next((surface for known, surface in _PATHS.items() if path.startswith(f"{known}/")), None)


__all__ = ["SURFACES", "BadBody", "Counted", "Surface", "Watcher", "cause_of", "parse", "surface_of"]
