"""A request with the same property and as little in it as possible: defaults where they do, else small numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from policyroute.language.policy import IntType, Policy, Value

Holds = Callable[[Mapping[str, Value]], bool]


def shrunk(policy: Policy, values: Mapping[str, Value], holds: Holds) -> dict[str, Value]:
    """`values` with each signal at its default, or as small as it can be while `holds` stays true; texts and keys as they are.

    Local: from here no single signal can be made simpler. `holds(values)` has to be true.
    """
    found = dict(values)
    plain = {name: policy.signals[name].default for name in found}
    if holds(plain):
        return plain
    _one_number(policy, found, holds)
    for name in _reset(found, plain, [name for name in found if found[name] != plain[name]], holds):
        _smaller(policy, found, name, holds)
    return found


def _reset(values: dict[str, Value], plain: Mapping[str, Value], names: Sequence[str], holds: Holds) -> list[str]:
    """Set as many of `names` to their defaults as can be, whole halves at once where that does; those that can't are left."""
    if not names:
        return []
    if holds({**values, **{name: plain[name] for name in names}}):
        values.update((name, plain[name]) for name in names)
        return []
    if len(names) == 1:
        return list(names)
    middle = len(names) // 2
    return [*_reset(values, plain, names[:middle], holds), *_reset(values, plain, names[middle:], holds)]


def _one_number(policy: Policy, values: dict[str, Value], holds: Holds) -> None:
    """Where one large number does what several together do, only that one: `tokens 200k`, and `max_output` as it is by default."""
    types = {name: policy.signals[name].type for name in values}
    numbers = {name: type_ for name, type_ in types.items() if isinstance(type_, IntType)}
    defaults = {name: policy.signals[name].default for name in numbers}
    moved = {name: int(values[name]) - int(defaults[name]) for name in numbers}
    for name in numbers:
        together = int(defaults[name]) + sum(moved.values())  # of a sum, what all its numbers are above their defaults
        for number in (max(numbers[name].low, min(together, numbers[name].high)), numbers[name].high):
            tried = {**values, **defaults, name: number}
            if moved[name] and holds(tried):
                values.update(tried)
                return


def _kept(values: dict[str, Value], name: str, value: Value, holds: Holds) -> bool:
    """Whether the signal can take `value`; it does if so."""
    before, values[name] = values[name], value
    if holds(values):
        return True
    values[name] = before
    return False


def _smaller(policy: Policy, values: dict[str, Value], name: str, holds: Holds) -> None:
    """A number nearer to its default, by halving the distance: right for one threshold, and good enough for several."""
    signal = policy.signals[name]
    if not isinstance(signal.type, IntType):
        return
    far, near = int(values[name]), int(signal.default)
    while abs(far - near) > 1:
        middle = (far + near) // 2
        if _kept(values, name, middle, holds):
            far = middle
        else:
            near = middle
