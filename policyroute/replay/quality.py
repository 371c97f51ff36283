"""What can be said of quality: from an outcomes table, from logged propensities, or nothing, and then what would change that."""

from __future__ import annotations

from collections.abc import Sequence

from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog
from policyroute.replay.figures import Json
from policyroute.replay.gates.estimates import of_outcomes, of_propensities
from policyroute.replay.gates.judge import Estimate
from policyroute.replay.offpolicy.estimate import estimate
from policyroute.replay.offpolicy.log import requests
from policyroute.replay.outcomes import comparison, decided_sql
from policyroute.replay.outcomes import quality as outcomes_panel
from policyroute.replay.prepare import Prepared

SENTENCE = (
    "quality is not identifiable from these traces: nobody knows what the new models would have answered to the changed requests"
)
REMEDY = (
    "let all models answer a sample of these requests and give their scores as `--outcomes FILE`; or serve with `explore 1% by user` and "
    "log propensities, then `--outcome COLUMN`"
)


def quality(ready: Prepared, policy: Policy, catalog: Catalog, columns: Sequence[str], seconds: int | None) -> Json:
    """The quality panel of a replay: the outcomes' panel, if there is one, and `logged`, an estimate for each outcome column."""
    logged = [estimate(ready.connection, requests(ready.views[0], ready.sources[0], column), seconds) for column in columns]
    if ready.outcomes is not None:
        compared = comparison(policy, catalog, ready.outcomes)
        decided = " UNION ALL ".join(decided_sql(ready.views[0].ledger, source) for source in ready.sources[0])
        panel = outcomes_panel(ready.connection, decided, ready.outcomes, compared, ready.views[0].cluster)
        return {"identifiable": True, "sentence": panel["verdict"]["sentence"], "remedy": ""} | panel | {"logged": logged}
    if not logged:
        return {"identifiable": False, "sentence": SENTENCE, "remedy": REMEDY, "logged": []}
    first = next((found for found in logged if found["estimates"]), logged[0])
    return {"identifiable": first["identifiable"], "sentence": first["sentence"], "remedy": first["remedy"], "logged": logged}


def estimates_for_gates(panel: Json, cluster: str | None) -> dict[str, Estimate]:
    """What gates may take as `quality` and `latency`; the outcomes table goes before propensities."""
    found: dict[str, Estimate] = {}
    for logged in reversed(panel["logged"]):
        found |= of_propensities(logged, cluster or "request")
    return found | (of_outcomes(panel) if "policy" in panel else {})
