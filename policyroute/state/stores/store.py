"""What a store does: it reads some keys, lets a pure function say what they become, and keeps that, as one step.

Every step has a number of its own, larger than those before it: the order in which decisions were made and settled. A replay of
what was served goes by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

Kept = int | list[int | str]
"""What is kept under a key: an amount, or a conversation's last decision."""
Result = TypeVar("Result")
Change = Callable[[Sequence[Kept | None]], tuple[Sequence[Kept | None], Result]]
"""Given what is kept under the keys (None: nothing), what is kept then (None: as before), and a result."""


class Key(NamedTuple):
    """A key's name, and until when (microseconds since 1970) what is kept under it may be asked for."""

    name: str
    until: int


class StoreUnreachableError(Exception):
    """The store can't be read or written now; says why."""


class Store(Protocol):
    """A store. Safe to share between threads; those of several processes hold one state where the kind allows it."""

    id: str
    """Told in every trace row: numbers of steps are compared within one store only."""

    def step(self, keys: Sequence[Key], change: Change[Result], now: int) -> tuple[int, Result]:
        """Read, change and keep as one step of the time `now` (microseconds); its number, and the result. `change` may be called
        again where others were quicker. Raises StoreUnreachableError, and then nothing was kept."""
        ...

    def read(self, keys: Sequence[Key]) -> list[Kept | None]:
        """What is kept under the keys. Raises StoreUnreachableError."""
        ...

    def close(self) -> None:
        """Let go of connections and files. What is kept stays where the kind keeps it."""
        ...
