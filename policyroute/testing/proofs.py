"""What is proved of two policies, JSON-ready: that they decide alike for every possible request, or a request for each pair of rules
that disagree; beside the replay's count of such requests where a trace was replayed too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from policyroute.analysis.equivalence import compared
from policyroute.analysis.remote import available
from policyroute.analysis.witness import Witnesses
from policyroute.language.decision import Decision
from policyroute.language.policy import Policy, Value
from policyroute.language.reference import decide

if TYPE_CHECKING:
    from policyroute.analysis.disagreement import Difference

Json = dict[str, Any]
IDENTICAL, DIFFERS, UNPROVEN, SKIPPED = "identical", "differs", "not proven", "skipped"


def proof(old: Policy, new: Policy, seconds: float) -> Json:
    """Compare two policies whose models are complete. `status` is one of the four words above.

    `pairs` hold a request each, as a test would give it, and both decisions; `complete` says that there are no other pairs. `apart`
    names signals that the two declare differently: to each policy such a signal may then say something else of one request.
    """
    if not available():
        return _result(SKIPPED)
    found = compared(old, new, seconds)
    if found is None:
        return _result(UNPROVEN)
    witnesses = Witnesses(old)
    pairs = [_pair(old, new, difference, witnesses) for difference in sorted(found.differences, key=lambda one: (one.old, one.new))]
    status = DIFFERS if pairs else IDENTICAL if found.complete else UNPROVEN
    return _result(status, pairs=pairs, complete=found.complete, apart=list(found.apart))


def with_traffic(proved: Json, pairs: list[Json]) -> Json:
    """The proof with, for each pair of rules, the requests of a trace that moved between them (`pairs` of the replayed difference)."""
    seen = {(pair["old_rule"], pair["new_rule"]): pair for pair in pairs}
    counted = [_counted(pair, seen.get((pair["old_rule"], pair["new_rule"]))) for pair in proved["pairs"]]
    return proved | {"pairs": sorted(counted, key=lambda pair: -pair["rows"])}


def _counted(pair: Json, moved: Mapping[str, Any] | None) -> Json:
    priced = (moved or {}).get("priced")
    return pair | {"rows": moved["all_rows"] if moved else 0, "difference_usd": priced["difference_usd"] if priced else None}


def _result(status: str, **rest: Any) -> Json:
    return {"status": status, "complete": False, "apart": [], "pairs": []} | rest


def _shown(old: Policy, new: Policy, difference: Difference, witnesses: Witnesses) -> str:
    """The request as a test would give it; where both policies see the same of it, with no more than they need to disagree."""
    if difference.after != {name: difference.values.get(name, value) for name, value in difference.after.items()}:
        return witnesses.of(difference.values).given
    sides = (old, difference.before_decision), (new, difference.after_decision)

    def disagree(values: Mapping[str, Value]) -> bool:
        seen = {name: values.get(name, value) for name, value in difference.after.items()}
        return all(decide(policy, seen if policy is new else values) == decision for policy, decision in sides)

    return witnesses.of(difference.values, disagree).given


def _pair(old: Policy, new: Policy, difference: Difference, witnesses: Witnesses) -> Json:
    return {
        "old_rule": old.rules[difference.old].name,
        "new_rule": new.rules[difference.new].name,
        "old": _way(difference.before_decision),
        "new": _way(difference.after_decision),
        "given": _shown(old, new, difference, witnesses),
        "values": {name: value for name, value in difference.values.items() if value != old.signals[name].default},
    }


def _way(decision: Decision) -> Json:
    return {"chain": list(decision.chain), "refused": decision.refused or None}
