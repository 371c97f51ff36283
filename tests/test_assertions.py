"""`assert_route` and the public strategies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyroute.backends.live import compile_policy
from policyroute.language import load
from policyroute.language.policy import ANY_OTHER, Policy
from policyroute.language.reference import decide
from policyroute.prices.catalog import complete, load_catalog
from policyroute.signals.facts import Facts
from policyroute.signals.request import of_body
from policyroute.signals.values import Reader
from policyroute.testing import assert_route
from policyroute.testing.strategies import bodies, constants, requests

ROOT = Path(__file__).parents[1]
SUPPORT = ROOT / "policies" / "support.route"
POLICIES = {path.stem: complete(load(path), load_catalog())[0] for path in sorted((ROOT / "policies").glob("*.route"))}


def test_a_decision_that_holds() -> None:
    assert_route(SUPPORT, "incident", ["sonnet", "gpt_4o"], plan="pro", prompt="Our shop is down")
    assert_route(str(SUPPORT), "legal_wording", prompt="You will hear from my lawyer")
    assert_route(POLICIES["support"], "endless_thread", refused=True, tokens=128_000)
    assert_route(SUPPORT, "incident", given={"prompt has urgent": True}, headers={"x-user-plan": "enterprise"})
    body = {"model": "auto", "messages": [{"role": "user", "content": "What does an invoice cost?"}], "metadata": {"plan": "pro"}}
    assert_route(SUPPORT, "quick_question", ["mini", "flash"], request=body)


def test_a_decision_that_does_not_hold_is_explained() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_route(SUPPORT, "incident", ["sonnet"], plan="free", prompt="Our shop is down")
    told = str(caught.value)
    assert "expected incident -> sonnet" in told and "tried incident" in told and "plan in (pro, enterprise)" in told
    with pytest.raises(AssertionError, match="got      legal_wording -> gpt_4o"):
        assert_route(SUPPORT, "legal_wording", ["sonnet"], prompt="my lawyer")


@pytest.mark.parametrize(
    ("rule", "signals", "said"),
    [
        ("incidnt", {}, "did you mean `incident`"), ("incident", {"plann": "pro"}, "did you mean `plan`"), ("incident", {"plan": "gold"}, "can't be 'gold'"),
        ("incident", {"tokens": -1}, "can't be -1"), ("incident", {"tokens": True}, "can't be True"), ("incident", {"escalated": 1}, "can't be 1"),
        ("incident", {"prompt": 5}, "can't be 5"),
    ],
)  # fmt: skip
def test_mistakes(rule: str, signals: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        assert_route(SUPPORT, rule, **signals)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_strategies_give_requests(name: str, data: st.DataObject) -> None:
    """A value for each signal of the policy, within its type; and the live function decides as the reference does."""
    policy = POLICIES[name]
    values = data.draw(requests(policy))
    assert values.keys() == {signal.name for signal in policy.signals.values() if signal.name not in ("prompt", "last", "system")}
    live = compile_policy(policy)
    assert live.decide(live.given(values)) == decide(policy, values)


def test_thresholds_are_drawn() -> None:
    """Thresholds and their neighbours come up, and every member does."""
    policy, seen = POLICIES["support"], {"last_tokens": set[Any](), "plan": set[Any](), "requested": set[Any]()}

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(requests(policy))
    def draw(values: dict[str, Any]) -> None:
        for name, found in seen.items():
            found.add(values[name])

    draw()
    assert {59, 60, 61, 3_999, 4_000, 4_001} <= set(constants(policy))
    assert len(set(constants(policy)) & seen["last_tokens"]) >= 10 and seen["plan"] == {"free", "pro", "enterprise"}
    assert ANY_OTHER in seen["requested"] and "sonnet" in seen["requested"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_bodies_are_requests(data: st.DataObject) -> None:
    """A body is JSON that the live extraction reads."""
    policy: Policy = data.draw(st.sampled_from(list(POLICIES.values())))
    body = data.draw(bodies(policy))
    values = Reader(policy)(Facts(of_body(json.loads(json.dumps(body)))))
    assert compile_policy(policy, bounds=True).decide(values).rule in [rule.name for rule in policy.rules]
