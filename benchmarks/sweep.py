"""Sweeping: 100 candidate policies over one trace, against one `simulate` of the same trace and against 100 of them.

    python benchmarks/sweep.py [--smoke]

Both hold usage as recorded. The sweep's time is all of it: opening the trace, pricing every request under every model, deciding all candidates.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness import Report, cpu, median, run
from replay import generate

from policyroute.language import check_text
from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog, complete, load_catalog
from policyroute.replay.options import Options
from policyroute.replay.simulate import simulate
from policyroute.replay.tuning.candidates import evenly, tuned
from policyroute.replay.tuning.sweep import sweeping

ROWS, SMOKE_ROWS = 2_000_000, 200_000
ROUNDS, SMOKE_ROUNDS = 3, 2
SIDE = 10  # values of each of the two tunables
RATIO = 100  # claimed: times that 100 candidates in a sweep are cheaper than 100 simulations

POLICY = """edition 1
policy swept
signal plan : free | pro | enterprise = free  from column "plan"
signal feature : (search | summarise | draft | extract | chat)?  from column "feature"
tunable short : int 20..400 = 60
tunable long  : int 600..8k = 3k
model nano   { id "gpt-4o-mini" }
model haiku  { id "claude-haiku-4-5" }
model gpt    { id "gpt-4o" }
model sonnet { id "claude-sonnet-4-5" }
tier cheap    = nano, haiku
tier standard = haiku, gpt
tier premium  = sonnet, gpt
order cheap < standard < premium
forbid sonnet when plan is free and not escalated
rule escalated { when escalated then premium }
rule loop      { when steps >= 8 or tool_failed then premium }
rule quick     { when last_tokens < short and not code then cheap }
rule wide      { when tokens > long and turns >= 2 then premium }
rule code      { when code then standard }
rule large     { when tokens > long then standard }
rule trial     { when plan is free then split by user { 90% cheap, 10% standard } }
rule summaries { when feature is summarise then cheap }
rule paying    { when plan is enterprise then premium }
otherwise      { then standard }
"""


def _policy(catalog: Catalog) -> Policy:
    checked = check_text(POLICY)
    assert not checked.failed, checked.diagnostics
    return complete(checked.policy, catalog)[0]


def _candidates(policy: Policy) -> list[Policy]:
    short, long = (evenly(policy.tunables[name].type, SIDE) for name in ("short", "long"))
    return [tuned(policy, {"short": a, "long": b}) for a in short for b in long]


def compare(report: Report, trace: Path, rows: int, rounds: int) -> None:
    catalog = load_catalog()
    policy = _policy(catalog)
    candidates = _candidates(policy)
    options = Options(threads=1, prompt_cache="held", failures=False)
    once: list[float] = []
    swept: list[float] = []
    classes = 0

    def all_of_them() -> None:
        nonlocal classes
        with sweeping([policy], [trace], catalog, options) as (sweep,):
            swept.append(cpu(lambda: sweep.totals(candidates)))
            classes = sweep.connection.table(f"{sweep.table}_classes").shape[0]

    whole: list[float] = []
    for _ in range(rounds):
        once.append(cpu(lambda: simulate(policy, [trace], catalog, options)))
        whole.append(cpu(all_of_them))
    number = len(candidates)
    report.facts |= {"candidates": number, "classes": classes, "rows": rows}
    report.add("`simulate`, one policy: CPU time", median(once), "s")
    report.add(f"sweep, {number} candidates: CPU time of all of it", median(whole), "s")
    report.add(f"sweep, the {number} candidates alone", median(swept), "s")
    share = median([all_ / one for all_, one in zip(whole, once, strict=True)])
    report.add(f"{number} candidates, in `simulate` runs", share, "runs")
    ratios = [number * one / all_ for all_, one in zip(whole, once, strict=True)]
    report.add(f"against {number} simulations", median(whole), "s", ratio=median(ratios), claim=RATIO)


def make(smoke: bool) -> Report:
    report = Report("sweep", "Sweeping thresholds", ["policyroute", "duckdb"])
    rows = SMOKE_ROWS if smoke else ROWS
    with tempfile.TemporaryDirectory(prefix="policyroute-benchmark-") as folder:
        trace, _ = generate(Path(folder), rows)
        compare(report, trace, rows, SMOKE_ROUNDS if smoke else ROUNDS)
    return report


if __name__ == "__main__":
    run(make)
