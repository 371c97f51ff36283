"""Hypothesis strategies for the requests of a policy: what property tests of a policy are made of.

    from hypothesis import given
    from policyroute.language import load
    from policyroute.language.reference import decide
    from policyroute.testing.strategies import requests

    policy = load("policies/support.route")

    @given(requests(policy))
    def test_free_users_never_get_sonnet(request):
        if request["plan"] == "free" and not request["escalated"]:
            assert "sonnet" not in decide(policy, request).chain

Values lie on the boundaries more often than chance would have it: a policy's thresholds and one beside them, ends of ranges, every
member, keys and no key. Needs the package hypothesis (extra `testing`).
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from policyroute.language.limits import blocked
from policyroute.language.policy import (
    ANY_OTHER,
    Apply,
    BoolType,
    EnumType,
    Expression,
    IntType,
    Literal,
    Policy,
    Signal,
    TextType,
    Value,
)
from policyroute.signals.members import other

FAR = 300_000  # numbers beyond are only drawn as ends and thresholds
KEYS = ("", "u1", "u2", "ünï", "a'b")


def constants(policy: Policy) -> list[int]:
    """The numbers at which the policy's decisions can change, with their neighbours, in order."""
    found: set[int] = set()

    def visit(node: Expression) -> None:
        match node:
            case Literal(value) if isinstance(value, int) and not isinstance(value, bool):
                found.update((value - 1, value, value + 1, value - 1_000, value // 2))
            case Apply(_, arguments):
                for argument in arguments:
                    visit(argument)

    conditions = [rule.condition for rule in policy.rules] + [blocked(policy, model) for model in policy.models]
    conditions += [guarantee.condition for guarantee in policy.guarantees]
    for condition in conditions:
        visit(condition)
    return sorted(found)


def requests(policy: Policy) -> st.SearchStrategy[dict[str, Value]]:
    """Requests as signal values: one for each signal that is no text, matches (`prompt has urgent`) included, each on its own.

    So a request may say that its last message holds a phrase that its prompt doesn't: decisions have to be right for those too.
    """
    edges = constants(policy)
    signals = {name: signal for name, signal in policy.signals.items() if not isinstance(signal.type, TextType)}
    return st.fixed_dictionaries({name: _value(signal, edges) for name, signal in signals.items()})


def _value(signal: Signal, edges: list[int]) -> st.SearchStrategy[Value]:
    match signal.type:
        case IntType(low, high):
            inside = [edge for edge in edges if low <= edge <= high]
            return st.sampled_from([low, high, int(signal.default), *inside]) | st.integers(low, max(low, min(high, FAR)))
        case BoolType():
            return st.booleans()
        case EnumType() as type_:
            return st.sampled_from([*type_.all, *([other(signal)] if type_.open else [])])
        case _:
            return st.sampled_from(KEYS) | st.integers(0, 10**6).map(lambda number: f"user-{number}")


def bodies(policy: Policy) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies of chat requests: messages that hold some of the policy's phrases, and the fields that signals are read from."""
    phrases = sorted({phrase for text in policy.texts.values() for phrase in text.phrases}) or ["hello"]
    words = st.lists(st.sampled_from(phrases) | st.text(max_size=20), max_size=4).map(" ".join)
    message = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": words})
    models = st.sampled_from([*policy.models, *(model.id for model in policy.models.values()), "auto", ANY_OTHER])
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    metadata = {place.name for signal in policy.signals.values() for place in signal.places if place.kind == "metadata"}
    members = sorted(
        {str(member) for signal in policy.signals.values() if isinstance(signal.type, EnumType) for member in signal.type.all}
    )
    return st.fixed_dictionaries(
        {"model": models, "messages": st.lists(message, min_size=1, max_size=5)},
        optional={
            "max_tokens": st.integers(1, 20_000),
            "stream": st.booleans(),
            "tools": st.lists(st.just(tool), max_size=2),
            "response_format": st.just({"type": "json_object"}),
            "metadata": st.dictionaries(st.sampled_from(sorted(metadata) or ["trace"]), st.sampled_from([*members, "?"])),
        },
    )
