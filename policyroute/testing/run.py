"""Runs `test` blocks: each is decided by the reference, the live function and SQL, and all three have to agree.

A test that needs what this version doesn't compute (a quota's effect, a classifier's answer that isn't given) is not run,
and says what it would need. It never counts as passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import duckdb

from policyroute.backends.live import Live, compile_policy
from policyroute.backends.sql import ARM, CHAIN, RULE, Query, literal, quoted
from policyroute.language.decision import Decision
from policyroute.language.policy import Expect, Given, Policy, Test, TextType, Value
from policyroute.language.reference import decide, evaluate, why_not
from policyroute.signals.text import Scanner

STATEFUL = ("sticky", "quota", "budget")
Status = Literal["passed", "failed", "not run"]


@dataclass(frozen=True)
class Outcome:
    """What a test showed. `details` explains a failure, or says what a test that was not run needs."""

    test: Test
    status: Status
    details: tuple[str, ...] = ()


class Suite:
    """The tests of one policy, whose models are complete."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.live = compile_policy(policy)
        self.query = Query(policy)
        self.scanner = Scanner(tuple(policy.texts.values()))

    def run(self) -> Iterator[Outcome]:
        """Each test's outcome, in the order of the file."""
        with duckdb.connect() as connection:
            for test in self.policy.tests:
                needs = self._needs(test)
                yield Outcome(test, "not run", (needs,)) if needs else self._outcome(test, connection)

    def _needs(self, test: Test) -> str:
        """What the test needs that isn't computed yet, or the empty string."""
        acted = [" ".join(expect.acted) for _, expect in test.steps if expect.acted]
        if acted:
            return f"it needs `{acted[0]}`, which this version doesn't apply"
        stateful = [construct.title for construct in self.policy.constructs if construct.kind in STATEFUL]
        several = len(test.steps) > 1 or any(given.repeated > 1 for given, _ in test.steps)
        if several and stateful:
            return f"it sends several requests, and the policy's `{'`, `'.join(stateful)}` is not applied by this version"
        for given, _ in test.steps:
            asked = self._asked(given)
            if asked:
                return f"evaluation reaches `classifier {asked}`, whose answer is not given"
        return ""

    def _asked(self, given: Given) -> str:
        """The classifier that this request would ask, if any."""
        values = _Recording(self.values(given))
        decide(self.policy, values)
        names = [name for name in values.read if self.policy.signals[name].kind == "classifier"]
        return next((name for name in names if name not in dict(given.values)), "")

    def values(self, given: Given) -> dict[str, Value]:
        """All signal values of a test's request: what is given, scans of the given texts, defaults for the rest."""
        values: dict[str, Value] = {name: signal.default for name, signal in self.policy.signals.items()} | dict(given.values)
        stated = dict(given.values)
        if "prompt" not in stated:  # all messages hold the system message and the last one
            values["prompt"] = "\n".join(str(stated[name]) for name in ("system", "last") if name in stated)
        masks = {
            name: self.scanner.mask(str(values[name])) for name, s in self.policy.signals.items() if isinstance(s.type, TextType)
        }
        bits = {name: bit for bit, name in enumerate(self.policy.texts)}
        for signal in self.policy.signals.values():
            if signal.kind == "match":
                values[signal.name] = bool(masks[signal.text] >> bits[signal.words] & 1)
        return values

    def _outcome(self, test: Test, connection: duckdb.DuckDBPyConnection) -> Outcome:
        details: list[str] = []
        for number, (given, expect) in enumerate(test.steps, 1):
            values = self.values(given)
            wanted = decide(self.policy, values)
            where = f"step {number}: " if len(test.steps) > 1 else ""
            details += [f"{where}{line}" for line in self._disagreements(wanted, values, connection)]
            if not _met(expect, wanted):
                details += [
                    f"{where}expected {_expected(expect)}",
                    f"{where}got      {shown(wanted)}",
                    *explained(self.policy, values, expect),
                ]
        return Outcome(test, "failed" if details else "passed", tuple(details))

    def _disagreements(self, wanted: Decision, values: Mapping[str, Value], connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
        if (live := _live(self.live, values)) != wanted:
            yield f"the live function decides otherwise, which is a fault of policyroute: {shown(live)}"
        columns = ", ".join(f"{literal(value)} AS {quoted(name)}" for name, value in values.items())
        query = self.query.over(f"(SELECT {columns})")
        ((rule, arm, chain),) = connection.sql(f"SELECT {RULE}, {ARM}, {CHAIN} FROM ({query})").fetchall()
        found = (self.policy.rules[rule].name, arm, tuple(chain.split(",")) if chain else ())
        if found != (wanted.rule, wanted.arm, wanted.chain):
            yield f"SQL decides otherwise, which is a fault of policyroute: {found[0]} -> {', '.join(found[2])}"


class _Recording(dict[str, Value]):
    """Values that remember which of them were read."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        super().__init__(values)
        self.read: dict[str, None] = {}

    def __getitem__(self, name: str) -> Value:
        self.read[name] = None
        return super().__getitem__(name)


def _live(live: Live, values: Mapping[str, Value]) -> Decision:
    return live.decide(live.given(values))


def _met(expect: Expect, decision: Decision) -> bool:
    if expect.rule != decision.rule or (expect.refused and not decision.refused):
        return False
    return expect.chain is None or expect.chain == decision.chain


def _expected(expect: Expect) -> str:
    if expect.refused:
        return f"{expect.rule} -> refused"
    return expect.rule if expect.chain is None else f"{expect.rule} -> {', '.join(expect.chain)}"


def shown(decision: Decision) -> str:
    """A decision in the words of `expect`."""
    return (
        f"{decision.rule} -> {', '.join(decision.chain)}" if decision.chain else f'{decision.rule} -> refused "{decision.refused}"'
    )


def explained(policy: Policy, values: Mapping[str, Value], expect: Expect) -> Iterator[str]:
    """Which rules were tried, and what removed a model that was expected."""
    for rule in policy.rules:
        taken = bool(evaluate(rule.condition, values))
        yield f"  {'takes' if taken and not rule.shadow else 'tried'} {rule.name}{' (shadow)' if rule.shadow else ''}"
        if taken and not rule.shadow:
            named = dict.fromkeys(model for route in rule.routes for model in route.chain if model in policy.models)
            gone = {
                model: why_not(policy, policy.models[model], values) for model in dict.fromkeys((*named, *(expect.chain or ())))
            }
            yield from (f"  {model} drops out: {why}" for model, why in gone.items() if why)
            return
