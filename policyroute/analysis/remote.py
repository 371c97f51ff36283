"""A solver in a process of its own, with limits that hold: a question that takes too long is "unknown", and the process is killed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from policyroute.analysis.messages import receive, send
from policyroute.analysis.solver import UNKNOWN, Answer
from policyroute.language.policy import Expression, Policy

if TYPE_CHECKING:
    from policyroute.analysis.disagreement import Comparison

PROOF_TIME = 30.0  # seconds for all questions together, unless said otherwise
QUESTION = 5.0  # seconds that z3 is given for one
GRACE = 2.0  # seconds beyond that before the process is killed
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def available() -> bool:
    """Whether z3 is there (extra `verify`)."""
    return importlib.util.find_spec("z3") is not None


class Remote:
    """z3 for `policy`, behind a wall: a `Solver`. Close it, or use it in a `with` statement.

    `seconds` is for all questions together; when they are over, every answer is "unknown".
    """

    def __init__(self, policy: Policy, seconds: float = PROOF_TIME) -> None:
        self.policy = policy
        self._over = time.monotonic() + seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._opened = False

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        process, self._process, self._opened = self._process, None, False
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what the process didn't read is not missed
                    if stream:
                        stream.close()

    def ask(self, wanted: Expression, passing: Sequence[int] = (), *, minimal: bool = True) -> Answer:
        """See `Solver.ask`."""
        return self._answer("ask", wanted, tuple(passing), minimal)

    def ask_taken(self, wanted: Expression, takers: Sequence[int]) -> Answer:
        """See `Solver.ask_taken`."""
        return self._answer("ask_taken", wanted, tuple(takers))

    def _answer(self, job: str, *question: object) -> Answer:
        if not self._opened:
            self._opened = self._call("open", self.policy, int(QUESTION * 1_000)) is not None
        found: Answer | None = self._call(job, *question) if self._opened else None
        return found or UNKNOWN

    def compare(self, old: Policy, new: Policy, *, named: bool = False, most: int = 200) -> Comparison | None:
        """See `disagreement.compare`; None where it was not decided in time."""
        milliseconds, left = int(QUESTION * 1_000), self._over - time.monotonic()
        found: Comparison | None = self._call("compare", old, new, named, most, milliseconds, within=left)
        return found

    def _call(self, job: str, *arguments: object, within: float = QUESTION + GRACE) -> Any:
        """The job's result, never None; None where it didn't come in time."""
        until = min(self._over, time.monotonic() + within)
        if until <= time.monotonic():
            return None
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            send(process.stdin, (job, arguments))
            if _readable(process.stdout.fileno(), until):
                return receive(process.stdout)
        except (EOFError, BrokenPipeError):
            pass  # the process has died; what it was asked is not decided, and said to be so
        self.close()
        return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            path = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "policyroute.analysis.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": path},
            )  # fmt: skip
        return self._process


def _readable(descriptor: int, until: float) -> bool:
    ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
    return bool(ready)
