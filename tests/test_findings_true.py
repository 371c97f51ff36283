"""False alarms are bugs: what an analysis says of generated and of real policies, against a million random requests and brute force.

The requests are made and decided in DuckDB, so that the other side of each comparison shares no code with the solver but the policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings

from policyroute.analysis.analyse import Analysis, Asked, analyse
from policyroute.backends.sql import CHAIN, RULE, Query, expression, literal, quoted
from policyroute.language import Policy, load
from policyroute.language.limits import blocked
from policyroute.language.policy import BoolType, EnumType, Guarantee, IntType, Signal, TextType
from policyroute.language.reference import decide
from policyroute.prices.catalog import complete, load_catalog
from policyroute.signals.implications import implications
from policyroute.signals.members import members
from policyroute.testing.strategies import constants
from tests.strategies import policies

pytest.importorskip("z3")
ROOT = Path(__file__).parents[1]
SHARED = Path(__file__).parents[2] / "shared" / "design" / "policies"
NOW = datetime(2026, 11, 25, tzinfo=UTC)
MILLION = 1_000_000
FILES = [*sorted((ROOT / "policies").glob("*.route")), SHARED / "support.route", SHARED / "coding.route"]


def requests(policy: Policy, rows: int) -> str:
    """A SELECT of random requests, heavy on thresholds and ends; texts are such as can be."""
    edges = [edge for edge in constants(policy) if edge >= 0] or [0]
    columns = [
        f"{_random(signal, edges)} AS {quoted(name)}"
        for name, signal in policy.signals.items()
        if not isinstance(signal.type, TextType)
    ]
    possible = " AND ".join(expression(axiom) for axiom in implications(policy)) or "TRUE"
    return f"SELECT * FROM (SELECT {', '.join(columns)} FROM range({rows})) WHERE {possible}"


def _random(signal: Signal, edges: list[int]) -> str:
    match signal.type:
        case BoolType():
            return "random() < 0.5"
        case IntType(low, high):
            near = [str(min(max(edge, low), high)) for edge in (*edges, low, high, int(signal.default))]
            drawn = f"{low} + CAST(floor(random() * {min(high, low + 400_000) - low + 1}) AS BIGINT)"
            return f"CASE WHEN random() < 0.6 THEN ([{', '.join(near)}]::BIGINT[])[1 + CAST(floor(random() * {len(near)}) AS INTEGER)] ELSE {drawn} END"
        case EnumType():
            listed = [literal(member) for member in members(signal)]
            return f"([{', '.join(listed)}])[1 + CAST(floor(random() * {len(listed)}) AS INTEGER)]"
    return "CASE WHEN random() < 0.2 THEN '' ELSE 'u' || CAST(floor(random() * 1000) AS VARCHAR) END"


def decided(connection: duckdb.DuckDBPyConnection, policy: Policy, rows: int) -> None:
    """The table `decided` of random requests with their decisions."""
    connection.execute("SELECT setseed(0.42)")
    connection.execute(f"CREATE OR REPLACE TABLE requests AS {requests(policy, rows)}")
    connection.execute(f"CREATE OR REPLACE TABLE decided AS {Query(policy).over('requests')}")


def count(connection: duckdb.DuckDBPyConnection, where: str) -> int:
    ((found,),) = connection.sql(f"SELECT count(*) FROM decided WHERE {where}").fetchall()
    return int(found)


def breaks(policy: Policy, claim: Guarantee, prices: dict[str, tuple[int, int]]) -> str:
    """The decided requests that break a claim, as SQL: by the chain that is left."""
    left = f"string_split({CHAIN}, ',')"
    when = expression(claim.condition)
    parts = [f"{CHAIN} = ''" if claim.quantifier == "never" else f"{CHAIN} <> ''"] if claim.refused else []
    if claim.models:
        names = "[" + ", ".join(literal(model) for model in claim.models) + "]"
        parts.append(
            f"list_has_any({left}, {names})"
            if claim.quantifier == "never"
            else f"({CHAIN} <> '' AND NOT list_has_all({names}, {left}))"
        )
    if claim.cost:
        relation, bound = claim.cost
        held = [
            f"(list_contains({left}, {literal(name)}) AND {a} * tokens + {b} * max_output {relation} {bound})"
            for name, (a, b) in prices.items()
        ]
        parts.append(f"({' OR '.join(held)})")
    return f"{when} AND ({' OR '.join(parts)})"


def analysed(policy: Policy, folder: Path) -> Analysis:
    catalog = load_catalog()
    return analyse(policy, catalog.for_policy(policy), Asked(folder=folder), NOW)


def refuted(connection: duckdb.DuckDBPyConnection, policy: Policy, found: Analysis) -> Iterator[str]:
    """Findings that a request contradicts."""
    numbers = {rule.span: number for number, rule in enumerate(policy.rules)}
    for finding in found.findings:
        diagnostic = finding.diagnostic
        number = numbers.get(diagnostic.span)
        rule = policy.rules[number] if number is not None else None
        if diagnostic.code == "dead-rule" and count(connection, f"{RULE} = {number}"):
            yield diagnostic.message
        if diagnostic.code == "contradiction" and rule and count(connection, expression(rule.condition)):
            yield diagnostic.message
        if diagnostic.code in ("unable-model", "useless-fallback"):
            model, name = diagnostic.message.split("`")[1], diagnostic.message.split("`")[3]
            place = next(number for number, one in enumerate(policy.rules) if one.name == name)
            if count(connection, f"{RULE} = {place} AND NOT ({expression(blocked(policy, model))})"):
                yield diagnostic.message
        if diagnostic.code == "redundant-rule" and rule is not None:
            without = replace(policy, rules=tuple(one for one in policy.rules if one is not rule))
            other = Query(without).over(f"(SELECT * EXCLUDE ({', '.join(_decision_columns(connection))}) FROM decided)")
            moved = f"SELECT count(*) FROM (SELECT {CHAIN} AS was, row_number() OVER () AS n FROM decided) JOIN (SELECT {CHAIN} AS now, row_number() OVER () AS n FROM ({other})) USING (n) WHERE was <> now"
            ((changed,),) = connection.sql(moved).fetchall()
            if changed:
                yield diagnostic.message
        if finding.region is not None and finding.values:
            values = dict(finding.values)
            if not _holds(policy, finding.region, values):
                yield f"the witness of {diagnostic.message}"


def _decision_columns(connection: duckdb.DuckDBPyConnection) -> list[str]:
    return [quoted(name) for name in connection.sql("SELECT * FROM decided LIMIT 0").columns if name.startswith("$")]


def _holds(policy: Policy, region: object, values: dict[str, object]) -> bool:
    """Evaluated by DuckDB."""
    row = ", ".join(f"{literal(value)} AS {quoted(name)}" for name, value in values.items())
    ((found,),) = duckdb.sql(f"SELECT {expression(region)} FROM (SELECT {row})").fetchall()  # type: ignore[arg-type]
    return bool(found)


@settings(max_examples=40, deadline=None)
@given(policy=policies)
def test_findings_survive_random_requests(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> None:
    """On generated policies, nothing that is called dead, useless or redundant is seen to be otherwise, and witnesses show what they say."""
    found = analysed(policy, tmp_path_factory.mktemp("proofs"))
    with duckdb.connect() as connection:
        decided(connection, policy, 20_000)
        assert list(refuted(connection, policy, found)) == []
        reached = {policy.rules[number].name for (number,) in connection.sql(f"SELECT DISTINCT {RULE} FROM decided").fetchall()}
    dead = {
        policy.rules[n].name
        for n, rule in enumerate(policy.rules)
        if any(f.diagnostic.span == rule.span and f.diagnostic.code in ("dead-rule", "contradiction") for f in found.findings)
    }
    assert not reached & dead
    for finding in found.findings:
        if finding.diagnostic.code == "dead-end":
            assert decide(policy, finding.values).chain == ()


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_guarantees_survive_a_million_requests(path: Path, tmp_path: Path) -> None:
    """What is proved of the example policies and of the design's is broken by none of a million random requests; and a guarantee that
    is changed so that it doesn't hold is broken by some."""
    if not path.is_file():
        pytest.skip("the design's policies are not here")
    policy, _ = complete(load(path), load_catalog())
    prices = {
        name: (max(p.input for p in found.prices), max(p.output or 0 for p in found.prices))
        for name, found in load_catalog().for_policy(policy).items()
    }
    found = analysed(policy, tmp_path)
    assert set(found.proved) == {claim.name for claim in policy.guarantees}
    with duckdb.connect() as connection:
        decided(connection, policy, MILLION)
        assert count(connection, "TRUE") > MILLION // 100
        for claim in policy.guarantees:
            asked = count(connection, expression(claim.condition))
            assert asked and not count(connection, breaks(policy, claim, prices)), claim.name
            if claim.models:
                turned = replace(claim, quantifier="always" if claim.quantifier == "never" else "never")
                assert count(connection, breaks(policy, turned, prices)) > 0
