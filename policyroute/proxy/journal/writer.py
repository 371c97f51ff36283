"""The worker's side of the journal: rows go into a bounded queue, one thread writes them down, and no request waits or fails.

- `append` turns a row into a line and queues it. What doesn't fit into the queue is counted as `lost`.
- A daemon thread, started with the first row of a process (so after a server's fork), writes what is queued every `window`
  seconds, or as soon as `BATCH` rows are: each batch with one write. A killed process loses the rows of the last window.
- Where writing fails (a full disk, a folder that is gone), rows stay queued, and each tick tries again in a new segment. Lines that
  were written whole are never written twice; what was written of a line is cut off again.
- A segment is closed when it is large or old. Turning closed ones into Parquet is left to a process of its own, since what that
  takes (pyarrow) would cost each worker 70 MB.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import accumulate, islice
from pathlib import Path

import policyroute
from policyroute.proxy.journal import segments
from policyroute.proxy.journal.lines import line_of

BATCH, BATCH_BYTES = 1_000, 4 << 20  # rows and bytes that are written at once; a larger row is written alone
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "PYTHONHOME", "VIRTUAL_ENV")  # no credentials


class Journal:
    """A folder of trace rows. Safe to share between threads, and to make before a fork.

    `window` is in seconds: at most its rows are lost when the process is killed. A segment is closed at `rotate_bytes`, or after
    `rotate_seconds`. The queue holds up to `limit` rows of `limit_bytes` together. `fsync` waits for the disk after each batch, so
    that rows survive a loss of power too. `compact` makes Parquet of closed segments.
    """

    def __init__(
        self, folder: Path, window: float = 1.0, rotate_bytes: int = 16 << 20, rotate_seconds: float = 600.0, limit: int = 100_000,
        limit_bytes: int = 64 << 20, fsync: bool = False, compact: bool = True,
    ) -> None:  # fmt: skip
        self.folder, self.window = Path(folder), window
        self.rotate_bytes, self.rotate_seconds = rotate_bytes, rotate_seconds
        self.limit, self.limit_bytes, self.fsync, self.compact = limit, limit_bytes, fsync, compact
        self._reset()
        _JOURNALS.add(self)

    def _reset(self) -> None:
        """The state of a process that has written nothing: what is queued in the process that forked is that one's to write."""
        self.written = 0
        self.lost = 0
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._wake = threading.Event()
        self._closing, self._until = False, 0.0
        self._thread: threading.Thread | None = None
        self._segment: _Segment | None = None
        self._compactor: int | None = None
        self._trouble: tuple[str, datetime] | None = None
        self._compaction_failed: tuple[str, datetime] | None = None

    # -- called by whoever serves ------------------------------------------------------------------------------------

    def append(self, row: Mapping[str, object]) -> None:
        """Queue a row. Never waits for the disk and never raises; a row that can't be kept is counted as lost."""
        try:
            line = line_of(row)
        except (TypeError, ValueError, RecursionError):
            line = b""
        with self._lock:
            if not line or self._closing or len(self._lines) >= self.limit or self._bytes + len(line) > self.limit_bytes:
                self.lost += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            full = self.window <= 0 or len(self._lines) >= BATCH
            self._start()
        if full and self._trouble is None:  # where writing fails, the next try waits for its time
            self._wake.set()

    def health(self) -> dict[str, object] | None:
        """None while all is well, else what fails (`failed`), since when (`since`), and how many rows wait (`queued`) or are `lost`."""
        trouble = self._trouble or self._compaction_failed
        if trouble is None:
            return None
        what, since = trouble
        return {"failed": what, "since": since.isoformat(timespec="seconds"), "queued": len(self._lines), "lost": self.lost}

    def close(self, within: float = 10.0) -> None:
        """Write what is queued, close the segment, and wait up to `within` seconds until all is Parquet; what can't be written is
        counted as lost. Idempotent."""
        with self._lock:
            self._closing, self._until = True, time.monotonic() + within
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(within)

    # -- the thread --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="policyroute-journal", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads at the moment: the rows wait, and the next one tries again
            return
        self._thread = thread
        atexit.register(_close, weakref.ref(self))

    def _run(self) -> None:
        self._compact(leftovers=True)
        while not self._closing:
            self._wake.wait(self.window if self.window > 0 else 1.0)
            self._wake.clear()
            self._tick()
        self._tick()
        with self._lock:
            self.lost += len(self._lines)
            self._lines.clear()
            self._bytes = 0
        self._rotate()
        self._finish()

    def _finish(self) -> None:
        """Have all closed segments compacted, while there is time."""
        self._await_compactor()
        self._compact(everything=True)
        self._await_compactor()

    def _await_compactor(self) -> None:
        while self._compacting() and time.monotonic() < self._until:
            time.sleep(0.01)

    def _tick(self) -> None:
        """Write all that is queued, and see whether the segment has had its time."""
        while (batch := self._batch()) and self._write(batch):
            pass
        segment = self._segment
        if segment is not None and (segment.size >= self.rotate_bytes or time.monotonic() - segment.began >= self.rotate_seconds):
            self._rotate()
        self._compact()

    def _batch(self) -> list[bytes]:
        """The oldest queued lines: as many as are written at once."""
        with self._lock:
            lines = list(islice(self._lines, BATCH))
        upto = list(accumulate(map(len, lines)))
        return lines[: max(1, bisect_right(upto, BATCH_BYTES))]

    def _write(self, lines: list[bytes]) -> bool:
        """Write a batch, or what the disk takes of it; False where that failed. What was written is taken off the queue."""
        done, problem = 0, ""
        try:
            segment = self._opened()
            done = segment.append(lines)
            if done == len(lines) and self.fsync:
                os.fsync(segment.descriptor)
        except OSError as error:
            problem = _said(error)
        if not done and not problem:
            problem = "the disk took part of a row only"
        with self._lock:
            for _ in range(done):
                self._bytes -= len(self._lines.popleft())
            self.written += done
        if done < len(lines):  # why the disk took no more, the next try is told
            self._rotate()
        if problem:
            self._trouble = self._trouble if self._trouble and self._trouble[0] == problem else (problem, datetime.now(UTC))
            return False
        self._trouble = None
        return True

    def _opened(self) -> _Segment:
        """The segment to write to: the present one, or a new one where it was removed under our hands. Raises OSError."""
        if self._segment is not None and not self._segment.present():
            self._rotate()
        while self._segment is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._segment = _Segment.made(self.folder)
        return self._segment

    def _rotate(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    # -- Parquet -----------------------------------------------------------------------------------------------------

    def _compact(self, *, leftovers: bool = False, everything: bool = False) -> None:
        """Start the process that makes Parquet of closed segments, where there is work and none runs."""
        if not self.compact or self._compacting():
            return
        try:
            waiting = segments.listed(self.folder, segments.CLOSED)
            dead = leftovers and segments.listed(self.folder, segments.OPEN)
            if not (dead or (waiting and (everything or segments.due(self.folder, time.time())))):
                return
            root = str(Path(policyroute.__file__).parents[1])
            command = [
                sys.executable,
                "-P",
                "-m",
                "policyroute.proxy.journal.compact",
                str(self.folder),
                *(["--all"] if everything else []),
            ]
            environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {"PYTHONPATH": root}
            nowhere = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in range(3)]
            self._compactor = os.posix_spawn(sys.executable, command, environment, file_actions=nowhere, setpgroup=0)
        except OSError as error:
            self._compaction_failed = (f"closed segments stay JSON lines: {_said(error)}", datetime.now(UTC))

    def _compacting(self) -> bool:
        """Whether the process that was started last still runs; how it ended is kept for `health`."""
        if self._compactor is None:
            return False
        try:
            process, status = os.waitpid(self._compactor, os.WNOHANG)
        except ChildProcessError:  # a server that reaps all children
            process, status = self._compactor, 0
        if not process:
            return True
        self._compactor, code = None, os.waitstatus_to_exitcode(status)
        failed = f"closed segments stay JSON lines: compacting them ended with {code}"
        self._compaction_failed = (failed, datetime.now(UTC)) if code else None
        return False

    def _forked(self) -> None:
        """In the child of a fork: forget what belongs to the parent, without unlocking its segment."""
        if self._segment is not None:
            os.close(self._segment.descriptor)
        self._reset()


