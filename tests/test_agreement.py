"""One meaning, many readings: reference, live (with and without bounds) and SQL decide the same for generated policies.

One example is a policy with 25 requests; 120 examples make 3,000 cases. `--hypothesis-profile=long` makes 125,000.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from policyroute.backends.live import COSTLY, compile_policy
from policyroute.backends.sql import ARM, CHAIN, EXPLORED, MODEL, NOBODY, PROPENSITY, RULE, Query
from policyroute.language import Policy
from policyroute.language.decision import NO_MODEL, Decision
from policyroute.language.policy import BoolType, IntType, Value
from policyroute.language.reference import decide
from tests import strategies

REQUESTS = 25
CONNECTION = duckdb.connect(config={"threads": 1})
TYPES = {IntType: pa.int64(), BoolType: pa.bool_()}


def relation(policy: Policy, rows: Sequence[Mapping[str, Value | None]]) -> str:
    """The requests as a relation of the connection."""
    names = list(rows[0])
    arrays = [pa.array([row[name] for row in rows], TYPES.get(type(policy.signals[name].type), pa.string())) for name in names]
    CONNECTION.register("requests", pa.table([*arrays, pa.array(range(len(rows)), pa.int64())], [*names, "row"]))
    return "requests"


def by_sql(policy: Policy, rows: Sequence[Mapping[str, Value]]) -> list[Decision]:
    query = Query(policy)
    shadows = query.shadows()
    shadow_columns = ", ".join(f"CASE WHEN {sql} THEN '{name}' END" for name, sql in shadows.items())
    shadow = f"concat_ws(',', {shadow_columns})" if shadows else "''"
    found = CONNECTION.sql(
        f"SELECT {RULE}, {CHAIN}, {ARM}, {PROPENSITY}, {EXPLORED}, {MODEL}, {shadow} FROM ({query.over(relation(policy, rows))}) ORDER BY row"
    ).fetchall()
    return [_decision(policy, query.refusals(), *row) for row in found]


def _decision(
    policy: Policy,
    refusals: dict[int, str],
    rule: int,
    chain: str,
    arm: int,
    propensity: float,
    explored: bool,
    model: int,
    shadows: str,
) -> Decision:
    names = tuple(chain.split(",")) if chain else ()
    assert model == (list(policy.models).index(names[0]) if names else NOBODY)
    refused = refusals.get(rule, "" if names else NO_MODEL)
    return Decision(
        policy.rules[rule].name, names, arm, propensity, refused, explored, tuple(shadows.split(",")) if shadows else ()
    )


class Bounded:
    """Values whose costly numbers have loose bounds, as before a tokenizer has run."""

    def __init__(self, given_values: Any, slack: int) -> None:
        self._values, self._slack = given_values, slack

    def __getattr__(self, name: str) -> Any:
        for ending, sign in (("_LOW", -1), ("_HIGH", 1)):
            if name.endswith(ending) and name.removesuffix(ending).removeprefix("s_") in COSTLY:
                return max(0, getattr(self._values, name.removesuffix(ending)) + sign * self._slack)
        return getattr(self._values, name)


@given(st.data())
def test_readings_agree(data: st.DataObject) -> None:
    """Rule, chain, arm, propensity, exploration, refusal and shadows are the same in every reading."""
    policy = data.draw(strategies.policies)
    rows = data.draw(st.lists(strategies.values(policy), min_size=REQUESTS, max_size=REQUESTS))
    wanted = [decide(policy, row) for row in rows]
    live, bounded = compile_policy(policy), compile_policy(policy, bounds=True)
    assert wanted == [live.decide(live.given(row)) for row in rows]
    assert wanted == [
        bounded.decide(Bounded(bounded.given(row), slack)) for row, slack in zip(rows, itertools.cycle([0, 1, 700]), strict=False)
    ]
    assert wanted == by_sql(policy, rows)


@given(st.data())
def test_unknown_signals_never_decide(data: st.DataObject) -> None:
    """Where SQL decides a row in spite of an unknown signal, every value of that signal gives this decision."""
    policy = data.draw(strategies.policies)
    row = data.draw(strategies.values(policy))
    hidden = data.draw(
        st.sampled_from(["images", "tool", "tools", "tokens", "json", "prompt has urgent", "seats"]).filter(row.__contains__)
    )
    query = Query(policy, unknown=[hidden])
    ((rule, model, chain),) = CONNECTION.sql(
        f"SELECT {RULE}, {MODEL}, {CHAIN} FROM ({query.over(relation(policy, [{**row, hidden: None}]))})"
    ).fetchall()
    others = data.draw(st.lists(strategies.values(policy), min_size=8, max_size=8))
    decided = [decide(policy, {**row, hidden: other[hidden]}) for other in [row, *others]]
    if rule >= 0:
        assert {decision.rule for decision in decided} == {policy.rules[rule].name}
    if rule >= 0 and model >= NOBODY:
        first = list(policy.models)[model] if model >= 0 else ""
        assert {decision.chain[0] if decision.chain else "" for decision in decided} == {first}
    if rule >= 0 and model >= NOBODY and chain is not None:
        assert {",".join(decision.chain) for decision in decided} == {chain}
