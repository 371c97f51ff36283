"""A checked policy: the one value that every reading (reference, live, SQL, solver) is made from.

Rules for whoever edits this file: everything here is an immutable value; expressions have three node kinds and no more
(new syntax is lowered to them in the checker); nothing here knows how a value is extracted or how a decision is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal as OneOf

from policyroute.language.source import Span
from policyroute.language.statements import (
    Allowance,
    Classifier,
    Construct,
    Escalation,
    Gate,
    OnFailure,
    OnStreamFailure,
    Sticky,
)  # fmt: skip

# -- types ---------------------------------------------------------------------------------------------------------

MISSING = "missing"  # the member that an optional enum has on top of its own
NONE = "none"  # the member of an open enum for "there is none"
ANY_OTHER = "*"  # what `requested` is when no declared model matches; can't be written in a policy


@dataclass(frozen=True, slots=True)
class IntType:
    """Whole numbers from `low` to `high`, both included; a value beyond is clamped."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class BoolType:
    """True or false."""


@dataclass(frozen=True, slots=True)
class EnumType:
    """One of `members`. `optional` adds the member `missing`; `open` lets values in that the policy doesn't name."""

    members: tuple[str, ...]
    optional: bool = False
    open: bool = False

    @property
    def all(self) -> tuple[str, ...]:
        """The members, `missing` included where it can occur."""
        return (*self.members, MISSING) if self.optional else self.members


@dataclass(frozen=True, slots=True)
class KeyType:
    """A string that is only hashed, partitioned by or reported; the empty string means that there is none."""


@dataclass(frozen=True, slots=True)
class TextType:
    """Text that is only tested with `has`."""


Type = IntType | BoolType | EnumType | KeyType | TextType
Value = int | bool | str


# -- expressions: three node kinds, nothing else -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant. `tunable` names the threshold it came from, for `tune` and for reports."""

    value: Value
    span: Span = field(compare=False, default=Span.NONE)
    tunable: str = field(compare=False, default="")


@dataclass(frozen=True, slots=True)
class Read:
    """The value of a signal."""

    signal: str
    span: Span = field(compare=False, default=Span.NONE)


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator of the vocabulary on its arguments."""

    operator: str
    arguments: tuple[Expression, ...]
    span: Span = field(compare=False, default=Span.NONE)


Expression = Literal | Read | Apply

TRUE = Literal(True)
FALSE = Literal(False)


def reads(expression: Expression) -> Iterator[str]:
    """Names of the signals that `expression` reads, in order, repeated where they are."""
    match expression:
        case Read(signal):
            yield signal
        case Apply(_, arguments):
            for argument in arguments:
                yield from reads(argument)


# -- signals -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where a declared signal's value is found: `kind` is header, metadata, body or column."""

    kind: OneOf["header", "metadata", "body", "column"]
    name: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that a condition can read.

    `kind` says where the value comes from: a row of the vocabulary, a declaration of the policy, one scan of a text for
    one word set (`match`), or a classifier's answer.
    """

    name: str
    type: Type
    default: Value
    kind: OneOf["builtin", "declared", "match", "classifier"]
    places: tuple[Place, ...] = ()
    text: str = ""  # of a match: which text is scanned
    words: str = ""  # of a match: for which set
    span: Span = field(compare=False, default=Span.NONE)

    @property
    def identifier(self) -> str:
        """The name as a Python attribute; names are lower-case, so `HAS` can't collide."""
        return "s_" + self.name.replace(" has ", "_HAS_")


@dataclass(frozen=True, slots=True)
class TextSet:
    """A named set of phrases, or one RE2 pattern: one boolean for each text that is tested with it."""

    name: str
    phrases: tuple[str, ...] = ()
    pattern: str = ""
    span: Span = field(compare=False, default=Span.NONE)


@dataclass(frozen=True, slots=True)
class Tunable:
    """A named threshold with the range in which `tune` may move it."""

    name: str
    type: IntType
    value: int
    span: Span = field(compare=False, default=Span.NONE)


