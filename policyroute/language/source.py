"""A policy's text and places in it. Offsets count characters; lines and columns count from 1."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (excluded) of the file number `file` among those loaded."""

    start: int
    end: int
    file: int = 0

    NONE: ClassVar[Span]

    def to(self, other: Span) -> Span:
        """From this span's start to the other's end."""
        return Span(self.start, max(self.end, other.end), self.file)


Span.NONE = Span(0, 0)


@dataclass(frozen=True)
class Source:
    """A file's text under the name that messages use for it."""

    name: str
    text: str

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(at + 1 for at, character in enumerate(self.text) if character == "\n")]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of a character, both from 1."""
        line = bisect_right(self._starts, min(offset, len(self.text)))
        return line, min(offset, len(self.text)) - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line, without its end."""
        start = self._starts[number - 1]
        end = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r")
