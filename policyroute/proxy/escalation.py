"""Weak answers: whether this request's answer is asked again one tier up, of whom, and what the first one was."""

from __future__ import annotations

from typing import NamedTuple

from policyroute.language.policy import Chain, Route
from policyroute.language.statements import Escalation
from policyroute.proxy.attempts import Failure
from policyroute.proxy.outgoing import Outgoing
from policyroute.proxy.served import Served
from policyroute.proxy.service import Service
from policyroute.proxy.weak import Spoken, asked_schema
from policyroute.proxy.wire.counts import Counted
from policyroute.state.transitions import NONE, tier_of

WEAK = Failure("weak")  # an attempt whose answer is not passed on


class Reply(NamedTuple):
    """A whole answer as the client would get it."""

    model: str
    body: bytes
    headers: list[tuple[str, str]]
    content_type: str
    counted: Counted | None
    finish_reason: str
    response_model: str


class Escalating:
    """The escalation of one request; `first` is the weak answer, once there was one. An answer is escalated once."""

    def __init__(self, service: Service, outgoing: Outgoing, served: Served) -> None:
        self.service, self.outgoing, self.served = service, outgoing, served
        self.first: Reply | None = None
        self._place = self._tier() if service.policy.escalations else NONE
        self._rule = self._of_tier()

    def _tier(self) -> int:
        """The place in `order` of what was decided."""
        policy, decision = self.service.policy, self.served.decision
        if self.served.tier in policy.order:
            return policy.order.index(self.served.tier)
        return tier_of(policy, Route(()), decision.chain[0]) if decision and decision.chain else NONE

    def _of_tier(self) -> Escalation | None:
        policy = self.service.policy
        if self._place == NONE:
            return None
        return next((one for one in policy.escalations if policy.order[self._place] in one.tiers), None)

    @property
    def holds(self) -> bool:
        """Whether a stream is to be held back until it is whole."""
        return self._rule is not None and self._rule.buffer and self.first is None

    @property
    def tests(self) -> bool:
        """Whether a whole answer is to be judged."""
        return self._rule is not None and self.first is None

    def weak(self, answer: Spoken) -> bool:
        """Whether the answer is weak."""
        assert self._rule is not None and self.served.values is not None
        return self.service.weak.judge(self._rule, answer, self.served.values, asked_schema(self.outgoing.incoming.fields))

    def higher(self) -> Chain:
        """The models of the next tier up, as far as limits, the caller's key and their APIs allow."""
        policy, values = self.service.policy, self.served.values
        if self._place + 1 >= len(policy.order) or self.first is None or values is None:
            return ()
        models = policy.tiers[policy.order[self._place + 1]]
        allowed = tuple(name for name in models if name != self.first.model and self.service.deciding.allows(name, values))
        return self.outgoing.reachable(self.outgoing.incoming.caller.permitted(allowed, policy))
