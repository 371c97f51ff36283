"""Names of the columns that hold a signal's value ready made: what a gateway's journal and the files beside a trace are written
with, and what a replay looks for."""

from __future__ import annotations

import hashlib

from policyroute.language.policy import TextSet


def kept_scan(text: str, text_set: TextSet) -> str:
    """The column of one text's scan for a set: `prompt has 0123456789abcdef`. The digest is of the words, not of their name, so
    that a set which changed is scanned anew."""
    content = repr((text_set.phrases, text_set.pattern)).encode()
    return f"{text} has {hashlib.sha256(content).hexdigest()[:16]}"


def kept_signal(name: str) -> str:
    """The column of a signal that can't be taken for any other: `signal plan`."""
    return f"signal {name}"
