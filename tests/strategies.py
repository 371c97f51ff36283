"""Generated policies and requests, heavy on boundaries. A policy is generated as text, so that parser and checker run too."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from policyroute.language import Policy, check_text
from policyroute.testing.strategies import constants
from policyroute.testing.strategies import requests as values

DECLARED = """edition 1
policy generated
signal plan    : free | pro | enterprise = free  from header "x-plan"
signal feature : (search | draft)?               from metadata "feature"
signal seats   : int 0..10k = 1                  from metadata "seats"
signal max_output : int 1..64k = 1k
signal tenant  : key                             from header "x-tenant"
words urgent = "outage"
words faq    = "opening hours", "invoice"
pattern trace = /(?i)traceback/
tunable short : int 50..2k = 500
let long = tokens > 3k
let busy = steps >= 2 and tool in (grep, read_file)
"""

__all__ = ["checked", "conditions", "constants", "policies", "policy_texts", "values"]

INTS = ("tokens", "last_tokens", "max_output", "turns", "steps", "tools", "hour", "seats")
BOOLS = ("tool_failed", "images", "json", "stream", "code", "escalated")
TEXTS = ("prompt", "last", "system")
SETS = ("urgent", "faq", "trace")
KEYS = ("user", "team", "conversation", "tenant")
MODELS = ("a", "b", "c", "d")
TIERS = ("low", "high")

numbers = st.sampled_from(["0", "1", "2", "499", "500", "3k", "32k", "128k", "1M"]) | st.integers(0, 70_000).map(str)


@st.composite
def int_terms(draw: Any) -> str:
    one = st.sampled_from(INTS)
    form = draw(st.integers(0, 4))
    if form <= 1:
        return str(draw(one))
    if form == 2:
        return f"{draw(one)} + {draw(one)}"
    if form == 3:
        return f"{draw(one)} - {draw(one)}"
    return f"{draw(st.integers(0, 5))} * {draw(one)} + {draw(numbers)}"


@st.composite
def comparisons(draw: Any) -> str:
    right = draw(numbers | st.just("short") | int_terms())
    return f"{draw(int_terms())} {draw(st.sampled_from(['<', '<=', '>', '>=', '==', '!=']))} {right}"


enum_tests = st.sampled_from([
    "plan is free", "plan is not pro", "plan in (pro, enterprise)", "plan not in (free, pro)", "feature is search",
    "feature is missing", "feature not in (search, missing)", "(feature is not draft or feature is missing)",
    "tool is none", "tool in (grep, edit)", "tool not in (none, grep)", "requested is a", "requested not in (b, c)", "weekday in (sat, sun)",
])  # fmt: skip
text_tests = st.tuples(st.sampled_from(TEXTS), st.sampled_from(["has", "not has"]), st.sampled_from(SETS)).map(" ".join)
atoms = comparisons() | enum_tests | text_tests | st.sampled_from([*BOOLS, "long", "busy"])


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    both = st.lists(inner, min_size=2, max_size=3)
    return (
        both.map(lambda parts: f"({' and '.join(parts)})")
        | both.map(lambda parts: f"({' or '.join(parts)})")
        | atoms.map(lambda a: f"not ({a})").filter(lambda text: "feature" not in text)
    )


conditions = st.recursive(atoms, _joined, max_leaves=6)
names = st.sampled_from([*MODELS, *TIERS, "requested"])


@st.composite
def targets(draw: Any) -> str:
    form = draw(st.integers(0, 9))
    if form == 0:
        return 'refuse "no"'
    if form <= 3:
        cut = draw(st.integers(1, 9_999))
        first, second = (f"{share // 100}.{share % 100:02d}%" for share in (cut, 10_000 - cut))
        return f"split by {draw(st.sampled_from(KEYS))} {{ {first} {draw(names)}, {second} {draw(names)} }}"
    if form <= 6:
        return f"{draw(names)} fallback {', '.join(draw(st.lists(names, min_size=1, max_size=3)))}"
    return str(draw(names))


@st.composite
def models(draw: Any, name: str) -> str:
    context = draw(st.sampled_from(["", "context 8k", "context 32k", "context 128k"]))
    can = draw(st.sampled_from(["", "can tools", "can tools, images, json", "can json"]))
    return f'model {name} {{ id "id-{name}" in $1 out $2 {context} {can} }}'


@st.composite
def policy_texts(draw: Any) -> str:
    lines = [DECLARED, *(draw(models(name)) for name in MODELS)]
    lines += [f"tier low = {draw(st.sampled_from(['a, b', 'b']))}", f"tier high = {draw(st.sampled_from(['c, a', 'd, c, b']))}"]
    for _ in range(draw(st.integers(0, 2))):
        when = draw(st.just("") | conditions.map(lambda c: f"when {c}"))
        lines.append(f"forbid {draw(st.sampled_from(['a', 'low', 'c, d']))} {when}")
    for number in range(draw(st.integers(1, 5))):
        shadow = "shadow " if draw(st.integers(0, 5)) == 0 else ""
        lines.append(f"{shadow}rule r{number} {{ when {draw(conditions)} then {draw(targets())} }}")
    lines.append(f"otherwise {{ then {draw(targets())} }}")
    if draw(st.booleans()):
        lines.append(f"explore {draw(st.sampled_from(['1%', '30%', '100%']))} by {draw(st.sampled_from(KEYS))}")
    return "\n".join(lines) + "\n"


def checked(text: str) -> Policy:
    """The policy of a generated text; any diagnostic is a fault of the generator or the checker."""
    found = check_text(text)
    assert not found.diagnostics, (text, found.diagnostics)
    return found.policy


policies = policy_texts().map(checked)
