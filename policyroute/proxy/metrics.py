"""Prometheus metrics of a gateway, exact over all its workers.

Rules of this module
- What is counted is said by `metric_rows.METRICS`, where it is kept by `metric_store`.
- With `PROMETHEUS_MULTIPROC_DIR` (a folder that is empty when the server starts), any worker's `/metrics` gives the sums of all.
  Without it, a process knows its own numbers only.
- A process makes its series when it first uses them, so that a server may fork after the gateway was made.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog
from policyroute.proxy.metric_rows import BY_NAME, CALLERS, METRICS, Bounds, Seen
from policyroute.proxy.metric_store import Number, Store, shared, together
from policyroute.proxy.metric_words import NONE, OTHER
from policyroute.proxy.served import Served
from policyroute.proxy.settings import ServeError

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
EVERY = 1.0  # seconds between two looks at what no request tells
_READ = tuple((metric, metric.read) for metric in METRICS if metric.read is not None)


class Metrics:
    """The numbers of one gateway. All methods may be called from any thread.

    Raises ServeError where prometheus_client isn't installed, or the shared folder isn't one.
    """

    def __init__(self, policy: Policy, catalog: Catalog) -> None:
        self._folder = _folder()
        self._stores: dict[int, Store] = {}
        self._lock = threading.Lock()
        self._bounds = Bounds(policy)
        self._callers = {"": NONE}
        self._counted: dict[tuple[int, str], int] = {}
        self._following = 0
        self._prices, self._loaded = newest_price(catalog), time.time()
        self._policy = policy

    # -- what is told to it ------------------------------------------------------------------------------------------------

    def observe(self, served: Served) -> None:
        """Count a finished request."""
        store = self._store()
        bounds = self._bounds
        if served.policy is not bounds.policy:
            bounds = self._bounds = Bounds(served.policy)
        seen = Seen(served, bounds, self._caller(served.caller))
        cells = store.cells
        with store.lock:
            for metric, read in _READ:
                for labels, amount in read(seen):
                    cell = cells[metric.name].get(labels)
                    if cell is None:
                        cell = store.cell(metric, labels)
                    cell.add(amount)

    def policy(self, policy: Policy, catalog: Catalog) -> None:
        """Another policy is served from now on."""
        store, before = self._store(), self._policy
        self._policy, self._prices, self._loaded = policy, newest_price(catalog), time.time()
        with store.lock:
            if (before.name, before.digest) != (policy.name, policy.digest):
                _set(store, "policyroute_policy_info", 0, before.name, before.digest)
            for model in before.models.keys() - policy.models.keys():
                _set(store, "policyroute_circuit_open", 0, model)
            _set(store, "policyroute_reload_failed", 0)
            self._tell(store)

    def reload_failed(self) -> None:
        """The newest files can't be served; the last good ones are."""
        store = self._store()
        with store.lock:
            store.cell(BY_NAME["policyroute_reload_failures_total"], ()).add(1)
            _set(store, "policyroute_reload_failed", 1)

    def gauges(
        self, *, circuits: Mapping[str, str] | None = None, journal_written: int = 0, journal_lost: int = 0,
        journal_healthy: bool = True, log_lost: int = 0, streams: int = 0, state_missed: int = 0,
    ) -> None:  # fmt: skip
        """What this worker's parts say of themselves now: circuits by model (`closed` or not), counts since its start, open streams."""
        store = self._store()
        with store.lock:
            for model in self._policy.models:
                _set(store, "policyroute_circuit_open", (circuits or {}).get(model, "closed") != "closed", model)
            _set(store, "policyroute_journal_healthy", journal_healthy)
            _set(store, "policyroute_streams_open", streams)
            self._advance(store, "policyroute_journal_rows_total", journal_written)
            self._advance(store, "policyroute_journal_lost_total", journal_lost)
            self._advance(store, "policyroute_access_log_lost_total", log_lost)
            self._advance(store, "policyroute_state_missed_total", state_missed)

    def follow(self, read: Callable[[], Mapping[str, Any]], every: float = EVERY) -> None:
        """Call `gauges` with what `read` gives, every so many seconds, from a daemon thread of this process.

        `/metrics` is answered by one worker; this is how it knows the circuits and journals of the others.
        """
        if self._following != os.getpid():
            self._following = os.getpid()
            threading.Thread(target=self._follow, args=(read, every), name="policyroute-metrics", daemon=True).start()

    # -- what it tells -----------------------------------------------------------------------------------------------------

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body of `/metrics` and its content type: OpenMetrics where `accept` asks for it, else Prometheus' text."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        store = self._store()
        registry = CollectorRegistry()
        registry.register(_Collector(store))
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    def close(self) -> None:
        """Close this process's files: the last thing before it ends. The other workers go on adding up what they hold."""
        store = self._stores.get(os.getpid())
        if store is not None:
            store.close()

    # -- small -------------------------------------------------------------------------------------------------------------

    def _store(self) -> Store:
        process = os.getpid()
        found = self._stores.get(process)
        return found if found is not None else self._started(process)

    def _started(self, process: int) -> Store:
        with self._lock:
            found = self._stores.get(process)
            if found is None:
                found = shared(self._folder, process) if self._folder else Store(None)
                with found.lock:
                    _set(found, "policyroute_journal_healthy", 1)
                    self._tell(found)
                self._stores = {process: found}
        return found

    def _tell(self, store: Store) -> None:
        policy = self._policy
        bounds = Bounds(policy)
        for metric in METRICS:
            for labels in metric.known(bounds) if metric.known else ():
                store.cell(metric, labels)
        _set(store, "policyroute_policy_info", 1, policy.name, policy.digest)
        _set(store, "policyroute_policy_loaded_timestamp_seconds", self._loaded)
        _set(store, "policyroute_prices_timestamp_seconds", self._prices.timestamp() if self._prices else 0)

    def _advance(self, store: Store, name: str, total: int) -> None:
        """Bring a counter to a worker's own count."""
        key = (os.getpid(), name)
        more = total - self._counted.get(key, 0)
        if more > 0:
            self._counted[key] = total
            store.cell(BY_NAME[name], ()).add(more)

    def _follow(self, read: Callable[[], Mapping[str, Any]], every: float) -> None:
        while True:
            self.gauges(**read())
            time.sleep(every)

    def _caller(self, name: str) -> str:
        found = self._callers.get(name)
        if found is None:
            if len(self._callers) > CALLERS:
                return OTHER
            found = self._callers[name] = name
        return found


