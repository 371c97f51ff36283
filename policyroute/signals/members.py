"""What an enum's value can be, as far as a policy can tell the values apart."""

from __future__ import annotations

from policyroute.language.policy import ANY_OTHER, REQUESTED, EnumType, Signal

ANOTHER = "another_one"  # a member that no policy names, for an open enum


def members(signal: Signal) -> tuple[str, ...]:
    """The members of an enum signal; an open one has one more, that stands for every member which the policy doesn't name."""
    assert isinstance(signal.type, EnumType)
    return tuple(dict.fromkeys((*signal.type.all, *([other(signal)] if signal.type.open else []))))


def other(signal: Signal) -> str:
    """The value that stands for every member which the policy doesn't name."""
    return ANY_OTHER if signal.name == REQUESTED else ANOTHER
