"""The probability of each model as SQL: the same as the reference decides over keys, arm by arm and draw by draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.backends.chance import model_probability
from policyroute.backends.live import compile_policy
from policyroute.backends.probability import FINEST, TARGET, Probabilities
from policyroute.backends.sql import RULE
from policyroute.language import Policy, check_text
from policyroute.language.decision import PARTS, draw
from policyroute.language.policy import BoolType, IntType, Route, Split, Value
from policyroute.language.reference import decide, evaluate, why_not
from tests import strategies

CONNECTION = duckdb.connect(config={"threads": 1})
TYPES = {IntType: pa.int64(), BoolType: pa.bool_()}
MODELS = "".join(f'model {name} {{ id "{name}-1" in $1 out $2 }}\n' for name in "abcd")
MODELS += "tier ab = a, b\ntier bac = b, a, c\n"


def policy_from(text: str) -> Policy:
    checked = check_text(f"edition 1\npolicy chance\n{MODELS}{text}")
    assert not checked.failed, checked.diagnostics
    return checked.policy


def by_sql(
    policy: Policy, rows: Sequence[Mapping[str, Value | None]], unknown: Sequence[str] = ()
) -> list[dict[str, Fraction] | None]:
    """The probabilities above 0 of each request; None where they are unknown."""
    names = [name for name in rows[0] if name in policy.signals]
    arrays = [pa.array([row[name] for row in rows], TYPES.get(type(policy.signals[name].type), pa.string())) for name in names]
    CONNECTION.register("requests", pa.table([*arrays, pa.array(range(len(rows)), pa.int64())], [*names, "row"]))
    chances = Probabilities(policy, unknown=unknown)
    one_by_one = ", ".join(chances.model(f"CAST({number} AS INTEGER)") for number in range(-1, len(policy.models) + 1))
    query = f"SELECT {TARGET}, {chances.total()}, [{one_by_one}] FROM ({chances.over('requests')}) ORDER BY row"
    found: list[dict[str, Fraction] | None] = []
    for target, total, singly in CONNECTION.sql(query).fetchall():
        if target is None:
            assert set(singly) == {None}
            found.append(None)
            continue
        assert total == sum(target) and singly == [0, *target, 0]
        found.append({name: Fraction(part, chances.denominator) for name, part in zip(policy.models, target, strict=True) if part})
    return found


def analytic(policy: Policy, values: Mapping[str, Value]) -> dict[str, Fraction]:
    """Straight from LANGUAGE.md: the rule, its arms with their shares, the chain that is left, and what `explore` does with it."""
    (rule, *_) = [rule for rule in policy.rules if not rule.shadow and evaluate(rule.condition, values)]
    chances: Counter[str] = Counter()
    for share, route in _arms(rule.target, values):
        asked = values.get("requested", "")
        named = dict.fromkeys(str(asked) if name == "requested" else name for name in route.chain)
        left = [name for name in named if name in policy.models and not why_not(policy, policy.models[name], values)]
        if not left:
            continue
        able = policy.explore is not None and values[policy.explore.key] != "" and len(left) > 1
        chance = Fraction(policy.explore.share, PARTS) if policy.explore is not None and able else Fraction(0)
        chances[left[0]] += share * (1 - chance)  # type: ignore[assignment]
        for other in left[1:]:
            chances[other] += share * chance / (len(left) - 1)  # type: ignore[assignment]
    return {name: Fraction(chance) for name, chance in chances.items() if chance}


def _arms(target: Any, values: Mapping[str, Value]) -> Iterator[tuple[Fraction, Route]]:
    if isinstance(target, Route):
        yield Fraction(1), target
    if isinstance(target, Split):
        for number, arm in enumerate(target.arms):
            without = Fraction(1 if number == 0 else 0)
            yield (Fraction(arm.share, PARTS) if values[target.key] else without), arm.route


@given(st.data())
def test_generated_policies(data: st.DataObject) -> None:
    """Over generated policies and requests, SQL gives the probabilities that the language's rules give."""
    policy = data.draw(strategies.policies)
    rows = data.draw(st.lists(strategies.values(policy), min_size=15, max_size=15))
    assert by_sql(policy, rows) == [analytic(policy, row) for row in rows]


