"""Several policies, or one with several values of its tunables, side by side over one trace.

The trace is opened once, its signals are extracted once, and all are compared with the same baseline. Where usage is held as recorded the
figures come from one pass for all; with a prompt cache, lengths or outages reckoned, each policy is one pass over the extracted signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import product
from pathlib import Path

from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog
from policyroute.replay.figures import Json, dollars, percent
from policyroute.replay.options import Options, SimulationError, Step, silent
from policyroute.replay.tuning.effective import Priced, effects_of, replayed
from policyroute.replay.tuning.holdout import Holdout
from policyroute.replay.tuning.report import interval_of
from policyroute.replay.tuning.sweep import Sweep, sweeping
from policyroute.replay.tuning.totals import Periods, Totals

MOST = 100  # variants of one call


def variants(changes: Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    """All combinations of the values of `--set`, in order; raises `SimulationError` beyond 100."""
    found = [dict(zip(changes, values, strict=True)) for values in product(*changes.values())]
    if len(found) > MOST:
        raise SimulationError(
            f"{len(found):,} variants are more than {MOST}", "give fewer values, or let `policyroute tune` search"
        )
    return found


def compare(
    policies: Sequence[Policy], paths: Sequence[str | Path], catalog: Catalog, options: Options, step: Step = silent,
    holdout: Holdout | None = None, names: Sequence[str] = (),
) -> list[Json]:  # fmt: skip
    """One column for each policy, in order, JSON-ready: money as decimal text, shares in percent, 95 % interval of the saving.

    The policies' models are completed from `catalog`; `names` stand in place of the policies' own. With `holdout` a column has the same
    figures of the hold-out alone, too. Raises as `simulate` does.
    """
    shown = names or _names(policies)
    with sweeping(policies, paths, catalog, options, step, holdout) as sweeps:
        totals = _totals(policies, sweeps, step)
        columns = [
            _column(name, policy, sweep, periods, holdout)
            for name, policy, sweep, periods in zip(shown, policies, sweeps, totals, strict=True)
        ]
        return columns if holdout is None else _chosen(columns)


def _chosen(columns: list[Json]) -> list[Json]:
    """Each column marked with whether it saved most before the hold-out: chosen on the past, judged by its `holdout`."""
    earlier = [Decimal(column["saving_usd"]) - Decimal(column["holdout"]["saving_usd"]) for column in columns]
    return [column | {"chosen": place == earlier.index(max(earlier))} for place, column in enumerate(columns)]


def _names(policies: Sequence[Policy]) -> list[str]:
    """A policy's name, with the values of the tunables in which it differs from the others of that name, or else its digest."""
    found = []
    for policy in policies:
        others = [other for other in policies if other.name == policy.name]
        moved = [name for name, one in policy.tunables.items() if any(other.tunables.get(name) != one for other in others)]
        found.append(" ".join([policy.name, *(f"{name}={policy.tunables[name].value}" for name in moved)]))
    return [
        f"{name} ({policy.digest[:7]})" if found.count(name) > 1 else name for name, policy in zip(found, policies, strict=True)
    ]


def _totals(policies: Sequence[Policy], sweeps: Sequence[Sweep], step: Step) -> list[Periods]:
    """Decisions of all policies, one pass for those that share a sweep."""
    found: dict[int, Periods] = {}
    for sweep in dict.fromkeys(sweeps):
        places = [place for place, each in enumerate(sweeps) if each is sweep]
        found |= dict(zip(places, sweep.totals([policies[place] for place in places], step), strict=True))
    return [found[place] for place in range(len(policies))]


def _column(name: str, policy: Policy, sweep: Sweep, periods: Periods, holdout: Holdout | None) -> Json:
    values = {name: one.value for name, one in policy.tunables.items()}
    column: Json = {"policy": name, "digest": policy.digest, "tunables": values} | _side(policy, sweep, periods.whole, None)
    if holdout is not None:
        column["holdout"] = {"sentence": sweep.where.sentence} | _side(policy, sweep, periods.late, True)
    return column


def _side(policy: Policy, sweep: Sweep, totals: Totals, late: bool | None) -> Json:
    """The figures of the whole trace, or of the hold-out alone."""
    if effects_of(sweep).plain:
        priced, bags = Priced(totals.priced, totals.changed, totals.old, totals.new), sweep.bags(policy, late=late)
    else:
        found = replayed(sweep, policy, late=late)
        priced = Priced(*(sum(numbers) for numbers in zip(*found.values(), strict=True))) if found else Priced(0, 0, 0, 0)
        bags = {bag: (each.old, each.new) for bag, each in found.items()}
    drawn = interval_of(bags, sweep.view.cluster)
    return {
        "rows": priced.rows, "changed": priced.changed, "changed_percent": percent(priced.changed, priced.rows),
        "baseline_usd": dollars(priced.old), "routed_usd": dollars(priced.new), "saving_usd": dollars(priced.old - priced.new),
        "saving_percent": percent(priced.old - priced.new, priced.old), "interval": drawn["saving_percent"] if drawn else None,
        "interval_usd": drawn["saving_usd"] if drawn else None, "warnings": drawn["warnings"] if drawn else [],
        "shares": {tier: percent(totals.tiers[tier], totals.known) for tier in _ranked(policy, totals.tiers)},
        "refused": totals.refused, "unroutable": totals.unroutable, "not_replayable": totals.unknown,
    }  # fmt: skip


def _ranked(policy: Policy, tiers: Mapping[str, int]) -> list[str]:
    """Tiers in the policy's order, then others by name."""
    return sorted(tiers, key=lambda tier: (policy.order.index(tier) if tier in policy.order else len(policy.order), tier))
