"""One served request as a value: what journal, metrics, access log and traces are written from.

It is filled while the request runs, by the one thread that serves it, and read after the answer has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from policyroute.language.decision import Decision
from policyroute.language.policy import Policy
from policyroute.prices.cost import Cost, Usage
from policyroute.signals.request import Api
from policyroute.signals.values import Values
from policyroute.state.deciding import Decided

Verdict = Literal["answered", "refused", "failed", "cut", "abandoned", "cached", "passed"]
"""How a request ended: with an answer (the upstream's 4xx included), refused by the policy, without an answer of any upstream,
with a cut stream, left by its client, from the answer cache, or passed through without a decision (embeddings)."""


@dataclass(slots=True)
class Attempt:
    """One call of an upstream, or a model that was passed over.

    `began` and `took` are milliseconds, the first since the request's arrival. `result` is `answered`, a status code (`429`),
    `timeout`, `connection`, `malformed`, `cut`, `abandoned`, or `skipped: ` and why (`skipped: circuit open`).
    """

    model: str
    began: float
    took: float
    result: str
    detail: str = ""  # host and reason of a failure, for the log


@dataclass(frozen=True, slots=True)
class Classified:
    """A classifier that a request's evaluation reached: its answer, where that comes from (`asked`, `remembered`, or why it could not
    be had: `timeout`, `429`, `unclear`, ...), how long it took in milliseconds, and its cost (None: unknown)."""

    name: str
    member: str
    result: str
    took: float = 0.0
    cost: Cost | None = None


@dataclass(slots=True)
class Shadow:
    """What a policy that isn't served would have decided, and at which cost for the answer's own usage (None: unknown)."""

    policy: Policy
    decision: Decision
    cost: Cost | None = None


@dataclass(slots=True)
class Served:
    """One request from arrival to the end of its answer. Times are in milliseconds, `overhead` is what wasn't spent waiting for
    an upstream or for the client. `model` is the policy's name of the model that answered, "" where none did; `model_id` what
    the provider calls it. `propensity` is the probability of `decision.chain[0]` over keys, None where it wasn't computed.
    `prompt` and `answer` are bytes of the bodies where they are kept."""

    id: str
    at: datetime  # arrival, UTC
    api: Api | Literal["embeddings", "completions"]
    policy: Policy
    digest: str = ""
    values: Values | None = None
    decision: Decision | None = None
    propensity: float | None = None
    tier: str = ""
    caller: str = ""  # the name of the API key, never the key
    user: str = ""
    team: str = ""
    conversation: str = ""
    requested: str = ""
    stream: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    model: str = ""
    provider: str = ""
    model_id: str = ""
    response_model: str = ""
    status: int = 0
    verdict: Verdict = "answered"
    error: str = ""  # a short word for what went wrong: `timeout`, `rate_limit`, `cut`, ...
    finish_reason: str = ""
    usage: Usage | None = None
    reasoning: int | None = None
    service_tier: str = ""
    cost: Cost | None = None
    saved: int = 0  # picodollars that the answer cache saved, by the price of the stored answer
    latency: float = 0.0
    first: float | None = None  # to the first byte of content
    overhead: float = 0.0
    retry: int = 0  # the client library's own retry number
    shadow: Shadow | None = None
    shadow_values: Values | None = None  # as the policy reads them that isn't served
    headers: Mapping[str, str] = field(default_factory=dict)
    state: Decided | None = None  # what state made of the decision, None where the policy has none
    store: str = ""  # the store's id
    missed: bool = False  # the store was out of reach: decided without it
    settled_number: int | None = None  # the store's step that settled the budgets
    settled: int | None = None  # picodollars that they were charged in the end
    classified: list[Classified] = field(default_factory=list)
    escalated_from: str = ""  # the model whose weak answer was asked again, one tier up
    first_usage: Usage | None = None  # of that answer
    first_cost: Cost | None = None
    prompt: bytes | None = None
    answer: bytes | None = None
