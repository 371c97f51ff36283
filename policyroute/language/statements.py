"""What a policy says beside its rules, as values: gates, what is done on failure, and constructs of state."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING
from typing import Literal as OneOf

from policyroute.language.source import Span

if TYPE_CHECKING:  # they hold what a policy is made of
    from policyroute.language.policy import Chain, Expression, Target


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a gate: `require share(premium) <= 15% at 95%`.

    `bound` is an exact number of percent (`unit` "%"), dollars ("$") or milliseconds ("ms"). `confidence` is in parts of ten
    thousand, None where the value itself is compared. `text` is the line in the formatter's layout, without `require`.
    """

    metric: str
    argument: str
    relation: OneOf["<", "<=", "==", "!=", ">=", ">"]
    bound: Decimal
    unit: OneOf["%", "$", "ms"]
    confidence: int | None
    text: str
    span: Span = field(compare=False, default=Span.NONE)


@dataclass(frozen=True, slots=True)
class Gate:
    """What a replay of `traces` (a file, folder or glob) against `baseline` has to show before a policy is released."""

    name: str
    traces: str
    baseline: str
    requirements: tuple[Requirement, ...]
    span: Span = field(compare=False, default=Span.NONE)


@dataclass(frozen=True, slots=True)
class OnFailure:
    """What is tried when an upstream fails before anything of its answer has reached the client: a model again, `retries` times for
    `causes` (status codes as text, `timeout`, `connection`); with `up`, the tiers above the chain; `within` milliseconds (None: not
    said). `last_answer` is what the caller is told in the end, "" where it isn't said."""

    retries: int = 0
    causes: tuple[str, ...] = ()
    up: bool = False
    within: int | None = None
    last_answer: str = ""


StreamAction = OneOf["restart", "continue", "finish", "fail"]


@dataclass(frozen=True, slots=True)
class OnStreamFailure:
    """What is done when an answer breaks off that has reached the client in part: `early` below the share `before` of the expected
    answer (parts of ten thousand), `late` from there on. Without a share (None) both are the same; what isn't said is `fail`."""

    before: int | None = None
    early: StreamAction = "fail"
    late: StreamAction = "fail"


@dataclass(frozen=True, slots=True)
class Construct:
    """A checked declaration of state, failure or weak answers: what of it a command doesn't apply, it names.

    `kind` is the language's word (`quota`, `sticky`, `on failure`, ...), `title` what a message calls it, `detail` its
    canonical content, so that the policy's digest covers it.
    """

    kind: str
    title: str
    detail: str
    span: Span = field(compare=False, default=Span.NONE)


# -- state ---------------------------------------------------------------------------------------------------------

StickyMode = OneOf["never downgrade", "keep model", "keep while cached"]
Period = OneOf["minute", "hour", "day", "week", "month"]


@dataclass(frozen=True, slots=True)
class Sticky:
    """What a conversation's (or another key's) last decision does to the next one, for `lifetime` milliseconds after it."""

    key: str
    lifetime: int
    mode: StickyMode
    span: Span = field(compare=False, default=Span.NONE)

    @property
    def title(self) -> str:
        """What a decision that it changed names it, as `expect RULE by ...` does."""
        return f"sticky {self.key}"


@dataclass(frozen=True, slots=True)
class Allowance:
    """A quota or a budget: what each value of `key` may use in a calendar `period`, of the models `of` (all where it is empty), by
    requests for which `condition` holds. `amount` is in requests, or in picodollars. `target` takes those that no longer fit."""

    kind: OneOf["quota", "budget"]
    name: str
    amount: int
    period: Period
    key: str
    of: Chain
    condition: Expression
    target: Target
    span: Span = field(compare=False, default=Span.NONE)

    @property
    def title(self) -> str:
        """What a decision that it changed names it, as `expect RULE by ...` does."""
        return f"{self.kind} {self.name}"


# -- learned signals, weak answers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Classifier:
    """A signal that a model answers: `ask` it with `prompt`, about the last `messages` messages or the text `text`.

    Its answer has `within` milliseconds (None: not said), and is remembered for `remember` milliseconds (0: never) by a hash of what
    the model was shown. Without an answer it is `failed`.
    """

    name: str
    members: tuple[str, ...]
    ask: str
    prompt: str
    failed: str
    messages: int = 0
    text: str = ""
    within: int | None = None
    remember: int = 0
    column: str = ""
    span: Span = field(compare=False, default=Span.NONE)


@dataclass(frozen=True, slots=True)
class Escalation:
    """A weak answer (`condition`, over the answer and the request) of a model of `tiers` is asked of the next tier up. `buffer` holds
    streamed answers back until they are whole, so that they are tested too."""

    tiers: tuple[str, ...]
    condition: Expression
    buffer: bool = False
    span: Span = field(compare=False, default=Span.NONE)
