"""A live request as signal values: places, types, ranges, and that nothing is computed before it is read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from policyroute.backends.live import compile_policy
from policyroute.language import Policy
from policyroute.language.reference import decide
from policyroute.signals import tokens
from policyroute.signals.facts import Facts
from policyroute.signals.values import Reader, Values
from tests.simulate_support import policy_from

DECLARED = """
signal plan  : free | pro = free  from header "X-Plan", metadata "plan", body "account.plan"
signal seats : int 1..100 = 2     from metadata "seats"
signal max_output : int 1..8k = 1k  from metadata "limit"
signal tenant : key               from header "x-tenant"
words urgent = "outage"
words faq    = "invoice"
model a { provider openai  id "gpt-4o"  in $1 out $1 }
model b { provider anthropic  id "claude-x"  in $1 out $1 }
rule short  { when tokens < 50 then b }
rule urgent_ones { when prompt has urgent or last has faq then b }
rule asked  { when requested is b and plan is pro and seats > 5 and max_output > 5 then requested }
rule pilot  { when code then split by tenant { 50% a, 50% b } }
otherwise   { then a }
"""


@pytest.fixture(scope="module")
def policy() -> Policy:
    return policy_from(DECLARED)


@pytest.fixture(scope="module")
def reader(policy: Policy) -> Reader:
    return Reader(policy)


def values(reader: Reader, body: dict[str, Any] | None = None, **headers: str) -> Values:
    return reader(Facts.of_body(body or {}, {name.replace("_", "-"): value for name, value in headers.items()}))


def said(text: str, **body: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **body}


FOUND = [  # body, headers, signal, value
    ({}, {}, "s_plan", "free"),
    ({}, {"X_PLAN": "pro"}, "s_plan", "pro"),
    ({"metadata": {"plan": "pro"}}, {}, "s_plan", "pro"),
    ({"account": {"plan": "pro"}}, {}, "s_plan", "pro"),
    ({"account": "pro"}, {}, "s_plan", "free"),
    ({"metadata": {"plan": "pro"}}, {"x_plan": "free"}, "s_plan", "free"),
    ({"metadata": "pro"}, {}, "s_plan", "free"),
    ({}, {}, "s_seats", 2),
    ({"metadata": {"seats": 7}}, {}, "s_seats", 7),
    ({"metadata": {"seats": "7"}}, {}, "s_seats", 7),
    ({"max_tokens": 300}, {}, "s_max_output", 300),
    ({"max_tokens": 300, "metadata": {"limit": 40}}, {}, "s_max_output", 40),
    ({"max_tokens": 90_000}, {}, "s_max_output", 8_000),
    ({}, {}, "s_max_output", 1_000),
    ({}, {"x_tenant": "t"}, "s_tenant", "t"),
    ({}, {}, "s_tenant", ""),
    ({"model": "claude-x"}, {}, "s_requested", "b"),
    ({"model": "anthropic/claude-x"}, {}, "s_requested", "b"),
    ({"model": "gpt-5"}, {}, "s_requested", "*"),
    ({}, {}, "s_requested", "*"),
    (said("an OUTAGE"), {}, "s_prompt_HAS_urgent", True),
    (said("outages"), {}, "s_prompt_HAS_urgent", False),
    ({}, {}, "s_prompt_HAS_urgent", False),
    (said("my invoice"), {}, "s_last_HAS_faq", True),
    (said("hello"), {}, "s_tools", 0),
    (said("hello"), {}, "s_stream", False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "headers", "name", "wanted"), FOUND, ids=[f"{number}-{row[2]}" for number, row in enumerate(FOUND)]
)
def test_value(reader: Reader, body: dict[str, Any], headers: dict[str, str], name: str, wanted: Any) -> None:
    found = getattr(values(reader, body, **headers), name)
    assert (found, type(found)) == (wanted, type(wanted))


ODD = [  # metadata, signal, value that is taken
    ({"seats": 0}, "seats", 1), ({"seats": 101}, "seats", 100), ({"seats": "--5"}, "seats", 2), ({"seats": "-"}, "seats", 2),
    ({"seats": "9" * 5_000}, "seats", 2), ({"seats": 10**5_000}, "seats", 100), ({"seats": True}, "seats", 2), ({"seats": [1]}, "seats", 2),
    ({"seats": float("nan")}, "seats", 2), ({"seats": 1e300}, "seats", 2), ({"plan": "gold"}, "plan", "free"), ({"plan": {}}, "plan", "free"),
    ({"plan": ["pro"]}, "plan", "free"), ({"limit": 10**6}, "max_output", 8_000),
]  # fmt: skip


@pytest.mark.parametrize(("metadata", "name", "taken"), ODD, ids=[f"{number}-{row[1]}" for number, row in enumerate(ODD)])
def test_what_lies_outside_the_type_is_counted(reader: Reader, metadata: dict[str, Any], name: str, taken: Any) -> None:
    found = values(reader, {"metadata": metadata})
    assert getattr(found, f"s_{name}") == taken
    assert found.odd == {name}


def test_what_fits_or_is_missing_is_not_odd(reader: Reader) -> None:
    found = values(reader, said("hello", metadata={"plan": "pro", "seats": 3}))
    assert (found.s_plan, found.s_seats, found.s_tenant, found.s_tokens > 0) == ("pro", 3, "", True)
    assert found.odd == set()


def test_unknown_attributes_are_attribute_errors(reader: Reader) -> None:
    with pytest.raises(AttributeError, match="s_nothing"):
        _ = values(reader).s_nothing


def test_a_value_is_computed_once(reader: Reader) -> None:
    found = values(reader, said("hello outage"))
    assert found.s_prompt_HAS_urgent
    assert found.__dict__["s_prompt_HAS_urgent"] is True


def test_bounds_spare_the_count(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt far above the threshold is decided by its length; one near it is counted."""
    counted: list[str] = []
    real = tokens.counted
    monkeypatch.setattr(tokens, "counted", lambda text: counted.append(text) or real(text))
    reader, live = Reader(policy), compile_policy(policy, bounds=True)
    assert live.decide(values(reader, said("word " * 5_000))).rule == "otherwise"
    assert counted == []
    assert live.decide(values(reader, said("word " * 30))).rule == "short"
    assert counted


