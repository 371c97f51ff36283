"""What becomes of a decision and of state: pure functions of whole numbers, which the server's stores and the replay share.

The order is the language's: the rule decides; `sticky` may hold or raise; quotas and budgets may lower; limits and abilities have
had their word on whatever is chosen, because only usable models are ever chosen.

- Models and tiers are numbers: places in the policy's `models` and in its `order`. `NONE` is no model, and a tier without a rank.
- Times are microseconds since 1970, amounts are requests or picodollars.
- State is in the order of the transitions. A request may come with an older time than one before it (clocks differ): it counts in
  the window of its own time, and takes no conversation back.
- A quota or budget acts at most once on a request. Where one lowers it to models that another one covers, that one is asked too.
- What is counted is what is chosen in the end. A budget reserves what the first model costs at most; `settled` puts the real cost
  in the reservation's place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from policyroute.language.policy import REQUESTED, Chain, Policy, Refuse, Route
from policyroute.language.statements import StickyMode

NONE = -1
PLAIN, TIER, KEPT, OVER = range(4)  # where a choice comes from: the rule, the last tier, the last model, a used-up limit's target


class Last(NamedTuple):
    """A conversation's last decision: its tier, its model, its time, and until when the provider keeps the prompt's prefix."""

    tier: int
    model: int
    at: int
    warm: int = 0


class Choices(Protocol):
    """What one request can be given. Each answer is asked for only where it is needed."""

    @property
    def model(self) -> int:
        """The first model of the rule's own decision, NONE where none is left."""
        ...

    @property
    def tier(self) -> int:
        """That decision's tier."""
        ...

    @property
    def guards(self) -> Sequence[int]:
        """The places of the quotas and budgets whose condition holds."""
        ...

    def of_tier(self, tier: int) -> int:
        """The first usable model of a tier, or NONE."""
        ...

    def usable(self, model: int) -> bool:
        """Whether limits and abilities let the request have a model."""
        ...

    def beyond(self, place: int) -> int:
        """The first usable model of the target of a used-up quota or budget; NONE where none is left or it refuses."""
        ...

    def wanted(self, place: int, model: int) -> int | None:
        """What the request takes of a quota or budget with this model; None where that can't be known."""
        ...

    def warm(self, model: int) -> int:
        """Until when the model's provider keeps this prompt's prefix."""
        ...


class Outcome(NamedTuple):
    """What a request is given: its first model and tier, where that choice comes from (`place` is that of the limit), which limits
    acted in order, whether `sticky` did, what is taken of each quota and budget, and what the conversation's last decision is now
    (None: as before)."""

    source: int
    model: int
    tier: int
    place: int
    held: bool
    acted: tuple[int, ...]
    taken: tuple[tuple[int, int], ...]
    last: Last | None


