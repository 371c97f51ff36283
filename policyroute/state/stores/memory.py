"""State in the memory of one process: for tests, and for a gateway of one worker that may forget when it ends."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence

from policyroute.state.stores.store import Change, Kept, Key, Result

SWEEP = 4_096  # steps between two looks for what is over


class MemoryStore:
    """A dictionary under a lock."""

    def __init__(self) -> None:
        self.id = f"memory-{uuid.uuid4().hex[:12]}"
        self._kept: dict[str, Kept] = {}
        self._until: dict[str, int] = {}
        self._number = 0
        self._lock = threading.Lock()

    def step(self, keys: Sequence[Key], change: Change[Result], now: int) -> tuple[int, Result]:
        """Read, change and keep as one step."""
        with self._lock:
            new, result = change([self._kept.get(key.name) for key in keys])
            for key, value in zip(keys, new, strict=True):
                if value is not None:
                    self._kept[key.name] = value
                    self._until[key.name] = max(key.until, self._until.get(key.name, 0))
            self._number += 1
            if self._number % SWEEP == 0:
                self._sweep(now)
            return self._number, result

    def read(self, keys: Sequence[Key]) -> list[Kept | None]:
        """What is kept under the keys."""
        with self._lock:
            return [self._kept.get(key.name) for key in keys]

    def close(self) -> None:
        """Nothing is held that has to be let go of."""

    def _sweep(self, now: int) -> None:
        for name in [name for name, until in self._until.items() if until < now]:
            del self._kept[name], self._until[name]
