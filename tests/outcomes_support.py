"""What the tests of outcomes share: files of any kind, and the panel of a policy over a trace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policyroute.language import Policy
from policyroute.replay.options import Options, silent
from policyroute.replay.outcomes import comparison, decided_sql, open_outcomes, quality
from policyroute.replay.prepare import prepared
from tests.simulate_support import SHARED, Json, catalog

DATA = SHARED / "data"
MICRO = 10**6

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")


def panel(policy: Policy, trace: str | Path, outcomes: str | Path, **options: Any) -> Json:
    """The panel of a policy over a trace, as `simulate --outcomes` makes it."""
    with prepared([policy], [trace], catalog(), Options(**options), silent) as ready:
        (view,) = ready.views
        opened = open_outcomes(outcomes, ready.connection)
        decided = " UNION ALL ".join(decided_sql(view.ledger, source) for source in ready.sources[0])
        return quality(ready.connection, decided, opened, comparison(policy, catalog(), opened), view.cluster)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Rows as the kind of file that the name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    else:
        names = list(rows[0])
        lines = [",".join(names), *(",".join("" if row[name] is None else str(row[name]) for name in names) for row in rows)]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
