"""Outcomes: what each model really answered to the same requests, and what that says about a policy's cost and quality.

`table` reads files of outcomes into DuckDB, `models` says which of their models can be compared, `cells` prices and sums them,
`quality` makes the panel of a report, `hull` and `scores` hold its geometry and the published scores.
"""

from __future__ import annotations

from policyroute.replay.outcomes.cells import decided_sql, named
from policyroute.replay.outcomes.models import Comparison, comparison, served_numbers
from policyroute.replay.outcomes.quality import quality
from policyroute.replay.outcomes.table import Outcomes, open_outcomes

__all__ = ["Comparison", "Outcomes", "comparison", "decided_sql", "named", "open_outcomes", "quality", "served_numbers"]
