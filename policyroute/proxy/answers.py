"""The answer cache: an equal question of the same caller gets the answer that is there.

Rules of this module
- Equal means equal: caller, API and every field of the body (model, stream, seed, ...), whatever the order of its keys; and what
  the answer also hangs on (`apart`): the decided models, and headers that go upstream.
- Kept are whole good answers (status 200) to questions that have one: temperature 0 (none said is more), one choice, no tools,
  nothing that a provider keeps between requests. A Responses request is kept by its provider unless it says `"store": false`, so it
  must say so. A key of the keys file may ask for more: `cache = { ttl = "10min", tools = true, temperature = true }`.
- Streamed requests are not cached: their answer isn't held whole.
- Texts are in memory only, at most `limit_bytes` of them; the longest unused go first.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policyroute.proxy.key_file import Keeping
from policyroute.proxy.keys import Caller
from policyroute.proxy.served import Served

OVERHEAD = 512  # bytes of an entry beside its answer: key, names, links

# Fields whose presence, unless empty, ties an answer to more than the question: sessions, work in the background, the web, tools.
_TYING = ("previous_response_id", "conversation", "background", "web_search_options", "mcp_servers", "container")
_TOOLS = ("tools", "functions")


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept answer. `model` is the policy's name, `model_id` the provider's, `saved` its price in picodollars (unknown: 0)."""

    body: bytes
    content_type: str
    model: str
    model_id: str
    provider: str
    saved: int


@dataclass(frozen=True, slots=True)
class _Entry:
    kept: Kept
    until: float
    size: int


class AnswerCache:
    """Answers by question, for one worker. Safe to share between threads; the clock is the caller's, in seconds."""

    def __init__(self, limit_bytes: int = 64 << 20) -> None:
        self._limit = limit_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # the longest unused first
        self._size = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes held, `OVERHEAD` of each entry included."""
        return self._size

    def __len__(self) -> int:
        return len(self._entries)

    def find(
        self, caller: Caller, api: str, fields: Mapping[str, Any], now: float, apart: Sequence[str] = ()
    ) -> Kept | None:  # fmt: skip
        """The answer to an equal question that is still good `now`."""
        key = _key(caller, api, fields, apart)
        if key is None:
            return None
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if now >= entry.until:
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return entry.kept

    def keep(
        self, caller: Caller, api: str, fields: Mapping[str, Any], served: Served, ttl: float, now: float, apart: Sequence[str] = ()
    ) -> None:  # fmt: skip
        """Keep a served answer for `ttl` seconds (or as long as the caller's key says), if it is one that may be kept."""
        ttl = ttl if caller.cache.ttl is None else caller.cache.ttl
        if served.status != 200 or served.answer is None or served.stream or ttl <= 0:
            return
        size = len(served.answer) + OVERHEAD
        key = _key(caller, api, fields, apart) if size <= self._limit else None
        if key is None:
            return
        saved = served.cost.picodollars if served.cost else 0
        kept = Kept(served.answer, "application/json", served.model, served.model_id, served.provider, saved)
        with self._lock:
            self._drop(key)
            self._entries[key] = _Entry(kept, now + ttl, size)
            self._size += size
            while self._size > self._limit:
                self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= entry.size


def _key(caller: Caller, api: str, fields: Mapping[str, Any], apart: Sequence[str]) -> bytes | None:
    """The question's SHA-256, None for a question whose answer isn't kept."""
    if not _lasting(caller.cache, api, fields):
        return None
    try:
        text = json.dumps([caller.name, api, list(apart), fields], sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):  # a number or nesting beyond what can be written: not worth keeping
        return None
    return hashlib.sha256(text.encode()).digest()


def _lasting(cache: Keeping, api: str, fields: Mapping[str, Any]) -> bool:
    if not (cache.temperature or _certain(fields)) or fields.get("stream"):
        return False
    if any(fields.get(name) for name in (_TYING if cache.tools else _TYING + _TOOLS)):
        return False
    return fields.get("store") is False if api == "responses" else not fields.get("store")


def _certain(fields: Mapping[str, Any]) -> bool:
    """Whether the question leaves nothing to chance; without a temperature, providers take 1."""
    temperature, choices = fields.get("temperature"), fields.get("n", 1)
    return not isinstance(temperature, bool) and temperature == 0 and not isinstance(choices, bool) and choices in (1, None)