EXAMPLES = {
    "no chance": ("otherwise { then a fallback b }", {"a": "1"}),
    "arms": ("otherwise { then split by user { 90% a, 7.5% b, 2.5% c } }", {"a": "0.9", "b": "0.075", "c": "0.025"}),
    "two arms, one model": ("otherwise { then split by user { 50% a, 30% ab, 20% b } }", {"a": "0.8", "b": "0.2"}),
    "exploration": ("otherwise { then a fallback b, c }\nexplore 10% by user", {"a": "0.9", "b": "0.05", "c": "0.05"}),
    "both, of one key": (
        "otherwise { then split by user { 50% ab, 50% bac } }\nexplore 20% by user",
        {"a": "0.45", "b": "0.5", "c": "0.05"},
    ),
    "a forbidden first model": ("forbid a when tokens > 5\notherwise { then a fallback b, c }\nexplore 10% by user", {"b": "0.9", "c": "0.1"}),
    "nobody else": ("forbid b, c\notherwise { then a }\nexplore 10% by user", {"a": "1"}),
    "refused": ('otherwise { then refuse "no" }', {}),
    "an arm without a model": ("forbid b when tokens > 5\notherwise { then split by user { 60% a, 40% b } }", {"a": "0.6"}),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_frequencies_over_keys(name: str) -> None:
    """Written-out probabilities, and what the reference decides for 20,000 users lies within five standard errors of them."""
    text, wanted = EXAMPLES[name]
    policy = policy_from(text)
    row: dict[str, Value] = {"tokens": 10, "user": "u", "max_output": 0}
    chances = {model: Fraction(chance) for model, chance in wanted.items()}
    assert by_sql(policy, [row]) == [chances]
    users = 20_000
    served = Counter(chain[0] for n in range(users) if (chain := decide(policy, {**row, "user": f"u{n}"}).chain))
    assert set(served) == set(chances)
    for model, chance in chances.items():
        assert abs(served[model] - users * chance) <= 5 * (users * chance * (1 - chance)) ** Fraction(1, 2) + 1


def test_without_a_key() -> None:
    """A split takes its first arm, and `explore` leaves the request alone."""
    policy = policy_from("otherwise { then split by user { 10% ab, 90% b } }\nexplore 10% by user")
    assert by_sql(policy, [{"user": ""}]) == [{"a": Fraction(1)}]
    decided = decide(policy, {"user": ""})
    assert (decided.chain[0], decided.explored) == ("a", False)


def test_the_draws_are_independent_of_each_other() -> None:
    """One key for a split and for `explore`: the salts differ, so arms and exploration don't go together."""
    both = Counter((draw("p", "r", f"u{n}") % PARTS < 5_000, draw("p", "explore", f"u{n}") % PARTS < 5_000) for n in range(20_000))
    assert all(abs(count - 5_000) < 5 * (20_000 * 3 / 16) ** 0.5 for count in both.values())


UNKNOWN = {
    "the rule": ("rule r { when tokens > 5 then b }\notherwise { then a }", "tokens", None),
    "a limit of the first model": ("forbid a when tokens > 5\notherwise { then a fallback b }", "tokens", None),
    "a limit behind the first": ("forbid b when tokens > 5\notherwise { then a fallback b }", "tokens", {"a": "1"}),
    "a limit of what is explored": ("forbid b when tokens > 5\notherwise { then a fallback b }\nexplore 10% by user", "tokens", None),
    "the split's key": ("otherwise { then split by user { 50% a, 50% b } }", "user", None),
    "the key of exploration": ("otherwise { then a fallback b }\nexplore 10% by user", "user", None),
    "a key that does nothing": ("otherwise { then a }\nexplore 10% by user", "user", {"a": "1"}),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_signals(name: str) -> None:
    """Where a probability depends on a signal that the trace doesn't tell, there is none."""
    text, hidden, wanted = UNKNOWN[name]
    row: dict[str, Value | None] = {"tokens": 10, "user": "u", "max_output": 0}
    chances = None if wanted is None else {model: Fraction(chance) for model, chance in wanted.items()}
    assert by_sql(policy_from(text), [{**row, hidden: None}], [hidden]) == [chances]


@given(st.data())
def test_unknown_means_that_it_could_matter(data: st.DataObject) -> None:
    """Probabilities given in spite of an unknown signal are those of every value of that signal."""
    policy = data.draw(strategies.policies)
    row = data.draw(strategies.values(policy))
    hidden = data.draw(st.sampled_from(["images", "tools", "tokens", "json", "seats", "user", "tenant"]).filter(row.__contains__))
    (found,) = by_sql(policy, [{**row, hidden: None}], [hidden])
    if found is not None:
        others = data.draw(st.lists(strategies.values(policy), min_size=6, max_size=6))
        for value in [row[hidden], *(other[hidden] for other in others)]:
            assert analytic(policy, {**row, hidden: value}) == found


def test_a_chain_too_long_for_exact_shares() -> None:
    """With 30 other models the shares are rounded down, and still fit."""
    names = [f"m{n}" for n in range(31)]
    models = "".join(f'model {name} {{ id "{name}" in $1 out $2 }}\n' for name in names)
    policy = policy_from(f"{models}otherwise {{ then {names[0]} fallback {', '.join(names[1:])} }}\nexplore 50% by user")
    chances = Probabilities(policy)
    assert chances.denominator == PARTS * PARTS * FINEST < 2**63
    (found,) = by_sql(policy, [{"user": "u"}])
    assert found is not None and found["m0"] == Fraction(1, 2)
    assert {name: abs(found[name] - Fraction(1, 60)) < Fraction(1, 10**14) for name in names[1:]} == dict.fromkeys(names[1:], True)


def test_the_rule_comes_along() -> None:
    """The deciding rule is a column too: the stratum of an outcome model."""
    policy = policy_from("rule r { when tokens > 5 then b }\notherwise { then a }")
    CONNECTION.execute("CREATE OR REPLACE TABLE two AS SELECT * FROM (VALUES (1), (10)) t(tokens)")
    assert CONNECTION.sql(f"SELECT {RULE} FROM ({Probabilities(policy).over('two')}) ORDER BY tokens").fetchall() == [(1,), (0,)]


@given(st.data())
def test_live_says_the_same_of_the_model_that_it_names(data: st.DataObject) -> None:
    """What the gateway logs beside a decision is the probability that SQL computes for that model."""
    policy = strategies.checked(data.draw(strategies.policy_texts()))
    live = compile_policy(policy)
    row = data.draw(strategies.values(policy))
    values = live.given(row)
    decision = live.decide(values)
    found = model_probability(policy, decision, values, lambda model: live.blocked[model](values))
    if not decision.chain:
        assert found is None
        return
    assert found == pytest.approx(float(analytic(policy, row)[decision.chain[0]]), rel=1e-12)