# -- models --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """Prices in picodollars per token ($1 per million tokens is 1,000,000), valid from `since` (UTC) on."""

    since: date | None
    input: int
    output: int
    cached: int | None = None
    write: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be called. Without `rates` and `context` the price library is asked by `id`."""

    name: str
    id: str
    provider: str | None = None
    url: str | None = None
    rates: tuple[Rate, ...] = ()
    context: int | None = None
    can: frozenset[str] | None = None
    span: Span = field(compare=False, default=Span.NONE)


REQUESTED = "requested"  # a chain's place for the model that the caller asked for

Chain = tuple[str, ...]


# -- rules ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """Send the request down `chain`; `tier` is the tier's name where the target is one."""

    chain: Chain
    tier: str = ""
    span: Span = field(compare=False, default=Span.NONE)


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of a split: `share` in parts of ten thousand."""

    share: int
    route: Route


@dataclass(frozen=True, slots=True)
class Split:
    """Divide requests by the hash of `key`."""

    key: str
    arms: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with `message` and call no model."""

    message: str


Target = Route | Split | Refuse


@dataclass(frozen=True, slots=True)
class Rule:
    """First match wins. A shadow rule is evaluated and reported, never served. The last one is `otherwise`."""

    name: str
    condition: Expression
    target: Target
    doc: str = ""
    shadow: bool = False
    owner: str = ""
    expires: date | None = None
    span: Span = field(compare=False, default=Span.NONE)

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes the rule can take: one, a split's arms in order, or none for a refusal."""
        match self.target:
            case Route() as route:
                return (route,)
            case Split(_, arms):
                return tuple(arm.route for arm in arms)
            case _:
                return ()


@dataclass(frozen=True, slots=True)
class Forbid:
    """No request for which `condition` holds may reach any of `models`."""

    models: tuple[str, ...]
    condition: Expression
    because: str = ""
    span: Span = field(compare=False, default=Span.NONE)


@dataclass(frozen=True, slots=True)
class Explore:
    """Send `share` parts of ten thousand, chosen by `key`, to another allowed model of the chain."""

    share: int
    key: str


# -- tests ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Given:
    """One request of a test, sent `repeated` times.

    `values` are those of signals, texts and matches (`prompt has urgent`) included; the others are read from the rest. `request`
    is the JSON text of a whole body, `history` that of earlier messages; both are empty where they are not given.
    """

    values: tuple[tuple[str, Value], ...]
    repeated: int = 1
    span: Span = field(compare=False, default=Span.NONE)
    request: str = ""
    history: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, Value], ...] = ()
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """What a test wants: the rule, the chain that is left (None: not stated), what acted (`by quota fair_use`)."""

    rule: str
    chain: Chain | None
    acted: tuple[str, str] | None = None
    refused: bool = False
    span: Span = field(compare=False, default=Span.NONE)


@dataclass(frozen=True, slots=True)
class Test:
    """A named test: requests in order, each with what is expected of its (last) decision."""

    name: str
    steps: tuple[tuple[Given, Expect], ...]
    span: Span = field(compare=False, default=Span.NONE)


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A claim about every request for which `condition` holds.

    `never` one of `models`, `refused` or `cost` (a relation and picodollars: `never cost > $0.35`); `always` the same as a duty:
    only `models` can be reached, or the request is refused, or the cost stands in the relation. Of these three, one is given.
    """

    name: str
    quantifier: OneOf["never", "always"]
    condition: Expression
    models: Chain = ()
    refused: bool = False
    cost: tuple[str, int] | None = None
    span: Span = field(compare=False, default=Span.NONE)


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole checked policy. Maps are in order of declaration."""

    name: str
    doc: str
    timezone: str
    signals: dict[str, Signal]
    texts: dict[str, TextSet]
    tunables: dict[str, Tunable]
    models: dict[str, Model]
    tiers: dict[str, Chain]
    order: tuple[str, ...]
    forbids: tuple[Forbid, ...]
    rules: tuple[Rule, ...]
    explore: Explore | None
    tests: tuple[Test, ...]
    constructs: tuple[Construct, ...]
    digest: str
    gates: tuple[Gate, ...] = ()
    guarantees: tuple[Guarantee, ...] = ()
    on_failure: OnFailure | None = None
    on_stream_failure: OnStreamFailure | None = None
    allowances: tuple[Allowance, ...] = ()
    sticky: Sticky | None = None
    classifiers: dict[str, Classifier] = field(default_factory=dict)
    escalations: tuple[Escalation, ...] = ()

    @property
    def escalates(self) -> tuple[str, ...]:
        """Tiers whose weak answers are asked of the next tier up."""
        return tuple(dict.fromkeys(tier for each in self.escalations for tier in each.tiers))
