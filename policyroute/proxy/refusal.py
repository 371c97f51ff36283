"""A request that isn't served."""

from __future__ import annotations

from dataclasses import dataclass, field

from policyroute.proxy.wire.surface import Surface

Answer = tuple[int, list[tuple[str, str]], bytes]

JSON = ("content-type", "application/json")
NO_RETRY = ("x-should-retry", "false")


@dataclass
class Refusal(Exception):  # noqa: N818 - an answer, and no fault of the program
    """A request that isn't served: status and reason, shaped by the API that was called."""

    status: int
    message: str
    code: str = ""
    headers: list[tuple[str, str]] = field(default_factory=lambda: [NO_RETRY])
    id: str = ""

    def answer(self, surface: Surface) -> Answer:
        """The answer in the shape of `surface`."""
        return self.status, [JSON, *self.headers], surface.error(self.status, self.message, self.code, self.id)
