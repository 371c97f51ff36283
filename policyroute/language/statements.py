"""What a policy says beside its rules, as values: gates, what is done on failure, and constructs of state."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal as OneOf

from policyroute.language.source import Span


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
