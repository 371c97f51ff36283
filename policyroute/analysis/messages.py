"""Messages between the solver's process and who asks it: a pickle behind its length in eight bytes. Both ends are this program."""

from __future__ import annotations

import pickle
from typing import IO, Any

LENGTH = 8


def send(stream: IO[bytes], message: object) -> None:
    """Write one message."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(len(data).to_bytes(LENGTH, "big") + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message; EOFError where the other end is gone."""
    head = stream.read(LENGTH)
    data = stream.read(int.from_bytes(head, "big")) if len(head) == LENGTH else b""
    if not data:
        raise EOFError
    return pickle.loads(data)
