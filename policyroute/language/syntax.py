"""The syntax tree: what was written, with spans, before anything is known to make sense.

Each node's comment shows the syntax that it stands for. `Leaf[T]` is a word, string or number with its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Generic, TypeVar

from policyroute.language.source import Span

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Leaf(Generic[T]):
    """A value that was written as one token."""

    value: T
    span: Span


Name = Leaf[str]
Names = tuple[Name, ...]

# -- expressions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reference:
    """tokens"""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Number:
    """3k"""

    value: int
    span: Span


@dataclass(frozen=True, slots=True)
class Operation:
    """a + b    a < b    a and b    not a"""

    operator: str
    arguments: tuple[Expression, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Membership:
    """plan is free    plan not in (pro, enterprise)"""

    subject: Expression
    members: Names
    negated: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Has:
    """prompt has urgent"""

    subject: Expression
    words: Name
    negated: bool
    span: Span


Expression = Reference | Number | Operation | Membership | Has

# -- types and values ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TypeNode:
    """int 0..10k    bool    key    free | pro    (chat | code)?"""

    kind: str
    span: Span
    low: int = 0
    high: int = 0
    members: Names = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """header "x-user-plan\""""

    kind: str
    name: Name


# -- targets -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chain:
    """premium    opus fallback sonnet, haiku"""

    first: Name
    fallback: Names
    span: Span


@dataclass(frozen=True, slots=True)
class Arm:
    """90% standard"""

    share: Leaf[int]
    name: Name


@dataclass(frozen=True, slots=True)
class Split:
    """split by user { 90% standard, 10% premium }"""

    key: Name
    arms: tuple[Arm, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Refuse:
    """refuse "conversation too long\""""

    message: Name
    span: Span


Target = Chain | Split | Refuse

# -- declarations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edition:
    """edition 1"""

    number: Leaf[int]


@dataclass(frozen=True, slots=True)
class Header:
    """policy support "Routing for the support assistant\""""

    name: Name
    doc: str


@dataclass(frozen=True, slots=True)
class Use:
    """use "models.route\""""

    path: Name


@dataclass(frozen=True, slots=True)
class Timezone:
    """timezone "Europe/Berlin\""""

    zone: Name


@dataclass(frozen=True, slots=True)
class Signal:
    """signal plan : free | pro = free from header "x-user-plan\""""

    name: Name
    type: TypeNode
    default: Leaf[str | int] | None
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """words urgent = "outage", "data loss"    words faq from "words/faq.txt\""""

    name: Name
    phrases: tuple[Name, ...]
    path: Name | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """pattern stack_trace = /(?i)traceback/"""

    name: Name
    regex: Name


@dataclass(frozen=True, slots=True)
class Let:
    """let long = tokens > 3k"""

    name: Name
    expression: Expression


@dataclass(frozen=True, slots=True)
class Tunable:
    """tunable short : int 50..2k = 500"""

    name: Name
    range: TypeNode
    value: Leaf[int]


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a block: its keyword and its value."""

    key: str
    value: object
    span: Span


@dataclass(frozen=True, slots=True)
class Classifier:
    """classifier difficulty : easy | hard { ask nano about last 3 messages within 300ms }"""

    name: Name
    members: Names
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """model haiku { provider anthropic id "claude-haiku-4-5" in $1 out $5 context 200k can tools }"""

    name: Name
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Tier:
    """tier cheap = nano, haiku"""

    name: Name
    models: Names


@dataclass(frozen=True, slots=True)
class Order:
    """order cheap < standard < premium"""

    tiers: Names


@dataclass(frozen=True, slots=True)
class Forbid:
    """forbid nano when region is eu because "no EU endpoint\""""

    models: Names
    condition: Expression | None
    because: str
    span: Span


@dataclass(frozen=True, slots=True)
class Rule:
    """rule incident "doc" { owner "support" when prompt has urgent then premium }    otherwise { then cheap }"""

    name: Name
    doc: str
    items: tuple[Item, ...]
    condition: Expression | None
    target: Target
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Explore:
    """explore 1% by user"""

    share: Leaf[int]
    key: Name


@dataclass(frozen=True, slots=True)
class Sticky:
    """sticky by conversation for 30min { never downgrade }"""

    key: Name
    lifetime: Leaf[int]
    mode: str


@dataclass(frozen=True, slots=True)
class Limit:
    """quota fair_use { 100 per day by user of premium when plan is pro then standard }    budget cap { $50 per day ... }"""

    kind: str
    name: Name
    amount: Leaf[int]
    period: str
    key: Name
    of: Names
    condition: Expression | None
    target: Target


@dataclass(frozen=True, slots=True)
class OnFailure:
    """on failure { retry 1 on 429, timeout then next within 30s }    on stream failure { before 20% restart }"""

    kind: str
    items: tuple[Item, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Escalate:
    """escalate cheap { when answer is empty then up }"""

    tiers: Names
    buffer: bool
    condition: Expression


@dataclass(frozen=True, slots=True)
class Guarantee:
    """guarantee eu_stays_eu : never nano when region is eu    guarantee g : never cost > $0.35"""

    name: Name
    quantifier: str
    subjects: Names
    cost: tuple[str, Leaf[int]] | None
    condition: Expression | None


@dataclass(frozen=True, slots=True)
class Pair:
    """plan enterprise    tokens 90k    prompt "down"    tool_failed    prompt not has urgent    header "x-plan" "pro\""""

    name: Name
    value: Leaf[str | int] | None
    quoted: bool = False
    words: Name | None = None
    negated: bool = False
    key: Name | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """given plan free repeated 3 times expect rule by quota q -> sonnet, opus"""

    pairs: tuple[Pair, ...]
    repeated: Leaf[int] | None
    rule: Name
    acted: tuple[Name, Name] | None
    chain: Names | None
    span: Span


@dataclass(frozen=True, slots=True)
class Test:
    """test "name" { given ... expect ... then given ... expect ... }"""

    name: Name
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """require savings >= 20% at 95%"""

    metric: Name
    argument: Name | None
    relation: str
    bound: Leaf[str]
    confidence: Leaf[int] | None


@dataclass(frozen=True, slots=True)
class Gate:
    """gate release on "traces/*.parquet" against requested { require changed <= 40% }"""

    name: Name
    trace: Name
    baseline: Name
    requirements: tuple[Requirement, ...]


Declaration = (
    Edition | Header | Use | Timezone | Signal | Words | Pattern | Let | Tunable | Classifier | Model | Tier | Order
    | Forbid | Rule | Explore | Sticky | Limit | OnFailure | Escalate | Guarantee | Test | Gate
)  # fmt: skip

Date = Leaf[date]
