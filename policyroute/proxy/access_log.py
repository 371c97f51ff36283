"""The access log: one line of JSON per request, which `policyroute simulate` reads as a trace.

Rules of this module
- A line is the journal's row without its content: the same names, and the values of the signals that were decided by. What isn't
  known is left out. It never holds prompts, answers, API keys or headers. It does hold ids of users and conversations.
- Adding a line costs the caller no system call: a thread writes what has gathered in `GATHER` seconds. Nothing here raises or
  blocks; what can't be written is counted in `lost`. Lines of the last `GATHER` seconds are lost when a worker is killed.
- Several workers may write to one file: a batch is one appending write. A file that was moved away is opened anew.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue

from policyroute.proxy.journal.lines import line_of
from policyroute.proxy.journal.rows import row_of
from policyroute.proxy.served import Served
from policyroute.proxy.settings import ServeError

GATHER = 0.05  # seconds
MOST = 20_000  # lines that wait for a slow disk or a pipe that nobody reads
BATCH = 1 << 20  # bytes of one write, about
CONTENT = frozenset({"messages", "tools", "response_format", "output", "metadata", "withheld"})
DESCRIPTORS = {"-": 1, "stdout": 1, "stderr": 2}

log = logging.getLogger("policyroute")


class AccessLog:
    """Writes to a file, or to `stdout` (also `-`) or `stderr`. `written` and `lost` count lines of this process.

    Raises ServeError where the file can't be opened.
    """

    def __init__(self, target: str | Path) -> None:
        self.written = 0
        self.lost = 0
        self._path = None if str(target) in DESCRIPTORS else Path(target)
        self._descriptor = DESCRIPTORS.get(str(target), -1)
        self._lines: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._lock = threading.Lock()
        self._process = 0
        self._again = False
        self._torn = False
        self._failing = ""
        if self._path is not None:
            try:
                os.close(_opened(self._path))
            except OSError as error:
                reason = (error.strerror or type(error).__name__).lower()
                raise ServeError(
                    f"the access log `{target}` can't be written: {reason}",
                    "name a file in a folder that may be written, `stdout` or `stderr`",
                ) from None

    def write(self, served: Served) -> None:
        """Log a finished request, soon."""
        self.append(row_of(served))

    def append(self, row: Mapping[str, object]) -> None:
        """Log a request whose row the journal has already: its content is left out."""
        if self._process != os.getpid():
            self._start()
        if self._lines.qsize() >= MOST:
            self.lost += 1
            return
        self._lines.put(line_of({name: value for name, value in row.items() if name not in CONTENT}))

    def reopen(self) -> None:
        """Open the file anew with the next line (a log rotation that keeps the file, SIGHUP)."""
        self._again = True

    def close(self, within: float = 2.0) -> None:
        """Wait until what was added before is written."""
        if self._process != os.getpid():
            return
        done = threading.Event()
        self._lines.put(done)
        done.wait(within)

    # -- the thread --------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._process != os.getpid():
                threading.Thread(target=self._run, name="policyroute-access-log", daemon=True).start()
                atexit.register(self.close)
                self._process = os.getpid()

    def _run(self) -> None:
        while True:
            first = self._lines.get()
            if not isinstance(first, threading.Event):
                time.sleep(GATHER)
            self._write_all(first)

    def _write_all(self, item: bytes | threading.Event | None) -> None:
        lines: list[bytes] = []
        size = 0
        while item is not None:
            if isinstance(item, threading.Event):
                self._put(lines)
                lines, size = [], 0
                item.set()
            else:
                lines.append(item)
                size += len(item)
            if size >= BATCH:
                self._put(lines)
                lines, size = [], 0
            try:
                item = self._lines.get_nowait()
            except Empty:
                item = None
        self._put(lines)

    def _put(self, lines: list[bytes]) -> None:
        if not lines:
            return
        try:
            whole = self._sent(b"".join(lines))
        except OSError as error:
            self._note(error)
            whole = 0
        left = len(lines) - whole
        self.written += whole
        self.lost += left
        if not left and self._failing:
            self._failing = ""
            log.warning("the access log is written again; %d lines are lost", self.lost)

    def _sent(self, data: bytes) -> int:
        """Write as one piece where the system takes it as one; the number of whole lines that were written."""
        descriptor = self._ready()
        data = b"\n" + data if self._torn else data  # ends what an earlier write left unfinished
        start, done = int(self._torn), 0
        try:
            while done < len(data):
                done += os.write(descriptor, data[done:] if done else data)
        except OSError as error:
            if not done:
                raise
            self._note(error)
        self._torn = data[done - 1 : done] != b"\n"
        return data.count(b"\n", start, done)

    def _ready(self) -> int:
        if self._path is None:
            return self._descriptor
        if self._descriptor >= 0 and (self._again or _moved(self._path, self._descriptor)):
            os.close(self._descriptor)
            self._descriptor, self._torn = -1, False
        self._again = False
        if self._descriptor < 0:
            self._descriptor = _opened(self._path)
        return self._descriptor

    def _note(self, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        if reason != self._failing:
            self._failing = reason
            log.error("the access log can't be written: %s", reason)


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _moved(path: Path, descriptor: int) -> bool:
    """Whether the name leads to another file than the open one, or to none."""
    try:
        there = path.stat()
    except OSError:
        return True
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)