class _Segment:
    """An open segment: a file that this process alone writes to. `size` is what was written whole."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor
        self.size = 0
        self.began = time.monotonic()

    @classmethod
    def made(cls, folder: Path) -> _Segment | None:
        """A new segment, or None where a compactor was quicker to lock it. Raises OSError."""
        path = folder / (segments.new_name(datetime.now(UTC)) + segments.OPEN)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if segments.hold(path, descriptor):
                return cls(path, descriptor)
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def present(self) -> bool:
        """Whether the file still has a name in its folder."""
        return os.fstat(self.descriptor).st_nlink > 0

    def append(self, lines: list[bytes]) -> int:
        """Write lines at once; how many were written whole. Raises OSError where none was."""
        data = b"".join(lines)
        wrote = os.write(self.descriptor, data)
        whole = data if wrote == len(data) else data[: data.rfind(b"\n", 0, wrote) + 1]
        self.size += len(whole)
        if wrote > len(whole):
            # Where that fails, readers leave the torn line out, and nothing is added behind it: a write in part closes the segment.
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, self.size)
        return len(lines) if whole is data else whole.count(b"\n")

    def close(self) -> None:
        """Close it: it gets its closed name, or is removed where it holds nothing. A failure leaves the open name, which is read too."""
        with contextlib.suppress(OSError):  # then whoever compacts next finds its lock free, and closes it
            if self.size:
                segments.closed(self.path)
            else:
                self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def _said(error: OSError) -> str:
    return f"{error.strerror or error} ({error.filename})" if error.filename else (error.strerror or str(error))


def _close(journal: weakref.ref[Journal]) -> None:
    """At the end of the interpreter: a server that doesn't close its journal loses no rows either."""
    found = journal()
    if found is not None:
        found.close()


_JOURNALS: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork() -> None:
    for journal in list(_JOURNALS):
        journal._forked()


os.register_at_fork(after_in_child=_after_fork)