class _Collector:
    """What prometheus_client encodes: a process's own series, or those of all workers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterable[Family]:
        """Nothing: names are checked by the table."""
        return ()

    def collect(self) -> Iterable[Family]:
        """All series."""
        return self._store.collect() if self._store.folder is None else together(self._store.folder)


def _set(store: Store, name: str, value: float, *labels: str) -> None:
    cell = store.cell(BY_NAME[name], labels)
    assert isinstance(cell, Number)
    cell.set(float(value))


def _folder() -> Path | None:
    if find_spec("prometheus_client") is None:
        raise ServeError("metrics need the package prometheus-client", "pip install 'policyroute[serve]'")
    named = os.environ.get(DIRECTORY, "")
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        raise ServeError(f"`{DIRECTORY}` names no folder: {named}", "make an empty one before the server starts, or unset it")
    return folder


def newest_price(catalog: Catalog, now: datetime | None = None) -> datetime | None:
    """When the newest price of the library began that has begun: the library is at least as new. None where none has a date."""
    moment = now or datetime.now(UTC)
    days = {row[0] for shelf in catalog.library._shelves.values() for record in shelf.records for row in record[4] if row[0]}
    begun = [at for day in days if (at := datetime.fromisoformat(day).replace(tzinfo=UTC)) <= moment]
    return max(begun, default=None)
