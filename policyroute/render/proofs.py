"""What is proved of two policies, in sentences for a terminal and for a pull request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policyroute.render.sentences import usd

Json = dict[str, Any]
MOST, MOST_WITH_TRAFFIC = 12, 4  # pairs; with a trace those that move most requests come first
SENTENCES = {
    "identical": "Proved: every possible request is sent the same way under both.",
    "not proven": "Not proven: whether they differ on some request was not decided in time (`--proof-time` gives more).",
    "skipped": "Proofs skipped: `pip install 'policyroute[verify]'` proves what differs for every possible request.",
}


def headline(proof: Json) -> str:
    """What is proved, in one sentence."""
    pairs = len(proof["pairs"])
    if proof["status"] != "differs":
        return SENTENCES[proof["status"]]
    noun = "pair of rules disagrees" if pairs == 1 else "pairs of rules disagree"
    rest = "; no other one does" if proof["complete"] else "; there may be more"
    return f"For every possible request: {pairs} {noun}{rest}."


def lines(proof: Json) -> Iterator[tuple[str, str]]:
    """For each pair of rules what moves, and a request that shows it."""
    for pair in proof["pairs"][: _most(proof)]:
        moved = f"{pair['old_rule']} [{_way(pair['old'])}] -> {pair['new_rule']} [{_way(pair['new'])}]"
        yield moved + _traffic(pair), f"e.g. given {pair['given']}" if pair["given"] else "e.g. a request in which nothing is given"


def asides(proof: Json) -> Iterator[str]:
    """What has to be said beside."""
    more = len(proof["pairs"]) - _most(proof)
    if more > 0:
        yield f"{more} more {'pair' if more == 1 else 'pairs'}, in --json"
    if proof["apart"]:
        names = ", ".join(f"`{name}`" for name in proof["apart"])
        yield f"{names} {'is' if len(proof['apart']) == 1 else 'are'} declared differently: each policy may see another value in one request"


def _most(proof: Json) -> int:
    return MOST_WITH_TRAFFIC if any("rows" in pair for pair in proof["pairs"]) else MOST


def _way(decision: Json) -> str:
    return ", ".join(decision["chain"]) or f"refused: {decision['refused']}"


def _traffic(pair: Json) -> str:
    if "rows" not in pair:
        return ""
    rows = (
        f"{pair['rows']:,} {'request' if pair['rows'] == 1 else 'requests'} of the trace"
        if pair["rows"]
        else "no request of the trace"
    )
    money = f", {usd(pair['difference_usd'], signed=True)}" if pair["difference_usd"] else ""
    return f": {rows}{money}"
