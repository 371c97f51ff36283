"""A stream on its way through: bytes in, bytes to pass on out, and what was seen in them.

Rules of this module
- Events are passed on whole and untouched. What happens to an event depends on its own bytes and on those before it, never on
  how they were cut in transit.
- Until the first event with content (text, reasoning, a tool call) everything is held back, so that another model can still be
  tried. Held events go out together with it, or with the end of an answer that has no content.
- Afterwards events are only looked at for the words that matter (`_noisy`): a block without them is passed on unparsed.
- An error in the stream is never passed on. It sets `failure`, and nothing more is passed; its bytes are in `error_event`.
- After `join`, events are rewritten, so that the client sees one well-formed stream although two upstreams sent it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from policyroute.proxy.wire.body import exact, loads
from policyroute.proxy.wire.counts import Counted
from policyroute.proxy.wire.sse import Blocks, data_of, events

LONGEST = 16 << 20
"""Bytes that an event, or all that is held back, may have; a stream that goes beyond is malformed."""

DONE = b"[DONE]"
_CLOSED = re.compile(rb"[}\]][ \r\n]*\Z")


class Step(Enum):
    """What becomes of an event: held until there is content, passed on as content (or as the end), or dropped."""

    HELD = 0
    PASSED = 1
    DROPPED = 2


class Watcher(ABC):
    """One upstream's stream.

    `begun`: content has been passed on, or the end of an answer that has none. `failure`: "" or why the stream is broken: a status
    code as text, an error's own type (`overloaded_error`), or `malformed`; `errors.cause_of` makes it an attempt's failure.
    `delivered` counts events that were passed on since content began: with one token an event, which is what providers send, the
    output tokens; where they send more at once, too few. `usage` is None until the upstream has told it.
    """

    restartable = True
    """Whether another upstream's stream can be joined to this one."""

    def __init__(self, fields: Mapping[str, Any], keep_text: bool = False) -> None:
        self.fields = fields
        self.usage: Counted | None = None
        self.finish_reason = ""
        self.response_model = ""
        self.tool_begun = False
        self.delivered = 0
        self.failure = ""
        self.error_event = b""
        self.begun = False
        self.longest = LONGEST
        self._keep = keep_text
        self._quick = False  # events need no reading but for what is noisy
        self._rewrites = False
        self._joined = False
        self._continued = False
        self._finished = False
        self._texts: list[str] = []
        self._held: list[bytes] = []
        self._holding = 0
        self._last = b""  # the last that was passed on
        self._blocks = Blocks()

    # -- what the caller does --------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on, now that `data` has arrived."""
        if self.failure:
            return b""
        out = b""
        if block := self._blocks.feed(data):
            if self._quick and len(block) <= self.longest and not self._noisy(block) and b"\r" not in block:
                self.delivered += block.count(b"\n\n")
                self._last = block
                out = block
            else:
                out = self._slowly(block)
        if len(self._blocks.tail) > self.longest:
            self._fail("malformed")
        return out

    def rest(self) -> bytes:
        """What is left when the upstream has closed: a last event that lacks only its blank line, with it; nothing else."""
        tail = bytes(self._blocks.tail)
        self._blocks.tail.clear()
        if self.failure or not (self._closes(tail) or isinstance(loads(data_of(tail)), dict)):
            return b""
        return self._slowly(tail.rstrip(b"\r\n") + b"\n\n")

    def join(self, previous: Watcher, continued: bool = False) -> None:
        """Go on, for the client, where `previous` broke off; to be called before the first `feed`.

        Before the new content goes a comment (`: policyroute restarted`), and after a restart a blank line of text. With
        `continued` the upstream was asked to go on with the text so far: no blank line, and `text` and `delivered` go on too.
        Raises ValueError where the API doesn't allow it (`restartable`).
        """
        if not self.restartable or type(previous) is not type(self):
            raise ValueError("this stream can't be joined to the other")
        self._joined, self._continued = True, continued
        if continued:
            self._texts, self.delivered = [previous.text], previous.delivered
        self._after(previous)

    @property
    def ended(self) -> bool:
        """Whether the protocol's own end was seen: if the upstream closes now, the answer is whole."""
        return self._finished or self.over

    @property
    def over(self) -> bool:
        """Whether nothing more can come: the last event of the protocol was seen, with or without its blank line."""
        if self._over:
            return True
        tail = self._blocks.tail
        return bool(tail) and _CLOSED.search(tail, max(len(tail) - 4, 0)) is not None and self._closes(bytes(tail))

    @property
    def text(self) -> str:
        """The text so far; only with `keep_text`."""
        return "".join(self._texts)

    @abstractmethod
    def finishing(self) -> bytes:
        """Events that end a cut stream well-formed and marked as cut; `finish_reason` then says so too."""

    @abstractmethod
    def failing(self, message: str, code: str) -> bytes:
        """The API's error event for a stream that can't go on."""

    # -- what an API says --------------------------------------------------------------------------------------------------

    _over = False

    @abstractmethod
    def _noisy(self, block: bytes) -> bool:
        """Whether an event of the block, once content has begun, may be more than content. Quick, and true rather too often."""

    @abstractmethod
    def _read(self, value: dict[str, Any], event: bytes) -> tuple[Step, bytes]:
        """What becomes of an event, and the bytes of it to pass on (rewritten where two streams are joined)."""

    @abstractmethod
    def _closes(self, event: bytes) -> bool:
        """Whether the event, whole or without its blank line, is the protocol's last one."""

    def _after(self, previous: Any) -> None:
        """Take over what the client has seen of `previous`, a watcher of the same class."""
        self.tool_begun = previous.tool_begun

    def _prologue(self) -> bytes:
        """What goes before the first content of a joined stream."""
        return b": policyroute %b\n\n" % (b"continued" if self._continued else b"restarted")

    def _done(self) -> Step:
        """`[DONE]` was seen."""
        return Step.HELD

    # -- the machine -----------------------------------------------------------------------------------------------------

    def _slowly(self, block: bytes) -> bytes:
        return b"".join(self._each(block))

    def _each(self, block: bytes) -> Iterator[bytes]:
        for event in events(block):
            yield self._one(event)
            if self.failure:
                return

    def _one(self, event: bytes) -> bytes:
        if len(event) > self.longest:
            return self._fail("malformed")
        if self._quick and not self._noisy(event):
            return self._pass(event)
        data = data_of(event)
        if not data:
            return self._pass(event) if self.begun else self._hold(event)
        if data == DONE:
            return self._act(self._done(), event)
        value = (exact if self._joined else loads)(data)
        if isinstance(value, dict):
            return self._act(*self._read(value, event))
        return self._pass(event) if self.begun else self._fail("malformed")

    def _act(self, step: Step, event: bytes) -> bytes:
        if self.failure or step is Step.DROPPED:
            return b""
        if self.begun:
            return self._pass(event)
        return self._hold(event) if step is Step.HELD else self._release(event)

    def _pass(self, event: bytes) -> bytes:
        self.delivered += 1
        self._last = event
        return event

    def _hold(self, event: bytes) -> bytes:
        self._held.append(event)
        self._holding += len(event)
        return self._fail("malformed") if self._holding > self.longest else b""

    def _release(self, event: bytes) -> bytes:
        held, self._held = b"".join(self._held), []
        self.begun = True
        self._quick = not self._keep and not self._rewrites
        if self._joined:
            held = self._prologue() + held
        return held + self._pass(event)

    def _fail(self, failure: str, event: bytes = b"") -> bytes:
        self.failure, self.error_event = failure, event
        self._held = []
        self._blocks.tail.clear()
        return b""

    def _before(self) -> bytes:
        """What is held, for a stream that ends before content."""
        held, self._held = b"".join(self._held), []
        if not held or self.begun:
            return b""
        self.begun = True
        return self._prologue() + held if self._joined else held
