"""What all model calls of a worker share, and what each answer begins with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from policyroute.proxy.breaker import Breaker
from policyroute.proxy.settings import Settings
from policyroute.proxy.upstream.transport import Transport

PING = b": ping\n\n"
EVENT_STREAM = "text/event-stream; charset=utf-8"


class Head(NamedTuple):
    """Status and headers of the answer."""

    status: int
    headers: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Means:
    """Settings, connections, circuits, and a clock in seconds that only goes forward."""

    settings: Settings
    transport: Transport
    breaker: Breaker
    clock: Callable[[], float] = time.monotonic
