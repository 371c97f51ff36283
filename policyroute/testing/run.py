"""Runs `test` blocks: each is decided by the reference, the live function and SQL, and all of them have to agree.

The live function runs twice: on the values, and as a server runs it, on the request, with bounds and with extraction when first
read. SQL decides all the requests of a policy's tests in one query.

The requests of a test follow one another, with what each leaves behind for the next: conversations, quotas, budgets. A budget is
charged what a request costs at most, since a test has no answer whose cost would take its place.

A test that needs what can't be known here (a classifier's answer that isn't given) is not run, and says what it would need. It never
counts as passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

import duckdb

from policyroute.backends.live import Live, compile_policy
from policyroute.backends.sql import ARM, CHAIN, RULE, Query, literal, quoted
from policyroute.language.decision import Decision
from policyroute.language.limits import read_signals
from policyroute.language.policy import Expect, Given, Policy, Test, Value
from policyroute.language.reference import decide
from policyroute.prices.catalog import load_catalog
from policyroute.signals.given import Requests
from policyroute.state.deciding import Stateful
from policyroute.state.stores.memory import MemoryStore
from policyroute.state.transitions import stateful
from policyroute.testing.failures import explained

START = datetime(2026, 1, 1, 12, tzinfo=UTC)  # when a test takes place that doesn't say
NUMBER = '"$request"'  # no signal can be named with a `$`
Status = Literal["passed", "failed", "not run"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a test showed. `details` explains a failure, or says what a test that was not run needs.

    `decisions` are those of its requests in order; empty where it was not run.
    """

    test: Test
    status: Status
    details: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a test that runs: what it gives, what is expected, all signals' values, the rule's own decision as the
    reference makes it, and what state made of that."""

    test: Test
    given: Given
    expect: Expect
    values: Mapping[str, Value]
    plain: Decision
    decision: Decision


class Suite:
    """The tests of one policy, whose models are complete.

    `folder` is the policy's; the files that tests name were read from there when the policy was checked.
    """

    def __init__(self, policy: Policy, folder: Path = Path()) -> None:
        self.policy = policy
        self.folder = folder
        self._make = Requests(policy)
        self._known: dict[Test, tuple[Request, ...]] = {}

    def values(self, given: Given) -> dict[str, Value]:
        """All signal values of a test's request: what is given, what is extracted from it, defaults for the rest."""
        return dict(self._make.values(given))

    def run(self, chosen: Sequence[Test] | None = None) -> Iterator[Outcome]:
        """The outcome of each of the tests, or of those that are `chosen`, in the order of the file."""
        tests = self.policy.tests if chosen is None else tuple(chosen)
        needs = {test: self._needs(test) for test in tests}
        requests = {test: () if needs[test] else self._requests(test) for test in tests}
        every = [request for found in requests.values() for request in found]
        told = iter([self._elsewhere(request, sql) for request, sql in zip(every, self._in_sql(every), strict=True)])
        for test in tests:
            if needs[test]:
                yield Outcome(test, "not run", (needs[test],))
            else:
                yield self._outcome(test, [(request, next(told)) for request in requests[test]])

    def requests(self, chosen: Sequence[Test] | None = None) -> list[Request]:
        """The requests of the tests that run, for coverage."""
        tests = self.policy.tests if chosen is None else tuple(chosen)
        return [request for test in tests if not self._needs(test) for request in self._requests(test)]

    # -- what can run ------------------------------------------------------------------------------------------------

    def _needs(self, test: Test) -> str:
        """What the test needs that isn't computed yet, or the empty string."""
        if any(expect.acted is not None and expect.acted[0] == "escalate" for _, expect in test.steps):
            return "it expects an escalation, and a test has no answer that could be weak"
        for given, _ in test.steps:
            asked = self._asked(given)
            if asked:
                return f"evaluation reaches `classifier {asked}`, whose answer is not given"
        return ""

    def _asked(self, given: Given) -> str:
        """The classifier that this request would ask, if any."""
        if not self._classifiers:
            return ""
        values = _Recording(self._make.values(given))
        decide(self.policy, values)
        return next((name for name in values.read if name in self._classifiers and name not in dict(given.values)), "")

    @cached_property
    def _classifiers(self) -> frozenset[str]:
        return frozenset(name for name, signal in self.policy.signals.items() if signal.kind == "classifier")

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _requests(self, test: Test) -> tuple[Request, ...]:
        if test not in self._known:
            self._known[test] = tuple(self._followed(test))
        return self._known[test]

    def _followed(self, test: Test) -> Iterator[Request]:
        """A step each, with the state that the steps before it left; of a request that is repeated, the last one."""
        store, at = MemoryStore(), START
        for given, expect in test.steps:
            values = self._make.values(given)
            plain = decision = decide(self.policy, values)
            at = given.time or at
            machine = self._stateful
            for _ in range(given.repeated if machine else 0):
                assert machine is not None
                live = machine.live.given({name: values[name] for name in self._read})
                decision = machine.decide(store, plain, live, at).decision
            yield Request(test, given, expect, values, plain, decision)

    @cached_property
    def _stateful(self) -> Stateful | None:
        if not stateful(self.policy):
            return None
        priced = any(one.kind == "budget" for one in self.policy.allowances)
        return Stateful(self._live[0], load_catalog().for_policy(self.policy) if priced else {})

    def _outcome(self, test: Test, requests: Sequence[tuple[Request, list[str]]]) -> Outcome:
        details: list[str] = []
        for number, (request, disagreements) in enumerate(requests, 1):
            where = f"step {number}: " if len(test.steps) > 1 else ""
            details += [f"{where}{line}" for line in disagreements]
            if not met(request.expect, request.decision):
                details += [
                    f"{where}expected {expected(request.expect)}",
                    f"{where}got      {shown(request.decision)}",
                    *explained(self.policy, request.values, request.expect, request.decision),
                ]
        return Outcome(test, "failed" if details else "passed", tuple(details), tuple(request.decision for request, _ in requests))

    def _elsewhere(self, request: Request, sql: tuple[int, int, str]) -> list[str]:
        """What other readings decide, where it is something else."""
        wanted = request.plain
        plain, bounded = self._live
        readings = {
            "the live function": plain.decide(plain.given({name: request.values[name] for name in self._read})),
            "the live function, reading lazily with bounds,": bounded.decide(self._make(request.given)),
        }
        found = [f"{name} decides otherwise, {_FAULT}: {shown(one)}" for name, one in readings.items() if one != wanted]
        rule, arm, chain = sql
        name, models = self.policy.rules[rule].name, tuple(chain.split(",")) if chain else ()
        if (name, arm, models) != (wanted.rule, wanted.arm, wanted.chain):
            found.append(f"SQL decides otherwise, {_FAULT}: {name} -> {', '.join(models) or 'refused'}")
        return found

    @cached_property
    def _read(self) -> tuple[str, ...]:
        return read_signals(self.policy)

    @cached_property
    def _live(self) -> tuple[Live, Live]:
        return compile_policy(self.policy), compile_policy(self.policy, bounds=True)

    def _in_sql(self, requests: Sequence[Request]) -> list[tuple[int, int, str]]:
        """Rule number, arm and chain of each request, as SQL decides them."""
        if not requests:
            return []
        names = self._read
        rows = [
            f"({', '.join([str(number), *(_constant(request.values[name]) for name in names)])})"
            for number, request in enumerate(requests)
        ]
        relation = f"(VALUES {', '.join(rows)}) AS given({', '.join([NUMBER, *map(quoted, names)])})"
        query = Query(self.policy).over(f"(SELECT * FROM {relation})")
        with duckdb.connect() as connection:
            return connection.sql(f"SELECT {RULE}, {ARM}, {CHAIN} FROM ({query}) ORDER BY {NUMBER}").fetchall()


