"""The values of a live request: what is read, how it is held to its type, and that bounds decide nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from policyroute.backends.live import compile_policy
from policyroute.language import check_text
from policyroute.language.policy import Policy
from policyroute.signals.facts import Facts
from policyroute.signals.values import Reader

POLICY = """edition 1
policy values
signal plan       : free | pro = free      from header "X-Plan", metadata "plan", body "extra.plan"
signal seats      : int 1..100 = 5         from header "x-seats"
signal beta       : bool                   from metadata "beta"
signal tokens_low : int 0..10 = 3          from metadata "low"
signal tenant     : key                    from header "x-tenant"
words urgent = "outage"
words legal  = "lawyer"
pattern number = /\\d{4}/
model mini   { provider a id "mini-1" in $1 out $1 context 8k }
model strong { provider a id "strong-1" in $2 out $2 }
rule asked  { when requested is strong and tokens_low >= 0 and seats >= 0 and beta then strong }
rule urgent { when prompt has urgent and last has legal and not prompt has number and plan is pro then strong }
rule long   { when tokens > 100 and last_tokens < 5000 and max_output > 10 then mini fallback strong }
otherwise   { then split by tenant { 50% mini, 50% strong } }
"""


def made() -> Policy:
    checked = check_text(POLICY)
    assert not checked.failed, checked.diagnostics
    return checked.policy


def body(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


# headers, body, signal, value, whether it was odd
READ = [
    ({}, body(), "plan", "free", False),
    ({"x-plan": "pro"}, body(), "plan", "pro", False),
    ({"X-PLAN": "pro"}, body(metadata={"plan": "free"}), "plan", "pro", False),
    ({}, body(metadata={"plan": "pro"}), "plan", "pro", False),
    ({}, body(extra={"plan": "pro"}), "plan", "pro", False),
    ({}, body(extra="pro"), "plan", "free", False),
    ({"x-plan": "gold"}, body(), "plan", "free", True),
    ({}, body(metadata={"plan": ["pro"]}), "plan", "free", True),
    ({}, body(), "seats", 5, False),
    ({"x-seats": "7"}, body(), "seats", 7, False),
    ({"x-seats": "-7"}, body(), "seats", 1, True),
    ({"x-seats": "700"}, body(), "seats", 100, True),
    ({"x-seats": "seven"}, body(), "seats", 5, True),
    ({}, body(metadata={"beta": True}), "beta", True, False),
    ({}, body(metadata={"beta": "yes"}), "beta", True, False),
    ({}, body(metadata={"beta": 3}), "beta", False, True),
    ({}, body(metadata={"low": True}), "tokens_low", 3, True),
    ({"x-tenant": "t"}, body(), "tenant", "t", False),
    ({}, body(), "tenant", "", False),
    ({}, body(model="strong-1"), "requested", "strong", False),
    ({}, body(model="a/mini-1"), "requested", "mini", False),
    ({}, body("an OUTAGE"), "prompt has urgent", True, False),
    ({}, body("an OUTAGE"), "prompt has number", False, False),
    ({}, body("outage 1234, my lawyer"), "last has legal", True, False),
    ({}, body(max_tokens=20), "max_output", 20, False),
    ({}, body(max_tokens=9_000_000), "max_output", 1_000_000, True),
]


@pytest.mark.parametrize(("headers", "request_body", "signal", "value", "odd"), READ)
def test_read(headers: dict[str, str], request_body: dict[str, Any], signal: str, value: object, odd: bool) -> None:
    policy = made()
    values = Reader(policy)(Facts.of_body(request_body, headers))
    identifier = policy.signals[signal].identifier
    assert getattr(values, identifier) == value
    assert type(getattr(values, identifier)) is type(value)
    assert (signal in values.odd) is odd


def test_each_scan_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One reading of a text's set settles all sets of that text, and texts that aren't asked about aren't scanned."""
    from policyroute.signals.text import Scanner

    scanned: list[str] = []
    whole = Scanner.mask
    policy = made()
    reader = Reader(policy)
    monkeypatch.setattr(Scanner, "mask", lambda self, text: scanned.append(text) or whole(self, text))
    values = reader(Facts.of_body(body("an outage")))
    assert values.s_prompt_HAS_urgent and not values.s_prompt_HAS_number and values.s_prompt_HAS_urgent
    assert scanned == ["an outage"]


def test_a_signal_named_like_a_bound_is_none() -> None:
    """`tokens_low` is a user's name; the bound of `tokens` is another attribute."""
    values = Reader(made())(Facts.of_body(body("word " * 300, metadata={"low": 2})))
    assert values.s_tokens_low == 2
    assert values.s_tokens_LOW < values.s_tokens < values.s_tokens_HIGH


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError):
        _ = Reader(made())(Facts.of_body(body())).s_nothing


@pytest.mark.parametrize("text", ["hello", "an outage, my lawyer says", "word " * 90, "word " * 105, "word " * 9_000])
@pytest.mark.parametrize("extra", [{}, {"metadata": {"beta": True}, "model": "strong"}, {"metadata": {"plan": "pro"}}])
def test_bounds_change_no_decision(text: str, extra: dict[str, Any]) -> None:
    policy = made()
    reader = Reader(policy)
    exact, bounded = compile_policy(policy), compile_policy(policy, bounds=True)
    facts = Facts.of_body(body(text, **extra), {"x-tenant": "t"})
    assert exact.decide(reader(facts)) == bounded.decide(reader(facts))
