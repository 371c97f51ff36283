"""What is wrong with a trace, as a value: one exception, meant to be shown to the user without a traceback."""

from __future__ import annotations


class TraceError(Exception):
    """A trace that can't be read or written: `message` says what, `place` where (a path, with a line where known), `help` the remedy."""

    def __init__(self, message: str, place: str = "", help: str = "") -> None:  # noqa: A002 - the word that diagnostics use
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.place = place
        self.help = help