_FAULT = "which is a fault of policyroute"


def _constant(value: Value) -> str:
    """A value as SQL. What a recorded request holds may have characters that no policy can: NUL, and half of a pair."""
    if not isinstance(value, str):
        return literal(value)
    pieces = value.encode("utf-8", "replace").decode().split("\0")
    return " || chr(0) || ".join(literal(piece) for piece in pieces)


class _Recording(Mapping[str, Value]):
    """Values that remember which of them were read."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values
        self.read: dict[str, None] = {}

    def __getitem__(self, name: str) -> Value:
        self.read[name] = None
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def met(expect: Expect, decision: Decision) -> bool:
    """Whether a decision is what was expected."""
    if expect.rule != decision.rule or (expect.refused and not decision.refused):
        return False
    if expect.acted is not None and " ".join(expect.acted) not in decision.acted:
        return False
    return expect.chain is None or expect.chain == decision.chain


def expected(expect: Expect) -> str:
    """What is expected, as it was written; tiers as their models."""
    rule = f"{expect.rule} by {' '.join(expect.acted)}" if expect.acted else expect.rule
    if expect.refused:
        return f"{rule} -> refused"
    return rule if expect.chain is None else f"{rule} -> {', '.join(expect.chain)}"


def shown(decision: Decision) -> str:
    """A decision in the words of `expect`."""
    rule = f"{decision.rule} by {', '.join(decision.acted)}" if decision.acted else decision.rule
    return f"{rule} -> {', '.join(decision.chain)}" if decision.chain else f'{rule} -> refused "{decision.refused}"'
