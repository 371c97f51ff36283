"""The files of a journal's folder: which are there, whose writer still lives, and when they are due to become Parquet.

- `journal-TIME-PID-RANDOM.jsonl.part` is being written: its writer holds a `flock` on it. One whose lock is free was left by a
  process that died, and is closed by whoever finds it.
- `journal-….jsonl` is closed: JSON lines, a row each.
- `journal-….parquet` holds the rows of several closed segments, whose names it lists under `SEGMENTS` in its own metadata: a
  segment that is listed there is superseded, whether it has been removed already or not.
- `.lock` elects the one process that compacts. Names sort by time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

OPEN, CLOSED, PARQUET = ".jsonl.part", ".jsonl", ".parquet"
PREFIX = "journal-"
LOCK = ".lock"
SEGMENTS = b"policyroute.segments"
DUE_BYTES = 64 << 20  # of closed segments that are worth a Parquet file
DUE_SECONDS = 6 * 3600.0  # after which any closed segment becomes one: few files, since each costs a reader some 30 ms


def new_name(at: datetime) -> str:
    """The name of a segment, without its ending, that no other one has."""
    return f"{PREFIX}{at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{secrets.token_hex(4)}"


def stem(path: Path) -> str:
    """The name of a journal file without its ending; "" for any other file."""
    for ending in (OPEN, CLOSED, PARQUET):
        if path.name.startswith(PREFIX) and path.name.endswith(ending):
            return path.name.removesuffix(ending)
    return ""


def listed(folder: Path, ending: str) -> list[Path]:
    """The journal's files of one kind, oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(PREFIX) and path.name.endswith(ending))
    except FileNotFoundError:
        return []


def sizes(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Files with their status; those that are gone by now are left out."""
    for path in paths:
        try:
            yield path, path.stat()
        except FileNotFoundError:
            continue


def due(folder: Path, now: float) -> bool:
    """Whether closed segments are many or old enough for a Parquet file. `now` is seconds since 1970."""
    found = [status for _, status in sizes(listed(folder, CLOSED))]
    return sum(status.st_size for status in found) >= DUE_BYTES or any(now - status.st_mtime >= DUE_SECONDS for status in found)


def closed(path: Path) -> Path:
    """Give an open segment the name of a closed one. Raises OSError."""
    return path.rename(path.with_name(path.name.removesuffix(OPEN) + CLOSED))


def adopt(folder: Path) -> int:
    """Close the segments of processes that died; how many there were."""
    return sum(_adopted(path) for path in listed(folder, OPEN))


def _adopted(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # its writer has closed it in the meantime
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        closed(path)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True


def hold(path: Path, descriptor: int) -> bool:
    """Lock a segment that was just made; False where a compactor took it for a dead process's in between."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def elected(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Whether this process may compact. It may until the block ends; with `wait` it waits for the others to end."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        yield False
        return
    else:
        yield True
    finally:
        os.close(descriptor)
