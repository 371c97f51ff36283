"""What a worker holds: the service that is swapped on reload, and what outlives it: connections, circuits, journal, metrics."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import policyroute
from policyroute.proxy.access_log import AccessLog
from policyroute.proxy.answers import AnswerCache
from policyroute.proxy.breaker import Breaker
from policyroute.proxy.classifier.memory import Memory
from policyroute.proxy.journal import Journal
from policyroute.proxy.journal.redact import redactor
from policyroute.proxy.journal.rows import Redact, row_of
from policyroute.proxy.keeping import Keeping
from policyroute.proxy.means import Means
from policyroute.proxy.metrics import Metrics
from policyroute.proxy.recorder import Recorder, Writer
from policyroute.proxy.reload import Reloader
from policyroute.proxy.served import Served
from policyroute.proxy.service import Service, load_service
from policyroute.proxy.settings import Settings
from policyroute.proxy.spans import Spans
from policyroute.proxy.upstream.transport import best
from policyroute.signals import tokens

log = logging.getLogger("policyroute")


class Gateway:
    """One worker's state. `service` is read once per request, so that a request sees one policy from beginning to end."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.settings, self.environ = settings, environ
        self.means = Means(settings, best(), Breaker())
        self.remembered = Memory()  # classifiers' answers
        self.service: Service = load_service(settings, environ, self.means, self.remembered)
        self.keeping = Keeping(settings.store, closed=settings.store_closed)
        self.keeping.open(self.service.deciding)
        self.metrics = Metrics(self.service.policy, self.service.catalog)
        self.journal = Journal(settings.journal, window=settings.window) if settings.journal else None
        self.answers = AnswerCache() if settings.answers or (self.service.keys and self.service.keys.keeps_answers) else None
        self.access_log = AccessLog(settings.access_log) if settings.access_log else None
        self.streams: set[str] = set()  # ids of the requests whose streams are open
        self.recorder = Recorder(self._writers())
        self.reloader = Reloader(self._load, settings, self.service)
        self.started = datetime.now(UTC)
        self._awake = 0
        self._lock = threading.Lock()
        tokens.counted("ready")  # the vocabulary is read now, not with the first request

    def awake(self) -> None:
        """Start what runs beside the requests, in the process that serves them (a server may fork after this was made)."""
        if self._awake == os.getpid():
            return
        with self._lock:
            if self._awake != os.getpid():
                self._awake = os.getpid()
                self.metrics.follow(self._numbers)
                if self.settings.watch:
                    self.reloader.start(self._swap, self._reload_failed)

    def record(self, served: Served, service: Service) -> None:
        """Write a finished request down."""
        self.recorder.add(served, service)

    def health(self) -> dict[str, Any]:
        """What `/healthz` says: `status` is `ok`, or `degraded` where something needs a human."""
        journal = self.journal.health() if self.journal else None
        circuits = {model: state for model, state in self.means.breaker.states(time.monotonic()).items() if state != "closed"}
        failed = self.reloader.failure
        found: dict[str, Any] = {
            "status": "degraded" if failed or journal or circuits or self.keeping.failure else "ok",
            "version": policyroute.__version__,
            "policy": {"name": self.service.policy.name, "digest": self.service.policy.digest},
            "prices": self.service.catalog.version,
        }
        if failed:
            found["reload"] = {
                "failed": failed.message,
                "help": failed.help,
                "since": failed.since.isoformat(),
                "serving": "the last good policy",
            }
        if journal:
            found["journal"] = journal
        if circuits:
            found["circuits"] = circuits
        if self.keeping.failure:
            done = "refused" if self.settings.store_closed else "decided without state"
            found["state"] = {"out_of_reach": self.keeping.failure, "requests": done, "missed": self.keeping.missed}
        return found

    def rendered_metrics(self, accept: str) -> tuple[bytes, str]:
        """The body of `/metrics` and its content type."""
        self.recorder.drain()
        self.metrics.gauges(**self._numbers())
        return self.metrics.render(accept)

    def _numbers(self) -> dict[str, Any]:
        journal, access_log = self.journal, self.access_log
        return {
            "circuits": self.means.breaker.states(time.monotonic()),
            "journal_written": journal.written if journal else 0,
            "journal_lost": journal.lost if journal else 0,
            "journal_healthy": journal is None or not journal.health(),
            "log_lost": access_log.lost if access_log else 0,
            "streams": len(self.streams),
            "state_missed": self.keeping.missed,
        }

    def close(self) -> None:
        """Write down what is still to be written, and close connections."""
        self.reloader.close()
        self.recorder.close()
        if self.journal:
            self.journal.close()
        if self.access_log:
            self.access_log.close()
        self.metrics.close()
        self.keeping.close()
        self.means.transport.close()

    def _load(self) -> Service:
        return load_service(self.settings, self.environ, self.means, self.remembered)

    def _swap(self, service: Service) -> None:
        self.keeping.open(service.deciding)
        self.service = service
        self.metrics.policy(service.policy, service.catalog)
        log.info("policy %s loaded again: digest %s", service.policy.name, service.policy.digest[:12])

    def _reload_failed(self, message: str) -> None:
        self.metrics.reload_failed()
        log.error("the policy was not loaded again, the last good one serves on: %s", message)

    def _writers(self) -> list[Writer]:
        settings = self.settings
        writers: list[Writer] = [self.keeping.settle, self.metrics.observe]
        if self.journal is not None or self.access_log is not None:
            writers.append(
                _rows(self.journal, self.access_log, settings.prompts, redactor(settings.redact) if settings.prompts else None)
            )
        if settings.spans:
            writers.append(Spans().write)
        return writers


def _rows(journal: Journal | None, access_log: AccessLog | None, prompts: bool, redact: Redact | None) -> Writer:
    """Writes a request's row into the journal, and without its content into the access log."""

    def write(served: Served) -> None:
        if journal is not None and served.decision is not None:
            row = row_of(served, prompts=prompts, redact=redact)
            journal.append(row)
            if access_log is not None:
                access_log.append(row)
        elif access_log is not None:
            access_log.write(served)

    return write
