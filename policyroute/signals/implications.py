"""What one match says of another: where a phrase lies within a phrase, and a message within all messages.

Sound, not complete: a set of phrases implies another one where each of its phrases holds one of the other's as whole words.
Of patterns nothing is said, because their anchors see the ends of a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policyroute.language.policy import Apply, Expression, Policy, Read, Signal
from policyroute.signals.text import Scanner

WITHIN = {"last": "prompt", "system": "prompt"}  # a text that is a part of another one


def implications(policy: Policy) -> tuple[Expression, ...]:
    """Conditions that hold for every request, whatever it says: `not (last has a) or prompt has b`.

    Solvers take them as given, so that no finding rests on texts that can't be.
    """
    matches = [signal for signal in policy.signals.values() if signal.kind == "match"]
    held = _held(policy, [signal.words for signal in matches])
    return tuple(
        Apply("or", (Apply("not", (Read(one.name),)), Read(other.name)))
        for one in matches
        for other in matches
        if one != other and _reaches(one, other) and other.words in held.get(one.words, ())
    )


def _reaches(one: Signal, other: Signal) -> bool:
    return other.text in (one.text, WITHIN.get(one.text))


def _held(policy: Policy, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """For each set of phrases: the sets of phrases that occur in each of its phrases, itself included."""
    sets = tuple(policy.texts[name] for name in dict.fromkeys(names) if policy.texts[name].phrases)
    if not sets:
        return {}
    scanner = Scanner(sets)

    def common(phrases: Sequence[str]) -> Iterator[str]:
        masks = [scanner.mask(phrase) for phrase in phrases]
        return (text_set.name for bit, text_set in enumerate(sets) if all(mask >> bit & 1 for mask in masks))

    return {text_set.name: frozenset((text_set.name, *common(text_set.phrases))) for text_set in sets}
