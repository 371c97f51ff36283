"""What classifiers were answered before: members by a hash of the question, so that no text is kept."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

MOST = 65_536  # answers


class Memory:
    """Answers of one worker, each for its time, at most `most` of them; the oldest goes first. Safe to share between threads, and
    between policies: the hash covers the classifier's definition. The clock is the caller's, in seconds."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._answers: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: bytes, now: float) -> str:
        """The member that is remembered, "" where none is."""
        with self._lock:
            member, until = self._answers.get(key, ("", 0.0))
            if member and now >= until:
                del self._answers[key]
                return ""
            return member

    def keep(self, key: bytes, member: str, until: float) -> None:
        """Remember a member up to a moment."""
        with self._lock:
            self._answers.pop(key, None)
            self._answers[key] = (member, until)
            while len(self._answers) > self._most:
                self._answers.popitem(last=False)

    def __len__(self) -> int:
        return len(self._answers)


def key_of(definition: str, text: str) -> bytes:
    """The hash of a question: what the classifier is, and what was shown."""
    return hashlib.sha256(f"{definition}\0{text}".encode("utf-8", "surrogatepass")).digest()
