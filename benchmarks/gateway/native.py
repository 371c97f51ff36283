"""The two C programs, compiled when the benchmark starts: the mock upstream and the load client.

A load client in Python would be slower than most of what is measured here, so there is none: without a C compiler nothing runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

SOURCES = Path(__file__).parent


class CannotMeasureError(Exception):
    """What the machine lacks, in one line."""


def built(folder: Path) -> tuple[Path, Path]:
    """The mock and the load client, compiled into `folder`. Raises CannotMeasureError."""
    if not sys.platform.startswith("linux"):
        raise CannotMeasureError("the load client and the reckoning of CPU need Linux (epoll, /proc)")
    found = filter(None, (os.environ.get("CC"), *map(shutil.which, ("cc", "gcc", "clang"))))
    compiler = next(found, None)
    if compiler is None:
        raise CannotMeasureError(
            "no C compiler (cc, gcc, clang or $CC): the mock upstream and the load client are small C programs"
        )
    for name in ("mock", "load"):
        call = [compiler, "-O2", "-o", str(folder / name), str(SOURCES / f"{name}.c")]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotMeasureError(f"{compiler} can't compile {name}.c: {done.stderr.strip()[-200:] or 'no message'}")
    return folder / "mock", folder / "load"


class Mock:
    """The mock upstream while the `with` block runs; `port` is where it listens on loopback."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def check(self) -> None:
        """Raises CannotMeasureError where it has ended: what was measured since is worthless."""
        if self._process.poll() is not None:
            raise CannotMeasureError(f"the mock upstream ended by itself ({self._process.returncode})")

    def __enter__(self) -> Mock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the load client saw. `latency`, `first` (to the first chunk) and `lag` (of a chunk behind its sending) hold p50, p90, p99
    and the most, in milliseconds, or nothing where nothing was measured. `complaint` is the first error in words."""

    ok: int
    per_second: float
    chunks: int
    seconds: float
    errors: Mapping[str, int]
    latency: tuple[float, ...]
    first: tuple[float, ...]
    lag: tuple[float, ...]
    complaint: str

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


class Client:
    """The load client. `answered` counts the whole answers of all its runs."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.answered = 0
        self._program, self._file = program, folder / "request.http"

    def run(
        self, port: int, request: bytes, options: Mapping[str, float], meanwhile: Callable[[], object] | None = None
    ) -> Outcome:
        """One run; `meanwhile` is called while it goes on."""
        self._file.write_bytes(request)
        call = [str(self._program), str(port), str(self._file), *(f"{name}={value}" for name, value in options.items())]
        with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            if meanwhile is not None:
                meanwhile()
            out, complaint = running.communicate()
        if running.returncode:
            raise CannotMeasureError(f"the load client failed: {complaint.strip()[:200]}")
        found: dict[str, Any] = json.loads(out)
        found |= {name: tuple(found[name]) for name in ("latency", "first", "lag")}
        self.answered += found["ok"]
        return Outcome(**found, complaint=complaint.strip())