def test_a_stated_number_is_not_bounded_by_the_text() -> None:
    """`tokens` from metadata is what the caller says, with bounds as without."""
    policy = policy_from(
        'signal tokens : int 0..1M = 0  from metadata "n"\nmodel a { id "gpt-4o" }\nrule short { when tokens < 50 then a }\notherwise { then a }'
    )
    body = said("word " * 5_000, metadata={"n": 10})
    decided = [compile_policy(policy, bounds=bounds).decide(values(Reader(policy), body)).rule for bounds in (False, True)]
    assert decided == ["short", "short"]


BODIES = [
    {}, said("hello"), said("word " * 60), said("outage " + "word " * 60), said("invoice " + "word " * 60),
    said("word " * 60, model="claude-x", metadata={"plan": "pro", "seats": 9}), said("```\ncode\n``` " + "word " * 60, metadata={}),
    said("word " * 43), said("word " * 44), said("word " * 45), {"messages": "no list"}, {"messages": [3, None, {"role": "user"}]},
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_body_is_decided_as_the_reference_decides_its_values(policy: Policy, reader: Reader, body: dict[str, Any]) -> None:
    exact = values(reader, body)
    read = {
        signal.name: getattr(exact, signal.identifier)
        for signal in policy.signals.values()
        if signal.name not in ("prompt", "last", "system")
    }
    wanted = decide(policy, read)
    assert compile_policy(policy).decide(values(reader, body)) == wanted
    assert compile_policy(policy, bounds=True).decide(values(reader, body)) == wanted


def test_a_reader_serves_threads(policy: Policy, reader: Reader) -> None:
    live = compile_policy(policy, bounds=True)
    wanted = [live.decide(values(reader, body)) for body in BODIES]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda body: live.decide(values(reader, body)), BODIES * 20)) == wanted * 20
