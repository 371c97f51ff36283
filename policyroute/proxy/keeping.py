"""Decisions with state, live: the store, what is done where it is out of reach, and what budgets are charged in the end.

Where the store is out of reach, requests are decided as if there were no state (`open`, the default), or refused with 503
(`closed`). Both are counted, and `/healthz` says so until the store answers again.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime
from typing import Any

from policyroute.language.decision import Decision
from policyroute.language.limits import read_signals
from policyroute.proxy.feedback import WISH, code
from policyroute.proxy.served import Served
from policyroute.proxy.service import Deciding
from policyroute.proxy.settings import ServeError
from policyroute.state.deciding import Decided, settle
from policyroute.state.stores.opened import open_store
from policyroute.state.stores.store import Key, Store, StoreUnreachableError
from policyroute.state.windows import micros

ESCALATED = "escalated"  # the signal
QUIET = 5.0  # seconds between two warnings

log = logging.getLogger("policyroute")


class Keeping:
    """The store of a gateway's worker, opened when a policy first needs it. `missed` counts what was done without it."""

    def __init__(self, where: str, *, closed: bool) -> None:
        self.where, self.closed = where, closed
        self.missed = 0
        self.failure = ""  # why the store is out of reach, "" where it isn't
        self._store: Store | None = None
        self._complained = -QUIET

    def open(self, deciding: Deciding) -> None:
        """Open the store, if the policy has a use for it. Raises ServeError for one that can't be meant."""
        if self._store is not None or (deciding.stateful is None and not wishes_count(deciding)):
            return
        try:
            self._store = open_store(self.where)
        except ValueError as error:
            raise ServeError(str(error), "`--state` takes a file, `memory`, or `redis://HOST:PORT`") from None

    def decide(self, deciding: Deciding, plain: Decision, served: Served, values: Any, at: datetime) -> Decision | None:
        """What state makes of the rule's decision; None where the store is out of reach and requests are refused then."""
        machine, store = deciding.stateful, self._store
        if machine is None or store is None:
            return plain
        try:
            decided = served.state = machine.decide(store, plain, values, at)
        except StoreUnreachableError as error:
            self._missed(error)
            served.missed = True
            return None if self.closed else plain
        self.failure, served.store = "", store.id
        return decided.decision

    def peek(self, deciding: Deciding, plain: Decision, values: Any, at: datetime) -> Decided:
        """What state would make of a decision, without leaving anything behind."""
        machine, store = deciding.stateful, self._store
        if machine is None or store is None:
            return Decided(plain)
        try:
            return machine.peek(store, plain, values, at)
        except StoreUnreachableError as error:
            self._missed(error)
            return Decided(plain)

    def wish(self, conversation: str, at: datetime) -> bool:
        """Keep that a conversation (its code) is to get better answers for a while; whether that could be kept."""
        if self._store is None:
            return False
        until = micros(at) + WISH
        try:
            self._store.step([Key(_wished(conversation), until)], lambda _: ([until], None), micros(at))
        except StoreUnreachableError as error:
            self._missed(error)
            return False
        return True

    def wished(self, conversation: str, at: datetime) -> bool:
        """Whether somebody has asked for better answers in a conversation."""
        if self._store is None:
            return False
        try:
            (until,) = self._store.read([Key(_wished(code(conversation)), 0)])
        except StoreUnreachableError as error:
            self._missed(error)
            return False
        return isinstance(until, int) and until >= micros(at)

    def settle(self, served: Served) -> None:
        """Charge a finished request's budgets what it cost."""
        state, store = served.state, self._store
        if state is None or store is None or not state.budgets:
            return
        cost = charged(served)
        try:
            served.settled_number = settle(store, state.budgets, cost, micros(served.at))
        except StoreUnreachableError as error:
            self._missed(error)
            return
        served.settled = cost

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()

    def _missed(self, error: StoreUnreachableError) -> None:
        self.missed += 1
        self.failure = str(error)
        now = time.monotonic()
        if now - self._complained >= QUIET:
            self._complained = now
            log.warning("state is out of reach, requests are %s: %s", "refused" if self.closed else "decided without it", error)


def wishes_count(deciding: Deciding) -> bool:
    """Whether the policy asks if a better answer is wanted."""
    return ESCALATED in read_signals(deciding.policy)


def _wished(conversation: str) -> str:
    return f"wish-{conversation}"


def reachable(where: str, deciding: Deciding) -> None:
    """Look once whether a store can be used, before anything is served with it. Raises ServeError."""
    keeping = Keeping(where, closed=True)
    keeping.open(deciding)
    if keeping._store is None:
        return
    try:
        keeping._store.step([], lambda _: ([], None), 0)
    except StoreUnreachableError as error:
        raise ServeError(
            f"state can't be kept: {error}", "`--state` names another file, `memory`, or `redis://HOST:PORT`"
        ) from None
    finally:
        keeping.close()


def without_password(where: str) -> str:
    """A store's place as it may be shown."""
    scheme, _, rest = where.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else where


def charged(served: Served) -> int | None:
    """What a finished request cost in picodollars, classifiers and a weak first answer included; None where that isn't known."""
    costs = [answer.cost for answer in served.classified]
    if served.escalated_from:
        costs.append(served.first_cost)
    free = served.verdict in ("refused", "failed", "cached") or (served.usage is None and served.status >= 400)
    if not free:
        costs.append(served.cost)
    return None if None in costs else sum(cost.picodollars for cost in costs if cost is not None)
