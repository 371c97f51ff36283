"""What is said of one kind of diagnostic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A code's page: what is found, why it matters, what it looks like (`example`), what to write `instead`."""

    name: str
    number: str
    what: str
    why: str
    example: str
    instead: str