@dataclass(frozen=True, slots=True)
class Allowed:
    """A quota or budget in numbers; `of` has a bit for each model that it covers, `tiers` the target's tier by its first model."""

    amount: int
    of: int
    tiers: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Transitions:
    """A policy's transitions. `lifetime` is in microseconds."""

    mode: StickyMode | None
    lifetime: int
    allowed: tuple[Allowed, ...]

    def next(self, choices: Choices, at: int, last: Last | None, used: Mapping[int, int]) -> Outcome:
        """What a request of the time `at` is given, whose rule doesn't refuse; `used` is by the place of each guard."""
        source, model, tier, place = PLAIN, choices.model, choices.tier, NONE
        alive = last is not None and at - last.at <= self.lifetime
        if alive and last is not None:
            holding = held(self.mode, last, tier, at)
            if holding == TIER and (raised := choices.of_tier(last.tier)) != NONE:
                source, model, tier = TIER, raised, last.tier
            elif holding == KEPT and last.model != model and choices.usable(last.model):
                source, model, tier = KEPT, last.model, last.tier
        was_held = source != PLAIN
        acted: tuple[int, ...] = ()
        while model != NONE and (full := self._full(choices, model, used, acted)) != NONE:
            acted += (full,)
            source, place, model = OVER, full, choices.beyond(full)
            tier = self.allowed[full].tiers.get(model, NONE)
        if model == NONE:
            return Outcome(source, model, tier, place, was_held, acted, (), None)
        taken = tuple(
            (guard, wanted)
            for guard in choices.guards
            if self.allowed[guard].of >> model & 1 and (wanted := choices.wanted(guard, model)) is not None
        )
        new = None if self.mode is None else remembered(last if alive else None, tier, model, at, choices.warm(model))
        return Outcome(source, model, tier, place, was_held, acted, taken, new)

    def _full(self, choices: Choices, model: int, used: Mapping[int, int], acted: tuple[int, ...]) -> int:
        """The first quota or budget that covers the model and has no room for the request, or NONE."""
        for guard in choices.guards:
            allowed = self.allowed[guard]
            if guard in acted or not allowed.of >> model & 1:
                continue
            wanted = choices.wanted(guard, model)
            if wanted is None or not fits(used[guard], wanted, allowed.amount):
                return guard
        return NONE


# -- sticky --------------------------------------------------------------------------------------------------------


def held(mode: StickyMode | None, last: Last, tier: int, at: int) -> int:
    """What `sticky` makes of a decision for `tier`, within the lifetime of the last one: TIER, KEPT, or PLAIN for nothing."""
    match mode:
        case "never downgrade":
            return TIER if NONE != tier < last.tier else PLAIN
        case "keep model":
            return KEPT
        case "keep while cached":
            return KEPT if at <= last.warm and last.tier >= tier else PLAIN
        case _:
            return PLAIN


def remembered(last: Last | None, tier: int, model: int, at: int, warm: int) -> Last:
    """A conversation's last decision after another one; `last` is the one before, None where its lifetime is over."""
    if last is None:
        return Last(tier, model, at, warm)
    return Last(tier if tier != NONE else last.tier, model, max(at, last.at), warm)


# -- quota and budget ----------------------------------------------------------------------------------------------


def fits(used: int, wanted: int, amount: int) -> bool:
    """Whether what is wanted is still there."""
    return used + wanted <= amount


def taken(used: int, wanted: int) -> int:
    """What is used once it was taken."""
    return used + wanted


def settled(used: int, reserved: int, cost: int | None) -> int:
    """What is used once the cost is known in place of what was reserved; None is not known, and the reservation stands."""
    return used if cost is None else used + cost - reserved


# -- a policy's numbers --------------------------------------------------------------------------------------------


def transitions(policy: Policy) -> Transitions:
    """The transitions of a checked policy."""
    numbers = {name: number for number, name in enumerate(policy.models)}
    allowed = tuple(
        Allowed(one.amount, sum(1 << numbers[model] for model in one.of or policy.models), _target_tiers(policy, one.target))
        for one in policy.allowances
    )
    sticky = policy.sticky
    return Transitions(sticky.mode if sticky else None, sticky.lifetime * 1_000 if sticky else 0, allowed)


def tier_of(policy: Policy, route: Route, model: str) -> int:
    """The place in `order` of a decision: of the tier that the route names, else of the lowest ranked one that holds its first model."""
    if route.tier in policy.order:
        return policy.order.index(route.tier)
    return next((place for place, tier in enumerate(policy.order) if model in policy.tiers[tier]), NONE)


def stateful(policy: Policy) -> bool:
    """Whether what a request is given depends on earlier ones."""
    return bool(policy.sticky or policy.allowances)


def _target_tiers(policy: Policy, target: object) -> dict[int, int]:
    if isinstance(target, Refuse) or not isinstance(target, Route):
        return {}
    names: Chain = tuple(policy.models) if REQUESTED in target.chain else target.chain
    return {number: tier_of(policy, target, name) for number, name in enumerate(policy.models) if name in names}
