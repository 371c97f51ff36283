"""Loading the policy again when a file of it changes: parse, check, test, then swap. A bad file changes nothing that is served."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from policyroute.language.diagnostics import PolicyError
from policyroute.language.load import check_file
from policyroute.proxy.service import Service
from policyroute.proxy.settings import ServeError, Settings

STAMP = "reload"  # the file in the shared folder that asks all workers to look, whatever changed
TESTS_TAKE = 120  # seconds at most

log = logging.getLogger("policyroute")


@dataclass(frozen=True, slots=True)
class ReloadFailure:
    """Why the files as they are now aren't served."""

    message: str
    help: str
    since: datetime


class Reloader:
    """Watches a service's files from one daemon thread per worker. `failure` is why the newest files aren't served, or None."""

    def __init__(self, load: Callable[[], Service], settings: Settings, service: Service) -> None:
        self.failure: ReloadFailure | None = None
        self._load, self._settings = load, settings
        self._files = service.watched(settings)
        self._seen = self._state()
        self._stop = threading.Event()

    def start(self, swap: Callable[[Service], None], failed: Callable[[str], None]) -> None:
        """Begin to watch; `swap` is given each new service, `failed` each reason for keeping the old one."""
        self._stop = threading.Event()
        threading.Thread(target=self._watch, args=(swap, failed, self._stop), name="policyroute-reload", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self, swap: Callable[[Service], None], failed: Callable[[str], None], stop: threading.Event) -> None:
        while not stop.wait(self._settings.watch):
            state = self._state()
            if state == self._seen:
                continue
            self._seen = state
            self._reload(swap, failed)

    def _reload(self, swap: Callable[[Service], None], failed: Callable[[str], None]) -> None:
        try:
            service = self._load()
            untested = tests_fail(self._settings)
            if untested:
                raise ServeError(untested, "`policyroute test` shows them")
        except (PolicyError, ServeError) as error:
            message, help_ = _reason(error)
            self.failure = ReloadFailure(message, help_, datetime.now(UTC))
            failed(message)
            return
        self._files = service.watched(self._settings)
        now = self._state()  # a file that changed while it was read keeps its older stamp, and is read again
        self._seen = {**now, **{path: stamp for path, stamp in self._seen.items() if path in now}}
        swap(service)
        self.failure = None  # after the swap: who reads that nothing failed is served the new policy

    def _state(self) -> Mapping[Path, object]:
        stamp = [self._settings.state / STAMP] if self._settings.state else []
        return {path: _stamp(path) for path in (*self._files, *stamp)}


def tests_fail(settings: Settings) -> str:
    """What the policy's own tests find, "" where all pass or there are none. They run in a process of their own, with its engine."""
    if not _has_tests(settings.policy):
        return ""
    command = [sys.executable, "-m", "policyroute", "test", "--untested", "ok", str(settings.policy)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=TESTS_TAKE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the policy's tests could not be run: {type(error).__name__}"
    if run.returncode == 0:
        return ""
    lines = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    return f"the policy's tests fail: {lines[-1].strip() if lines else f'exit code {run.returncode}'}"


def _has_tests(path: Path) -> bool:
    try:
        return bool(check_file(path).policy.tests)
    except (OSError, ValueError):
        return False


def _reason(error: PolicyError | ServeError) -> tuple[str, str]:
    if isinstance(error, ServeError):
        return error.message, error.help
    first = error.diagnostics[0]
    source = error.sources[first.span.file]
    line, column = source.position(first.span.start)
    return f"{source.name}:{line}:{column}: {first.message} [{first.number}]", first.help


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
