"""A server's process tree: its start, CPU time, memory and end. Linux.

Rules
- The tree is what descends from the process that was started, and what belongs to its session.
- CPU time is user and system time of each process by its own CPU clock (nanoseconds; /proc counts in hundredths of a second), with
  that of children which have ended.
- Memory is PSS: a page that n processes share counts as a nth in each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    session: int
    began: str
    reaped: float  # CPU seconds of children that have ended


def _read(pid: int) -> _Process | None:
    """None where it has ended meanwhile."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return _Process(pid, int(fields[1]), int(fields[3]), fields[19], (int(fields[13]) + int(fields[14])) * TICK)


def _clock(pid: int) -> float:
    """CPU seconds of a process, its ended threads included; 0 where it has ended. The clock's number is Linux's: ~pid, type SCHED."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _pss(pid: int) -> int:
    """kB."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class Tree:
    """A started command, in a session of its own."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: IO[bytes]) -> None:
        self.began = time.monotonic()
        self._root = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._stopped = False

    @property
    def running(self) -> bool:
        """Whether the command itself has not ended. (It is not waited for, so that its number stays its own until `stop`.)"""
        ended = os.waitid(os.P_PID, self._root.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is None

    def _processes(self) -> list[_Process]:
        if self._stopped:
            return []  # its numbers may be those of other processes by now
        listed = [found for each in PROC.iterdir() if each.name.isdigit() and (found := _read(int(each.name)))]
        inside = {self._root.pid}
        while True:
            more = {
                each.pid for each in listed if each.pid not in inside and (each.parent in inside or each.session == self._root.pid)
            }
            if not more:
                return [each for each in listed if each.pid in inside]
            inside |= more

    def cpu(self) -> float:
        """CPU seconds so far."""
        return sum(_clock(each.pid) + each.reaped for each in self._processes())

    def memory(self) -> float:
        """PSS in MB."""
        return sum(_pss(each.pid) for each in self._processes()) / 1024

    def count(self) -> int:
        """Number of processes."""
        return len(self._processes())

    def stop(self, within: float = 5.0) -> None:
        """Asks it to end, and ends what is left of it after `within` seconds."""
        if self._stopped:
            return
        left = self._processes()
        self._stopped = True
        self._root.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._root.wait(within)
        for each in left:
            now = _read(each.pid)
            if now and now.began == each.began:  # not another process that got its number
                with suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)
        self._root.wait()
