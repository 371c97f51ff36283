"""What the client is told of quotas and budgets: the headers of draft-ietf-httpapi-ratelimit-headers for requests, our own for dollars.

ratelimit-policy: "fair_use";q=100;w=86400          what is allowed in how many seconds
ratelimit: "fair_use";r=58;t=3600                   what is left, and for how many seconds
x-policyroute-budget: "team_cap";limit=50;left=12.34;t=3600
"""

from __future__ import annotations

from policyroute.prices.money import exact_dollars
from policyroute.proxy.served import Served
from policyroute.state.deciding import Left, seconds_until

SECONDS = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_592_000}


def remaining(served: Served) -> list[tuple[str, str]]:
    """The headers for a request's quotas and budgets, and for what state changed; none where it had no part in the decision."""
    if served.state is None:
        return []
    found = []
    quotas = [left for left in served.state.left if left.allowance.kind == "quota"]
    budgets = [left for left in served.state.left if left.allowance.kind == "budget"]
    if quotas:
        allowed = (f'"{one.allowance.name}";q={one.allowance.amount};w={SECONDS[one.allowance.period]}' for one in quotas)
        found.append(("ratelimit-policy", ", ".join(allowed)))
        found.append(("ratelimit", ", ".join(f'"{one.allowance.name}";r={one.left};t={_seconds(one, served)}' for one in quotas)))
    if budgets:
        found.append(("x-policyroute-budget", ", ".join(_budget(one, served) for one in budgets)))
    if served.state.decision.acted:
        found.append(("x-policyroute-acted", ", ".join(served.state.decision.acted)))
    return found


def _budget(left: Left, served: Served) -> str:
    limit, rest = (exact_dollars(picodollars) for picodollars in (left.allowance.amount, left.left))
    return f'"{left.allowance.name}";limit={limit};left={rest};t={_seconds(left, served)}'


def _seconds(left: Left, served: Served) -> int:
    return seconds_until(left, served.at)
