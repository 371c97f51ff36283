"""The dry run of `POST /v1/route`: what the served policy says of a request, and why."""

from __future__ import annotations

from datetime import datetime

from policyroute.backends import explain
from policyroute.backends.explain import Json
from policyroute.language.decision import Decision
from policyroute.language.source import Source
from policyroute.proxy.service import Deciding
from policyroute.signals.values import Values


def explanation(deciding: Deciding, sources: tuple[Source, ...], values: Values, decision: Decision, at: datetime) -> Json:
    """The decision, the rules that were tried and why they didn't take the request, and what each model would cost."""
    return explain.explanation(deciding.policy, deciding.prices, sources, values, decision, at)
