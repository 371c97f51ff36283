"""A report's total is the sum of its rows and an independent reckoning, to the picodollar; splitting a trace changes no digit.

Two reckonings stand against the result: plain SQL over the rows that `--output` writes, and a slow one in Python that reads the
trace row by row, decides with the reference interpreter and prices with `prices.cost`.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from policyroute.language import Policy
from policyroute.language.decision import Decision
from policyroute.language.limits import requested_names
from policyroute.language.policy import ANY_OTHER, BoolType, IntType, Value
from policyroute.language.reference import decide
from policyroute.prices.catalog import complete
from policyroute.prices.cost import Cost, Usage, cost
from policyroute.signals.facts import Facts
from policyroute.signals.text import Scanner
from tests import strategies
from tests.simulate_support import ROOT, Json, catalog, figures, held, picodollars, policy_of, text_of

EXPENSIVE = settings.default.max_examples // 12  # each is a replay or two
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking would take minutes
EXAMPLES = ("support", "coding", "saas")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Row = Mapping[str, Any]
by_example = pytest.mark.parametrize("name", EXAMPLES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


@cache
def replayed(name: str, place: Path) -> tuple[Json, Path]:
    """The result over an example, and the file of its decisions."""
    target = place / f"{name}.parquet"
    return held(policy_of(f"policies/{name}.route"), ROOT / "traces" / target.name, output=target, by=["model"]), target


# -- one row, reckoned slowly --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reckoned:
    """What the slow reckoning makes of a row. `old` and `new` are None where the model has no price."""

    decision: Decision
    old_model: str | None
    old: Cost | None
    new: Cost | None
    cold: int

    @property
    def model(self) -> str | None:
        return self.decision.chain[0] if self.decision.chain else None

    @property
    def priced(self) -> bool:
        return self.model is not None and self.old is not None and self.new is not None

    @property
    def class_(self) -> str:
        if not self.decision.chain:
            return "unroutable" if self.decision.refused == "no model can take this request" else "refused"
        if self.old is None or self.new is None:
            return "unpriceable"
        return "fallback" if self.old.fallbacks or self.new.fallbacks else "exact"


def usage_of(row: Row) -> Usage:
    if (row.get("status_code") or 0) >= 400:
        return Usage(0)
    parts = [row.get(name) or 0 for name in ("output_tokens", "cached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")]
    return Usage(row["input_tokens"], *parts)


def reckoned(policy: Policy, row: Row, values: Mapping[str, Value]) -> Reckoned:
    decision = decide(policy, values)
    lists, usage, tier = catalog().for_policy(policy), usage_of(row), row.get("service_tier")
    name = row["model"] and requested_names(policy).get(row["model"])
    prices = lists.get(name) if name else catalog().price_list(row["model"], row.get("provider")) if row["model"] else None
    new_prices = lists[decision.chain[0]] if decision.chain else None
    new = cost(usage, new_prices, row["ts"], tier)
    cold = cost(Usage(usage.input, usage.output), new_prices, row["ts"], tier)
    return Reckoned(
        decision,
        name or row["model"],
        cost(usage, prices, row["ts"], tier),
        new,
        0 if new is None or cold is None else cold.picodollars if decision.chain[0] != name else new.picodollars,
    )


def values_of(policy: Policy, scanner: Scanner, row: Row) -> dict[str, Value]:
    """Signal values of a row of an example trace, read with nothing but Python."""
    facts = Facts.of_row(row["messages"], row["tools"], row["response_format"])
    masks = {text: scanner.mask(getattr(facts, text)) for text in ("prompt", "last", "system")}
    known: dict[str, Any] = {
        "tokens": row["input_tokens"], "max_output": row["max_output_tokens"], "stream": row["stream"], "hour": row["ts"].hour,
        "weekday": WEEKDAYS[row["ts"].weekday()], "user": row["user_id"], "team": row["team"],
        "conversation": row["conversation_id"], "escalated": row.get("escalated"),
        "requested": requested_names(policy).get(row["model"], ANY_OTHER),
    }  # fmt: skip
    found: dict[str, Value] = {}
    for signal in policy.signals.values():
        if signal.kind == "match":
            found[signal.name] = bool(masks[signal.text] >> list(policy.texts).index(signal.words) & 1)
            continue
        column = next((place.name for place in signal.places if place.kind == "column"), "")
        value = row[column] if column else known[signal.name] if signal.name in known else getattr(facts, signal.name)
        found[signal.name] = signal.default if value is None else value
    return found


@cache
def example(name: str) -> tuple[Policy, list[Row], list[Reckoned]]:
    policy = policy_of(f"policies/{name}.route")
    scanner = Scanner(tuple(policy.texts.values()))
    rows = pq.read_table(ROOT / "traces" / f"{name}.parquet").to_pylist()
    return policy, rows, [reckoned(policy, row, values_of(policy, scanner, row)) for row in rows]


# -- against the result --------------------------------------------------------------------------------------------


def money(rows: Iterable[Reckoned]) -> tuple[int, int, int, int]:
    """Rows, changed rows, picodollars before and after, of the rows that are priced on both sides."""
    found = [row for row in rows if row.priced]
    old = sum(row.old.picodollars for row in found if row.old)
    new = sum(row.new.picodollars for row in found if row.new)
    return len(found), sum(row.model != row.old_model for row in found), old, new


def told(line: Json) -> tuple[int, int, int, int]:
    """The same four figures of a line of the result, whose saving is checked beside them."""
    old, new = picodollars(line["baseline_usd"]), picodollars(line["routed_usd"])
    assert picodollars(line["saving_usd"]) == old - new
    return line["rows"], line["changed"], old, new


def check_result(found: Json, policy: Policy, rows: list[Reckoned]) -> None:
    """Every figure of the result that the rows decide."""
    head = found["headline"]
    assert told(head) == money(rows)
    assert head["rows_in_trace"] == found["trace"]["rows"] == len(rows)
    if "saving_without_cache_usd" in head:
        old = sum(row.old.picodollars for row in rows if row.priced and row.old)
        assert picodollars(head["saving_without_cache_usd"]) == old - sum(row.cold for row in rows if row.priced)
    classes = Counter(row.class_ for row in rows)
    assert {line["class"]: line["rows"] for line in found["accounting"] if line["rows"]} == classes
    for line in found["accounting"]:
        of_class = [row for row in rows if row.class_ == line["class"]]
        assert picodollars(line["baseline_usd"]) == sum(row.old.picodollars for row in of_class if row.old)
        assert line["baseline_unknown_rows"] == sum(row.old is None for row in of_class)
    check_rules(found, policy, rows)
    flows: dict[tuple[str, str], list[Reckoned]] = defaultdict(list)
    for row in rows:
        if row.priced:
            flows[row.old_model or "no model named", row.model or ""].append(row)
    assert {(line["from"], line["to"]): told(line) for line in found["flows"]} == {pair: money(of) for pair, of in flows.items()}


def check_rules(found: Json, policy: Policy, rows: list[Reckoned]) -> None:
    assert [line["rule"] for line in found["rules"]] == [rule.name for rule in policy.rules]
    for line in found["rules"]:
        if line["kind"] == "shadow":
            assert line["takes"] == sum(line["rule"] in row.decision.shadows for row in rows)
            continue
        of_rule = [row for row in rows if row.decision.rule == line["rule"]]
        assert line["takes"] == len(of_rule)
        assert told(line["priced"]) == money(of_rule)
        for arm in line.get("arms", ()):
            of_arm = [row for row in of_rule if row.decision.arm == arm["arm"]]
            assert arm["takes"] == len(of_arm)
            assert told(arm["priced"]) == money(of_arm)


@by_example
def test_result_is_the_slow_reckoning(name: str, place: Path) -> None:
    """Splits and exploration included: all three policies have one of them."""
    policy, rows, slow = example(name)
    found, _ = replayed(name, place)
    check_result(found, policy, slow)
    assert any(line["kind"] == "split" for line in found["rules"]) or name == "coding"
    for segment, column in (("user_id", "user_id"), ("team", "team")):
        groups: dict[str, list[Reckoned]] = defaultdict(list)
        for row, each in zip(rows, slow, strict=True):
            if each.priced:
                groups[row[column] or "(none)"].append(each)
        assert found["segments"][segment]["members"] == len(groups)
        for line in (*found["segments"][segment]["top"], *found["segments"][segment]["losers"]):
            assert told(line) == money(groups[line["member"]])


@by_example
def test_decisions_are_the_slow_reckoning(name: str, place: Path) -> None:
    """Row by row: rule, arm, chain, propensity, class, costs."""
    _, _, slow = example(name)
    decided = pq.read_table(replayed(name, place)[1]).to_pylist()
    assert [row["row"] for row in decided] == list(range(len(slow)))
    for row, each in zip(decided, slow, strict=True):
        decision = each.decision
        assert (row["rule"], row["arm"], row["chain"]) == (
            decision.rule, None if decision.arm < 0 else decision.arm, ",".join(decision.chain),
        )  # fmt: skip
        assert (row["propensity"], row["explored"]) == (decision.propensity, decision.explored)
        assert (row["old_model"], row["new_model"], row["class"]) == (each.old_model, each.model, each.class_)
        assert exactly(row["old_cost_usd"]) == (each.old and each.old.picodollars)
        assert exactly(row["new_cost_usd"]) == (each.new and each.new.picodollars)


def exactly(amount: Decimal | None) -> int | None:
    return None if amount is None else picodollars(amount)


@by_example
def test_decisions_added_with_sql_are_the_result(name: str, place: Path) -> None:
    """Whoever adds up the written rows gets the report."""
    found, target = replayed(name, place)
    sums = "count(*), coalesce(sum(CAST(changed AS INTEGER)), 0), coalesce(sum(old_cost_usd), 0), coalesce(sum(new_cost_usd), 0)"
    decisions = duckdb.read_parquet(str(target))
    priced = decisions.filter("class IN ('exact', 'fallback')")

    def summed(by: str) -> dict[Any, tuple[int, int, int, int]]:
        return {
            tuple(row[:-4]): (row[-4], int(row[-3]), picodollars(row[-2]), picodollars(row[-1]))
            for row in priced.aggregate(f"{by}, {sums}").fetchall()
        }

    ((rows, changed, old, new),) = priced.aggregate(sums).fetchall()
    assert told(found["headline"]) == (rows, int(changed), picodollars(old), picodollars(new))
    by_rule = summed("rule")
    assert {(line["rule"],): told(line["priced"]) for line in found["rules"] if line.get("priced", {}).get("rows")} == by_rule
    assert {(line["from"], line["to"]): told(line) for line in found["flows"]} == summed("old_model, new_model")
    assert {(line["member"],): told(line) for line in found["segments"]["model"]["top"]} == summed("model")
    classes = decisions.aggregate("class, count(*), coalesce(sum(old_cost_usd), 0)").fetchall()
    assert {(line["class"], line["rows"], picodollars(line["baseline_usd"])) for line in found["accounting"] if line["rows"]} == {
        (class_, number, picodollars(old)) for class_, number, old in classes
    }


# -- how a trace is cut changes nothing ----------------------------------------------------------------------------


def written(table: pa.Table, cuts: list[int], place: Path) -> list[Path]:
    """The table cut at the given rows, as one file each; the names sort in the order of the rows."""
    folder = Path(tempfile.mkdtemp(dir=place))
    paths = []
    for number, (start, end) in enumerate(itertools.pairwise(cuts)):
        paths.append(folder / f"part-{number}.parquet")
        pq.write_table(table.slice(start, end - start), paths[-1])
    return paths


@cache
def thinned(name: str) -> pa.Table:
    """Every eighth row of an example."""
    table = pq.read_table(ROOT / "traces" / f"{name}.parquet")
    return table.take(list(range(0, table.num_rows, 8)))


@cache
def whole(name: str, place: Path) -> Json:
    """The result over the thinned example in one file."""
    table = thinned(name)
    return held(policy_of(f"policies/{name}.route"), written(table, [0, table.num_rows], place))


@settings(max_examples=EXPENSIVE // 2, phases=UNSHRUNK)
@given(st.sampled_from(EXAMPLES), st.sets(st.integers(1, 224), min_size=1, max_size=6))
def test_splitting_changes_no_digit(place: Path, name: str, cuts: set[int]) -> None:
    """Two to seven files at random cuts, in one list or as a folder: the same figures as in one file."""
    table = thinned(name)
    paths = written(table, [0, *sorted(cuts), table.num_rows], place)
    found = held(policy_of(f"policies/{name}.route"), paths if len(cuts) % 2 else paths[0].parent)
    assert len(found["trace"]["files"]) == len(cuts) + 1
    assert text_of(figures(found)) == text_of(figures(whole(name, place)))


@by_example
def test_order_and_threads_change_no_digit(name: str, place: Path) -> None:
    table = thinned(name)
    shuffled = table.take(random.Random(name).sample(range(table.num_rows), table.num_rows))
    for rows, threads in ((shuffled, None), (table, 1), (shuffled, 4)):
        paths = written(rows, [0, rows.num_rows], place)
        assert figures(held(policy_of(f"policies/{name}.route"), paths, threads=threads)) == figures(whole(name, place))


@by_example
def test_same_inputs_same_bytes(name: str, place: Path, tmp_path: Path) -> None:
    """With kept signals, without, and read from what was kept."""
    (path,) = written(thinned(name), [0, thinned(name).num_rows], place)
    policy = policy_of(f"policies/{name}.route")
    texts = {text_of(held(policy, path, cache=cache)) for cache in (None, tmp_path, tmp_path)}
    assert len(texts) == 1


def test_parts_of_the_decisions_come_in_order(place: Path, tmp_path: Path) -> None:
    table = thinned("support")
    paths = written(table, [0, 100, 101, table.num_rows], place)
    one, many = tmp_path / "one.parquet", tmp_path / "many.parquet"
    held(policy_of("policies/support.route"), written(table, [0, table.num_rows], place), output=one)
    held(policy_of("policies/support.route"), paths, output=many)
    assert pq.read_table(one).equals(pq.read_table(many))


# -- generated policies over generated traces ----------------------------------------------------------------------

READY = {  # signal to the trace column that holds it ready made
    "tokens": "input_tokens", "max_output": "max_output_tokens", "tools": "tool_count", "user": "user_id",
    "conversation": "conversation_id", "tenant": "tenant",
}  # fmt: skip
WORDS = {"urgent": "outage", "faq": "invoice", "trace": "Traceback"}
IDS = st.sampled_from(["id-a", "id-b", "gpt-4o", "no-such-model", None])
TYPES = {
    "ts": pa.timestamp("us"), "cost_usd": pa.decimal128(24, 12), "status_code": pa.int32(), "input_tokens": pa.int64(),
    "cached_tokens": pa.int64(), "output_tokens": pa.int64(), "model": pa.string(), "requested_model": pa.string(),
}  # fmt: skip


@st.composite
def traced(draw: Any, policy: Policy) -> tuple[dict[str, Any], dict[str, Value]]:
    """A row of a trace that holds every signal of the policy, and the values that it means."""
    values = draw(strategies.values(policy))
    at = draw(st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)))
    values |= {"hour": at.hour, "weekday": WEEKDAYS[at.weekday()]}
    spoken = {text: [WORDS[name] for name in WORDS if values.get(f"{text} has {name}")] for text in ("system", "prompt", "last")}
    roles = {"system": "system", "prompt": "assistant", "last": "user"}
    messages = [{"role": roles[text], "content": " ".join(words)} for text, words in spoken.items()]
    for name, word in WORDS.items():
        if f"prompt has {name}" in values:
            values[f"prompt has {name}"] = any(word in words for words in spoken.values())
    row = {
        READY.get(name, name): (value or None) if isinstance(value, str) else value
        for name, value in values.items()
        if " has " not in name and name not in ("hour", "weekday", "requested")
    }
    tokens = int(values["tokens"])
    asked = str(values["requested"])
    row |= {
        "ts": at, "requested_model": f"id-{asked}" if asked in policy.models else "auto", "model": draw(IDS), "messages": json.dumps(messages),
        "cached_tokens": draw(st.sampled_from([0, None, tokens // 2, tokens])), "output_tokens": draw(st.integers(0, 5_000)),
        "status_code": draw(st.sampled_from([200, 200, None, 429])), "cost_usd": None,
    }  # fmt: skip
    return row, values


def table_of(rows: list[dict[str, Any]], policy: Policy) -> pa.Table:
    kinds = {IntType: pa.int64(), BoolType: pa.bool_()}
    signals = {READY.get(name, name): kinds.get(type(signal.type), pa.string()) for name, signal in policy.signals.items()}
    return pa.table(
        {name: pa.array([row[name] for row in rows], TYPES.get(name) or signals.get(name, pa.string())) for name in rows[0]}
    )


@settings(max_examples=EXPENSIVE, phases=UNSHRUNK)
@given(st.data())
def test_generated(place: Path, data: st.DataObject) -> None:
    """Any policy over any trace: the result is the slow reckoning, in one file or in two."""
    policy = complete(data.draw(strategies.policies), catalog())[0]
    rows = data.draw(st.lists(traced(policy), min_size=12, max_size=12))
    slow = [reckoned(policy, row, values) for row, values in rows]
    table = table_of([row for row, _ in rows], policy)
    found = held(policy, written(table, [0, 12], place))
    check_result(found, policy, slow)
    parts = held(policy, written(table, [0, data.draw(st.integers(1, 11)), 12], place))
    assert text_of(figures(parts) | {"notes": []}) == text_of(figures(found) | {"notes": []})  # those of a file know its rows only
